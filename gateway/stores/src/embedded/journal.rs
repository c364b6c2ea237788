//! The append journal on the call's path: what must survive the process is written here first.
//!
//! An intent waits for a `write(2)`, which it shares with those that come in the same turn of the
//! event loop, and which carries along the outcomes since the last one; everything else waits in
//! memory for that write, or for the flusher's (5 ms). The journal knows lines and segments, not
//! what they mean. Worst case: killing the process loses the outcomes of the last 5 ms, a power cut
//! loses what came after the last sync (none of the intents with [`Fsync::Always`]); a full disk
//! refuses intents and keeps outcomes in memory.

pub(crate) mod entry;
mod group;
pub(crate) mod segment;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tollgate_core::latency::Latencies;

use entry::{End, Written};
use group::Group;

/// When written bytes are forced to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fsync {
    /// In the background, this often. A power cut loses at most this much; a crash loses nothing.
    Interval(Duration),
    /// Before an intent returns, many intents at a time.
    Always,
}

/// A segment is closed once it is this long. Long enough that closing is rare, short enough that
/// reading one back at start takes well under a second.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Refusals are dropped, and counted as lost, when this much waits for a disk that takes nothing.
const PENDING_BYTES: usize = 16 << 20;

/// How far the journal is on the disk, in bytes since start.
#[derive(Clone, Copy, Default)]
struct Progress {
    done: u64,
    /// What failed syncs have left in doubt lies after `.0`, up to `.1`.
    doubtful: (u64, u64),
}

struct State {
    file: Arc<File>,
    segment: u64,
    /// Length of the good lines in `file`.
    len: u64,
    /// What is written at once; empty in between, kept for its memory.
    batch: Vec<u8>,
    /// Bytes written since start, over all segments.
    total: u64,
    /// The files belong to somebody else by now: nothing is written any more.
    closed: bool,
    /// `file` may end in rubbish that could not be cut off: write nothing more to it.
    spoilt: bool,
    /// A sync of `file` has failed; another one would prove nothing.
    in_doubt: bool,
    /// A sync has ended since the last mark.
    mark_due: bool,
    synced: End,
    /// Closed segments that may not be on the disk yet.
    unsynced: Vec<Arc<File>>,
    /// Where closed segments end, for the reader.
    ends: BTreeMap<u64, u64>,
}

/// Lines that wait for the next write. They have a lock of their own, so that nobody who leaves one
/// waits for a write that is under way. Taken last, where both are.
#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Intents, which go behind them.
    intents: Vec<u8>,
    /// What becomes of these.
    group: Arc<Group>,
    /// The flusher sleeps until lines wait. Waking it costs a system call, so it is woken only
    /// then.
    flusher_sleeps: bool,
}

/// Figures for metrics.
#[derive(Default)]
pub(crate) struct Counters {
    /// How long each sync took.
    pub(crate) sync_waits: Latencies,
    pub(crate) lost: AtomicU64,
}

/// The journal of one data directory.
pub(crate) struct Journal {
    dir: PathBuf,
    fsync: Fsync,
    segment_bytes: u64,
    state: Mutex<State>,
    waiting: Mutex<Waiting>,
    /// Wakes the flusher when lines wait for it.
    pending: Condvar,
    /// Wakes the syncer when bytes wait for it.
    written: Condvar,
    /// Wakes the shipper when more can be read.
    synced: Condvar,
    syncing: Mutex<()>,
    progress: watch::Sender<Progress>,
    write_ok: AtomicBool,
    sync_ok: AtomicBool,
    pub(crate) counters: Counters,
}

impl Journal {
    /// Starts segment `number`, which must not exist, behind `previous`.
    pub(crate) fn create(
        dir: &Path,
        number: u64,
        previous: Option<End>,
        fsync: Fsync,
    ) -> io::Result<Self> {
        let (file, len) = segment::start(dir, number, previous)?;
        Ok(Self {
            dir: dir.to_owned(),
            fsync,
            segment_bytes: SEGMENT_BYTES,
            state: Mutex::new(State {
                file: Arc::new(file),
                segment: number,
                len,
                batch: Vec::new(),
                total: len,
                closed: false,
                spoilt: false,
                in_doubt: false,
                mark_due: false,
                synced: End {
                    segment: number,
                    length: 0,
                },
                unsynced: Vec::new(),
                ends: BTreeMap::new(),
            }),
            waiting: Mutex::default(),
            pending: Condvar::new(),
            written: Condvar::new(),
            synced: Condvar::new(),
            syncing: Mutex::new(()),
            progress: watch::Sender::new(Progress::default()),
            write_ok: AtomicBool::new(true),
            sync_ok: AtomicBool::new(true),
            counters: Counters::default(),
        })
    }

