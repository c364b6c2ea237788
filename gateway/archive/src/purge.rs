//! Takes away a tenant's records whose time is over, after its chain says so.
//!
//! ```text
//! what is due → checked line by line → tombstone, signed → files deleted
//! ```
//! Only what is sealed and waits for nobody is due. What somebody touched is evidence: the whole
//! partition is verified first, and with a finding nothing of it is purged. A tombstone that is
//! purged itself is carried over into the next, and alone is no reason for one. Whenever the work
//! is cut, what is gone is what a signed tombstone names, and the next round purges the rest under
//! one of its own. Worst case: two tombstones name the same records.

mod runs;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tollgate_core::audit::{Day, Item, Link, Name, Partition};
use tollgate_core::budget::StoreError;
use tollgate_core::ids::TenantId;

use crate::lines::Lines;
use crate::shelf::{Days, Found, LocalShelf, Shelf, ShelfError};
use crate::tombstone::{PURGED, Tombstone};
use crate::verify::{Kind, Trust, hex, look_at, verify};
use runs::{Run, Runs};

/// Files of one tenant that are purged in one round, or those of one day if they are more.
const MOST_FILES: usize = 50_000;

/// The most ranges in one tombstone; each takes some 250 bytes of a line.
const MOST_RANGES: usize = 20_000;

/// Bits that let somebody write.
const WRITABLE: u32 = 0o222;

/// What is asked for.
pub struct Asked<'a> {
    /// Whose records.
    pub tenant: &'a TenantId,
    /// Records of days before this one are due.
    pub before: Day,
    /// What the partition is verified with. Checkpoints by keys that are not among these are no
    /// reason to keep records: keys may be replaced.
    pub trust: &'a Trust<'a>,
    /// Whether something of that name still waits to be handed over.
    pub waits: &'a dyn Fn(&Name) -> Result<bool, StoreError>,
    /// Whether the work is to be left to another time; asked before each file.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Nothing of the partition is purged, or not all that its tombstone names is gone yet.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// What lies there cannot be read.
    #[error("the records cannot be read")]
    Read(#[from] ShelfError),
    /// What waits is not known.
    #[error("whether records still wait to be handed over is not known")]
    Outbox(#[from] StoreError),
    /// Records that are no longer what was written are evidence, and stay.
    #[error("{0} findings; `tollgate audit verify` lists them")]
    Findings(usize),
    /// The same, met later.
    #[error(
        "{file} does not hold what was written there: {why}; `tollgate audit verify` says more"
    )]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is left to another time.
    #[error("the work was stopped")]
    Stopped,
    /// Naming what is due would take a line longer than lines are.
    #[error("what is due lies in {0} pieces, too many for one record to name")]
    Scattered(usize),
    /// It cannot be deleted.
    #[error("{} cannot be deleted", .0.display())]
    Delete(PathBuf, #[source] io::Error),
}

/// What is due, checked.
#[derive(Debug)]
pub struct Due {
    /// What the chain is to say before any of it goes.
    pub tombstone: Tombstone,
    /// Bytes of the files.
    pub bytes: u64,
    files: Vec<Name>,
}

/// What there is to do.
#[derive(Debug)]
pub struct Plan {
    /// What is due, if anything is.
    pub due: Option<Due>,
    /// Files whose time is over and that stay, since they are open or wait to be handed over.
    pub kept: u64,
}

/// What is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gone {
    /// Files with records.
    pub files: u64,
    /// Checkpoints about records that are gone.
    pub checkpoints: u64,
}

/// Looks for what is due; if there is anything, verifies the partition and reads what is due.
///
/// # Errors
/// [`PurgeError`]; nothing is to be purged then.
pub fn plan(shelf: &LocalShelf, asked: &Asked<'_>) -> Result<Plan, PurgeError> {
    let partition = Partition::Tenant(asked.tenant.clone());
    let mut plan = Plan { due: None, kept: 0 };
    let mut found = Reading::default();
    let mut verified = false;
    for day in days_before(shelf, &partition, asked.before)? {
        if found.files.len() >= MOST_FILES {
            break;
        }
        let only = Days {
            from: Some(day),
            to: Some(day),
        };
        for (name, bytes) in shelf.list(&partition, only)? {
            if name.day().is_none() {
                continue;
            }
            if !is_sealed(shelf, &name)? || (asked.waits)(&name)? {
                plan.kept += 1;
                continue;
            }
            if !std::mem::replace(&mut verified, true) {
                holds(shelf, &partition, asked)?;
            }
            if (asked.stopped)() {
                return Err(PurgeError::Stopped);
            }
            found.read(shelf, name, bytes)?;
        }
    }
    plan.due = found.due(asked)?;
    Ok(plan)
}

impl Due {
    /// Deletes what the tombstone names, which must be in the chain and signed, and checkpoints
    /// that speak of nothing else. A record of its own is sealed a moment before it comes to wait,
    /// so what waits is asked once more.
    ///
    /// # Errors
    /// [`PurgeError`]; what is left goes in the next round.
    pub fn delete(
        &self,
        shelf: &LocalShelf,
        waits: &dyn Fn(&Name) -> Result<bool, StoreError>,
    ) -> Result<Gone, PurgeError> {
        let mut gone = Gone::default();
        let mut dirs = BTreeSet::new();
        for name in &self.files {
            if waits(name)? {
                continue;
            }
            gone.files += u64::from(delete(shelf, name)?);
            dirs.extend(shelf.path(name).parent().map(PathBuf::from));
        }
        let partition = Partition::Tenant(self.tombstone.tenant.clone());
        let no_day = Days {
            from: Some(Day::MAX),
            to: None,
        };
        for (name, _) in shelf.list(&partition, no_day)? {
            if self.is_about(&name) && is_sealed(shelf, &name)? && !waits(&name)? {
                gone.checkpoints += u64::from(delete(shelf, &name)?);
            }
        }
        for dir in dirs {
            remove_empty(dir);
        }
        Ok(gone)
    }

