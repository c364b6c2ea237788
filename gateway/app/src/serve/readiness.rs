//! What `/readyz` says: whether calls can be served now.
//!
//! By the time anybody can ask, policy, keys and registry are loaded, since nothing starts
//! without them; what can be missing is the listener, a ledger that takes writes, or the wish to
//! go on; or too many records wait to be handed over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tollgate_admin::probes::Readiness;
use tollgate_stores::embedded::Embedded;

/// The state of the gateway as a whole.
pub(super) struct Ready {
    serving: AtomicBool,
    draining: AtomicBool,
    ledger: Weak<Embedded>,
}

impl Ready {
    /// Not yet.
    pub(super) fn of(ledger: &Arc<Embedded>) -> Self {
        Self {
            serving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            ledger: Arc::downgrade(ledger),
        }
    }

    /// Calls can come in from now on.
    pub(super) fn serving(&self) {
        self.serving.store(true, Ordering::Release);
    }

    /// New calls should go elsewhere from now on.
    pub(super) fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

impl Readiness for Ready {
    fn missing(&self) -> Vec<&'static str> {
        let ledger = self.ledger.upgrade();
        let writable = ledger.as_ref().is_some_and(|ledger| ledger.healthy());
        let backlogged = ledger.is_some_and(|ledger| ledger.is_backlogged());
        [
            ("draining", self.draining.load(Ordering::Acquire)),
            ("listener", !self.serving.load(Ordering::Acquire)),
            ("ledger", !writable),
            ("records_backlog", backlogged),
        ]
        .into_iter()
        .filter_map(|(what, missing)| missing.then_some(what))
        .collect()
    }
}
