//! Spend caps: what is reserved before a call and settled after it.
//!
//! A cap holds because money is taken *before* contact: settled + reserved never passes the
//! limit. The store does the taking; this module says in which counters and for how much.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::ids::{AgentId, RecordId, TaskId, TenantId};
use crate::money::PicoUsd;
use crate::policy::NamePattern;
use crate::time::{Timestamp, Window};

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

/// One counter of money. The window is part of the key, hence nothing is ever reset.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BudgetKey {
    /// The tenant that pays.
    pub tenant: TenantId,
    /// Which part of the tenant.
    pub scope: Scope,
    /// Over which time.
    pub window: Window,
}

/// `acme/tenant/day:2026-11-23`, `acme/agent=bot/month:2026-11`, `acme/task=t-1/total`.
impl fmt::Display for BudgetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenant,
            scope,
            window,
        } = self;
        // Piece by piece: every call writes a handful of keys, and `write!` costs thrice as much.
        f.write_str(tenant.as_str())?;
        f.write_str("/")?;
        fmt::Display::fmt(scope, f)?;
        f.write_str("/")?;
        fmt::Display::fmt(window, f)
    }
}

/// Why a text is not a [`BudgetKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a budget key is \"TENANT/SCOPE/WINDOW\"")]
pub struct InvalidBudgetKey;

impl FromStr for BudgetKey {
    type Err = InvalidBudgetKey;

    fn from_str(text: &str) -> Result<Self, InvalidBudgetKey> {
        // A model's name may hold slashes; ids and windows never do.
        let (tenant, rest) = text.split_once('/').ok_or(InvalidBudgetKey)?;
        let (scope, window) = rest.rsplit_once('/').ok_or(InvalidBudgetKey)?;
        let scope = match scope.split_once('=') {
            None if scope == "tenant" => Scope::Tenant,
            Some(("agent", agent)) => Scope::Agent(agent.parse().map_err(|_e| InvalidBudgetKey)?),
            Some(("task", task)) => Scope::Task(task.parse().map_err(|_e| InvalidBudgetKey)?),
            Some(("model", model)) => Scope::Model(model.parse().map_err(|_e| InvalidBudgetKey)?),
            _ => return Err(InvalidBudgetKey),
        };
        Ok(Self {
            tenant: tenant.parse().map_err(|_e| InvalidBudgetKey)?,
            scope,
            window: window.parse().map_err(|_e| InvalidBudgetKey)?,
        })
    }
}

impl TryFrom<String> for BudgetKey {
    type Error = InvalidBudgetKey;

    fn try_from(text: String) -> Result<Self, InvalidBudgetKey> {
        text.parse()
    }
}

impl From<BudgetKey> for String {
    fn from(key: BudgetKey) -> Self {
        key.to_string()
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
    pub keys: Vec<BudgetKey>,
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
    /// The refusal, if `amount` does not fit under every limit; `balance` says what each counter
    /// holds.
    #[must_use]
    pub fn refusal(
        budgets: &[Budget],
        amount: PicoUsd,
        balance: impl Fn(&BudgetKey) -> Balance,
    ) -> Option<Self> {
        let capped = budgets.iter().filter_map(|budget| {
            let limit = budget.limit?;
            let balance = balance(&budget.key);
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
    /// Takes `amount` from every budget or from none, atomically over all of them. An amount of
    /// zero always fits. Idempotent by `id` until it is settled.
    async fn reserve(
        &self,
        id: RecordId,
        budgets: &[Budget],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_what_they_print() {
        for text in [
            "acme/tenant/day:2026-11-23",
            "acme/agent=support.bot/month:2026-11",
            "acme/task=T-1/total",
            "acme/model=meta-llama/Llama-3*/day:2026-11-23",
        ] {
            let key: BudgetKey = text.parse().expect(text);
            assert_eq!(key.to_string(), text);
        }
        assert_eq!(
            "acme/nobody/total".parse::<BudgetKey>(),
            Err(InvalidBudgetKey)
        );
    }
}
