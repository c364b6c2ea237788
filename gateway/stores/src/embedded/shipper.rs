//! From the journal to records and settled money, one pass over the lines in their order.
//!
//! Lines are read only once they are on the disk, so a record never tells of a call the journal
//! has forgotten. Records are written at once; about every second a checkpoint commits the money,
//! the chain heads and the journal position together. A crash in between makes the same lines
//! again, byte for byte. Worst case: a second's worth of lines is made again after a crash.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::time::{Timestamp, Window};

use super::chain::{ChainError, Chains, Layout, Place};
use super::db::{Checkpoint, Db, DbError, OpenIntent};
use super::journal::entry::{self, End, Entry};
use super::journal::{Journal, Readable, segment};

/// Read at once from the journal.
const CHUNK_BYTES: usize = 1 << 20;

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
    intent: OpenIntent,
    segment: u64,
    /// Kept in the database, since its segment is no longer.
    parked: bool,
}

/// What settling needs of an ending.
#[derive(Deserialize)]
struct Cost {
    #[serde(rename = "tollgate.cost_usd")]
    cost: PicoUsd,
    #[serde(rename = "tollgate.ended_at")]
    ended_at: Timestamp,
}

/// Turns journal lines into records.
pub(crate) struct Shipper {
    db: Arc<Mutex<Db>>,
    chains: Chains,
    open: HashMap<RecordId, Waiting>,
    position: End,
    /// Changes since the last checkpoint.
    settled: HashMap<String, PicoUsd>,
    unparked: Vec<String>,
    dirty: bool,
    latest: Timestamp,
    pruned: Option<Window>,
    file: Option<(u64, File)>,
}

impl Shipper {
    /// Continues at `position`; `now` is the earliest time anything ends at.
    pub(crate) fn new(
        db: Arc<Mutex<Db>>,
        chains: Chains,
        position: End,
        now: Timestamp,
    ) -> Result<Self, ShipError> {
        let parked = lock(&db).open_intents()?;
        let open = parked
            .into_iter()
            .filter_map(|(id, intent)| {
                let waiting = Waiting {
                    intent,
                    segment: 0,
                    parked: true,
                };
                Some((id.parse().ok()?, waiting))
            })
            .collect();
        Ok(Self {
            db,
            chains,
            open,
            position,
            settled: HashMap::new(),
            unparked: Vec::new(),
            dirty: false,
            latest: now,
            pruned: None,
            file: None,
        })
    }

    /// How far the journal has been read.
    pub(crate) const fn position(&self) -> End {
        self.position
    }

    /// Whether there is anything to commit.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Records made since start.
    pub(crate) const fn written(&self) -> u64 {
        self.chains.written
    }

    /// Intents without outcome.
    pub(crate) fn open(&self) -> impl Iterator<Item = (RecordId, PicoUsd)> {
        let open = self.open.iter();
        open.map(|(id, waiting)| (*id, waiting.intent.amount))
    }

