//! The chain of records of each partition: numbered without gaps, each naming the hash of the last.
//!
//! A record's line is put together from the bytes of the journal, so the same journal always makes
//! the same lines. Worst case: the disk takes no records; then at most one batch of lines waits
//! here and the rest in the journal.

mod sealing;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use foldhash::HashMap;
use tollgate_core::audit::{
    Day, FIRST_PREV_HASH, Item, Name, NotAPartition, Partition, ROOT, line_hash_into, write_line,
};
use tollgate_core::ids::{AgentId, ReplicaId};
use tollgate_core::time::Timestamp;

use super::db::{Db, DbError, Head, SegmentEnd};
use super::journal::entry::Place;
use super::record_segment::{RecordSegment, write_object};

pub(crate) use sealing::{Sealed, Sealing, Which, lock_all};

/// Days a partition is written in at once, beyond which segments at rest are closed: yesterday
/// and today, and a call that takes longer opens its day again.
const OPEN_DAYS: usize = 2;
/// Partitions whose files stay open between checkpoints. Far below the usual limit on open files.
const OPEN_PARTITIONS: usize = 256;

/// How records are laid out within a partition's day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// Many records to a file; elevated ones have a file of their own.
    #[default]
    Segments,
    /// Every record has a file of its own.
    Objects,
}

impl Layout {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Objects => "objects",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Segments, Self::Objects]
            .into_iter()
            .find(|layout| layout.as_str() == text)
    }
}

/// Whose chains, and how their records are laid out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Style {
    /// Who writes them.
    pub(crate) replica: ReplicaId,
    pub(crate) layout: Layout,
    /// A segment ends once it is this long.
    pub(crate) segment_bytes: u64,
}

struct Chain {
    partition: Partition,
    head: Head,
    moved: bool,
    days: BTreeMap<Day, RecordSegment>,
}

struct Object {
    name: Name,
    content: Vec<u8>,
}

/// The chains of every partition written to since start.
pub(crate) struct Chains {
    /// What names are below: the data directory.
    root: PathBuf,
    style: Style,
    sealing: Sealing,
    /// By the partition's name.
    chains: HashMap<String, Chain>,
    /// Waiting to be written.
    objects: Vec<Object>,
    /// Directories that have new files since the last sync.
    unsynced: BTreeSet<PathBuf>,
    /// Partitions with records that are not signed, and since when they have any.
    unsigned: HashMap<String, Timestamp>,
    /// Segments that have ended since the last checkpoint, and their lengths.
    ended: Vec<(Name, u64)>,
    /// Objects written since the last checkpoint, and their lengths.
    objects_written: Vec<(Name, u64)>,
    /// Segments that were made read-only since the last checkpoint.
    locked: Vec<Name>,
    line: Vec<u8>,
    /// Empty; memory for the lines of whichever segment is next.
    spare: Vec<u8>,
    pub(crate) counts: Counts,
}

/// Figures since start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) segments_sealed: u64,
    pub(crate) checkpoints_signed: u64,
}

impl Chains {
    /// Goes on where `db` says that chains have ended.
    pub(crate) fn load(
        data_dir: &Path,
        style: Style,
        sealing: Sealing,
        db: &Db,
        now: Timestamp,
    ) -> Result<Self, DbError> {
        let mut chains = Self {
            root: data_dir.to_owned(),
            style,
            sealing,
            chains: HashMap::default(),
            objects: Vec::new(),
            unsynced: BTreeSet::new(),
            unsigned: HashMap::default(),
            ended: Vec::new(),
            objects_written: Vec::new(),
            locked: lock_all(data_dir, db.unlocked()?.iter()),
            line: Vec::new(),
            spare: Vec::new(),
            counts: Counts::default(),
        };
        chains.load_unsigned(db, now)?;
        Ok(chains)
    }

    fn load_unsigned(&mut self, db: &Db, now: Timestamp) -> Result<(), DbError> {
        let unsigned = db.unsigned_chains(&self.style.replica)?.into_iter();
        self.unsigned = unsigned
            .map(|(name, since)| (name, since.unwrap_or(now)))
            .collect();
        Ok(())
    }

    pub(crate) const fn style(&self) -> &Style {
        &self.style
    }

    /// From here on, records are laid out like this. Only when everything is
    /// [settled](Self::settled).
    pub(crate) fn set_style(
        &mut self,
        style: Style,
        db: &Db,
        now: Timestamp,
    ) -> Result<(), DbError> {
        self.style = style;
        self.chains.clear();
        self.load_unsigned(db, now)
    }

