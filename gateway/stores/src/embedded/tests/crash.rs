//! A crash at every step, played without threads: the directory is copied as it is at that
//! moment, opened, and must add up.

use super::*;
use crate::embedded::chain::Which;
use crate::embedded::journal::Journal;
use crate::embedded::outbox::Waiting;
use crate::embedded::shipper::{ShipError, Shipper};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use tollgate_core::audit::Destination;

const TENANTS: [&str; 2] = ["acme", "globex"];

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Begin {
        tenant: usize,
    },
    End {
        pick: prop::sample::Index,
        cost: i128,
    },
    Refuse {
        tenant: usize,
    },
    Flush,
    Sync,
    Ship,
    Checkpoint,
    /// A minute passes.
    Wait,
    /// As at an orderly end.
    Seal,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..TENANTS.len()).prop_map(|tenant| Step::Begin { tenant }),
        4 => (any::<prop::sample::Index>(), 0_i128..50)
            .prop_map(|(pick, cost)| Step::End { pick, cost }),
        1 => (0..TENANTS.len()).prop_map(|tenant| Step::Refuse { tenant }),
        2 => Just(Step::Flush),
        2 => Just(Step::Sync),
        2 => Just(Step::Ship),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Wait),
        1 => Just(Step::Seal),
    ]
}

/// The stores without their threads.
pub(super) struct Stepped {
    pub(super) dir: tempfile::TempDir,
    pub(super) db: Arc<Mutex<Db>>,
    pub(super) journal: Arc<Journal>,
    pub(super) records: Records,
    pub(super) shipper: Shipper,
    pub(super) now: Timestamp,
    /// Calls by id: their tenant. Refused ones have no hold.
    begun: BTreeMap<RecordId, &'static str>,
    open: Vec<RecordId>,
    next: u32,
    /// Lengths of the record files at the last checkpoint.
    certain: BTreeMap<PathBuf, u64>,
}

impl Stepped {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("state.db")).expect("a database");
        let db = Arc::new(Mutex::new(db));
        let mut config = config(dir.path());
        // A handful of records to a segment.
        config.segment_bytes = 3000;
        let outbox = Arc::new(Waiting::new(Bound::default()));
        let everybody = Destination::ALL.to_vec();
        for to in Destination::ALL {
            lock_db(&db).know_destination(to, "").expect("writable");
        }
        let onward = config.onward(everybody, &outbox);
        let recovered = recovery::recover(dir.path(), &db, onward, Unended::Interrupt, now());
        let Recovered {
            mut journal,
            shipper,
            ..
        } = recovered.expect("nothing to recover");
        // A handful of calls to a segment.
        journal.set_segment_bytes(4000);
        let journal = Arc::new(journal);
        Self {
            records: Records::new(journal.clone(), outbox),
            dir,
            db,
            journal,
            shipper,
            now: now(),
            begun: BTreeMap::new(),
            open: Vec::new(),
            next: 0,
            certain: BTreeMap::new(),
        }
    }

    pub(super) async fn play(&mut self, step: &Step) {
        match step {
            Step::Begin { tenant } => {
                let id = self.begin(TENANTS[*tenant]);
                let mut subject = subject(id, TENANTS[*tenant], "bot");
                subject.elevated = self.next.is_multiple_of(5);
                let hold = Hold {
                    id,
                    keys: vec![daily(TENANTS[*tenant], None).key].into(),
                    amount: PicoUsd::new(100),
                };
                let intent = Intent {
                    subject: &subject,
                    hold: &hold,
                };
                self.records.intend(intent).await.expect("writable");
                self.open.push(id);
            }
            Step::End { pick, cost } if !self.open.is_empty() => {
                let id = self.open.swap_remove(pick.index(self.open.len()));
                self.records.conclude(id, &completed(*cost));
            }
            Step::End { .. } => {}
            Step::Refuse { tenant } => {
                let id = self.begin(TENANTS[*tenant]);
                self.records.refuse(&Record {
                    subject: subject(id, TENANTS[*tenant], "bot"),
                    ending: refused(),
                });
            }
            Step::Flush => self.journal.flush().expect("writable"),
            Step::Sync => self.journal.sync().expect("the disk syncs"),
            Step::Ship => self.shipper.ship(&self.journal).expect("writable"),
            Step::Checkpoint => self.checkpoint(Which::Due),
            Step::Wait => self.now = self.now.plus(Duration::from_secs(60)),
            Step::Seal => self.checkpoint(Which::All),
        }
    }

    /// The call that has been under way for longest ends.
    pub(super) fn end_one(&mut self) {
        let id = self.open.remove(0);
        self.records.conclude(id, &completed(1));
    }

    fn checkpoint(&mut self, which: Which) {
        let done = self.shipper.checkpoint(&self.journal, which, self.now);
        done.expect("writable");
        self.certain = lengths(&self.dir.path().join("audit"));
    }

    fn begin(&mut self, tenant: &'static str) -> RecordId {
        self.next += 1;
        self.begun.insert(record_id(self.next), tenant);
        record_id(self.next)
    }

    /// The directory as a crash would leave it now. What record files hold beyond the last
    /// checkpoint is cut at `cut` of its length: it may never have been written.
    fn crash(&self, cut: u64) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a directory");
        copy_dir(self.dir.path(), copy.path());
        tear(copy.path(), &self.certain, cut);
        copy
    }
}

