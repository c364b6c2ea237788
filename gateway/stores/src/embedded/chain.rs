//! The chain of records of each tenant: numbered without gaps, each naming the hash of the last.
//!
//! A record's line is put together from the bytes of the journal, so the same journal always makes
//! the same lines. Worst case: the disk takes no records; then at most one batch of lines waits
//! here and the rest in the journal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use foldhash::HashMap;
use sha2::{Digest, Sha256};
use tollgate_core::record::SCHEMA;

use super::db::{Db, DbError, Head, PartitionEnd};
use super::journal::entry::Place;
use super::partition::{self, Partition};

/// The partition of strangers; no tenant can have this name.
pub(crate) const GATEWAY: &str = "_gateway";
/// The "hash of the record before" of the first record.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Days a tenant is writing in at once, beyond which files at rest are closed: yesterday and
/// today, and a call that takes longer opens its day again.
const OPEN_DAYS: usize = 2;
/// Tenants whose files stay open between checkpoints. Far below the usual limit on open files.
const OPEN_TENANTS: usize = 256;

/// How records are laid out within a tenant's day.
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

struct Chain {
    head: Head,
    moved: bool,
    partitions: BTreeMap<jiff::civil::Date, Partition>,
}

struct Object {
    path: PathBuf,
    seq: u64,
    content: Vec<u8>,
}

/// The chains of every tenant written to since start.
pub(crate) struct Chains {
    root: PathBuf,
    pub(crate) layout: Layout,
    tenants: HashMap<String, Chain>,
    /// Waiting to be written.
    objects: Vec<Object>,
    /// Written since the last sync.
    unsynced: Vec<PathBuf>,
    line: Vec<u8>,
    pub(crate) written: u64,
}

impl Chains {
    pub(crate) fn new(root: PathBuf, layout: Layout) -> Self {
        Self {
            root,
            layout,
            tenants: HashMap::default(),
            objects: Vec::new(),
            unsynced: Vec::new(),
            line: Vec::new(),
            written: 0,
        }
    }

    /// Makes the record of `parts`, JSON objects that are laid one behind the other, and takes it
    /// for writing.
    pub(crate) fn append(
        &mut self,
        db: &Db,
        place: &Place<'_>,
        parts: &[&[u8]],
    ) -> Result<(), ChainError> {
        let tenant = place.tenant.unwrap_or(GATEWAY);
        let date = place.day();
        if !self.tenants.contains_key(tenant) {
            let head = db.head(tenant)?.unwrap_or_else(|| Head {
                seq: 0,
                hash: NO_HASH.to_owned(),
            });
            let chain = Chain {
                head,
                moved: false,
                partitions: BTreeMap::new(),
            };
            self.tenants.insert(tenant.to_owned(), chain);
        }
        let Some(chain) = self.tenants.get_mut(tenant) else {
            return Ok(());
        };
        let seq = chain.head.seq + 1;
        write_line(&mut self.line, seq, &chain.head.hash, parts)?;
        match place.agent {
            Some(agent) if place.elevated || self.layout == Layout::Objects => {
                let dir = day_dir(&self.root, tenant, date).join(agent_dir(agent));
                self.objects.push(Object {
                    path: dir.join(format!("{}.json", place.id)),
                    seq,
                    content: [&self.line[..], b"\n"].concat(),
                });
            }
            _ => {
                let partition = match chain.partitions.entry(date) {
                    std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::btree_map::Entry::Vacant(new) => {
                        let end = db.partition(tenant, &date.to_string())?;
                        new.insert(Partition::new(day_dir(&self.root, tenant, date), end))
                    }
                };
                if partition.is_full() {
                    partition.write()?;
                    partition.sync()?;
                    partition.next_file();
                }
                partition.push(&self.line);
            }
        }
        chain.head.seq = seq;
        hash_into(&mut chain.head.hash, &self.line);
        chain.moved = true;
        self.written += 1;
        Ok(())
    }

