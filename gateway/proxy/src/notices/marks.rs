//! What calls leave behind for whoever watches caps: in which counters money was settled, and
//! which caps refused.
//!
//! A call leaves its counters as they are and goes on; they are gone through a moment later, by
//! the one task that also keeps how fast money goes. Worst case: the marks are bounded, and a
//! settlement that finds no room is missing in the rates, and its task gets no notice; its
//! tenant is looked at, and caps hold, all the same.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt as _};
use tokio::sync::Notify;
use tokio::time::Instant;
use tollgate_core::budget::{Balance, BudgetKey, Counters, Scope};
use tollgate_core::burn::{Burns, Pace};
use tollgate_core::ids::{TaskId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::refusal::Refusal;

/// Marks of either kind kept between two looks.
const MARKS: usize = 10_000;

/// Whose money has been touched since the last look, and how fast it goes.
pub struct CapMarks {
    marks: Mutex<Marks>,
    pub(super) bell: Notify,
    burns: Mutex<Burns>,
    started: Instant,
}

impl Default for CapMarks {
    /// Watches from now on.
    fn default() -> Self {
        Self {
            marks: Mutex::default(),
            bell: Notify::new(),
            burns: Mutex::default(),
            started: Instant::now(),
        }
    }
}

/// What has happened since the last look.
#[derive(Default)]
pub(super) struct Marks {
    /// Counters, and what was settled in them.
    settled: Vec<(Counters, PicoUsd)>,
    /// Tenants whose marks found no room there.
    crowded: HashSet<TenantId>,
    /// Caps that have refused a call, with their limit and what they held.
    pub(super) refused: HashMap<BudgetKey, (PicoUsd, Balance)>,
}

impl CapMarks {
    /// The money settled in these counters has changed by `by`.
    pub fn settled(&self, counters: Counters, by: PicoUsd) {
        let Some(first) = counters.first() else {
            return;
        };
        if by == PicoUsd::ZERO {
            return;
        }
        let mut marks = self.lock();
        if marks.settled.len() < MARKS {
            marks.settled.push((counters, by));
        } else {
            marks.crowded.insert(first.tenant.clone());
        }
        drop(marks);
        self.bell.notify_one();
    }

    /// A cap has refused a call: for whoever waits for it, it is reached.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        let (Refusal::CapReached {
            key,
            limit,
            balance,
            ..
        }
        | Refusal::ExceedsHeadroom {
            key,
            limit,
            balance,
            ..
        }) = refusal
        else {
            return;
        };
        let mut marks = self.lock();
        if marks.refused.len() < MARKS {
            marks.refused.insert(key.clone(), (*limit, *balance));
        }
        drop(marks);
        self.bell.notify_one();
    }

    /// How fast money goes in each scope of a tenant in which some was settled in the last hour.
    pub fn paces(&self, tenant: &TenantId) -> BTreeMap<Scope, Pace> {
        self.burns().of(tenant, self.watched_for())
    }

    /// How long this process has been watching: no rate is of a time before.
    #[must_use]
    pub fn watched_for(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes the marks that there are, and counts them into the rates.
    pub(super) fn take(&self) -> Marks {
        let marks = std::mem::take(&mut *self.lock());
        let at = self.watched_for();
        let mut burns = self.burns();
        for (counters, by) in marks.sums() {
            burns.settled(counters, by, at);
        }
        drop(burns);
        marks
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn burns(&self) -> MutexGuard<'_, Burns> {
        self.burns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    /// What was settled in counters that several calls share is one sum.
    fn sums(&self) -> HashMap<&Counters, PicoUsd> {
        let mut sums = HashMap::new();
        for (counters, by) in &self.settled {
            let sum = sums.entry(counters).or_insert(PicoUsd::ZERO);
            *sum = sum.saturating_add(*by);
        }
        sums
    }

    /// Tenants that have spent money, and of each the tasks with a cap.
    pub(super) fn spenders(&self) -> HashMap<&TenantId, HashSet<&TaskId>> {
        let mut spenders: HashMap<&TenantId, HashSet<&TaskId>> = HashMap::new();
        for (keys, _) in self.settled.iter().filter(|(_, by)| *by > PicoUsd::ZERO) {
            for key in keys.iter() {
                let tasks = spenders.entry(&key.tenant).or_default();
                if let Scope::Task(task) = &key.scope {
                    tasks.insert(task);
                }
            }
        }
        for tenant in &self.crowded {
            spenders.entry(tenant).or_default();
        }
        spenders
    }
}
