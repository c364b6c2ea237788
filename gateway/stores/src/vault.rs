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
//! Decrypted values are kept in memory and trusted for [`RECHECK`] without a look at the index.
//! Worst case: a revoked value goes out for that long. A vault that cannot be read gives nothing,
//! cached or not. `age` does not say who encrypted: whoever can write these files can replace a
//! secret, though not read one.

mod files;
mod index;
mod keys;
mod write;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tollgate_core::secret::Secret;
use tollgate_core::vault::{SecretName, SecretVersion, Vault, VaultError, VaultScope};

pub use index::{VersionInfo, VersionState};
pub use write::{Listed, Stored, VaultWriteError, Warning};

use index::{Index, Stamp};

/// How long a decrypted value is used without a look at its index. A quarter of the second
/// within which a revocation must take effect.
pub const RECHECK: Duration = Duration::from_millis(250);

/// The longest secret that is stored, in bytes. Nothing sends more than 8 KiB of it; the rest is
/// room for secrets that are no keys.
pub const MAX_STORED_BYTES: usize = 64 * 1024;

/// How often a fetch follows an index that changes while it reads. Each change takes its writer
/// several syncs, so more than one is rare.
const MAX_TRIES: u32 = 16;

/// A vault in a gateway's data directory. Cloning it shares its cache.
#[derive(Clone)]
pub struct AgeVault {
    shared: Arc<Shared>,
}

struct Shared {
    secrets: PathBuf,
    keys: PathBuf,
    recheck: Duration,
    cache: RwLock<HashMap<SecretName, Cached>>,
    /// One decryption at a time for each scope: a cold secret asked for by many calls at once
    /// is decrypted once, and no tenant waits for another's.
    cold: Mutex<HashMap<VaultScope, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Clone)]
struct Cached {
    value: SecretVersion,
    stamp: Stamp,
    checked: Instant,
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
            shared: Arc::new(Shared {
                secrets,
                keys,
                recheck,
                cache: RwLock::default(),
                cold: Mutex::default(),
            }),
        })
    }
}

#[async_trait]
impl Vault for AgeVault {
    async fn fetch(&self, secret: &SecretName) -> Result<SecretVersion, VaultError> {
        if let Some(value) = self.shared.warm(secret) {
            return Ok(value);
        }
        let turn = self.shared.turn(&secret.scope);
        let _turn = turn.lock().await;
        // Somebody else may have decrypted it while this call waited.
        if let Some(value) = self.shared.warm(secret) {
            return Ok(value);
        }
        let (shared, wanted) = (Arc::clone(&self.shared), secret.clone());
        tokio::task::spawn_blocking(move || shared.decrypt(&wanted))
            .await
            .map_err(|stopped| unreadable(secret, stopped))?
    }
}

impl Shared {
    /// The cached value, if the index still is what it was when that was decrypted.
    fn warm(&self, secret: &SecretName) -> Option<SecretVersion> {
        let now = Instant::now();
        let stamp = {
            let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
            let cached = cache.get(secret)?;
            if now.duration_since(cached.checked) < self.recheck {
                return Some(cached.value.clone());
            }
            cached.stamp
        };
        // One stat(2) of a local file, at most every `RECHECK` and secret, is cheaper than a
        // thread to do it on.
        let unchanged = Stamp::at(&self.index_path(secret)).is_ok_and(|at| at == stamp);
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let cached = cache.get_mut(secret)?;
        if cached.stamp != stamp {
            // Decrypted anew by another call in the meantime; the next look decides.
            return None;
        }
        if !unchanged {
            cache.remove(secret);
            return None;
        }
        cached.checked = now;
        Some(cached.value.clone())
    }

    fn turn(&self, scope: &VaultScope) -> Arc<tokio::sync::Mutex<()>> {
        let mut cold = self.cold.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cold.entry(scope.clone()).or_default())
    }

    /// Reads and decrypts the current version, and keeps it.
    fn decrypt(&self, secret: &SecretName) -> Result<SecretVersion, VaultError> {
        let checked = Instant::now();
        let (stamp, value) = self.read_settled(secret)?;
        let cached = Cached {
            value: value.clone(),
            stamp,
            checked,
        };
        self.cache
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(secret.clone(), cached);
        Ok(value)
    }

    /// Reads the current version; again if the index changed under it, because then the file it
    /// named may have been revoked in between.
    fn read_settled(&self, secret: &SecretName) -> Result<(Stamp, SecretVersion), VaultError> {
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
        if write::storable(&value).is_err() {
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

fn unreadable(
    secret: &SecretName,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> VaultError {
    VaultError::Unreadable {
        secret: secret.clone(),
        cause: cause.into(),
    }
}

/// Takes a decrypted buffer into its box without leaving a copy behind.
fn boxed(mut plain: zeroize::Zeroizing<Vec<u8>>) -> Secret {
    Secret::new(std::mem::take(&mut *plain))
}
