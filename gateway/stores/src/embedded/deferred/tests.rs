use tollgate_core::budget::BudgetKey;
use tollgate_core::call::Terms;
use tollgate_core::deferred::{Charge, Kind};
use tollgate_core::money::PicoUsd;
use tollgate_core::record::{Intent, Outcome, RecordLog as _, UsageSource};
use tollgate_testkit::contract::{daily, name, now, record_id, subject};

use super::*;
use crate::embedded::Embedded;
use crate::embedded::tests::config;

fn batch(tenant: &str, id: &str) -> RemoteId {
    RemoteId::new(&name(tenant), &name("openai"), Kind::Batch, id).expect("an id")
}

fn charge(record: RecordId, tenant: &str) -> Known {
    Known::Charge(Charge {
        record,
        keys: vec![daily(tenant, None).key],
        amount: PicoUsd::new(1_000),
        catalogue: Some("openai".into()),
        model: None,
        aliases: Vec::new(),
        lines: 0,
        terms: Terms::default(),
        at: now(),
    })
}

fn ending(cost: i128) -> Ending {
    Ending {
        cost: PicoUsd::new(cost),
        usage_source: UsageSource::Exact,
        adjusts: Some(record_id(1)),
        ..Ending::new(now(), Outcome::Completed)
    }
}

/// A call of `tenant` with nothing reserved, about to be made.
async fn intend(stores: &Embedded, record: RecordId, tenant: &str, amount: i128) {
    let hold = tollgate_core::budget::Hold {
        id: record,
        keys: vec![name(&format!("{tenant}/tenant/day:2026-11-19"))].into(),
        amount: PicoUsd::new(amount),
    };
    let intent = Intent {
        subject: &subject(record, tenant, "bot"),
        hold: &hold,
    };
    stores.records.intend(intent).await.expect("kept");
}

fn open(dir: &tempfile::TempDir) -> Embedded {
    Embedded::open(&config(dir.path()), now()).expect("opens")
}

async fn settled(stores: &Embedded, key: &BudgetKey) -> i128 {
    use tollgate_core::budget::BudgetStore as _;
    let balance = stores.budgets.balance(key).await.expect("a balance");
    balance.settled.as_pico()
}

#[tokio::test]
async fn a_charge_is_corrected_once_in_its_own_counters_and_is_gone_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = open(&dir);
    let id = batch("acme", "batch_1");
    intend(&stores, record_id(1), "acme", 1_000).await;
    stores
        .deferred
        .remember(&id, &charge(record_id(1), "acme"), now())
        .expect("kept");
    stores.records.conclude(record_id(1), &ending(1_000));
    intend(&stores, record_id(2), "acme", 0).await;
    assert!(stores.deferred.correct(&id, record_id(2), &ending(-400)));
    intend(&stores, record_id(3), "acme", 0).await;
    assert!(!stores.deferred.correct(&id, record_id(3), &ending(-400)));
    stores.records.conclude(record_id(3), &ending(0));
    stores.close().expect("closes");

    let stores = open(&dir);
    assert_eq!(stores.deferred.recall(&id, now()), None);
    let started: BudgetKey = name("acme/tenant/day:2026-11-19");
    assert_eq!(settled(&stores, &started).await, 1_000);
    let corrected = daily("acme", None).key;
    assert_eq!(settled(&stores, &corrected).await, -400);
}

#[tokio::test]
async fn killed_before_its_correction_is_written_a_charge_is_still_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = open(&dir);
    let id = batch("acme", "batch_1");
    let known = charge(record_id(1), "acme");
    stores.deferred.remember(&id, &known, now()).expect("kept");
    // As a kill leaves it: only what has been written is there.
    drop(stores);
    let stores = open(&dir);
    assert_eq!(stores.deferred.recall(&id, now()), Some(known));
}

#[tokio::test]
async fn the_same_id_is_another_thing_for_another_tenant_provider_or_kind() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = open(&dir);
    let known = charge(record_id(1), "acme");
    let id = batch("acme", "1");
    stores.deferred.remember(&id, &known, now()).expect("kept");
    let (acme, openai) = (name("acme"), name("openai"));
    for other in [
        batch("globex", "1"),
        RemoteId::new(&acme, &name("azure"), Kind::Batch, "1").expect("an id"),
        RemoteId::new(&acme, &openai, Kind::File, "1").expect("an id"),
    ] {
        assert_eq!(stores.deferred.recall(&other, now()), None);
        assert!(!stores.deferred.correct(&other, record_id(2), &ending(0)));
    }
    assert_eq!(stores.deferred.recall(&id, now()), Some(known));
}

#[tokio::test]
async fn what_is_too_old_is_forgotten_here_and_on_the_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = open(&dir);
    let known = charge(record_id(1), "acme");
    let (old, new) = (batch("acme", "old"), batch("acme", "new"));
    stores.deferred.remember(&old, &known, now()).expect("kept");
    let later = now().plus(KEPT_FOR).plus(std::time::Duration::from_secs(1));
    assert_eq!(stores.deferred.recall(&old, later), None);
    stores.deferred.remember(&new, &known, later).expect("kept");
    stores.close().expect("closes");
    let stores = open(&dir);
    assert_eq!(stores.deferred.recall(&old, now()), None);
    assert_eq!(stores.deferred.recall(&new, later), Some(known));
}

#[tokio::test]
async fn beyond_its_number_a_tenants_oldest_goes_and_no_other_tenants() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = open(&dir);
    let deferred = Deferred {
        kept_per_tenant: 2,
        ..Deferred::new(stores.records.journal().clone(), [])
    };
    let known = charge(record_id(1), "acme");
    for id in [
        batch("globex", "0"),
        batch("acme", "1"),
        batch("acme", "2"),
        batch("acme", "3"),
    ] {
        deferred.remember(&id, &known, now()).expect("kept");
    }
    let there = |tenant, id| deferred.recall(&batch(tenant, id), now()).is_some();
    assert!(there("globex", "0"));
    assert!(!there("acme", "1"));
    assert!(there("acme", "2") && there("acme", "3"));
}

#[tokio::test]
async fn a_correction_of_one_charge_is_not_made_to_another_under_the_same_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = open(&dir);
    let id = batch("acme", "1");
    let deferred = &stores.deferred;
    for record in [1, 2] {
        let known = charge(record_id(record), "acme");
        deferred.remember(&id, &known, now()).expect("kept");
    }
    assert!(!deferred.correct(&id, record_id(3), &ending(-400)));
    let of_second = Ending {
        adjusts: Some(record_id(2)),
        ..ending(-400)
    };
    assert!(deferred.correct(&id, record_id(3), &of_second));
}
