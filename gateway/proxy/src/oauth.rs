//! `POST /oauth2/token`: a foreign token, or a live task token, for a fresh task token (RFC 8693).
//!
//! A token of an issuer in the policy is exchanged for one of the tenant, agent and task that its
//! verified claims map to; a live task token is renewed, for exactly its own tenant, agent, task
//! and certificate. Nothing else in a request names a tenant or an agent, and a task only where
//! the mapping allows it. What the new token rests on is told to the registry, so that a
//! revocation in between wins. Knows nothing of providers: no request here reaches one.
//!
//! Worst case: whoever holds a live task token renews it until it, its task, its agent or its
//! tenant is revoked; ending the one token does not end those renewed from it before.

mod fetch;
mod form;
mod keys;
mod refusal;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use hyper::body::Incoming;
use tokio::time::Instant;
use tollgate_core::identity::{Caller, External, ExternalFault, TokenFault, TokenRequest};
use tollgate_core::ids::{RecordId, TaskId, TokenId};
use tollgate_core::issue::NotIssued;
use tollgate_core::policy::issuer::MapFault;
use tollgate_core::registry::Revocation;
use tollgate_core::time::Timestamp;

use crate::admit::Rejected;
use crate::authenticate::{check_binding, enabled_tenant, recheck};
use crate::body::AnswerBody;
use crate::collect::{MemoryBudget, collect};
use crate::gateway::Gateway;
use crate::live::Snapshot;
use crate::metrics::TokenExchange;
use crate::pace::AgentPace;
use crate::record::{Draft, REQUEST_ID, keep_ungranted};
use crate::respond::{Failure, id_value};
use crate::service::ConnInfo;
use form::Wanted;
use keys::IssuerKeys;

pub(crate) use refusal::Ungranted;

/// Where the endpoint is. No provider can be called `oauth2`.
const PATH: &str = "/oauth2/token";

/// The longest form, in bytes: two tokens of the longest kind, percent-encoded, and some.
const FORM_BYTES: u64 = 64 * 1024;

/// How long a form may take to arrive. They are small.
const FORM_DEADLINE: Duration = Duration::from_secs(10);

/// How long the tokens given out live, unless the one they are exchanged for ends sooner.
const LIFETIME: Duration = Duration::from_secs(300);

/// Tokens that an agent gets at once: a thousand pods of it that start together. Every token given
/// out is a row on the registry's table, in memory and on disk, for more than an hour; at full pace
/// an agent has some 80,000 rows, about 20 MB.
const BURST: u32 = 1_000;

/// The time in which one more comes in: 20 a second, for 3,600 pods that renew every 180 s.
const EVERY: Duration = Duration::from_millis(50);

/// RFC 8693 section 3.
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// How much memory all forms together may take. Anybody can send one, so they have no part in the
/// memory for the bodies of calls.
const ALL_FORMS_BYTES: u64 = 64 * 1024 * 1024;

/// What the endpoint knows from one request to the next.
pub struct TokenExchanges {
    keys: IssuerKeys,
    pace: AgentPace,
    forms: MemoryBudget,
}

impl Default for TokenExchanges {
    fn default() -> Self {
        Self {
            keys: IssuerKeys::default(),
            pace: AgentPace::new(BURST, EVERY),
            forms: MemoryBudget::new(ALL_FORMS_BYTES),
        }
    }
}

/// Whether a request is for the token endpoint.
pub(crate) fn is_here(head: &Parts) -> bool {
    head.uri.path() == PATH
}

/// A token given out.
struct Granted {
    token: String,
    caller: Caller,
    how: TokenExchange,
    /// The issuer in the policy whose token it was exchanged for.
    issuer: Option<String>,
}

