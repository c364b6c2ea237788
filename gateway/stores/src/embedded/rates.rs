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
use smallvec::SmallVec;
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
    /// Where each bucket is, so that a call under way finds those it took from without looking
    /// them up.
    places: HashMap<RateKey, usize>,
    buckets: Vec<Bucket>,
    /// Places whose buckets have been dropped.
    free: Vec<usize>,
    /// What each call under way has taken.
    passes: HashMap<RecordId, Takings>,
    /// How many buckets there are when they are looked through next.
    sweep_at: usize,
}

struct Bucket {
    key: RateKey,
    /// Calls that were admitted by it and are not over.
    under_way: u32,
    /// What a rate lets through; a limit on calls at once has none.
    flow: Option<Flow>,
}

struct Taken {
    place: usize,
    count: u64,
}

/// What one call has taken: of agent and tenant, calls and tokens.
type Takings = SmallVec<[Taken; 4]>;

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

impl Rates {
    /// What [`RateStore::admit`] does; here nothing is waited for.
    pub(super) fn admit_now(
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
}

#[async_trait]
impl RateStore for Rates {
    async fn admit(
        &self,
        id: RecordId,
        limits: &[Limit],
        tokens: u64,
    ) -> Result<Paced, StoreError> {
        self.admit_now(id, limits, tokens)
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
            match buckets.as_ref().and_then(|all| all.at(key)) {
                Some(bucket) => bucket.left(*size, self.nanos()),
                None => most(*size),
            }
        };
        Ok(limits.iter().map(one).collect())
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self {
            places: HashMap::default(),
            buckets: Vec::new(),
            free: Vec::new(),
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
        let mut places: SmallVec<[Option<usize>; 4]> = SmallVec::new();
        for Limit { key, size } in limits {
            let place = self.places.get(key).copied();
            places.push(place);
            // A bucket that is not there is full, and a full one admits every call.
            let bucket = place.and_then(|place| self.buckets.get_mut(place));
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
        // Others may have taken the places of those that are dropped.
        if self.sweep(now) {
            places.fill(None);
        }
        let mut takings = Takings::with_capacity(limits.len());
        for (Limit { key, size }, place) in limits.iter().zip(places) {
            let place = place.unwrap_or_else(|| self.open(key));
            if let Some(bucket) = self.buckets.get_mut(place) {
                let count = bucket.take(*size, count(key.counted, tokens), now);
                takings.push(Taken { place, count });
            }
        }
        self.passes.insert(id, takings);
        Ok(())
    }

    fn release(&mut self, id: RecordId, tokens: Option<u64>, now: u128) {
        for Taken { place, count } in self.passes.remove(&id).into_iter().flatten() {
            if let Some(bucket) = self.buckets.get_mut(place) {
                let used = tokens.filter(|_| bucket.key.counted == Counted::Tokens);
                bucket.give_back(count, used, now);
            }
        }
    }

    fn at(&self, key: &RateKey) -> Option<&Bucket> {
        self.buckets.get(*self.places.get(key)?)
    }

    /// Where the bucket of `key` is, which is a full one if there was none.
    fn open(&mut self, key: &RateKey) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let bucket = Bucket::full(key.clone());
        let free = self.free.pop();
        let place = match free.and_then(|place| Some((place, self.buckets.get_mut(place)?))) {
            Some((place, dropped)) => {
                *dropped = bucket;
                place
            }
            None => {
                self.buckets.push(bucket);
                self.buckets.len() - 1
            }
        };
        self.places.insert(key.clone(), place);
        place
    }

    /// Drops the buckets that are as good as new, if there have come to be many; says whether it
    /// did.
    fn sweep(&mut self, now: u128) -> bool {
        if self.places.len() < self.sweep_at {
            return false;
        }
        let Self {
            places,
            buckets,
            free,
            ..
        } = self;
        places.retain(|_, place| {
            let is_as_new = |bucket: &Bucket| bucket.is_as_new(now);
            let keep = !buckets.get(*place).is_none_or(is_as_new);
            if !keep {
                free.push(*place);
            }
            keep
        });
        self.sweep_at = MANY_BUCKETS.max(self.places.len().saturating_mul(2));
        true
    }
}

/// What a full bucket lets through.
fn most(size: Size) -> i64 {
    match size {
        Size::AtOnce(most) => most.get().into(),
        Size::Rate(rate) => i64::try_from(rate.burst.get()).unwrap_or(i64::MAX),
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
    const fn full(key: RateKey) -> Self {
        Self {
            key,
            under_way: 0,
            flow: None,
        }
    }

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
            (Size::Rate(_), None) => most(size),
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
