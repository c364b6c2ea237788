use std::path::Path;

use tollgate_core::budget::{Account, BudgetStore, Counters, Hold, Reserved, Scope};
use tollgate_core::money::PicoUsd;
use tollgate_core::rate::{Counted, Limit, Paced, RateKey, RateStore, Size};
use tollgate_core::record::{Ending, Intent, Outcome, RecordLog, UsageSource};
use tollgate_core::registry::{Liveness, Revocation, TokenRegistry};
use tollgate_testkit::contract::{caller, completed, daily, name, now, record_id, subject};

use super::*;
use crate::embedded::tests::{config, read_back};
use crate::embedded::{Embedded, Switch};

/// A gateway's stores behind their switch.
struct Side {
    stores: Embedded,
    switch: Switch,
}

fn first(dir: &Path) -> Side {
    let stores = Embedded::open(&config(dir), now()).expect("opened");
    let switch = Switch::here(stores.ledgers());
    Side { stores, switch }
}

/// The old side lets go, the new one takes over what it has left.
fn hand_over(dir: &Path, old: Embedded, switch: &Switch) -> (Side, Inherited, Receiver) {
    let told = switch.turn_away();
    let taken = old.rates.taken();
    old.hand_over().expect("flushed");
    let stores = Embedded::take_over(&config(dir), now()).expect("taken over");
    let sent = serde_json::to_vec(&taken).expect("JSON");
    stores
        .rates
        .put(serde_json::from_slice(&sent).expect("read back"));
    let inherited = Inherited::new(stores.ledgers(), stores.inherited());
    let switch = Switch::here(stores.ledgers());
    (Side { stores, switch }, inherited, told)
}

type Receiver = std::sync::mpsc::Receiver<Told>;

/// As it comes out at the other end of a socket.
fn carried(told: &Receiver) -> Vec<Told> {
    told.try_iter()
        .map(|told| {
            let sent = serde_json::to_vec(&told).expect("JSON");
            let read: Told = serde_json::from_slice(&sent).expect("read back");
            assert_eq!(read, told, "nothing is lost on the way");
            read
        })
        .collect()
}

async fn begin(switch: &Switch, n: u32, tenant: &str, cap: i128, amount: i128) -> Option<Hold> {
    let id = record_id(n);
    let account = Account::from(&[daily(tenant, Some(cap))]);
    let reserved = switch.reserve(id, &account, PicoUsd::new(amount), now());
    let Reserved::Held(hold) = reserved.await.expect("here") else {
        return None;
    };
    let intent = Intent {
        subject: &subject(id, tenant, "bot"),
        hold: &hold,
    };
    switch.intend(intent).await.expect("kept");
    Some(hold)
}

fn end(switch: &Switch, hold: &Hold, cost: i128) {
    let ending = Ending {
        cost: PicoUsd::new(cost),
        ..completed(cost)
    };
    switch.settle(hold, ending.cost);
    switch.conclude(hold.id, &ending);
}

#[tokio::test]
async fn a_call_that_outlives_its_process_is_held_by_the_next_and_recorded_there_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let Side { stores, switch } = first(dir.path());
    let before = begin(&switch, 1, "acme", 100, 10).await.expect("room");
    end(&switch, &before, 7);
    let across = begin(&switch, 2, "acme", 100, 60).await.expect("room");
    let lost = begin(&switch, 3, "acme", 100, 20).await.expect("room");

    let (new, inherited, told) = hand_over(dir.path(), stores, &switch);
    assert_eq!(inherited.len(), 2);
    let key = daily("acme", None).key;
    let balance = new.switch.balance(&key).await.expect("here");
    assert_eq!(balance.settled, PicoUsd::new(7));
    assert_eq!(balance.reserved, PicoUsd::new(80), "both are held");
    assert!(
        begin(&new.switch, 4, "acme", 100, 14).await.is_none(),
        "the cap holds over both processes"
    );

    end(&switch, &across, 41);
    for told in carried(&told) {
        let settled = inherited.hear(told.clone());
        assert_eq!(settled.map(|(_, cost)| cost), Some(PicoUsd::new(41)));
        assert_eq!(inherited.hear(told), None, "told twice, it ends once");
    }
    assert_eq!(inherited.interrupt(now()), 1, "the old process is gone");
    let balance = new.switch.balance(&key).await.expect("here");
    assert_eq!(balance.settled, PicoUsd::new(7 + 41 + 20));
    assert_eq!(balance.reserved, PicoUsd::ZERO);
    new.stores.close().expect("at rest");

    let records = read_back(dir.path(), "acme");
    let ends: Vec<_> = records
        .iter()
        .map(|record| (record.subject.id, record.ending.outcome, record.ending.cost))
        .collect();
    let cost = PicoUsd::new;
    assert_eq!(ends.len(), 3, "{ends:?}");
    for end in [
        (before.id, Outcome::Completed, cost(7)),
        (across.id, Outcome::Completed, cost(41)),
        (lost.id, Outcome::Interrupted, cost(20)),
    ] {
        assert!(ends.contains(&end), "{end:?} in {ends:?}");
    }
}

