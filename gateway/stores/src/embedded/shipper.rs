//! From the journal to records and settled money, one pass over the lines in their order.
//!
//! Lines are read only once they are on the disk, so a record never tells of a call the journal
//! has forgotten. Records are written at once; about every second a checkpoint commits the money,
//! the chain heads and the journal position together. A crash in between makes the same lines
//! again, byte for byte. Worst case: a second's worth of lines is made again after a crash.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tollgate_core::audit::Destination;
use tollgate_core::budget::BudgetKey;
use tollgate_core::deferred::RemoteId;
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::time::{Timestamp, Window};

use super::chain::{ChainError, Chains, Counts, Style, Which};
use super::db::{Checkpoint, Db, DbError, DeferredRow, Handover};
use super::journal::entry::{self, Cost, End, Entry};
use super::journal::{Journal, Readable, segment};
use super::outbox::Waiting as InOutbox;

/// Read at once from the journal. Each partition's records of it are one write, so the more the
/// fewer; little enough to stay in the processor's cache throughout.
const CHUNK_BYTES: usize = 1 << 20;

/// Lines of intents whose memory is kept, at some 1,500 bytes each.
const MOST_SPARE: usize = 256;

/// Shipping stopped; what has not been shipped stays in the journal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShipError {
    #[error("journal segment {segment} is damaged at byte {offset}")]
    Damaged { segment: u64, offset: u64 },
    #[error("journal segment {segment} holds a line of another form at byte {offset}")]
    Foreign {
        segment: u64,
        offset: u64,
        #[source]
        cause: serde_json::Error,
    },
    #[error("the journal could not be read")]
    Read(#[source] io::Error),
    #[error("records could not be written")]
    Write(#[source] io::Error),
    #[error("a record could not be placed")]
    Chain(#[from] ChainError),
    #[error("the checkpoint could not be made")]
    Checkpoint(#[from] DbError),
    #[error("old journal segments could not be deleted")]
    Forget(#[source] io::Error),
}

struct Waiting {
    /// The intent's line, without its checksum.
    line: Vec<u8>,
    segment: u64,
    /// Kept in the database, since its segment is no longer.
    parked: bool,
}

/// What has begun and not ended.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Begun {
    /// A call, and what was reserved for it, in which counters.
    Call(Vec<BudgetKey>, PicoUsd),
    /// Somebody's use of the admin API.
    AdminAction,
}

/// Turns journal lines into records.
pub(crate) struct Shipper {
    db: Arc<Mutex<Db>>,
    chains: Chains,
    /// Who gets what is sealed.
    destinations: Vec<Destination>,
    outbox: Arc<InOutbox>,
    open: HashMap<RecordId, Waiting>,
    position: End,
    /// Memory of intents that have ended, for those that come.
    spare: Vec<Vec<u8>>,
    /// Changes since the last checkpoint, by counters with spaces between: calls that count in the
    /// same ones share them.
    settled: HashMap<String, PicoUsd>,
    unparked: Vec<String>,
    /// What is known of deferred work, or no longer, since the last checkpoint.
    deferred: HashMap<RemoteId, Option<DeferredRow>>,
    dirty: bool,
    /// When the last call ended.
    latest: Timestamp,
    pruned: Option<Window>,
    file: Option<(u64, File)>,
    /// What was read last; kept for its memory.
    chunk: Vec<u8>,
}

impl Shipper {
    /// Continues at `position`; nothing has ended before `now`.
    pub(crate) fn new(
        db: Arc<Mutex<Db>>,
        chains: Chains,
        outbox: Arc<InOutbox>,
        position: End,
        now: Timestamp,
    ) -> Result<Self, ShipError> {
        let parked = lock(&db).open_intents()?;
        let open = parked
            .into_iter()
            .filter_map(|(id, line)| {
                let waiting = Waiting {
                    line,
                    segment: 0,
                    parked: true,
                };
                Some((id.parse().ok()?, waiting))
            })
            .collect();
        Ok(Self {
            db,
            chains,
            destinations: Vec::new(),
            outbox,
            open,
            position,
            spare: Vec::new(),
            settled: HashMap::default(),
            unparked: Vec::new(),
            deferred: HashMap::default(),
            dirty: false,
            latest: now,
            pruned: None,
            file: None,
            chunk: Vec::new(),
        })
    }

    /// How far the journal has been read.
    pub(crate) const fn position(&self) -> End {
        self.position
    }

    /// Whether a checkpoint may have anything to do, now or later.
    pub(crate) fn is_idle(&self) -> bool {
        !self.dirty && !self.chains.has_unsigned()
    }

    /// Figures since start.
    pub(crate) const fn counts(&self) -> Counts {
        self.chains.counts
    }

    /// From here on, what is sealed is for these.
    pub(crate) fn set_destinations(&mut self, destinations: Vec<Destination>) {
        self.destinations = destinations;
    }

    /// Whatever has begun and not ended.
    pub(crate) fn unended(&self) -> Result<Vec<(RecordId, Begun)>, ShipError> {
        let open = self.open.iter().map(|(id, waiting)| {
            let begun = match self.parse(&waiting.line)? {
                Entry::Intent { taken, .. } => Begun::Call(taken.counters(), taken.amount()),
                _ => Begun::AdminAction,
            };
            Ok((*id, begun))
        });
        open.collect()
    }

    /// From here on, records are laid out like this. Only right after a checkpoint.
    pub(crate) fn set_style(&mut self, style: &Style, now: Timestamp) -> Result<(), ShipError> {
        if self.chains.style() != style {
            self.dirty = true;
            let db = lock(&self.db);
            self.chains.set_style(style.clone(), &db, now)?;
        }
        Ok(())
    }

    /// Goes on at the beginning of `segment`.
    pub(crate) fn go_to(&mut self, segment: u64) {
        self.position = End { segment, length: 0 };
        self.dirty = true;
    }

    /// Makes records of everything that can be read.
    pub(crate) fn ship(&mut self, journal: &Journal) -> Result<(), ShipError> {
        loop {
            // What could not be written the last time goes first: nothing piles up here.
            self.write()?;
            match journal.readable(self.position.segment) {
                Readable::SoFar(end) | Readable::Whole(end) if self.position.length < end => {
                    self.read_chunk(journal, end)?;
                }
                Readable::Whole(_) => self.go_to(self.position.segment + 1),
                Readable::SoFar(_) => return Ok(()),
            }
        }
    }

    /// Writes the records made so far.
    pub(crate) fn write(&mut self) -> Result<(), ShipError> {
        self.chains.write().map_err(ShipError::Write)
    }

    fn read_chunk(&mut self, journal: &Journal, end: u64) -> Result<(), ShipError> {
        let End { segment, length } = self.position;
        let file = match self.file.take() {
            Some((number, file)) if number == segment => file,
            _ => File::open(segment::path(journal.dir(), segment)).map_err(ShipError::Read)?,
        };
        let left = usize::try_from(end - length).unwrap_or(usize::MAX);
        let mut size = left.min(CHUNK_BYTES);
        let mut chunk = std::mem::take(&mut self.chunk);
        let whole = loop {
            // Never shortened in between: what grows is filled with zeros first.
            chunk.resize(size.max(chunk.len()), 0);
            let read = &mut chunk[..size];
            file.read_exact_at(read, length).map_err(ShipError::Read)?;
            match memchr::memrchr(b'\n', read) {
                Some(newline) => break newline + 1,
                None if size < left => size = left.min(size * 2),
                None => {
                    return Err(ShipError::Damaged {
                        segment,
                        offset: length,
                    });
                }
            }
        };
        self.file = Some((segment, file));
        let db = self.db.clone();
        let db = lock(&db);
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', &chunk[..whole]) {
            let line = &chunk[start..newline];
            let body = entry::checked(line).ok_or(ShipError::Damaged {
                segment,
                offset: self.position.length,
            })?;
            self.apply(&db, body)?;
            start = newline + 1;
            self.position.length = length + start as u64;
        }
        // A line that is longer than usual does not keep its memory.
        chunk.truncate(CHUNK_BYTES);
        chunk.shrink_to(CHUNK_BYTES);
        self.chunk = chunk;
        Ok(())
    }

    /// Applies a line found at start, behind the last checkpoint; it ends at `end`.
    pub(crate) fn replay(&mut self, body: &[u8], end: End) -> Result<(), ShipError> {
        self.position.segment = end.segment;
        let db = self.db.clone();
        self.apply(&lock(&db), body)?;
        self.position = end;
        Ok(())
    }

    /// Looks at a line found at start, before the last checkpoint: only what is still open matters.
    pub(crate) fn recall(&mut self, body: &[u8], segment: u64) -> Result<(), ShipError> {
        match self.parse(body)? {
            Entry::Intent { place, .. } | Entry::Action { place, .. } => {
                self.open(place.id, body, segment);
            }
            Entry::Outcome { id, .. }
            | Entry::Correction { id, .. }
            | Entry::Ended { id, .. }
            | Entry::Withdrawn(id) => {
                self.open.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    fn parse<'a>(&self, body: &'a [u8]) -> Result<Entry<'a>, ShipError> {
        Entry::parse(body).map_err(|cause| ShipError::Foreign {
            segment: self.position.segment,
            offset: self.position.length,
            cause,
        })
    }

    /// Changes nothing if it fails.
    fn apply(&mut self, db: &Db, body: &[u8]) -> Result<(), ShipError> {
        self.dirty = true;
        // A call's intent is read in full once, for its record.
        if let Some(id) = entry::id_of_intent(body) {
            self.open(id, body, self.position.segment);
            return Ok(());
        }
        match self.parse(body)? {
            Entry::Segment { .. } | Entry::Synced(_) => {}
            Entry::Intent { place, .. } | Entry::Action { place, .. } => {
                self.open(place.id, body, self.position.segment);
            }
            Entry::Outcome { id, cost, ending } => {
                self.conclude(db, id, Some(Settled { cost, to: None }), ending)?;
            }
            Entry::Correction {
                id,
                cost,
                of,
                keys,
                ending,
            } => {
                let to = Some(&*keys);
                self.conclude(db, id, Some(Settled { cost, to }), ending)?;
                self.deferred.insert(of, None);
            }
            Entry::Ended { id, ended } => self.conclude(db, id, None, ended)?,
            Entry::Remembered { id, at, known } => {
                let row = DeferredRow {
                    at,
                    known: known.into(),
                };
                self.deferred.insert(id, Some(row));
            }
            Entry::Forgotten(id) => {
                self.deferred.insert(id, None);
            }
            Entry::Withdrawn(id) => {
                if let Some(waiting) = self.open.remove(&id) {
                    self.unpark(id, &waiting);
                }
            }
            Entry::Refused {
                place,
                subject,
                ending,
            } => self.chains.append(db, &place, &[subject, ending])?,
            Entry::Stranger { place, stranger } => {
                self.chains.append(db, &place, &[stranger])?;
            }
            Entry::Notice { place, notice } => self.chains.append(db, &place, &[notice])?,
            Entry::Event { place, event } => self.chains.append(db, &place, &[event])?,
        }
        Ok(())
    }

    fn conclude(
        &mut self,
        db: &Db,
        id: RecordId,
        settled: Option<Settled<'_>>,
        ending: &[u8],
    ) -> Result<(), ShipError> {
        let Some(waiting) = self.open.remove(&id) else {
            tracing::warn!(record = %id, "an outcome without an open intent is ignored");
            return Ok(());
        };
        if let Err(error) = self.make_record(db, &waiting.line, settled, ending) {
            self.open.insert(id, waiting);
            return Err(error);
        }
        self.unpark(id, &waiting);
        if self.spare.len() < MOST_SPARE {
            self.spare.push(waiting.line);
        }
        Ok(())
    }

    fn make_record(
        &mut self,
        db: &Db,
        begun: &[u8],
        settled: Option<Settled<'_>>,
        ending: &[u8],
    ) -> Result<(), ShipError> {
        let (place, taken, subject) = match self.parse(begun)? {
            Entry::Intent {
                place,
                taken,
                subject,
            } => (place, Some(taken), subject),
            Entry::Action { place, action } => (place, None, action),
            _ => return Ok(()),
        };
        self.chains.append(db, &place, &[subject, ending])?;
        let (Some(taken), Some(Settled { cost, to })) = (taken, settled) else {
            return Ok(());
        };
        self.latest = cost.ended_at();
        // As the counters in memory do it: nobody is paid for calling, but what was charged in
        // advance is given back to the counters it was taken from.
        let (keys, cost) = match to {
            Some(keys) => (keys, cost.amount()),
            None => (&*taken.keys, cost.amount().max(PicoUsd::ZERO)),
        };
        match self.settled.get_mut(keys) {
            Some(sum) => *sum = sum.saturating_add(cost),
            None => {
                self.settled.insert(keys.to_owned(), cost);
            }
        }
        Ok(())
    }

    /// What has been settled in each counter since the last checkpoint.
    fn settled(&self) -> HashMap<String, PicoUsd> {
        let mut sums: HashMap<String, PicoUsd> = HashMap::default();
        for (keys, by) in &self.settled {
            for key in keys.split_ascii_whitespace() {
                let sum = sums.entry(key.to_owned()).or_default();
                *sum = sum.saturating_add(*by);
            }
        }
        sums
    }

    /// Keeps the line of what has begun until it ends.
    fn open(&mut self, id: RecordId, body: &[u8], segment: u64) {
        let mut line = self.spare.pop().unwrap_or_default();
        line.clear();
        line.extend_from_slice(body);
        let waiting = Waiting {
            line,
            segment,
            parked: false,
        };
        self.open.insert(id, waiting);
    }

    fn unpark(&mut self, id: RecordId, waiting: &Waiting) {
        if waiting.parked {
            self.unparked.push(id.to_string());
        }
    }

    /// Commits everything shipped so far, and seals what is to be; then the segments of the
    /// journal before the current one can go.
    pub(crate) fn checkpoint(
        &mut self,
        journal: &Journal,
        which: Which,
        now: Timestamp,
    ) -> Result<(), ShipError> {
        if !self.dirty && !self.chains.is_due(which, now) {
            return Ok(());
        }
        self.write()?;
        let sealed = self.chains.seal(&self.db, which, now)?;
        self.chains.sync().map_err(ShipError::Write)?;
        let segment = self.position.segment;
        let to_park = |waiting: &Waiting| !waiting.parked && waiting.segment < segment;
        let parked = self.open.iter().filter(|(_, waiting)| to_park(waiting));
        let checkpoint = Checkpoint {
            position: self.position,
            style: self.chains.style(),
            settled: &self.settled(),
            latest: self.latest,
            now,
            heads: self.chains.heads(),
            segments: self.chains.ends(),
            parked: parked
                .map(|(id, waiting)| (id.to_string(), &*waiting.line))
                .collect(),
            unparked: &self.unparked,
            deferred: &self.deferred,
            handover: Handover {
                sealed: &sealed,
                locked: self.chains.locked(),
                destinations: &self.destinations,
                waiting: &self.outbox,
            },
        };
        lock(&self.db).checkpoint(&checkpoint)?;
        self.chains.settled(&sealed);
        self.settled.clear();
        self.unparked.clear();
        self.deferred.clear();
        for waiting in self.open.values_mut().filter(|waiting| to_park(waiting)) {
            waiting.parked = true;
        }
        self.dirty = false;
        let today = Window::day(self.latest);
        if self.pruned != Some(today) {
            lock(&self.db).prune(self.latest)?;
            self.pruned = Some(today);
        }
        journal.forget_before(segment).map_err(ShipError::Forget)
    }
}

/// The money of a call that has ended.
#[derive(Clone, Copy)]
struct Settled<'a> {
    cost: Cost,
    /// The counters it goes to, with spaces between, if not to those it was taken from.
    to: Option<&'a str>,
}

fn lock(db: &Mutex<Db>) -> MutexGuard<'_, Db> {
    db.lock().unwrap_or_else(PoisonError::into_inner)
}
