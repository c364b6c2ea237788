//! What every store of rates must do. Time cannot be moved here: limits are so slow that nothing
//! flows back while a case is played, or so fast that everything has.

use std::time::Duration;

use tollgate_core::budget::Scope;
use tollgate_core::rate::{Counted, Limit, Paced, Pass, RateKey, RateLimit, RateStore, Size};

use super::{Stores, name, record_id};

/// A limit of `burst` at once, of which one comes back in a minute.
fn slow(tenant: &str, scope: &Scope, counted: Counted, burst: u64) -> Limit {
    let size = Size::Rate(RateLimit {
        per_minute: 1.try_into().expect("not zero"),
        burst: burst.try_into().expect("not zero"),
    });
    limit(tenant, scope, counted, size)
}

/// A limit on calls under way.
fn at_once(tenant: &str, scope: &Scope, most: u32) -> Limit {
    let size = Size::AtOnce(most.try_into().expect("not zero"));
    limit(tenant, scope, Counted::Concurrent, size)
}

fn limit(tenant: &str, scope: &Scope, counted: Counted, size: Size) -> Limit {
    Limit {
        key: RateKey {
            tenant: name(tenant),
            scope: scope.clone(),
            counted,
        },
        size,
    }
}

fn bot() -> Scope {
    Scope::Agent(name("bot"))
}

/// The pass, or the limit that has none and the time to wait.
async fn admit(
    store: &dyn RateStore,
    n: u32,
    limits: &[Limit],
    tokens: u64,
) -> Result<Pass, (RateKey, Duration)> {
    let paced = store.admit(record_id(n), limits, tokens).await;
    match paced.expect("the store is up") {
        Paced::Go(pass) => Ok(pass),
        Paced::Wait { key, retry_after } => Err((key, retry_after)),
        Paced::Free => panic!("there are limits"),
    }
}

/// Bursts, waits, and buckets of their own.
pub async fn rates_are_counted_per_tenant_and_scope(stores: &dyn Stores) {
    let store = stores.rates();
    let of = |tenant: &str, scope: &Scope| [slow(tenant, scope, Counted::Requests, 5)];
    for n in 0..5 {
        let limits = of("paced", &Scope::Tenant);
        assert!(admit(&*store, 400 + n, &limits, 0).await.is_ok(), "{n}");
    }
    let limits = of("paced", &Scope::Tenant);
    let (key, retry_after) = admit(&*store, 405, &limits, 0)
        .await
        .expect_err("the burst is used up");
    assert_eq!(key, limits[0].key);
    assert!(
        !retry_after.is_zero() && retry_after.as_secs() <= 60,
        "{retry_after:?}"
    );
    for (n, (tenant, scope)) in (410..).zip([
        ("paced", bot()),
        ("paced", Scope::Model(name("gpt-5*"))),
        ("unpaced", Scope::Tenant),
    ]) {
        let limits = of(tenant, &scope);
        assert!(admit(&*store, n, &limits, 0).await.is_ok(), "{scope}");
    }
    let free = store.admit(record_id(420), &[], 7).await;
    assert_eq!(free.expect("the store is up"), Paced::Free);
}

/// A call that one limit refuses takes from none, and is told the limit with the longest wait.
pub async fn a_call_takes_from_all_limits_or_from_none(stores: &dyn Stores) {
    let store = stores.rates();
    let tenant = slow("all-paces", &Scope::Tenant, Counted::Requests, 3);
    let agent = slow("all-paces", &bot(), Counted::Requests, 1);
    let tokens = slow("all-paces", &Scope::Tenant, Counted::Tokens, 10);
    let places = at_once("all-paces", &bot(), 2);
    let all = [
        tenant.clone(),
        agent.clone(),
        tokens.clone(),
        places.clone(),
    ];
    assert!(admit(&*store, 430, &all, 4).await.is_ok());
    for n in 0..20 {
        let (key, _) = admit(&*store, 431 + n, &all, 3).await.expect_err("one");
        assert_eq!(key, agent.key, "the agent's one call is used up");
    }
    let (key, _) = admit(&*store, 460, &all, 10).await.expect_err("two");
    assert_eq!(key, tokens.key, "four tokens take longer than one call");
    // Nothing was taken by those 21: two calls, six tokens and a place are left.
    let rest = [tenant, tokens, places];
    assert!(admit(&*store, 461, &rest, 6).await.is_ok());
    assert!(admit(&*store, 462, &rest[..1], 0).await.is_ok());
    for limit in rest {
        let (key, _) = admit(&*store, 463, std::slice::from_ref(&limit), 1)
            .await
            .expect_err("used up");
        assert_eq!(key, limit.key);
    }
}

/// Places are freed when calls end, once each, however often either is said.
pub async fn places_are_taken_and_freed_once_each(stores: &dyn Stores) {
    let store = stores.rates();
    let limits = [at_once("places", &Scope::Tenant, 2)];
    let one = admit(&*store, 470, &limits, 0).await.expect("room");
    let again = admit(&*store, 470, &limits, 0).await.expect("the same");
    assert_eq!(one, again, "asking twice takes once");
    let two = admit(&*store, 471, &limits, 0).await.expect("room");
    assert!(admit(&*store, 472, &limits, 0).await.is_err());
    store.release(&one, None);
    store.release(&one, Some(3));
    stores.flush().await;
    let three = admit(&*store, 473, &limits, 0).await.expect("one is free");
    assert!(admit(&*store, 474, &limits, 0).await.is_err());
    // A narrower limit counts those under way as well.
    store.release(&two, None);
    stores.flush().await;
    let narrow = [at_once("places", &Scope::Tenant, 1)];
    assert!(admit(&*store, 475, &narrow, 0).await.is_err());
    store.release(&three, None);
    stores.flush().await;
    assert!(admit(&*store, 476, &narrow, 0).await.is_ok());
}

