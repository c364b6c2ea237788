//! What is said about the chains of a partition from outside of them: signed checkpoints, and
//! heads that a database or a manifest knows.

use std::collections::BTreeMap;
use std::io::Read;

use tollgate_core::audit::{Checkpoint, Item, Name, NotSigned, Partition};
use tollgate_core::ids::ReplicaId;

use super::entry::digest;
use super::finding::{Finding, Kind};
use super::judge::Statement;
use super::{Trust, load};
use crate::shelf::Shelf;

/// The longest checkpoint that is read, in bytes. They have some 400.
const MAX_CHECKPOINT_BYTES: u64 = 16 << 10;

/// What is said about one chain.
#[derive(Default)]
pub(super) struct Known {
    /// Ascending.
    pub(super) statements: Vec<Statement>,
    pub(super) checkpoints: u64,
    /// Up to here everything must be there, if more may be on its way.
    pub(super) whole_to: u64,
}

/// What is said about all of them.
#[derive(Default)]
pub(super) struct Stated {
    pub(super) chains: BTreeMap<ReplicaId, Known>,
    pub(super) findings: Vec<Finding>,
}

/// Reads checkpoints and takes heads.
pub(super) fn collect(
    shelf: &dyn Shelf,
    partition: &Partition,
    checkpoints: &[Name],
    trust: &Trust<'_>,
) -> Stated {
    let mut stated = Stated::default();
    for name in checkpoints {
        match read(shelf, name, trust) {
            Ok(None) => {}
            Ok(Some((replica, statement))) => {
                let chain = stated.chains.entry(replica).or_default();
                chain.checkpoints += 1;
                chain.whole_to = chain.whole_to.max(statement.seq);
                chain.statements.push(statement);
            }
            Err(finding) => {
                let mut finding = finding.at(name.to_string(), None);
                if let Item::Checkpoint { replica, seq } = &name.item {
                    (finding.replica, finding.seq) = (Some(replica.clone()), Some(*seq));
                }
                stated.findings.push(finding);
            }
        }
    }
    let heads = trust.heads.unwrap_or_default().iter();
    for head in heads.filter(|head| head.partition == *partition && head.seq > 0) {
        let chain = stated.chains.entry(head.replica.clone()).or_default();
        chain.whole_to = chain.whole_to.max(head.seq);
        chain
            .statements
            .extend(digest(&head.hash).map(|hash| Statement {
                seq: head.seq,
                hash,
            }));
    }
    for chain in stated.chains.values_mut() {
        chain.statements.sort_unstable();
        chain.statements.dedup();
    }
    stated
}

/// What a checkpoint says, if it can be believed; nothing if there is no key at all.
fn read(
    shelf: &dyn Shelf,
    name: &Name,
    trust: &Trust<'_>,
) -> Result<Option<(ReplicaId, Statement)>, Finding> {
    let unreadable = |why: String| Finding::new(Kind::Unreadable, why);
    let opened = shelf
        .open(name)
        .map_err(|error| unreadable(load::said(&error)))?;
    let mut text = Vec::new();
    opened
        .take(MAX_CHECKPOINT_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    let checkpoint: Checkpoint = serde_json::from_slice(&text)
        .map_err(|error| unreadable(format!("no checkpoint: {error}")))?;
    if trust.keys.is_empty() {
        return Ok(None);
    }
    checkpoint.verify(trust.keys).map_err(|wrong| {
        let kind = match wrong {
            NotSigned::UnknownKey(_) => Kind::CheckpointUnknownKey,
            NotSigned::Forged | NotSigned::Schema(_) => Kind::CheckpointForged,
        };
        let said: String = wrong.to_string().chars().take(200).collect();
        Finding::new(kind, said.escape_debug().to_string())
    })?;
    let item = Item::Checkpoint {
        replica: checkpoint.replica.clone(),
        seq: checkpoint.seq,
    };
    if item != name.item || checkpoint.partition != name.partition {
        let Checkpoint {
            partition,
            replica,
            seq,
            ..
        } = &checkpoint;
        let said = format!("it is about record {seq} of replica {replica} of {partition}");
        return Err(Finding::new(Kind::CheckpointMisplaced, said));
    }
    let hash =
        digest(&checkpoint.hash).ok_or_else(|| unreadable("it states no hash".to_owned()))?;
    let seq = checkpoint.seq;
    Ok(Some((checkpoint.replica, Statement { seq, hash })))
}
