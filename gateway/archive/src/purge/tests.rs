use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tollgate_core::audit::AuditPublicKey;
use tollgate_core::time::Timestamp;
use tollgate_testkit::contract::{completed, now, record_id, subject};
use tollgate_testkit::partition::Partitions;

use super::*;
use crate::export::{self, export};
use crate::verify::{Absent, Finding, Trust, Verified, Why, verify};

/// Records of six days, whose calls end among those of the next one, some of them elevated.
struct Scene {
    dir: tempfile::TempDir,
    written: RefCell<Partitions>,
    key: AuditPublicKey,
    waiting: RefCell<Vec<Name>>,
    events: RefCell<u32>,
    /// Files that may still be asked about before the work is stopped.
    patience: AtomicUsize,
}

fn day(n: u32) -> Timestamp {
    now().plus(Duration::from_secs(u64::from(n) * 86_400))
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut written = Partitions::new(dir.path(), "r1");
        let partition = "acme".parse().expect("a partition");
        for n in 0..60_u32 {
            let mut subject = subject(record_id(n), "acme", "bot");
            let began_the_day_before = u32::from(n % 10 == 0 && n > 0);
            subject.started_at = day(n / 10 - began_the_day_before);
            subject.elevated = n % 9 == 4;
            written.call(&subject, &completed(1));
            if n % 5 == 2 {
                written.seal(&partition);
            }
        }
        written.seal(&partition);
        let scene = Self {
            key: written.key.public().clone(),
            dir,
            written: RefCell::new(written),
            waiting: RefCell::default(),
            events: RefCell::new(1000),
            patience: AtomicUsize::new(usize::MAX),
        };
        scene.lock();
        scene
    }

    fn shelf(&self) -> LocalShelf {
        LocalShelf::new(self.dir.path())
    }

    /// Makes everything read-only, as what is sealed is.
    fn lock(&self) {
        for name in self.files() {
            let mode = Permissions::from_mode(0o444);
            fs::set_permissions(self.dir.path().join(name), mode).expect("changed");
        }
    }

    fn files(&self) -> Vec<String> {
        let partition = "acme".parse().expect("a partition");
        let listed = self.shelf().list(&partition, Days::default());
        let listed = listed.expect("readable").into_iter();
        listed.map(|(name, _)| name.to_string()).collect()
    }

    fn plan(&self, before: u32) -> Result<Plan, PurgeError> {
        let waits = |name: &Name| Ok(self.waiting.borrow().contains(name));
        let patience = &self.patience;
        let stopped = || {
            let left = patience.load(Ordering::Relaxed);
            patience.store(left.saturating_sub(1), Ordering::Relaxed);
            left == 0
        };
        plan(
            &self.shelf(),
            &Asked {
                trust: &self.trust(),
                tenant: &"acme".parse().expect("a tenant"),
                before: day(before).date(),
                waits: &waits,
                stopped: &stopped,
            },
        )
    }

    /// Puts a tombstone into the chain, and signs it.
    fn announce(&self, due: &Due, at: u32) {
        let mut written = self.written.borrow_mut();
        *self.events.borrow_mut() += 1;
        let id = record_id(*self.events.borrow());
        let event = due.tombstone.event(id, day(at)).expect("JSON");
        let partition: Partition = "acme".parse().expect("a partition");
        written.event(partition.clone(), day(at).date(), &event);
        written.seal(&partition);
        self.lock();
    }

    /// A whole purge as of a day.
    fn purge(&self, before: u32, at: u32) -> Gone {
        let due = self.plan(before).expect("readable").due.expect("something");
        self.announce(&due, at);
        due.delete(&self.shelf(), &|_| Ok(false)).expect("deleted")
    }

    fn trust(&self) -> Trust<'_> {
        Trust {
            keys: std::slice::from_ref(&self.key),
            ..Trust::default()
        }
    }

    fn verify(&self) -> Verified {
        let acme = "acme".parse().expect("a partition");
        verify(&self.shelf(), &acme, &self.trust()).expect("readable")
    }

    fn assert_holds(&self) {
        let verified = self.verify();
        assert_eq!(verified.findings, Vec::<Finding>::new());
        assert_eq!(verified.chains[0].uncovered, 0);
    }
}

