//! Request and token rates and calls under way, in memory, behind one lock per tenant.
//!
//! A call looks at all its buckets and takes from all or none under that lock, so that being
//! refused by one limit never uses up another, and a busy tenant never makes another one wait.
//! Rates are GCRA: no window, hence no double burst at a window's edge. Buckets start full after a
//! restart. The number of buckets per tenant is bounded: full ones are dropped first, since a new
//! one is the same. Worst case: a tenant that calls with more agents at once than the bound, each
//! with a bucket that is not full, waits; no other tenant does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tollgate_core::budget::{Scope, StoreError};
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::rate::{Counted, Limit, Paced, Pass, RateKey, RateLimit, RateStore, Size};

/// Buckets per tenant. A bucket takes about 200 bytes, so a tenant takes at most about 2 MB.
const BUCKETS_PER_TENANT: usize = 10_000;
/// How long a caller waits that finds no place for its bucket, or too many calls under way.
const A_WHILE: Duration = Duration::from_secs(1);
const MINUTE: u128 = 60_000_000_000;

/// Source of the current time, so that tests can hold it still.
pub(super) type Now = Box<dyn Fn() -> Instant + Send + Sync>;

/// The buckets of every tenant.
pub struct Rates {
    now: Now,
    started: Instant,
    tenants: RwLock<HashMap<TenantId, Arc<Mutex<Buckets>>>>,
}

#[derive(Default)]
struct Buckets {
    by_key: HashMap<(Scope, Counted), Bucket>,
    /// What each call under way has taken.
    passes: HashMap<RecordId, Vec<(Scope, Counted)>>,
}

struct Bucket {
    size: Size,
    level: Level,
}

enum Level {
    /// The time, in nanoseconds, at which the bucket is full again: GCRA's theoretical arrival
    /// time. Not after now means full.
    FullAt(u128),
    /// Calls under way.
    UnderWay(u32),
}

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
            // Nobody asks for it again: there is nothing to give back.
            return Ok(Paced::Free);
        };
        let tenant = &first.key.tenant;
        let buckets = self.buckets(tenant);
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(buckets.admit(id, limits, tokens, self.nanos()))
    }

    fn release(&self, pass: &Pass, tokens: Option<u64>) {
        if let Some(buckets) = self.known(&pass.tenant) {
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            buckets.release(pass, tokens, self.nanos());
        }
    }
}

impl Buckets {
    fn admit(&mut self, id: RecordId, limits: &[Limit], tokens: u64, now: u128) -> Paced {
        let mut longest: Option<(Duration, &RateKey)> = None;
        for limit in limits {
            let wait = self.wait(limit, tokens, now);
            if wait > longest.map_or(Duration::ZERO, |(wait, _)| wait) {
                longest = Some((wait, &limit.key));
            }
        }
        if let Some((retry_after, key)) = longest {
            return Paced::Wait {
                key: key.clone(),
                retry_after,
            };
        }
        let mut taken = Vec::with_capacity(limits.len());
        for Limit { key, size } in limits {
            let place = (key.scope.clone(), key.counted);
            let bucket = self
                .by_key
                .entry(place.clone())
                .or_insert_with(|| Bucket::full(*size));
            bucket.resize(*size);
            bucket.take(cost(key.counted, tokens), now);
            taken.push(place);
        }
        let Some(first) = limits.first() else {
            return Paced::Free;
        };
        self.passes.insert(id, taken);
        Paced::Go(Pass {
            id,
            tenant: first.key.tenant.clone(),
            tokens,
        })
    }

    /// How long a call must wait for one limit; zero if it may go.
    fn wait(&mut self, Limit { key, size }: &Limit, tokens: u64, now: u128) -> Duration {
        let place = (key.scope.clone(), key.counted);
        match self.by_key.get(&place) {
            Some(bucket) => bucket.wait(*size, cost(key.counted, tokens), now),
            None if self.by_key.len() < BUCKETS_PER_TENANT => Duration::ZERO,
            None => {
                self.by_key.retain(|_, bucket| !bucket.is_full(now));
                if self.by_key.len() < BUCKETS_PER_TENANT {
                    Duration::ZERO
                } else {
                    A_WHILE
                }
            }
        }
    }

    fn release(&mut self, pass: &Pass, tokens: Option<u64>, now: u128) {
        let Some(taken) = self.passes.remove(&pass.id) else {
            return;
        };
        for place in taken {
            let counted = place.1;
            if let Some(bucket) = self.by_key.get_mut(&place) {
                bucket.correct(counted, pass.tokens, tokens, now);
            }
        }
    }
}

/// How much of a bucket one call takes.
const fn cost(counted: Counted, tokens: u64) -> u64 {
    match counted {
        Counted::Requests | Counted::Concurrent => 1,
        Counted::Tokens => tokens,
    }
}

/// The time in which `count` flow back.
fn refill(rate: RateLimit, count: u64) -> u128 {
    MINUTE.saturating_mul(u128::from(count)) / u128::from(rate.per_minute.get())
}

fn nanoseconds(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Bucket {
    fn full(size: Size) -> Self {
        let level = match size {
            Size::Rate(_) => Level::FullAt(0),
            Size::AtOnce(_) => Level::UnderWay(0),
        };
        Self { size, level }
    }

    /// A rate that has changed starts full; calls under way stay counted.
    fn resize(&mut self, size: Size) {
        if self.size != size {
            self.size = size;
            if let (Size::Rate(_), level) = (size, &mut self.level) {
                *level = Level::FullAt(0);
            }
        }
    }

    fn wait(&self, size: Size, cost: u64, now: u128) -> Duration {
        match (size, &self.level) {
            (Size::AtOnce(most), Level::UnderWay(calls)) if *calls >= most.get() => A_WHILE,
            (Size::Rate(rate), Level::FullAt(full_at)) if self.size == size => {
                // More than a bucket can ever hold is let go by a full bucket.
                let needed = cost.min(rate.burst.get());
                let missing = refill(rate, needed)
                    .saturating_add((*full_at).max(now))
                    .saturating_sub(refill(rate, rate.burst.get()));
                nanoseconds(missing.saturating_sub(now))
            }
            _ => Duration::ZERO,
        }
    }

    fn take(&mut self, cost: u64, now: u128) {
        match (&self.size, &mut self.level) {
            (Size::Rate(rate), Level::FullAt(full_at)) => {
                *full_at = (*full_at).max(now).saturating_add(refill(*rate, cost));
            }
            (Size::AtOnce(_), Level::UnderWay(calls)) => *calls = calls.saturating_add(1),
            _ => {}
        }
    }

    fn correct(&mut self, counted: Counted, taken: u64, used: Option<u64>, now: u128) {
        match (&self.size, &mut self.level, used) {
            (Size::AtOnce(_), Level::UnderWay(calls), _) => *calls = calls.saturating_sub(1),
            (Size::Rate(rate), Level::FullAt(full_at), Some(used))
                if counted == Counted::Tokens =>
            {
                *full_at = if used >= taken {
                    (*full_at)
                        .max(now)
                        .saturating_add(refill(*rate, used - taken))
                } else {
                    full_at.saturating_sub(refill(*rate, taken - used))
                };
            }
            _ => {}
        }
    }

    fn is_full(&self, now: u128) -> bool {
        match self.level {
            Level::FullAt(full_at) => full_at <= now,
            Level::UnderWay(calls) => calls == 0,
        }
    }
}

#[cfg(test)]
mod tests;