/// Answers a request for a token, and keeps the record of a refusal.
pub(crate) async fn answer(
    gw: &Arc<Gateway>,
    head: &Parts,
    mut body: Incoming,
    peer: &ConnInfo,
    id: RecordId,
    now: Timestamp,
) -> Response<AnswerBody> {
    let mut draft = Draft::open(id, now, head, peer.client);
    let granted = match read(gw, head, &mut body).await {
        Ok(wanted) => grant(gw, &wanted, peer, &mut draft).await,
        Err(no) => Err(no),
    };
    match granted {
        Ok(granted) => {
            gw.metrics.exchanged(granted.how);
            let caller = &granted.caller;
            tracing::info!(
                request = &*id.text(),
                tenant = caller.tenant.as_str(),
                agent = caller.agent.as_str(),
                task = caller.task.as_str(),
                jti = caller.token.as_str(),
                result = granted.how.as_str(),
                issuer = granted.issuer.as_deref(),
                "task token given out"
            );
            granted_answer(&granted, id, (gw.clock)())
        }
        Err(no) => {
            gw.metrics.exchanged(no.counts_as());
            if let Some(cause) = no.cause() {
                tracing::warn!(request = &*id.text(), code = no.code(), cause, "{no}");
            }
            keep_ungranted(gw, &draft, &no);
            no.answer(id)
        }
    }
}

/// Reads what is asked for, and judges the form alone.
async fn read(gw: &Gateway, head: &Parts, body: &mut Incoming) -> Result<Wanted, Ungranted> {
    if head.method != Method::POST {
        return Err(Ungranted::Method);
    }
    // A token in a URL ends up in logs.
    if head.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(Ungranted::Malformed("parameters go into the body"));
    }
    form::check_head(&head.headers)?;
    let deadline = FORM_DEADLINE.min(gw.limits.body_deadline);
    let form = collect(body, FORM_BYTES, &gw.token_exchanges.forms, deadline)
        .await
        .map_err(|error| Ungranted::Body(Rejected::from_collect(error, FORM_BYTES)))?;
    let keys = &gw.live.snapshot().keys;
    Wanted::read(&form.bytes, keys.set().audience())
}

/// Renews a token of ours, exchanges any other.
async fn grant(
    gw: &Arc<Gateway>,
    wanted: &Wanted,
    peer: &ConnInfo,
    draft: &mut Draft,
) -> Result<Granted, Ungranted> {
    let live = gw.live.snapshot();
    let now = (gw.clock)();
    match live.keys.caller(&wanted.subject, now) {
        Ok(caller) => renew(gw, &live, &caller, wanted.task.as_ref(), peer, draft).await,
        // Not signed by a key of ours, so perhaps by another issuer's.
        Err(TokenFault::Malformed | TokenFault::Signature) => {
            exchange(gw, &live, wanted, peer).await
        }
        Err(fault) => Err(Ungranted::Subject(fault.reason())),
    }
}

async fn renew(
    gw: &Gateway,
    live: &Snapshot,
    caller: &Arc<Caller>,
    task: Option<&TaskId>,
    peer: &ConnInfo,
    draft: &mut Draft,
) -> Result<Granted, Ungranted> {
    enabled_tenant(live, caller).map_err(|refusal| Ungranted::Subject(refusal.reason()))?;
    draft.belongs_to(Arc::clone(caller));
    still_good(gw, caller)?;
    check_binding(live, caller, peer.certificate.as_deref(), (gw.clock)())
        .map_err(|fault| Ungranted::Subject(fault.reason()))?;
    if task.is_some_and(|task| *task != caller.task) {
        return Err(Ungranted::Task("another_task"));
    }
    let wanted = TokenRequest {
        tenant: caller.tenant.clone(),
        agent: caller.agent.clone(),
        task: caller.task.clone(),
        lifetime: LIFETIME,
        certificate: caller.certificate,
    };
    let granted = issue(gw, live, wanted, caller.issued_at, TokenExchange::Renewed).await?;
    // The one token may have been revoked while the new one was written down.
    if let Err(no) = still_good(gw, caller) {
        let new = Revocation::Token {
            tenant: granted.caller.tenant.clone(),
            token: granted.caller.token.clone(),
        };
        let revoked = gw.stores.registry.revoke(&new, (gw.clock)()).await;
        revoked.map_err(Ungranted::Registry)?;
        return Err(no);
    }
    Ok(granted)
}

/// Whether a token of ours is live, and its tenant and agent may come in.
fn still_good(gw: &Gateway, caller: &Caller) -> Result<(), Ungranted> {
    recheck(gw, caller).map_err(|rejected| match rejected {
        Rejected::Failed(Failure::Registry(error)) => Ungranted::Registry(error),
        Rejected::Refused(refusal) => Ungranted::Subject(refusal.reason()),
        Rejected::Failed(failure) => Ungranted::Body(failure.into()),
    })
}

