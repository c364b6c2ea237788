//! The lines of files that hold the same records, each once.

use std::collections::HashSet;
use std::io;

use serde::de::Error;
use tollgate_core::audit::{Link, Name, Partition};
use tollgate_core::record::Record;
use tollgate_core::report::{Entry, NotAnEntry};

use super::Unread;
use crate::lines::Lines;
use crate::shelf::{Shelf, ShelfError};

pub(super) fn entries(
    shelf: &dyn Shelf,
    partition: &Partition,
    names: &[Name],
    look: &mut dyn FnMut(&Entry<'_>) -> Result<(), Unread>,
) -> Result<(), Unread> {
    each_line(shelf, names, |name, number, line| {
        let Some(entry) = entry(partition, name, number, line)? else {
            return Ok(());
        };
        look(&entry)
    })
}

pub(super) fn records(
    shelf: &dyn Shelf,
    partition: &Partition,
    names: &[Name],
    look: &mut dyn FnMut(Record),
) -> Result<(), Unread> {
    each_line(shelf, names, |name, number, line| {
        if entry(partition, name, number, line)?.is_some() {
            let record = serde_json::from_slice(line).map_err(|cause| Unread::NotARecord {
                place: name.to_string(),
                line: number,
                cause: cause.into(),
            })?;
            look(record);
        }
        Ok(())
    })
}

/// The entry of a line, unless it is about another event than a call.
fn entry<'l>(
    partition: &Partition,
    name: &Name,
    number: u64,
    line: &'l [u8],
) -> Result<Option<Entry<'l>>, Unread> {
    let entry = Entry::parse(line).map_err(|cause| not_a_record(name, number, cause))?;
    let owner = partition.tenant().map_or("", |tenant| tenant.as_str());
    match entry {
        Some(entry) if entry.tenant != owner => Err(Unread::Misplaced {
            place: name.to_string(),
            line: number,
        }),
        entry => Ok(entry),
    }
}

fn not_a_record(name: &Name, number: u64, cause: NotAnEntry) -> Unread {
    Unread::NotARecord {
        place: name.to_string(),
        line: number,
        cause,
    }
}

fn each_line(
    shelf: &dyn Shelf,
    names: &[Name],
    mut look: impl FnMut(&Name, u64, &[u8]) -> Result<(), Unread>,
) -> Result<(), Unread> {
    let mut seen = HashSet::new();
    for name in names {
        let mut lines = match Lines::open(shelf, name) {
            Ok(lines) => lines,
            Err(ShelfError { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        while let Some((number, line)) = lines.next_line()? {
            if names.len() > 1 {
                let link = Link::parse(line).map_err(|wrong| {
                    let cause = serde_json::Error::custom(wrong);
                    not_a_record(name, number, cause.into())
                })?;
                if !seen.insert((link.seq, link.record)) {
                    continue;
                }
            }
            look(name, number, line)?;
        }
    }
    Ok(())
}
