//! Judges a chain record by record: what links, what is missing, what is signed.
//!
//! An edited record is not told by itself but by its neighbours: the one after it names another
//! hash. So a verdict waits until the links on both sides are known. Records that are missing are
//! only collected here, since what explains them may stand further on, or in another chain.

use std::collections::{BTreeMap, HashSet};

use tollgate_core::audit::Day;
use tollgate_core::ids::RecordId;

use super::entry::{Entry, Hash};
use super::finding::{Finding, Kind};
use super::merge::Group;
use crate::tombstone::Tombstone;

/// Days within which ids are compared.
const OPEN_DAYS: usize = 3;

/// Records that are missing.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub(super) from: u64,
    pub(super) to: u64,
    /// The hash of the record before.
    pub(super) before: Hash,
    /// The hash of the last, as its successor or a signature says.
    pub(super) last: Hash,
    /// Whether nothing comes after it.
    pub(super) end: bool,
}

/// What is said about a chain from outside of it: this record has this hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Statement {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

/// Links that do not hold, one behind the other.
struct Run {
    /// The record before the first of them, and its number.
    before: Option<Entry>,
    from: u64,
    /// Whether that record is what was signed.
    confirmed: bool,
    links: u64,
    second: Entry,
    last: Entry,
    /// Whether the last record is what was signed, if that is known.
    last_stated: Option<bool>,
}

/// What is to become of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It stands in the chain.
    Taken,
    /// It does not.
    Refused,
    /// Not all before it have arrived.
    NotYet,
}

/// The state of a judgement.
pub(super) struct Judge<'a> {
    stated: &'a [Statement],
    next_stated: usize,
    /// Up to here everything must be there.
    whole_to: u64,
    pub(super) expected: u64,
    pub(super) head: Option<Entry>,
    pub(super) first: Option<Entry>,
    hash: Hash,
    head_confirmed: bool,
    run: Option<Run>,
    pub(super) covered_to: u64,
    contradicted: Vec<(u64, u64, Entry)>,
    ids: BTreeMap<Day, HashSet<RecordId>>,
    pub(super) records: u64,
    pub(super) newer: u64,
    stopped: bool,
    pub(super) gaps: Vec<Gap>,
    pub(super) findings: Vec<(Finding, Option<Entry>)>,
    /// From and to, of what was told as changed.
    pub(super) spans: Vec<(u64, u64)>,
    pub(super) purges: Vec<(u64, Tombstone)>,
    known_purges: Vec<(Hash, Tombstone)>,
}

impl<'a> Judge<'a> {
    /// Of a chain about which that is stated, ascending.
    pub(super) fn new(stated: &'a [Statement], whole_to: u64) -> Self {
        Self {
            stated,
            next_stated: 0,
            whole_to,
            expected: 1,
            head: None,
            first: None,
            hash: [0; 32],
            // Nobody can change what comes before the first.
            head_confirmed: true,
            run: None,
            covered_to: 0,
            contradicted: Vec::new(),
            ids: BTreeMap::new(),
            records: 0,
            newer: 0,
            stopped: false,
            gaps: Vec::new(),
            findings: Vec::new(),
            spans: Vec::new(),
            purges: Vec::new(),
            known_purges: Vec::new(),
        }
    }

    /// Hears of tombstones in the files that are open.
    pub(super) fn hear(&mut self, purges: Vec<(Hash, Tombstone)>) {
        self.known_purges.extend(purges);
    }

    /// Which of the records of one number is the one that the chain knows.
    pub(super) fn choose(&self, group: &Group) -> usize {
        let stated = |entry: &Entry| {
            let at = self.stated.partition_point(|said| said.seq < entry.seq);
            let of = self.stated.iter().skip(at);
            of.take_while(|said| said.seq == entry.seq)
                .any(|said| said.hash == entry.hash)
        };
        let weight = |entry: &Entry| {
            let links = entry.seq == self.expected && entry.prev == self.hash;
            let wanted = group.wanted.contains(&entry.hash);
            (stated(entry), links, wanted, !entry.outside, !entry.ahead)
        };
        let mut best = 0;
        for (at, (_, entry)) in group.records.iter().enumerate() {
            if weight(entry) > weight(&group.records[best].1) {
                best = at;
            }
        }
        best
    }

    /// Judges the record that has a number.
    pub(super) fn judge(&mut self, entry: &Entry) -> Verdict {
        if self.stopped {
            self.newer += 1;
            return Verdict::NotYet;
        }
        if entry.seq < self.expected {
            return Verdict::Refused;
        }
        if entry.seq == self.expected {
            self.link(entry);
            self.accept(entry, entry.seq);
            return Verdict::Taken;
        }
        if entry.prev == self.hash {
            // The numbers jump and the chain does not: the number is what was changed.
            self.changed(self.expected, None, entry, "its number was changed");
            self.end_run(true);
            self.accept(entry, self.expected);
            return Verdict::Taken;
        }
        let lost = self.gaps.iter().any(|gap| gap.before == entry.prev);
        if entry.ahead || lost {
            return Verdict::Refused;
        }
        if self.expected > self.whole_to {
            self.stopped = true;
            self.newer += 1;
            return Verdict::NotYet;
        }
        self.end_run(false);
        self.gaps.push(Gap {
            from: self.expected,
            to: entry.seq - 1,
            before: self.hash,
            last: entry.prev,
            end: false,
        });
        self.accept(entry, entry.seq);
        Verdict::Taken
    }

