//! Money and pace in one step: what a call must be given before it may go.
//!
//! A call goes when it fits every cap and every limit at once; otherwise it takes from none of
//! them. The store does the taking, in one step however many counters there are; this module says
//! what is asked and what may be answered.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::budget::{Account, Balance, BudgetKey, BudgetStore, Hold, Reserved, StoreError};
use crate::ids::RecordId;
use crate::money::PicoUsd;
use crate::rate::{Limit, Paced, Pass, RateKey, RateStore};
use crate::time::Timestamp;

/// What one call asks for.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The call's record.
    pub id: RecordId,
    /// Every counter of money that the call counts in.
    pub account: &'a Account,
    /// What it costs at most, to be taken from each.
    pub amount: PicoUsd,
    /// Every limit on its pace, all of the same tenant, each named once.
    pub limits: &'a [Limit],
    /// The tokens it is expected to take.
    pub tokens: u64,
    /// When.
    pub now: Timestamp,
}

/// The answer to a [`Demand`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// All of it was taken. Without limits there is no pass to give back.
    All(Hold, Option<Pass>),
    /// Nothing was taken: as [`Reserved::Exhausted`].
    Exhausted {
        /// The counter with the least room.
        key: BudgetKey,
        /// Its limit.
        limit: PicoUsd,
        /// What it held at that moment.
        balance: Balance,
    },
    /// Nothing was taken: as [`Paced::Wait`].
    Wait {
        /// The limit with the longest wait.
        key: RateKey,
        /// How long.
        retry_after: Duration,
    },
}

/// Where money and pace are taken together.
#[async_trait]
pub trait Admission: Send + Sync {
    /// Takes everything that is demanded or nothing. A cap is looked at before the pace, so that
    /// a tenant at its cap is not told to come back in a second. Idempotent by the demand's id
    /// until it is settled and released.
    async fn take(&self, demand: &Demand<'_>) -> Result<Taken, StoreError>;

    /// The same where nothing has to be waited for, and `None` where something may have to be.
    fn take_now(&self, _demand: &Demand<'_>) -> Option<Result<Taken, StoreError>> {
        None
    }
}

/// Takes what is demanded, and waits only where that is needed.
///
/// # Errors
/// Those of the store.
pub async fn take(store: &dyn Admission, demand: &Demand<'_>) -> Result<Taken, StoreError> {
    match store.take_now(demand) {
        Some(taken) => taken,
        None => store.take(demand).await,
    }
}

/// Two stores that are not far away, asked one after the other.
///
/// Money is asked first, since a hold can be given back and a rate token cannot. Worst case: a
/// call that its pace refuses holds money for an instant, in which another call of the same tenant
/// may find less room than there is, never more.
pub struct Together {
    /// Money.
    pub budgets: Arc<dyn BudgetStore>,
    /// Pace.
    pub rates: Arc<dyn RateStore>,
}

#[async_trait]
impl Admission for Together {
    async fn take(&self, demand: &Demand<'_>) -> Result<Taken, StoreError> {
        let Demand { id, account, .. } = *demand;
        let asked = self.budgets.reserve(id, account, demand.amount, demand.now);
        match held(asked.await?) {
            Ok(hold) => {
                let asked = self.rates.admit(id, demand.limits, demand.tokens);
                paced(&*self.budgets, hold, asked.await)
            }
            Err(exhausted) => Ok(exhausted),
        }
    }
}

/// The hold, whose pace is to be asked next.
///
/// # Errors
/// The whole answer, where there is none.
pub fn held(reserved: Reserved) -> Result<Hold, Taken> {
    match reserved {
        Reserved::Held(hold) => Ok(hold),
        Reserved::Exhausted {
            key,
            limit,
            balance,
        } => Err(Taken::Exhausted {
            key,
            limit,
            balance,
        }),
    }
}

/// The whole answer, once the pace is known. What is held for a call that may not go is given back.
///
/// # Errors
/// Those of the pace.
pub fn paced(
    budgets: &dyn BudgetStore,
    hold: Hold,
    paced: Result<Paced, StoreError>,
) -> Result<Taken, StoreError> {
    match paced {
        Ok(Paced::Go(pass)) => Ok(Taken::All(hold, Some(pass))),
        Ok(Paced::Free) => Ok(Taken::All(hold, None)),
        Ok(Paced::Wait { key, retry_after }) => {
            budgets.settle(&hold, PicoUsd::ZERO);
            Ok(Taken::Wait { key, retry_after })
        }
        Err(error) => {
            budgets.settle(&hold, PicoUsd::ZERO);
            Err(error)
        }
    }
}
