//! Whether a partition is what the gateways have written, from the partition alone.
//!
//! Each chain is followed from its first record to its last, through segments and objects of all
//! forms, and held against what is signed. Needs no gateway and no database; what a database or a
//! manifest knows besides is taken as an argument. Works while a gateway writes: what comes after
//! the heads that were read first is not judged for completeness.
//!
//! Time is linear in what is there. Memory: the entries of the two or three segments that a
//! chain is in (some 10 MB each), 128 bytes per object, 40 per checkpoint, and the ids of three
//! days. Worst case: what cannot be found is that records after the last signature were cut off or
//! written anew where no database is left that knows of them, and whatever was signed with a
//! stolen key.

mod chain;
mod entry;
mod finding;
mod judge;
mod load;
mod merge;
mod resolve;
mod stated;

use std::collections::{BTreeMap, BTreeSet};

use tollgate_core::audit::{AuditPublicKey, Item, Name, Partition};
use tollgate_core::ids::ReplicaId;

use crate::shelf::{Days, Found, Shelf, ShelfError};
use crate::tombstone::Range;

pub(crate) use entry::{hex, look_at};
pub use finding::{Absent, Chain, Finding, Kind, Mark, Verified, Why};

/// Findings that are listed for a partition.
const MAX_FINDINGS: usize = 1000;

/// A chain's last record, as the gateway's database or a manifest knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Whose partition.
    pub partition: Partition,
    /// Whose chain.
    pub replica: ReplicaId,
    /// The number of the last record.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

/// What is believed besides the partition, and how much work may be done at once.
#[derive(Clone, Debug, Default)]
pub struct Trust<'a> {
    /// The keys that checkpoints are believed from.
    pub keys: &'a [AuditPublicKey],
    /// All heads there are, if they are known; read before the partition is.
    pub heads: Option<&'a [Head]>,
    /// What a signed manifest leaves out.
    pub left_out: &'a [Range],
    /// Whether more may be on its way, in any order: a copy that a gateway is still making.
    pub arriving: bool,
    /// Threads that read; one at least.
    pub threads: usize,
}

/// What lies in a partition.
#[derive(Default)]
struct Contents {
    segments: BTreeMap<ReplicaId, Vec<Name>>,
    checkpoints: Vec<Name>,
    objects: load::Objects,
    findings: Vec<Finding>,
}

/// Checks a partition.
///
/// # Errors
/// If what lies in it cannot be listed. A file that cannot be read is a finding.
pub fn verify(
    shelf: &dyn Shelf,
    partition: &Partition,
    trust: &Trust<'_>,
) -> Result<Verified, ShelfError> {
    let mut contents = contents(shelf, partition)?;
    let mut findings = std::mem::take(&mut contents.findings);
    if trust.keys.is_empty() {
        let why = "without a key, no signature can be checked";
        findings.push(Finding::new(Kind::KeyMissing, why));
    }
    let stated = stated::collect(shelf, partition, &contents.checkpoints, trust);
    findings.extend(stated.findings);
    let mut replicas: BTreeSet<&ReplicaId> = contents.segments.keys().collect();
    replicas.extend(contents.objects.chains.keys());
    replicas.extend(stated.chains.keys());
    let replicas: Vec<ReplicaId> = replicas.into_iter().cloned().collect();

    let mut followed = Vec::new();
    for replica in replicas {
        let names = contents.segments.remove(&replica).unwrap_or_default();
        let objects = contents.objects.chains.remove(&replica).unwrap_or_default();
        let known = stated.chains.get(&replica);
        let whole_to = match (trust.heads, known) {
            (None, _) if !trust.arriving => u64::MAX,
            (_, known) => known.map_or(0, |known| known.whole_to),
        };
        let asked = chain::Asked {
            shelf,
            partition,
            replica,
            threads: trust.threads,
            known,
            whole_to,
        };
        followed.push(chain::follow(asked, names, objects, &contents.objects));
    }
    let excuses = chain::excuses(&followed, trust.left_out);
    let there: BTreeSet<ReplicaId> = followed.iter().map(chain::Followed::replica).collect();
    let mut strays = contents.objects.bad;
    let mut chains = Vec::new();
    for followed in followed {
        chains.push(followed.close(&excuses, &mut strays, &mut findings));
    }
    chains.extend(chain::of_which_nothing_is_left(&excuses, &there));
    for stray in strays.iter().filter(|stray| !stray.told) {
        findings.push(resolve::told(stray, false));
    }
    // Keys that were replaced leave thousands of these, which must not push out anything else.
    findings.sort_by_key(|found| found.kind == Kind::CheckpointUnknownKey);
    let more_findings = findings.len().saturating_sub(MAX_FINDINGS);
    findings.truncate(MAX_FINDINGS);
    Ok(Verified {
        partition: partition.clone(),
        chains,
        findings,
        more_findings: u64::try_from(more_findings).unwrap_or(u64::MAX),
    })
}

fn contents(shelf: &dyn Shelf, partition: &Partition) -> Result<Contents, ShelfError> {
    let mut contents = Contents::default();
    shelf.each(partition, Days::default(), &mut |found| {
        match found {
            Found::Ours { name, .. } => match &name.item {
                Item::Segment { replica, .. } => {
                    let chain = contents.segments.entry(replica.clone()).or_default();
                    chain.push(name);
                }
                Item::Object { .. } => contents.objects.add(shelf, partition, &name),
                Item::Checkpoint { .. } => contents.checkpoints.push(name),
            },
            Found::Foreign(path) => {
                let path: String = path.chars().flat_map(char::escape_debug).collect();
                let finding = Finding::new(Kind::ForeignFile, "its name is none of ours");
                contents.findings.push(finding.at(path, None));
            }
        }
        Ok(())
    })?;
    contents.objects.sort();
    Ok(contents)
}

#[cfg(test)]
mod tests;
