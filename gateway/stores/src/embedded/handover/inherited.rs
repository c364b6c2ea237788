//! The calls that a predecessor is still making, and what becomes of them here.
//!
//! Each of them is open in the journal and held in the counters from the start. Decides nothing:
//! it does to the stores what the call's own settlement would have done. Worst case: a predecessor
//! that ends without telling of all its calls; the rest is settled at what was reserved, and
//! recorded as interrupted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tollgate_core::budget::{BudgetStore as _, Counters, Hold};
use tollgate_core::deferred::DeferredCharges as _;
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::{Pass, RateStore as _};
use tollgate_core::record::{Ending, Outcome, RecordLog as _, UsageSource};
use tollgate_core::time::Timestamp;

use super::{Ledgers, Told};

/// Money that was settled, for whoever watches how it is spent.
pub type Settled = (Counters, PicoUsd);

/// What a predecessor has left open.
pub struct Inherited {
    stores: Ledgers,
    open: Mutex<HashMap<RecordId, Hold>>,
}

impl Inherited {
    /// These calls, in these stores.
    #[must_use]
    pub fn new(stores: Ledgers, open: &[Hold]) -> Self {
        let open = open.iter().map(|hold| (hold.id, hold.clone()));
        Self {
            stores,
            open: Mutex::new(open.collect()),
        }
    }

    /// How many calls are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open().is_empty()
    }

    /// Does what the predecessor tells of; returns what was settled by it.
    pub fn hear(&self, told: Told) -> Option<Settled> {
        match told {
            Told::Concluded(id, ending) => self.conclude(id, &ending),
            Told::Corrected {
                record,
                ending,
                of,
                keys,
            } => {
                if !self.stores.deferred.correct(&of, record, &ending) {
                    let ending = self.corrected_elsewhere(record, ending);
                    return self.conclude(record, &ending);
                }
                let hold = self.open().remove(&record)?;
                if ending.adjusts.is_none() {
                    self.stores.budgets.settle(&hold, ending.cost);
                    return Some((hold.keys, ending.cost));
                }
                self.stores.budgets.settle(&hold, PicoUsd::ZERO);
                let (by, at) = (ending.cost, ending.ended_at);
                self.stores.budgets.correct(&keys, by, at);
                Some((keys.into(), by))
            }
            Told::Left {
                id,
                tenant,
                asked,
                used,
            } => {
                let pass = Pass {
                    id,
                    tenant,
                    tokens: asked,
                };
                self.stores.rates.release(&pass, used);
                None
            }
            Told::Refused(record) => {
                self.stores.records.refuse(&record);
                None
            }
            Told::TurnedAway(stranger) => {
                self.stores.records.turn_away(&stranger);
                None
            }
            Told::Remembered(id, known, at) => {
                if let Err(error) = self.stores.deferred.remember(&id, &known, at) {
                    tracing::error!(%error, id = id.as_str(), "deferred work stays charged as it is");
                }
                None
            }
        }
    }

    /// Ends what the predecessor has told nothing of, as a start does after a crash; how many.
    pub fn interrupt(&self, now: Timestamp) -> usize {
        let mut left: Vec<Hold> = self.open().drain().map(|(_, hold)| hold).collect();
        left.sort_unstable_by_key(|hold| hold.id);
        for hold in &left {
            let ending = Ending {
                usage_source: UsageSource::Interrupted,
                cost: hold.amount,
                ..Ending::new(now, Outcome::Interrupted)
            };
            self.stores.budgets.settle(hold, hold.amount);
            self.stores.records.conclude(hold.id, &ending);
            // Nobody knows its tokens, so the estimate stays; its place becomes free.
            if let Some(first) = hold.keys.first() {
                let pass = Pass {
                    id: hold.id,
                    tenant: first.tenant.clone(),
                    tokens: 0,
                };
                self.stores.rates.release(&pass, None);
            }
        }
        left.len()
    }

    fn conclude(&self, id: RecordId, ending: &Ending) -> Option<Settled> {
        // Told twice, it ends once.
        let hold = self.open().remove(&id)?;
        self.stores.budgets.settle(&hold, ending.cost);
        self.stores.records.conclude(id, ending);
        Some((hold.keys, ending.cost))
    }

    /// What the ending of a call is whose charge a call of ours has corrected: its own work costs
    /// what was held for it, somebody else's nothing more.
    fn corrected_elsewhere(&self, record: RecordId, ending: Ending) -> Ending {
        if ending.adjusts.is_some() {
            return Ending {
                cost: PicoUsd::ZERO,
                usage: None,
                usage_source: UsageSource::None,
                elsewhere: Vec::new(),
                adjusts: None,
                ..ending
            };
        }
        let held = self.open().get(&record).map(|hold| hold.amount);
        Ending {
            cost: held.unwrap_or(ending.cost),
            usage_source: UsageSource::Estimated,
            ..ending
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<RecordId, Hold>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
