//! Setting, rotating, revoking and listing secrets. No value ever comes back from here.
//!
//! A new version is written first and becomes current by the replacement of the index; a revoked
//! one leaves the index first and loses its ciphertext afterwards. A crash in between leaves a
//! file that no index names, or one whose version is already dead.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tollgate_core::handle::check_sendable;
use tollgate_core::ids::HandleName;
use tollgate_core::scrub::MIN_SECRET_BYTES;
use tollgate_core::secret::Secret;
use tollgate_core::time::Timestamp;
use tollgate_core::vault::{SecretName, VaultScope};

use super::super::unusable;
use super::index::{Index, VersionInfo};
use super::{AgeVault, files, keys};

/// Why the vault was not changed.
#[derive(Debug, thiserror::Error)]
pub enum VaultWriteError {
    /// The value can never be used.
    #[error("the secret {0}")]
    Unstorable(&'static str),
    /// There is no such secret, or no such version of it that is not revoked.
    #[error("there is no such secret {0}, or it is revoked already")]
    Missing(SecretName),
    /// A file could not be read or written.
    #[error("could not {operation} {}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

impl VaultWriteError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io {
            operation,
            path,
            cause,
        }
    }
}

/// A value was stored that its owner should think about again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Warning {
    /// It is short enough to occur by chance in an upstream's answer, which is therefore not
    /// searched for it.
    Short,
    /// It has bytes, or a length, that no request can carry: every call will be refused.
    Unsendable,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => {
                "it has fewer than 8 bytes: answers are not searched for it, because they may hold \
                 it by chance"
            }
            Self::Unsendable => {
                "it is over 8 KiB, not visible ASCII, or begins or ends with a space: \
                 calls that need it will be refused"
            }
        })
    }
}

/// A version that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// Its number.
    pub version: u32,
    /// What is odd about it.
    pub warnings: Vec<Warning>,
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: HandleName,
    /// Its versions, oldest first.
    pub versions: Vec<VersionInfo>,
}