/// Takes away what may not have been written yet: of files beyond their `certain` lengths all but
/// `cut` tenths, and files that appear whole if there is to be less than half.
fn tear(dir: &Path, certain: &BTreeMap<PathBuf, u64>, cut: u64) {
    for (path, length) in lengths(&dir.join("audit")) {
        let certain = certain.get(&path).copied().unwrap_or(0);
        let path = dir.join("audit").join(&path);
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            if certain == 0 && cut < 5 {
                fs::remove_file(path).expect("writable");
            }
            continue;
        }
        let left = certain + (length - certain) * cut / 10;
        let file = fs::File::options().write(true).open(&path);
        file.and_then(|file| file.set_len(left)).expect("writable");
    }
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("listable") {
        let entry = entry.expect("listable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// The segments that are not read-only.
pub(super) fn writable(dir: &Path) -> Vec<PathBuf> {
    let audit = dir.join("audit");
    let paths = lengths(&audit).into_keys().map(|path| audit.join(path));
    let open = |path: &PathBuf| {
        let mode = fs::metadata(path).expect("there").permissions().mode();
        mode & 0o222 != 0
    };
    paths.filter(open).collect()
}

/// The files below `dir` with their lengths, by path from there.
pub(super) fn lengths(dir: &Path) -> BTreeMap<PathBuf, u64> {
    fn collect(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, u64>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(root, &path, found);
            } else {
                let length = entry.metadata().expect("readable").len();
                let relative = path.strip_prefix(root).expect("below the root");
                found.insert(relative.to_owned(), length);
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(dir, dir, &mut found);
    found
}

/// What the last run may have handed over, byte for byte.
fn handed_over(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let db = rusqlite::Connection::open(dir.join("state.db")).expect("a database");
    let mut names = db.prepare("SELECT name FROM outbox").expect("a table");
    let names = names.query_map([], |row| row.get::<_, String>(0));
    let names = names.expect("rows").map(|name| name.expect("a name"));
    let read = |name: String| (name.clone(), fs::read(dir.join(name)).expect("it is there"));
    names.map(read).collect()
}

/// Every call of `begun` has exactly one record, the counters are the sum of them, and what was
/// handed over before stays as it was.
async fn check(dir: &Path, begun: &BTreeMap<RecordId, &'static str>) {
    let before = handed_over(dir);
    let stores = open_with_takers(dir);
    for tenant in TENANTS {
        let records = read_back(dir, tenant);
        let mut ids: Vec<_> = records.iter().map(|r| r.subject.id).collect();
        ids.sort_unstable();
        let expected: Vec<_> = begun.iter().filter(|(_, t)| **t == tenant).collect();
        let expected: Vec<_> = expected.iter().map(|(id, _)| **id).collect();
        assert_eq!(ids, expected, "{tenant}: one record for every call");
        let sum: i128 = records.iter().map(|r| r.ending.cost.as_pico()).sum();
        assert_eq!(settled(&stores, tenant).await, sum, "{tenant}: its money");
        assert_eq!(check_chain(dir, tenant), records.len());
    }
    drop(stores);
    let after = handed_over(dir);
    for (name, bytes) in before {
        assert!(after.get(&name) == Some(&bytes), "{name} was final");
    }
    sealing::check_signatures(dir);
}

/// As [`Stepped`] does, with everybody who can get parcels.
pub(super) fn open_with_takers(dir: &Path) -> Embedded {
    let config = EmbeddedConfig {
        destinations: Destination::ALL.map(|to| (to, String::new())).to_vec(),
        segment_bytes: 3000,
        ..config(dir)
    };
    Embedded::open(&config, now()).expect("it opens")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]
    #[test]
    fn after_a_crash_at_any_step_every_call_has_one_record_and_the_money_adds_up(
        steps in prop::collection::vec(step(), 0..60),
        cut in 0_u64..=10,
        second_cut in 0_u64..=10,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut stores = Stepped::new();
            for step in &steps {
                stores.play(step).await;
            }
            let crashed = stores.crash(cut);
            check(crashed.path(), &stores.begun).await;
            // Once more, now that everything is settled: nothing may be counted twice.
            check(crashed.path(), &stores.begun).await;
            // And crashed in the middle of recovering from the first crash.
            let again = stores.crash(cut);
            let half = interrupted_recovery(again.path(), second_cut);
            check(half.path(), &stores.begun).await;
        });
    }
}