async fn exchange(
    gw: &Arc<Gateway>,
    live: &Snapshot,
    wanted: &Wanted,
    peer: &ConnInfo,
) -> Result<Granted, Ungranted> {
    let foreign = |fault: ExternalFault| Ungranted::Subject(fault.reason());
    let subject = External::open(&wanted.subject).map_err(foreign)?;
    let issuer = subject
        .issuer()
        .and_then(|iss| live.policy.issuers.get(iss))
        .ok_or(Ungranted::Subject(ExternalFault::Issuer.reason()))?;
    // What the policy never accepts is no reason to ask the issuer for keys.
    subject.algorithm(&issuer.expected).map_err(foreign)?;
    let keys = keys::current(gw, &live.policy, issuer, |keys| {
        subject.has_key_in(keys, &issuer.expected)
    })
    .await?;
    let now = (gw.clock)();
    let skew = live.keys.set().clock_skew();
    let verified = subject
        .verify(&issuer.expected, &keys, skew, now)
        .map_err(foreign)?;
    let shown = peer.certificate.as_ref().map(|shown| shown.digest);
    if verified.certificate().is_some_and(|own| shown != Some(own)) {
        return Err(Ungranted::Subject(TokenFault::Binding.reason()));
    }
    let mapped = issuer
        .map(verified.claims(), wanted.task.as_ref())
        .map_err(|fault| match fault {
            MapFault::TaskNotYours | MapFault::TaskMissing => Ungranted::Task(fault.reason()),
            _ => Ungranted::Subject(fault.reason()),
        })?;
    let left = Duration::from_secs(verified.expires_at().since(now).as_secs());
    if left.is_zero() {
        return Err(foreign(ExternalFault::Expired));
    }
    let wanted = TokenRequest {
        tenant: mapped.tenant,
        agent: mapped.agent,
        task: mapped.task,
        lifetime: LIFETIME.min(left),
        certificate: shown,
    };
    let how = TokenExchange::Exchanged;
    let granted = issue(gw, live, wanted, verified.issued_at(), how).await?;
    Ok(Granted {
        issuer: Some(issuer.name.clone()),
        ..granted
    })
}

async fn issue(
    gw: &Gateway,
    live: &Snapshot,
    wanted: TokenRequest,
    rests_on: Timestamp,
    how: TokenExchange,
) -> Result<Granted, Ungranted> {
    let pace = &gw.token_exchanges.pace;
    pace.take(&wanted.tenant, &wanted.agent, Instant::now())
        .map_err(Ungranted::Pace)?;
    let id = TokenId::new(uuid::Uuid::now_v7());
    let now = (gw.clock)();
    let issued = gw.desk.issue(&live.policy, wanted, Some(rests_on), now, id);
    match issued.await {
        Ok((token, caller)) => Ok(Granted {
            token,
            caller,
            how,
            issuer: None,
        }),
        Err(NotIssued::Registry(error)) => Err(Ungranted::Registry(error)),
        Err(NotIssued::Mint(_)) => Err(Ungranted::NotMinted),
        Err(NotIssued::UnknownTenant | NotIssued::DisabledTenant) => {
            Err(Ungranted::Subject(TokenFault::UnknownTenant.reason()))
        }
        Err(NotIssued::DisabledAgent) => {
            Err(Ungranted::Subject(TokenFault::DisabledAgent.reason()))
        }
        Err(NotIssued::Revoked) => Err(Ungranted::Subject(TokenFault::Revoked.reason())),
        Err(NotIssued::TaskComplete) => Err(Ungranted::Subject("task_complete")),
    }
}

/// RFC 8693 section 2.2.1.
fn granted_answer(granted: &Granted, id: RecordId, now: Timestamp) -> Response<AnswerBody> {
    let body = serde_json::json!({
        "access_token": granted.token,
        "issued_token_type": JWT,
        "token_type": "Bearer",
        "expires_in": granted.caller.expires_at.since(now).as_secs(),
    });
    json_answer(&body, id)
}

/// JSON that nobody may keep (RFC 6749 section 5.1).
fn json_answer(body: &serde_json::Value, id: RecordId) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::full(body.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(REQUEST_ID, id_value(id));
    response
}
