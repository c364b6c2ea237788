//! Who gets what, in which order, and what happens when it is too much.

use super::*;
use crate::embedded::outbox::{Amount, Waiting};
use std::fs;
use tollgate_core::audit::{Destination, Name, Parcel};

fn config_for(dir: &Path, destinations: &[(Destination, &str)]) -> EmbeddedConfig {
    let destinations = destinations.iter();
    EmbeddedConfig {
        destinations: destinations
            .map(|(to, identity)| (*to, (*identity).to_owned()))
            .collect(),
        ..config(dir)
    }
}

/// Runs a gateway that makes one call of each tenant.
async fn run(config: &EmbeddedConfig, first: u32, tenants: &[&str]) {
    let stores = Embedded::open(config, now()).expect("opens");
    for (n, tenant) in (first..).zip(tenants) {
        let hold = begin(&stores, n, tenant, 1).await;
        end(&stores, &hold, 1);
    }
    stores.close().expect("the disk takes it");
}

fn waiting(config: &EmbeddedConfig, to: Destination) -> Vec<Parcel> {
    let stores = Embedded::open(config, now()).expect("opens");
    stores.outbox().waiting(to, usize::MAX).expect("readable")
}

fn names(parcels: &[Parcel]) -> Vec<String> {
    parcels
        .iter()
        .map(|parcel| parcel.name.to_string())
        .collect()
}

const STORE: Destination = Destination::ObjectStore;

#[tokio::test]
async fn parcels_wait_oldest_first_until_they_have_arrived_for_each_destination_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config_for(
        dir.path(),
        &[(STORE, "s3"), (Destination::Collector, "otel")],
    );
    run(&config, 1, &["acme"]).await;
    run(&config, 2, &["globex", "acme"]).await;
    let stores = Embedded::open(&config, now()).expect("opens");
    let outbox = stores.outbox();
    let all = outbox.waiting(STORE, usize::MAX).expect("readable");
    assert_eq!(all.len(), 6, "{all:?}");
    assert_eq!(
        names(&all[..2]),
        [
            segment("acme", 1),
            "audit/acme/checkpoints/r1-000000000001.json".to_owned()
        ]
    );
    assert_eq!(outbox.waiting(STORE, 2).expect("readable"), all[..2]);
    for parcel in &all {
        let path = dir.path().join(parcel.name.to_string());
        assert_eq!(fs::metadata(path).expect("there").len(), parcel.bytes);
        assert!(outbox.waits(&parcel.name).expect("readable"));
    }
    let bytes = |parcels: &[Parcel]| parcels.iter().map(|parcel| parcel.bytes).sum::<u64>();
    let behind = outbox.behind(STORE).expect("readable");
    assert_eq!((behind.parcels, behind.bytes), (6, bytes(&all)));
    assert_eq!(behind.oldest, Some(now()));

    let gone: Vec<Name> = all[..3].iter().map(|parcel| parcel.name.clone()).collect();
    outbox.arrived(STORE, &gone).expect("writable");
    outbox.arrived(STORE, &gone).expect("passed over");
    let left = outbox.waiting(STORE, usize::MAX).expect("readable");
    assert_eq!(left, all[3..]);
    let behind = outbox.behind(STORE).expect("readable");
    assert_eq!((behind.parcels, behind.bytes), (3, bytes(&left)));
    let records = outbox.waiting(Destination::Collector, usize::MAX);
    assert_eq!(records.expect("readable").len(), 3, "and no checkpoints");
    assert!(
        outbox.waits(&gone[0]).expect("readable"),
        "for the collector"
    );
    assert!(!outbox.waits(&gone[1]).expect("readable"), "for nobody");
    drop(stores);
    let again = Embedded::open(&config, now()).expect("opens");
    assert_eq!(again.outbox().behind(STORE).expect("readable"), behind);
}

