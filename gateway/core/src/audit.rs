//! What makes records evidence: where each one lies, how it is chained to the one before, and
//! what is signed.
//!
//! ```text
//! audit/acme/date=2026-11-23/r4f1c-000000000001.jsonl        many records, in their order
//! audit/acme/2026/11/23/bot/0193….json                       one record
//! audit/acme/checkpoints/r4f1c-000000000512.json             what is signed
//! ```
//! A tenant's partition is one prefix, so a storage policy over it confines a reader. Everything
//! here is a function of names and bytes; nothing reads a file. Worst case: whoever can delete
//! the last records *and* the checkpoints that cover them leaves a shorter chain that holds; only
//! a checkpoint kept elsewhere shows it.

mod chain;
mod checkpoint;
mod event;
mod name;
mod outbox;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::TenantId;

pub use chain::{FIRST_PREV_HASH, Link, NotALink, line_hash, line_hash_into, write_line};
pub use checkpoint::{
    AuditKey, AuditPublicKey, CHECKPOINT_SCHEMA, Checkpoint, InvalidAuditKey, NotSigned,
};
pub use event::{Event, EventLog};
pub use name::{Day, Form, Item, Name, NotAName, ROOT};
pub use outbox::{Behind, Destination, Outbox, Parcel};

/// Whose records lie together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Partition {
    /// A tenant's: its calls, its refusals, and what its own administrators did.
    Tenant(TenantId),
    /// Refusals that belong to no tenant.
    Gateway,
    /// What operators did, and what was refused to anybody at the admin API.
    Operators,
}

/// Why a text is not a [`Partition`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a partition is a tenant id, _gateway or _operator")]
pub struct NotAPartition;

impl Partition {
    /// The partition as a path segment. No tenant's id begins with `_`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant.as_str(),
            Self::Gateway => "_gateway",
            Self::Operators => "_operator",
        }
    }

    /// The tenant, if it is one's.
    #[must_use]
    pub const fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::Gateway | Self::Operators => None,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Partition {
    type Err = NotAPartition;

    fn from_str(text: &str) -> Result<Self, NotAPartition> {
        match text {
            "_gateway" => Ok(Self::Gateway),
            "_operator" => Ok(Self::Operators),
            _ => text
                .parse()
                .map(Self::Tenant)
                .map_err(|_invalid| NotAPartition),
        }
    }
}

impl TryFrom<String> for Partition {
    type Error = NotAPartition;

    fn try_from(text: String) -> Result<Self, NotAPartition> {
        text.parse()
    }
}

impl From<Partition> for String {
    fn from(partition: Partition) -> Self {
        partition.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests;
