//! Follows one chain through its files, and puts the verdict together.

use std::collections::BTreeSet;

use tollgate_core::audit::{Item, Name, Partition};
use tollgate_core::ids::ReplicaId;

use super::entry::{Bad, Entry, Place, Why};
use super::finding::{self, Absent, Chain, Finding, Kind, Mark};
use super::judge::{Judge, Verdict};
use super::load::{Loaded, Loader, MAX_BAD, Objects, Segment, push};
use super::merge::{Group, Merge};
use super::resolve::{self, Excuse};
use super::stated::Known;
use crate::shelf::Shelf;
use crate::tombstone::Range;

/// Which chain, and what is known of it.
pub(super) struct Asked<'a> {
    pub(super) shelf: &'a dyn Shelf,
    pub(super) partition: &'a Partition,
    pub(super) replica: ReplicaId,
    pub(super) threads: usize,
    pub(super) known: Option<&'a Known>,
    pub(super) whole_to: u64,
}

/// A chain that was followed to its end. What is missing is not explained yet.
pub(super) struct Followed<'a> {
    replica: ReplicaId,
    checkpoints: u64,
    judge: Judge<'a>,
    bad: Vec<Bad>,
    findings: Vec<Finding>,
    /// Files in which the record that their name promises does not stand.
    misnamed: Vec<(u64, String)>,
}

/// Follows a chain.
pub(super) fn follow<'a>(
    asked: Asked<'a>,
    names: Vec<Name>,
    mut objects: Loaded,
    all: &Objects,
) -> Followed<'a> {
    let segments = segments(names);
    let stated = asked.known.map_or(&[][..], |known| &known.statements);
    let mut judge = Judge::new(stated, asked.whole_to);
    judge.hear(std::mem::take(&mut objects.purges));
    let mut bad = Vec::new();
    let mut findings = Vec::new();
    let mut misnamed = Vec::new();
    let loader = Loader {
        shelf: asked.shelf,
        partition: asked.partition,
        replica: &asked.replica,
        segments: &segments,
        threads: asked.threads,
        ready: std::collections::BTreeMap::new(),
    };
    let files = Files {
        partition: asked.partition,
        segments: &segments,
        objects: all,
    };
    let mut merge = Merge::new(loader, objects);
    let mut group = Group::default();
    loop {
        let mut over = Vec::new();
        let seq = merge.advance(&mut group, |number, loaded| over.push((number, loaded)));
        for (number, loaded) in over {
            let segment = number.and_then(|number| segments.get(number));
            close(loaded, segment, &mut bad, &mut findings, &mut misnamed);
        }
        if seq.is_none() {
            break;
        }
        judge.hear(merge.purges());
        let best = if group.records.len() > 1 {
            judge.choose(&group)
        } else {
            0
        };
        let Some((source, entry)) = group.records.get(best).copied() else {
            continue;
        };
        let verdict = judge.judge(&entry);
        if verdict == Verdict::Taken {
            merge.took(source, entry.line);
        }
        let late = entry.seq < judge.expected;
        set_aside(&group, best, (verdict, late), &files, &mut merge, &mut bad);
    }
    judge.finish();
    for (finding, entry) in std::mem::take(&mut judge.findings) {
        findings.push(located(
            finding,
            entry.as_ref(),
            entry.as_ref().and_then(|entry| files.name(entry)),
        ));
    }
    Followed {
        checkpoints: asked.known.map_or(0, |known| known.checkpoints),
        replica: asked.replica,
        judge,
        bad,
        findings,
        misnamed,
    }
}

/// The files of a chain, by where its records lie.
struct Files<'a> {
    partition: &'a Partition,
    segments: &'a [Segment],
    objects: &'a Objects,
}

impl Files<'_> {
    fn name(&self, entry: &Entry) -> Option<Name> {
        match entry.place {
            Place::Segment(number) => {
                let segment = self.segments.get(usize::try_from(number).ok()?)?;
                Some(segment.name.clone())
            }
            Place::Object { day, agent, copy } => {
                let place = (day, agent, copy);
                self.objects.name(self.partition, place, entry.record)
            }
        }
    }
}

