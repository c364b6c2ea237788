//! When a partition's segments end, and what is signed then.
//!
//! Decided at a checkpoint of the database and committed with it, so a crash leaves either the
//! segments open or all of them sealed: replaying the journal never decides it again. All of a
//! partition ends at once, and what is signed is its last record, so whatever has been handed over
//! can be checked to its end. Things become true in this order:
//!
//! 1. lines, objects and the signed checkpoint are on the disk;
//! 2. one transaction: the segments are no longer open, the parcels wait;
//! 3. the segments are made read-only; the database remembers which until they are.
//!
//! What is made again after a crash has the same bytes, or another name. Worst case: a crash
//! between 1 and 2 leaves a signed checkpoint that is true and is handed over to nobody.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tollgate_core::audit::{AuditKey, Checkpoint, Item, Name, Partition};
use tollgate_core::ids::ReplicaId;
use tollgate_core::time::Timestamp;

use super::{ChainError, Chains, dirs_of};
use crate::embedded::db::{Db, Head};
use crate::embedded::record_segment::{SEALED_MODE, write_whole};

/// Partitions sealed in one checkpoint of the database: each costs a file and some rows, and the
/// journal waits meanwhile.
const AT_ONCE: usize = 500;

/// How partitions are sealed.
#[derive(Clone, Debug)]
pub(crate) struct Sealing {
    /// What checkpoints are signed with.
    pub(crate) key: Arc<AuditKey>,
    /// How long a record may lie in an open segment.
    pub(crate) age: Duration,
}

/// Which partitions are to be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    /// Those that have waited long enough, and those with a segment that is full.
    Due,
    /// All that have anything that is not signed.
    All,
}

/// What becomes final with one checkpoint of the database.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// Partitions that have no open segments then, and the last record that is signed.
    pub(crate) partitions: Vec<(Partition, u64)>,
    /// Everything that is final then, in its order, with its length.
    pub(crate) parcels: Vec<(Name, u64)>,
}

impl Sealed {
    /// The segments among the parcels.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Name> {
        let names = self.parcels.iter().map(|(name, _)| name);
        names.filter(|name| matches!(name.item, Item::Segment { .. }))
    }
}

/// The chain that a checkpoint is about.
struct Signed<'a> {
    partition: &'a Partition,
    replica: &'a ReplicaId,
    head: &'a Head,
}

impl Chains {
    /// Segments that have been made read-only since the last checkpoint.
    pub(crate) fn locked(&self) -> &[Name] {
        &self.locked
    }

    /// Whether anything is not signed yet.
    pub(crate) fn has_unsigned(&self) -> bool {
        !self.unsigned.is_empty()
    }

    /// Whether [`seal`](Self::seal) would seal anything.
    pub(crate) fn is_due(&mut self, which: Which, now: Timestamp) -> bool {
        self.note_unsigned(now);
        let due = |since: &Timestamp| which == Which::All || self.is_old(*since, now);
        self.unsigned.values().any(due)
    }

    /// Takes note of records that are not signed yet, as of `now`.
    pub(super) fn note_unsigned(&mut self, now: Timestamp) {
        for (name, _) in self.chains.iter().filter(|(_, chain)| chain.moved) {
            if !self.unsigned.contains_key(name) {
                self.unsigned.insert(name.clone(), now);
            }
        }
        // A clock that was put back must not keep a segment open for longer.
        for since in self.unsigned.values_mut() {
            *since = now.min(*since);
        }
    }

    /// Signs what is due and says what is final with the next checkpoint of the database. Changes
    /// nothing but files, so that it can be done again after a failure.
    pub(crate) fn seal(
        &mut self,
        db: &Mutex<Db>,
        which: Which,
        now: Timestamp,
    ) -> Result<Sealed, ChainError> {
        self.note_unsigned(now);
        for segment in self
            .chains
            .values_mut()
            .flat_map(|chain| chain.days.values_mut())
        {
            self.ended.append(segment.ended());
        }
        let mut sealed = Sealed {
            partitions: Vec::new(),
            parcels: self.ended.clone(),
        };
        sealed.parcels.extend_from_slice(&self.objects_written);
        for name in self.due(which, now) {
            self.seal_partition(db, &name, now, &mut sealed)?;
        }
        Ok(sealed)
    }

    fn due(&self, which: Which, now: Timestamp) -> Vec<String> {
        let ended = self.ended.iter();
        let full: BTreeSet<&str> = ended
            .map(|(segment, _)| segment.partition.as_str())
            .collect();
        let mut due: Vec<(Timestamp, &String)> = self
            .unsigned
            .iter()
            .filter(|(name, since)| {
                which == Which::All || self.is_old(**since, now) || full.contains(name.as_str())
            })
            .map(|(name, since)| (*since, name))
            .collect();
        due.sort_unstable();
        if which == Which::Due {
            due.truncate(AT_ONCE);
        }
        due.into_iter().map(|(_, name)| name.clone()).collect()
    }