    /// From here on, records are laid out like this.
    pub(crate) fn set_layout(&mut self, layout: Layout) {
        self.dirty |= self.chains.layout != layout;
        self.chains.layout = layout;
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
        let chunk = loop {
            let mut chunk = vec![0; size];
            file.read_exact_at(&mut chunk, length)
                .map_err(ShipError::Read)?;
            let whole = chunk.iter().rposition(|byte| *byte == b'\n');
            match whole {
                Some(newline) => {
                    chunk.truncate(newline + 1);
                    break chunk;
                }
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
        for line in chunk.split_inclusive(|byte| *byte == b'\n') {
            let json = line.strip_suffix(b"\n").and_then(entry::checked);
            let json = json.ok_or(ShipError::Damaged {
                segment,
                offset: self.position.length,
            })?;
            self.apply(&db, json)?;
            self.position.length += line.len() as u64;
        }
        Ok(())
    }

    /// Applies a line found at start, behind the last checkpoint; it ends at `end`.
    pub(crate) fn replay(&mut self, json: &[u8], end: End) -> Result<(), ShipError> {
        self.position.segment = end.segment;
        let db = self.db.clone();
        self.apply(&lock(&db), json)?;
        self.position = end;
        Ok(())
    }

    /// Looks at a line found at start, before the last checkpoint: only what is still open matters.
    pub(crate) fn recall(&mut self, json: &[u8], segment: u64) -> Result<(), ShipError> {
        match self.parse(json)? {
            Entry::Intent { subject, hold } => {
                let place: Place<'_> = self.parse(subject.get().as_bytes())?;
                self.open
                    .insert(place.id, Waiting::new(subject, &hold, segment));
            }
            Entry::Outcome { id, .. } | Entry::Withdrawn(id) => {
                self.open.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    fn parse<'a, T: Deserialize<'a>>(&self, json: &'a [u8]) -> Result<T, ShipError> {
        serde_json::from_slice(json).map_err(|cause| ShipError::Foreign {
            segment: self.position.segment,
            offset: self.position.length,
            cause,
        })
    }

    /// Changes nothing if it fails.
    fn apply(&mut self, db: &Db, json: &[u8]) -> Result<(), ShipError> {
        self.dirty = true;
        match self.parse(json)? {
            Entry::Segment { .. } | Entry::Synced(_) => {}
            Entry::Intent { subject, hold } => {
                let place: Place<'_> = self.parse(subject.get().as_bytes())?;
                let waiting = Waiting::new(subject, &hold, self.position.segment);
                self.open.insert(place.id, waiting);
            }
            Entry::Outcome { id, ending } => self.conclude(db, id, ending)?,
            Entry::Withdrawn(id) => {
                if let Some(waiting) = self.open.remove(&id) {
                    self.unpark(id, &waiting);
                }
            }
            Entry::Refused { subject, ending } => {
                let place = self.parse(subject.get().as_bytes())?;
                self.chains.append(db, &place, &[subject, ending])?;
            }
            Entry::Stranger(stranger) => {
                let place = self.parse(stranger.get().as_bytes())?;
                self.chains.append(db, &place, &[stranger])?;
            }
        }
        Ok(())
    }

    fn conclude(&mut self, db: &Db, id: RecordId, ending: &RawValue) -> Result<(), ShipError> {
        let Some(waiting) = self.open.remove(&id) else {
            tracing::warn!(record = %id, "an outcome without an open intent is ignored");
            return Ok(());
        };
        if let Err(error) = self.make_record(db, &waiting, ending) {
            self.open.insert(id, waiting);
            return Err(error);
        }
        self.unpark(id, &waiting);
        Ok(())
    }

    fn make_record(
        &mut self,
        db: &Db,
        waiting: &Waiting,
        ending: &RawValue,
    ) -> Result<(), ShipError> {
        let cost: Cost = self.parse(ending.get().as_bytes())?;
        let subject: &RawValue = self.parse(waiting.intent.subject.as_bytes())?;
        let place = self.parse(subject.get().as_bytes())?;
        self.chains.append(db, &place, &[subject, ending])?;
        self.latest = self.latest.max(cost.ended_at);
        // As the counters in memory do it: nobody is paid for calling.
        let cost = cost.cost.max(PicoUsd::ZERO);
        for key in waiting.intent.keys.lines() {
            match self.settled.get_mut(key) {
                Some(sum) => *sum = sum.saturating_add(cost),
                None => {
                    self.settled.insert(key.to_owned(), cost);
                }
            }
        }
        Ok(())
    }

    fn unpark(&mut self, id: RecordId, waiting: &Waiting) {
        if waiting.parked {
            self.unparked.push(id.to_string());
        }
    }

    /// Commits everything shipped so far; then the segments before the current one can go.
    pub(crate) fn checkpoint(&mut self, journal: &Journal) -> Result<(), ShipError> {
        if !self.dirty {
            return Ok(());
        }
        self.write()?;
        self.chains.sync().map_err(ShipError::Write)?;
        let segment = self.position.segment;
        let to_park = |waiting: &&mut Waiting| !waiting.parked && waiting.segment < segment;
        let parked = self
            .open
            .iter()
            .filter(|(_, waiting)| !waiting.parked && waiting.segment < segment);
        let checkpoint = Checkpoint {
            position: self.position,
            layout: self.chains.layout.as_str(),
            settled: &self.settled,
            latest: self.latest,
            heads: self.chains.heads(),
            partitions: self.chains.ends(),
            parked: parked
                .map(|(id, waiting)| (id.to_string(), &waiting.intent))
                .collect(),
            unparked: &self.unparked,
        };
        lock(&self.db).checkpoint(&checkpoint)?;
        self.chains.settled();
        self.settled.clear();
        self.unparked.clear();
        for waiting in self.open.values_mut().filter(to_park) {
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

impl Waiting {
    fn new(subject: &RawValue, hold: &entry::Taken<'_>, segment: u64) -> Self {
        Self {
            intent: OpenIntent {
                subject: subject.get().into(),
                keys: hold.keys.join("\n").into(),
                amount: hold.amount,
            },
            segment,
            parked: false,
        }
    }
}

fn lock(db: &Mutex<Db>) -> MutexGuard<'_, Db> {
    db.lock().unwrap_or_else(PoisonError::into_inner)
}
