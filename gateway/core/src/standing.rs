//! How a tenant stands with its caps and limits: limit, settled, reserved, what is left, and when
//! a cap will be reached at the present pace.
//!
//! Only describes; what is let through is decided by the store that counts. A forecast holds while
//! the pace does: it is the time until settled money, not money reserved for calls under way, has
//! reached the limit. Worst case: a pace from the first minute after a start, taken for an hour's.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::budget::{Balance, Budget, BudgetKey, Scope};
use crate::burn::Pace;
use crate::ids::{AgentId, TaskId};
use crate::money::PicoUsd;
use crate::policy::{Caps, Tenant, covers};
use crate::rate::{Counted, Limit, RateKey, Size};
use crate::time::{Timestamp, Window};

/// When a limit will be reached at a pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// It is.
    Reached,
    /// Then.
    At(Timestamp),
    /// Not before the counter's window ends and a new one begins at zero.
    NotBeforeReset,
    /// Nothing is being spent, or less than is given back.
    Never,
}

impl Reach {
    /// Looks ahead from `now`.
    #[must_use]
    pub fn ahead(
        limit: PicoUsd,
        settled: PicoUsd,
        per_hour: PicoUsd,
        resets_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let left = limit.saturating_sub(settled).as_pico();
        if left <= 0 {
            return Self::Reached;
        }
        let pace = per_hour.as_pico();
        if pace <= 0 {
            return Self::Never;
        }
        // Rounded up: a limit is not reached a moment before.
        let micros = left
            .saturating_mul(3_600_000_000)
            .saturating_add(pace.saturating_sub(1))
            .checked_div(pace)
            .and_then(|micros| u64::try_from(micros).ok());
        let at = micros.and_then(|micros| {
            let at = now.plus(Duration::from_micros(micros));
            (at.as_micros() < i64::MAX).then_some(at)
        });
        match (at, resets_at) {
            (Some(at), Some(end)) if at >= end => Self::NotBeforeReset,
            (Some(at), _) => Self::At(at),
            (None, Some(_)) => Self::NotBeforeReset,
            (None, None) => Self::Never,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::At(_) => "at",
            Self::NotBeforeReset => "not_before_reset",
            Self::Never => "never",
        }
    }
}

/// A pace and where it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Forecast {
    /// Money per hour.
    pub usd_per_hour: PicoUsd,
    /// In one word: `reached`, `at`, `not_before_reset` or `never`.
    #[serde(serialize_with = "word")]
    pub reaches_limit: Reach,
    /// The time, if it is `at` one.
    pub reaches_limit_at: Option<Timestamp>,
}

fn word<S: Serializer>(reach: &Reach, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(reach.as_str())
}

/// The forecasts by both paces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Forecasts {
    /// By the pace of the last five minutes.
    pub last_5_minutes: Forecast,
    /// By the pace of the last hour.
    pub last_hour: Forecast,
}

/// How one cap stands. Money is decimal US dollars as text, so that no digit is ever rounded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Standing {
    /// Which counter: `acme/agent=bot/day:2026-11-23`.
    pub key: BudgetKey,
    /// The most that it may reach.
    pub limit_usd: PicoUsd,
    /// The cost of finished calls.
    pub settled_usd: PicoUsd,
    /// What calls under way have reserved.
    pub reserved_usd: PicoUsd,
    /// What is left for new calls.
    pub remaining_usd: PicoUsd,
    /// When its window ends, if it does.
    pub resets_at: Option<Timestamp>,
    /// How fast it fills up.
    pub burn: Forecasts,
}

impl Standing {
    /// Puts together what is known of one cap at `now`.
    #[must_use]
    pub fn new(
        key: BudgetKey,
        limit: PicoUsd,
        balance: Balance,
        pace: Pace,
        now: Timestamp,
    ) -> Self {
        let resets_at = key.window.resets_at();
        let forecast = |usd_per_hour: PicoUsd| {
            let reach = Reach::ahead(limit, balance.settled, usd_per_hour, resets_at, now);
            Forecast {
                usd_per_hour,
                reaches_limit: reach,
                reaches_limit_at: match reach {
                    Reach::At(at) => Some(at),
                    _ => None,
                },
            }
        };
        Self {
            key,
            limit_usd: limit,
            settled_usd: balance.settled,
            reserved_usd: balance.reserved,
            remaining_usd: balance.room(limit),
            resets_at,
            burn: Forecasts {
                last_5_minutes: forecast(pace.five_minutes),
                last_hour: forecast(pace.hour),
            },
        }
    }
}

