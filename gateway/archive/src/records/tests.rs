use std::fs;
use std::path::Path;

use tollgate_core::ids::RecordId;
use tollgate_testkit::contract::{completed, now, record_id, subject};
use tollgate_testkit::partition::Partitions;

use super::*;
use crate::shelf::LocalShelf;

const DAY: Duration = Duration::from_secs(86_400);

/// Two days of acme and one of globex, the second record elevated.
fn written(dir: &Path) -> Vec<Name> {
    let mut written = Partitions::new(dir, "r1");
    let calls = [
        (1, "acme", 0),
        (2, "acme", 0),
        (3, "acme", 1),
        (4, "globex", 0),
    ];
    let names = calls.map(|(n, tenant, day)| {
        let mut subject = subject(record_id(n), tenant, "bot");
        subject.started_at = now().plus(DAY * day);
        subject.elevated = n == 2;
        written.call(&subject, &completed(10))
    });
    names.to_vec()
}

fn acme() -> Scope {
    Scope {
        partitions: vec!["acme".parse().expect("a partition")],
        ..Scope::default()
    }
}

fn read(dir: &Path, scope: &Scope) -> Result<Vec<RecordId>, Unread> {
    let shelf = LocalShelf::new(dir);
    let mut ids = Vec::new();
    scope.records(&shelf, &mut |record| ids.push(record.subject.id))?;
    ids.sort_unstable();
    let entries = scope.entries(
        &shelf,
        2,
        || 0,
        |count, _entry| {
            *count += 1;
            Ok(())
        },
    )?;
    let all = Scope {
        from: None,
        to: None,
        ..scope.clone()
    };
    if *scope == all {
        assert_eq!(entries.iter().sum::<usize>(), ids.len());
    }
    Ok(ids)
}

#[test]
fn only_the_tenant_and_the_time_asked_for_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = written(dir.path());
    // What another tenant's partition holds is never looked at.
    let shelf = LocalShelf::new(dir.path());
    fs::write(shelf.path(&names[3]), "x\n").expect("writable");
    let ids = |from, to| {
        let scope = Scope { from, to, ..acme() };
        read(dir.path(), &scope).expect("readable")
    };
    let tomorrow = now().plus(DAY);
    assert_eq!(ids(None, None), [1, 2, 3].map(record_id));
    assert_eq!(ids(Some(tomorrow), None), [record_id(3)]);
    assert_eq!(ids(None, Some(tomorrow)), [1, 2].map(record_id));
    let midnight = format!("{}T00:00:00Z", tomorrow.date()).parse().ok();
    let scope = Scope {
        to: midnight,
        ..acme()
    };
    assert_eq!(
        scope.days().to,
        Some(now().date()),
        "the end is not included"
    );
    // A line that is being written is left out.
    let path = shelf.path(&names[0]);
    let torn = [fs::read(&path).expect("readable"), b"{\"toll".to_vec()].concat();
    fs::write(&path, torn).expect("writable");
    assert_eq!(ids(None, None), [1, 2, 3].map(record_id));
    assert_eq!(ids(Some(tomorrow.plus(DAY)), None), []);
}

#[test]
fn a_segment_that_lies_there_in_several_copies_counts_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = written(dir.path());
    let shelf = LocalShelf::new(dir.path());
    for name in &names[..2] {
        let mut copy = name.clone();
        copy.copy = 1;
        fs::copy(shelf.path(name), shelf.path(&copy)).expect("writable");
    }
    assert_eq!(
        read(dir.path(), &acme()).expect("readable"),
        [1, 2, 3].map(record_id)
    );
}

#[test]
fn a_line_that_is_no_record_or_another_tenants_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = written(dir.path());
    let shelf = LocalShelf::new(dir.path());
    let (own, foreign) = (shelf.path(&names[0]), shelf.path(&names[3]));
    let good = fs::read(&own).expect("readable");
    let append = |more: &[u8]| {
        fs::write(&own, [&good, more].concat()).expect("writable");
        read(dir.path(), &acme())
            .expect_err("not a record of acme")
            .to_string()
    };
    let place = names[0].to_string();
    let line = append(b"{\"tollgate.outcome\":\"completed\"}\n");
    assert_eq!(line, format!("{place} line 2 is not a record"));
    let line = append(&fs::read(&foreign).expect("readable"));
    assert_eq!(
        line,
        format!("{place} line 2 names another tenant than the partition it lies in")
    );
    let event = b"{\"tollgate.event\":\"records_purged\",\"tollgate.started_at\":\"2026-11-18T00:00:00Z\"}\n";
    fs::write(&own, [&good, &event[..]].concat()).expect("writable");
    assert_eq!(read(dir.path(), &acme()).expect("readable").len(), 3);
}

#[test]
fn what_cannot_be_used_for_counting_ends_the_reading_on_all_threads() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path());
    let shelf = LocalShelf::new(dir.path());
    let failed = acme().entries(&shelf, 2, || (), |(), _entry| Err(io::Error::other("full")));
    assert!(matches!(failed, Err(Unread::Temporary(_))));
}
