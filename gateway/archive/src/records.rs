//! Reads records back: what reports, prices and reconciliations are made from.
//!
//! Only the partitions and days asked for are looked at. Works while a gateway writes. A segment
//! that lies there in more than one form or copy counts once, and a line that names another tenant
//! than its partition ends the reading, as one that is no record does. Hashes are not checked:
//! that is what verifying is for. Worst case: a day of millions of single objects, whose names are
//! held in memory while it is read.

mod list;
mod read;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;
use std::{io, panic, thread};

use tollgate_core::audit::{Name, Partition};
use tollgate_core::record::Record;
use tollgate_core::report::{Entry, NotAnEntry};
use tollgate_core::time::Timestamp;

use crate::shelf::{Days, Shelf, ShelfError};

/// How many files are listed ahead of those that are read.
const AHEAD: usize = 256;

/// Which records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// Whose.
    pub partitions: Vec<Partition>,
    /// Only those that began then or later.
    pub from: Option<Timestamp>,
    /// Only those that began before.
    pub to: Option<Timestamp>,
}

/// Records cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The place cannot be looked at.
    #[error("the records cannot be looked at")]
    Shelf(#[from] ShelfError),
    /// A finished line is not a record.
    #[error("{place} line {line} is not a record")]
    NotARecord {
        /// The file or object.
        place: String,
        /// Counted from one.
        line: u64,
        /// What is wrong with it.
        #[source]
        cause: NotAnEntry,
    },
    /// A record of another tenant than the partition's.
    #[error("{place} line {line} names another tenant than the partition it lies in")]
    Misplaced {
        /// The file or object.
        place: String,
        /// Counted from one.
        line: u64,
    },
    /// What does not fit into memory cannot be written to a temporary file.
    #[error("a temporary file cannot be used")]
    Temporary(#[source] io::Error),
}

impl Scope {
    /// The UTC days that its records began on.
    #[must_use]
    pub fn days(&self) -> Days {
        let last = |to: Timestamp| to.minus(Duration::from_micros(1)).date();
        Days {
            from: self.from.map(Timestamp::date),
            to: self.to.map(last),
        }
    }

    /// Shows every entry to `look`, on `threads` threads that each have a state of their own; gives
    /// the states. In no order. Entries outside the time asked for may be among them. Blocks.
    ///
    /// # Errors
    /// The first thing that went wrong; then nothing is given.
    pub fn entries<T: Send>(
        &self,
        shelf: &dyn Shelf,
        threads: usize,
        begin: impl Fn() -> T + Sync,
        look: impl Fn(&mut T, &Entry<'_>) -> io::Result<()> + Sync,
    ) -> Result<Vec<T>, Unread> {
        let (give, take) = mpsc::sync_channel::<(&Partition, Vec<Name>)>(AHEAD);
        let take = Mutex::new(take);
        let failed = AtomicBool::new(false);
        let work = || {
            let mut state = begin();
            let mut first = Ok(());
            loop {
                let next = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((partition, names)) = next else {
                    return first.map(|()| state);
                };
                // After a failure what is still listed is only taken away.
                if failed.load(Ordering::Relaxed) {
                    continue;
                }
                let read = read::entries(shelf, partition, &names, &mut |entry| {
                    look(&mut state, entry).map_err(Unread::Temporary)
                });
                if read.is_err() {
                    failed.store(true, Ordering::Relaxed);
                    first = read;
                }
            }
        };
        thread::scope(|scope| -> Result<Vec<T>, Unread> {
            let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            let mut listed = Ok(());
            for partition in &self.partitions {
                listed = list::batches(shelf, partition, self.days(), &mut |names| {
                    let going = !failed.load(Ordering::Relaxed);
                    going && give.send((partition, names)).is_ok()
                });
                if listed.is_err() {
                    break;
                }
            }
            drop(give);
            let mut states = Vec::new();
            for worker in workers {
                let state = worker
                    .join()
                    .unwrap_or_else(|panic| panic::resume_unwind(panic))?;
                states.push(state);
            }
            listed?;
            Ok(states)
        })
    }

    /// Shows every record asked for to `look`, whole, in no order. Blocks.
    ///
    /// # Errors
    /// The first thing that went wrong, as [`Scope::entries`].
    pub fn records(&self, shelf: &dyn Shelf, look: &mut dyn FnMut(Record)) -> Result<(), Unread> {
        for partition in &self.partitions {
            let mut result = Ok(());
            list::batches(shelf, partition, self.days(), &mut |names| {
                result = read::records(shelf, partition, &names, &mut |record| {
                    let at = record.subject.started_at;
                    if self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to) {
                        look(record);
                    }
                });
                result.is_ok()
            })?;
            result?;
        }
        Ok(())
    }
}

/// The partitions of tenants, in order.
///
/// # Errors
/// If the shelf cannot be looked at.
pub fn tenants(shelf: &dyn Shelf) -> Result<Vec<Partition>, Unread> {
    let partitions = shelf.partitions()?.into_iter();
    Ok(partitions.filter(|p| p.tenant().is_some()).collect())
}

#[cfg(test)]
mod tests;
