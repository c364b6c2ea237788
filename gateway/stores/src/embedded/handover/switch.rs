//! The stores as the call path sees them: here, or with a successor.
//!
//! Whoever is in the middle of an operation when the switch turns finishes it here, and turning
//! waits for that. Away, nothing is admitted and a caller's token is judged by the table that was
//! left behind, into which the successor's revocations are brought. Worst case: a call that is
//! caught between arrival and intent is refused, and has cost nothing.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tollgate_core::admission::{Admission, Demand, Taken, held, paced};
use tollgate_core::budget::{Account, Balance, BudgetKey, BudgetStore, Hold, Reserved, StoreError};
use tollgate_core::deferred::{DeferredCharges, Known, RemoteId};
use tollgate_core::identity::Caller;
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::{Limit, Paced, Pass, RateStore};
use tollgate_core::record::{Ending, Intent, Record, RecordLog, Stranger};
use tollgate_core::registry::{Liveness, Registered, Revocation, TokenRegistry};
use tollgate_core::time::Timestamp;

use super::{Ledgers, Told};

/// How long an operation may take that is under way when the switch turns. A sync of a busy disk
/// takes longer seldom; what comes later finds the journal closed.
const FINISHING: Duration = Duration::from_secs(1);
/// How often it is looked whether they are done.
const LOOK: Duration = Duration::from_millis(1);

/// The stores of a gateway, wherever they are.
pub struct Switch {
    at: RwLock<At>,
    /// The memory of these stores, which stays.
    left: Ledgers,
    /// A predecessor whose open streams have to hear of revocations.
    predecessor: Mutex<Option<Sender<Revocation>>>,
}

enum At {
    Here(Arc<Ledgers>),
    Away(Sender<Told>),
    /// Nobody is told of anything any more.
    Over,
}

/// The stores are a successor's by now.
#[derive(Debug, thiserror::Error)]
#[error("this process has handed its stores over to its successor")]
struct HandedOver;

fn handed_over(operation: &'static str, store: &'static str) -> StoreError {
    StoreError {
        operation,
        store,
        cause: Box::new(HandedOver),
    }
}

impl Switch {
    /// The stores of this process.
    #[must_use]
    pub fn here(ledgers: Ledgers) -> Self {
        Self {
            at: RwLock::new(At::Here(Arc::new(ledgers.clone()))),
            left: ledgers,
            predecessor: Mutex::new(None),
        }
    }

    /// From now on, revocations are told to whoever holds the other end, too.
    pub fn tell_revocations(&self, predecessor: Sender<Revocation>) {
        let told = self.predecessor.lock();
        *told.unwrap_or_else(PoisonError::into_inner) = Some(predecessor);
    }

    /// Admits nothing from now on, and tells how calls end to whoever holds the other end. Blocks
    /// until no operation is under way here.
    #[must_use]
    pub fn turn_away(&self) -> Receiver<Told> {
        let (tell, told) = channel();
        let mut at = self.at.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *at, At::Away(tell));
        drop(at);
        if let At::Here(ledgers) = before {
            let until = Instant::now() + FINISHING;
            while Arc::strong_count(&ledgers) > 1 && Instant::now() < until {
                std::thread::sleep(LOOK);
            }
        }
        told
    }

    /// Tells of nothing from now on: whoever holds the other end has heard everything.
    pub fn end(&self) {
        *self.at.write().unwrap_or_else(PoisonError::into_inner) = At::Over;
    }

    /// Brings a revocation that the successor has made to the streams that are still open here.
    pub fn show_revoked(&self, what: &Revocation) {
        self.left.registry.show_revoked(what);
    }

    /// The stores, unless they are away; the answer is held for as long as they are used.
    fn stores(&self) -> Option<Arc<Ledgers>> {
        match &*self.at.read().unwrap_or_else(PoisonError::into_inner) {
            At::Here(ledgers) => Some(Arc::clone(ledgers)),
            At::Away(_) | At::Over => None,
        }
    }

    fn take_here(&self, demand: &Demand<'_>) -> Result<Taken, StoreError> {
        let stores = self.stores();
        let stores = stores.ok_or_else(|| handed_over("reserve", "budget"))?;
        let Ledgers { budgets, rates, .. } = &*stores;
        let Demand { id, account, .. } = *demand;
        let reserved = budgets.reserve_now(id, account, demand.amount, demand.now)?;
        match held(reserved) {
            Ok(hold) => {
                let answer = rates.admit_now(id, demand.limits, demand.tokens);
                paced(&**budgets, hold, answer)
            }
            Err(exhausted) => Ok(exhausted),
        }
    }

    fn tell(&self, what: Told) {
        let told = match &*self.at.read().unwrap_or_else(PoisonError::into_inner) {
            At::Away(tell) => tell.send(what).is_ok(),
            At::Here(_) | At::Over => false,
        };
        if !told {
            tracing::error!("there is no successor to tell; the call ends as interrupted");
        }
    }
}

#[async_trait]
impl Admission for Switch {
    async fn take(&self, demand: &Demand<'_>) -> Result<Taken, StoreError> {
        self.take_here(demand)
    }

    fn take_now(&self, demand: &Demand<'_>) -> Option<Result<Taken, StoreError>> {
        Some(self.take_here(demand))
    }
}

