//! The task token in a request's head -> who is calling.
//!
//! A token's signature is checked once and remembered by the token's SHA-256; whether the token
//! is still live is asked of the registry on every call. At worst a flood of distinct tokens
//! evicts good ones from the memory, and their next call pays for one more signature check.

use std::sync::Arc;

use http::request::Parts;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tollgate_core::identity::{Caller, KeySet, TokenFault, find_token, verify};
use tollgate_core::policy::Tenant;
use tollgate_core::refusal::Refusal;
use tollgate_core::registry::{Liveness, TokenRegistry};
use tollgate_core::time::Timestamp;

use crate::admit::Rejected;
use crate::gateway::Gateway;
use crate::live::Snapshot;
use crate::record::Draft;
use crate::respond::Failure;

/// How many verified tokens are remembered: at about 400 bytes each, some 25 MB.
const REMEMBERED_TOKENS: usize = 65_536;

/// The keys tokens are checked with, and the tokens that have passed. They are replaced
/// together, so a token accepted by a retired key is forgotten with it.
pub struct Keys {
    set: KeySet,
    verified: Cache<[u8; 32], Arc<Caller>>,
}

impl Keys {
    /// Starts with nothing remembered.
    #[must_use]
    pub fn new(set: KeySet) -> Self {
        Self {
            set,
            verified: Cache::new(REMEMBERED_TOKENS),
        }
    }

    pub(crate) fn caller(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, TokenFault> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(caller) = self.verified.get(&digest) {
            caller.check_expiry(now)?;
            return Ok(caller);
        }
        let caller = Arc::new(verify(token, &self.set, now)?);
        self.verified.insert(digest, Arc::clone(&caller));
        Ok(caller)
    }
}

/// Proof that a live token was shown, and whose it is.
pub(crate) struct Identified {
    pub(crate) caller: Arc<Caller>,
    pub(crate) tenant: Arc<Tenant>,
}

/// Finds the caller. From here on the draft belongs to a tenant, unless the token does not hold.
pub(crate) fn authenticate(
    gw: &Gateway,
    live: &Snapshot,
    head: &Parts,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Identified, Rejected> {
    let presented = find_token(&head.headers, head.uri.query()).map_err(Refusal::from)?;
    let caller = live
        .keys
        .caller(presented.token, now)
        .map_err(Refusal::from)?;
    let tenant = enabled_tenant(live, &caller)?;
    draft.belongs_to(Arc::clone(&caller));
    registered(gw.stores.registry.as_ref(), &caller)?;
    Ok(Identified { caller, tenant })
}

/// Asks once more, by what is in force now: a body may take a minute to arrive, and meanwhile the
/// token may be revoked or the tenant locked out. A token that merely expired was good in time.
pub(crate) fn recheck(gw: &Gateway, caller: &Caller) -> Result<(), Rejected> {
    enabled_tenant(&gw.live.snapshot(), caller)?;
    registered(gw.stores.registry.as_ref(), caller)
}

/// Whether a call already under way has to end. A registry that cannot be read is no proof of
/// that, nor is a token so long expired that it is forgotten.
pub(crate) fn is_cut_off(gw: &Gateway, caller: &Caller) -> bool {
    matches!(
        recheck(gw, caller),
        Err(Rejected::Refused(Refusal::Unauthenticated(
            TokenFault::Revoked | TokenFault::UnknownTenant | TokenFault::DisabledAgent
        )))
    )
}

pub(crate) fn enabled_tenant(live: &Snapshot, caller: &Caller) -> Result<Arc<Tenant>, Refusal> {
    let tenant = live.policy.tenants.get(&caller.tenant);
    let tenant = tenant
        .filter(|tenant| tenant.enabled)
        .ok_or(Refusal::Unauthenticated(TokenFault::UnknownTenant))?;
    if tenant.disabled_agents.contains(&caller.agent) {
        return Err(Refusal::Unauthenticated(TokenFault::DisabledAgent));
    }
    Ok(Arc::clone(tenant))
}

pub(crate) fn registered(registry: &dyn TokenRegistry, caller: &Caller) -> Result<(), Rejected> {
    let liveness = registry.liveness(caller);
    match liveness.map_err(Failure::Registry)? {
        Liveness::Live => Ok(()),
        Liveness::Revoked => Err(Refusal::from(TokenFault::Revoked).into()),
        Liveness::Unknown => Err(Refusal::from(TokenFault::Unregistered).into()),
    }
}

#[cfg(test)]
mod tests;
