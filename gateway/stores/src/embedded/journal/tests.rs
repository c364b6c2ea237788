use super::entry::Entry;
use super::*;
use std::fs::OpenOptions;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tollgate_core::budget::{Counters, Hold};
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_testkit::contract::{completed, record_id, subject};

impl Journal {
    /// Lets tests reach segment ends without writing 64 MiB.
    pub(crate) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }
}

struct Fixture {
    journal: Journal,
    dir: tempfile::TempDir,
}

fn journal(fsync: Fsync) -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::create(dir.path(), 1, None, fsync).expect("writable");
    Fixture { journal, dir }
}

fn interval() -> Fsync {
    Fsync::Interval(Duration::from_millis(50))
}

type Appending<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

/// An intent that is left for the next write, as in one turn of an event loop; polled once more it
/// is written, which with an interval is all it takes.
fn left(journal: &Journal, n: u32) -> Appending<'_> {
    let mut append: Appending<'_> = Box::pin(async move {
        let id = record_id(n);
        let subject = subject(id, "acme", "bot");
        let hold = Hold {
            id,
            keys: Counters::default(),
            amount: PicoUsd::ZERO,
        };
        let entry = Written::Intent {
            subject: &subject,
            hold: &hold,
        };
        journal.append(id, &entry).await
    });
    assert!(poll(&mut append).is_pending());
    append
}

