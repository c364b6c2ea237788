//! Brings the records of a chain into their order, whatever files they lie in.
//!
//! Segments of two days interleave, and elevated records lie in objects. A segment is opened when
//! the chain comes to the number in its name and closed behind its last record, so that two or
//! three are open at a time. Worst case: names that somebody made up open more.

use super::entry::{Entry, Hash};
use super::load::{Loaded, Loader};
use crate::tombstone::Tombstone;

/// Records of one number, and what those of the next one say of them.
#[derive(Default)]
pub(super) struct Group {
    /// With the number of the source.
    pub(super) records: Vec<(usize, Entry)>,
    /// The hashes that the records of the next number name.
    pub(super) wanted: Vec<Hash>,
}

struct Source {
    /// Of the segment; objects have none.
    number: Option<usize>,
    loaded: Loaded,
    position: usize,
}

impl Source {
    fn peek(&self) -> Option<u64> {
        self.loaded
            .entries
            .get(self.position)
            .map(|entry| entry.seq)
    }
}

/// The records of a chain, in their order.
pub(super) struct Merge<'a> {
    loader: Loader<'a>,
    next: usize,
    open: Vec<Source>,
}

impl<'a> Merge<'a> {
    /// Of segments that are ascending by their first number, and objects.
    pub(super) fn new(loader: Loader<'a>, objects: Loaded) -> Self {
        Self {
            loader,
            next: 0,
            open: vec![Source {
                number: None,
                loaded: objects,
                position: 0,
            }],
        }
    }

    /// The records of the next number there are any of. `closed` gets what was read of each file
    /// behind its last record.
    pub(super) fn advance(
        &mut self,
        group: &mut Group,
        mut closed: impl FnMut(Option<usize>, Loaded),
    ) -> Option<u64> {
        group.records.clear();
        group.wanted.clear();
        self.close(&mut closed);
        let Some(seq) = self.reach() else {
            // Files without a record were opened on the way to the end.
            self.close(&mut closed);
            return None;
        };
        for (number, source) in self.open.iter_mut().enumerate() {
            while let Some(entry) = source.loaded.entries.get(source.position) {
                if entry.seq != seq {
                    break;
                }
                group.records.push((number, *entry));
                source.position += 1;
            }
            let behind = source.loaded.entries.iter().skip(source.position);
            let next = behind.take_while(|entry| entry.seq == seq + 1);
            group.wanted.extend(next.map(|entry| entry.prev));
        }
        Some(seq)
    }

    fn close(&mut self, closed: &mut impl FnMut(Option<usize>, Loaded)) {
        self.open.retain_mut(|source| {
            let over = source.peek().is_none();
            if over {
                closed(source.number, std::mem::take(&mut source.loaded));
            }
            !over
        });
    }

    /// The least number there is, with everything open that may have it or the next one.
    fn reach(&mut self) -> Option<u64> {
        loop {
            let least = self.open.iter().filter_map(Source::peek).min();
            match self.loader.first(self.next) {
                Some(first) if least.is_none_or(|least| first <= least.saturating_add(1)) => {
                    let loaded = self.loader.take(self.next);
                    self.open.push(Source {
                        number: Some(self.next),
                        loaded,
                        position: 0,
                    });
                    self.next += 1;
                }
                _ => return least,
            }
        }
    }

    /// The tombstones in files that were opened since it was asked last.
    pub(super) fn purges(&mut self) -> Vec<(Hash, Tombstone)> {
        let open = self.open.iter_mut();
        open.flat_map(|source| std::mem::take(&mut source.loaded.purges))
            .collect()
    }

    /// Takes note that a record of the last group is the one that stands in the chain.
    pub(super) fn took(&mut self, source: usize, line: u32) {
        if let Some(source) = self.open.get_mut(source) {
            let passed = source.loaded.entries[..source.position].iter_mut().rev();
            for entry in passed {
                if entry.line == line {
                    entry.taken = true;
                    break;
                }
            }
        }
    }

    /// The numbers of the records around a line in its file.
    pub(super) fn around(&self, source: usize, line: u32) -> (Option<u64>, Option<u64>) {
        let Some(source) = self.open.get(source) else {
            return (None, None);
        };
        let (mut above, mut below): (Option<&Entry>, Option<&Entry>) = (None, None);
        for entry in &source.loaded.entries {
            if entry.line < line && above.is_none_or(|best| best.line < entry.line) {
                above = Some(entry);
            } else if entry.line > line && below.is_none_or(|best| best.line > entry.line) {
                below = Some(entry);
            }
        }
        (above.map(|entry| entry.seq), below.map(|entry| entry.seq))
    }
}