fn absent(verified: &Verified) -> Vec<(u64, u64)> {
    let absent = verified.chains[0].absent.iter();
    absent
        .map(|&Absent { first, last, why }| {
            assert_eq!(why, Why::Purged);
            (first, last)
        })
        .collect()
}

#[test]
fn records_of_days_before_are_gone_and_the_chain_says_so() {
    let scene = Scene::new();
    let before = scene.files();
    let gone = scene.purge(2, 6);
    scene.assert_holds();
    // The one of the second day that ended on the third has number 21.
    assert_eq!(absent(&scene.verify()), [(1, 21)]);
    let after = scene.files();
    let left: Vec<_> = before.iter().filter(|name| !after.contains(name)).collect();
    assert_eq!(left.len() as u64, gone.files + gone.checkpoints);
    assert!(gone.files > 2 && gone.checkpoints >= 3, "{gone:?}");
    let day = day(1).date();
    assert!(!left.is_empty() && after.iter().all(|name| !name.contains(&day.to_string())));
    let dir = scene.dir.path().join(format!("audit/acme/date={day}"));
    assert!(!dir.exists(), "nothing is left of the day");
    assert!(
        scene.plan(2).expect("readable").due.is_none(),
        "once is enough"
    );
}

#[test]
fn a_tombstone_that_is_purged_is_carried_over_into_the_next() {
    let scene = Scene::new();
    scene.purge(2, 3);
    scene.purge(3, 4);
    // The first two tombstones were written on the fourth and fifth day.
    scene.purge(6, 7);
    scene.assert_holds();
    assert_eq!(absent(&scene.verify()), [(1, 62)]);
    let partition = "acme".parse().expect("a partition");
    let left = scene.shelf().list(&partition, Days::default());
    let records = left.expect("readable").into_iter();
    let records = records.filter(|(name, _)| name.day().is_some()).count();
    assert_eq!(records, 1, "the last tombstone alone");
}

#[test]
fn cut_after_any_step_the_chain_holds_and_the_next_round_ends_it() {
    let mut steps = 0;
    loop {
        let scene = Scene::new();
        let due = scene.plan(3).expect("readable").due.expect("something");
        scene.assert_holds();
        scene.announce(&due, 6);
        scene.assert_holds();
        for name in due.files.iter().take(steps) {
            assert!(delete(&scene.shelf(), name).expect("deleted"));
        }
        scene.assert_holds();
        let all = steps >= due.files();
        if !all {
            scene.purge(3, 6);
        }
        scene.assert_holds();
        assert_eq!(absent(&scene.verify()), [(1, 31)], "after {steps}");
        if all {
            return;
        }
        steps += 1;
    }
}

#[test]
fn what_is_open_or_waits_stays() {
    let scene = Scene::new();
    let due = scene.plan(2).expect("readable").due.expect("something");
    let waits = due.files[0].clone();
    let open = due.files.last().expect("some").clone();
    fs::set_permissions(scene.shelf().path(&open), Permissions::from_mode(0o644)).expect("set");
    scene.waiting.borrow_mut().push(waits.clone());
    let plan = scene.plan(2).expect("readable");
    assert_eq!(plan.kept, 2);
    let due = plan.due.expect("the others");
    scene.announce(&due, 6);
    due.delete(&scene.shelf(), &|_| Ok(false)).expect("deleted");
    scene.assert_holds();
    assert!(scene.shelf().path(&waits).exists() && scene.shelf().path(&open).exists());
}

