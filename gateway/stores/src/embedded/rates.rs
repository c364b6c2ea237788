//! Request rates, in memory: one GCRA bucket per tenant or agent, behind one lock per tenant.
//!
//! GCRA has no window, hence no double burst at a window's edge. Buckets start full after a
//! restart. The number of buckets per tenant is bounded: full ones are dropped first, since a new
//! one is the same. Worst case: a tenant that calls with more agents at once than the bound, each
//! with a bucket that is not full, waits; no other tenant does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tollgate_core::ids::{AgentId, TenantId};
use tollgate_core::rate::{Paced, RateKey, RateLimit, RateStore};

/// Buckets per tenant. A bucket takes about 200 bytes, so a tenant takes at most about 2 MB.
const BUCKETS_PER_TENANT: usize = 10_000;
/// How long a caller waits that finds no place for its bucket.
const NO_PLACE: Duration = Duration::from_secs(1);

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;
type Buckets<C> = HashMap<Option<AgentId>, Bucket<C>>;

struct Bucket<C: Clock> {
    limit: RateLimit,
    limiter: Limiter<C>,
    last_used: C::Instant,
}

/// The buckets of every tenant.
pub struct Rates<C: Clock = DefaultClock> {
    clock: C,
    tenants: RwLock<HashMap<TenantId, Arc<Mutex<Buckets<C>>>>>,
}

impl<C: Clock> Rates<C> {
    /// No buckets yet; time as `clock` tells it.
    #[must_use]
    pub fn new(clock: C) -> Self {
        Self {
            clock,
            tenants: RwLock::default(),
        }
    }

    fn buckets(&self, tenant: &TenantId) -> Arc<Mutex<Buckets<C>>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(buckets) = tenants.get(tenant) {
            return buckets.clone();
        }
        drop(tenants);
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(tenant.clone()).or_default().clone()
    }
}

impl<C: Clock + Clone + Send + Sync> RateStore for Rates<C>
where
    C::Instant: Send + Sync,
{
    fn take(&self, key: &RateKey, limit: RateLimit) -> Paced {
        let now = self.clock.now();
        let buckets = self.buckets(&key.tenant);
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&key.agent)
            && bucket.limit == limit
        {
            bucket.last_used = now;
            return bucket.take(now);
        }
        if !buckets.contains_key(&key.agent) && buckets.len() >= BUCKETS_PER_TENANT {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= BUCKETS_PER_TENANT {
                return Paced::Wait(NO_PLACE);
            }
        }
        let quota = Quota::per_minute(limit.per_minute).allow_burst(limit.burst);
        let bucket = Bucket {
            limit,
            limiter: RateLimiter::direct_with_clock(quota, self.clock.clone()),
            last_used: now,
        };
        let paced = bucket.take(now);
        buckets.insert(key.agent.clone(), bucket);
        paced
    }
}

impl<C: Clock> Bucket<C> {
    fn take(&self, now: C::Instant) -> Paced {
        match self.limiter.check() {
            Ok(()) => Paced::Go,
            Err(not_until) => Paced::Wait(not_until.wait_time_from(now)),
        }
    }

    /// Whether so much time has passed since its last use that it is surely full.
    fn is_full(&self, now: C::Instant) -> bool {
        let idle: Duration = now.duration_since(self.last_used).into();
        let to_fill =
            60 * u64::from(self.limit.burst.get()) / u64::from(self.limit.per_minute.get());
        idle.as_secs() > to_fill
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::num::NonZeroU32;

    fn limit(per_minute: u32, burst: u32) -> RateLimit {
        RateLimit {
            per_minute: NonZeroU32::new(per_minute).expect("not zero"),
            burst: NonZeroU32::new(burst).expect("not zero"),
        }
    }

    fn key(tenant: &str, agent: Option<&str>) -> RateKey {
        RateKey {
            tenant: tenant.parse().expect("a tenant"),
            agent: agent.map(|agent| agent.parse().expect("an agent")),
        }
    }

    #[test]
    fn a_burst_goes_at_once_and_then_the_rate_holds() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::new(clock.clone());
        let acme = key("acme", None);
        for _ in 0..3 {
            assert_eq!(rates.take(&acme, limit(60, 3)), Paced::Go);
        }
        assert_eq!(
            rates.take(&acme, limit(60, 3)),
            Paced::Wait(Duration::from_secs(1))
        );
        clock.advance(Duration::from_millis(400));
        assert_eq!(
            rates.take(&acme, limit(60, 3)),
            Paced::Wait(Duration::from_millis(600))
        );
        clock.advance(Duration::from_millis(600));
        assert_eq!(rates.take(&acme, limit(60, 3)), Paced::Go);
        assert_ne!(rates.take(&acme, limit(60, 3)), Paced::Go);
    }

    #[test]
    fn tenants_and_agents_have_buckets_of_their_own_and_a_new_limit_a_new_one() {
        let rates = Rates::new(FakeRelativeClock::default());
        let one = limit(1, 1);
        assert_eq!(rates.take(&key("acme", None), one), Paced::Go);
        assert_ne!(rates.take(&key("acme", None), one), Paced::Go);
        assert_eq!(rates.take(&key("acme", Some("bot")), one), Paced::Go);
        assert_eq!(rates.take(&key("globex", None), one), Paced::Go);
        assert_eq!(rates.take(&key("acme", None), limit(2, 1)), Paced::Go);
    }

    #[test]
    fn the_number_of_buckets_is_bounded_per_tenant_and_full_ones_make_room() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::new(clock.clone());
        let one = limit(60, 1);
        for n in 0..BUCKETS_PER_TENANT {
            assert_eq!(
                rates.take(&key("acme", Some(&format!("a{n}"))), one),
                Paced::Go
            );
        }
        assert_eq!(
            rates.take(&key("acme", Some("late")), one),
            Paced::Wait(NO_PLACE)
        );
        assert_eq!(rates.take(&key("globex", Some("late")), one), Paced::Go);
        clock.advance(Duration::from_secs(3));
        assert_eq!(rates.take(&key("acme", Some("late")), one), Paced::Go);
    }
}
