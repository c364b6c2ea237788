//! What a check keeps of a record: its place in the chain, and where it lies.
//!
//! Decides whether a line can be a record of this partition and chain at all. At most
//! 128 bytes of a record are kept, whatever its length.

use sha2::{Digest, Sha256};
use tollgate_core::audit::{Day, Link, Partition};
use tollgate_core::ids::{RecordId, ReplicaId};
use tollgate_core::time::Timestamp;

use crate::tombstone::{PURGED, Tombstone};

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// Where a record lies. Names are put together when they are told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In the segment of that number.
    Segment(u32),
    /// In an object of its own, of an agent by number.
    Object { day: Day, agent: u32, copy: u32 },
}

/// A record, without what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    pub(super) prev: Hash,
    pub(super) hash: Hash,
    pub(super) record: RecordId,
    pub(super) at: Timestamp,
    pub(super) line: u32,
    pub(super) place: Place,
    /// Whether a record of a lower number stands behind it in the file.
    pub(super) ahead: bool,
    /// Whether its number or day is not one of the file.
    pub(super) outside: bool,
    /// Whether it is the one that stands in the chain.
    pub(super) taken: bool,
}

/// Why a line is not a record of the chain that it stands among.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Why {
    Unreadable(String),
    OtherTenant(String),
    OtherChain(ReplicaId),
    /// Another record with this number is the one that the chain knows.
    Extra,
    /// The same record, once more.
    Again,
    /// Its number lies behind what has been checked.
    Late,
}

/// A line that is not a record of the chain.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    pub(super) why: Why,
    pub(super) file: String,
    pub(super) line: u32,
    /// How many lines, one behind the other.
    pub(super) count: u32,
    pub(super) record: Option<RecordId>,
    /// The number it states, and the last of them.
    pub(super) says: Option<(u64, u64)>,
    pub(super) prev: Option<Hash>,
    /// Numbers of the records around it in the file.
    pub(super) after: Option<u64>,
    pub(super) before: Option<u64>,
    /// Whether it stands where a record is missing, and was told of as that.
    pub(super) told: bool,
}

/// A line, once it was looked at.
pub(super) enum Looked {
    Record {
        entry: Entry,
        replica: ReplicaId,
        agent: Option<String>,
        purge: Option<Tombstone>,
    },
    Not {
        why: Why,
        record: Option<RecordId>,
        says: Option<u64>,
    },
}

/// Looks at a line of `partition`.
pub(super) fn look(partition: &Partition, line: &[u8], number: u64, place: Place) -> Looked {
    let link = match Link::parse(line) {
        Ok(link) => link,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            return Looked::Not {
                why: Why::Unreadable(cause.unwrap_or_default()),
                record: None,
                says: None,
            };
        }
    };
    let not = |why| Looked::Not {
        why,
        record: Some(link.record),
        says: Some(link.seq),
    };
    if !belongs(partition, &link) {
        let whose = link.tenant.as_deref().unwrap_or("nobody");
        return not(Why::OtherTenant(whose.to_owned()));
    }
    let (Some(prev), Some(at)) = (digest(&link.prev_hash), link.started_at) else {
        return not(Why::Unreadable("it states no hash or no time".to_owned()));
    };
    let purge = (link.event.as_deref() == Some(PURGED))
        .then(|| serde_json::from_slice(line).ok())
        .flatten();
    Looked::Record {
        entry: Entry {
            seq: link.seq,
            prev,
            hash: Sha256::digest(line).into(),
            record: link.record,
            at,
            line: u32::try_from(number).unwrap_or(u32::MAX),
            place,
            ahead: false,
            outside: false,
            taken: false,
        },
        agent: link.agent.map(std::borrow::Cow::into_owned),
        replica: link.replica,
        purge,
    }
}

/// The number of a line of `partition`, the hash it names and its own; nothing if it is none.
pub(crate) fn look_at(partition: &Partition, line: &[u8]) -> Option<(u64, Hash, Hash)> {
    match look(partition, line, 1, Place::Segment(0)) {
        Looked::Record { entry, .. } => Some((entry.seq, entry.prev, entry.hash)),
        Looked::Not { .. } => None,
    }
}

/// Whether a line may stand in that partition, going by what it says of itself.
fn belongs(partition: &Partition, link: &Link<'_>) -> bool {
    match (partition, &link.tenant, &link.event) {
        (Partition::Tenant(whose), Some(said), _) => whose.as_str() == said,
        // Events say what happened to the partition that they stand in.
        (Partition::Tenant(_), None, event) => event.is_some(),
        // Strangers have no tenant; a call has one and is never the gateway's own.
        (Partition::Gateway, said, event) => said.is_none() || event.is_some(),
        // Operators act in the affairs of all tenants, and never make calls.
        (Partition::Operators, _, event) => event.is_some(),
    }
}

/// Reads 64 lower-case hexadecimal digits.
pub(crate) fn digest(text: &str) -> Option<Hash> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(hash)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// A digest as text.
pub(crate) fn hex(hash: &Hash) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in hash {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