#[test]
fn nothing_is_purged_beside_what_somebody_touched() {
    let edits: [fn(&mut Vec<u8>); 3] = [
        |text| {
            let at = text.windows(10).rposition(|some| some == b"gpt-5-mini");
            text[at.expect("a model")] = b'G';
        },
        |text| text.extend_from_slice(b"{}\n"),
        |text| {
            let changed = String::from_utf8_lossy(text).replace("\"acme\"", "\"globex\"");
            *text = changed.into_bytes();
        },
    ];
    for edit in edits {
        let scene = Scene::new();
        let files = scene.files();
        for of_day in [day(1).date(), day(4).date()] {
            let day = format!("date={of_day}");
            let segment = files.iter().rfind(|name| name.contains(&day)).expect("one");
            let path = scene.dir.path().join(segment);
            let whole = fs::read(&path).expect("readable");
            let mut text = whole.clone();
            edit(&mut text);
            put(&path, &text);
            let refused = scene.plan(2).expect_err("evidence");
            assert!(matches!(refused, PurgeError::Findings(_)), "{refused:?}");
            put(&path, &whole);
        }
        assert_eq!(scene.files(), files);
        assert!(scene.plan(2).expect("readable").due.is_some());
    }
}

#[test]
fn checkpoints_by_a_key_that_was_replaced_hide_nothing_and_keep_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = Partitions::new(dir.path(), "r1");
    let partition: Partition = "acme".parse().expect("a partition");
    let mut names = Vec::new();
    for n in 0..1_100_u32 {
        let mut subject = subject(record_id(n), "acme", "bot");
        subject.started_at = day(0);
        names.push(written.call(&subject, &completed(1)));
        written.seal(&partition);
    }
    let shelf = LocalShelf::new(dir.path());
    let listed = shelf.list(&partition, Days::default()).expect("readable");
    for (name, _) in listed {
        fs::set_permissions(shelf.path(&name), Permissions::from_mode(0o444)).expect("changed");
    }
    let new = tollgate_core::identity::new_private_key(&[8; 32]);
    let new = tollgate_core::audit::AuditKey::from_pem(&new).expect("a key");
    let planned = || {
        let asked = Asked {
            tenant: &"acme".parse().expect("a tenant"),
            before: day(1).date(),
            trust: &Trust {
                keys: std::slice::from_ref(new.public()),
                ..Trust::default()
            },
            waits: &|_| Ok(false),
            stopped: &|| false,
        };
        plan(&shelf, &asked)
    };
    let due = planned().expect("readable").due.expect("all of it");
    assert_eq!(due.tombstone.records, 1_100);
    let path = shelf.path(&names[1_000]);
    let text = String::from_utf8(fs::read(&path).expect("readable")).expect("text");
    put(&path, text.replace("gpt-5-mini", "gpt-5-nano").as_bytes());
    let refused = planned().expect_err("evidence");
    assert!(matches!(refused, PurgeError::Findings(1)), "{refused:?}");
}

/// Replaces a read-only file by another.
fn put(path: &std::path::Path, text: &[u8]) {
    fs::remove_file(path).expect("removable");
    fs::write(path, text).expect("writable");
    fs::set_permissions(path, Permissions::from_mode(0o444)).expect("changed");
}

#[test]
fn stopped_at_any_file_nothing_is_due() {
    let scene = Scene::new();
    let files = scene.files();
    for patience in 0.. {
        scene.patience.store(patience, Ordering::Relaxed);
        match scene.plan(3) {
            Ok(plan) => {
                assert!(plan.due.is_some());
                // Each file was asked about, what is due twice.
                assert!(patience > files.len(), "{patience}");
                return;
            }
            Err(stopped) => assert!(matches!(stopped, PurgeError::Stopped), "{stopped:?}"),
        }
    }
}

#[test]
fn what_has_come_to_wait_meanwhile_stays() {
    let scene = Scene::new();
    let due = scene.plan(2).expect("readable").due.expect("something");
    scene.announce(&due, 6);
    let gone = due.delete(&scene.shelf(), &|name| Ok(*name == due.files[0]));
    assert_eq!(gone.expect("deleted").files, due.files() as u64 - 1);
    scene.assert_holds();
    assert!(scene.shelf().path(&due.files[0]).exists());
}

