//! Where a tenant's secrets come from, once a call has earned one.

use std::sync::Arc;

use async_trait::async_trait;

use crate::ids::{HandleName, TenantId};
use crate::scrub::Needles;
use crate::secret::Secret;

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
    #[error("tenant {tenant} has no usable secret {name}")]
    Missing {
        /// Whose.
        tenant: TenantId,
        /// Which.
        name: HandleName,
    },
    /// The stored value can never be sent (CR, LF, NUL, or nothing at all).
    #[error("the secret {name} of tenant {tenant} is malformed")]
    Malformed {
        /// Whose.
        tenant: TenantId,
        /// Which.
        name: HandleName,
    },
    /// The vault could not be read or the value not decrypted.
    #[error("could not read the secret {name} of tenant {tenant}")]
    Unreadable {
        /// Whose.
        tenant: TenantId,
        /// Which.
        name: HandleName,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Fetches secrets. One tenant's scope is all a lookup can ever reach.
#[async_trait]
pub trait Vault: Send + Sync {
    /// The current version of a secret. A revoked version is unusable within one second.
    async fn fetch(
        &self,
        tenant: &TenantId,
        name: &HandleName,
    ) -> Result<SecretVersion, VaultError>;
}
