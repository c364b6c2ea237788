//! Copies files of a tenant line by line, and keeps what proves that their chains are whole.
//!
//! Of each file only the stretches of numbers without a gap are kept, with the hashes at their
//! ends. What lies beyond the records that were there when the export began is left out, so that
//! a gateway that writes meanwhile does not tear the end of a chain. A form that is not lines is
//! copied as it is and looked at in the copy.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write as _};
use std::path::Path;

use sha2::{Digest, Sha256};
use tollgate_core::audit::{Form, Item, Link, Name};
use tollgate_core::ids::ReplicaId;

use super::ExportError;
use super::manifest::File;
use crate::lines::Lines;
use crate::shelf::{LocalShelf, Shelf};
use crate::verify::{Verified, hex, look_at};

/// Records of a chain that lie one behind the other.
pub(super) struct Stretch {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) hash_before: String,
    pub(super) hash_last: String,
}

/// What has been copied.
pub(super) struct Copied {
    /// The last record of each chain that was there when the export began.
    ends: BTreeMap<ReplicaId, u64>,
    pub(super) files: Vec<File>,
    pub(super) stretches: BTreeMap<ReplicaId, Vec<Stretch>>,
    pub(super) records: u64,
}

impl Copied {
    /// Of a partition that has been looked at.
    pub(super) fn new(source: &Verified) -> Self {
        let chains = source.chains.iter();
        let ends = chains.filter_map(|chain| Some((chain.replica.clone(), chain.last?.seq)));
        Self {
            ends: ends.collect(),
            files: Vec::new(),
            stretches: BTreeMap::new(),
            records: 0,
        }
    }

    /// Copies a segment or an object, and brings its stretches to the others.
    pub(super) fn records(
        &mut self,
        shelf: &dyn Shelf,
        name: &Name,
        dir: &Path,
    ) -> Result<(), ExportError> {
        let path = dir.join(name.to_string());
        let local = LocalShelf::new(dir);
        let plain = match name.item {
            Item::Segment { form, .. } => form == Form::JsonLines,
            _ => true,
        };
        let mut text = Vec::new();
        let mut lines = if plain {
            Lines::open(shelf, name)?
        } else {
            let mut from = shelf.open(name)?;
            let copied = from.read_to_end(&mut text).and_then(|_| put(&path, &text));
            copied.map_err(|error| ExportError::Write(path.clone(), error))?;
            Lines::open(&local, name)?
        };
        let mut records = 0;
        let mut found: Vec<(ReplicaId, Stretch)> = Vec::new();
        while let Some((number, line)) = lines.next_line()? {
            let not_theirs = || ExportError::NotTheirs {
                file: name.to_string(),
                line: number,
            };
            let link = Link::parse(line).map_err(|_unreadable| not_theirs())?;
            let (seq, prev, hash) = look_at(&name.partition, line).ok_or_else(not_theirs)?;
            let end = self.ends.get(&link.replica).copied();
            if plain && end.is_none_or(|end| seq > end) {
                continue;
            }
            records += 1;
            if plain {
                text.extend_from_slice(line);
                text.push(b'\n');
            }
            match found.last_mut() {
                Some((replica, last)) if *replica == link.replica && last.last + 1 == seq => {
                    last.last = seq;
                    last.hash_last = hex(&hash);
                }
                _ => found.push((
                    link.replica,
                    Stretch {
                        first: seq,
                        last: seq,
                        hash_before: hex(&prev),
                        hash_last: hex(&hash),
                    },
                )),
            }
        }
        if records == 0 {
            return Ok(());
        }
        if plain {
            put(&path, &text).map_err(|error| ExportError::Write(path, error))?;
        }
        for (replica, stretch) in found {
            self.stretches.entry(replica).or_default().push(stretch);
        }
        self.records += records;
        self.took(name, &text, records);
        Ok(())
    }

    /// Copies a checkpoint, if it is about a record that was copied or that is rightly gone.
    pub(super) fn checkpoint(
        &mut self,
        shelf: &dyn Shelf,
        name: &Name,
        dir: &Path,
    ) -> Result<(), ExportError> {
        let Item::Checkpoint { replica, seq } = &name.item else {
            return Ok(());
        };
        let end = self.stretches.get(replica).into_iter().flatten();
        if end
            .map(|stretch| stretch.last)
            .max()
            .is_none_or(|last| last < *seq)
        {
            return Ok(());
        }
        let path = dir.join(name.to_string());
        let mut text = Vec::new();
        let mut from = shelf.open(name)?;
        let copied = from.read_to_end(&mut text).and_then(|_| put(&path, &text));
        copied.map_err(|error| ExportError::Write(path, error))?;
        self.took(name, &text, 0);
        Ok(())
    }

    fn took(&mut self, name: &Name, text: &[u8], records: u64) {
        self.files.push(File {
            name: name.to_string(),
            bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
            sha256: hex(&Sha256::digest(text).into()),
            records,
        });
    }
}

/// Writes a file and the directories above it, durably.
pub(super) fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::File::create_new(path)?;
    file.write_all(text)?;
    file.sync_data()
}
