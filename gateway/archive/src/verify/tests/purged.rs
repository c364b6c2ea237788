//! Gaps that a tombstone explains, exactly as far as it does.

use tollgate_core::audit::{Partition, line_hash};

use super::*;
use crate::tombstone::Tombstone;

/// Sixty records of three days; those of the first day are purged, as a tombstone says.
struct Purged {
    dir: tempfile::TempDir,
    key: AuditPublicKey,
}

impl Purged {
    fn new(signed: bool, change: impl FnOnce(&mut Tombstone)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut written = Partitions::new(dir.path(), "r1");
        let acme: Partition = "acme".parse().expect("a partition");
        let day = |n: u32| now().plus(Duration::from_secs(u64::from(n / 20) * 86_400));
        let mut files = Vec::new();
        for n in 0..60_u32 {
            let mut subject = subject(record_id(n), "acme", "bot");
            subject.started_at = day(n);
            subject.elevated = n % 9 == 4;
            let name = written.call(&subject, &completed(1));
            if n < 20 {
                files.push(name);
            }
            if n % 20 == 19 {
                written.seal(&acme);
            }
        }
        files.sort_unstable();
        files.dedup();
        let shelf = LocalShelf::new(dir.path());
        let mut lines_of_day = BTreeMap::new();
        for name in &files {
            for line in lines(&fs::read(shelf.path(name)).expect("readable")) {
                let seq = Link::parse(&line).expect("a record").seq;
                lines_of_day.insert(seq, line_hash(&line));
            }
            fs::remove_file(shelf.path(name)).expect("removable");
        }
        let mut tombstone = Tombstone {
            tenant: "acme".parse().expect("a tenant"),
            before: day(20).date(),
            records: 20,
            files: 3,
            ranges: vec![Range {
                replica: "r1".parse().expect("a replica"),
                first: 1,
                last: 20,
                hash_before: "0".repeat(64),
                hash_last: lines_of_day[&20].clone(),
            }],
        };
        change(&mut tombstone);
        let event = tombstone.event(record_id(999), day(59)).expect("JSON");
        written.event(acme.clone(), day(59).date(), &event);
        if signed {
            written.seal(&acme);
        }
        Self {
            key: written.key.public().clone(),
            dir,
        }
    }

    fn verify(&self) -> Verified {
        let trust = Trust {
            keys: std::slice::from_ref(&self.key),
            ..Trust::default()
        };
        let acme = "acme".parse().expect("a partition");
        verify(&LocalShelf::new(self.dir.path()), &acme, &trust).expect("readable")
    }
}

fn kinds(verified: &Verified) -> Vec<(Kind, Option<u64>, Option<u64>)> {
    let found = verified.findings.iter();
    found
        .map(|found| (found.kind, found.seq, found.to))
        .collect()
}

#[test]
fn what_was_purged_is_reported_and_no_finding() {
    let verified = Purged::new(true, |_| ()).verify();
    assert_eq!(kinds(&verified), []);
    let absent = Absent {
        first: 1,
        last: 20,
        why: Why::Purged,
    };
    assert_eq!(verified.chains[0].absent, [absent]);
    assert_eq!(
        (verified.chains[0].records, verified.chains[0].uncovered),
        (41, 0)
    );
}

#[test]
fn a_tombstone_that_nobody_signed_proves_nothing() {
    let verified = Purged::new(false, |_| ()).verify();
    assert_eq!(kinds(&verified), [(Kind::PurgeUnproven, Some(1), Some(20))]);
}

#[test]
fn what_is_missing_beyond_a_tombstone_is_removed() {
    let verified = Purged::new(true, |tombstone| tombstone.ranges[0].last = 18).verify();
    assert_eq!(kinds(&verified), [(Kind::Removed, Some(19), Some(20))]);
    let verified = Purged::new(true, |tombstone| tombstone.ranges[0].first = 3).verify();
    assert_eq!(kinds(&verified), [(Kind::Removed, Some(1), Some(2))]);
    let other = |tombstone: &mut Tombstone| {
        tombstone.ranges[0].replica = "r2".parse().expect("a replica");
    };
    assert_eq!(
        kinds(&Purged::new(true, other).verify()),
        [(Kind::Removed, Some(1), Some(20))]
    );
}

#[test]
fn the_record_after_a_purge_must_be_the_one_that_followed() {
    let other = |tombstone: &mut Tombstone| tombstone.ranges[0].hash_last = "1".repeat(64);
    let verified = Purged::new(true, other).verify();
    assert_eq!(kinds(&verified), [(Kind::Changed, Some(21), None)]);
}
