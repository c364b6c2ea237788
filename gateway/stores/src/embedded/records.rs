//! What becomes a record, put into the journal; the shipper makes the record of it.
//!
//! An intent is the only thing waited for, and the only thing that is not kept while too much waits
//! for the object store: what was under way ends, and refusals go on being told. A refusal is
//! written before anybody is told of it, so that a kill forgets none that somebody has seen. Worst
//! case: under a flood of strangers all but a hundred a second go unrecorded, and are counted.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tollgate_core::budget::StoreError;
use tollgate_core::ids::RecordId;
use tollgate_core::record::{Ending, Intent, Record, RecordLog, Stranger};

use super::journal::Journal;
use super::journal::entry::Written;
use super::outbox::Waiting;

/// Strangers recorded per second: anybody can be one, at no cost, and the disk is finite.
const STRANGERS_PER_SECOND: u32 = 100;

/// The record log of one data directory.
pub struct Records {
    journal: Arc<Journal>,
    outbox: Arc<Waiting>,
    /// The second of the last stranger, and how many there were in it.
    strangers: Mutex<(i64, u32)>,
    unrecorded_strangers: AtomicU64,
}

impl Records {
    pub(crate) fn new(journal: Arc<Journal>, outbox: Arc<Waiting>) -> Self {
        Self {
            journal,
            outbox,
            strangers: Mutex::new((0, 0)),
            unrecorded_strangers: AtomicU64::new(0),
        }
    }

    #[cfg(test)]
    pub(crate) const fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    pub(crate) fn unrecorded_strangers(&self) -> u64 {
        self.unrecorded_strangers.load(Ordering::Relaxed)
    }

    /// What [`intend`](RecordLog::intend) does, for whoever knows where it is kept.
    pub(crate) async fn keep(&self, intent: Intent<'_>) -> Result<(), StoreError> {
        if self.outbox.is_full() {
            return Err(not_kept(TooMuchWaits));
        }
        let entry = written(intent);
        let appended = self.journal.append(intent.subject.id, &entry);
        appended.await.map_err(not_kept)
    }

    /// Writes now; if the disk takes nothing, later, as long as there is room for it.
    fn write_or_keep(&self, entry: &Written<'_>) {
        if self.journal.append_unsynced(entry).is_err() {
            self.journal.append_later(entry, true);
        }
    }

    fn has_room_for_stranger(&self, stranger: &Stranger) -> bool {
        let second = stranger.at.as_seconds();
        let mut seen = self
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A clock that goes back must not open a new allowance.
        if second > seen.0 {
            *seen = (second, 0);
        }
        seen.1 = seen.1.saturating_add(1);
        seen.1 <= STRANGERS_PER_SECOND
    }
}

/// No call is made whose record could not be handed over for long.
#[derive(Debug, thiserror::Error)]
#[error("too many records wait for the object store")]
struct TooMuchWaits;

fn not_kept(cause: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError {
        operation: "keep an intent",
        store: "record",
        cause: Box::new(cause),
    }
}

const fn written(Intent { subject, hold }: Intent<'_>) -> Written<'_> {
    Written::Intent { subject, hold }
}

#[async_trait]
impl RecordLog for Records {
    async fn intend(&self, intent: Intent<'_>) -> Result<(), StoreError> {
        self.keep(intent).await
    }

    fn conclude(&self, id: RecordId, ending: &Ending) {
        self.journal
            .append_later(&Written::Outcome { id, ending }, false);
    }

    fn refuse(&self, record: &Record) {
        self.write_or_keep(&Written::Refused {
            subject: &record.subject,
            ending: &record.ending,
        });
    }

    fn turn_away(&self, stranger: &Stranger) {
        if self.has_room_for_stranger(stranger) {
            self.write_or_keep(&Written::Stranger(stranger));
        } else {
            self.unrecorded_strangers.fetch_add(1, Ordering::Relaxed);
        }
    }
}
