//! What is sealed when, and what a crash at any point of sealing leaves behind.

use super::crash::{Step, Stepped, copy_dir, lengths, open_with_takers, writable};
use super::*;
use crate::embedded::chain::Which;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use tollgate_core::audit::{Checkpoint, Destination, Name};

/// Everything that is signed holds, and is about a line of the partition.
pub(super) fn check_signatures(dir: &Path) -> usize {
    let key = config(dir).key;
    let audit = dir.join("audit");
    let mut lines = BTreeMap::new();
    let mut signed = Vec::new();
    for path in lengths(&audit).into_keys() {
        let name: Name = format!("audit/{}", path.display()).parse().expect("a name");
        let text = fs::read_to_string(audit.join(&path)).expect("readable");
        if path
            .parent()
            .is_some_and(|dir| dir.ends_with("checkpoints"))
        {
            signed.push(serde_json::from_str::<Checkpoint>(&text).expect("a checkpoint"));
            continue;
        }
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let chain = (
                name.partition.clone(),
                value["tollgate.replica.id"].as_str().map(str::to_owned),
                value["tollgate.seq"].as_u64(),
            );
            lines.insert(chain, line_hash(line.as_bytes()));
        }
    }
    for checkpoint in &signed {
        let keys = std::slice::from_ref(key.public());
        assert_eq!(checkpoint.verify(keys), Ok(()), "{checkpoint:?}");
        let chain = (
            checkpoint.partition.clone(),
            Some(checkpoint.replica.to_string()),
            Some(checkpoint.seq),
        );
        assert_eq!(lines.get(&chain), Some(&checkpoint.hash), "{checkpoint:?}");
    }
    signed.len()
}

fn waiting(dir: &Path, to: Destination) -> Vec<String> {
    let db = rusqlite::Connection::open(dir.join("state.db")).expect("a database");
    let sql = "SELECT name FROM outbox WHERE destination = ?1 ORDER BY id";
    let mut names = db.prepare(sql).expect("a table");
    let names = names.query_map([to.as_str()], |row| row.get(0));
    names
        .expect("rows")
        .map(|name| name.expect("a name"))
        .collect()
}