/// Puts aside what of the records of one number does not stand in the chain.
fn set_aside(
    group: &Group,
    best: usize,
    (verdict, late): (Verdict, bool),
    files: &Files<'_>,
    merge: &mut Merge<'_>,
    bad: &mut Vec<Bad>,
) {
    if verdict == Verdict::NotYet {
        return;
    }
    let Some((_, chosen)) = group.records.get(best) else {
        return;
    };
    for (at, (source, other)) in group.records.iter().enumerate() {
        if at == best && verdict == Verdict::Taken {
            continue;
        }
        let same = other.hash == chosen.hash;
        let name = files.name(other);
        if at != best && same && copies(name.as_ref(), files.name(chosen).as_ref()) {
            merge.took(*source, other.line);
        } else if bad.len() < MAX_BAD {
            let why = match (at == best, same) {
                (true, _) if late => Why::Late,
                (false, true) => Why::Again,
                _ => Why::Extra,
            };
            let around = merge.around(*source, other.line);
            push(bad, stray(why, other, name.as_ref(), around));
        }
    }
}

/// Segments in the order of the chain, each with the numbers that may stand in it.
fn segments(mut names: Vec<Name>) -> Vec<Segment> {
    let key = |name: &Name| match name.item {
        Item::Segment { day, first, .. } => (first, Some(day)),
        _ => (0, None),
    };
    names.sort_by_cached_key(|name| (key(name), name.copy, name.to_string()));
    let mut next = std::collections::BTreeMap::new();
    let mut segments: Vec<Segment> = Vec::with_capacity(names.len());
    for name in names.into_iter().rev() {
        let (first, day) = key(&name);
        // Of one day, the least number above this one's; copies have the same.
        let (of_first, above) = next.get(&day).copied().unwrap_or((u64::MAX, u64::MAX));
        let above = if of_first == first { above } else { of_first };
        next.insert(day, (first, above));
        segments.push(Segment {
            name,
            first,
            next: above,
        });
    }
    segments.reverse();
    segments
}

/// Looks at a file as a whole, once the chain is past it.
fn close(
    loaded: Loaded,
    segment: Option<&Segment>,
    bad: &mut Vec<Bad>,
    findings: &mut Vec<Finding>,
    misnamed: &mut Vec<(u64, String)>,
) {
    for new in loaded.bad {
        push(bad, new);
    }
    let taken = || loaded.entries.iter().filter(|entry| entry.taken);
    let mut genuine = loaded.misplaced;
    genuine.truncate(MAX_BAD);
    genuine.retain(|finding| taken().any(|entry| Some(entry.seq) == finding.seq));
    findings.append(&mut genuine);
    let Some(Segment { name, first, .. }) = segment else {
        return;
    };
    let file = name.to_string();
    let inside = || taken().filter(|entry| !entry.outside);
    let mut lines: Vec<&Entry> = inside().collect();
    lines.sort_by_key(|entry| entry.line);
    let moved = inside()
        .zip(&lines)
        .find(|(due, there)| due.seq != there.seq);
    if let Some((due, there)) = moved {
        let why = format!("record {} stands in its place", there.seq);
        findings.push(Finding {
            seq: Some(due.seq),
            record: Some(due.record),
            ..Finding::new(Kind::Reordered, why).at(file.clone(), Some(there.line))
        });
    }
    let begins_later = taken().next().is_some_and(|entry| entry.seq > *first);
    if name.copy == 0 && begins_later {
        misnamed.push((*first, file));
    }
}

/// Whether both are the same file in two forms, or where other bytes had its name.
fn copies(one: Option<&Name>, other: Option<&Name>) -> bool {
    let plain = |name: &Name| {
        let mut name = name.in_form(tollgate_core::audit::Form::JsonLines);
        name.copy = 0;
        name
    };
    match (one, other) {
        (Some(one), Some(other)) => one != other && plain(one) == plain(other),
        _ => false,
    }
}

fn stray(
    why: Why,
    entry: &Entry,
    name: Option<&Name>,
    (after, before): (Option<u64>, Option<u64>),
) -> Bad {
    Bad {
        why,
        file: name.map(ToString::to_string).unwrap_or_default(),
        line: entry.line,
        count: 1,
        record: Some(entry.record),
        says: Some((entry.seq, entry.seq)),
        prev: Some(entry.prev),
        after,
        before,
        told: false,
    }
}

fn located(finding: Finding, entry: Option<&Entry>, name: Option<Name>) -> Finding {
    let (Some(entry), Some(name)) = (entry, name) else {
        return finding;
    };
    let mut finding = finding.at(name.to_string(), Some(entry.line));
    finding.record = Some(entry.record);
    finding
}