/// Recovers in `dir` up to before the checkpoint, and crashes there.
fn interrupted_recovery(dir: &Path, cut: u64) -> tempfile::TempDir {
    let before = lengths(&dir.join("audit"));
    let open_before = writable(dir);
    let database = tempfile::tempdir().expect("a directory");
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        // Taken before the recovery, put back after it: as if its commit had never happened.
        drop(fs::copy(dir.join(file), database.path().join(file)));
    }
    let journal = tempfile::tempdir().expect("a directory");
    copy_dir(&dir.join("journal"), journal.path());
    drop(open(dir));
    for file in ["state.db", "state.db-wal", "state.db-shm"] {
        drop(fs::remove_file(dir.join(file)));
        drop(fs::copy(database.path().join(file), dir.join(file)));
    }
    for path in open_before {
        fs::set_permissions(path, Permissions::from_mode(0o644)).expect("ours");
    }
    // Its new segment stays, beside those it would have deleted.
    copy_dir(journal.path(), &dir.join("journal"));
    let copy = tempfile::tempdir().expect("a directory");
    copy_dir(dir, copy.path());
    tear(copy.path(), &before, cut);
    copy
}

#[tokio::test]
async fn an_intent_is_remembered_after_its_segment_is_gone() {
    let mut stores = Stepped::new();
    stores.play(&Step::Begin { tenant: 0 }).await;
    for _ in 0..30 {
        stores.play(&Step::Begin { tenant: 1 }).await;
        let last = stores.open.pop().expect("just begun");
        stores.records.conclude(last, &completed(1));
        stores.play(&Step::Flush).await;
    }
    for step in [Step::Sync, Step::Ship, Step::Checkpoint] {
        stores.play(&step).await;
    }
    let first = journal::segment::numbers(stores.journal.dir()).expect("listable")[0];
    assert!(first > 3, "the first segments are deleted, not {first}");
    check(stores.crash(10).path(), &stores.begun).await;

    let waiting = stores.open.pop().expect("the first call");
    stores.records.conclude(waiting, &completed(7));
    for step in [Step::Flush, Step::Sync, Step::Ship] {
        stores.play(&step).await;
        check(stores.crash(5).path(), &stores.begun).await;
    }
    stores.play(&Step::Checkpoint).await;
    let crashed = stores.crash(10);
    assert_eq!(open(crashed.path()).interrupted(), 0);
    assert_eq!(settled(&open(crashed.path()), "acme").await, 7);
}

#[tokio::test]
async fn a_torn_journal_loses_only_what_was_not_synced() {
    let mut stores = Stepped::new();
    for _ in 0..2 {
        stores.play(&Step::Begin { tenant: 0 }).await;
    }
    stores.play(&Step::Sync).await;
    let synced = stores.begun.clone();
    let segment = journal::segment::path(Path::new("journal"), 1);
    let certain = fs::metadata(stores.dir.path().join(&segment))
        .expect("there")
        .len();
    stores.play(&Step::Begin { tenant: 0 }).await;
    let crashed = stores.crash(10);
    let length = fs::metadata(crashed.path().join(&segment))
        .expect("there")
        .len();
    for cut in [certain, certain + 1, length - 1] {
        let crashed = stores.crash(10);
        let file = fs::File::options()
            .write(true)
            .open(crashed.path().join(&segment));
        file.and_then(|file| file.set_len(cut)).expect("writable");
        check(crashed.path(), &synced).await;
    }
    check(crashed.path(), &stores.begun).await;
}

#[tokio::test]
async fn a_damaged_journal_is_a_loud_error() {
    let mut stores = Stepped::new();
    for step in [
        Step::Begin { tenant: 0 },
        Step::Sync,
        Step::Begin { tenant: 0 },
    ] {
        stores.play(&step).await;
    }
    let crashed = stores.crash(10);
    let path = crashed
        .path()
        .join(journal::segment::path(Path::new("journal"), 1));
    let mut bytes = fs::read(&path).expect("readable");
    bytes[200] ^= 1;
    fs::write(&path, bytes).expect("writable");
    let error = Embedded::open(&config(crashed.path()), now());
    assert!(matches!(error, Err(OpenError::Recovery(_))));
}

#[test]
fn an_intent_that_is_no_json_stops_the_shipper_at_its_record_every_time() {
    let mut stepped = Stepped::new();
    let id = record_id(1);
    let intent = format!(r#"{{"intent":[{{"id":"{}","at":"#, &*id.text());
    let outcome = format!(
        "{{\"outcome\":[\"{}\",{{\"pico\":1,\"at\":1}}]}}\t{{}}",
        &*id.text()
    );
    let end = stepped.shipper.position();
    let begun = stepped.shipper.replay(intent.as_bytes(), end);
    begun.expect("it is kept until it ends");
    for _attempt in 0..2 {
        let ended = stepped.shipper.replay(outcome.as_bytes(), end);
        assert!(matches!(ended, Err(ShipError::Foreign { .. })), "{ended:?}");
    }
    assert!(stepped.shipper.unended().is_err(), "it has not ended");
    assert_eq!(stepped.shipper.counts().records, 0);
}
