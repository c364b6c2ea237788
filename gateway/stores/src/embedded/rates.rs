//! Request and token rates and calls under way, in memory, behind one lock per tenant.
//!
//! A call looks at all its buckets and takes from all or none under that lock, so that being
//! refused by one limit never uses up another, and a busy tenant never makes another one wait.
//! There are no windows, hence no double burst at a window's edge. Buckets that are full and that
//! no call under way has taken from are dropped from time to time, since a new one is the same.
//! Worst case: after a restart all buckets are full and no calls are under way, so that a tenant
//! gets its burst once more. A successor takes them over as they stand.

mod carry;
mod flow;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use foldhash::HashMap;
use tollgate_core::budget::StoreError;
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::rate::{Counted, Limit, Paced, Pass, RateKey, RateStore, Size};

pub use carry::RatesTaken;
use flow::Flow;

/// How long a caller waits that finds too many calls under way. When one of them ends is unknown.
const A_WHILE: Duration = Duration::from_secs(1);
/// A tenant's buckets are looked through when there are so many, and again whenever they have
/// doubled since.
const MANY_BUCKETS: usize = 1_000;

/// Source of the current time, so that tests can hold it still.
pub(super) type Now = Box<dyn Fn() -> Instant + Send + Sync>;

/// The buckets of every tenant.
pub struct Rates {
    now: Now,
    started: Instant,
    tenants: RwLock<HashMap<TenantId, Arc<Mutex<Buckets>>>>,
}

struct Buckets {
    by_key: HashMap<RateKey, Bucket>,
    /// What each call under way has taken.
    passes: HashMap<RecordId, Vec<Taken>>,
    /// How many buckets there are when they are looked through next.
    sweep_at: usize,
}

struct Bucket {
    /// Calls that were admitted by it and are not over.
    under_way: u32,
    /// What a rate lets through; a limit on calls at once has none.
    flow: Option<Flow>,
}

struct Taken {
    key: RateKey,
    count: u64,
}

/// One call never spans tenants: each has a pace of its own.
#[derive(Debug, thiserror::Error)]
#[error("the limits of one call belong to more than one tenant")]
struct MixedTenants;

impl Default for Rates {
    fn default() -> Self {
        Self::new(Box::new(Instant::now))
    }
}

impl Rates {
    /// No buckets yet; time as `now` tells it.
    #[must_use]
    pub(super) fn new(now: Now) -> Self {
        let started = now();
        Self {
            now,
            started,
            tenants: RwLock::default(),
        }
    }

    fn nanos(&self) -> u128 {
        (self.now)()
            .saturating_duration_since(self.started)
            .as_nanos()
    }

    fn known(&self, tenant: &TenantId) -> Option<Arc<Mutex<Buckets>>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned()
    }

    fn buckets(&self, tenant: &TenantId) -> Arc<Mutex<Buckets>> {
        self.known(tenant).unwrap_or_else(|| {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            tenants.entry(tenant.clone()).or_default().clone()
        })
    }
}

#[async_trait]
impl RateStore for Rates {
    async fn admit(
        &self,
        id: RecordId,
        limits: &[Limit],
        tokens: u64,
    ) -> Result<Paced, StoreError> {
        let Some(first) = limits.first() else {
            return Ok(Paced::Free);
        };
        let tenant = &first.key.tenant;
        if limits.iter().any(|limit| limit.key.tenant != *tenant) {
            return Err(StoreError {
                operation: "admit",
                store: "rate",
                cause: Box::new(MixedTenants),
            });
        }
        let buckets = self.buckets(tenant);
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.nanos();
        Ok(match buckets.admit(id, limits, tokens, now) {
            Ok(()) => Paced::Go(Pass {
                id,
                tenant: tenant.clone(),
                tokens,
            }),
            Err((key, retry_after)) => Paced::Wait {
                key: key.clone(),
                retry_after,
            },
        })
    }

    fn release(&self, pass: &Pass, tokens: Option<u64>) {
        if let Some(buckets) = self.known(&pass.tenant) {
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.nanos();
            buckets.release(pass.id, tokens, now);
        }
    }

    async fn left(&self, limits: &[Limit]) -> Result<Vec<i64>, StoreError> {
        let one = |Limit { key, size }: &Limit| {
            let buckets = self.known(&key.tenant);
            let buckets = buckets.as_deref().map(Mutex::lock);
            let buckets = buckets.map(|lock| lock.unwrap_or_else(PoisonError::into_inner));
            let bucket = buckets.as_ref().and_then(|all| all.by_key.get(key));
            bucket.unwrap_or(&Bucket::FULL).left(*size, self.nanos())
        };
        Ok(limits.iter().map(one).collect())
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            by_key: HashMap::default(),
            passes: HashMap::default(),
            sweep_at: MANY_BUCKETS,
        }
    }
}

