//! Counters of money, in memory behind one lock per tenant.
//!
//! A reservation looks at all its counters and takes from all or none under that lock, so a cap
//! holds at any concurrency, and a busy tenant never makes another one wait. What is settled here
//! is settled again, durably, when its record is written; this module does not know how. Worst
//! case: a call that costs more than its reservation passes the cap by the difference, since the
//! money is already spent.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use foldhash::HashMap;
use smallvec::SmallVec;
use tollgate_core::budget::{
    Account, Balance, Budget, BudgetKey, BudgetStore, Counters, Hold, Reserved, StoreError,
};
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
    /// Where each counter is, so that a hold finds its counters without looking them up.
    places: HashMap<BudgetKey, usize>,
    counters: Vec<Counter>,
    /// Places whose counters have been forgotten.
    free: Vec<usize>,
    holds: HashMap<RecordId, Taken>,
    pruned: Option<Window>,
}

struct Counter {
    balance: Balance,
    /// Holds that have not been settled. A counter is never forgotten before they are.
    holds: u32,
    touched_at: Timestamp,
    /// Whether it seemed to be over when last looked at.
    over: bool,
}

/// What a hold took, and where.
struct Taken {
    counters: Counters,
    places: Places,
    amount: PicoUsd,
}

/// Where the counters of one call are: of tenant, agent and task, by day and month, and one to
/// spare.
type Places = SmallVec<[usize; 6]>;

impl Budgets {
    /// The state of a new gateway, or the one kept from before.
    #[must_use]
    pub fn load(settled: impl IntoIterator<Item = (BudgetKey, PicoUsd)>, now: Timestamp) -> Self {
        let mut tenants: HashMap<TenantId, Purse> = HashMap::default();
        for (key, settled) in settled {
            let purse = tenants.entry(key.tenant.clone()).or_default();
            let place = purse.open(&key, now);
            if let Some(counter) = purse.counters.get_mut(place) {
                counter.balance.settled = settled;
            }
        }
        let locked = tenants
            .into_iter()
            .map(|(tenant, purse)| (tenant, Arc::new(Mutex::new(purse))))
            .collect();
        Self {
            tenants: RwLock::new(locked),
        }
    }