#[test]
fn a_tombstone_alone_brings_no_other() {
    let scene = Scene::new();
    scene.purge(6, 7);
    assert!(scene.plan(9).expect("readable").due.is_none());
    scene.assert_holds();
}

#[test]
fn what_is_left_of_a_purged_partition_can_be_exported_and_checked() {
    let scene = Scene::new();
    scene.purge(2, 5);
    scene.purge(4, 6);
    let out = scene.dir.path().join("export");
    let key = &scene.written.borrow().key;
    let trust = scene.trust();
    let asked = export::Asked {
        tenant: &"acme".parse().expect("a tenant"),
        days: Days::default(),
        out: &out,
        key: Some(key),
        public: trust.keys,
        gateway: "test",
        now: day(7),
    };
    let made = export(&scene.shelf(), &asked, &trust).expect("exported");
    assert_eq!(made.findings_at_source, 0);
    let opened = export::open(&out, trust.keys)
        .expect("readable")
        .expect("one");
    assert_eq!(opened.findings, []);
    let heads = opened.manifest.heads();
    let trust = Trust {
        heads: Some(&heads),
        left_out: &opened.manifest.left_out,
        ..trust
    };
    let acme = "acme".parse().expect("a partition");
    let verified = verify(&LocalShelf::new(&out), &acme, &trust).expect("readable");
    assert_eq!(verified.findings, []);
    assert_eq!(absent(&verified), [(1, 41)]);
}

#[test]
fn pieces_in_any_order_come_to_the_same_ranges() {
    let hash = |n: u64| format!("{n:064}");
    let piece = |first: u64, last: u64| Run {
        last,
        hash_before: hash(first - 1),
        hash_last: hash(last),
    };
    let pieces = [(1, 3), (4, 4), (5, 9), (12, 12), (13, 20)];
    let replica = "r1".parse().expect("a replica");
    for turn in 0..120 {
        let mut order: Vec<usize> = (0..5).collect();
        let mut turn = turn;
        let mut taken = Vec::new();
        for left in (1..=5).rev() {
            taken.push(order.remove(turn % left));
            turn /= left;
        }
        let mut runs = Runs::default();
        for at in &taken {
            let (first, last) = pieces[*at];
            runs.add(&replica, first, piece(first, last))
                .expect("they link");
        }
        let mut covered = Runs::default();
        for at in taken {
            let (first, last) = pieces[at];
            covered.cover(crate::tombstone::Range {
                replica: replica.clone(),
                first,
                last,
                hash_before: hash(first - 1),
                hash_last: hash(last),
            });
        }
        let shown = |runs: Runs| {
            let ranges = runs.into_ranges().into_iter();
            let ends =
                ranges.map(|range| (range.first, range.last, range.hash_before, range.hash_last));
            ends.collect::<Vec<_>>()
        };
        let expected = [(1, 9, hash(0), hash(9)), (12, 20, hash(11), hash(20))];
        assert_eq!(shown(runs), expected);
        assert_eq!(shown(covered), expected);
    }
}

#[test]
fn records_that_do_not_link_are_told() {
    let mut runs = Runs::default();
    let replica = "r1".parse().expect("a replica");
    let piece = |last: u64, before: &str, after: &str| Run {
        last,
        hash_before: before.to_owned(),
        hash_last: after.to_owned(),
    };
    runs.add(&replica, 5, piece(9, "e", "i"))
        .expect("the first");
    assert_eq!(
        runs.add(&replica, 10, piece(12, "x", "l")),
        Err(runs::Broken)
    );
    assert_eq!(runs.add(&replica, 3, piece(4, "b", "x")), Err(runs::Broken));
    assert_eq!(
        runs.add(&replica, 8, piece(12, "g", "l")),
        Err(runs::Broken)
    );
    let known: BTreeMap<_, _> = [(5, 9)].into();
    let ranges = runs.into_ranges().into_iter();
    assert_eq!(
        ranges
            .map(|range| (range.first, range.last))
            .collect::<BTreeMap<_, _>>(),
        known
    );
}