    /// Makes the record of `parts`, JSON objects that are laid one behind the other, and takes it
    /// for writing.
    pub(crate) fn append(
        &mut self,
        db: &Db,
        place: &Place<'_>,
        parts: &[&[u8]],
    ) -> Result<(), ChainError> {
        let partition = place.partition.unwrap_or(Partition::Gateway.as_str());
        let Style {
            replica,
            layout,
            segment_bytes,
        } = &self.style;
        let chain = match self.chains.get_mut(partition) {
            Some(chain) => chain,
            None => {
                let chain = Chain::load(db, partition.parse()?, replica)?;
                self.chains.entry(partition.to_owned()).or_insert(chain)
            }
        };
        let seq = chain.head.seq + 1;
        write_line(&mut self.line, replica, seq, &chain.head.hash, parts);
        match place.agent {
            Some(agent) if place.elevated || *layout == Layout::Objects => {
                let item = Item::Object {
                    day: place.day(),
                    agent: agent.parse::<AgentId>().map_err(|_e| ChainError::Agent)?,
                    record: place.id,
                };
                self.objects.push(Object {
                    name: Name::new(chain.partition.clone(), item),
                    content: [&self.line[..], b"\n"].concat(),
                });
            }
            _ => {
                let segment = chain.segment(db, &self.root, place.day(), replica, seq)?;
                if segment.is_full(*segment_bytes) {
                    segment.write(&mut self.spare)?;
                    segment.sync()?;
                    segment.begin(seq);
                }
                segment.push(&self.line, &mut self.spare);
            }
        }
        chain.head.seq = seq;
        line_hash_into(&mut chain.head.hash, &self.line);
        chain.moved = true;
        self.counts.records += 1;
        Ok(())
    }

    /// Writes what has been taken. After a failure it is all tried again.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        for chain in self.chains.values_mut() {
            for segment in chain.days.values_mut() {
                segment.write(&mut self.spare)?;
            }
        }
        while let Some(object) = self.objects.last_mut() {
            write_object(&self.root, &mut object.name, &object.content)?;
            let length = object.content.len() as u64;
            let name = object.name.clone();
            self.unsynced.extend(dirs_of(&self.root, &name));
            self.objects_written.push((name, length));
            self.objects.pop();
        }
        Ok(())
    }

    /// Forces what has been written to the disk, with the directories it is in.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        for chain in self.chains.values_mut() {
            for segment in chain.days.values_mut() {
                if segment.sync()? {
                    self.unsynced.extend(dirs_of(&self.root, segment.name()));
                }
            }
        }
        for dir in &self.unsynced {
            File::open(dir)?.sync_all()?;
        }
        self.unsynced.clear();
        Ok(())
    }

    /// The heads that have moved since the last [`settled`](Self::settled).
    pub(crate) fn heads(&self) -> Vec<(&Partition, Head)> {
        self.chains
            .values()
            .filter(|chain| chain.moved)
            .map(|chain| (&chain.partition, chain.head.clone()))
            .collect()
    }

    /// The ends of segments that have moved since the last [`settled`](Self::settled).
    pub(crate) fn ends(&self) -> Vec<(&Partition, Day, SegmentEnd)> {
        let mut ends = Vec::new();
        for chain in self.chains.values() {
            for (day, segment) in chain.days.iter().filter(|(_, segment)| segment.has_moved()) {
                ends.extend(segment.end().map(|end| (&chain.partition, *day, end)));
            }
        }
        ends
    }

    /// Takes note that heads, ends and what is sealed are in the database; closes files beyond
    /// the bounds.
    pub(crate) fn settled(&mut self, sealed: &Sealed) {
        self.forget_sealed(sealed);
        for chain in self.chains.values_mut() {
            chain.moved = false;
            for segment in chain.days.values_mut() {
                segment.settled();
            }
            while chain.days.len() > OPEN_DAYS {
                chain.days.pop_first();
            }
        }
        if self.chains.len() > OPEN_PARTITIONS {
            self.chains.retain(|_, chain| {
                let at_rest = |segment: &RecordSegment| segment.is_at_rest();
                !chain.days.values().all(at_rest)
            });
        }
    }
}

impl Chain {
    fn load(db: &Db, partition: Partition, replica: &ReplicaId) -> Result<Self, DbError> {
        let head = db.head(&partition, replica)?.unwrap_or_else(|| Head {
            seq: 0,
            hash: FIRST_PREV_HASH.to_owned(),
        });
        Ok(Self {
            partition,
            head,
            moved: false,
            days: BTreeMap::new(),
        })
    }

    /// The segment of a day. Record `seq` begins it, if there is none.
    fn segment(
        &mut self,
        db: &Db,
        root: &Path,
        day: Day,
        replica: &ReplicaId,
        seq: u64,
    ) -> Result<&mut RecordSegment, DbError> {
        let new = match self.days.entry(day) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(new) => new,
        };
        let known = db.segment(&self.partition, replica, day)?;
        let end = known.unwrap_or_else(|| SegmentEnd::at(seq));
        let name = end.name(&self.partition, replica, day);
        Ok(new.insert(RecordSegment::new(root, name, end.length)))
    }
}

/// A record could not be placed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("the place of a record could not be looked up")]
    Db(#[from] DbError),
    #[error("a record could not be written")]
    Write(#[from] io::Error),
    #[error("a journal line names no partition")]
    Partition(#[from] NotAPartition),
    #[error("a journal line names no agent")]
    Agent,
}

/// The directories that something lies in, up to that of all partitions.
fn dirs_of(root: &Path, name: &Name) -> Vec<PathBuf> {
    let (path, top) = (root.join(name.to_string()), root.join(ROOT));
    path.ancestors()
        .skip(1)
        .take_while(|dir| dir.starts_with(&top))
        .map(Path::to_owned)
        .collect()
}