    /// How many files it is.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    fn is_about(&self, name: &Name) -> bool {
        let Item::Checkpoint { replica, seq } = &name.item else {
            return false;
        };
        self.tombstone
            .ranges
            .iter()
            .any(|range| range.replica == *replica && (range.first..=range.last).contains(seq))
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    runs: Runs,
    records: u64,
    tombstones: u64,
    bytes: u64,
    files: Vec<Name>,
}

impl Reading {
    fn read(&mut self, shelf: &LocalShelf, name: Name, bytes: u64) -> Result<(), PurgeError> {
        let damaged = |why| PurgeError::Damaged {
            file: name.to_string(),
            why,
        };
        let mut lines = Lines::open(shelf, &name)?;
        let mut read = 0;
        while let Some((_, line)) = lines.next_line()? {
            read += line.len() as u64 + 1;
            let link = Link::parse(line).map_err(|_unreadable| damaged("a line is no record"))?;
            let looked = look_at(&name.partition, line);
            let (seq, prev, hash) = looked.ok_or_else(|| damaged("a record of somebody else's"))?;
            let run = Run {
                last: seq,
                hash_before: hex(&prev),
                hash_last: hex(&hash),
            };
            let linked = self.runs.add(&link.replica, seq, run);
            linked.map_err(|_broken| damaged("its records do not follow one another"))?;
            self.records += 1;
            if link.event.as_deref() == Some(PURGED) {
                self.tombstones += 1;
                let carried: Tombstone = serde_json::from_slice(line)
                    .map_err(|_unreadable| damaged("a tombstone cannot be read"))?;
                for range in carried.ranges {
                    self.runs.cover(range);
                }
            }
        }
        if read != bytes {
            return Err(damaged("its last line is not whole"));
        }
        self.bytes += bytes;
        self.files.push(name);
        Ok(())
    }

    fn due(self, asked: &Asked<'_>) -> Result<Option<Due>, PurgeError> {
        if self.records == self.tombstones {
            return Ok(None);
        }
        let ranges = self.runs.into_ranges();
        if ranges.len() > MOST_RANGES {
            return Err(PurgeError::Scattered(ranges.len()));
        }
        Ok(Some(Due {
            tombstone: Tombstone {
                tenant: asked.tenant.clone(),
                before: asked.before,
                records: self.records,
                files: self.files.len() as u64,
                ranges,
            },
            bytes: self.bytes,
            files: self.files,
        }))
    }
}

/// Whether verifying a partition finds nothing that is evidence.
fn holds(shelf: &LocalShelf, partition: &Partition, asked: &Asked<'_>) -> Result<(), PurgeError> {
    let shelf = Stoppable(shelf, asked.stopped);
    let verified = verify(&shelf, partition, asked.trust);
    if (asked.stopped)() {
        return Err(PurgeError::Stopped);
    }
    let verified = verified?;
    // Those of unknown keys are listed last: if any other is left out, others are listed.
    let findings = verified.findings.iter();
    let findings = findings.filter(|found| found.kind != Kind::CheckpointUnknownKey);
    match findings.count() {
        0 => Ok(()),
        some => Err(PurgeError::Findings(some)),
    }
}

/// A directory of which nothing more is read once the work is to stop.
struct Stoppable<'a>(&'a LocalShelf, &'a (dyn Fn() -> bool + Sync));

impl Shelf for Stoppable<'_> {
    fn partitions(&self) -> Result<Vec<Partition>, ShelfError> {
        self.0.partitions()
    }

    fn each(
        &self,
        partition: &Partition,
        days: Days,
        look: &mut dyn FnMut(Found) -> Result<(), ShelfError>,
    ) -> Result<(), ShelfError> {
        self.0.each(partition, days, look)
    }

    fn open(&self, name: &Name) -> Result<Box<dyn io::Read + Send>, ShelfError> {
        if (self.1)() {
            return Err(ShelfError {
                place: name.to_string(),
                cause: io::ErrorKind::Interrupted.into(),
            });
        }
        self.0.open(name)
    }
}

fn days_before(
    shelf: &LocalShelf,
    partition: &Partition,
    before: Day,
) -> Result<BTreeSet<Day>, ShelfError> {
    let mut days = BTreeSet::new();
    let Ok(last) = before.yesterday() else {
        return Ok(days);
    };
    let until = Days {
        from: None,
        to: Some(last),
    };
    shelf.each(partition, until, &mut |found| {
        if let Found::Ours { name, .. } = found {
            days.extend(name.day());
        }
        Ok(())
    })?;
    Ok(days)
}

fn is_sealed(shelf: &LocalShelf, name: &Name) -> Result<bool, ShelfError> {
    let path = shelf.path(name);
    let met = fs::symlink_metadata(&path).map_err(|cause| ShelfError {
        place: path.display().to_string(),
        cause,
    })?;
    Ok(met.permissions().mode() & WRITABLE == 0)
}

/// Whether it was there.
fn delete(shelf: &LocalShelf, name: &Name) -> Result<bool, PurgeError> {
    let path = shelf.path(name);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(PurgeError::Delete(path, error)),
    }
}

/// Removes a day's directory and those above it as long as nothing is in them: at most an agent's,
/// the day's, the month's and the year's.
fn remove_empty(mut dir: PathBuf) {
    for _ in 0..4 {
        if fs::remove_dir(&dir).is_err() || !dir.pop() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