impl AgeVault {
    /// Stores a value as the current version, whether or not there was one before.
    ///
    /// # Errors
    /// If the value is empty, over 64 KiB, or holds CR, LF or NUL, or a file cannot be written.
    pub fn set(
        &self,
        name: &SecretName,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<Stored, VaultWriteError> {
        self.store(name, secret, now, Replaces::Anything)
    }

    /// Stores a value in place of one that is in use.
    ///
    /// # Errors
    /// As [`AgeVault::set`], and if there is no such secret in use.
    pub fn rotate(
        &self,
        name: &SecretName,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<Stored, VaultWriteError> {
        self.store(name, secret, now, Replaces::InUse)
    }

    /// Stores a value in place of this version, if that is the one in use.
    ///
    /// # Errors
    /// As [`AgeVault::set`], and if another version is in use, or none.
    pub fn replace_version(
        &self,
        name: &SecretName,
        version: u32,
        secret: &Secret,
        now: Timestamp,
    ) -> Result<Stored, VaultWriteError> {
        self.store(name, secret, now, Replaces::Version(version))
    }

    /// Makes one version, or all of them, unusable for ever and removes their ciphertext.
    /// Returns their numbers. If the current one is among them, there is none until the next
    /// [`AgeVault::set`].
    ///
    /// # Errors
    /// If nothing is left to revoke, or a file cannot be written.
    pub fn revoke(
        &self,
        name: &SecretName,
        version: Option<u32>,
        now: Timestamp,
    ) -> Result<Vec<u32>, VaultWriteError> {
        let dir = self.files().secret_dir(name);
        if !dir.is_dir() {
            return Err(missing(name));
        }
        let _turn = files::Lock::on(&dir).map_err(VaultWriteError::io("lock", &dir))?;
        let path = self.files().index_path(name);
        let mut index = read_or_empty(&path)?;
        let revoked = index.revoke(version, now);
        if revoked.is_empty() {
            return Err(missing(name));
        }
        index
            .write(&path)
            .map_err(VaultWriteError::io("write", &path))?;
        for version in &revoked {
            let path = self.files().version_path(name, *version);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(VaultWriteError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(revoked)
    }

    /// The secrets of one scope, by name. Only that scope's directory is read.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn list(&self, scope: &VaultScope) -> Result<Vec<Listed>, VaultWriteError> {
        let dir = self.files().scope_dir(scope);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(VaultWriteError::io("read", &dir))?,
        };
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry.map_err(VaultWriteError::io("read", &dir))?;
            let name: Option<HandleName> = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(name) = name else { continue };
            let secret = SecretName {
                scope: scope.clone(),
                name: name.clone(),
            };
            let index = read_or_empty(&self.files().index_path(&secret))?;
            if !index.versions.is_empty() {
                listed.push(Listed {
                    name,
                    versions: index.versions,
                });
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn store(
        &self,
        name: &SecretName,
        secret: &Secret,
        now: Timestamp,
        replaces: Replaces,
    ) -> Result<Stored, VaultWriteError> {
        if let Some(wrong) = unusable(secret) {
            return Err(VaultWriteError::Unstorable(wrong));
        }
        let dir = self.files().secret_dir(name);
        let path = self.files().index_path(name);
        if replaces != Replaces::Anything && !path.is_file() {
            return Err(missing(name));
        }
        if !dir.is_dir() {
            self.make_dir(&name.scope, &dir)?;
        }
        let _turn = files::Lock::on(&dir).map_err(VaultWriteError::io("lock", &dir))?;
        let mut index = read_or_empty(&path)?;
        if !replaces.fits(index.usable()) {
            return Err(missing(name));
        }
        let version = index
            .next_version()
            .ok_or(VaultWriteError::Unstorable("has too many versions"))?;
        let file = self.files().version_path(name, version);
        let sealed = keys::encrypt(&self.files().keys, &name.scope, secret)
            .map_err(VaultWriteError::io("encrypt", &file))?;
        files::replace(&file, &sealed).map_err(VaultWriteError::io("write", &file))?;
        index.add(version, now);
        index
            .write(&path)
            .map_err(VaultWriteError::io("write", &path))?;
        Ok(Stored {
            version,
            warnings: warnings(secret),
        })
    }

    /// Makes the directory of a secret, and its name durable.
    fn make_dir(&self, scope: &VaultScope, dir: &Path) -> Result<(), VaultWriteError> {
        files::private_dir(dir).map_err(VaultWriteError::io("make", dir))?;
        for above in [&self.files().scope_dir(scope), &self.files().secrets] {
            files::sync_dir(above).map_err(VaultWriteError::io("sync", above))?;
        }
        Ok(())
    }
}

/// What has to be there for a value to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replaces {
    Anything,
    InUse,
    Version(u32),
}

impl Replaces {
    fn fits(self, in_use: Option<u32>) -> bool {
        match self {
            Self::Anything => true,
            Self::InUse => in_use.is_some(),
            Self::Version(version) => in_use == Some(version),
        }
    }
}

fn warnings(secret: &Secret) -> Vec<Warning> {
    let short = secret.expose().len() < MIN_SECRET_BYTES;
    let unsendable = check_sendable(secret).is_err();
    [(short, Warning::Short), (unsendable, Warning::Unsendable)]
        .into_iter()
        .filter_map(|(holds, warning)| holds.then_some(warning))
        .collect()
}

fn missing(name: &SecretName) -> VaultWriteError {
    VaultWriteError::Missing(name.clone())
}

fn read_or_empty(path: &Path) -> Result<Index, VaultWriteError> {
    match Index::read(path) {
        Ok((index, _stamp)) => Ok(index),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
        Err(error) => Err(VaultWriteError::io("read", path)(error)),
    }
}