fn poll(append: &mut Appending<'_>) -> Poll<io::Result<()>> {
    append
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn intend(journal: &Journal, n: u32) -> io::Result<()> {
    match poll(&mut left(journal, n)) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn conclude(journal: &Journal, n: u32) {
    let ending = completed(1);
    let entry = Written::Outcome {
        id: record_id(n),
        ending: &ending,
    };
    journal.append_later(&entry, false);
}

/// What a segment holds, a word a line; intents and the like with the number of their call.
fn words(dir: &Path, segment: u64) -> Vec<String> {
    let bytes = fs::read(segment::path(dir, segment)).expect("readable");
    let salvage = segment::salvage(segment, &bytes).expect("not damaged");
    assert_eq!(salvage.skipped, 0, "segment {segment}");
    let numbered = |word: &str, id: RecordId| {
        let id = id.to_string();
        format!("{word} {}", &id[id.len() - 2..])
    };
    let word = |body: &[u8]| match Entry::parse(body).expect("an entry") {
        Entry::Segment { .. } => "segment".to_owned(),
        Entry::Synced(_) => "synced".to_owned(),
        Entry::Intent { place, .. } => numbered("intent", place.id),
        Entry::Outcome { id, .. } => numbered("outcome", id),
        Entry::Withdrawn(id) => numbered("withdrawn", id),
        Entry::Refused { .. }
        | Entry::Stranger { .. }
        | Entry::Notice { .. }
        | Entry::Action { .. }
        | Entry::Ended { .. }
        | Entry::Event { .. }
        | Entry::Correction { .. }
        | Entry::Remembered { .. }
        | Entry::Forgotten(_) => "other".to_owned(),
    };
    salvage.lines.iter().map(|(_, body)| word(body)).collect()
}

/// Makes every write and sync to the current segment fail, and cutting it too.
fn break_disk(journal: &Journal) {
    let full = OpenOptions::new().write(true).open("/dev/full");
    journal.lock().file = Arc::new(full.expect("Linux has /dev/full"));
}

#[test]
fn an_intent_is_in_the_file_when_it_returns_and_carries_outcomes_along() {
    let Fixture { journal, dir } = journal(interval());
    intend(&journal, 1).expect("writable");
    assert_eq!(words(dir.path(), 1), ["segment", "intent 01"]);
    conclude(&journal, 1);
    assert_eq!(words(dir.path(), 1).len(), 2, "an outcome waits");
    intend(&journal, 2).expect("writable");
    let expected = ["segment", "intent 01", "outcome 01", "intent 02"];
    assert_eq!(words(dir.path(), 1), expected);
}

#[test]
fn intents_of_one_turn_share_a_write_and_its_failure() {
    let Fixture { journal, dir } = journal(interval());
    let mut turn: Vec<_> = (1..=3).map(|n| left(&journal, n)).collect();
    assert_eq!(words(dir.path(), 1), ["segment"]);
    assert!(matches!(poll(&mut turn[1]), Poll::Ready(Ok(()))));
    let expected = ["segment", "intent 01", "intent 02", "intent 03"];
    assert_eq!(words(dir.path(), 1), expected);
    for n in [0, 2] {
        assert!(matches!(poll(&mut turn[n]), Poll::Ready(Ok(()))));
    }
    assert_eq!(words(dir.path(), 1), expected, "nothing is written twice");

    let mut turn: Vec<_> = (4..=5).map(|n| left(&journal, n)).collect();
    break_disk(&journal);
    for append in &mut turn {
        assert!(matches!(poll(append), Poll::Ready(Err(_))));
    }
    drop(turn);
    intend(&journal, 6).expect("a new segment is begun where there is room");
    assert_eq!(words(dir.path(), 2), ["segment", "intent 06"]);
}

#[test]
fn an_intent_whose_caller_leaves_before_the_write_is_taken_back_behind_it() {
    let Fixture { journal, dir } = journal(interval());
    let mut stays = left(&journal, 1);
    drop(left(&journal, 2));
    assert!(matches!(poll(&mut stays), Poll::Ready(Ok(()))));
    journal.flush().expect("writable");
    let expected = ["segment", "intent 01", "intent 02", "withdrawn 02"];
    assert_eq!(words(dir.path(), 1), expected);
}

#[test]
fn a_full_disk_refuses_intents_and_keeps_outcomes() {
    let Fixture { journal, dir } = journal(interval());
    intend(&journal, 1).expect("writable");
    journal.sync().expect("the disk syncs");
    conclude(&journal, 1);
    break_disk(&journal);
    assert!(intend(&journal, 2).is_err());
    assert!(!journal.healthy());

    intend(&journal, 3).expect("a new segment is begun where there is room");
    assert!(journal.healthy());
    assert_eq!(words(dir.path(), 1), ["segment", "intent 01"]);
    let next = words(dir.path(), 2);
    let without_marks: Vec<_> = next.iter().filter(|word| *word != "synced").collect();
    assert_eq!(without_marks, ["segment", "outcome 01", "intent 03"]);
    let end = segment::previous_end(dir.path(), 2).expect("readable");
    let length = fs::metadata(segment::path(dir.path(), 1))
        .expect("there")
        .len();
    assert_eq!(end, Some(End { segment: 1, length }));
}

#[test]
fn a_probe_finds_out_that_the_disk_has_recovered() {
    let Fixture { journal, .. } = journal(interval());
    journal.sync().expect("the disk syncs");
    break_disk(&journal);
    assert!(intend(&journal, 1).is_err());
    assert!(!journal.healthy());
    journal.probe().expect("a new segment is begun");
    assert!(journal.healthy());
}

#[test]
fn refusals_are_given_up_before_memory_is_and_outcomes_never() {
    let Fixture { journal, .. } = journal(interval());
    let mut stranger = tollgate_core::record::Stranger {
        id: record_id(1),
        at: tollgate_testkit::contract::now(),
        client: String::new(),
        code: String::new(),
        reason: String::new(),
        status: 401,
    };
    stranger.reason = "x".repeat(PENDING_BYTES);
    journal.append_later(&Written::Stranger(&stranger), true);
    let before = journal.behind();
    journal.append_later(&Written::Stranger(&stranger), true);
    assert_eq!(journal.behind(), before);
    assert_eq!(journal.counters.lost.load(Ordering::Relaxed), 1);
    conclude(&journal, 1);
    assert!(journal.behind() > before);
}

#[test]
fn with_fsync_always_an_intent_returns_after_the_sync_and_not_before() {
    let Fixture { journal, .. } = journal(Fsync::Always);
    let mut append = left(&journal, 1);
    assert!(poll(&mut append).is_pending());
    journal.sync().expect("the disk syncs");
    assert!(matches!(poll(&mut append), Poll::Ready(Ok(()))));
}

#[test]
fn an_intent_whose_caller_left_or_whose_sync_failed_is_withdrawn() {
    let Fixture { journal, dir } = journal(Fsync::Always);
    // Dropped while it waits.
    assert!(intend(&journal, 1).is_err());
    journal.flush().expect("writable");
    let expected = ["segment", "intent 01", "withdrawn 01"];
    assert_eq!(words(dir.path(), 1), expected);

    let mut append = left(&journal, 2);
    assert!(poll(&mut append).is_pending());
    break_disk(&journal);
    assert!(journal.sync().is_err());
    assert!(matches!(poll(&mut append), Poll::Ready(Err(_))));
    assert!(!journal.healthy());
    journal.flush().expect("a new segment is begun");
    assert_eq!(words(dir.path(), 2), ["segment", "withdrawn 02"]);
    journal.sync().expect("the new segment syncs");
    assert!(journal.healthy());
}

#[test]
fn a_long_segment_is_followed_by_the_next_and_readable_to_its_end() {
    let Fixture { mut journal, dir } = journal(interval());
    journal.set_segment_bytes(500);
    intend(&journal, 1).expect("writable");
    journal.sync().expect("the disk syncs");
    journal.flush().expect("writable");
    let length = fs::metadata(segment::path(dir.path(), 1))
        .expect("there")
        .len();
    assert_eq!(journal.readable(1), Readable::SoFar(length));
    assert_eq!(journal.readable(2), Readable::SoFar(0), "not synced yet");
    journal.sync().expect("the disk syncs");
    assert_eq!(journal.readable(1), Readable::Whole(length));
    journal.forget_before(2).expect("deletable");
    assert_eq!(segment::numbers(dir.path()).expect("listable"), [2]);
}

#[test]
fn a_failed_sync_is_not_forgotten_by_a_second_one() {
    let mut progress = Progress::default();
    progress.fail(10);
    progress.done = 20;
    progress.fail(30);
    for ticket in [5, 10, 25, 30] {
        assert!(
            progress.covers(ticket),
            "{ticket} may never have been synced"
        );
    }
    progress.done = 40;
    assert!(!progress.covers(31));
}
