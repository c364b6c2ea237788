//! Intents that are written together, and what came of it.
//!
//! Worst case: a write fails half-way, what it has left cannot be cut off, and the process dies
//! before the next segment says where this one ends. Intents that were refused then count as
//! interrupted calls.

use std::io;
use std::sync::{Arc, OnceLock};

use tollgate_core::ids::RecordId;

use super::entry::Written;
use super::{Fsync, Journal, with_line};

/// What whoever waits for one of these intents is told.
#[derive(Default)]
pub(super) struct Group(OnceLock<Result<u64, (io::ErrorKind, String)>>);

impl Group {
    /// It has been written, up to byte `total` since start, or has not.
    pub(super) fn ends(&self, written: &io::Result<()>, total: u64) {
        let outcome = match written {
            Ok(()) => Ok(total),
            Err(error) => Err((error.kind(), error.to_string())),
        };
        // Whoever takes a group out of the waiting ones ends it, and nobody else has it to take.
        let _first = self.0.set(outcome);
    }

    /// The bytes written since start, once it is written.
    pub(super) fn outcome(&self) -> Option<io::Result<u64>> {
        let outcome = self.0.get()?;
        Some(match outcome {
            Ok(total) => Ok(*total),
            Err((kind, told)) => Err(io::Error::new(*kind, told.clone())),
        })
    }
}

impl Journal {
    /// Writes `entry` together with what others append in the same turn of the event loop. When
    /// this returns `Ok`, the line survives the process, and with [`Fsync::Always`] the machine.
    /// Otherwise the line is not there, or is taken back.
    pub(crate) async fn append(&self, id: RecordId, entry: &Written<'_>) -> io::Result<()> {
        let group = with_line(entry, |line| self.join(line))?;
        // Also runs when the caller stops waiting: a call that is not made has no intent.
        let mut withdrawal = Withdrawal {
            journal: self,
            group,
            id: Some(id),
        };
        tokio::task::yield_now().await;
        let written = self.write_group(&withdrawal.group);
        let ticket = written.inspect_err(|_| withdrawal.id = None)?;
        if self.fsync == Fsync::Always {
            self.wait_for_sync(ticket).await?;
        }
        withdrawal.id = None;
        Ok(())
    }

    async fn wait_for_sync(&self, ticket: u64) -> io::Result<()> {
        let mut progress = self.progress.subscribe();
        let synced = progress
            .wait_for(|p| p.done >= ticket || p.covers(ticket))
            .await
            .map_err(io::Error::other)?
            .to_owned();
        if synced.covers(ticket) {
            return Err(io::Error::other("the journal could not be synced"));
        }
        Ok(())
    }

    /// Leaves an intent for the next write; the answer tells what becomes of it.
    fn join(&self, line: &[u8]) -> Arc<Group> {
        let mut waiting = self.waiting();
        waiting.intents.extend_from_slice(line);
        Arc::clone(&waiting.group)
    }

    /// Writes a group, unless another of its members has; returns the bytes written since start.
    fn write_group(&self, group: &Group) -> io::Result<u64> {
        if let Some(outcome) = group.outcome() {
            return outcome;
        }
        let mut state = self.lock();
        // Whoever held the lock may have written it meanwhile.
        if let Some(outcome) = group.outcome() {
            return outcome;
        }
        self.write(&mut state, &[])?;
        Ok(state.total)
    }
}

/// Takes an intent back whose caller waits no longer.
struct Withdrawal<'a> {
    journal: &'a Journal,
    group: Arc<Group>,
    id: Option<RecordId>,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take()
            // It has to stand behind what it takes back.
            && self.journal.write_group(&self.group).is_ok()
        {
            self.journal.append_later(&Written::Withdrawn(id), false);
        }
    }
}