    /// Takes what somebody else has reserved, whatever the caps say by now: it may be spent.
    pub(crate) fn adopt(&self, hold: &Hold, now: Timestamp) {
        let Some(first) = hold.keys.first() else {
            return;
        };
        let uncapped = hold.keys.iter().map(|key| Budget {
            key: key.clone(),
            limit: None,
        });
        let account: Account = uncapped.collect();
        let purse = self.purse(&first.tenant);
        let mut purse = purse.lock().unwrap_or_else(PoisonError::into_inner);
        purse.reserve(hold.id, &account, hold.amount, now);
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

impl Budgets {
    /// What [`BudgetStore::reserve`] does; here nothing is waited for.
    pub(super) fn reserve_now(
        &self,
        id: RecordId,
        account: &Account,
        amount: PicoUsd,
        now: Timestamp,
    ) -> Result<Reserved, StoreError> {
        let amount = amount.max(PicoUsd::ZERO);
        let tenant = account.tenant().map_err(|mixed| StoreError {
            operation: "reserve",
            store: "budget",
            cause: Box::new(mixed),
        })?;
        let Some(tenant) = tenant else {
            let keys = account.counters().clone();
            return Ok(Reserved::Held(Hold { id, keys, amount }));
        };
        let purse = self.purse(tenant);
        let mut purse = purse.lock().unwrap_or_else(PoisonError::into_inner);
        purse.prune(now);
        Ok(purse.reserve(id, account, amount, now))
    }
}

#[async_trait]
impl BudgetStore for Budgets {
    async fn reserve(
        &self,
        id: RecordId,
        account: &Account,
        amount: PicoUsd,
        now: Timestamp,
    ) -> Result<Reserved, StoreError> {
        self.reserve_now(id, account, amount, now)
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

    fn correct(&self, keys: &[BudgetKey], by: PicoUsd, now: Timestamp) {
        if let Some(first) = keys.first() {
            let purse = self.purse(&first.tenant);
            let mut purse = purse.lock().unwrap_or_else(PoisonError::into_inner);
            purse.correct(keys, by, now);
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
        self.balance_at(self.places.get(key).copied())
    }

    /// What a counter holds; one that is nowhere holds nothing.
    fn balance_at(&self, place: Option<usize>) -> Balance {
        let counter = place.and_then(|place| self.counters.get(place));
        counter.map_or_else(Balance::default, |counter| counter.balance)
    }

    fn reserve(
        &mut self,
        id: RecordId,
        account: &Account,
        amount: PicoUsd,
        now: Timestamp,
    ) -> Reserved {
        if let Some(taken) = self.holds.get(&id) {
            return taken.hold(id);
        }
        let known: SmallVec<[Option<usize>; 6]> = account
            .iter()
            .map(|budget| self.places.get(&budget.key).copied())
            .collect();
        let balances = known.iter().map(|place| self.balance_at(*place));
        if let Some(exhausted) = Reserved::refusal(account.iter().zip(balances), amount) {
            return exhausted;
        }
        let mut places = Places::with_capacity(known.len());
        for (Budget { key, .. }, place) in account.iter().zip(known) {
            let place = place.unwrap_or_else(|| self.open(key, now));
            places.push(place);
            if let Some(counter) = self.counters.get_mut(place) {
                counter.balance.reserved = counter.balance.reserved.saturating_add(amount);
                counter.holds = counter.holds.saturating_add(1);
                counter.touched_at = counter.touched_at.max(now);
            }
        }
        let taken = Taken {
            counters: account.counters().clone(),
            places,
            amount,
        };
        let held = taken.hold(id);
        self.holds.insert(id, taken);
        held
    }

    fn settle(&mut self, id: RecordId, actual: PicoUsd) {
        let Some(Taken { places, amount, .. }) = self.holds.remove(&id) else {
            return;
        };
        for place in places {
            if let Some(Counter { balance, holds, .. }) = self.counters.get_mut(place) {
                balance.reserved = balance.reserved.saturating_sub(amount);
                balance.settled = balance.settled.saturating_add(actual);
                *holds = holds.saturating_sub(1);
            }
        }
    }

    fn correct(&mut self, keys: &[BudgetKey], by: PicoUsd, now: Timestamp) {
        for key in keys {
            let place = self.open(key, now);
            // A counter is the sum of its records, in any order: one whose window is long over, or
            // whose charge is still held, may be below zero for a while.
            if let Some(Counter { balance, .. }) = self.counters.get_mut(place) {
                balance.settled = balance.settled.saturating_add(by);
            }
        }
    }

    /// Where the counter of `key` is, which is a new one if there was none.
    fn open(&mut self, key: &BudgetKey, now: Timestamp) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let counter = Counter {
            balance: Balance::default(),
            holds: 0,
            touched_at: now,
            over: false,
        };
        let free = self.free.pop();
        let place = match free.and_then(|place| Some((place, self.counters.get_mut(place)?))) {
            Some((place, forgotten)) => {
                *forgotten = counter;
                place
            }
            None => {
                self.counters.push(counter);
                self.counters.len() - 1
            }
        };
        self.places.insert(key.clone(), place);
        place
    }

    /// Once a day, forgets the counters of windows that are long over.
    ///
    /// A counter goes when it is found to be over on two days: a clock that once runs ahead and is
    /// put back must not give a tenant its day's money a second time.
    fn prune(&mut self, now: Timestamp) {
        let today = Window::day(now);
        if self.pruned == Some(today) {
            return;
        }
        self.pruned = Some(today);
        let Self {
            places,
            counters,
            free,
            ..
        } = self;
        places.retain(|key, place| {
            let Some(counter) = counters.get_mut(*place) else {
                return false;
            };
            let end = match key.window.resets_at() {
                Some(end) => end.plus(GRACE),
                None => counter.touched_at.plus(IDLE),
            };
            let was_over = std::mem::replace(&mut counter.over, end < now);
            let keep = !(was_over && counter.over) || counter.holds > 0;
            if !keep {
                free.push(*place);
            }
            keep
        });
    }
}

impl Taken {
    fn hold(&self, id: RecordId) -> Reserved {
        Reserved::Held(Hold {
            id,
            keys: self.counters.clone(),
            amount: self.amount,
        })
    }
}

#[cfg(test)]
mod tests;