/// Every cap of a tenant that is in force at `now`, with those of `tasks`: what is whole first.
#[must_use]
pub fn caps_in_force<'a>(
    tenant: &Tenant,
    tasks: impl IntoIterator<Item = &'a TaskId>,
    now: Timestamp,
) -> Vec<Budget> {
    let (day, month) = (Window::day(now), Window::month(now));
    let mut caps = Vec::new();
    let mut add = |scope: &Scope, window: Window, limit: Option<PicoUsd>| {
        caps.extend(limit.map(|limit| Budget {
            key: BudgetKey::new(tenant.id.clone(), scope.clone(), window),
            limit: Some(limit),
        }));
    };
    let whole = std::iter::once((Scope::Tenant, tenant.caps));
    for (scope, Caps { daily, monthly }) in whole.chain(tenant.parts()) {
        add(&scope, day, daily);
        add(&scope, month, monthly);
    }
    for task in tasks {
        add(&Scope::Task(task.clone()), Window::Total, tenant.task_cap);
    }
    caps
}

/// Every limit on the pace of a tenant and of its agents and models: what is whole first.
#[must_use]
pub fn limits_in_force(tenant: &Tenant) -> Vec<Limit> {
    let whole = std::iter::once((Scope::Tenant, tenant.limits));
    let agents = tenant.agents.iter();
    let agents = agents.map(|(agent, of)| (Scope::Agent(agent.clone()), of.limits));
    let models = tenant.models.iter();
    let models = models.map(|(pattern, of)| (Scope::Model(pattern.clone()), of.limits));
    let mut limits = Vec::new();
    for (scope, of) in whole.chain(agents).chain(models) {
        for (counted, size) in [
            (Counted::Requests, of.requests.map(Size::Rate)),
            (Counted::Tokens, of.tokens.map(Size::Rate)),
            (Counted::Concurrent, of.concurrent.map(Size::AtOnce)),
        ] {
            limits.extend(size.map(|size| Limit {
                key: RateKey {
                    tenant: tenant.id.clone(),
                    scope: scope.clone(),
                    counted,
                },
                size,
            }));
        }
    }
    limits
}

/// How one limit stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LimitStanding {
    /// Which limit: `acme/agent=bot/tokens_per_minute`.
    pub key: String,
    /// So much comes in per minute, if it is a rate; else the most at one time.
    pub limit: u64,
    /// What may come at once now. Below zero: what is owed.
    pub left: i64,
}

impl LimitStanding {
    /// Puts together what is known of one limit.
    #[must_use]
    pub fn new(limit: &Limit, left: i64) -> Self {
        Self {
            key: limit.key.to_string(),
            limit: match limit.size {
                Size::Rate(rate) => rate.per_minute.get(),
                Size::AtOnce(most) => most.get().into(),
            },
            left,
        }
    }
}

/// Whose figures somebody may see within a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum View {
    /// Those of all agents.
    Tenant,
    /// One agent's own and those of the task it works on. What the tenant as a whole or a model
    /// has cost is not among them: the difference would be what the other agents did.
    Agent(AgentId, TaskId),
}

impl View {
    /// What `agent`, at work on `task`, may see.
    #[must_use]
    pub fn of(tenant: &Tenant, agent: &AgentId, task: &TaskId) -> Self {
        let readers = &tenant.usage_readers;
        if !readers.is_empty() && covers(readers, agent.as_str()) {
            Self::Tenant
        } else {
            Self::Agent(agent.clone(), task.clone())
        }
    }

    /// Whether a counter is in it.
    #[must_use]
    pub fn shows(&self, scope: &Scope) -> bool {
        match (self, scope) {
            (Self::Tenant, _) => true,
            (Self::Agent(own, _), Scope::Agent(agent)) => own == agent,
            (Self::Agent(_, own), Scope::Task(task)) => own == task,
            (Self::Agent(..), Scope::Tenant | Scope::Model(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests;