impl Buckets {
    /// Takes from all, or from none and returns the limit with the longest wait.
    fn admit<'l>(
        &mut self,
        id: RecordId,
        limits: &'l [Limit],
        tokens: u64,
        now: u128,
    ) -> Result<(), (&'l RateKey, Duration)> {
        if self.passes.contains_key(&id) {
            return Ok(());
        }
        let mut longest: Option<(&RateKey, Duration)> = None;
        for Limit { key, size } in limits {
            // A bucket that is not there is full, and a full one admits every call.
            let bucket = self.by_key.get_mut(key);
            let wait = bucket.map_or(Duration::ZERO, |bucket| {
                bucket.wait(*size, count(key.counted, tokens), now)
            });
            if wait > longest.map_or(Duration::ZERO, |(_, wait)| wait) {
                longest = Some((key, wait));
            }
        }
        if let Some(longest) = longest {
            return Err(longest);
        }
        self.sweep(now);
        let mut taken = Vec::with_capacity(limits.len());
        for Limit { key, size } in limits {
            let count = count(key.counted, tokens);
            let bucket = match self.by_key.get_mut(key) {
                Some(bucket) => bucket,
                None => self.by_key.entry(key.clone()).or_insert(Bucket::FULL),
            };
            taken.push(Taken {
                key: key.clone(),
                count: bucket.take(*size, count, now),
            });
        }
        self.passes.insert(id, taken);
        Ok(())
    }

    fn release(&mut self, id: RecordId, tokens: Option<u64>, now: u128) {
        for Taken { key, count } in self.passes.remove(&id).into_iter().flatten() {
            if let Some(bucket) = self.by_key.get_mut(&key) {
                let used = tokens.filter(|_| key.counted == Counted::Tokens);
                bucket.give_back(count, used, now);
            }
        }
    }

    /// Drops the buckets that are as good as new, if there have come to be many.
    fn sweep(&mut self, now: u128) {
        if self.by_key.len() >= self.sweep_at {
            self.by_key.retain(|_, bucket| !bucket.is_as_new(now));
            self.sweep_at = MANY_BUCKETS.max(self.by_key.len().saturating_mul(2));
        }
    }
}

/// How much of a bucket one call takes.
const fn count(counted: Counted, tokens: u64) -> u64 {
    match counted {
        Counted::Requests | Counted::Concurrent => 1,
        Counted::Tokens => tokens,
    }
}

impl Bucket {
    const FULL: Self = Self {
        under_way: 0,
        flow: None,
    };

    fn wait(&mut self, size: Size, count: u64, now: u128) -> Duration {
        match (size, &mut self.flow) {
            (Size::AtOnce(most), _) if self.under_way >= most.get() => A_WHILE,
            (Size::Rate(rate), Some(flow)) => {
                flow.advance(rate, now);
                flow.wait(count)
            }
            _ => Duration::ZERO,
        }
    }

    fn left(&self, size: Size, now: u128) -> i64 {
        match (size, &self.flow) {
            (Size::AtOnce(most), _) => i64::from(most.get()).saturating_sub(self.under_way.into()),
            (Size::Rate(rate), Some(flow)) => flow.left(rate, now),
            (Size::Rate(rate), None) => i64::try_from(rate.burst.get()).unwrap_or(i64::MAX),
        }
    }

    fn take(&mut self, size: Size, count: u64, now: u128) -> u64 {
        self.under_way = self.under_way.saturating_add(1);
        match size {
            Size::AtOnce(_) => count,
            Size::Rate(rate) => {
                let flow = self.flow.get_or_insert_with(|| Flow::full(rate, now));
                flow.advance(rate, now);
                flow.take(count)
            }
        }
    }

    fn give_back(&mut self, taken: u64, used: Option<u64>, now: u128) {
        self.under_way = self.under_way.saturating_sub(1);
        if let (Some(flow), Some(used)) = (&mut self.flow, used) {
            flow.correct(taken, used, now);
        }
    }

    fn is_as_new(&self, now: u128) -> bool {
        self.under_way == 0 && self.flow.as_ref().is_none_or(|flow| flow.is_full(now))
    }
}

#[cfg(test)]
mod tests;
