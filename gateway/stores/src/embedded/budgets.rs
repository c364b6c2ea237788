//! Counters of money, in memory behind one lock per tenant.
//!
//! A reservation looks at all its counters and takes from all or none under that lock, so a cap
//! holds at any concurrency, and a busy tenant never makes another one wait. What is settled here
//! is settled again, durably, when its record is written; this module does not know how. Worst
//! case: a call that costs more than its reservation passes the cap by the difference, since the
//! money is already spent.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tollgate_core::budget::{Balance, Budget, BudgetKey, BudgetStore, Hold, Reserved, StoreError};
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::time::{Timestamp, Window};

/// A window's counter is forgotten this long after the window has ended: calls that began in it
/// have ended by then.
const GRACE: Duration = Duration::from_secs(2 * 86_400);
/// A counter without end is forgotten when nothing has been taken from it for this long: its task
/// is over.
const IDLE: Duration = Duration::from_secs(90 * 86_400);

/// The budgets of every tenant.
#[derive(Default)]
pub struct Budgets {
    tenants: RwLock<HashMap<TenantId, Arc<Mutex<Purse>>>>,
}

/// One tenant's counters, and the holds that have not been settled.
#[derive(Default)]
struct Purse {
    counters: HashMap<BudgetKey, Counter>,
    holds: HashMap<RecordId, Hold>,
    pruned: Option<Window>,
}

#[derive(Clone, Copy)]
struct Counter {
    balance: Balance,
    touched_at: Timestamp,
}

/// One reservation never spans tenants: each pays for its own calls only.
#[derive(Debug, thiserror::Error)]
#[error("the budgets of one call belong to more than one tenant")]
struct MixedTenants;

impl Budgets {
    /// The state of a new gateway, or the one kept from before.
    #[must_use]
    pub fn load(settled: impl IntoIterator<Item = (BudgetKey, PicoUsd)>, now: Timestamp) -> Self {
        let mut tenants: HashMap<TenantId, Purse> = HashMap::new();
        for (key, settled) in settled {
            let mut counter = Counter::new(now);
            counter.balance.settled = settled;
            let purse = tenants.entry(key.tenant.clone()).or_default();
            purse.counters.insert(key, counter);
        }
        let locked = tenants
            .into_iter()
            .map(|(tenant, purse)| (tenant, Arc::new(Mutex::new(purse))))
            .collect();
        Self {
            tenants: RwLock::new(locked),
        }
    }

    fn known(&self, tenant: &TenantId) -> Option<Arc<Mutex<Purse>>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned()
    }

    fn purse(&self, tenant: &TenantId) -> Arc<Mutex<Purse>> {
        self.known(tenant).unwrap_or_else(|| {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            tenants.entry(tenant.clone()).or_default().clone()
        })
    }
}

#[async_trait]
impl BudgetStore for Budgets {
    async fn reserve(
        &self,
        id: RecordId,
        budgets: &[Budget],
        amount: PicoUsd,
        now: Timestamp,
    ) -> Result<Reserved, StoreError> {
        let amount = amount.max(PicoUsd::ZERO);
        let Some(first) = budgets.first() else {
            return Ok(Reserved::Held(Hold {
                id,
                keys: Vec::new(),
                amount,
            }));
        };
        let tenant = &first.key.tenant;
        if budgets.iter().any(|budget| budget.key.tenant != *tenant) {
            return Err(StoreError {
                operation: "reserve",
                store: "budget",
                cause: Box::new(MixedTenants),
            });
        }
        let purse = self.purse(tenant);
        let mut purse = purse.lock().unwrap_or_else(PoisonError::into_inner);
        purse.prune(now);
        Ok(purse.reserve(id, budgets, amount, now))
    }

    fn settle(&self, hold: &Hold, actual: PicoUsd) {
        let Some(first) = hold.keys.first() else {
            return;
        };
        if let Some(purse) = self.known(&first.tenant) {
            let mut purse = purse.lock().unwrap_or_else(PoisonError::into_inner);
            purse.settle(hold.id, actual.max(PicoUsd::ZERO));
        }
    }

    async fn balance(&self, key: &BudgetKey) -> Result<Balance, StoreError> {
        let Some(purse) = self.known(&key.tenant) else {
            return Ok(Balance::default());
        };
        let purse = purse.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(purse.balance(key))
    }
}

impl Purse {
    fn balance(&self, key: &BudgetKey) -> Balance {
        let counter = self.counters.get(key);
        counter.map_or_else(Balance::default, |counter| counter.balance)
    }

    fn reserve(
        &mut self,
        id: RecordId,
        budgets: &[Budget],
        amount: PicoUsd,
        now: Timestamp,
    ) -> Reserved {
        if let Some(hold) = self.holds.get(&id) {
            return Reserved::Held(hold.clone());
        }
        for budget in budgets {
            let balance = self.balance(&budget.key);
            if let Some(limit) = budget.limit
                && !has_room(balance, amount, limit)
            {
                return Reserved::Exhausted {
                    key: budget.key.clone(),
                    limit,
                    balance,
                };
            }
        }
        let mut keys: Vec<BudgetKey> = Vec::with_capacity(budgets.len());
        for budget in budgets {
            // Named twice, a counter is still taken from once.
            if keys.contains(&budget.key) {
                continue;
            }
            let counter = match self.counters.get_mut(&budget.key) {
                Some(counter) => counter,
                None => self
                    .counters
                    .entry(budget.key.clone())
                    .or_insert(Counter::new(now)),
            };
            counter.touched_at = now;
            counter.balance.reserved = counter.balance.reserved.saturating_add(amount);
            keys.push(budget.key.clone());
        }
        let hold = Hold { id, keys, amount };
        self.holds.insert(id, hold.clone());
        Reserved::Held(hold)
    }

    fn settle(&mut self, id: RecordId, actual: PicoUsd) {
        let Some(hold) = self.holds.remove(&id) else {
            return;
        };
        for key in hold.keys {
            // There is one: a counter with something reserved is never forgotten.
            if let Some(Counter { balance, .. }) = self.counters.get_mut(&key) {
                balance.reserved = balance.reserved.saturating_sub(hold.amount);
                balance.settled = balance.settled.saturating_add(actual);
            }
        }
    }

    /// Once a day, forgets the counters of windows that are long over.
    fn prune(&mut self, now: Timestamp) {
        let today = Window::day(now);
        if self.pruned == Some(today) {
            return;
        }
        self.pruned = Some(today);
        let held: HashSet<&BudgetKey> = self.holds.values().flat_map(|hold| &hold.keys).collect();
        self.counters.retain(|key, counter| {
            let over = match key.window.resets_at() {
                Some(end) => end.plus(GRACE),
                None => counter.touched_at.plus(IDLE),
            };
            now <= over || held.contains(key)
        });
    }
}

impl Counter {
    fn new(now: Timestamp) -> Self {
        Self {
            balance: Balance::default(),
            touched_at: now,
        }
    }
}

/// Whether `amount` more fits under `limit`. What costs nothing always fits.
fn has_room(balance: Balance, amount: PicoUsd, limit: PicoUsd) -> bool {
    amount == PicoUsd::ZERO
        || balance
            .settled
            .checked_add(balance.reserved)
            .and_then(|taken| taken.checked_add(amount))
            .is_some_and(|taken| taken <= limit)
}

#[cfg(test)]
mod tests;
