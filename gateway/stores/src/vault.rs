//! Secrets at rest, each encrypted with `age` to a key of its tenant.
//!
//! ```text
//! data/keys/vault/{tenant}.key          the tenant's age identity, 0600; only fetching needs it
//! data/keys/vault/{tenant}.pub          its recipient; all that writing needs
//! data/vault/{tenant}/{name}/index.json which version is current, and what became of the others
//! data/vault/{tenant}/{name}/{n}.age    one version: the secret's bytes and nothing else
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
use tollgate_core::ids::{HandleName, TenantId};
use tollgate_core::secret::Secret;
use tollgate_core::vault::{SecretVersion, Vault, VaultError};

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
    cache: RwLock<HashMap<TenantId, HashMap<HandleName, Cached>>>,
    /// One decryption at a time for each tenant: a cold secret asked for by many calls at once
    /// is decrypted once, and no tenant waits for another's.
    cold: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
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
    async fn fetch(
        &self,
        tenant: &TenantId,
        name: &HandleName,
    ) -> Result<SecretVersion, VaultError> {
        if let Some(value) = self.shared.warm(tenant, name) {
            return Ok(value);
        }
        let turn = self.shared.turn(tenant);
        let _turn = turn.lock().await;
        // Somebody else may have decrypted it while this call waited.
        if let Some(value) = self.shared.warm(tenant, name) {
            return Ok(value);
        }
        let (shared, of, called) = (Arc::clone(&self.shared), tenant.clone(), name.clone());
        tokio::task::spawn_blocking(move || shared.decrypt(&of, &called))
            .await
            .map_err(|stopped| unreadable(tenant, name, stopped))?
    }
}

impl Shared {
    /// The cached value, if the index still is what it was when that was decrypted.
    fn warm(&self, tenant: &TenantId, name: &HandleName) -> Option<SecretVersion> {
        let now = Instant::now();
        let stamp = {
            let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
            let cached = cache.get(tenant)?.get(name)?;
            if now.duration_since(cached.checked) < self.recheck {
                return Some(cached.value.clone());
            }
            cached.stamp
        };
        // One stat(2) of a local file, at most every `RECHECK` and secret, is cheaper than a
        // thread to do it on.
        let unchanged = Stamp::at(&self.index_path(tenant, name)).is_ok_and(|at| at == stamp);
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        let secrets = cache.get_mut(tenant)?;
        let cached = secrets.get_mut(name)?;
        if cached.stamp != stamp {
            // Decrypted anew by another call in the meantime; the next look decides.
            return None;
        }
        if !unchanged {
            secrets.remove(name);
            return None;
        }
        cached.checked = now;
        Some(cached.value.clone())
    }

    fn turn(&self, tenant: &TenantId) -> Arc<tokio::sync::Mutex<()>> {
        let mut cold = self.cold.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cold.entry(tenant.clone()).or_default())
    }

    /// Reads and decrypts the current version, and keeps it.
    fn decrypt(&self, tenant: &TenantId, name: &HandleName) -> Result<SecretVersion, VaultError> {
        let checked = Instant::now();
        let (stamp, value) = self.read_settled(tenant, name)?;
        let cached = Cached {
            value: value.clone(),
            stamp,
            checked,
        };
        self.cache
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(tenant.clone())
            .or_default()
            .insert(name.clone(), cached);
        Ok(value)
    }

    /// Reads the current version; again if the index changed under it, because then the file it
    /// named may have been revoked in between.
    fn read_settled(
        &self,
        tenant: &TenantId,
        name: &HandleName,
    ) -> Result<(Stamp, SecretVersion), VaultError> {
        let index = self.index_path(tenant, name);
        let mut tries_left = MAX_TRIES;
        loop {
            let before = Stamp::at(&index).ok();
            let read = self.read_current(tenant, name);
            let is_unreadable = matches!(read, Err(VaultError::Unreadable { .. }));
            tries_left -= 1;
            if !is_unreadable || tries_left == 0 || Stamp::at(&index).ok() == before {
                return read;
            }
        }
    }

    fn read_current(
        &self,
        tenant: &TenantId,
        name: &HandleName,
    ) -> Result<(Stamp, SecretVersion), VaultError> {
        let missing = || VaultError::Missing {
            tenant: tenant.clone(),
            name: name.clone(),
        };
        let (index, stamp) = match Index::read(&self.index_path(tenant, name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            read => read.map_err(|error| unreadable(tenant, name, error))?,
        };
        let version = index.usable().ok_or_else(missing)?;
        let path = self.version_path(tenant, name, version);
        let secret = keys::decrypt(&self.keys, tenant, &path)
            .map_err(|error| unreadable(tenant, name, error))?;
        if write::storable(&secret).is_err() {
            return Err(VaultError::Malformed {
                tenant: tenant.clone(),
                name: name.clone(),
            });
        }
        Ok((stamp, SecretVersion::new(secret, version)))
    }

    fn tenant_dir(&self, tenant: &TenantId) -> PathBuf {
        self.secrets.join(tenant.as_str())
    }

    fn secret_dir(&self, tenant: &TenantId, name: &HandleName) -> PathBuf {
        self.tenant_dir(tenant).join(name.as_str())
    }

    fn index_path(&self, tenant: &TenantId, name: &HandleName) -> PathBuf {
        self.secret_dir(tenant, name).join("index.json")
    }

    fn version_path(&self, tenant: &TenantId, name: &HandleName, version: u32) -> PathBuf {
        self.secret_dir(tenant, name).join(format!("{version}.age"))
    }
}

fn unreadable(
    tenant: &TenantId,
    name: &HandleName,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> VaultError {
    VaultError::Unreadable {
        tenant: tenant.clone(),
        name: name.clone(),
        cause: cause.into(),
    }
}

/// Takes a decrypted buffer into its box without leaving a copy behind.
fn boxed(mut plain: zeroize::Zeroizing<Vec<u8>>) -> Secret {
    Secret::new(std::mem::take(&mut *plain))
}
