use super::*;

use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that stands still until it is moved.
struct StillClock {
    base: Instant,
    millis: Arc<AtomicU64>,
}

fn still() -> (Rates, StillClock) {
    let base = Instant::now();
    let millis = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&millis);
    let now = move || base + Duration::from_millis(seen.load(Ordering::SeqCst));
    (Rates::new(Box::new(now)), StillClock { base, millis })
}

impl StillClock {
    fn advance(&self, millis: u64) {
        assert!(self.base.elapsed() < Duration::from_secs(3_600));
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }
}

fn id(n: u32) -> RecordId {
    tollgate_testkit::contract::record_id(n)
}

fn limit(tenant: &str, scope: Scope, counted: Counted, per_minute: u64, burst: u64) -> Limit {
    Limit {
        key: RateKey {
            tenant: tenant.parse().expect("a tenant"),
            scope,
            counted,
        },
        size: Size::Rate(RateLimit {
            per_minute: per_minute.try_into().expect("not zero"),
            burst: burst.try_into().expect("not zero"),
        }),
    }
}

#[tokio::test]
async fn a_burst_goes_at_once_and_then_the_rate_holds() {
    let (rates, clock) = still();
    let acme = [limit("acme", Scope::Tenant, Counted::Requests, 60, 3)];
    let wait = async |n: u32| match rates.admit(id(n), &acme, 0).await {
        Ok(Paced::Wait { retry_after, .. }) => retry_after,
        _ => Duration::ZERO,
    };
    for n in 0..3 {
        assert_eq!(wait(n).await, Duration::ZERO);
    }
    assert_eq!(wait(3).await, Duration::from_secs(1));
    clock.advance(400);
    assert_eq!(wait(4).await, Duration::from_millis(600));
    clock.advance(600);
    assert_eq!(wait(5).await, Duration::ZERO);
    assert_eq!(wait(6).await, Duration::from_secs(1));
}
