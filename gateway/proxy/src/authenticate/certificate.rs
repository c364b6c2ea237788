//! Callers without a token: their client certificate alone says who they are.
//!
//! Such a caller stands in the registry like any other, under an id of the gateway's own making
//! that lives as long as a token may and is then replaced. So whatever ends tokens (a revocation,
//! a completed task, a locked tenant) ends these callers in the same time, with their streams.
//! A certificate issued before its agent or tenant was revoked gets no id any more. Worst case:
//! the first call of each certificate in five minutes waits for one commit of the registry.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use quick_cache::sync::Cache;
use tokio::sync::Mutex;
use tollgate_core::budget::StoreError;
use tollgate_core::identity::{
    Caller, CertificateDigest, ClientCertificate, MAX_LIFETIME_SECONDS, TokenFault,
};
use tollgate_core::ids::TokenId;
use tollgate_core::policy::Holder;
use tollgate_core::refusal::Refusal;
use tollgate_core::registry::{Liveness, Registered};
use tollgate_core::time::Timestamp;

use super::{Identified, open_tenant, registered};
use crate::admit::Rejected;
use crate::gateway::Gateway;
use crate::live::Snapshot;
use crate::record::Draft;
use crate::respond::Failure;

/// How many certificates are remembered: at about 600 bytes each, some 10 MB. One that is
/// forgotten is registered again.
const REMEMBERED_CERTIFICATES: usize = 16_384;

/// A caller is registered for as long as a token may live.
const LIFETIME: Duration = Duration::from_secs(MAX_LIFETIME_SECONDS.unsigned_abs());

/// What the registry has said of callers by certificate.
pub struct Standings(Cache<Key, Arc<Slot>>);

/// One certificate in one role; policy may give it another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    certificate: CertificateDigest,
    holder: Arc<Holder>,
}

#[derive(Default)]
struct Slot {
    standing: ArcSwapOption<Standing>,
    /// Held while the registry is asked, so that it is asked once.
    renewal: Mutex<()>,
}

struct Standing {
    caller: Arc<Caller>,
    /// Why the registry does not take this caller, if it does not.
    refused: Option<TokenFault>,
}

impl Default for Standings {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED_CERTIFICATES))
    }
}

/// Finds the caller by certificate alone.
pub(super) async fn identify(
    gw: &Gateway,
    live: &Snapshot,
    certificate: &ClientCertificate,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Identified, Rejected> {
    if certificate.has_ended(now) {
        return Err(Refusal::from(TokenFault::CertificateExpired).into());
    }
    let holders = live.policy.holders(certificate);
    let [holder] = holders.as_slice() else {
        return Err(Refusal::from(TokenFault::Certificate).into());
    };
    let tenant = match open_tenant(live, &holder.tenant, &holder.agent) {
        Ok(tenant) => tenant,
        Err(locked_out) => {
            draft.belongs_to(Arc::new(caller(certificate, holder, now)));
            return Err(locked_out.into());
        }
    };
    let slot = slot(&gw.standings, certificate, holder);
    let standing = match slot.current(gw, now) {
        Some(standing) => standing,
        None => {
            let _renewing = slot.renewal.lock().await;
            match slot.current(gw, now) {
                Some(standing) => standing,
                None => {
                    let caller = Arc::new(caller(certificate, holder, now));
                    // Proven already; the registry only decides whether it still counts.
                    draft.belongs_to(Arc::clone(&caller));
                    let standing = Arc::new(register(gw, certificate, caller).await?);
                    slot.standing.store(Some(Arc::clone(&standing)));
                    standing
                }
            }
        }
    };
    let caller = Arc::clone(&standing.caller);
    draft.belongs_to(Arc::clone(&caller));
    if let Some(fault) = standing.refused {
        return Err(Refusal::from(fault).into());
    }
    registered(gw.stores.registry.as_ref(), &caller).await?;
    Ok(Identified { caller, tenant })
}

fn slot(standings: &Standings, certificate: &ClientCertificate, holder: &Arc<Holder>) -> Arc<Slot> {
    let key = Key {
        certificate: certificate.digest,
        holder: Arc::clone(holder),
    };
    let Ok(slot) = standings
        .0
        .get_or_insert_with(&key, || Ok::<_, std::convert::Infallible>(Arc::default()));
    slot
}

impl Slot {
    /// What was said last, if it still counts: it has not ended, nor has the registry lost it.
    fn current(&self, gw: &Gateway, now: Timestamp) -> Option<Arc<Standing>> {
        let standing = self.standing.load_full()?;
        standing.caller.check_expiry(now).ok()?;
        let lost = standing.refused.is_none()
            && matches!(
                gw.stores.registry.liveness(&standing.caller),
                Ok(Liveness::Unknown)
            );
        (!lost).then_some(standing)
    }
}

fn caller(certificate: &ClientCertificate, holder: &Holder, now: Timestamp) -> Caller {
    Caller {
        tenant: holder.tenant.clone(),
        agent: holder.agent.clone(),
        task: holder.task.clone(),
        token: TokenId::new(uuid::Uuid::now_v7()),
        issued_at: now,
        expires_at: now.plus(LIFETIME),
        certificate: Some(certificate.digest),
    }
}

async fn register(
    gw: &Gateway,
    certificate: &ClientCertificate,
    caller: Arc<Caller>,
) -> Result<Standing, Failure> {
    let rests_on = Some(certificate.not_before);
    let registry = &gw.stores.registry;
    let said = registry.register(&caller, rests_on).await;
    let refused = match said.map_err(Failure::Registry)? {
        Registered::Live => None,
        Registered::Revoked | Registered::TaskComplete => Some(TokenFault::Revoked),
        Registered::IdTaken => return Err(Failure::Registry(failed(IdTaken))),
    };
    tracing::info!(
        tenant = %caller.tenant,
        agent = %caller.agent,
        task = %caller.task,
        token = %caller.token,
        certificate = %certificate.digest,
        refused = refused.is_some(),
        "a client certificate was registered"
    );
    Ok(Standing { caller, refused })
}

/// Two callers with one id: the source of ids is broken.
#[derive(Debug, thiserror::Error)]
#[error("another token has this id")]
struct IdTaken;

fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError {
        operation: "register a client certificate",
        store: "registry",
        cause: Box::new(cause),
    }
}
