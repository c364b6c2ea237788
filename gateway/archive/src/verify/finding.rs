//! What a check of a partition comes to, for people and programs.

use serde::Serialize;
use tollgate_core::audit::Partition;
use tollgate_core::ids::{RecordId, ReplicaId};
use tollgate_core::time::Timestamp;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The record is not what was written: its successor, or what is signed, has another hash.
    Changed,
    /// Records were written anew, chain and all: they link, but are not what was signed.
    Rewritten,
    /// Records are missing in the midst of the chain.
    Removed,
    /// Records are missing at the end: a checkpoint or the gateway's database knows of them.
    Truncated,
    /// A record that the chain does not know.
    Inserted,
    /// A record stands once more elsewhere.
    Duplicated,
    /// Records of a file stand in another order than they were written in.
    Reordered,
    /// A genuine record in the wrong file, or a file under the wrong name.
    Misplaced,
    /// A record of somebody else's partition.
    OtherTenant,
    /// A record of another replica's chain.
    OtherChain,
    /// Two records of a day have one id.
    DuplicateId,
    /// Something that is no record, or a file that cannot be read.
    Unreadable,
    /// A file that is none of ours.
    ForeignFile,
    /// A checkpoint whose signature does not hold.
    CheckpointForged,
    /// A checkpoint by a key that is not among those believed.
    CheckpointUnknownKey,
    /// A checkpoint about another chain or number than its name says.
    CheckpointMisplaced,
    /// There is no key to check signatures with.
    KeyMissing,
    /// Records are missing, and only an unsigned line says that they were purged.
    PurgeUnproven,
    /// The manifest of an export does not hold.
    Manifest,
}

impl Kind {
    /// The kind as reports name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Rewritten => "rewritten",
            Self::Removed => "removed",
            Self::Truncated => "truncated",
            Self::Inserted => "inserted",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Misplaced => "misplaced",
            Self::OtherTenant => "other_tenant",
            Self::OtherChain => "other_chain",
            Self::DuplicateId => "duplicate_id",
            Self::Unreadable => "unreadable",
            Self::ForeignFile => "foreign_file",
            Self::CheckpointForged => "checkpoint_forged",
            Self::CheckpointUnknownKey => "checkpoint_unknown_key",
            Self::CheckpointMisplaced => "checkpoint_misplaced",
            Self::KeyMissing => "key_missing",
            Self::PurgeUnproven => "purge_unproven",
            Self::Manifest => "manifest",
        }
    }
}

/// One thing that is wrong, as closely as there is evidence for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// Whose chain, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// The number of the first bad record: of the place in the chain that it has or should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The number of the last, if it is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Records from here on may be bad as well; no evidence is left for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perhaps_from: Option<u64>,
    /// The id that the first bad record states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordId>,
    /// Where it stands, or stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The evidence, in words.
    pub detail: String,
}

impl Finding {
    /// A finding of which nothing else is known yet.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            replica: None,
            seq: None,
            to: None,
            perhaps_from: None,
            record: None,
            file: None,
            line: None,
            detail: detail.into(),
        }
    }

    pub(super) fn at(mut self, file: impl Into<String>, line: Option<u32>) -> Self {
        self.file = Some(file.into());
        self.line = line.map(u64::from);
        self
    }
}

/// A record at an end of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Mark {
    /// Its number.
    pub seq: u64,
    /// When it began.
    pub at: Timestamp,
}

/// Records that are rightly not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Absent {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Why.
    pub why: Why,
}

/// Why records are rightly not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// They were kept for as long as policy says.
    Purged,
    /// They are of days that were not exported.
    OtherDays,
}

/// The chain of one replica in one partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Chain {
    /// Who writes it.
    pub replica: ReplicaId,
    /// How many records are there.
    pub records: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Mark>,
    /// The last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Mark>,
    /// Checkpoints whose signature holds.
    pub checkpoints: u64,
    /// Up to here a signature, or the gateway's database, says what the chain is.
    pub covered_to: u64,
    /// Records after that.
    pub uncovered: u64,
    /// Records written after the check began, or not all arrived yet: not judged.
    pub newer: u64,
    /// What is rightly not there.
    pub absent: Vec<Absent>,
}

/// What a check of a partition came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verified {
    /// Whose.
    pub partition: Partition,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// What is wrong, chain by chain in the order of the records; checkpoints by unknown keys last.
    pub findings: Vec<Finding>,
    /// How many more there are beyond those listed.
    pub more_findings: u64,
}

impl Verified {
    /// Whether nothing lies there and nothing should.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.holds()
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.findings.is_empty() && self.more_findings == 0
    }
}
