//! The task token in a request's head, or else the client's certificate -> who is calling.
//!
//! A request with a token is judged by the token; a certificate beside it can only make the
//! answer worse. Without a token the certificate alone decides.
//!
//! A token's signature is checked once and remembered by a keyed hash of the token; whether the token
//! is still live is asked of the registry on every call. At worst a flood of distinct tokens
//! evicts good ones from the memory, and their next call pays for one more signature check.

mod certificate;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

pub use certificate::Standings;
use http::request::Parts;
use quick_cache::sync::Cache;
use siphasher::sip128::SipHasher13;
use tollgate_core::budget::StoreError;
use tollgate_core::identity::{Caller, ClientCertificate, KeySet, TokenFault, find_token, verify};
use tollgate_core::ids::{AgentId, TenantId};
use tollgate_core::policy::{Holder, Tenant};
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
    marker: Marker,
    verified: Cache<Mark, Arc<Caller>>,
}

/// What a token is known again by.
type Mark = u128;

/// Makes marks of tokens: 128 bits of SipHash under a key that is drawn at start and never leaves.
/// Whoever does not know it cannot make two tokens of one mark, and it takes a tenth of what a
/// cryptographic hash does.
struct Marker(SipHasher13);

impl Default for Marker {
    fn default() -> Self {
        // Its own key is random; what it makes of two numbers is as good a one.
        let seed = RandomState::new();
        let [first, second] = [0_u8, 1].map(|half| seed.hash_one(half));
        Self(SipHasher13::new_with_keys(first, second))
    }
}

impl Marker {
    fn mark(&self, token: &str) -> Mark {
        self.0.hash(token.as_bytes()).as_u128()
    }
}

impl Keys {
    /// Starts with nothing remembered.
    #[must_use]
    pub fn new(set: KeySet) -> Self {
        Self {
            set,
            marker: Marker::default(),
            verified: Cache::new(REMEMBERED_TOKENS),
        }
    }

    /// The keys.
    pub(crate) const fn set(&self) -> &KeySet {
        &self.set
    }

    pub(crate) fn caller(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, TokenFault> {
        let mark = self.marker.mark(token);
        if let Some(caller) = self.verified.get(&mark) {
            caller.check_expiry(now)?;
            return Ok(caller);
        }
        let caller = Arc::new(verify(token, &self.set, now)?);
        self.verified.insert(mark, Arc::clone(&caller));
        Ok(caller)
    }
}

/// Proof that a live token was shown, and whose it is.
pub(crate) struct Identified {
    pub(crate) caller: Arc<Caller>,
    pub(crate) tenant: Arc<Tenant>,
}

/// Finds the caller. From here on the draft belongs to a tenant, unless neither token nor
/// certificate holds.
pub(crate) async fn authenticate(
    gw: &Gateway,
    live: &Snapshot,
    head: &Parts,
    shown: Option<&ClientCertificate>,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Identified, Rejected> {
    if let Some(certificate) = shown {
        draft.comes_with(certificate.digest);
    }
    let presented = match (find_token(&head.headers, head.uri.query()), shown) {
        (Ok(presented), _) => presented,
        // A token that is there but wrong is not made good by a certificate.
        (Err(TokenFault::Missing), Some(certificate)) => {
            return Box::pin(certificate::identify(gw, live, certificate, draft, now)).await;
        }
        (Err(fault), _) => return Err(Refusal::from(fault).into()),
    };
    let caller = live
        .keys
        .caller(presented.token, now)
        .map_err(Refusal::from)?;
    let tenant = enabled_tenant(live, &caller).inspect_err(|_locked_out| {
        // Its own auditor is to see who was kept out; a tenant nobody knows has no partition.
        if live.policy.tenants.contains_key(&caller.tenant) {
            draft.belongs_to(Arc::clone(&caller));
        }
    })?;
    draft.belongs_to(Arc::clone(&caller));
    check_binding(live, &caller, shown, now).map_err(Refusal::from)?;
    registered(gw.stores.registry.as_ref(), &caller).await?;
    Ok(Identified { caller, tenant })
}

/// Whether a token may be used on a connection on which this certificate was shown. Judged on
/// every call: what is remembered of a token is its signature, not who brings it.
pub(crate) fn check_binding(
    live: &Snapshot,
    caller: &Caller,
    shown: Option<&ClientCertificate>,
    now: Timestamp,
) -> Result<(), TokenFault> {
    let Some(certificate) = shown else {
        return match caller.certificate {
            None => Ok(()),
            Some(_) => Err(TokenFault::Binding),
        };
    };
    if certificate.has_ended(now) {
        return Err(TokenFault::CertificateExpired);
    }
    let bound_elsewhere = caller
        .certificate
        .is_some_and(|bound_to| bound_to != certificate.digest);
    let holders = live.policy.holders(certificate);
    let is_holder =
        |holder: &&Arc<Holder>| holder.tenant == caller.tenant && holder.agent == caller.agent;
    let names_others = !holders.is_empty() && !holders.iter().any(is_holder);
    if bound_elsewhere || names_others {
        Err(TokenFault::Binding)
    } else {
        Ok(())
    }
}

/// Asks once more, by what is in force now: a body may take a minute to arrive, and meanwhile the
/// token may be revoked or the tenant locked out. A token that merely expired was good in time.
pub(crate) fn recheck(gw: &Gateway, caller: &Caller) -> Result<(), Rejected> {
    enabled_tenant(&gw.live.snapshot(), caller)?;
    known(gw.stores.registry.as_ref(), caller)
}

/// Whether a call already under way has to end. A registry that cannot be read is no proof of
/// that, nor is one that has lost the token; it keeps those it is asked for, also expired ones.
pub(crate) fn is_cut_off(gw: &Gateway, caller: &Caller) -> bool {
    matches!(
        recheck(gw, caller),
        Err(Rejected::Refused(Refusal::Unauthenticated(
            TokenFault::Revoked | TokenFault::UnknownTenant | TokenFault::DisabledAgent
        )))
    )
}

pub(crate) fn enabled_tenant(live: &Snapshot, caller: &Caller) -> Result<Arc<Tenant>, Refusal> {
    open_tenant(live, &caller.tenant, &caller.agent)
}

/// The tenant, if neither it nor the agent is locked out.
fn open_tenant(
    live: &Snapshot,
    tenant: &TenantId,
    agent: &AgentId,
) -> Result<Arc<Tenant>, Refusal> {
    Ok(Arc::clone(live.policy.lets_in(tenant, agent)?))
}

/// Whether the caller's token is live. Waits only for a token that is new here.
pub(crate) async fn registered(
    registry: &dyn TokenRegistry,
    caller: &Caller,
) -> Result<(), Rejected> {
    match known(registry, caller) {
        Err(Rejected::Refused(Refusal::Unauthenticated(TokenFault::Unregistered))) => {
            judge(registry.look_up(caller).await)
        }
        known => known,
    }
}

/// The same, by what is in memory.
fn known(registry: &dyn TokenRegistry, caller: &Caller) -> Result<(), Rejected> {
    judge(registry.liveness(caller))
}

fn judge(liveness: Result<Liveness, StoreError>) -> Result<(), Rejected> {
    match liveness.map_err(Failure::Registry)? {
        Liveness::Live => Ok(()),
        Liveness::Revoked => Err(Refusal::from(TokenFault::Revoked).into()),
        Liveness::Unknown => Err(Refusal::from(TokenFault::Unregistered).into()),
    }
}

#[cfg(test)]
mod tests;
