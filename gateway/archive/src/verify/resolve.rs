//! Brings together what is missing in a chain and what stands there in its stead.
//!
//! A line that no longer reads, a line of somebody else's and a number that was changed all leave
//! a gap; told by themselves, each of them would be two findings about one record. What tombstones
//! and manifests explain is taken out first. Where evidence is left for more than one reading, the
//! lines are taken in the order of the file.

use std::cmp::Reverse;

use super::entry::{Bad, Hash, Why, digest};
use super::finding::{self, Absent, Finding, Kind};
use super::judge::Gap;
use crate::tombstone::Range;

/// Records that are said to be rightly absent.
#[derive(Clone, Debug)]
pub(super) struct Excuse {
    pub(super) range: Range,
    pub(super) why: finding::Why,
    /// Whether what says so is signed itself.
    pub(super) proven: bool,
}

/// Takes out of `gap` what is excused. What is left are stretches without an excuse. Of what an
/// excuse names, some may still be there.
pub(super) fn excuse(
    gap: &Gap,
    excuses: &[Excuse],
    absent: &mut Vec<Absent>,
    findings: &mut Vec<Finding>,
) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    let mut from = gap.from;
    let mut before = Some(gap.before);
    while from <= gap.to {
        let reaches = |excuse: &&Excuse| excuse.range.first <= gap.to && excuse.range.last >= from;
        let next = excuses.iter().filter(reaches).min_by_key(|excuse| {
            let last = excuse.range.last.min(gap.to);
            (excuse.range.first.max(from), !excuse.proven, Reverse(last))
        });
        let Some(next) = next else {
            left.push((from, gap.to));
            break;
        };
        let first = next.range.first.max(from);
        let last = next.range.last.min(gap.to);
        if first > from {
            left.push((from, first - 1));
            before = None;
        }
        if first == next.range.first {
            begins(next, before, findings);
        }
        if last == next.range.last && last == gap.to && !gap.end {
            ends(gap, next, findings);
        }
        if !next.proven {
            findings.push(Finding {
                seq: Some(first),
                to: (last > first).then_some(last),
                ..Finding::new(
                    Kind::PurgeUnproven,
                    "only a record that no signature covers says that they were purged",
                )
            });
        }
        let why = next.why;
        add(absent, Absent { first, last, why });
        before = digest(&next.range.hash_last).filter(|_| last == next.range.last);
        from = last + 1;
    }
    left
}

/// Adds what is absent behind what is known to be, or on top of it.
pub(super) fn add(absent: &mut Vec<Absent>, more: Absent) {
    match absent.last_mut() {
        Some(known) if known.why == more.why && known.last.saturating_add(1) >= more.first => {
            known.last = known.last.max(more.last);
        }
        _ => absent.push(more),
    }
}

/// Compares the hash of the record before what is excused with what the excuse says of it.
fn begins(excuse: &Excuse, before: Option<Hash>, findings: &mut Vec<Finding>) {
    let known = digest(&excuse.range.hash_before);
    if before.is_some_and(|before| known != Some(before)) {
        findings.push(Finding {
            seq: Some(excuse.range.first.saturating_sub(1)),
            ..Finding::new(
                Kind::Changed,
                "its hash is not what stands beside the records that are rightly absent after it",
            )
        });
    }
}

/// Compares what the record after a gap says of the one before it with what the excuse says.
fn ends(gap: &Gap, excuse: &Excuse, findings: &mut Vec<Finding>) {
    if digest(&excuse.range.hash_last) != Some(gap.last) {
        findings.push(Finding {
            seq: Some(excuse.range.last + 1),
            ..Finding::new(
                Kind::Changed,
                "it names another hash than that of the last record that is rightly absent",
            )
        });
    }
}

/// Tells of records that are missing, with the lines that stand where they should.
pub(super) fn missing<'a>(
    gap: &Gap,
    (from, to): (u64, u64),
    bad: impl Iterator<Item = &'a mut Bad>,
    findings: &mut Vec<Finding>,
) {
    let absent = |from: u64, to: u64| Finding {
        seq: Some(from),
        to: (to > from).then_some(to),
        ..if gap.end {
            let why = "a signature or the gateway's database knows of them";
            Finding::new(Kind::Truncated, why)
        } else {
            Finding::new(Kind::Removed, "the chain goes on behind them")
        }
    };
    let mut at = from;
    for bad in bad.filter(|bad| !bad.told) {
        if at > to {
            break;
        }
        let Some((start, end)) = stands_for(bad, gap, (at, to)) else {
            continue;
        };
        if start > at {
            findings.push(absent(at, start - 1));
        }
        bad.told = true;
        findings.push(Finding {
            seq: Some(start),
            to: (end > start).then_some(end),
            ..told(bad, true)
        });
        at = end + 1;
    }
    if at <= to {
        findings.push(absent(at, to));
    }
}

/// Which of the missing records a bad line stands in the place of.
fn stands_for(bad: &Bad, gap: &Gap, (from, to): (u64, u64)) -> Option<(u64, u64)> {
    let says = bad.says.filter(|(first, _)| (from..=to).contains(first));
    match bad.why {
        Why::Again => None,
        Why::Late => says.map(|(first, last)| (first, last.min(to))),
        _ if bad.prev == Some(gap.before) && from == gap.from => Some((from, from)),
        _ => {
            let after = bad.after.unwrap_or(0);
            let before = bad.before.unwrap_or(u64::MAX);
            if after >= to || before <= from {
                return None;
            }
            let start = from.max(after + 1);
            let end = start.saturating_add(u64::from(bad.count.max(1)) - 1);
            Some((start, end.min(to)))
        }
    }
}

/// A bad line as a finding. `instead`: a record is missing in its place.
pub(super) fn told(bad: &Bad, instead: bool) -> Finding {
    let (kind, detail) = match &bad.why {
        Why::Unreadable(why) if instead => (Kind::Changed, format!("it no longer reads: {why}")),
        Why::Unreadable(why) => (Kind::Unreadable, why.clone()),
        Why::OtherTenant(whose) => {
            let whose: String = whose.chars().take(64).collect();
            (Kind::OtherTenant, format!("the record is about {whose:?}"))
        }
        Why::OtherChain(replica) => (Kind::OtherChain, format!("it is of replica {replica}")),
        Why::Late if instead => (
            Kind::Misplaced,
            "its file's name has a higher number".to_owned(),
        ),
        Why::Extra | Why::Late if instead => (
            Kind::Changed,
            "another record stands in its place".to_owned(),
        ),
        Why::Extra | Why::Late => (Kind::Inserted, "the chain does not know it".to_owned()),
        Why::Again => (Kind::Duplicated, "it stands elsewhere as well".to_owned()),
    };
    let mut finding = Finding::new(kind, detail).at(bad.file.clone(), Some(bad.line));
    if matches!(bad.why, Why::Extra | Why::Again | Why::Late) {
        finding.seq = bad.says.map(|(first, _)| first);
        finding.to = bad.says.and_then(|(first, to)| (to > first).then_some(to));
    }
    finding.record = bad.record;
    finding
}
