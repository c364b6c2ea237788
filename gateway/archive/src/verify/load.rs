//! Reads segments and objects into entries.
//!
//! Of a segment only entries are kept, and only while the chain is at its records: some 10 MB for
//! the 64 MiB that the gateway ends segments at. Worst case: a file with so many short lines that
//! they would not fit; it is read up to [`MAX_LINES`] and told of.

use std::collections::{BTreeMap, HashMap};
use std::thread;

use tollgate_core::audit::{Day, Item, Name, Partition};
use tollgate_core::ids::{AgentId, RecordId, ReplicaId};

use super::entry::{Bad, Entry, Hash, Looked, Place, Why, look};
use super::finding::{Finding, Kind};
use crate::lines::Lines;
use crate::shelf::{Shelf, ShelfError};
use crate::tombstone::Tombstone;

/// Lines of one segment that are read. A segment of 64 MiB has a tenth of them.
const MAX_LINES: u64 = 4 << 20;

/// Findings and bad lines that are kept one by one for a file; a file that is wrong from end to
/// end needs no more.
pub(super) const MAX_BAD: usize = 200;

/// The records of a file.
#[derive(Default)]
pub(super) struct Loaded {
    /// Ascending by number, then by line.
    pub(super) entries: Vec<Entry>,
    pub(super) bad: Vec<Bad>,
    /// Genuine as it seems, but in the wrong place; by the record's number.
    pub(super) misplaced: Vec<Finding>,
    pub(super) purges: Vec<(Hash, Tombstone)>,
}

/// A segment, and which numbers its records may have.
pub(super) struct Segment {
    pub(super) name: Name,
    /// That of its first record.
    pub(super) first: u64,
    /// That of the first record of the next segment of the day.
    pub(super) next: u64,
}

/// Reads segments, as many at once as there are threads.
pub(super) struct Loader<'a> {
    pub(super) shelf: &'a dyn Shelf,
    pub(super) partition: &'a Partition,
    pub(super) replica: &'a ReplicaId,
    /// Ascending by their first number.
    pub(super) segments: &'a [Segment],
    pub(super) threads: usize,
    pub(super) ready: BTreeMap<usize, Loaded>,
}

impl Loader<'_> {
    /// The number that the first record of a segment has, by its name.
    pub(super) fn first(&self, number: usize) -> Option<u64> {
        self.segments.get(number).map(|segment| segment.first)
    }

    /// The records of the segment of that number; reads those behind it at the same time.
    pub(super) fn take(&mut self, number: usize) -> Loaded {
        if let Some(loaded) = self.ready.remove(&number) {
            return loaded;
        }
        let end = (number + self.threads.max(1)).min(self.segments.len());
        let this = &*self;
        let mut read = thread::scope(|scope| {
            let behind: Vec<_> = (number + 1..end)
                .map(|other| (other, scope.spawn(move || this.segment(other))))
                .collect();
            let mut read = vec![(number, this.segment(number))];
            for (other, thread) in behind {
                if let Ok(loaded) = thread.join() {
                    read.push((other, loaded));
                }
            }
            read
        });
        let behind = read.split_off(1);
        self.ready.extend(behind);
        read.pop().map(|(_, loaded)| loaded).unwrap_or_default()
    }

    fn segment(&self, number: usize) -> Loaded {
        let mut loaded = Loaded::default();
        let Some(Segment { name, first, next }) = self.segments.get(number) else {
            return loaded;
        };
        let place = Place::Segment(u32::try_from(number).unwrap_or(u32::MAX));
        let file = name.to_string();
        if let Err(why) = self.lines(name, place, &file, (*first, *next), &mut loaded) {
            let line = loaded.entries.last().map_or(0, |entry| entry.line);
            push(&mut loaded.bad, unreadable(file, line + 1, &why));
        }
        around(&mut loaded, (first.saturating_sub(1), *next));
        loaded.entries.sort_by_key(|entry| (entry.seq, entry.line));
        loaded
    }

    fn lines(
        &self,
        name: &Name,
        place: Place,
        file: &str,
        (first, next): (u64, u64),
        loaded: &mut Loaded,
    ) -> Result<(), String> {
        let mut lines = Lines::open(self.shelf, name).map_err(|error| said(&error))?;
        while let Some((number, line)) = lines.next_line().map_err(|error| said(&error))? {
            if number > MAX_LINES {
                return Err(format!("it has more than {MAX_LINES} lines"));
            }
            let (why, record, says) = match look(self.partition, line, number, place) {
                Looked::Record {
                    mut entry,
                    replica,
                    purge,
                    ..
                } if replica == *self.replica => {
                    if Some(entry.at.date()) != name.day() {
                        let when = format!("it began on {}", entry.at.date());
                        loaded.misplaced.push(misplaced(&entry, file, when));
                        entry.outside = true;
                    } else if entry.seq < first || entry.seq >= next {
                        let why = "by its number it belongs into another segment of the day";
                        let why = why.to_owned();
                        loaded.misplaced.push(misplaced(&entry, file, why));
                        entry.outside = true;
                    }
                    loaded.entries.push(entry);
                    loaded.purges.extend(purge.map(|purge| (entry.hash, purge)));
                    continue;
                }
                Looked::Record { entry, replica, .. } => {
                    let why = Why::OtherChain(replica);
                    (why, Some(entry.record), Some(entry.seq))
                }
                Looked::Not { why, record, says } => (why, record, says),
            };
            let bad = Bad {
                why,
                file: file.to_owned(),
                line: u32::try_from(number).unwrap_or(u32::MAX),
                count: 1,
                record,
                says: says.map(|says| (says, says)),
                prev: None,
                after: None,
                before: None,
                told: false,
            };
            push(&mut loaded.bad, bad);
        }
        Ok(())
    }
}

