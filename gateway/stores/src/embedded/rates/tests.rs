use super::*;

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tollgate_core::budget::Scope;
use tollgate_core::rate::RateLimit;
use tollgate_testkit::contract::{name, record_id as id};

mod flow;

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct StillClock(Arc<AtomicU64>);

fn still() -> (Rates, StillClock) {
    let base = Instant::now();
    let clock = StillClock::default();
    let millis = Arc::clone(&clock.0);
    let now = move || base + Duration::from_millis(millis.load(Ordering::SeqCst));
    (Rates::new(Box::new(now)), clock)
}

impl StillClock {
    fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

fn rate(per_minute: u64, burst: u64) -> RateLimit {
    RateLimit {
        per_minute: per_minute.try_into().expect("not zero"),
        burst: burst.try_into().expect("not zero"),
    }
}

fn limit(scope: &Scope, counted: Counted, size: Size) -> Limit {
    Limit {
        key: RateKey {
            tenant: name("acme"),
            scope: scope.clone(),
            counted,
        },
        size,
    }
}

fn agent(agent: &str) -> Scope {
    Scope::Agent(name(agent))
}

fn requests(per_minute: u64, burst: u64) -> Limit {
    let size = Size::Rate(rate(per_minute, burst));
    limit(&Scope::Tenant, Counted::Requests, size)
}

fn tokens(per_minute: u64, burst: u64) -> Limit {
    let size = Size::Rate(rate(per_minute, burst));
    limit(&Scope::Tenant, Counted::Tokens, size)
}

fn at_once(most: u32) -> Limit {
    let size = Size::AtOnce(most.try_into().expect("not zero"));
    limit(&Scope::Tenant, Counted::Concurrent, size)
}

/// The pass, or how long to wait.
async fn ask(rates: &Rates, n: u32, limits: &[Limit], tokens: u64) -> Result<Pass, Duration> {
    match rates.admit(id(n), limits, tokens).await {
        Ok(Paced::Go(pass)) => Ok(pass),
        Ok(Paced::Wait { retry_after, .. }) => Err(retry_after),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_burst_goes_at_once_and_then_the_rate_holds() {
    let (rates, clock) = still();
    let limits = [requests(60, 3)];
    for n in 0..3 {
        assert!(ask(&rates, n, &limits, 0).await.is_ok());
    }
    let wait = async |n| ask(&rates, n, &limits, 0).await.expect_err("empty");
    assert_eq!(wait(3).await, Duration::from_secs(1));
    clock.advance(400);
    assert_eq!(wait(4).await, Duration::from_millis(600));
    clock.advance(600);
    assert!(ask(&rates, 5, &limits, 0).await.is_ok());
    assert_eq!(wait(6).await, Duration::from_secs(1));
}

#[tokio::test]
async fn the_limit_with_the_longest_wait_is_named_and_nothing_is_taken() {
    let (rates, clock) = still();
    let of_agent = |per_minute| {
        let size = Size::Rate(rate(per_minute, 1));
        limit(&agent("bot"), Counted::Requests, size)
    };
    let limits = [of_agent(1), requests(6, 2), at_once(9)];
    let first = ask(&rates, 0, &limits, 0).await.expect("full");
    let answer = rates.admit(id(1), &limits, 0).await;
    let expected = Paced::Wait {
        key: limits[0].key.clone(),
        retry_after: Duration::from_secs(60),
    };
    assert_eq!(answer.expect("in memory"), expected);
    // Of the tenant's two the refused call took none.
    assert!(ask(&rates, 2, &limits[1..], 0).await.is_ok());
    assert!(ask(&rates, 3, &limits[1..], 0).await.is_err());
    rates.release(&first, None);
    clock.advance(60_000);
    assert!(ask(&rates, 4, &limits, 0).await.is_ok());
}

#[tokio::test]
async fn a_place_is_freed_once_however_often_it_is_given_back() {
    let (rates, _) = still();
    let limits = [at_once(2)];
    let one = ask(&rates, 1, &limits, 0).await.expect("room");
    let again = ask(&rates, 1, &limits, 0).await.expect("the same call");
    assert_eq!(one, again, "asking twice takes one place");
    let two = ask(&rates, 2, &limits, 0).await.expect("room");
    assert_eq!(ask(&rates, 3, &limits, 0).await, Err(A_WHILE));
    for _ in 0..3 {
        rates.release(&one, None);
    }
    assert!(ask(&rates, 4, &limits, 0).await.is_ok());
    assert_eq!(ask(&rates, 5, &limits, 0).await, Err(A_WHILE));
    rates.release(&two, None);
    assert!(ask(&rates, 6, &limits, 0).await.is_ok());
}

#[tokio::test]
async fn a_call_larger_than_the_bucket_is_admitted_and_its_debt_is_paid_off() {
    let (rates, clock) = still();
    let limits = [tokens(60_000, 1_000)];
    let pass = ask(&rates, 1, &limits, 5_000).await.expect("a full bucket");
    assert_eq!(
        ask(&rates, 2, &limits, 1_000).await,
        Err(Duration::from_secs(5))
    );
    assert!(ask(&rates, 3, &limits, 0).await.is_ok(), "takes no tokens");
    // It used even more: 2,000 that it had not asked for.
    rates.release(&pass, Some(7_000));
    assert_eq!(
        ask(&rates, 4, &limits, 1).await,
        Err(Duration::from_millis(6_001))
    );
    clock.advance(7_000);
    assert!(ask(&rates, 5, &limits, 5_000).await.is_ok());
}

#[tokio::test]
async fn tokens_that_were_not_used_come_back_and_unknown_use_stays_an_estimate() {
    let (rates, _) = still();
    let limits = [tokens(60_000, 1_000)];
    let one = ask(&rates, 1, &limits, 900).await.expect("room");
    assert!(ask(&rates, 2, &limits, 200).await.is_err());
    rates.release(&one, Some(100));
    let two = ask(&rates, 3, &limits, 900).await.expect("900 are left");
    rates.release(&two, None);
    assert!(ask(&rates, 4, &limits, 1).await.is_err());
}

#[tokio::test]
async fn an_absurd_bound_locks_nobody_out_for_longer_than_an_hour() {
    let (rates, clock) = still();
    let limits = [tokens(100, 10)];
    let pass = ask(&rates, 1, &limits, u64::MAX).await.expect("full");
    rates.release(&pass, None);
    let wait = ask(&rates, 2, &limits, 1).await.expect_err("a debt");
    assert!(wait <= Duration::from_secs(3_601), "{wait:?}");
    clock.advance(3_606_000);
    let pass = ask(&rates, 3, &limits, u64::MAX)
        .await
        .expect("paid off and full again");
    rates.release(&pass, Some(0));
    assert!(ask(&rates, 4, &limits, 10).await.is_ok(), "all came back");
}

/// A reload may change any limit, also while calls are under way.
#[tokio::test]
async fn nothing_is_lost_or_stuck_when_a_limit_changes() {
    let (rates, clock) = still();
    let before = [at_once(2), tokens(60_000, 1_000)];
    let one = ask(&rates, 1, &before, 1_000).await.expect("room");
    let two = ask(&rates, 2, &before[..1], 0).await.expect("room");
    let narrower = [at_once(1), tokens(6_000, 100)];
    assert!(ask(&rates, 3, &narrower, 100).await.is_err());
    rates.release(&one, Some(1_000));
    assert_eq!(
        ask(&rates, 4, &narrower, 100).await,
        Err(Duration::from_secs(10)),
        "one is still under way, and 1,000 tokens flow back at 100 a second"
    );
    rates.release(&two, None);
    clock.advance(10_000);
    let five = ask(&rates, 5, &narrower, 100).await.expect("room");
    // Limits that are gone are given back to all the same.
    rates.release(&five, Some(0));
    assert!(ask(&rates, 6, &before, 1_000).await.is_ok());
}

#[tokio::test]
async fn buckets_as_good_as_new_are_dropped_and_those_in_use_are_not() {
    let (rates, clock) = still();
    let of = |n: u32, counted, size| limit(&agent(&format!("a{n}")), counted, size);
    let one = Size::Rate(rate(60, 1));
    let held = of(0, Counted::Concurrent, at_once(1).size);
    let pass = ask(&rates, 0, std::slice::from_ref(&held), 0).await;
    for n in 1..5_000 {
        let limit = of(n, Counted::Requests, one);
        let pass = ask(&rates, n, &[limit], 0).await.expect("full");
        rates.release(&pass, None);
        clock.advance(10);
    }
    let buckets = rates.known(&name("acme")).expect("there are some");
    let count = || buckets.lock().unwrap().places.len();
    assert!(count() <= MANY_BUCKETS + 1, "{}", count());
    assert!(ask(&rates, 6_000, &[held], 0).await.is_err());
    rates.release(&pass.expect("room"), None);
    assert!(buckets.lock().unwrap().passes.is_empty());
}

#[tokio::test]
async fn limits_of_two_tenants_cannot_be_mixed() {
    let (rates, _) = still();
    let mut other = requests(1, 1);
    other.key.tenant = name("globex");
    let answer = rates.admit(id(1), &[requests(1, 1), other], 0).await;
    assert!(answer.is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Ask(u64),
    Release(prop::sample::Index, Option<u64>),
    Pass(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = || prop_oneof![0_u64..300, Just(u64::MAX)];
    let step = prop_oneof![
        count().prop_map(Step::Ask),
        (any::<prop::sample::Index>(), prop::option::of(count()))
            .prop_map(|(which, used)| Step::Release(which, used)),
        (0_u32..4_000).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever calls do and however they end: no more are under way than may be, and once all are
    /// over and some time has passed everything is as it was.
    #[test]
    fn places_are_kept_and_everything_comes_back(steps in steps()) {
        let limits = [at_once(3), requests(60, 4), tokens(600, 100)];
        let mut buckets = Buckets::default();
        let mut open: Vec<RecordId> = Vec::new();
        let mut now = 0_u128;
        for (n, step) in (0_u32..).zip(steps) {
            match step {
                Step::Ask(tokens) => match buckets.admit(id(n), &limits, tokens, now) {
                    Ok(()) => open.push(id(n)),
                    Err((_, wait)) => prop_assert!(wait > Duration::ZERO),
                },
                Step::Release(which, used) if !open.is_empty() => {
                    let id = open.swap_remove(which.index(open.len()));
                    buckets.release(id, used, now);
                    buckets.release(id, used, now);
                }
                Step::Release(..) => {}
                Step::Pass(millis) => now += u128::from(millis) * 1_000_000,
            }
            prop_assert!(open.len() <= 3);
            let under_way = buckets.buckets.iter().map(|bucket| bucket.under_way);
            prop_assert!(under_way.into_iter().all(|calls| calls as usize == open.len()));
        }
        for id in open {
            buckets.release(id, None, now);
        }
        // Each of the 200 steps may have left a debt of an hour.
        now += 201 * 3_600 * 1_000_000_000;
        prop_assert!(buckets.buckets.iter().all(|bucket| bucket.is_as_new(now)));
        prop_assert!(buckets.passes.is_empty());
    }
}

#[tokio::test]
async fn what_is_left_is_told_of_each_limit_and_nothing_is_taken() {
    let (rates, clock) = still();
    let at_once = limit(
        &Scope::Tenant,
        Counted::Concurrent,
        Size::AtOnce(2.try_into().expect("not zero")),
    );
    let limits = [requests(60, 5), tokens(600, 100), at_once];
    let left = async || rates.left(&limits).await.expect("the store is up");
    assert_eq!(left().await, [5, 100, 2], "full");
    let pass = match rates.admit(id(1), &limits, 30).await {
        Ok(Paced::Go(pass)) => pass,
        other => panic!("{other:?}"),
    };
    assert_eq!(left().await, [4, 70, 1]);
    assert_eq!(left().await, [4, 70, 1], "looking takes nothing");
    rates.release(&pass, Some(115));
    assert_eq!(left().await, [4, -15, 2], "a debt");
    clock.advance(500);
    assert_eq!(left().await, [4, -10, 2], "half a call is none");
    clock.advance(500);
    assert_eq!(left().await, [5, -5, 2]);
}
