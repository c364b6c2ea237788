use std::os::unix::fs::PermissionsExt as _;

use super::*;

const NAME: &str = "audit/acme/date=2026-11-18/r1-000000000001.jsonl";

fn name(path: &str) -> Name {
    path.parse().expect("a name")
}

/// A line that says its number and little else.
fn line(seq: u64) -> String {
    let id = format!("{seq:032x}");
    format!(
        r#"{{"tollgate.replica.id":"r1","tollgate.seq":{seq},"tollgate.prev_hash":"","tollgate.record.id":"{id}"}}"#
    )
}

fn lines(seqs: std::ops::RangeInclusive<u64>) -> String {
    seqs.map(|seq| line(seq) + "\n").collect()
}

fn put(dir: &Path, path: &str, text: &str) -> PathBuf {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("writable");
    fs::write(&path, text).expect("writable");
    path
}

fn read(dir: &Path, path: &str) -> String {
    fs::read_to_string(dir.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn files(dir: &Path) -> usize {
    let day = dir.join("audit/acme/date=2026-11-18");
    fs::read_dir(day).expect("listable").count()
}

fn write(segment: &mut RecordSegment, seqs: std::ops::RangeInclusive<u64>) {
    let mut spare = Vec::new();
    for seq in seqs {
        segment.push(line(seq).as_bytes(), &mut spare);
    }
    segment
        .write(&mut spare)
        .expect("the directory is writable");
}

#[test]
fn memory_of_written_lines_goes_to_whoever_writes_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut first = RecordSegment::new(dir.path(), name(NAME), 0);
    let other = "audit/globex/date=2026-11-18/r1-000000000001.jsonl";
    let mut second = RecordSegment::new(dir.path(), name(other), 0);
    let mut spare = Vec::new();
    for seq in 1..=3 {
        first.push(line(seq).as_bytes(), &mut spare);
    }
    first.write(&mut spare).expect("writable");
    let memory = spare.capacity();
    assert!(spare.is_empty() && memory >= lines(1..=3).len());

    second.push(line(1).as_bytes(), &mut spare);
    first.push(line(4).as_bytes(), &mut spare);
    first.write(&mut spare).expect("writable");
    second.write(&mut spare).expect("writable");
    assert_eq!(spare.capacity(), memory, "the larger of both is kept");

    first.push(&vec![b' '; MOST_SPARE], &mut spare);
    first.write(&mut spare).expect("writable");
    assert_eq!(
        spare.capacity(),
        0,
        "a line that is far too long keeps none"
    );
    assert_eq!(read(dir.path(), other), lines(1..=1));
}

#[test]
fn lines_made_again_after_a_crash_complete_what_is_there_wherever_it_was_cut() {
    let whole = lines(1..=3);
    for cut in 0..=whole.len() {
        let dir = tempfile::tempdir().expect("a directory");
        put(dir.path(), NAME, &whole[..cut]);
        let mut again = RecordSegment::new(dir.path(), name(NAME), 0);
        write(&mut again, 1..=2);
        write(&mut again, 3..=3);
        assert_eq!(read(dir.path(), NAME), whole, "cut at {cut}");
        assert_eq!(files(dir.path()), 1);
    }
}

#[test]
fn foreign_lines_and_shortened_files_are_left_alone() {
    let first = lines(1..=1);
    for foreign in [first.clone() + "TWO\n", "o".to_owned()] {
        let dir = tempfile::tempdir().expect("a directory");
        put(dir.path(), NAME, &foreign);
        let mut segment = RecordSegment::new(dir.path(), name(NAME), first.len() as u64);
        write(&mut segment, 2..=3);
        assert_eq!(read(dir.path(), NAME), foreign);
        let next = "audit/acme/date=2026-11-18/r1-000000000002.jsonl";
        assert_eq!(read(dir.path(), next), lines(2..=3));
    }
}

#[test]
fn a_name_that_other_bytes_have_taken_is_used_with_the_next_number() {
    let dir = tempfile::tempdir().expect("a directory");
    put(dir.path(), NAME, "one\n");
    put(dir.path(), &NAME.replace(".jsonl", "~1.jsonl"), "two\n");
    let mut segment = RecordSegment::new(dir.path(), name(NAME), 0);
    write(&mut segment, 1..=2);
    assert_eq!(read(dir.path(), NAME), "one\n");
    let third = NAME.replace(".jsonl", "~2.jsonl");
    assert_eq!(read(dir.path(), &third), lines(1..=2));
}

#[test]
fn however_many_lines_come_at_once_those_already_there_are_not_written_again() {
    for batches in [vec![1..=5], vec![1..=1, 2..=4, 5..=5]] {
        let dir = tempfile::tempdir().expect("a directory");
        let foreign = lines(1..=3) + "FOUR\n";
        put(dir.path(), NAME, &foreign);
        let mut segment = RecordSegment::new(dir.path(), name(NAME), 0);
        for batch in batches {
            write(&mut segment, batch);
        }
        assert_eq!(read(dir.path(), NAME), foreign);
        let next = "audit/acme/date=2026-11-18/r1-000000000004.jsonl";
        assert_eq!(read(dir.path(), next), lines(4..=5));
        assert_eq!(files(dir.path()), 2);
    }
}

#[test]
fn what_is_missing_from_a_file_that_nobody_may_write_to_goes_into_another_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = put(dir.path(), NAME, &lines(1..=2));
    // As for a user who is not root.
    let closed = Opened {
        file: File::open(path).expect("readable"),
        writable: false,
    };
    let found = place(&closed, 0, lines(1..=3).as_bytes()).expect("readable");
    let Placed::Foreign { own } = found else {
        panic!("it was written to");
    };
    assert_eq!(own, lines(1..=2).len());
    let found = place(&closed, 0, lines(1..=2).as_bytes()).expect("readable");
    assert!(matches!(found, Placed::Whole));
}

#[test]
fn an_object_is_written_once_and_never_over_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = "audit/acme/2026/11/18/bot/0193a1b2c3d47e5f8a9b0c1d2e3f4a5b.json";
    let second = first.replace(".json", "~1.json");
    for (content, place) in [("a", first), ("a", first), ("b", &second), ("b", &second)] {
        let mut name = name(first);
        write_object(dir.path(), &mut name, content.as_bytes()).expect("writable");
        assert_eq!(name.to_string(), place);
        let path = dir.path().join(place);
        assert_eq!(fs::read_to_string(&path).expect("readable"), content);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
    }
}

#[test]
fn half_an_object_that_a_crash_has_left_is_in_nobodys_way() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = "audit/acme/2026/11/18/bot/0193a1b2c3d47e5f8a9b0c1d2e3f4a5b.json";
    put(dir.path(), &path.replace(".json", ".unfinished"), "ha");
    write_object(dir.path(), &mut name(path), b"half").expect("writable");
    assert_eq!(read(dir.path(), path), "half");
}
