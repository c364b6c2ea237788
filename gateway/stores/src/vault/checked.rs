//! Secrets that lie in files, read once and then only looked at.
//!
//! A value is used for [`RECHECK`] without a look at its file, and further as long as the file's
//! identity stays what it was when the value was read. Knows nothing of what the files hold.
//! Worst case: a revoked value goes out for [`RECHECK`]. Files that cannot be looked at give
//! nothing, cached or not.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tollgate_core::vault::{SecretName, SecretVersion, VaultError, VaultScope};

use super::cache::{Aged, Cache};
use super::stamp::Stamp;
use super::unreadable;

/// How long a value is used without a look at its file. A quarter of the second within which a
/// revocation must take effect.
pub const RECHECK: Duration = Duration::from_millis(250);

/// Files that hold secrets.
pub(super) trait Source: Send + Sync + 'static {
    /// The file whose identity changes whenever the secret does.
    fn witness(&self, secret: &SecretName) -> PathBuf;

    /// Reads a secret, and the identity of its witness while it was read. Takes its time.
    fn read(&self, secret: &SecretName) -> Result<(Stamp, SecretVersion), VaultError>;
}

/// The secrets of a [`Source`], in memory while they are used.
pub(super) struct Checked<S> {
    source: S,
    recheck: Duration,
    cache: Cache<Cached>,
    /// One read at a time for each scope: a cold secret asked for by many calls at once is read
    /// once, and no tenant waits for another's.
    cold: Mutex<HashMap<VaultScope, Arc<tokio::sync::Mutex<()>>>>,
}

struct Cached {
    value: SecretVersion,
    stamp: Stamp,
    checked: Instant,
}

impl Aged for Cached {
    fn good_at(&self) -> Instant {
        self.checked
    }
}

impl<S: Source> Checked<S> {
    pub(super) fn new(source: S, recheck: Duration) -> Self {
        Self {
            source,
            recheck,
            cache: Cache::default(),
            cold: Mutex::default(),
        }
    }

    pub(super) const fn source(&self) -> &S {
        &self.source
    }

    pub(super) async fn fetch(
        self: &Arc<Self>,
        secret: &SecretName,
    ) -> Result<SecretVersion, VaultError> {
        if let Some(value) = self.warm(secret) {
            return Ok(value);
        }
        let turn = self.turn(&secret.scope);
        let _turn = turn.lock().await;
        // Somebody else may have read it while this call waited.
        if let Some(value) = self.warm(secret) {
            return Ok(value);
        }
        let (files, wanted) = (Arc::clone(self), secret.clone());
        tokio::task::spawn_blocking(move || files.read(&wanted))
            .await
            .map_err(|stopped| unreadable(secret, stopped))?
    }

    /// The cached value, if its file still is what it was when that was read.
    fn warm(&self, secret: &SecretName) -> Option<SecretVersion> {
        let now = Instant::now();
        let stamp = {
            let cache = self.cache.read();
            let cached = cache.get(secret)?;
            if now.duration_since(cached.checked) < self.recheck {
                return Some(cached.value.clone());
            }
            cached.stamp
        };
        // One stat(2) of a local file, at most every `RECHECK` and secret, is cheaper than a
        // thread to do it on.
        let unchanged = Stamp::at(&self.source.witness(secret)).is_ok_and(|at| at == stamp);
        let mut cache = self.cache.write();
        let cached = cache.get_mut(secret)?;
        if cached.stamp != stamp {
            // Read anew by another call in the meantime; the next look decides.
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

    /// Reads the secret, and keeps it.
    fn read(&self, secret: &SecretName) -> Result<SecretVersion, VaultError> {
        let checked = Instant::now();
        let (stamp, value) = self.source.read(secret)?;
        let cached = Cached {
            value: value.clone(),
            stamp,
            checked,
        };
        self.cache.keep(secret, cached);
        Ok(value)
    }
}
