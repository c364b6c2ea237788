//! Stores that can be looked at and not changed: a reservation in them takes nothing.
//!
//! Worst case: what is seen is a moment old.

use std::collections::HashMap;

use async_trait::async_trait;
use tollgate_core::admission::{Admission, Demand, Taken};
use tollgate_core::budget::{Balance, Budget, BudgetKey, Hold, Reserved, StoreError};
use tollgate_core::deferred::{DeferredCharges, Known, RemoteId};
use tollgate_core::ids::RecordId;
use tollgate_core::record::Ending;
use tollgate_core::time::Timestamp;

use crate::gateway::Stores;
use crate::respond::Failure;

/// What the counters of one call hold.
pub(super) struct Look(Option<HashMap<BudgetKey, Balance>>);

impl Look {
    /// Reads them; without stores nothing is known of any.
    pub(super) async fn at(stores: Option<&Stores>, budgets: &[Budget]) -> Result<Self, Failure> {
        let Some(stores) = stores else {
            return Ok(Self(None));
        };
        let mut balances = HashMap::new();
        for Budget { key, .. } in budgets {
            let balance = stores.budgets.balance(key).await;
            balances.insert(key.clone(), balance.map_err(Failure::Ledger)?);
        }
        Ok(Self(Some(balances)))
    }

    /// What a counter holds, if that was asked.
    pub(super) fn seen(&self, key: &BudgetKey) -> Option<Balance> {
        self.0.as_ref()?.get(key).copied()
    }
}

#[async_trait]
impl Admission for Look {
    async fn take(&self, demand: &Demand<'_>) -> Result<Taken, StoreError> {
        let counters = demand.account.iter();
        let seen = counters.map(|budget| (budget, self.seen(&budget.key).unwrap_or_default()));
        Ok(match Reserved::refusal(seen, demand.amount) {
            Some(Reserved::Exhausted {
                key,
                limit,
                balance,
            }) => Taken::Exhausted {
                key,
                limit,
                balance,
            },
            _ => {
                let hold = Hold {
                    id: demand.id,
                    keys: demand.account.counters().clone(),
                    amount: demand.amount,
                };
                Taken::All(hold, None)
            }
        })
    }
}

/// Deferred work, where no gateway runs that could know of any.
pub(super) struct NothingKnown;

impl DeferredCharges for NothingKnown {
    fn remember(&self, _id: &RemoteId, _known: &Known, _now: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    fn recall(&self, _id: &RemoteId, _now: Timestamp) -> Option<Known> {
        None
    }

    fn correct(&self, _id: &RemoteId, _record: RecordId, _ending: &Ending) -> bool {
        false
    }
}
