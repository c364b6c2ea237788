//! Several replicas: what they may take together, and what becomes of it when one of them or Redis
//! is gone.

use std::collections::HashSet;

use tollgate_core::budget::{Account, Balance, Budget, BudgetKey, Hold, Reserved};
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::notice::{Notice, NoticeBook};
use tollgate_testkit::contract::{daily, record_id};
use tollgate_testkit::wait::eventually;

use super::*;

/// A server of its own, for what others must not feel.
pub(super) fn alone() -> Server {
    Server::start(&[])
}

pub(super) async fn pair(redis: &RedisConfig, leases: bool) -> [Replica; 2] {
    [
        Replica::join("r1", redis.clone(), leases).await,
        Replica::join("r2", redis.clone(), leases).await,
    ]
}

async fn reserve(replica: &Replica, id: RecordId, budget: &Budget, amount: i128) -> Option<Hold> {
    let budgets = std::slice::from_ref(budget);
    let store = replica.fleet().budgets();
    let reserved = store
        .reserve(id, &Account::from(budgets), PicoUsd::new(amount), now())
        .await;
    match reserved.expect("the store is up") {
        Reserved::Held(hold) => Some(hold),
        Reserved::Exhausted { .. } => None,
    }
}

async fn is_refused(replica: &Replica, id: u32, budget: &Budget) -> bool {
    let store = replica.fleet().budgets();
    let budgets = std::slice::from_ref(budget);
    store
        .reserve(
            record_id(id),
            &Account::from(budgets),
            PicoUsd::new(1),
            now(),
        )
        .await
        .is_err()
}

async fn balance(replica: &Replica, key: &BudgetKey) -> Balance {
    replica.fleet().budgets().balance(key).await.expect("up")
}

/// Waits for another epoch, in which all of them take calls.
pub(super) async fn put_together_after(epoch: &str, replicas: &[&Replica]) {
    eventually("the counters are put together again", async || {
        replicas.iter().all(|replica| {
            let state = replica.fleet().state();
            state.open && state.epoch != epoch && replica.fleet().is_usable()
        })
    })
    .await;
}

