//! One record's line and its place in the chain: numbered without gaps, each naming the hash of
//! the line before.
//!
//! A chain belongs to one partition and one replica. The hash is over the line as it stands, so a
//! record can be checked without knowing what its members mean. Worst case: none.

use std::borrow::Cow;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::ids::{RecordId, ReplicaId};
use crate::record::SCHEMA;
use crate::time::Timestamp;

/// The "hash of the line before" of the first record.
pub const FIRST_PREV_HASH: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

/// A line is not a record of a chain.
#[derive(Debug, thiserror::Error)]
#[error("not a record of a chain")]
pub struct NotALink(#[from] serde_json::Error);

/// What of a line places it.
#[derive(Debug, Clone, Deserialize)]
pub struct Link<'a> {
    /// Who wrote it.
    #[serde(rename = "tollgate.replica.id")]
    pub replica: ReplicaId,
    /// Its number in the chain, from one.
    #[serde(rename = "tollgate.seq")]
    pub seq: u64,
    /// The hash of the line before.
    #[serde(rename = "tollgate.prev_hash", borrow)]
    pub prev_hash: Cow<'a, str>,
    /// The record's own id.
    #[serde(rename = "tollgate.record.id")]
    pub record: RecordId,
    /// When it began, which decides the day it lies under.
    #[serde(rename = "tollgate.started_at", default)]
    pub started_at: Option<Timestamp>,
    /// Whose it is or whom it is about, as the line says.
    #[serde(rename = "tenant.id", borrow, default)]
    pub tenant: Option<Cow<'a, str>>,
    /// The agent, which decides where a record of its own lies.
    #[serde(rename = "gen_ai.agent.id", borrow, default)]
    pub agent: Option<Cow<'a, str>>,
    /// What tells it from the record of a call.
    #[serde(rename = "tollgate.event", borrow, default)]
    pub event: Option<Cow<'a, str>>,
}

impl<'a> Link<'a> {
    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// [`NotALink`].
    pub fn parse(line: &'a [u8]) -> Result<Self, NotALink> {
        Ok(serde_json::from_slice(line)?)
    }
}

/// The SHA-256 of a line without its newline, as lower-case hex.
#[must_use]
pub fn line_hash(line: &[u8]) -> String {
    let mut hash = String::with_capacity(64);
    line_hash_into(&mut hash, line);
    hash
}

/// [`line_hash`] into a text that is there already.
pub fn line_hash_into(hash: &mut String, line: &[u8]) {
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(Sha256::digest(line)) {
        pair.copy_from_slice(&[byte >> 4, byte & 0xf]);
    }
    // A sum instead of a look into a table: the compiler makes sixteen of them at once.
    for digit in &mut digits {
        let zero = if *digit < 10 { b'0' } else { b'a' - 10 };
        *digit = digit.wrapping_add(zero);
    }
    hash.clear();
    // Digits are UTF-8.
    hash.push_str(str::from_utf8(&digits).unwrap_or_default());
}

/// Puts a record's line together: its place in the chain, then the members of `parts`, which are
/// JSON objects. Without a newline.
pub fn write_line(
    line: &mut Vec<u8>,
    replica: &ReplicaId,
    seq: u64,
    prev_hash: &str,
    parts: &[&[u8]],
) {
    line.clear();
    for piece in [
        r#"{"tollgate.schema":""#,
        SCHEMA,
        r#"","tollgate.replica.id":""#,
        replica.as_str(),
        r#"","tollgate.seq":"#,
    ] {
        line.extend_from_slice(piece.as_bytes());
    }
    // A number is always written.
    let _written = serde_json::to_writer(&mut *line, &seq);
    for piece in [r#","tollgate.prev_hash":""#, prev_hash, "\""] {
        line.extend_from_slice(piece.as_bytes());
    }
    for part in parts {
        let object = part.strip_prefix(b"{");
        let members = object.and_then(|rest| rest.strip_suffix(b"}"));
        let members = members.unwrap_or_default();
        if !members.is_empty() {
            line.push(b',');
            line.extend_from_slice(members);
        }
    }
    line.push(b'}');
}
