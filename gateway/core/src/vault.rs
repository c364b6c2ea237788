//! Where a tenant's secrets come from, once a call has earned one.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::ids::{HandleName, TenantId};
use crate::scrub::Needles;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Whose secrets: a scope of its own in every vault, with keys or credentials of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VaultScope {
    /// A tenant's own.
    Tenant(TenantId),
    /// The platform's, which tenants' credentials may point at.
    Platform,
}

impl VaultScope {
    /// The scope as a directory or path segment. No tenant's id begins with `_`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tenant(tenant) => tenant.as_str(),
            Self::Platform => "_platform",
        }
    }
}

impl fmt::Display for VaultScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a secret lies: never more than one scope is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretName {
    /// Whose.
    pub scope: VaultScope,
    /// Which.
    pub name: HandleName,
}

impl SecretName {
    /// A secret of a tenant's own.
    #[must_use]
    pub const fn of_tenant(tenant: TenantId, name: HandleName) -> Self {
        Self {
            scope: VaultScope::Tenant(tenant),
            name,
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.scope, self.name)
    }
}

/// A secret and which version of the credential it is.
#[derive(Clone, Debug)]
pub struct SecretVersion {
    /// The value.
    pub secret: Secret,
    /// What to look for in the answers of those it was sent to; `None` if it is too short.
    pub needles: Option<Arc<Needles>>,
    /// Counts up with every `set` and `rotate`; recorded with each call, never the value.
    pub version: u32,
}

impl SecretVersion {
    /// A version of a secret, ready to be looked for. Takes longer than fetching what is cached,
    /// so caches keep its result.
    #[must_use]
    pub fn new(secret: Secret, version: u32) -> Self {
        Self {
            needles: Needles::new(&secret).map(Arc::new),
            secret,
            version,
        }
    }
}

/// Why a secret did not come.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No such secret, or its last version has been revoked.
    #[error("there is no usable secret {0}")]
    Missing(SecretName),
    /// The stored value can never be sent (CR, LF, NUL, or nothing at all).
    #[error("the secret {0} is malformed")]
    Malformed(SecretName),
    /// The vault could not be read or the value not decrypted.
    #[error("could not read the secret {secret}")]
    Unreadable {
        /// Which.
        secret: SecretName,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a value was not put in another's place.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// This vault is only read.
    #[error("this vault cannot be written")]
    ReadOnly,
    /// The version to be replaced is no longer the current one, or is revoked.
    #[error("the secret has been changed in the meantime")]
    Superseded,
    /// The vault could not be written.
    #[error("the vault could not be written")]
    Unwritable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Fetches secrets. One scope is all a lookup can ever reach.
#[async_trait]
pub trait Vault: Send + Sync {
    /// The current version of a secret. A revoked version is unusable within one second.
    async fn fetch(&self, secret: &SecretName) -> Result<SecretVersion, VaultError>;

    /// Stores `value` in place of `version`, if that still is the current one, and returns the
    /// version it has become. For values that their use changes, such as refresh tokens that are
    /// good once. Either the whole value is durable, or nothing has changed.
    async fn replace(
        &self,
        _secret: &SecretName,
        _version: u32,
        _value: &Secret,
        _now: Timestamp,
    ) -> Result<u32, ReplaceError> {
        Err(ReplaceError::ReadOnly)
    }
}
