//! The index of one secret: which version is current, and what became of the others.
//!
//! It holds no secret. Whether a reader has seen the current index is told by the file's
//! identity, because each change puts a new file in its place.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tollgate_core::time::Timestamp;

use super::super::stamp::Stamp;
use super::files;

/// Indexes are some hundred bytes a version; more than this is not ours.
const MAX_INDEX_BYTES: u64 = 4 * 1024 * 1024;

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// It is the one in use.
    Current,
    /// A later one is in use; its ciphertext is kept until it is revoked.
    Superseded,
    /// It is never used again, and its ciphertext is gone.
    Revoked,
}

/// One version of a secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionInfo {
    /// Counts up from 1.
    pub version: u32,
    /// What became of it.
    pub state: VersionState,
    /// When it was set.
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// The versions of one secret, oldest first. At most one of them is current.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) versions: Vec<VersionInfo>,
}

impl Index {
    pub(super) fn read(path: &Path) -> io::Result<(Self, Stamp)> {
        let file = File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let mut text = Vec::new();
        file.take(MAX_INDEX_BYTES).read_to_end(&mut text)?;
        Ok((serde_json::from_slice(&text)?, stamp))
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        files::replace(path, &serde_json::to_vec_pretty(self)?)
    }

    /// The version in use, unless it has been revoked.
    pub(super) fn usable(&self) -> Option<u32> {
        self.versions
            .iter()
            .find(|version| version.state == VersionState::Current)
            .map(|version| version.version)
    }

    /// The number after the highest that was ever given out; a revoked one is never reused.
    pub(super) fn next_version(&self) -> Option<u32> {
        let highest = self.versions.iter().map(|version| version.version).max();
        highest.unwrap_or(0).checked_add(1)
    }

    /// Makes a new version the current one.
    pub(super) fn add(&mut self, version: u32, now: Timestamp) {
        for earlier in &mut self.versions {
            if earlier.state == VersionState::Current {
                earlier.state = VersionState::Superseded;
            }
        }
        self.versions.push(VersionInfo {
            version,
            state: VersionState::Current,
            created_at: now,
            revoked_at: None,
        });
    }

    /// Revokes one version, or all of them; returns those that had not been before.
    pub(super) fn revoke(&mut self, only: Option<u32>, now: Timestamp) -> Vec<u32> {
        let mut revoked = Vec::new();
        for version in &mut self.versions {
            let is_meant = only.is_none_or(|only| only == version.version);
            if is_meant && version.state != VersionState::Revoked {
                version.state = VersionState::Revoked;
                version.revoked_at = Some(now);
                revoked.push(version.version);
            }
        }
        revoked
    }
}
