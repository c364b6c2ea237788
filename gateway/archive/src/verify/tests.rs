use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate_core::audit::{Checkpoint, Link};
use tollgate_core::ids::RecordId;
use tollgate_core::time::Timestamp;
use tollgate_testkit::contract::{completed, now, record_id, subject};
use tollgate_testkit::partition::Partitions;

use super::*;
use crate::shelf::LocalShelf;

mod purged;
mod tampering;

/// Two tenants of two replicas, over three days that interleave, with elevated records, and a few
/// records that no checkpoint covers yet.
pub(super) struct Written {
    pub(super) dir: tempfile::TempDir,
    keys: Vec<AuditPublicKey>,
}

impl Written {
    /// Writes what is the same for a seed once, and copies it from then on.
    pub(super) fn new(seed: u64) -> Self {
        static MADE: Mutex<BTreeMap<u64, (Template, Vec<AuditPublicKey>)>> =
            Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().expect("no test panics in here");
        let (template, keys) = made.entry(seed).or_insert_with(|| {
            let written = Self::write(seed);
            (read(written.dir.path()), written.keys)
        });
        let (template, keys) = (template.clone(), keys.clone());
        drop(made);
        let dir = tempfile::tempdir().expect("a directory");
        for (path, text) in template.iter() {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        Self { dir, keys }
    }

    fn write(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut dice = Dice(seed | 1);
        let mut keys = Vec::new();
        for replica in ["r1", "r2"] {
            let mut written = Partitions::new(dir.path(), replica);
            keys.push(written.key.public().clone());
            for n in 0..60 {
                for tenant in ["acme", "globex"] {
                    let id = record_id(n + if replica == "r1" { 0 } else { 1000 });
                    let mut subject = subject(id, tenant, "bot");
                    // Calls that began yesterday end among those of today.
                    let day = u64::from(n) / 20 + dice.below(2);
                    subject.started_at = now().plus(Duration::from_secs(day * 86_400));
                    subject.elevated = dice.below(12) == 0;
                    written.call(&subject, &completed(i128::from(n)));
                    if n % 15 == 14 && n < 50 {
                        written.seal(&tenant.parse().expect("a partition"));
                    }
                }
            }
        }
        keys.dedup();
        Self { dir, keys }
    }

    pub(super) fn verify(&self, tenant: &str, heads: Option<&[Head]>) -> Verified {
        let trust = Trust {
            keys: &self.keys,
            heads,
            threads: 2,
            ..Trust::default()
        };
        let partition = tenant.parse().expect("a partition");
        verify(&LocalShelf::new(self.dir.path()), &partition, &trust).expect("readable")
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Every record of a tenant: its replica, number, id, file and line.
    pub(super) fn records(&self, tenant: &str) -> Vec<Found> {
        let shelf = LocalShelf::new(self.dir.path());
        let partition = tenant.parse().expect("a partition");
        let mut found = Vec::new();
        for (name, _) in shelf.list(&partition, Days::default()).expect("readable") {
            if name.day().is_none() {
                continue;
            }
            let text = fs::read(shelf.path(&name)).expect("readable");
            for (at, line) in lines(&text).into_iter().enumerate() {
                let link = Link::parse(&line).expect("a record");
                found.push(Found {
                    replica: link.replica.to_string(),
                    seq: link.seq,
                    id: link.record,
                    file: name.to_string(),
                    line: at,
                });
            }
        }
        // Shelves list in no order that holds on every file system.
        found.sort_by(|a, b| (&a.replica, a.seq).cmp(&(&b.replica, b.seq)));
        found
    }

    pub(super) fn heads(&self, tenant: &str) -> Vec<Head> {
        let mut last: BTreeMap<String, (u64, Found)> = BTreeMap::new();
        for found in self.records(tenant) {
            let (seq, replica) = (found.seq, found.replica.clone());
            let known = last.entry(replica).or_insert((seq, found.clone()));
            if seq >= known.0 {
                *known = (seq, found);
            }
        }
        last.into_iter()
            .map(|(replica, (seq, found))| {
                let text = fs::read(self.path(&found.file)).expect("readable");
                Head {
                    partition: tenant.parse().expect("a partition"),
                    replica: replica.parse().expect("a replica"),
                    seq,
                    hash: tollgate_core::audit::line_hash(&lines(&text)[found.line]),
                }
            })
            .collect()
    }
}

/// Paths and what they hold.
type Template = Arc<Vec<(PathBuf, Vec<u8>)>>;

fn read(dir: &Path) -> Template {
    let mut template = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(within) = dirs.pop() {
        for entry in fs::read_dir(within).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let below = path.strip_prefix(dir).expect("it is below");
                template.push((below.to_owned(), fs::read(&path).expect("readable")));
            }
        }
    }
    Arc::new(template)
}