    fn is_old(&self, since: Timestamp, now: Timestamp) -> bool {
        since.plus(self.sealing.age) <= now
    }

    fn seal_partition(
        &mut self,
        db: &Mutex<Db>,
        name: &str,
        now: Timestamp,
        sealed: &mut Sealed,
    ) -> Result<(), ChainError> {
        let partition: Partition = name.parse()?;
        let replica = &self.style.replica;
        let (mut open, stored) = {
            // Not while anything is written: others wait for it, too.
            let db = db.lock().unwrap_or_else(PoisonError::into_inner);
            let stored = db.head(&partition, replica)?;
            (db.open_segments(&partition, replica)?, stored)
        };
        let known = self.chains.get(name);
        for (day, segment) in known.iter().flat_map(|chain| &chain.days) {
            open.extend(segment.end().map(|end| (*day, end)));
        }
        let Some(head) = known.map(|chain| chain.head.clone()).or(stored) else {
            return Ok(());
        };
        let mut segments: Vec<_> = open
            .into_iter()
            .filter(|(_, end)| end.length > 0)
            .map(|(day, end)| (end, end.name(&partition, replica, day)))
            .collect();
        segments.sort_unstable_by_key(|(end, _)| end.first);
        let chain = Signed {
            partition: &partition,
            replica,
            head: &head,
        };
        let (checkpoint, length) = sign(&self.root, &self.sealing.key, &chain, now)?;
        self.unsynced.extend(dirs_of(&self.root, &checkpoint));
        let segments = segments.into_iter();
        sealed
            .parcels
            .extend(segments.map(|(end, name)| (name, end.length)));
        sealed.parcels.push((checkpoint, length));
        sealed.partitions.push((partition, head.seq));
        Ok(())
    }

    /// Takes note that the database knows of it, and makes the segments read-only.
    pub(super) fn forget_sealed(&mut self, sealed: &Sealed) {
        self.ended.clear();
        self.objects_written.clear();
        for (partition, _) in &sealed.partitions {
            self.unsigned.remove(partition.as_str());
            if let Some(chain) = self.chains.get_mut(partition.as_str()) {
                chain.days.clear();
            }
        }
        self.counts.checkpoints_signed += sealed.partitions.len() as u64;
        self.counts.segments_sealed += sealed.segments().count() as u64;
        self.locked = lock_all(&self.root, sealed.segments());
    }
}

/// Makes segments read-only; returns those that need not be remembered any longer.
pub(crate) fn lock_all<'a>(root: &Path, segments: impl Iterator<Item = &'a Name>) -> Vec<Name> {
    let mut done = Vec::new();
    for name in segments {
        let path = root.join(name.to_string());
        match fs::set_permissions(&path, Permissions::from_mode(SEALED_MODE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // Tried again at the next start.
                tracing::error!(segment = %name, %error, "a segment cannot be made read-only");
            }
            _ => done.push(name.clone()),
        }
    }
    done
}

/// Writes the signed checkpoint of a chain's head, unless there is one that holds.
fn sign(
    root: &Path,
    key: &AuditKey,
    chain: &Signed<'_>,
    now: Timestamp,
) -> Result<(Name, u64), ChainError> {
    let item = Item::Checkpoint {
        replica: chain.replica.clone(),
        seq: chain.head.seq,
    };
    let mut name = Name::new(chain.partition.clone(), item);
    loop {
        let path = root.join(name.to_string());
        match fs::read(&path) {
            Ok(there) if chain.is_signed_by(key, &there) => return Ok((name, there.len() as u64)),
            Ok(_other_bytes) => name.copy += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let checkpoint = chain.sign(key, now);
                let mut line = serde_json::to_vec(&checkpoint).map_err(io::Error::other)?;
                line.push(b'\n');
                write_whole(&path, &line)?;
                return Ok((name, line.len() as u64));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Signed<'_> {
    fn sign(&self, key: &AuditKey, now: Timestamp) -> Checkpoint {
        let (partition, replica) = (self.partition.clone(), self.replica.clone());
        key.checkpoint(
            partition,
            replica,
            self.head.seq,
            self.head.hash.clone(),
            now,
        )
    }

    /// Whether `there` is a checkpoint of this head that was left by a crash.
    fn is_signed_by(&self, key: &AuditKey, there: &[u8]) -> bool {
        let Ok(found) = serde_json::from_slice::<Checkpoint>(there) else {
            return false;
        };
        found.partition == *self.partition
            && found.replica == *self.replica
            && (found.seq, &found.hash) == (self.head.seq, &self.head.hash)
            && found.verify(std::slice::from_ref(key.public())).is_ok()
    }
}
