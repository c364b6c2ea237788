//! Batches that one replica starts and another one ends.

use tollgate_core::call::Terms;
use tollgate_core::deferred::{Charge, DeferredCharges as _, Kind, Known, RemoteId};
use tollgate_core::money::PicoUsd;
use tollgate_core::record::{Ending, Outcome, UsageSource};
use tollgate_testkit::contract::{daily, record_id};

use super::fleet::{alone, pair};
use super::*;

fn batch() -> (RemoteId, Known) {
    let id = RemoteId::new(&name("acme"), &name("openai"), Kind::Batch, "batch_1");
    let charge = Charge {
        record: record_id(1),
        keys: vec![daily("acme", None).key],
        amount: PicoUsd::new(1_000),
        catalogue: Some("openai".into()),
        model: None,
        aliases: Vec::new(),
        lines: 0,
        terms: Terms::default(),
        at: now(),
    };
    (id.expect("an id"), Known::Charge(charge))
}

fn ending() -> Ending {
    Ending {
        cost: PicoUsd::new(-400),
        usage_source: UsageSource::Exact,
        adjusts: Some(record_id(1)),
        ..Ending::new(now(), Outcome::Completed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charge_of_one_replica_is_known_to_all_and_corrected_by_one() {
    let replicas = pair(&redis(SERVER.port(), "deferred"), true).await;
    let (id, known) = batch();
    let of = |replica: &Replica| replica.fleet().deferred.clone();
    of(&replicas[0]).remember(&id, &known, now()).expect("kept");
    until_true("the other knows it", || {
        of(&replicas[1]).recall(&id, now()).as_ref() == Some(&known)
    })
    .await;
    let corrections = replicas.iter().map(|replica| {
        let (deferred, id) = (of(replica), id.clone());
        std::thread::spawn(move || deferred.correct(&id, record_id(2), &ending()))
    });
    let corrections: Vec<_> = corrections.collect();
    let corrected = corrections.into_iter().map(|one| one.join().expect("ends"));
    assert_eq!(corrected.filter(|corrected| *corrected).count(), 1);
    until_true("everybody has forgotten it", || {
        replicas
            .iter()
            .all(|replica| of(replica).recall(&id, now()).is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_nothing_is_corrected_and_the_charge_stays() {
    let server = alone();
    let mut config = redis(server.port(), "deferred");
    config.max_wait = Duration::from_millis(250);
    let replica = Replica::join("r1", config, true).await;
    let deferred = replica.fleet().deferred.clone();
    let (id, known) = batch();
    deferred.remember(&id, &known, now()).expect("kept here");
    server.freeze();
    assert!(!deferred.correct(&id, record_id(2), &ending()));
    assert_eq!(deferred.recall(&id, now()).as_ref(), Some(&known));
    server.thaw();
    until_true("it is corrected", || {
        deferred.correct(&id, record_id(2), &ending())
    })
    .await;
}