/// A record, as it was written.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) replica: String,
    pub(super) seq: u64,
    pub(super) id: RecordId,
    pub(super) file: String,
    pub(super) line: usize,
}

/// Numbers that come again with the same seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(u64::try_from(from.len()).expect("few"));
        &from[usize::try_from(at).expect("few")]
    }
}

pub(super) fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

pub(super) fn write_lines(path: &Path, lines: &[Vec<u8>]) {
    let mut text = lines.join(&b'\n');
    text.push(b'\n');
    fs::write(path, text).expect("writable");
}

#[test]
fn what_nobody_touched_holds_with_and_without_heads() {
    for seed in 1..10 {
        let written = Written::new(seed);
        for tenant in ["acme", "globex"] {
            let heads = written.heads(tenant);
            for heads in [None, Some(&*heads)] {
                let verified = written.verify(tenant, heads);
                assert_eq!(verified.findings, [], "seed {seed}");
                assert_eq!(verified.chains.len(), 2);
                for chain in &verified.chains {
                    assert_eq!((chain.records, chain.checkpoints), (60, 3));
                    let covered = if heads.is_some() { 60 } else { 45 };
                    assert_eq!(chain.covered_to, covered);
                    assert_eq!(chain.uncovered, 60 - covered);
                }
            }
        }
    }
}

#[test]
fn a_partition_without_records_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    let partition = "acme".parse().expect("a partition");
    let key = Partitions::new(dir.path(), "r1").key.public().clone();
    let trust = Trust {
        keys: &[key],
        ..Trust::default()
    };
    let shelf = LocalShelf::new(dir.path());
    let verified = verify(&shelf, &partition, &trust).expect("readable");
    assert!(verified.holds() && verified.chains.is_empty());
}

#[test]
fn without_a_key_nothing_is_passed() {
    let mut written = Written::new(1);
    written.keys.clear();
    let verified = written.verify("acme", None);
    assert_eq!(verified.findings[0].kind, Kind::KeyMissing);
    assert!(verified.chains.iter().all(|chain| chain.covered_to == 0));
}

#[test]
fn a_copy_of_a_file_under_the_next_name_is_no_second_record() {
    let written = Written::new(5);
    let records = written.records("acme");
    let object = records.iter().find(|found| found.file.ends_with(".json"));
    let segment = records.iter().find(|found| found.file.ends_with(".jsonl"));
    for (found, ending) in [(object, ".json"), (segment, ".jsonl")] {
        let file = &found.expect("one of each").file;
        let copy = file.replace(ending, &format!("~1{ending}"));
        fs::copy(written.path(file), written.path(&copy)).expect("copied");
    }
    let verified = written.verify("acme", None);
    assert_eq!(verified.findings, []);
    assert_eq!(
        verified
            .chains
            .iter()
            .map(|chain| chain.records)
            .sum::<u64>(),
        120
    );
}

#[test]
fn a_copy_that_says_something_else_is_named() {
    let written = Written::new(5);
    let records = written.records("acme");
    let found = records.iter().find(|found| found.file.ends_with(".jsonl"));
    let found = found.expect("a segment");
    let copy = found.file.replace(".jsonl", "~1.jsonl");
    let mut text = lines(&fs::read(written.path(&found.file)).expect("readable"));
    let at = text[0]
        .iter()
        .position(|byte| *byte == b'1')
        .expect("a one");
    let cost = text[0]
        .windows(8)
        .rposition(|part| part == b"cost_usd")
        .expect("a cost");
    text[0][cost.max(at) + 11] = b'9';
    write_lines(&written.path(&copy), &text);
    let verified = written.verify("acme", None);
    assert_eq!(verified.findings.len(), 1, "{:?}", verified.findings);
    let finding = &verified.findings[0];
    assert_eq!(
        (finding.kind, finding.seq),
        (Kind::Inserted, Some(found.seq))
    );
    assert_eq!(
        (finding.file.as_deref(), finding.line),
        (Some(&*copy), Some(1))
    );
}