/// The objects of a partition, chain by chain.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) chains: BTreeMap<ReplicaId, Loaded>,
    pub(super) agents: Vec<AgentId>,
    numbers: HashMap<AgentId, u32>,
    /// Objects that hold no record of this partition.
    pub(super) bad: Vec<Bad>,
}

impl Objects {
    /// Reads an object.
    pub(super) fn add(&mut self, shelf: &dyn Shelf, partition: &Partition, name: &Name) {
        let Item::Object {
            day,
            agent,
            record: own,
        } = &name.item
        else {
            return;
        };
        let next = u32::try_from(self.agents.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(agent.clone()).or_insert_with(|| {
            self.agents.push(agent.clone());
            next
        });
        let place = Place::Object {
            day: *day,
            agent: number,
            copy: name.copy,
        };
        let file = name.to_string();
        let read = Self::line(shelf, partition, name, place);
        match read {
            Ok(Looked::Record {
                entry,
                replica,
                agent: said,
                purge,
            }) => {
                let chain = self.chains.entry(replica).or_default();
                let other_agent = said.as_deref().is_some_and(|said| said != agent.as_str());
                if entry.at.date() != *day || entry.record != *own || other_agent {
                    let what = "its day, agent or id is not that of its name".to_owned();
                    chain.misplaced.push(misplaced(&entry, &file, what));
                }
                chain.purges.extend(purge.map(|purge| (entry.hash, purge)));
                chain.entries.push(entry);
            }
            Ok(Looked::Not { why, record, says }) => {
                let says = says.map(|says| (says, says));
                let mut bad = unreadable(file, 1, "");
                (bad.why, bad.record, bad.says) = (why, record, says);
                bad.record = bad.record.or(Some(*own));
                push(&mut self.bad, bad);
            }
            Err(why) => {
                let mut bad = unreadable(file, 1, &why);
                bad.record = Some(*own);
                push(&mut self.bad, bad);
            }
        }
    }

    fn line(
        shelf: &dyn Shelf,
        partition: &Partition,
        name: &Name,
        place: Place,
    ) -> Result<Looked, String> {
        let mut lines = Lines::open(shelf, name).map_err(|error| said(&error))?;
        let looked = match lines.next_line().map_err(|error| said(&error))? {
            Some((number, line)) => look(partition, line, number, place),
            None => return Err("it holds no whole line".to_owned()),
        };
        match lines.next_line().map_err(|error| said(&error))? {
            None => Ok(looked),
            Some(_) => Err("it holds more than one line".to_owned()),
        }
    }

    /// Brings the objects of each chain into their order.
    pub(super) fn sort(&mut self) {
        for chain in self.chains.values_mut() {
            chain.entries.sort_by_key(|entry| entry.seq);
        }
    }

    /// The name of an object.
    pub(super) fn name(
        &self,
        partition: &Partition,
        (day, agent, copy): (Day, u32, u32),
        record: RecordId,
    ) -> Option<Name> {
        let agent = self.agents.get(usize::try_from(agent).ok()?)?.clone();
        let mut name = Name::new(partition.clone(), Item::Object { day, agent, record });
        name.copy = copy;
        Some(name)
    }
}

/// Says for each bad line between which records it stands, and for each record whether one of a
/// lower number stands behind it. Entries are in the order of the file, whose records have numbers
/// between the two.
fn around(loaded: &mut Loaded, (first, last): (u64, u64)) {
    for bad in &mut loaded.bad {
        let at = loaded
            .entries
            .partition_point(|entry| entry.line < bad.line);
        bad.after = at
            .checked_sub(1)
            .and_then(|before| loaded.entries.get(before))
            .map_or(Some(first), |entry| Some(entry.seq));
        let below = loaded.entries.get(at).map(|entry| entry.seq);
        bad.before = below.or(Some(last));
    }
    for at in 1..loaded.entries.len() {
        loaded.entries[at - 1].ahead = loaded.entries[at - 1].seq > loaded.entries[at].seq;
    }
}

/// Takes a bad line to those there are; the same again on the next line makes one of both.
pub(super) fn push(bad: &mut Vec<Bad>, new: Bad) {
    if let Some(last) = bad.last_mut()
        && last.file == new.file
        && last.line + last.count == new.line
        && std::mem::discriminant(&last.why) == std::mem::discriminant(&new.why)
        && (last.after, last.before) == (new.after, new.before)
    {
        last.count += 1;
        if let (Some((_, to)), Some((_, says))) = (&mut last.says, new.says) {
            *to = says;
        }
        return;
    }
    if bad.len() < MAX_BAD {
        bad.push(new);
    }
}

fn misplaced(entry: &Entry, file: &str, what: String) -> Finding {
    Finding {
        seq: Some(entry.seq),
        record: Some(entry.record),
        ..Finding::new(Kind::Misplaced, what).at(file, Some(entry.line))
    }
}

fn unreadable(file: String, line: u32, why: &str) -> Bad {
    Bad {
        why: Why::Unreadable(why.to_owned()),
        file,
        line,
        count: 1,
        record: None,
        says: None,
        prev: None,
        after: None,
        before: None,
        told: false,
    }
}

pub(super) fn said(error: &ShelfError) -> String {
    format!("{error}: {}", error.cause)
}
