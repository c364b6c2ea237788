//! Who may use the admin API, as the file of credentials says.
//!
//! A credential is 256 random bits; the file holds its SHA-256 only, and so does memory. Digests
//! are compared with every one that is kept, each to its last byte, so that timing tells neither
//! which one was close nor whether any was. A file that cannot be understood whole opens nothing.
//! Knows no files and no requests. Worst case: whoever can write the file is an operator.

use std::collections::BTreeSet;
use std::hint::black_box;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tollgate_core::budget::StoreError;
use tollgate_core::ids::{AdminName, TenantId};
use tollgate_core::time::Timestamp;

/// What every credential begins with, so that scanners for leaked secrets find them.
const PREFIX: &str = "tga_";

/// What somebody may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Operator,
    /// Read what concerns these tenants.
    Auditor(BTreeSet<TenantId>),
    /// Give out and end task tokens of these tenants.
    Minter(BTreeSet<TenantId>),
    /// Read the metrics, those of all tenants among them, and nothing else.
    Metrics,
}

impl Role {
    /// Its name.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Auditor(_) => "auditor",
            Self::Minter(_) => "minter",
            Self::Metrics => "metrics",
        }
    }

    /// The tenants it is for, or `None` if it is for all of them.
    #[must_use]
    pub const fn tenants(&self) -> Option<&BTreeSet<TenantId>> {
        match self {
            Self::Operator | Self::Metrics => None,
            Self::Auditor(tenants) | Self::Minter(tenants) => Some(tenants),
        }
    }
}

/// One credential, without what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Who holds it.
    pub name: AdminName,
    /// What it opens.
    pub role: Role,
    /// SHA-256 of its text.
    pub digest: CredentialDigest,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it opens nothing.
    pub expires_at: Option<Timestamp>,
}

/// SHA-256 of a credential's text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CredentialDigest([u8; 32]);

impl CredentialDigest {
    /// Of what was given.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Compares without stopping early.
    fn is(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        let difference = pairs.fold(0, |found, (a, b)| found | (a ^ b));
        black_box(difference) == 0
    }
}

impl std::fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialDigest")
    }
}

/// The text of a credential, out of 256 random bits. Shown once and kept nowhere.
#[must_use]
pub fn text_of(random: &[u8; 32]) -> String {
    format!("{PREFIX}{}", hex(random))
}

/// Why the file of credentials means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON of the form that is written here.
    #[error("it is not the JSON that `tollgate admin` writes (line {line}, column {column})")]
    Json {
        /// Counted from one.
        line: usize,
        /// Counted from one.
        column: usize,
    },
    /// Nobody could say whose action it was.
    #[error("two credentials are called {0}")]
    SameName(AdminName),
    /// Nobody could say whose action it was.
    #[error("{0} has the credential of somebody else")]
    SameCredential(AdminName),
    /// The role is unknown, or its tenants do not go with it.
    #[error(
        "{0} is no operator or reader of metrics without tenants, and no auditor or minter with some"
    )]
    Role(AdminName),
    /// The digest is not 64 hexadecimal digits.
    #[error("the sha256 of {0} is not 64 lower-case hexadecimal digits")]
    Digest(AdminName),
}

/// Everybody who may use the admin API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials(Vec<Credential>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    admins: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: AdminName,
    role: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    tenants: BTreeSet<TenantId>,
    sha256: String,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

impl TryFrom<Entry> for Credential {
    type Error = Malformed;

    fn try_from(entry: Entry) -> Result<Self, Malformed> {
        let name = entry.name;
        let role = match (entry.role.as_str(), entry.tenants.is_empty()) {
            ("operator", true) => Role::Operator,
            ("metrics", true) => Role::Metrics,
            ("auditor", false) => Role::Auditor(entry.tenants),
            ("minter", false) => Role::Minter(entry.tenants),
            _ => return Err(Malformed::Role(name)),
        };
        let Some(digest) = unhex(&entry.sha256) else {
            return Err(Malformed::Digest(name));
        };
        Ok(Self {
            name,
            role,
            digest: CredentialDigest(digest),
            created_at: entry.created_at,
            expires_at: entry.expires_at,
        })
    }
}

impl Credentials {
    /// Reads the file's text.
    ///
    /// # Errors
    /// If any of it cannot be understood; then none of it holds.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let file: File = serde_json::from_str(text).map_err(|wrong| Malformed::Json {
            line: wrong.line(),
            column: wrong.column(),
        })?;
        let mut all = Self::default();
        for entry in file.admins {
            all.add(entry.try_into()?)?;
        }
        Ok(all)
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let entries = self.0.iter().map(|credential| Entry {
            name: credential.name.clone(),
            role: credential.role.as_str().to_owned(),
            tenants: credential.role.tenants().cloned().unwrap_or_default(),
            sha256: hex(&credential.digest.0),
            created_at: credential.created_at,
            expires_at: credential.expires_at,
        });
        let file = File {
            admins: entries.collect(),
        };
        // Names, texts and times: nothing that JSON cannot say.
        let text = serde_json::to_string_pretty(&file).unwrap_or_default();
        format!("{text}\n")
    }

    /// Adds one.
    ///
    /// # Errors
    /// If the name or the credential is taken.
    pub fn add(&mut self, credential: Credential) -> Result<(), Malformed> {
        for known in &self.0 {
            if known.name == credential.name {
                return Err(Malformed::SameName(credential.name));
            }
            if known.digest.is(&credential.digest) {
                return Err(Malformed::SameCredential(credential.name));
            }
        }
        self.0.push(credential);
        Ok(())
    }

    /// Takes one away; says whether there was one.
    pub fn remove(&mut self, name: &AdminName) -> bool {
        let before = self.0.len();
        self.0.retain(|credential| credential.name != *name);
        self.0.len() < before
    }

    /// All of them, in the order they were added.
    #[must_use]
    pub fn all(&self) -> &[Credential] {
        &self.0
    }

    /// Whether this one is among them, unchanged, and has not ended.
    #[must_use]
    pub fn hold(&self, credential: &Credential, now: Timestamp) -> bool {
        let same = self.0.iter().find(|known| *known == credential);
        same.is_some_and(|same| same.expires_at.is_none_or(|end| now < end))
    }

    /// Whose credential this text is, if it is one that has not ended.
    #[must_use]
    pub fn find(&self, text: &str, now: Timestamp) -> Option<&Credential> {
        let given = CredentialDigest::of(text);
        let mut found = None;
        for credential in &self.0 {
            if credential.digest.is(&given) {
                found = Some(credential);
            }
        }
        found.filter(|credential| credential.expires_at.is_none_or(|end| now < end))
    }
}