#[test]
fn lines_that_a_gateway_writes_meanwhile_are_no_finding() {
    let written = Written::new(7);
    let heads = written.heads("acme");
    let records = written.records("acme");
    let mut later = Partitions::new(&written.dir.path().join("other"), "r1");
    // The gateway has gone on: one record in an object, listed too late to be seen, and one more.
    let last = records.iter().filter(|found| found.replica == "r1");
    let last = last.max_by_key(|found| found.seq).expect("records");
    for n in 0..62 {
        later.call(&subject(record_id(5000 + n), "acme", "bot"), &completed(1));
    }
    let others = fs::read(later_file(&later, written.dir.path())).expect("readable");
    let mut text = fs::read(written.path(&last.file)).expect("readable");
    text.extend_from_slice(&[lines(&others)[61].clone(), b"\n{\"half".to_vec()].concat());
    if last.file.ends_with(".jsonl") {
        fs::write(written.path(&last.file), text).expect("writable");
        let verified = written.verify("acme", Some(&heads));
        assert_eq!(verified.findings, []);
        assert_eq!(verified.chains[0].newer, 1);
        let verified = written.verify("acme", None);
        assert_eq!(
            verified.findings[0].kind,
            Kind::Removed,
            "nothing says it is new"
        );
        assert_eq!(verified.findings[0].seq, Some(61));
    }
}

fn later_file(_written: &Partitions, dir: &Path) -> PathBuf {
    let shelf = LocalShelf::new(dir.join("other"));
    let acme = "acme".parse().expect("a partition");
    let names = shelf.list(&acme, Days::default()).expect("readable");
    shelf.path(&names[0].0)
}

#[test]
fn checkpoints_are_held_against_key_name_and_chain() {
    let written = Written::new(3);
    let path = "audit/acme/checkpoints/r1-000000000030.json";
    let text = fs::read_to_string(written.path(path)).expect("readable");
    let checkpoint: Checkpoint = serde_json::from_str(&text).expect("a checkpoint");
    let strange = tollgate_core::audit::AuditKey::from_pem(
        &tollgate_core::identity::new_private_key(&[9; 32]),
    );
    let Checkpoint {
        partition,
        replica,
        seq,
        hash,
        ..
    } = checkpoint;
    let at = Timestamp::from_seconds(0);
    let strange = strange
        .expect("a key")
        .checkpoint(partition, replica, seq, hash, at);
    let strange = serde_json::to_string(&strange).expect("JSON");
    let globex = fs::read_to_string(written.path("audit/globex/checkpoints/r1-000000000030.json"));
    let other_seq = fs::read_to_string(written.path("audit/acme/checkpoints/r1-000000000045.json"));
    for (text, kind) in [
        (text.replace(":30", ":31"), Kind::CheckpointForged),
        (strange, Kind::CheckpointUnknownKey),
        (globex.expect("readable"), Kind::CheckpointMisplaced),
        (other_seq.expect("readable"), Kind::CheckpointMisplaced),
        (text[..text.len() / 2].to_owned(), Kind::Unreadable),
    ] {
        fs::write(written.path(path), text).expect("writable");
        let verified = written.verify("acme", None);
        assert_eq!(verified.findings.len(), 1, "{:?}", verified.findings);
        let finding = &verified.findings[0];
        assert_eq!((finding.kind, finding.seq), (kind, Some(30)), "{finding:?}");
        assert_eq!(finding.file.as_deref(), Some(path));
    }
}

#[test]
fn a_file_of_somebody_elses_is_named_and_not_read() {
    let written = Written::new(3);
    let file = "audit/acme/date=2026-11-18/notes\u{7}.txt";
    fs::create_dir_all(written.path("audit/acme/date=2026-11-18")).expect("writable");
    fs::write(written.path(file), "x").expect("writable");
    let verified = written.verify("acme", None);
    assert_eq!(verified.findings[0].kind, Kind::ForeignFile);
    let said = verified.findings[0].file.as_deref();
    assert_eq!(said, Some(r"audit/acme/date=2026-11-18/notes\u{7}.txt"));
}
