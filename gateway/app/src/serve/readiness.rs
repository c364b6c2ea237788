//! What `/readyz` says: whether calls can be served now.
//!
//! By the time anybody can ask, policy, keys and registry are loaded, since nothing starts
//! without them; what can be missing is the listener, a ledger that takes writes, or the wish to
//! go on; a shared store that answers; or too many records wait to be handed over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tollgate_admin::probes::Readiness;
use tollgate_stores::embedded::Embedded;
use tollgate_stores::redis::Fleet;

/// The state of the gateway as a whole.
pub(super) struct Ready {
    serving: AtomicBool,
    draining: AtomicBool,
    ledger: Weak<Embedded>,
    fleet: Option<Weak<Fleet>>,
}

impl Ready {
    /// Not yet.
    pub(super) fn of(ledger: &Arc<Embedded>, fleet: Option<&Arc<Fleet>>) -> Self {
        Self {
            serving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            ledger: Arc::downgrade(ledger),
            fleet: fleet.map(Arc::downgrade),
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
        let shared = |fleet: &Weak<Fleet>| fleet.upgrade().is_some_and(|fleet| fleet.is_usable());
        let lacking = self.fleet.as_ref().is_some_and(|fleet| !shared(fleet));
        let backlogged = ledger.is_some_and(|ledger| ledger.is_backlogged());
        [
            ("draining", self.draining.load(Ordering::Acquire)),
            ("listener", !self.serving.load(Ordering::Acquire)),
            ("ledger", !writable),
            ("shared_store", lacking),
            ("records_backlog", backlogged),
        ]
        .into_iter()
        .filter_map(|(what, missing)| missing.then_some(what))
        .collect()
    }
}