#[async_trait]
impl BudgetStore for Switch {
    async fn reserve(
        &self,
        id: RecordId,
        account: &Account,
        amount: PicoUsd,
        now: Timestamp,
    ) -> Result<Reserved, StoreError> {
        let stores = self.stores();
        let stores = stores.ok_or_else(|| handed_over("reserve", "budget"))?;
        stores.budgets.reserve_now(id, account, amount, now)
    }

    /// Away there is nothing to do: the ending that follows carries the cost.
    fn settle(&self, hold: &Hold, actual: PicoUsd) {
        if let Some(stores) = self.stores() {
            stores.budgets.settle(hold, actual);
        }
    }

    /// Away there is nothing to do, as with [`settle`](Self::settle).
    fn correct(&self, keys: &[BudgetKey], by: PicoUsd, now: Timestamp) {
        if let Some(stores) = self.stores() {
            stores.budgets.correct(keys, by, now);
        }
    }

    async fn balance(&self, key: &BudgetKey) -> Result<Balance, StoreError> {
        let stores = self.stores();
        let stores = stores.ok_or_else(|| handed_over("read a balance", "budget"))?;
        stores.budgets.balance(key).await
    }
}

#[async_trait]
impl RateStore for Switch {
    async fn admit(
        &self,
        id: RecordId,
        limits: &[Limit],
        tokens: u64,
    ) -> Result<Paced, StoreError> {
        let stores = self.stores();
        let stores = stores.ok_or_else(|| handed_over("admit", "rate"))?;
        stores.rates.admit_now(id, limits, tokens)
    }

    fn release(&self, pass: &Pass, tokens: Option<u64>) {
        match self.stores() {
            Some(stores) => stores.rates.release(pass, tokens),
            None => self.tell(Told::Left {
                id: pass.id,
                tenant: pass.tenant.clone(),
                asked: pass.tokens,
                used: tokens,
            }),
        }
    }

    async fn left(&self, limits: &[Limit]) -> Result<Vec<i64>, StoreError> {
        let stores = self.stores();
        let stores = stores.ok_or_else(|| handed_over("read rates", "rate"))?;
        stores.rates.left(limits).await
    }
}

#[async_trait]
impl TokenRegistry for Switch {
    fn liveness(&self, caller: &Caller) -> Result<Liveness, StoreError> {
        self.left.registry.liveness(caller)
    }

    async fn register(
        &self,
        caller: &Caller,
        rests_on: Option<Timestamp>,
    ) -> Result<Registered, StoreError> {
        let stores = self.stores();
        let stores = stores.ok_or_else(|| handed_over("register", "registry"))?;
        stores.registry.register(caller, rests_on).await
    }

    async fn revoke(&self, what: &Revocation, now: Timestamp) -> Result<usize, StoreError> {
        let stores = self.stores();
        let stores = stores.ok_or_else(|| handed_over("revoke", "registry"))?;
        let predecessor = self.predecessor.lock();
        if let Some(told) = &*predecessor.unwrap_or_else(PoisonError::into_inner) {
            // One that has ended has no streams.
            let _ended = told.send(what.clone());
        }
        stores.registry.revoke(what, now).await
    }
}

#[async_trait]
impl RecordLog for Switch {
    async fn intend(&self, intent: Intent<'_>) -> Result<(), StoreError> {
        let stores = self.stores();
        let stores = stores.ok_or_else(|| handed_over("keep an intent", "record"))?;
        stores.records.keep(intent).await
    }

    fn conclude(&self, id: RecordId, ending: &Ending) {
        match self.stores() {
            Some(stores) => stores.records.conclude(id, ending),
            None => self.tell(Told::Concluded(id, ending.clone())),
        }
    }

    fn refuse(&self, record: &Record) {
        match self.stores() {
            Some(stores) => stores.records.refuse(record),
            None => self.tell(Told::Refused(Box::new(record.clone()))),
        }
    }

    fn turn_away(&self, stranger: &Stranger) {
        match self.stores() {
            Some(stores) => stores.records.turn_away(stranger),
            None => self.tell(Told::TurnedAway(stranger.clone())),
        }
    }
}

impl DeferredCharges for Switch {
    /// Away, it is on its way to the successor's journal when this returns; a kill in between
    /// leaves the work charged at its bound.
    fn remember(&self, id: &RemoteId, known: &Known, now: Timestamp) -> Result<(), StoreError> {
        match self.stores() {
            Some(stores) => stores.deferred.remember(id, known, now),
            None => {
                self.tell(Told::Remembered(id.clone(), known.clone(), now));
                Ok(())
            }
        }
    }

    fn recall(&self, id: &RemoteId, now: Timestamp) -> Option<Known> {
        self.left.deferred.recall(id, now)
    }

    /// Away, the charge is claimed in what was left behind, and once more where it is kept: if a
    /// call of the successor was faster, its correction is the one that counts.
    fn correct(&self, id: &RemoteId, record: RecordId, ending: &Ending) -> bool {
        if let Some(stores) = self.stores() {
            return stores.deferred.correct(id, record, ending);
        }
        self.left.deferred.claim(id, record, ending, |keys| {
            self.tell(Told::Corrected {
                record,
                ending: ending.clone(),
                of: id.clone(),
                keys: keys.to_vec(),
            });
        })
    }
}
