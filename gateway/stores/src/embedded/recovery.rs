//! What a start does before any call is taken: the journal is brought to its end.
//!
//! Everything behind the last checkpoint is shipped, and every intent without outcome gets one,
//! `interrupted`, at the amount that was reserved for it. That outcome is a journal line like any
//! other, so a crash in the middle of this is recovered from in the same way. Where a predecessor
//! is still making those calls, they stay open, and their holds are handed on. Worst case: a
//! damaged journal stops the start, and a person decides.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_core::admin_log::{self, Ended};
use tollgate_core::audit::Destination;
use tollgate_core::budget::Hold;
use tollgate_core::ids::RecordId;
use tollgate_core::record::{Ending, Outcome, UsageSource};
use tollgate_core::time::Timestamp;

use super::chain::{Chains, Sealing, Style, Which};
use super::db::{Db, Position};
use super::journal::entry::{End, Written};
use super::journal::segment::{self, Damaged};
use super::journal::{Fsync, Journal};
use super::outbox::Waiting;
use super::shipper::{Begun, ShipError, Shipper};

/// Why the state from before cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error("the journal could not be read or continued")]
    Journal(#[from] io::Error),
    #[error("what the journal holds could not be shipped")]
    Ship(#[from] ShipError),
}

/// A journal to continue in, and a shipper that has caught up with it.
pub(crate) struct Recovered {
    pub(crate) journal: Journal,
    pub(crate) shipper: Shipper,
    /// Intents that got their outcome here.
    pub(crate) interrupted: usize,
    /// What is held for the calls that stay open.
    pub(crate) open: Vec<Hold>,
}

/// What becomes of calls without an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unended {
    /// Nobody is making them any more.
    Interrupt,
    /// A predecessor is, and tells how they end.
    Keep,
}

/// How to go on.
pub(crate) struct Onward {
    pub(crate) style: Style,
    pub(crate) sealing: Sealing,
    pub(crate) fsync: Fsync,
    /// Who has got parcels so far, and gets more.
    pub(crate) destinations: Vec<Destination>,
    pub(crate) outbox: Arc<Waiting>,
}

/// Brings journal and database in `data_dir` to one state.
pub(crate) fn recover(
    data_dir: &Path,
    db: &Arc<Mutex<Db>>,
    onward: Onward,
    unended: Unended,
    now: Timestamp,
) -> Result<Recovered, RecoverError> {
    let style = &onward.style;
    let dir = data_dir.join("journal");
    fs::create_dir_all(&dir)?;
    let known = db
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .position()
        .map_err(ShipError::from)?;
    let (position, old_style) = match known {
        Some(Position { end, style }) => (end, style),
        None => (End::default(), None),
    };
    // What was shipped before the crash must come out the same again, so in the old style.
    let old_style = old_style.unwrap_or_else(|| style.clone());
    let same_replica = old_style.replica == style.replica;
    let chains = {
        let db = db.lock().unwrap_or_else(PoisonError::into_inner);
        Chains::load(data_dir, old_style, onward.sealing, &db, now).map_err(ShipError::from)?
    };
    let mut shipper = Shipper::new(db.clone(), chains, onward.outbox, position, now)?;
    shipper.set_destinations(onward.destinations);
    let last = replay(&dir, &mut shipper, position)?;

    let number = last.segment.max(position.segment) + 1;
    let journal = Journal::create(&dir, number, Some(last), onward.fsync)?;
    let (kept, lost) = match unended {
        Unended::Interrupt => (Vec::new(), shipper.unended()?),
        Unended::Keep => split(shipper.unended()?),
    };
    let interrupted = interrupt(&journal, lost, now);
    journal.flush()?;
    journal.sync()?;
    shipper.go_to(number);
    shipper.ship(&journal)?;
    // Nobody will go on in the chains of another replica.
    let which = if same_replica { Which::Due } else { Which::All };
    shipper.checkpoint(&journal, which, now)?;
    shipper.set_style(style, now)?;
    shipper.checkpoint(&journal, Which::Due, now)?;
    Ok(Recovered {
        journal,
        shipper,
        interrupted,
        open: kept,
    })
}

/// Calls, which a predecessor goes on making, and the rest, which ended before it let go.
fn split(open: Vec<(RecordId, Begun)>) -> (Vec<Hold>, Vec<(RecordId, Begun)>) {
    let mut kept = Vec::new();
    let mut lost = Vec::new();
    for (id, begun) in open {
        match begun {
            Begun::Call(keys, amount) => kept.push(Hold {
                id,
                keys: keys.into(),
                amount,
            }),
            Begun::AdminAction => lost.push((id, begun)),
        }
    }
    (kept, lost)
}

/// Feeds the segments there are to `shipper`; returns where the last one ends.
fn replay(dir: &Path, shipper: &mut Shipper, position: End) -> Result<End, RecoverError> {
    let mut last = position;
    let numbers = segment::numbers(dir)?;
    for (place, number) in numbers.iter().copied().enumerate() {
        if number < position.segment {
            continue;
        }
        let limit = match numbers.get(place + 1) {
            Some(next) => segment::previous_end(dir, *next)?
                .filter(|end| end.segment == number)
                .map_or(u64::MAX, |end| end.length),
            None => u64::MAX,
        };
        let bytes = fs::read(segment::path(dir, number))?;
        let good = bytes
            .len()
            .min(usize::try_from(limit).unwrap_or(usize::MAX));
        let salvage = segment::salvage(number, &bytes[..good])?;
        if salvage.skipped > 0 {
            tracing::warn!(
                segment = number,
                bytes = salvage.skipped,
                "the journal ends in lines that were never finished; they are left out"
            );
        }
        for (length, body) in salvage.lines {
            let end = End {
                segment: number,
                length,
            };
            if end <= position {
                shipper.recall(body, number)?;
            } else {
                shipper.replay(body, end)?;
            }
        }
        shipper.write()?;
        last = End {
            segment: number,
            length: good as u64,
        };
    }
    Ok(last)
}

/// Puts an outcome into the journal for whatever is open; returns how many calls were.
fn interrupt(journal: &Journal, mut open: Vec<(RecordId, Begun)>, now: Timestamp) -> usize {
    // In a fixed order, so that the same crash always leads to the same records.
    open.sort_unstable();
    let mut calls = 0;
    for (id, begun) in &open {
        match begun {
            Begun::Call(_, reserved) => {
                calls += 1;
                let ending = Ending {
                    usage_source: UsageSource::Interrupted,
                    cost: *reserved,
                    ..Ending::new(now, Outcome::Interrupted)
                };
                let entry = Written::Outcome {
                    id: *id,
                    ending: &ending,
                };
                journal.append_later(&entry, false);
            }
            Begun::AdminAction => {
                let ended = Ended {
                    at: now,
                    outcome: admin_log::Outcome::Interrupted,
                    status: None,
                    code: None,
                };
                let entry = Written::Ended {
                    id: *id,
                    ended: &ended,
                };
                journal.append_later(&entry, false);
            }
        }
    }
    calls
}