    /// Writes `entry` now. When this returns `Ok`, the line survives the process; whether it also
    /// survives the machine is not waited for.
    pub(crate) fn append_unsynced(&self, entry: &Written<'_>) -> io::Result<()> {
        let written = with_line(entry, |line| self.write_now(line));
        written.map_err(io::Error::from).flatten()
    }

    /// Writes `entry` together with the next intent, or soon. A `droppable` one is given up if
    /// the disk has long been taking nothing.
    pub(crate) fn append_later(&self, entry: &Written<'_>, droppable: bool) {
        let appended = with_line(entry, |line| {
            let mut waiting = self.waiting();
            if droppable && waiting.lines.len() > PENDING_BYTES {
                self.counters.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            waiting.lines.extend_from_slice(line);
            let flusher_sleeps = std::mem::take(&mut waiting.flusher_sleeps);
            drop(waiting);
            if flusher_sleeps {
                self.pending.notify_one();
            }
        });
        if let Err(error) = appended {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "a journal line could not be put into JSON");
        }
    }

    /// Writes what waits in memory.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut state = self.lock();
        let waiting = self.waiting();
        let lines_wait = !waiting.lines.is_empty() || !waiting.intents.is_empty();
        drop(waiting);
        if lines_wait {
            self.write(&mut state, &[])?;
        }
        if state.len >= self.segment_bytes {
            self.next_segment(&mut state)?;
        }
        Ok(())
    }

    /// Writes nothing more, whoever still holds this.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Writes a line for its own sake, so that a disk that has recovered is noticed.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.mark_due = true;
        self.write(&mut state, &[])
    }

    /// Forces everything written so far to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (closed, file, end, total) = {
            let mut state = self.lock();
            let closed = std::mem::take(&mut state.unsynced);
            let end = End {
                segment: state.segment,
                length: state.len,
            };
            (closed, state.file.clone(), end, state.total)
        };
        let start = Instant::now();
        let result = closed
            .iter()
            .chain([&file])
            .try_for_each(|file| file.sync_data());
        self.counters.sync_waits.took(start.elapsed());
        self.sync_ok.store(result.is_ok(), Ordering::Relaxed);

        let mut state = self.lock();
        // The kernel reports a failed sync once and then forgets: the lines can be read and are
        // passed on, but nothing more goes into a file whose beginning is in doubt.
        if result.is_err() && state.segment == end.segment {
            state.spoilt = true;
            state.in_doubt = true;
        }
        state.mark_due |= result.is_ok();
        state.synced = end;
        drop(state);
        self.synced.notify_all();
        self.progress.send_modify(|p| match result {
            Ok(()) => p.done = total,
            Err(_) => p.fail(total),
        });
        result
    }

    /// Up to where segment `number` may be read: to its end, or to what is on the disk.
    pub(crate) fn readable(&self, number: u64) -> Readable {
        let state = self.lock();
        if number == state.synced.segment {
            return Readable::SoFar(state.synced.length);
        }
        match state.ends.get(&number) {
            Some(end) if number < state.synced.segment => Readable::Whole(*end),
            _ => Readable::SoFar(0),
        }
    }

    /// Deletes the segments before `number`.
    pub(crate) fn forget_before(&self, number: u64) -> io::Result<()> {
        self.lock().ends.retain(|segment, _| *segment >= number);
        for old in segment::numbers(&self.dir)? {
            if old < number {
                fs::remove_file(segment::path(&self.dir, old))?;
            }
        }
        Ok(())
    }

    /// Bytes written and not yet on the disk, or not yet written.
    pub(crate) fn behind(&self) -> u64 {
        let state = self.lock();
        let unsynced = state.total.saturating_sub(self.progress.borrow().done);
        unsynced + self.waiting().lines.len() as u64
    }

    /// Whether the last write and the last sync worked.
    pub(crate) fn healthy(&self) -> bool {
        self.write_ok.load(Ordering::Relaxed) && self.sync_ok.load(Ordering::Relaxed)
    }

    /// The directory of the segments.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sleeps until lines wait in memory, `stop` is set, or `at_most` has passed.
    pub(crate) fn wait_for_lines(&self, stop: &AtomicBool, at_most: Duration) {
        let waiting = self.waiting();
        let idle = |waiting: &mut Waiting| {
            waiting.flusher_sleeps = waiting.lines.is_empty() && !stop.load(Ordering::Relaxed);
            waiting.flusher_sleeps
        };
        drop(self.pending.wait_timeout_while(waiting, at_most, idle));
    }

    /// Sleeps until bytes wait for a sync, `stop` is set, or `at_most` has passed.
    pub(crate) fn wait_for_bytes(&self, stop: &AtomicBool, at_most: Duration) {
        let state = self.lock();
        let idle = |state: &mut State| state.is_synced() && !stop.load(Ordering::Relaxed);
        drop(self.written.wait_timeout_while(state, at_most, idle));
    }

    /// Sleeps until there is more to read than `read`, `stop` is set, or `at_most` has passed.
    pub(crate) fn wait_for_more(&self, read: End, stop: &AtomicBool, at_most: Duration) {
        let state = self.lock();
        let idle = |state: &mut State| state.synced <= read && !stop.load(Ordering::Relaxed);
        drop(self.synced.wait_timeout_while(state, at_most, idle));
    }

    /// Wakes every thread that sleeps here.
    pub(crate) fn wake_all(&self) {
        // Taking the locks makes sure that nobody is between looking at `stop` and sleeping.
        drop(self.lock());
        drop(self.waiting());
        self.pending.notify_all();
        self.written.notify_all();
        self.synced.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `line` together with what waits.
    fn write_now(&self, line: &[u8]) -> io::Result<()> {
        self.write(&mut self.lock(), line)
    }

    /// Writes a mark if one is due, the waiting lines, the intents, and `line` behind them. If that
    /// fails, whoever waits for an intent, or has given `line`, is told so; the lines before them
    /// wait for the next write.
    fn write(&self, state: &mut State, line: &[u8]) -> io::Result<()> {
        let idle = state.is_synced();
        let ready = self.make_ready(state);
        let mut batch = std::mem::take(&mut state.batch);
        let marked = ready.is_ok() && state.mark_due && state.synced.segment == state.segment;
        if marked {
            entry::write_line(&mut batch, &Written::Synced(state.synced))?;
        }
        state.mark_due &= ready.is_err();
        let others = batch.len();
        let mut waiting = self.waiting();
        batch.append(&mut waiting.lines);
        let own = batch.len();
        let group = (!waiting.intents.is_empty()).then(|| std::mem::take(&mut waiting.group));
        batch.append(&mut waiting.intents);
        drop(waiting);
        // What somebody waits for goes last, so that a write that fails half-way leaves the least
        // of it.
        batch.extend_from_slice(line);
        let written = ready.and_then(|()| self.write_batch(state, &batch));
        if written.is_err() {
            state.mark_due |= marked;
            let kept = batch.drain(others..own);
            drop(self.waiting().lines.splice(0..0, kept));
        } else if idle && !batch.is_empty() {
            self.written.notify_one();
        }
        if let Some(group) = group {
            group.ends(&written, state.total);
        }
        batch.clear();
        state.batch = batch;
        written
    }

    /// A file that takes lines.
    fn make_ready(&self, state: &mut State) -> io::Result<()> {
        if state.closed {
            return Err(io::Error::other("the journal has been handed over"));
        }
        if state.spoilt {
            self.next_segment(state)?;
        }
        Ok(())
    }

    fn write_batch(&self, state: &mut State, batch: &[u8]) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut file: &File = &state.file;
        let result = file.write_all(batch);
        self.write_ok.store(result.is_ok(), Ordering::Relaxed);
        if result.is_err() {
            state.spoilt = state.file.set_len(state.len).is_err();
            return result;
        }
        let written = batch.len() as u64;
        state.len += written;
        state.total += written;
        Ok(())
    }

    fn next_segment(&self, state: &mut State) -> io::Result<()> {
        let end = End {
            segment: state.segment,
            length: state.len,
        };
        let started = segment::start(&self.dir, end.segment + 1, Some(end));
        self.write_ok.store(started.is_ok(), Ordering::Relaxed);
        let (file, len) = started?;
        self.written.notify_one();
        state.ends.insert(end.segment, end.length);
        let closed = std::mem::replace(&mut state.file, Arc::new(file));
        if !std::mem::take(&mut state.in_doubt) {
            state.unsynced.push(closed);
        }
        state.segment = end.segment + 1;
        state.len = len;
        state.total += len;
        state.spoilt = false;
        Ok(())
    }
}

/// Up to where a segment may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readable {
    /// So far, and perhaps further later.
    SoFar(u64),
    /// To its end; what follows is in the next segment.
    Whole(u64),
}

impl State {
    fn is_synced(&self) -> bool {
        (self.synced.segment, self.synced.length) == (self.segment, self.len)
    }
}

impl Progress {
    /// A sync up to `total` has failed. What was synced between two failures is doubted as well:
    /// whoever has waited so long makes no call.
    const fn fail(&mut self, total: u64) {
        if self.doubtful.1 == 0 {
            self.doubtful.0 = self.done;
        }
        self.doubtful.1 = total;
    }

    const fn covers(&self, ticket: u64) -> bool {
        self.doubtful.0 < ticket && ticket <= self.doubtful.1
    }
}

/// Calls `use_line` with the line for `entry`, built in a buffer each thread keeps.
fn with_line<T>(entry: &Written<'_>, use_line: impl FnOnce(&[u8]) -> T) -> serde_json::Result<T> {
    thread_local! {
        static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    LINE.with_borrow_mut(|line| {
        line.clear();
        entry::write_line(line, entry)?;
        Ok(use_line(line))
    })
}

#[cfg(test)]
mod tests;
