//! How fast money goes: what has been settled lately, scope by scope.
//!
//! Fed with what settlements and corrections have changed, never with balances, so neither the
//! end of a window nor a clock that is put back shows in it; moments are told as the time since
//! the process began to watch, which only grows. After a restart it begins with nothing. Knows
//! neither caps nor windows. Memory: sixteen bytes for each ten seconds and each minute of the last
//! hour in which a scope was charged, at most 1.5 KB a scope; 10,000 tenants with four scopes
//! that are charged all the time take 60 MB, those at rest for an hour nothing.
//!
//! Worst case: beyond [`MOST_TASKS`] tasks at one time a new task is not followed, and its rates
//! are zero; those of its tenant and agent are right all the same.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::budget::{BudgetKey, Scope};
use crate::ids::{TaskId, TenantId};
use crate::money::PicoUsd;

/// Tasks that are followed at one time: they are without number, other scopes are in the policy.
const MOST_TASKS: usize = 50_000;

/// Time between two looks for scopes that have been at rest for so long that nothing is left.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The shortest time that a rate is taken over: the first call after a start says little of an
/// hour.
const LEAST: Duration = Duration::from_secs(60);

const MICROS_PER_HOUR: i128 = 3_600_000_000;

/// Money per hour, rounded towards zero to whole pico-US-dollars.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pace {
    /// Over the last five minutes, by steps of ten seconds.
    pub five_minutes: PicoUsd,
    /// Over the last hour, by steps of a minute.
    pub hour: PicoUsd,
}

/// What was settled lately in one scope.
#[derive(Clone, Debug)]
pub struct Burn {
    fine: Recent,
    coarse: Recent,
}

impl Default for Burn {
    fn default() -> Self {
        Self {
            fine: Recent::new(10, 30),
            coarse: Recent::new(60, 60),
        }
    }
}

impl Burn {
    /// Adds what was settled at `at`, which is below zero for what was given back.
    pub fn add(&mut self, at: Duration, by: PicoUsd) {
        self.fine.add(at, by);
        self.coarse.add(at, by);
    }

    /// How fast money goes at `now`.
    #[must_use]
    pub fn pace(&self, now: Duration) -> Pace {
        Pace {
            five_minutes: self.fine.per_hour(now),
            hour: self.coarse.per_hour(now),
        }
    }

    /// Whether nothing is left of it at `now`.
    #[must_use]
    pub fn is_at_rest(&self, now: Duration) -> bool {
        self.coarse.is_over(now)
    }
}

/// Sums of the last so many steps of time, those without money left out.
#[derive(Clone, Debug)]
struct Recent {
    step_seconds: u32,
    steps: u32,
    /// Steps since the start, ascending, and the sum of each in pico-US-dollars, which holds nine
    /// million dollars.
    sums: VecDeque<(u32, i64)>,
}

impl Recent {
    const fn new(step_seconds: u32, steps: u32) -> Self {
        Self {
            step_seconds,
            steps,
            sums: VecDeque::new(),
        }
    }