/// What the chains of a partition and a manifest say is rightly absent.
pub(super) fn excuses(followed: &[Followed<'_>], left_out: &[Range]) -> Vec<Excuse> {
    let mut excuses: Vec<Excuse> = left_out
        .iter()
        .map(|range| Excuse {
            range: range.clone(),
            why: finding::Why::OtherDays,
            proven: true,
        })
        .collect();
    for chain in followed {
        for (seq, tombstone) in &chain.judge.purges {
            excuses.extend(tombstone.ranges.iter().map(|range| Excuse {
                range: range.clone(),
                why: finding::Why::Purged,
                proven: *seq <= chain.judge.covered_to,
            }));
        }
    }
    excuses
}

/// Chains of replicas of which there is nothing any more but what a signature says of them.
pub(super) fn of_which_nothing_is_left(
    excuses: &[Excuse],
    there: &BTreeSet<ReplicaId>,
) -> Vec<Chain> {
    let mut ranges: Vec<&Excuse> = excuses
        .iter()
        .filter(|excuse| excuse.proven && !there.contains(&excuse.range.replica))
        .collect();
    ranges.sort_unstable_by_key(|excuse| (&excuse.range.replica, excuse.range.first));
    let mut chains: Vec<Chain> = Vec::new();
    for Excuse { range, why, .. } in ranges {
        let absent = Absent {
            first: range.first,
            last: range.last,
            why: *why,
        };
        match chains.last_mut() {
            Some(chain) if chain.replica == range.replica => {
                chain.covered_to = chain.covered_to.max(range.last);
                resolve::add(&mut chain.absent, absent);
            }
            _ => chains.push(Chain {
                replica: range.replica.clone(),
                records: 0,
                first: None,
                last: None,
                checkpoints: 0,
                covered_to: range.last,
                uncovered: 0,
                newer: 0,
                absent: vec![absent],
            }),
        }
    }
    chains
}

impl Followed<'_> {
    /// Whose chain it is.
    pub(super) fn replica(&self) -> ReplicaId {
        self.replica.clone()
    }

    /// The verdict, with what is missing explained as far as it can be.
    pub(super) fn close(
        mut self,
        excuses: &[Excuse],
        strays: &mut [Bad],
        findings: &mut Vec<Finding>,
    ) -> Chain {
        let excuses: Vec<Excuse> = excuses
            .iter()
            .filter(|excuse| excuse.range.replica == self.replica)
            .cloned()
            .collect();
        let mut absent: Vec<Absent> = Vec::new();
        let gaps = std::mem::take(&mut self.judge.gaps);
        let mut told = std::mem::take(&mut self.findings);
        for gap in &gaps {
            let left = resolve::excuse(gap, &excuses, &mut absent, &mut told);
            for stretch in left {
                let bad = self.bad.iter_mut().chain(strays.iter_mut());
                resolve::missing(gap, stretch, bad, &mut told);
            }
        }
        for bad in self.bad.iter().filter(|bad| !bad.told) {
            told.push(resolve::told(bad, false));
        }
        for (first, file) in self.misnamed {
            if !gaps.iter().any(|gap| (gap.from..=gap.to).contains(&first)) {
                let why = format!("record {first}, which it is named after, stands elsewhere");
                let finding = Finding::new(Kind::Misplaced, why).at(file, None);
                told.push(Finding {
                    seq: Some(first),
                    ..finding
                });
            }
        }
        // An edited day or agent makes a record changed as well as misplaced; once is enough.
        let changed: Vec<Option<u64>> = told
            .iter()
            .filter(|finding| finding.kind == Kind::Changed)
            .map(|finding| finding.seq)
            .collect();
        told.retain(|finding| finding.kind != Kind::Misplaced || !changed.contains(&finding.seq));
        told.sort_by_key(|finding| finding.seq.unwrap_or(u64::MAX));
        findings.extend(told.into_iter().map(|finding| Finding {
            replica: Some(self.replica.clone()),
            ..finding
        }));
        let judge = self.judge;
        let mark = |entry: Entry| Mark {
            seq: entry.seq,
            at: entry.at,
        };
        let last = judge.expected - 1;
        Chain {
            replica: self.replica,
            records: judge.records,
            first: judge.first.map(mark),
            last: judge.head.map(mark),
            checkpoints: self.checkpoints,
            covered_to: judge.covered_to,
            uncovered: last.saturating_sub(judge.covered_to),
            newer: judge.newer,
            absent,
        }
    }
}