    /// Writes what has been taken. After a failure it is all tried again.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        for chain in self.tenants.values_mut() {
            for partition in chain.partitions.values_mut() {
                partition.write()?;
            }
        }
        while let Some(object) = self.objects.last() {
            let path = partition::write_object(&object.path, object.seq, &object.content)?;
            self.unsynced.push(path);
            self.objects.pop();
        }
        Ok(())
    }

    /// Forces what has been written to the disk, with the directories it is in.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let mut dirs = std::collections::BTreeSet::new();
        for chain in self.tenants.values_mut() {
            for partition in chain.partitions.values_mut() {
                if partition.sync()? {
                    dirs.extend(dirs_up_to(&self.root, partition.dir()));
                }
            }
        }
        for path in &self.unsynced {
            File::open(path)?.sync_data()?;
            dirs.extend(
                path.parent()
                    .into_iter()
                    .flat_map(|dir| dirs_up_to(&self.root, dir)),
            );
        }
        for dir in dirs {
            File::open(dir)?.sync_all()?;
        }
        self.unsynced.clear();
        Ok(())
    }

    /// The heads that have moved since the last [`settled`](Self::settled).
    pub(crate) fn heads(&self) -> Vec<(&str, Head)> {
        self.tenants
            .iter()
            .filter(|(_, chain)| chain.moved)
            .map(|(tenant, chain)| (tenant.as_str(), chain.head.clone()))
            .collect()
    }

    /// The partition ends that have moved since the last [`settled`](Self::settled).
    pub(crate) fn ends(&self) -> Vec<(&str, String, PartitionEnd)> {
        let mut ends = Vec::new();
        for (tenant, chain) in &self.tenants {
            for (date, partition) in &chain.partitions {
                let moved = partition.moved();
                ends.extend(moved.map(|end| (tenant.as_str(), date.to_string(), end)));
            }
        }
        ends
    }

    /// Takes note that heads and ends are in the database; closes files beyond the bounds.
    pub(crate) fn settled(&mut self) {
        for chain in self.tenants.values_mut() {
            chain.moved = false;
            for partition in chain.partitions.values_mut() {
                partition.settled();
            }
            while chain.partitions.len() > OPEN_DAYS {
                chain.partitions.pop_first();
            }
        }
        if self.tenants.len() > OPEN_TENANTS {
            self.tenants.retain(|_, chain| {
                let at_rest = |partition: &Partition| partition.is_at_rest();
                !chain.partitions.values().all(at_rest)
            });
        }
    }
}

/// A record could not be placed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error("the place of a record could not be looked up")]
    Db(#[from] DbError),
    #[error("a record could not be written")]
    Write(#[from] io::Error),
}

/// The SHA-256 of a record's line without its newline, as lower-case hex.
#[must_use]
pub fn line_hash(line: &[u8]) -> String {
    let mut hash = String::with_capacity(64);
    hash_into(&mut hash, line);
    hash
}

fn hash_into(hash: &mut String, line: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(Sha256::digest(line)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 0xf)];
    }
    hash.clear();
    // Digits are UTF-8.
    hash.push_str(str::from_utf8(&digits).unwrap_or_default());
}

fn write_line(line: &mut Vec<u8>, seq: u64, prev_hash: &str, parts: &[&[u8]]) -> io::Result<()> {
    line.clear();
    line.extend_from_slice(br#"{"tollgate.schema":""#);
    line.extend_from_slice(SCHEMA.as_bytes());
    line.extend_from_slice(br#"","tollgate.seq":"#);
    write!(line, "{seq}")?;
    line.extend_from_slice(br#","tollgate.prev_hash":""#);
    line.extend_from_slice(prev_hash.as_bytes());
    line.push(b'"');
    for part in parts {
        let object = part.strip_prefix(b"{");
        let members = object.and_then(|rest| rest.strip_suffix(b"}"));
        let members = members.unwrap_or_default();
        if !members.is_empty() {
            line.push(b',');
            line.extend_from_slice(members);
        }
    }
    line.push(b'}');
    Ok(())
}

/// `{root}/{tenant}/{yyyy}/{mm}/{dd}`
pub(crate) fn day_dir(root: &Path, tenant: &str, date: jiff::civil::Date) -> PathBuf {
    let mut day = String::with_capacity(10);
    // Writing to a string cannot fail.
    let _ = write!(
        day,
        "{:04}/{:02}/{:02}",
        date.year(),
        date.month(),
        date.day()
    );
    root.join(tenant).join(day)
}

/// The directory of an agent's records within the day. An agent may be called like a file that is
/// beside it; then its directory is called a little differently.
fn agent_dir(agent: &str) -> String {
    let like_file = agent.starts_with("records-") && agent.ends_with(".jsonl");
    format!("{agent}{}", if like_file { "_" } else { "" })
}

/// `dir` and its parents, up to `root`.
fn dirs_up_to(root: &Path, dir: &Path) -> Vec<PathBuf> {
    dir.ancestors()
        .take_while(|ancestor| ancestor.starts_with(root))
        .map(Path::to_owned)
        .collect()
}