    fn step(&self, at: Duration) -> u32 {
        let step = at.as_secs().checked_div(self.step_seconds.into());
        u32::try_from(step.unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// The step that is now. A moment before the last one counts as the last.
    fn current(&self, now: Duration) -> u32 {
        let last = self.sums.back().map_or(0, |(step, _)| *step);
        self.step(now).max(last)
    }

    /// The first step that still counts.
    fn first(&self, now: Duration) -> u32 {
        let others = self.steps.saturating_sub(1);
        self.current(now).saturating_sub(others)
    }

    fn add(&mut self, at: Duration, by: PicoUsd) {
        let (step, first) = (self.current(at), self.first(at));
        while self.sums.front().is_some_and(|(step, _)| *step < first) {
            self.sums.pop_front();
        }
        let by = i64::try_from(by.as_pico()).unwrap_or(if by < PicoUsd::ZERO {
            i64::MIN
        } else {
            i64::MAX
        });
        match self.sums.back_mut() {
            Some((last, sum)) if *last == step => *sum = sum.saturating_add(by),
            _ => self.sums.push_back((step, by)),
        }
    }

    fn per_hour(&self, now: Duration) -> PicoUsd {
        let first = self.first(now);
        let counted = self.sums.iter().filter(|(step, _)| *step >= first);
        let spent = counted.fold(0_i128, |all, (_, sum)| all.saturating_add((*sum).into()));
        let begin = u64::from(first).saturating_mul(self.step_seconds.into());
        let over = now.saturating_sub(Duration::from_secs(begin)).max(LEAST);
        let over = i128::try_from(over.as_micros()).unwrap_or(i128::MAX);
        let per_hour = spent.saturating_mul(MICROS_PER_HOUR).checked_div(over);
        PicoUsd::new(per_hour.unwrap_or(0))
    }

    fn is_over(&self, now: Duration) -> bool {
        let first = self.first(now);
        self.sums.back().is_none_or(|(step, _)| *step < first)
    }
}

/// What was settled lately, in every scope of every tenant.
#[derive(Debug, Default)]
pub struct Burns {
    tenants: HashMap<TenantId, HashMap<Scope, Burn>>,
    tasks: usize,
    swept: Duration,
}

impl Burns {
    /// Adds what one settlement or correction changed in the counters `keys`. They are of one
    /// tenant; a scope that stands there with several windows is charged once.
    pub fn settled(&mut self, keys: &[BudgetKey], by: PicoUsd, at: Duration) {
        let Some(first) = keys.first() else {
            return;
        };
        if at.saturating_sub(self.swept) >= SWEEP_EVERY {
            self.sweep(at);
        }
        let scopes = self.tenants.entry(first.tenant.clone()).or_default();
        for (place, key) in keys.iter().enumerate() {
            let mut before = keys.iter().take(place);
            if before.any(|other| other.scope == key.scope) {
                continue;
            }
            if let Some(burn) = scopes.get_mut(&key.scope) {
                burn.add(at, by);
                continue;
            }
            if matches!(key.scope, Scope::Task(_)) {
                if self.tasks >= MOST_TASKS {
                    continue;
                }
                self.tasks = self.tasks.saturating_add(1);
            }
            let mut burn = Burn::default();
            burn.add(at, by);
            scopes.insert(key.scope.clone(), burn);
        }
    }

    /// How fast money goes in each scope of a tenant in which some was settled in the last hour.
    #[must_use]
    pub fn of(&self, tenant: &TenantId, now: Duration) -> BTreeMap<Scope, Pace> {
        let scopes = self.tenants.get(tenant).into_iter().flatten();
        scopes
            .filter(|(_, burn)| !burn.is_at_rest(now))
            .map(|(scope, burn)| (scope.clone(), burn.pace(now)))
            .collect()
    }

    fn sweep(&mut self, now: Duration) {
        self.swept = now;
        let mut tasks: usize = 0;
        self.tenants.retain(|_, scopes| {
            scopes.retain(|scope, burn| {
                let stays = !burn.is_at_rest(now);
                if stays && matches!(scope, Scope::Task(_)) {
                    tasks = tasks.saturating_add(1);
                }
                stays
            });
            !scopes.is_empty()
        });
        self.tasks = tasks;
    }
}

/// The tasks of these paces, those that money goes fastest in first.
#[must_use]
pub fn tasks(paces: &BTreeMap<Scope, Pace>) -> Vec<TaskId> {
    let mut tasks: Vec<(&TaskId, Pace)> = paces
        .iter()
        .filter_map(|(scope, pace)| match scope {
            Scope::Task(task) => Some((task, *pace)),
            _ => None,
        })
        .collect();
    tasks.sort_by_key(|(_, pace)| std::cmp::Reverse((pace.five_minutes, pace.hour)));
    tasks.into_iter().map(|(task, _)| task.clone()).collect()
}

#[cfg(test)]
mod tests;
