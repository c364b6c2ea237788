//! Spend caps: what is reserved before a call and settled after it.
//!
//! A cap holds because money is taken *before* contact: settled + reserved never passes the
//! limit. The store does the taking; this module says in which counters and for how much.

mod account;
mod key;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, RecordId, TaskId};
use crate::money::PicoUsd;
use crate::policy::NamePattern;
use crate::time::Timestamp;

pub use account::{Account, Counters, MixedTenants};
pub use key::{BudgetKey, InvalidBudgetKey, KeyParts};

/// Whose money a counter counts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// The whole tenant.
    Tenant,
    /// One agent of the tenant.
    Agent(AgentId),
    /// One task of the tenant.
    Task(TaskId),
    /// The tenant's use of the models that a pattern covers.
    Model(NamePattern),
}

/// `tenant`, `agent=bot`, `task=t-1`, `model=gpt-5*`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant => f.write_str("tenant"),
            Self::Agent(agent) => {
                f.write_str("agent=")?;
                f.write_str(agent.as_str())
            }
            Self::Task(task) => {
                f.write_str("task=")?;
                f.write_str(task.as_str())
            }
            Self::Model(pattern) => {
                f.write_str("model=")?;
                fmt::Display::fmt(pattern, f)
            }
        }
    }
}

/// A counter a call counts in, and the most it may reach; without a limit it only counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Budget {
    /// The counter.
    pub key: BudgetKey,
    /// The most that settled + reserved may reach. Zero blocks every call that costs something.
    pub limit: Option<PicoUsd>,
}

/// Money taken for one call, to be replaced by its cost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// The call's record; settling the same id twice changes nothing.
    pub id: RecordId,
    /// Every counter the amount was taken from. The cost goes to the same ones, whatever the
    /// clock says by then.
    pub keys: Counters,
    /// How much was taken from each.
    pub amount: PicoUsd,
}

/// What a counter holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// The cost of finished calls.
    pub settled: PicoUsd,
    /// What calls in flight have taken.
    pub reserved: PicoUsd,
}

impl Balance {
    /// How much more fits under `limit`; zero if it has been passed.
    #[must_use]
    pub fn room(self, limit: PicoUsd) -> PicoUsd {
        limit
            .saturating_sub(self.settled)
            .saturating_sub(self.reserved)
            .max(PicoUsd::ZERO)
    }
}

/// The answer to a reservation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reserved {
    /// The amount was taken from every counter.
    Held(Hold),
    /// Nothing was taken: this counter has no room for the amount.
    Exhausted {
        /// The counter with the least room, so that what fits into it fits into all. Of several
        /// alike, the first in the order asked.
        key: BudgetKey,
        /// Its limit.
        limit: PicoUsd,
        /// What it held at that moment.
        balance: Balance,
    },
}

impl Reserved {
    /// The refusal, if `amount` does not fit under every limit. Each counter comes with what it
    /// holds.
    #[must_use]
    pub fn refusal<'b>(
        counters: impl Iterator<Item = (&'b Budget, Balance)>,
        amount: PicoUsd,
    ) -> Option<Self> {
        let capped = counters.filter_map(|(budget, balance)| {
            let limit = budget.limit?;
            Some((balance.room(limit), &budget.key, limit, balance))
        });
        let (room, key, limit, balance) = capped.min_by_key(|(room, ..)| *room)?;
        (room < amount).then(|| Self::Exhausted {
            key: key.clone(),
            limit,
            balance,
        })
    }
}

/// A store could not do what was asked. A call that needs it is refused.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} in the {store} store")]
pub struct StoreError {
    /// What was tried, as a verb phrase.
    pub operation: &'static str,
    /// Which store.
    pub store: &'static str,
    /// Why it failed.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// Where money is counted.
#[async_trait]
pub trait BudgetStore: Send + Sync {
    /// Takes `amount` from every counter of the account or from none, atomically over all of them.
    /// An amount of zero always fits. Idempotent by `id` until it is settled.
    async fn reserve(
        &self,
        id: RecordId,
        account: &Account,
        amount: PicoUsd,
        now: Timestamp,
    ) -> Result<Reserved, StoreError>;

    /// Replaces the hold by `actual` in the counters it was taken from. Idempotent by the hold's
    /// id. Does not wait: a store that is elsewhere queues it, since a settle also happens where
    /// nobody can wait any more.
    fn settle(&self, hold: &Hold, actual: PicoUsd);

    /// Changes what these counters have settled by `by`, which is negative where money that was
    /// charged in advance is given back. To be called once per charge: unlike a settlement it is
    /// not known by an id. Does not wait.
    fn correct(&self, keys: &[BudgetKey], by: PicoUsd, now: Timestamp);

    /// What a counter holds now.
    async fn balance(&self, key: &BudgetKey) -> Result<Balance, StoreError>;
}