fn mode(dir: &Path, name: &str) -> u32 {
    let met = fs::metadata(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    met.permissions().mode() & 0o777
}

fn checkpoint(partition: &str, seq: u64) -> String {
    format!("audit/{partition}/checkpoints/r1-{seq:012}.json")
}

async fn play(stores: &mut Stepped, steps: &[Step]) {
    for step in steps {
        stores.play(step).await;
    }
}

/// A call of `acme` from intent to record, and a checkpoint of the database.
async fn call(stores: &mut Stepped) {
    stores.play(&Step::Begin { tenant: 0 }).await;
    stores.end_one();
    let steps = [Step::Flush, Step::Sync, Step::Ship, Step::Checkpoint];
    play(stores, &steps).await;
}

#[tokio::test]
async fn a_partition_is_sealed_once_its_oldest_record_has_waited_long_enough() {
    let mut stores = Stepped::new();
    call(&mut stores).await;
    let path = stores.dir.path().to_owned();
    stores.now = stores.now.plus(Duration::from_secs(59));
    call(&mut stores).await;
    assert_eq!(waiting(&path, Destination::ObjectStore), [""; 0]);
    assert_eq!(mode(&path, &segment("acme", 1)) & 0o200, 0o200);
    stores.now = stores.now.plus(Duration::from_secs(1));
    stores.play(&Step::Checkpoint).await;
    let sealed = [segment("acme", 1), checkpoint("acme", 2)];
    assert_eq!(waiting(&path, Destination::ObjectStore), sealed);
    assert_eq!(waiting(&path, Destination::Collector), sealed[..1]);
    for name in &sealed {
        assert_eq!(mode(&path, name), 0o444, "{name}");
    }
    assert_eq!(check_signatures(&path), 1);

    // What comes next begins another segment, and is as patient.
    call(&mut stores).await;
    stores.play(&Step::Wait).await;
    stores.play(&Step::Checkpoint).await;
    let more = [segment("acme", 3), checkpoint("acme", 3)];
    assert_eq!(
        waiting(&path, Destination::ObjectStore),
        [sealed, more].concat()
    );
}

#[tokio::test]
async fn nothing_is_signed_twice_while_nothing_happens() {
    let mut stores = Stepped::new();
    call(&mut stores).await;
    for _ in 0..3 {
        play(&mut stores, &[Step::Wait, Step::Checkpoint, Step::Seal]).await;
    }
    assert_eq!(
        waiting(stores.dir.path(), Destination::ObjectStore).len(),
        2
    );
    assert_eq!(stores.shipper.counts().checkpoints_signed, 1);
}

#[tokio::test]
async fn a_clock_that_is_put_back_keeps_no_segment_open_for_longer() {
    let mut stores = Stepped::new();
    stores.now = now().plus(Duration::from_secs(86_400));
    call(&mut stores).await;
    stores.now = now();
    play(
        &mut stores,
        &[Step::Refuse { tenant: 0 }, Step::Sync, Step::Ship],
    )
    .await;
    stores.play(&Step::Checkpoint).await;
    play(&mut stores, &[Step::Wait, Step::Checkpoint]).await;
    let sealed = waiting(stores.dir.path(), Destination::ObjectStore);
    assert_eq!(sealed.last(), Some(&checkpoint("acme", 2)));
}

#[tokio::test]
async fn a_full_segment_is_sealed_at_once_with_all_of_its_partition() {
    let mut stores = Stepped::new();
    // Every fifth has a file of its own.
    for _ in 0..9 {
        call(&mut stores).await;
    }
    let path = stores.dir.path().to_owned();
    let sealed = waiting(&path, Destination::ObjectStore);
    let segments = sealed.iter().filter(|name| name.ends_with(".jsonl"));
    let lengths: Vec<u64> = segments
        .map(|name| fs::metadata(path.join(name)).expect("there").len())
        .collect();
    assert!(lengths[0] >= 3000, "the first is full: {lengths:?}");
    let last = sealed.last().expect("parcels");
    assert!(last.contains("checkpoints"), "{sealed:?}");
    let object = |name: &&String| name.contains("/bot/");
    assert!(sealed.iter().any(|name| object(&name)), "{sealed:?}");
    check_signatures(&path);
    assert_eq!(check_chain(&path, "acme"), 9);
}

#[tokio::test]
async fn an_object_is_final_at_once_and_signed_when_its_time_has_come() {
    let Fixture { stores, dir } = fixture();
    let mut elevated = subject(record_id(1), "acme", "bot");
    elevated.elevated = true;
    let hold = begin_with(&stores, elevated, &[], 0).await;
    end(&stores, &hold, 0);
    stores.flush().expect("the disk takes it");
    let object = format!("audit/acme/2026/11/18/bot/{}.json", record_id(1));
    assert_eq!(mode(dir.path(), &object), 0o444);
    assert_eq!(check_signatures(dir.path()), 0);
    stores.close().expect("the disk takes it");
    assert_eq!(check_signatures(dir.path()), 1);
}

#[tokio::test]
async fn an_orderly_end_seals_everything_and_the_next_start_goes_on_behind_it() {
    let Fixture { stores, dir } = fixture();
    for (n, tenant) in [(1, "acme"), (2, "globex"), (3, "acme")] {
        let hold = begin(&stores, n, tenant, 1).await;
        end(&stores, &hold, 1);
    }
    stores.close().expect("the disk takes it");
    assert!(writable(dir.path()).is_empty());
    assert_eq!(check_signatures(dir.path()), 2);
    let stores = open(dir.path());
    let hold = begin(&stores, 4, "acme", 1).await;
    end(&stores, &hold, 1);
    let stats = {
        stores.flush().expect("the disk takes it");
        stores.stats()
    };
    assert_eq!((stats.segments_sealed, stats.checkpoints_signed), (0, 0));
    stores.close().expect("the disk takes it");
    assert!(dir.path().join(segment("acme", 3)).exists());
    assert_eq!(check_chain(dir.path(), "acme"), 3);
    assert_eq!(check_signatures(dir.path()), 3);
}

#[tokio::test]
async fn segments_that_a_crash_left_open_are_sealed_in_time() {
    let Fixture { stores, dir } = fixture();
    let hold = begin(&stores, 1, "acme", 1).await;
    end(&stores, &hold, 1);
    stores.flush().expect("the disk takes it");
    drop(stores);
    drop(open(dir.path()));
    assert_eq!(check_signatures(dir.path()), 0, "it is too early");
    let later = now().plus(Duration::from_secs(60));
    drop(Embedded::open(&config(dir.path()), later).expect("opens"));
    assert_eq!(check_signatures(dir.path()), 1);
    assert_eq!(mode(dir.path(), &segment("acme", 1)), 0o444);
}

#[tokio::test]
async fn many_partitions_are_sealed_a_bounded_number_at_a_time_and_all_in_the_end() {
    let mut stores = Stepped::new();
    for n in 0..600 {
        let tenant = format!("t{n}");
        stores.records.refuse(&Record {
            subject: subject(record_id(n), &tenant, "bot"),
            ending: refused(),
        });
    }
    let steps = [
        Step::Flush,
        Step::Sync,
        Step::Ship,
        Step::Checkpoint,
        Step::Wait,
    ];
    play(&mut stores, &steps).await;
    for signed in [500, 600, 600] {
        stores.play(&Step::Checkpoint).await;
        assert_eq!(check_signatures(stores.dir.path()), signed);
    }
    assert!(writable(stores.dir.path()).is_empty());
}

/// A directory as it is before a checkpoint, and right after it.
async fn around_a_checkpoint() -> (tempfile::TempDir, tempfile::TempDir) {
    let mut stores = Stepped::new();
    call(&mut stores).await;
    stores.play(&Step::Begin { tenant: 1 }).await;
    play(&mut stores, &[Step::Sync, Step::Ship, Step::Checkpoint]).await;
    let steps = [Step::Refuse { tenant: 0 }, Step::Sync, Step::Ship];
    play(&mut stores, &steps).await;
    let before = tempfile::tempdir().expect("a directory");
    copy_dir(stores.dir.path(), before.path());
    play(&mut stores, &[Step::Wait, Step::Checkpoint]).await;
    let after = tempfile::tempdir().expect("a directory");
    copy_dir(stores.dir.path(), after.path());
    (before, after)
}

/// Opens what a crash has left, seals the rest, and returns what was handed over.
async fn recovered(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let stores = open_with_takers(dir);
    let hold = begin(&stores, 99, "acme", 1).await;
    end(&stores, &hold, 1);
    stores.close().expect("the disk takes it");
    assert_eq!(check_chain(dir, "acme"), 3);
    assert_eq!(check_chain(dir, "globex"), 1);
    check_signatures(dir);
    assert!(writable(dir).is_empty(), "all is sealed");
    let names = waiting(dir, Destination::ObjectStore);
    let read = |name: String| (name.clone(), fs::read(dir.join(name)).expect("there"));
    names.into_iter().map(read).collect()
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_all_open_and_what_was_signed_is_not_signed_anew() {
    for kept in [false, true] {
        let (before, after) = around_a_checkpoint().await;
        let signed = checkpoint("acme", 2);
        let bytes = fs::read(after.path().join(&signed)).expect("it was signed");
        if kept {
            let path = before.path().join(&signed);
            fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
            fs::write(&path, &bytes).expect("writable");
            fs::set_permissions(&path, Permissions::from_mode(0o444)).expect("ours");
        }
        // Sealed again at once, at the same record.
        let later = now().plus(Duration::from_secs(61));
        let stores = Embedded::open(
            &EmbeddedConfig {
                destinations: Destination::ALL.map(|to| (to, String::new())).to_vec(),
                ..config(before.path())
            },
            later,
        );
        drop(stores.expect("opens"));
        let again = fs::read(before.path().join(&signed)).expect("it is signed");
        assert_eq!(again == bytes, kept, "the time of signing tells them apart");
        let handed_over = recovered(before.path()).await;
        assert_eq!(handed_over.get(&signed), Some(&again));
        assert!(
            !before
                .path()
                .join(signed.replace(".json", "~1.json"))
                .exists()
        );
    }
}

#[tokio::test]
async fn a_crash_right_after_the_commit_finds_all_sealed_and_makes_it_read_only() {
    let (_, after) = around_a_checkpoint().await;
    let sealed: Vec<_> = waiting(after.path(), Destination::ObjectStore);
    assert!(sealed.contains(&segment("acme", 1)), "{sealed:?}");
    let bytes = |name: &String| fs::read(after.path().join(name)).expect("there");
    let before: Vec<_> = sealed.iter().map(bytes).collect();
    for name in sealed.iter().filter(|name| name.ends_with(".jsonl")) {
        let path = after.path().join(name);
        fs::set_permissions(path, Permissions::from_mode(0o644)).expect("ours");
    }
    let handed_over = recovered(after.path()).await;
    for (name, bytes) in std::iter::zip(&sealed, before) {
        assert_eq!(mode(after.path(), name), 0o444, "{name}");
        assert_eq!(handed_over[name], bytes, "{name}");
    }
}

#[tokio::test]
async fn what_was_signed_by_a_crash_and_tampered_with_is_left_as_it_is() {
    let (before, _) = around_a_checkpoint().await;
    let path = before.path().join(checkpoint("acme", 2));
    fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
    fs::write(&path, "{}").expect("writable");
    let stores = open_with_takers(before.path());
    stores.close().expect("the disk takes it");
    assert_eq!(fs::read(&path).expect("there"), b"{}");
    let beside = checkpoint("acme", 2).replace(".json", "~1.json");
    let sealed = waiting(before.path(), Destination::ObjectStore);
    assert!(sealed.contains(&beside), "{sealed:?}");
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_committed_is_made_again() {
    let mut stores = Stepped::new();
    call(&mut stores).await;
    stores.play(&Step::Wait).await;
    // Somebody else holds the database for longer than anybody waits.
    let other = rusqlite::Connection::open(stores.dir.path().join("state.db")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let patience = lock_db(&stores.db)
        .connection()
        .busy_timeout(Duration::ZERO);
    patience.expect("set");
    let failed = stores
        .shipper
        .checkpoint(&stores.journal, Which::Due, stores.now);
    assert!(failed.is_err());
    assert_eq!(mode(stores.dir.path(), &segment("acme", 1)) & 0o200, 0o200);
    other.execute_batch("ROLLBACK").expect("unlocked");
    stores.play(&Step::Checkpoint).await;
    let sealed = [segment("acme", 1), checkpoint("acme", 1)];
    assert_eq!(waiting(stores.dir.path(), Destination::ObjectStore), sealed);
}

#[tokio::test]
async fn another_replica_finds_the_chains_of_the_first_sealed() {
    let Fixture { stores, dir } = fixture();
    let hold = begin(&stores, 1, "acme", 1).await;
    end(&stores, &hold, 1);
    drop(stores);
    let other = EmbeddedConfig {
        replica: name("r2"),
        ..config(dir.path())
    };
    drop(Embedded::open(&other, now()).expect("opens"));
    assert_eq!(mode(dir.path(), &segment("acme", 1)), 0o444);
    assert_eq!(check_signatures(dir.path()), 1);
}

#[tokio::test]
async fn the_last_link_of_every_chain_can_be_asked_for_while_the_gateway_runs() {
    let Fixture { stores, dir } = fixture();
    for (n, tenant) in [(1, "acme"), (2, "globex"), (3, "acme")] {
        let hold = begin(&stores, n, tenant, 1).await;
        end(&stores, &hold, 1);
    }
    stores.flush().expect("the disk takes it");
    let heads = heads(dir.path()).expect("readable");
    let text = fs::read_to_string(dir.path().join(segment("acme", 1))).expect("readable");
    let last = line_hash(text.lines().last().expect("lines").as_bytes());
    let acme = (name::<TenantId>("acme"), 2, last);
    let (partition, replica, seq, hash) = heads[0].clone();
    assert_eq!(
        (partition.tenant().cloned(), seq, hash),
        (Some(acme.0), acme.1, acme.2)
    );
    assert_eq!(replica, name("r1"));
    assert_eq!(heads.len(), 2);
    drop(stores);
    assert_eq!(super::heads(dir.path()).expect("readable"), heads);
}

#[tokio::test]
async fn events_stand_in_the_chain_of_the_partition_they_are_about() {
    use tollgate_core::audit::{Event, EventLog as _, Partition};

    let Fixture { stores, dir } = fixture();
    let hold = begin(&stores, 1, "acme", 1).await;
    end(&stores, &hold, 1);
    let members = serde_json::json!({"tollgate.purge.records": 7, "note": "a\tb\nc"});
    let event = Event {
        id: record_id(2),
        kind: "records_purged".to_owned(),
        at: now(),
        members: members.as_object().expect("an object").clone(),
        partition: Partition::Tenant(name("acme")),
    };
    stores.events.keep(&event).await.expect("kept");
    // As a kill does: nothing is flushed.
    drop(stores);
    drop(open(dir.path()));
    assert_eq!(check_chain(dir.path(), "acme"), 2);
    let text = fs::read_to_string(dir.path().join(segment("acme", 1))).expect("readable");
    let line = text.lines().find(|line| line.contains("records_purged"));
    let line: serde_json::Value = serde_json::from_str(line.expect("the event")).expect("JSON");
    assert_eq!(line["note"], "a\tb\nc");
    assert_eq!(line["tollgate.record.id"], record_id(2).to_string());
    assert_eq!(read_back(dir.path(), "acme").len(), 1, "it is no call");
}
