//! Secrets at rest, each encrypted with `age` to a key of its scope: a tenant's, or the platform's.
//!
//! ```text
//! data/keys/vault/{scope}.key           the scope's age identity, 0600; only fetching needs it
//! data/keys/vault/{scope}.pub           its recipient; all that writing needs
//! data/vault/{scope}/{name}/index.json  which version is current, and what became of the others
//! data/vault/{scope}/{name}/{n}.age     one version: the secret's bytes and nothing else
//! ```
//!
//! A tenant's secrets and key have paths of their own, so the separation can be tested with
//! `age -d -i data/keys/vault/a.key data/vault/b/name/1.age`, which fails. The gateway reads and
//! the CLI writes at the same time, from two processes: every file appears whole (written aside,
//! synced, renamed), and the index decides. A fetch therefore gives the old value or the new
//! one, never a mix.
//!
//! Decrypted values are kept in memory and trusted for [`RECHECK`](super::RECHECK) without a look at the index.
//! Worst case: a revoked value goes out for that long. A vault that cannot be read gives nothing,
//! cached or not. `age` does not say who encrypted: whoever can write these files can replace a
//! secret, though not read one.

mod files;
mod index;
mod keys;
mod write;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tollgate_core::secret::Secret;
use tollgate_core::time::Timestamp;
use tollgate_core::vault::{
    ReplaceError, SecretName, SecretVersion, Vault, VaultError, VaultScope,
};

pub use index::{VersionInfo, VersionState};
pub use write::{Listed, Stored, VaultWriteError, Warning};

use super::checked::{Checked, RECHECK, Source};
use super::stamp::Stamp;
use super::{unreadable, unusable};
use index::Index;

/// How often a fetch follows an index that changes while it reads. Each change takes its writer
/// several syncs, so more than one is rare.
const MAX_TRIES: u32 = 16;

/// A vault in a gateway's data directory. Cloning it shares its cache.
#[derive(Clone)]
pub struct AgeVault {
    checked: Arc<Checked<AgeFiles>>,
}

struct AgeFiles {
    secrets: PathBuf,
    keys: PathBuf,
}

impl AgeVault {
    /// Opens the vault of a data directory; makes its directories (0700) if they are missing.
    ///
    /// # Errors
    /// If a directory cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, VaultWriteError> {
        Self::open_with(data_dir, RECHECK)
    }

    fn open_with(data_dir: &Path, recheck: Duration) -> Result<Self, VaultWriteError> {
        let secrets = data_dir.join("vault");
        let keys = data_dir.join("keys").join("vault");
        for dir in [&secrets, &keys] {
            files::private_dir(dir).map_err(VaultWriteError::io("make", dir))?;
        }
        Ok(Self {
            checked: Arc::new(Checked::new(AgeFiles { secrets, keys }, recheck)),
        })
    }

    fn files(&self) -> &AgeFiles {
        self.checked.source()
    }
}

#[async_trait]
impl Vault for AgeVault {
    async fn fetch(&self, secret: &SecretName) -> Result<SecretVersion, VaultError> {
        self.checked.fetch(secret).await
    }

    async fn replace(
        &self,
        secret: &SecretName,
        version: u32,
        value: &Secret,
        now: Timestamp,
    ) -> Result<u32, ReplaceError> {
        let (vault, secret, value) = (self.clone(), secret.clone(), value.clone());
        let write = move || vault.replace_version(&secret, version, &value, now);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(stored)) => Ok(stored.version),
            Ok(Err(VaultWriteError::Missing(_))) => Err(ReplaceError::Superseded),
            Ok(Err(error)) => Err(ReplaceError::Unwritable(error.into())),
            Err(stopped) => Err(ReplaceError::Unwritable(stopped.into())),
        }
    }
}

impl Source for AgeFiles {
    fn witness(&self, secret: &SecretName) -> PathBuf {
        self.index_path(secret)
    }

    /// Reads the current version; again if the index changed under it, because then the file it
    /// named may have been revoked in between.
    fn read(&self, secret: &SecretName) -> Result<(Stamp, SecretVersion), VaultError> {
        let index = self.index_path(secret);
        let mut tries_left = MAX_TRIES;
        loop {
            let before = Stamp::at(&index).ok();
            let read = self.read_current(secret);
            let is_unreadable = matches!(read, Err(VaultError::Unreadable { .. }));
            tries_left -= 1;
            if !is_unreadable || tries_left == 0 || Stamp::at(&index).ok() == before {
                return read;
            }
        }
    }
}

impl AgeFiles {
    fn read_current(&self, secret: &SecretName) -> Result<(Stamp, SecretVersion), VaultError> {
        let missing = || VaultError::Missing(secret.clone());
        let (index, stamp) = match Index::read(&self.index_path(secret)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            read => read.map_err(|error| unreadable(secret, error))?,
        };
        let version = index.usable().ok_or_else(missing)?;
        let path = self.version_path(secret, version);
        let value = keys::decrypt(&self.keys, &secret.scope, &path)
            .map_err(|error| unreadable(secret, error))?;
        if unusable(&value).is_some() {
            return Err(VaultError::Malformed(secret.clone()));
        }
        Ok((stamp, SecretVersion::new(value, version)))
    }

    fn scope_dir(&self, scope: &VaultScope) -> PathBuf {
        self.secrets.join(scope.as_str())
    }

    fn secret_dir(&self, secret: &SecretName) -> PathBuf {
        self.scope_dir(&secret.scope).join(secret.name.as_str())
    }

    fn index_path(&self, secret: &SecretName) -> PathBuf {
        self.secret_dir(secret).join("index.json")
    }

    fn version_path(&self, secret: &SecretName, version: u32) -> PathBuf {
        self.secret_dir(secret).join(format!("{version}.age"))
    }
}