/// Tokens are taken by estimate; what was not used comes back, what was used beyond it is owed,
/// and an unknown use stays as estimated.
pub async fn tokens_are_corrected_by_their_real_count(stores: &dyn Stores) {
    let store = stores.rates();
    let of = |tenant: &str| [slow(tenant, &Scope::Tenant, Counted::Tokens, 1_000)];
    let limits = of("corrected");
    let one = admit(&*store, 480, &limits, 900).await.expect("room");
    assert!(admit(&*store, 481, &limits, 200).await.is_err());
    store.release(&one, Some(100));
    store.release(&one, Some(0));
    stores.flush().await;
    let two = admit(&*store, 482, &limits, 900).await.expect("900 left");
    store.release(&two, None);
    stores.flush().await;
    let (key, _) = admit(&*store, 483, &limits, 900).await.expect_err("none");
    assert_eq!(key, limits[0].key);

    let limits = of("owing");
    let pass = admit(&*store, 484, &limits, 10).await.expect("room");
    store.release(&pass, Some(1_030));
    stores.flush().await;
    let (_, wait) = admit(&*store, 485, &limits, 1).await.expect_err("a debt");
    assert!(wait > Duration::from_secs(29 * 60), "{wait:?}");
    assert!(wait <= Duration::from_secs(31 * 60), "{wait:?}");
    assert!(admit(&*store, 486, &limits, 0).await.is_ok(), "no tokens");
}

/// A call larger than a bucket is admitted by a full one, which then owes, for an hour at most.
pub async fn a_call_larger_than_its_bucket_goes_when_it_is_full(stores: &dyn Stores) {
    let store = stores.rates();
    let limits = [slow("oversize", &Scope::Tenant, Counted::Tokens, 5)];
    let huge = admit(&*store, 490, &limits, u64::MAX).await.expect("full");
    let (_, wait) = admit(&*store, 491, &limits, 1).await.expect_err("a debt");
    assert!(wait <= Duration::from_secs(61 * 60), "{wait:?}");
    store.release(&huge, Some(0));
    stores.flush().await;
    let small = admit(&*store, 492, &limits, 1).await.expect("full again");
    assert!(admit(&*store, 493, &limits, 6).await.is_err(), "not full");
    store.release(&small, Some(0));
    stores.flush().await;
    assert!(admit(&*store, 494, &limits, 6).await.is_ok());
}

/// When a limit changes, what was taken stays taken and flows back at the new rate.
pub async fn a_limit_that_changes_forgets_nothing(stores: &dyn Stores) {
    let store = stores.rates();
    let before = [slow("resized", &Scope::Tenant, Counted::Tokens, 100)];
    let pass = admit(&*store, 500, &before, 100).await.expect("full");
    let wider = [slow("resized", &Scope::Tenant, Counted::Tokens, 130)];
    assert!(admit(&*store, 501, &wider, 40).await.is_err(), "30 came");
    assert!(admit(&*store, 502, &wider, 30).await.is_ok());
    store.release(&pass, Some(20));
    stores.flush().await;
    let narrow = [slow("resized", &Scope::Tenant, Counted::Tokens, 60)];
    assert!(admit(&*store, 503, &narrow, 15).await.is_err(), "50 taken");
    assert!(admit(&*store, 504, &narrow, 10).await.is_ok());
    let fast = Size::Rate(RateLimit {
        per_minute: 1_000_000_000.try_into().expect("not zero"),
        burst: 60.try_into().expect("not zero"),
    });
    let fast = [limit("resized", &Scope::Tenant, Counted::Tokens, fast)];
    // Who comes back when told is admitted.
    let mut answer = admit(&*store, 505, &fast, 60).await;
    if let Err((_, retry_after)) = answer {
        tokio::time::sleep(retry_after).await;
        answer = admit(&*store, 506, &fast, 60).await;
    }
    assert!(answer.is_ok(), "{answer:?}");
}

/// 64 tasks race for three places; no more are ever under way, and none is lost.
pub async fn places_hold_when_64_tasks_race_for_them(stores: &dyn Stores) {
    use std::sync::atomic::{AtomicU32, Ordering};
    let store = stores.rates();
    let under_way = std::sync::Arc::new(AtomicU32::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (store, under_way) = (store.clone(), under_way.clone());
            tokio::spawn(async move {
                let limits = [at_once("raced", &Scope::Tenant, 3)];
                let mut served = 0;
                for round in 0..50 {
                    let id = 200_000 + task * 1_000 + round;
                    let Ok(pass) = admit(&*store, id, &limits, 0).await else {
                        continue;
                    };
                    served += 1;
                    assert!(under_way.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    store.release(&pass, None);
                }
                served
            })
        })
        .collect();
    let mut served = 0;
    for task in tasks {
        served += task.await.expect("no task panics");
    }
    assert!(served > 0, "some of them got through");
    stores.flush().await;
    let limits = [at_once("raced", &Scope::Tenant, 3)];
    for n in 0..3 {
        assert!(admit(&*store, 510 + n, &limits, 0).await.is_ok(), "{n}");
    }
    assert!(admit(&*store, 513, &limits, 0).await.is_err());
}
