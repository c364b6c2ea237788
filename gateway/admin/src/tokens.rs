//! Making and ending task tokens.
//!
//! A token is given out only once the registry has it on disk, and only for a tenant that the
//! policy in force knows and lets in. The lifetime rule is the core's. Worst case: a tenant that
//! is disabled between the check and the answer has a token that no call accepts.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_core::admin_log::About;
use tollgate_core::identity::{Caller, MAX_LIFETIME_SECONDS, MintError, TokenRequest, verify};
use tollgate_core::ids::TokenId;
use tollgate_core::issue::NotIssued;
use tollgate_core::registry::Revocation;

use crate::access::{Action, Asker};
use crate::problem::Problem;
use crate::server::{name, read};
use crate::{Admin, form, introspection};

/// The lifetime of a token whose request names none: the longest there is.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(MAX_LIFETIME_SECONDS.unsigned_abs());

/// What a token is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MintRequest {
    tenant: String,
    agent: String,
    task: String,
    ttl_seconds: Option<u64>,
    /// The client certificate it must come with: SHA-256 over its DER, in base64url.
    certificate_sha256: Option<String>,
}

/// What is to be ended, as it stands in a request.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum RevokeRequest {
    Token { tenant: String, token: String },
    Task { tenant: String, task: String },
    Agent { tenant: String, agent: String },
    Tenant { tenant: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompleteRequest {
    tenant: String,
    task: String,
}

impl From<NotIssued> for Problem {
    fn from(reason: NotIssued) -> Self {
        match reason {
            NotIssued::UnknownTenant => Self::unknown_tenant(),
            NotIssued::DisabledTenant => Self::disabled_tenant(),
            NotIssued::DisabledAgent => Self::disabled_agent(),
            NotIssued::TaskComplete => Self::complete_task(),
            // Nothing is exchanged here.
            NotIssued::Revoked | NotIssued::Mint(MintError::Signing) => Self::internal(),
            NotIssued::Mint(MintError::Lifetime) => Self::invalid(MintError::Lifetime.to_string()),
            NotIssued::Registry(failed) => failed.into(),
        }
    }
}

impl TryFrom<RevokeRequest> for Revocation {
    type Error = Problem;

    fn try_from(asked: RevokeRequest) -> Result<Self, Problem> {
        Ok(match asked {
            RevokeRequest::Token { tenant, token } => Self::Token {
                tenant: name(&tenant)?,
                token: name(&token)?,
            },
            RevokeRequest::Task { tenant, task } => Self::Task {
                tenant: name(&tenant)?,
                task: name(&task)?,
            },
            RevokeRequest::Agent { tenant, agent } => Self::Agent {
                tenant: name(&tenant)?,
                agent: name(&agent)?,
            },
            RevokeRequest::Tenant { tenant } => Self::Tenant {
                tenant: name(&tenant)?,
            },
        })
    }
}

pub(crate) async fn mint(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: MintRequest = read(body)?;
    let lifetime = asked
        .ttl_seconds
        .map_or(DEFAULT_LIFETIME, Duration::from_secs);
    let wanted = TokenRequest {
        tenant: name(&asked.tenant)?,
        agent: name(&asked.agent)?,
        task: name(&asked.task)?,
        lifetime,
        certificate: asked
            .certificate_sha256
            .map(|text| name(&text))
            .transpose()?,
    };
    let id = TokenId::new(uuid::Uuid::now_v7());
    let about = About {
        tenant: Some(wanted.tenant.clone()),
        agent: Some(wanted.agent.clone()),
        task: Some(wanted.task.clone()),
        token: Some(id.clone()),
    };
    let deed = asker.begin(&admin, Action::MintToken, about).await?;
    Ok(deed.close(make(&admin, wanted, id).await))
}

async fn make(
    admin: &Admin,
    wanted: TokenRequest,
    id: TokenId,
) -> Result<impl IntoResponse, Problem> {
    let policy = (admin.policy)();
    let now = (admin.clock)();
    let issued = admin.desk.issue(&policy, wanted, None, now, id).await;
    let (token, caller) = issued?;
    tracing::info!(
        tenant = %caller.tenant,
        agent = %caller.agent,
        task = %caller.task,
        token = %caller.token,
        "task token minted"
    );
    let answer = json!({
        "token": token,
        "jti": caller.token,
        "expires_at": caller.expires_at,
    });
    // RFC 6749 section 5.1: what carries a token is not to be kept by anything on the way.
    let unkept = [(http::header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, unkept, Json(answer)))
}

pub(crate) async fn revoke(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let what = Revocation::try_from(read::<RevokeRequest>(body)?)?;
    let deed = asker.begin(&admin, Action::RevokeTokens, about(&what));
    let deed = deed.await?;
    Ok(deed.close(end(&admin, what).await))
}

pub(crate) async fn complete(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: CompleteRequest = read(body)?;
    let what = Revocation::Task {
        tenant: name(&asked.tenant)?,
        task: name(&asked.task)?,
    };
    let deed = asker.begin(&admin, Action::CompleteTask, about(&what));
    let deed = deed.await?;
    Ok(deed.close(end(&admin, what).await))
}

/// RFC 7009. A token that is none, or not the asker's to end, is answered as one that has been
/// ended: either way it opens nothing that is theirs.
pub(crate) async fn revoke_form(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let token = form::token(&headers, body)?;
    let caller = verify(&token, &admin.keys, (admin.clock)()).ok();
    let about = caller.as_ref().map(introspection::about);
    let deed = asker.begin_unseeing(&admin, Action::RevokeTokens, about.unwrap_or_default());
    let deed = deed.await?;
    let done = match caller.filter(|caller| asker.is_of(&caller.tenant)) {
        Some(Caller { tenant, token, .. }) => {
            let ended = end(&admin, Revocation::Token { tenant, token }).await;
            ended.map(|_count| StatusCode::OK)
        }
        None => Ok(StatusCode::OK),
    };
    Ok(deed.close(done))
}

fn about(what: &Revocation) -> About {
    match what {
        Revocation::Token { tenant, token } => About {
            token: Some(token.clone()),
            ..About::tenant(tenant.clone())
        },
        Revocation::Task { tenant, task } => About {
            task: Some(task.clone()),
            ..About::tenant(tenant.clone())
        },
        Revocation::Agent { tenant, agent } => About {
            agent: Some(agent.clone()),
            ..About::tenant(tenant.clone())
        },
        Revocation::Tenant { tenant } => About::tenant(tenant.clone()),
    }
}

async fn end(admin: &Admin, what: Revocation) -> Result<Json<Value>, Problem> {
    let revoked = admin.desk.registry.revoke(&what, (admin.clock)()).await?;
    tracing::info!(?what, revoked, "task tokens revoked");
    Ok(Json(json!({ "revoked": revoked })))
}
