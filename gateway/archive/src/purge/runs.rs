//! Numbers of records that follow one another, put together from pieces in any order.
//!
//! Where two pieces meet, the hashes must: the last record of the one is what the first of the
//! other names. Takes as much memory as there are pieces apart. Worst case: every second record
//! lies elsewhere, and there are half as many pieces as records.

use std::collections::BTreeMap;

use tollgate_core::ids::ReplicaId;

use crate::tombstone::Range;

/// Records one behind the other, by the number of the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) last: u64,
    pub(super) hash_before: String,
    pub(super) hash_last: String,
}

/// Two records that stand one behind the other do not link, or one stands there twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

/// Runs of several replicas; no two of one touch.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<ReplicaId, BTreeMap<u64, Run>>);

impl Runs {
    /// Adds records that are in none of the runs.
    pub(super) fn add(
        &mut self,
        replica: &ReplicaId,
        first: u64,
        mut run: Run,
    ) -> Result<(), Broken> {
        if !self.0.contains_key(replica) {
            self.0.insert(replica.clone(), BTreeMap::new());
        }
        let Some(runs) = self.0.get_mut(replica) else {
            return Err(Broken);
        };
        let mut at = first;
        if let Some((&begun, before)) = runs.range(..=first).next_back() {
            if before.last >= first {
                // A tombstone that is carried over may name what is read here as well.
                return if before.last >= run.last {
                    Ok(())
                } else {
                    Err(Broken)
                };
            }
            if before.last + 1 == first {
                if before.hash_last != run.hash_before {
                    return Err(Broken);
                }
                run.hash_before.clone_from(&before.hash_before);
                at = begun;
            }
        }
        if let Some(next) = run.last.checked_add(1)
            && let Some(after) = runs.get(&next)
        {
            if after.hash_before != run.hash_last {
                return Err(Broken);
            }
            run.last = after.last;
            run.hash_last.clone_from(&after.hash_last);
            runs.remove(&next);
        }
        runs.insert(at, run);
        Ok(())
    }

    /// Adds what a tombstone names, of which some may be there already.
    pub(super) fn cover(&mut self, range: Range) {
        let runs = self.0.entry(range.replica).or_default();
        let (mut first, mut run) = (
            range.first,
            Run {
                last: range.last,
                hash_before: range.hash_before,
                hash_last: range.hash_last,
            },
        );
        let reach = run.last.saturating_add(1);
        let met: Vec<u64> = runs
            .range(..=reach)
            .filter(|(_, other)| other.last.saturating_add(1) >= first)
            .map(|(at, _)| *at)
            .collect();
        for at in met {
            let Some(other) = runs.remove(&at) else {
                continue;
            };
            if at < first {
                first = at;
                run.hash_before = other.hash_before;
            }
            if other.last > run.last {
                run.last = other.last;
                run.hash_last = other.hash_last;
            }
        }
        runs.insert(first, run);
    }

    pub(super) fn into_ranges(self) -> Vec<Range> {
        let mut ranges = Vec::new();
        for (replica, runs) in self.0 {
            ranges.extend(runs.into_iter().map(|(first, run)| Range {
                replica: replica.clone(),
                first,
                last: run.last,
                hash_before: run.hash_before,
                hash_last: run.hash_last,
            }));
        }
        ranges
    }
}