#[tokio::test]
async fn killed_after_it_took_over_a_start_recovers_what_both_had_open() {
    let dir = tempfile::tempdir().expect("a directory");
    let Side { stores, switch } = first(dir.path());
    let across = begin(&switch, 1, "acme", 100, 60).await.expect("room");
    let (new, inherited, _told) = hand_over(dir.path(), stores, &switch);
    let own = begin(&new.switch, 2, "acme", 100, 30).await.expect("room");
    assert_eq!(inherited.len(), 1);
    // As a kill does: nothing is flushed.
    drop(new);
    let stores = Embedded::open(&config(dir.path()), now()).expect("opened");
    assert_eq!(stores.interrupted(), 2);
    stores.close().expect("at rest");
    let records = read_back(dir.path(), "acme");
    assert_eq!(records.len(), 2);
    for hold in [across, own] {
        let record = records.iter().find(|record| record.subject.id == hold.id);
        let ending = &record.expect("a record").ending;
        assert_eq!(ending.usage_source, UsageSource::Interrupted);
        assert_eq!(ending.cost, hold.amount);
    }
}

#[tokio::test]
async fn away_nothing_is_admitted_and_nobody_writes_into_the_successors_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let Side { stores, switch } = first(dir.path());
    let left_behind = stores.ledgers();
    let (new, _inherited, _told) = hand_over(dir.path(), stores, &switch);
    let account = Account::from(&[daily("acme", None)]);
    let reserved = switch.reserve(record_id(1), &account, PicoUsd::new(1), now());
    assert!(reserved.await.is_err());
    let held = Hold {
        id: record_id(1),
        keys: Counters::default(),
        amount: PicoUsd::ZERO,
    };
    let intent = Intent {
        subject: &subject(record_id(1), "acme", "bot"),
        hold: &held,
    };
    assert!(switch.intend(intent).await.is_err());
    let kept = left_behind.records.intend(intent).await;
    assert!(
        kept.is_err(),
        "the journal is closed to whoever still holds it"
    );
    new.stores.close().expect("at rest");
    assert_eq!(read_back(dir.path(), "acme"), []);
}

#[tokio::test]
async fn a_revocation_by_the_successor_reaches_the_table_left_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let Side { stores, switch } = first(dir.path());
    let caller = caller("acme", "bot", "t1", "token-1");
    switch.register(&caller, None).await.expect("registered");
    let (new, _inherited, _told) = hand_over(dir.path(), stores, &switch);
    let (tell, told) = std::sync::mpsc::channel();
    new.switch.tell_revocations(tell);
    assert_eq!(switch.liveness(&caller).expect("known"), Liveness::Live);
    let what = Revocation::Task {
        tenant: name("acme"),
        task: name("t1"),
    };
    let ended = new.switch.revoke(&what, now()).await.expect("revoked");
    assert_eq!(ended, 1, "the successor knows the token");
    switch.show_revoked(&told.try_recv().expect("told"));
    assert_eq!(switch.liveness(&caller).expect("known"), Liveness::Revoked);
}

#[tokio::test]
async fn places_and_buckets_go_along_and_a_call_frees_its_place_from_afar() {
    let dir = tempfile::tempdir().expect("a directory");
    let Side { stores, switch } = first(dir.path());
    let limit = Limit {
        key: RateKey {
            tenant: name("acme"),
            scope: Scope::Tenant,
            counted: Counted::Concurrent,
        },
        size: Size::AtOnce(2.try_into().expect("positive")),
    };
    let limits = [limit];
    let admit = |switch: &Switch, n| {
        let paced = switch.admit(record_id(n), &limits, 0);
        futures_now(paced)
    };
    let Ok(Paced::Go(pass)) = admit(&switch, 1) else {
        panic!("there is room");
    };
    let (new, inherited, told) = hand_over(dir.path(), stores, &switch);
    assert!(matches!(admit(&new.switch, 2), Ok(Paced::Go(_))));
    let third = admit(&new.switch, 3);
    assert!(matches!(third, Ok(Paced::Wait { .. })), "{third:?}");
    switch.release(&pass, None);
    for told in carried(&told) {
        inherited.hear(told);
    }
    assert!(matches!(admit(&new.switch, 3), Ok(Paced::Go(_))));
}

/// The answer of what needs no waiting.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("it waits"),
    }
}
