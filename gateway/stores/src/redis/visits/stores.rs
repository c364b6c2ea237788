//! Core's stores of money and pace, as calls see them.
//!
//! Decides nothing: a purse takes what is there, and otherwise a visit is waited for. Worst case:
//! the bound on that wait.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tollgate_core::admission::{Admission, Demand, Taken};
use tollgate_core::budget::{
    Account, Balance, BudgetKey, BudgetStore, Hold, MixedTenants, Reserved, StoreError,
};
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::{Limit, Paced, Pass, RateStore};
use tollgate_core::time::Timestamp;

use super::{Gathering, Visits, failed, lock};
use crate::redis::link::LinkError;
use crate::redis::purse::Waiter;

#[async_trait]
impl Admission for Visits {
    async fn take(&self, demand: &Demand<'_>) -> Result<Taken, StoreError> {
        let whose = demand.account.tenant().map_err(failed)?.into_iter();
        let mut tenants = whose.chain(demand.limits.iter().map(|limit| &limit.key.tenant));
        let Some(tenant) = tenants.next() else {
            let hold = Hold {
                id: demand.id,
                keys: demand.account.counters().clone(),
                amount: demand.amount,
            };
            return Ok(Taken::All(hold, None));
        };
        if tenants.any(|other| other != tenant) {
            return Err(failed(MixedTenants));
        }
        if !self.has_epoch() {
            return Err(failed(Gathering));
        }
        let till = self.till(tenant);
        let taken = lock(&till.purse).take(demand, &self.terms());
        self.touch(&till);
        match taken {
            Ok(taken) => {
                self.counts.taken_here.fetch_add(1, Ordering::Relaxed);
                Ok(taken)
            }
            Err(answer) => {
                self.run(&till);
                self.counts.taken_there.fetch_add(1, Ordering::Relaxed);
                self.wait(answer).await
            }
        }
    }
}

#[async_trait]
impl BudgetStore for Visits {
    async fn reserve(
        &self,
        id: RecordId,
        account: &Account,
        amount: PicoUsd,
        now: Timestamp,
    ) -> Result<Reserved, StoreError> {
        let demand = Demand {
            id,
            account,
            amount,
            limits: &[],
            tokens: 0,
            now,
        };
        Ok(match self.take(&demand).await? {
            Taken::All(hold, _) => Reserved::Held(hold),
            Taken::Exhausted {
                key,
                limit,
                balance,
            } => Reserved::Exhausted {
                key,
                limit,
                balance,
            },
            Taken::Wait { .. } => return Err(failed(LinkError::Foreign)),
        })
    }

    fn settle(&self, hold: &Hold, actual: PicoUsd) {
        if let Some(till) = hold.keys.first().and_then(|key| self.known(&key.tenant)) {
            lock(&till.purse).settle(hold.id, actual.max(PicoUsd::ZERO));
            self.touch(&till);
        }
    }

    fn correct(&self, keys: &[BudgetKey], by: PicoUsd, now: Timestamp) {
        if let Some(first) = keys.first() {
            let till = self.till(&first.tenant);
            lock(&till.purse).correct(keys, by, now);
            self.touch(&till);
        }
    }

    async fn balance(&self, key: &BudgetKey) -> Result<Balance, StoreError> {
        let till = self.till(&key.tenant);
        let (reply, answer) = oneshot::channel();
        let look = Waiter::Look {
            key: key.clone(),
            reply,
        };
        lock(&till.purse).wait(look);
        self.run(&till);
        self.wait(answer).await
    }
}

#[async_trait]
impl RateStore for Visits {
    async fn admit(
        &self,
        id: RecordId,
        limits: &[Limit],
        tokens: u64,
    ) -> Result<Paced, StoreError> {
        let demand = Demand {
            id,
            account: &Account::default(),
            amount: PicoUsd::ZERO,
            limits,
            tokens,
            now: (self.clock)(),
        };
        Ok(match self.take(&demand).await? {
            Taken::All(_, Some(pass)) => Paced::Go(pass),
            Taken::All(_, None) => Paced::Free,
            Taken::Wait { key, retry_after } => Paced::Wait { key, retry_after },
            Taken::Exhausted { .. } => return Err(failed(LinkError::Foreign)),
        })
    }

    fn release(&self, pass: &Pass, tokens: Option<u64>) {
        if let Some(till) = self.known(&pass.tenant) {
            lock(&till.purse).release(pass.id, tokens);
            self.touch(&till);
        }
    }

    async fn left(&self, limits: &[Limit]) -> Result<Vec<i64>, StoreError> {
        let Some(first) = limits.first() else {
            return Ok(Vec::new());
        };
        let till = self.till(&first.key.tenant);
        let (reply, answer) = oneshot::channel();
        let look = Waiter::Left {
            limits: limits.to_vec(),
            reply,
        };
        lock(&till.purse).wait(look);
        self.run(&till);
        self.wait(answer).await
    }
}
