use std::fs;

use tollgate_core::audit::Link;
use tollgate_testkit::contract::{completed, record_id, subject};
use tollgate_testkit::partition::Partitions;

use super::*;
use crate::shelf::{Days, Found, LocalShelf};

#[test]
fn a_directory_gives_back_what_was_written_and_tells_what_is_foreign() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = Partitions::new(dir.path(), "r1");
    for n in 1..=3 {
        let mut subject = subject(record_id(n), "acme", "bot");
        subject.elevated = n == 2;
        written.call(&subject, &completed(10));
    }
    written.call(&subject(record_id(9), "globex", "bot"), &completed(10));
    let acme = "acme".parse().expect("a partition");
    written.seal(&acme);
    let foreign = dir.path().join("audit/acme/date=2026-11-18/notes.txt");
    fs::write(foreign, "x").expect("writable");
    std::os::unix::fs::symlink("../globex", dir.path().join("audit/acme/link")).expect("a link");

    let shelf = LocalShelf::new(dir.path());
    let names: Vec<String> = shelf
        .partitions()
        .expect("readable")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["acme", "globex"]);
    let mut foreign = Vec::new();
    let mut seqs = Vec::new();
    shelf
        .each(&acme, Days::default(), &mut |found| {
            match found {
                Found::Ours { name, .. } if name.day().is_some() => {
                    let mut lines = Lines::open(&shelf, &name)?;
                    while let Some((_, line)) = lines.next_line()? {
                        seqs.push(Link::parse(line).expect("a record").seq);
                    }
                }
                Found::Ours { .. } => {}
                Found::Foreign(path) => foreign.push(path),
            }
            Ok(())
        })
        .expect("readable");
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3]);
    foreign.sort_unstable();
    assert_eq!(
        foreign,
        ["audit/acme/date=2026-11-18/notes.txt", "audit/acme/link"]
    );
}

#[test]
fn a_day_that_was_not_asked_for_is_not_shown_and_a_line_being_written_is_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut written = Partitions::new(dir.path(), "r1");
    let name = written.call(&subject(record_id(1), "acme", "bot"), &completed(10));
    let acme = "acme".parse().expect("a partition");
    let shelf = LocalShelf::new(dir.path());
    let path = shelf.path(&name);
    let mut torn = fs::read(&path).expect("readable");
    torn.extend_from_slice(b"{\"half");
    fs::write(&path, torn).expect("writable");
    let mut lines = Lines::open(&shelf, &name).expect("readable");
    assert!(lines.next_line().expect("readable").is_some());
    assert!(lines.next_line().expect("readable").is_none());
    let later = Days {
        from: "2026-11-19".parse().ok(),
        to: None,
    };
    assert_eq!(shelf.list(&acme, later).expect("readable"), []);
}