/// What `calls` calls of `amount`, taken in turns by the replicas, got through.
async fn take_in_turns(
    replicas: &[Replica],
    first: u32,
    calls: u32,
    budget: &Budget,
    amount: i128,
) -> Vec<(usize, Hold)> {
    let mut held = Vec::new();
    for n in 0..calls {
        let turn = n as usize % replicas.len();
        if let Some(hold) = reserve(&replicas[turn], record_id(first + n), budget, amount).await {
            held.push((turn, hold));
        }
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_slices_use_a_cap_to_its_end_and_never_pass_it() {
    let redis = redis(SERVER.port(), "to-the-end");
    let replicas = pair(&redis, true).await;
    let budget = daily("acme", Some(1_000));
    let held = take_in_turns(&replicas, 0, 220, &budget, 5).await;
    assert_eq!(held.len(), 200, "all of it, and no more");
    for (turn, hold) in &held {
        replicas[*turn]
            .fleet()
            .budgets()
            .settle(hold, PicoUsd::new(3));
    }
    for replica in &replicas {
        replica.fleet().flush().await;
    }
    for replica in &replicas {
        let seen = balance(replica, &budget.key).await;
        assert_eq!(seen.settled, PicoUsd::new(600));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_replicas_race_for_one_cap_and_the_sum_holds() {
    let redis = redis(SERVER.port(), "race-of-three");
    let mut replicas = Vec::new();
    for name in ["r1", "r2", "r3"] {
        replicas.push(Arc::new(Replica::join(name, redis.clone(), true).await));
    }
    let budget = daily("acme", Some(10_000));
    let mut tasks = Vec::new();
    for task in 0..48 {
        let replica = replicas[task as usize % 3].clone();
        let budget = budget.clone();
        tasks.push(tokio::spawn(async move {
            let mut spent = 0;
            for round in 0..40_u32 {
                let id = record_id(10_000 * (task + 1) + round);
                if let Some(hold) = reserve(&replica, id, &budget, 70).await {
                    let cost = i128::from(round % 30);
                    replica.fleet().budgets().settle(&hold, PicoUsd::new(cost));
                    spent += cost;
                }
            }
            spent
        }));
    }
    let mut spent = 0;
    for task in tasks {
        spent += task.await.expect("no task panics");
    }
    assert!(spent <= 10_000, "{spent}");
    assert!(spent > 9_000, "most of it can be used: {spent}");
    for replica in &replicas {
        replica.fleet().flush().await;
    }
    let seen = balance(&replicas[0], &budget.key).await;
    assert_eq!(seen.settled, PicoUsd::new(spent));
    assert!(
        seen.settled.saturating_add(seen.reserved) <= PicoUsd::new(10_000),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_replica_held_is_not_given_to_others_until_it_has_said_what_it_used() {
    let redis = redis(SERVER.port(), "killed");
    let [mut one, two] = pair(&redis, true).await;
    let budget = daily("acme", Some(100));
    let held = reserve(&one, record_id(1), &budget, 30)
        .await
        .expect("room");
    one.fleet().flush().await;
    assert!(reserve(&two, record_id(2), &budget, 70).await.is_some());
    assert!(reserve(&two, record_id(3), &budget, 1).await.is_none());
    // Killed: neither settled nor given back. It comes back on the same disk, on which nothing
    // was written of this call.
    drop(held);
    let dir = std::mem::replace(&mut one.dir, tempfile::tempdir().expect("a directory"));
    drop(one);
    assert!(reserve(&two, record_id(4), &budget, 1).await.is_none());
    let again = Replica::join_at("r1", redis.clone(), true, dir).await;
    eventually("what was not used is free again", async || {
        reserve(&two, record_id(5), &budget, 30).await.is_some()
    })
    .await;
    assert!(reserve(&again, record_id(6), &budget, 1).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_leaves_gives_back_what_it_held_and_did_not_use() {
    let redis = redis(SERVER.port(), "leaves");
    let [mut one, two] = pair(&redis, true).await;
    let budget = daily("acme", Some(1_000));
    for n in 0..4 {
        let hold = reserve(&one, record_id(n), &budget, 50)
            .await
            .expect("room");
        one.fleet().budgets().settle(&hold, PicoUsd::new(10));
    }
    let fleet = one.fleet.take().expect("it is there");
    tokio::task::spawn_blocking(move || fleet.leave())
        .await
        .expect("it leaves");
    let seen = balance(&two, &budget.key).await;
    let expected = Balance {
        settled: PicoUsd::new(40),
        reserved: PicoUsd::ZERO,
    };
    assert_eq!(seen, expected);
    assert!(reserve(&two, record_id(9), &budget, 960).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_flush_nothing_is_taken_before_every_replica_has_said_what_it_used() {
    let server = alone();
    let redis = redis(server.port(), "flushed");
    let [one, two] = pair(&redis, true).await;
    let budget = daily("acme", Some(100));
    let hold = reserve(&one, record_id(1), &budget, 30)
        .await
        .expect("room");
    one.fleet().budgets().settle(&hold, PicoUsd::new(20));
    let held = reserve(&two, record_id(2), &budget, 40)
        .await
        .expect("room");
    let epoch = one.fleet().state().epoch;
    server.ask(&["FLUSHALL"]);
    // Whatever is taken from now on, the sum holds: 20 are spent, 40 reserved.
    put_together_after(&epoch, &[&one, &two]).await;
    let mut more = 0;
    for n in 10..60 {
        let replica = if n % 2 == 0 { &one } else { &two };
        let asked = replica.fleet().budgets();
        let budgets = std::slice::from_ref(&budget);
        let taken = asked
            .reserve(
                record_id(n),
                &Account::from(budgets),
                PicoUsd::new(1),
                now(),
            )
            .await;
        if let Ok(Reserved::Held(_)) = taken {
            more += 1;
        }
    }
    assert_eq!(more, 40);
    two.fleet().budgets().settle(&held, PicoUsd::new(40));
    two.fleet().flush().await;
    assert_eq!(balance(&one, &budget.key).await.settled, PicoUsd::new(60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_away_when_redis_forgets_is_waited_for() {
    let server = alone();
    let redis = redis(server.port(), "waited-for");
    let [mut one, two] = pair(&redis, true).await;
    let budget = daily("acme", Some(100));
    assert!(reserve(&one, record_id(1), &budget, 90).await.is_some());
    let dir = std::mem::replace(&mut one.dir, tempfile::tempdir().expect("a directory"));
    let member = one.fleet().member().to_owned();
    drop(one);
    server.ask(&["FLUSHALL"]);
    eventually("it is waited for", async || {
        two.fleet().state().lacking == std::slice::from_ref(&member)
    })
    .await;
    assert!(is_refused(&two, 2, &budget).await, "the 90 may be spent");
    let _one = Replica::join_at("r1", redis.clone(), true, dir).await;
    two.opened().await;
    eventually("it was not spent after all", async || {
        reserve(&two, record_id(3), &budget, 100).await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_gone_is_settled_at_its_claim_and_spoken_for_when_redis_forgets() {
    let server = alone();
    let redis = redis(server.port(), "gone");
    let [mut one, two] = pair(&redis, false).await;
    let budget = daily("acme", Some(100));
    assert!(reserve(&one, record_id(1), &budget, 60).await.is_some());
    let dir = std::mem::replace(&mut one.dir, tempfile::tempdir().expect("a directory"));
    drop(one);
    eventually("its claim counts as spent", async || {
        balance(&two, &budget.key).await.settled == PicoUsd::new(60)
    })
    .await;
    let epoch = two.fleet().state().epoch;
    server.ask(&["FLUSHALL"]);
    // Nobody waits for it: the one that lives knows what it had claimed.
    put_together_after(&epoch, &[&two]).await;
    assert!(reserve(&two, record_id(2), &budget, 41).await.is_none());
    assert!(reserve(&two, record_id(3), &budget, 30).await.is_some());
    // It comes back, and had spent nothing after all.
    let one = Replica::join_at("r1", redis.clone(), false, dir).await;
    eventually("it has said so", async || {
        reserve(&one, record_id(4), &budget, 70).await.is_some()
    })
    .await;
    assert!(reserve(&two, record_id(5), &budget, 1).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_what_it_had_confirmed_is_found_out() {
    let server = alone();
    let redis = redis(server.port(), "lost");
    let [one, two] = pair(&redis, false).await;
    let budget = daily("acme", Some(100));
    assert!(reserve(&one, record_id(1), &budget, 30).await.is_some());
    assert!(reserve(&two, record_id(2), &budget, 30).await.is_some());
    let epoch = one.fleet().state().epoch;
    // As after a failover to a replica that had not got the last changes.
    let marker = "lost:{acme}:marker";
    let field = format!("visit:{}", one.fleet().member());
    server.ask(&["HSET", marker, &field, "1"]);
    server.ask(&["DEL", "lost:{acme}:money:tenant/day:2026-11-18"]);
    assert!(is_refused(&one, 3, &budget).await);
    assert!(is_refused(&two, 4, &budget).await);
    put_together_after(&epoch, &[&one, &two]).await;
    assert!(reserve(&two, record_id(4), &budget, 41).await.is_none());
    assert!(reserve(&one, record_id(5), &budget, 40).await.is_some());
    assert!(reserve(&two, record_id(6), &budget, 1).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_holds_calls_up_no_longer_than_the_bound() {
    let server = alone();
    let mut redis = redis(server.port(), "frozen");
    redis.max_wait = Duration::from_millis(250);
    let replica = Replica::join("r1", redis, false).await;
    let budget = daily("acme", Some(100));
    eventually("it takes", async || !is_refused(&replica, 1, &budget).await).await;
    server.freeze();
    let started = std::time::Instant::now();
    let calls = (2..30).map(|n| is_refused(&replica, n, &budget));
    let refused = futures(calls.collect()).await;
    assert!(refused.iter().all(|refused| *refused), "fail closed");
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(5),
        "28 calls at once took {took:?}"
    );
    server.thaw();
    eventually("it takes again", async || {
        !is_refused(&replica, 40, &budget).await
    })
    .await;
}

/// Waits for all of them, at the same time.
async fn futures<F: Future<Output = bool>>(all: Vec<F>) -> Vec<bool> {
    let mut all: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut done = vec![None; all.len()];
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_or_takes_no_changes_refuses_and_recovers_without_a_restart() {
    let server = alone();
    let replica = Replica::join("r1", redis(server.port(), "full"), false).await;
    let budget = daily("acme", Some(1_000));
    assert!(reserve(&replica, record_id(1), &budget, 1).await.is_some());
    for (n, (fault, mended)) in [
        (
            ["CONFIG", "SET", "maxmemory", "1"].as_slice(),
            ["CONFIG", "SET", "maxmemory", "0"].as_slice(),
        ),
        (
            &["REPLICAOF", "127.0.0.1", "1"],
            &["REPLICAOF", "NO", "ONE"],
        ),
        (
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        server.ask(fault);
        let n = u32::try_from(n).expect("a few") * 1_000;
        eventually("it refuses", async || {
            is_refused(&replica, n + 10, &budget).await
        })
        .await;
        server.ask(mended);
        eventually("it takes again", async || {
            !is_refused(&replica, n + 11, &budget).await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_and_comes_back_empty_is_filled_again() {
    let mut server = alone();
    let redis = redis(server.port(), "crashed");
    let [one, two] = pair(&redis, true).await;
    let budget = daily("acme", Some(100));
    assert!(reserve(&one, record_id(1), &budget, 60).await.is_some());
    server.kill();
    eventually("nothing is taken", async || {
        is_refused(&two, 2, &budget).await
    })
    .await;
    server.restart();
    eventually("it takes again", async || {
        two.fleet().is_usable() && !is_refused(&two, 3, &budget).await
    })
    .await;
    assert!(reserve(&two, record_id(4), &budget, 40).await.is_none());
    // What the other one holds beyond its use is called back first.
    eventually("the rest is there", async || {
        reserve(&two, record_id(5), &budget, 39).await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_would_throw_counters_away_is_not_used() {
    let server = alone();
    server.ask(&["CONFIG", "SET", "maxmemory", "100mb"]);
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    let dir = tempfile::tempdir().expect("a directory");
    let replica = Replica::start_at("r1", redis(server.port(), "evicts"), true, dir);
    until_true("it says why", || {
        let fault = replica.fleet().state().fault;
        fault.is_some_and(|fault| fault.contains("maxmemory-policy volatile-lru"))
    })
    .await;
    assert!(!replica.fleet().is_usable());
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    replica.opened().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_of_sums_beyond_what_a_double_holds() {
    let redis = redis(SERVER.port(), "doubles");
    let [one, two] = pair(&redis, false).await;
    // 2^53 pico-dollars are 9,007 USD; from there on a double skips every other number.
    let edge = 1_i128 << 53;
    let budget = daily("acme", Some(edge * 1_000 + 3));
    assert!(
        reserve(&one, record_id(1), &budget, edge * 400 + 1)
            .await
            .is_some()
    );
    assert!(
        reserve(&two, record_id(2), &budget, edge * 600 + 3)
            .await
            .is_none()
    );
    assert!(
        reserve(&two, record_id(3), &budget, edge * 600 + 2)
            .await
            .is_some()
    );
    assert!(reserve(&one, record_id(4), &budget, 1).await.is_none());
    let seen = balance(&one, &budget.key).await;
    assert_eq!(seen.reserved, PicoUsd::new(edge * 1_000 + 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_a_cap_is_noticed_by_one_replica_only() {
    let redis = redis(SERVER.port(), "notices");
    let replicas = pair(&redis, true).await;
    let notice = |n: u32| {
        let balance = Balance {
            settled: PicoUsd::new(80),
            reserved: PicoUsd::ZERO,
        };
        let key = daily("acme", Some(100)).key;
        Notice::new(record_id(n), now(), key, 80, PicoUsd::new(100), balance)
    };
    let mut new = 0;
    for (n, replica) in (0..).zip(replicas.iter().chain(&replicas)) {
        let kept = replica.fleet().notices.keep(&notice(n)).await;
        new += usize::from(kept.expect("up"));
    }
    assert_eq!(new, 1);
}

#[test]
fn each_data_directory_is_a_member_of_its_own() {
    let dirs: Vec<_> = (0..20)
        .map(|_| tempfile::tempdir().expect("a directory"))
        .collect();
    let ids: HashSet<_> = dirs
        .iter()
        .map(|dir| id(dir.path()).expect("an id"))
        .collect();
    assert_eq!(ids.len(), dirs.len());
    let again = id(dirs[0].path()).expect("an id");
    assert!(ids.contains(&again));
}