/// Gives the credentials that hold now.
pub trait CredentialSource: Send + Sync {
    /// What the file says at this moment: whoever is removed from it is out at once.
    ///
    /// # Errors
    /// If it cannot be read or understood. Then nobody is let in: an older state would let in
    /// those who have been removed since.
    fn current(&self) -> Result<Credentials, StoreError>;
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 64 || !text.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn tenants(ids: &[&str]) -> BTreeSet<TenantId> {
        ids.iter().map(|id| id.parse().expect("an id")).collect()
    }

    fn credential(name: &str, role: Role, text: &str) -> Credential {
        Credential {
            name: name.parse().expect("a name"),
            role,
            digest: CredentialDigest::of(text),
            created_at: time(NOW),
            expires_at: None,
        }
    }

    fn three() -> Credentials {
        let mut all = Credentials::default();
        let ends = Credential {
            expires_at: Some(time("2026-11-23T10:00:01Z")),
            ..credential("mia", Role::Minter(tenants(&["acme", "globex"])), "three")
        };
        for one in [
            credential("bootstrap", Role::Operator, "one"),
            credential("alice", Role::Auditor(tenants(&["acme"])), "two"),
            ends,
        ] {
            all.add(one).expect("added");
        }
        all
    }

    #[test]
    fn the_file_reads_back_and_holds_hashes_only() {
        let text = three().to_text();
        assert_eq!(Credentials::parse(&text), Ok(three()));
        let sha = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
        assert!(text.contains(&format!("\"sha256\": \"{sha}\"")), "{text}");
        assert!(!text.contains("\"one\""), "{text}");
    }

    #[test]
    fn a_credential_is_found_by_its_text_until_it_ends_or_is_removed() {
        let mut all = three();
        let name = |all: &Credentials, text: &str, now: &str| {
            all.find(text, time(now))
                .map(|found| found.name.to_string())
        };
        assert_eq!(name(&all, "two", NOW).as_deref(), Some("alice"));
        assert_eq!(name(&all, "three", NOW).as_deref(), Some("mia"));
        assert_eq!(name(&all, "three", "2026-11-23T10:00:01Z"), None);
        assert_eq!(name(&all, "", NOW), None);
        assert_eq!(name(&all, "tw", NOW), None);
        assert!(all.remove(&"alice".parse().expect("a name")));
        assert_eq!(name(&all, "two", NOW), None);
        assert!(!all.remove(&"alice".parse().expect("a name")));
    }

    #[test]
    fn a_file_with_one_mistake_means_nothing() {
        let sha = "0".repeat(64);
        let other = "1".repeat(64);
        let entry = |name: &str, role: &str, more: &str, sha: &str| {
            format!(
                r#"{{"name":"{name}","role":"{role}","sha256":"{sha}","created_at":"{NOW}"{more}}}"#
            )
        };
        let file = |entries: &[String]| format!(r#"{{"admins":[{}]}}"#, entries.join(","));
        let good = entry("a", "operator", "", &sha);
        assert!(Credentials::parse(&file(std::slice::from_ref(&good))).is_ok());
        for (entries, wrong) in [
            (
                vec![good.clone(), entry("a", "operator", "", &other)],
                "two credentials",
            ),
            (
                vec![good.clone(), entry("b", "operator", "", &sha)],
                "somebody else",
            ),
            (vec![entry("a", "auditor", "", &sha)], "no auditor"),
            (
                vec![entry("a", "auditor", r#","tenants":[]"#, &sha)],
                "no auditor",
            ),
            (
                vec![entry("a", "operator", r#","tenants":["acme"]"#, &sha)],
                "no operator",
            ),
            (vec![entry("a", "owner", "", &sha)], "no operator"),
            (vec![entry("a", "operator", "", "00")], "sha256"),
            (vec![entry("a", "operator", "", &"A".repeat(64))], "sha256"),
            (
                vec![entry("a", "operator", r#","admin":true"#, &sha)],
                "line 1",
            ),
            (vec![entry("../a", "operator", "", &sha)], "line 1"),
            (
                vec![entry("a", "minter", r#","tenants":["_operator"]"#, &sha)],
                "line 1",
            ),
        ] {
            let text = file(&entries);
            let said = Credentials::parse(&text).expect_err(&text).to_string();
            assert!(said.contains(wrong), "{text}: {said}");
        }
        for text in ["", "{}", "[]", r#"{"admins":[]"#] {
            assert!(Credentials::parse(text).is_err(), "{text}");
        }
    }
}