    fn link(&mut self, entry: &Entry) {
        if entry.prev == self.hash {
            self.end_run(true);
        } else if let Some(run) = &mut self.run {
            run.links += 1;
            run.last = *entry;
            run.last_stated = None;
        } else {
            self.run = Some(Run {
                before: self.head,
                from: self.expected - 1,
                confirmed: self.head_confirmed,
                links: 1,
                second: *entry,
                last: *entry,
                last_stated: None,
            });
        }
    }

    fn accept(&mut self, entry: &Entry, seq: u64) {
        let stated = self.stated_of(seq, &entry.hash);
        if stated == Some(true) {
            self.covered_to = seq;
        } else if stated == Some(false) {
            self.contradicted.push((seq, self.covered_to, *entry));
        }
        if let Some(run) = &mut self.run {
            run.last_stated = stated;
        }
        self.head_confirmed = stated == Some(true);
        let day = self.ids.entry(entry.at.date()).or_default();
        if !day.insert(entry.record) {
            let twice = Finding::new(Kind::DuplicateId, "another record of the day has its id");
            self.tell(twice, seq, None, entry);
        }
        if self.ids.len() > OPEN_DAYS {
            self.ids.pop_first();
        }
        if !self.known_purges.is_empty() {
            let known = self.known_purges.iter();
            let found = known.filter(|(hash, _)| *hash == entry.hash);
            let found: Vec<_> = found.map(|(_, purge)| (seq, purge.clone())).collect();
            self.purges.extend(found);
        }
        self.records += 1;
        self.first = self.first.or(Some(*entry));
        self.head = Some(*entry);
        self.hash = entry.hash;
        self.expected = seq + 1;
    }

    /// Whether a record is what is stated about it, if anything is.
    fn stated_of(&mut self, seq: u64, hash: &Hash) -> Option<bool> {
        let mut stated = None;
        while let Some(said) = self.stated.get(self.next_stated) {
            if said.seq > seq {
                break;
            }
            if said.seq == seq {
                stated = Some(said.hash == *hash && stated != Some(false));
            }
            self.next_stated += 1;
        }
        stated
    }

    /// Decides who is to blame for links that do not hold. `linked`: the record behind the last of
    /// them does link.
    fn end_run(&mut self, linked: bool) {
        let Some(run) = self.run.take() else {
            return;
        };
        let sound = linked || run.last_stated == Some(true);
        let last = run.from + run.links;
        if run.links > 1 {
            let to = if run.last_stated == Some(false) {
                last
            } else {
                last - 1
            };
            let perhaps = (!run.confirmed).then_some(run.from);
            self.changed(run.from + 1, Some(to), &run.second, "no neighbour knows it");
            if let (Some((finding, _)), Some(from)) = (self.findings.last_mut(), perhaps) {
                finding.perhaps_from = Some(from);
                self.spans.push((from, from));
            }
            return;
        }
        match run.before {
            Some(before) if !run.confirmed && sound => {
                let why = "its hash is not what the next record says";
                self.changed(run.from, None, &before, why);
            }
            Some(before) if !run.confirmed && run.last_stated.is_none() => {
                let why = "its hash is not what the next record says; that one, which is the last, may be what was changed";
                self.changed(run.from, None, &before, why);
                self.spans.push((last, last));
            }
            _ => self.changed(
                last,
                None,
                &run.last,
                "it names another hash than the record before has",
            ),
        }
    }

    fn changed(&mut self, seq: u64, to: Option<u64>, entry: &Entry, why: &str) {
        if self.spans.contains(&(seq, to.unwrap_or(seq))) {
            return;
        }
        self.spans.push((seq, to.unwrap_or(seq)));
        let to = to.filter(|to| *to != seq);
        self.tell(Finding::new(Kind::Changed, why), seq, to, entry);
    }

    fn tell(&mut self, mut finding: Finding, seq: u64, to: Option<u64>, entry: &Entry) {
        finding.seq = Some(seq);
        finding.to = to;
        self.findings.push((finding, Some(*entry)));
    }

    /// Ends the judgement: what is stated and no longer there, and what links but was not signed.
    pub(super) fn finish(&mut self) {
        self.end_run(false);
        let beyond = self
            .stated
            .iter()
            .rev()
            .find(|said| said.seq >= self.expected);
        if let (Some(said), false) = (beyond, self.stopped) {
            self.gaps.push(Gap {
                from: self.expected,
                to: said.seq,
                before: self.hash,
                last: said.hash,
                end: true,
            });
        }
        let mut told = None;
        for (seq, sound_to, entry) in std::mem::take(&mut self.contradicted) {
            let known = |&(from, to): &(u64, u64)| (from..=to).contains(&seq);
            if self.spans.iter().any(known) || told == Some(sound_to) {
                continue;
            }
            told = Some(sound_to);
            let perhaps = (sound_to + 1 < seq).then_some(sound_to + 1);
            if seq + 1 == self.expected {
                self.changed(seq, None, &entry, "its hash is not the one that is signed");
                if let Some((finding, _)) = self.findings.last_mut() {
                    finding.perhaps_from = perhaps;
                }
            } else {
                let why =
                    format!("all of them link, but record {seq} is not the one that is signed");
                let finding = Finding::new(Kind::Rewritten, why);
                let from = perhaps.unwrap_or(seq);
                self.spans.push((from, seq));
                self.tell(finding, from, (from != seq).then_some(seq), &entry);
            }
        }
    }
}