#[tokio::test]
async fn a_new_destination_gets_everything_sealed_so_far_and_one_that_is_gone_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let nobody = config_for(dir.path(), &[]);
    run(&nobody, 1, &["globex", "acme"]).await;
    run(&nobody, 3, &["acme"]).await;
    // What is open is not sealed, and what is foreign is nobody's.
    let stores = Embedded::open(&nobody, now()).expect("opens");
    let hold = begin(&stores, 4, "acme", 1).await;
    end(&stores, &hold, 1);
    stores.flush().expect("the disk takes it");
    drop(stores);
    fs::write(dir.path().join("audit/acme/notes.txt"), "x").expect("writable");

    let signed =
        |partition: &str, seq: u64| format!("audit/{partition}/checkpoints/r1-{seq:012}.json");
    let sealed = [
        segment("acme", 1),
        segment("acme", 2),
        signed("acme", 1),
        signed("acme", 2),
        segment("globex", 1),
        signed("globex", 1),
    ];
    let one = config_for(dir.path(), &[(STORE, "s3://one")]);
    assert_eq!(names(&waiting(&one, STORE)), sealed);
    run(&one, 5, &["globex"]).await;
    let stores = Embedded::open(&one, now()).expect("opens");
    let outbox = stores.outbox();
    let parcels = outbox.waiting(STORE, usize::MAX).expect("readable");
    assert_eq!(names(&parcels[..6]), sealed, "and what came later, later");
    assert_eq!(parcels.len(), 10, "{parcels:?}");
    let all: Vec<Name> = parcels.into_iter().map(|parcel| parcel.name).collect();
    outbox.arrived(STORE, &all).expect("writable");
    drop(stores);
    assert_eq!(waiting(&one, STORE), [], "the same as before");

    let two = config_for(dir.path(), &[(STORE, "s3://two")]);
    assert_eq!(waiting(&two, STORE).len(), 10, "another of its kind");
    assert_eq!(waiting(&nobody, STORE), []);
    assert_eq!(waiting(&two, STORE).len(), 10, "it was forgotten meanwhile");
}

fn bound(when_full: WhenFull) -> Waiting {
    Waiting::new(Bound {
        max_waiting: 1000,
        when_full,
    })
}

const fn amount(bytes: u64) -> Amount {
    Amount { parcels: 1, bytes }
}

#[test]
fn calls_are_refused_beyond_the_bound_and_go_again_when_a_tenth_of_it_is_free() {
    let waiting = bound(WhenFull::Refuse);
    for (more, full) in [(999, false), (1, false), (1, true), (500, true)] {
        waiting.enter(STORE, amount(more));
        assert_eq!(waiting.is_full(), full, "{more} more");
    }
    for (fewer, full) in [(500, true), (1, true), (99, true), (1, false)] {
        waiting.leave(STORE, amount(fewer));
        assert_eq!(waiting.is_full(), full, "{fewer} fewer");
    }
    waiting.enter(STORE, amount(100));
    assert!(!waiting.is_full(), "exactly the bound");
    waiting.enter(Destination::Collector, amount(5000));
    assert!(!waiting.is_full(), "records reach the store all the same");
    let admits = bound(WhenFull::Admit);
    admits.enter(STORE, amount(5000));
    assert!(!admits.is_full());
}

#[tokio::test]
async fn with_a_full_outbox_no_call_is_kept_refusals_are_and_it_ends_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = EmbeddedConfig {
        bound: Bound {
            max_waiting: 100,
            when_full: WhenFull::Refuse,
        },
        ..config_for(dir.path(), &[(STORE, "s3")])
    };
    run(&config, 1, &["acme"]).await;
    let stores = Embedded::open(&config, now()).expect("opens");
    assert!(stores.is_backlogged(), "also after a restart");
    let intend = async |n| {
        let id = record_id(n);
        let intent = Intent {
            subject: &subject(id, "acme", "bot"),
            hold: &Hold {
                id,
                keys: Vec::new().into(),
                amount: PicoUsd::ZERO,
            },
        };
        stores.records.intend(intent).await
    };
    let refusal = intend(2).await;
    let refusal = refusal.expect_err("nothing more is kept");
    let cause = std::error::Error::source(&refusal).map(ToString::to_string);
    assert_eq!(
        cause.as_deref(),
        Some("too many records wait for the object store")
    );
    stores.records.refuse(&Record {
        subject: subject(record_id(3), "acme", "bot"),
        ending: contract::refused(),
    });
    stores.flush().expect("the disk takes it");
    assert_eq!(read_back(dir.path(), "acme").len(), 2);

    let outbox = stores.outbox();
    let parcels = outbox.waiting(STORE, usize::MAX).expect("readable");
    let all: Vec<Name> = parcels.into_iter().map(|parcel| parcel.name).collect();
    outbox.arrived(STORE, &all).expect("writable");
    assert!(!stores.is_backlogged());
    intend(4).await.expect("kept");
}
