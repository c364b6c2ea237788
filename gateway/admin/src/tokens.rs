//! Making, ending and explaining task tokens.
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
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_core::budget::StoreError;
use tollgate_core::identity::{
    Caller, MAX_LIFETIME_SECONDS, MintError, TokenFault, TokenRequest, verify,
};
use tollgate_core::ids::{AgentId, TaskId, TenantId, TokenId};
use tollgate_core::issue::NotIssued;
use tollgate_core::registry::{Liveness, Revocation};
use tollgate_core::time::Timestamp;

use crate::Admin;
use crate::problem::Problem;
use crate::server::read;

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
struct IntrospectRequest {
    token: String,
}

/// The answer about a token: RFC 7662 section 2.2. Its section 2.2 advises against saying why a
/// token is not active; here only the operator asks, who has to find out.
#[derive(Serialize)]
#[serde(untagged)]
enum Introspection {
    Active {
        active: bool,
        token_type: &'static str,
        sub: AgentId,
        tenant: TenantId,
        task: TaskId,
        jti: TokenId,
        iat: i64,
        exp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        cnf: Option<Value>,
    },
    Inactive {
        active: bool,
        reason: &'static str,
    },
}

fn judge(admin: &Admin, token: &str, now: Timestamp) -> Result<Introspection, StoreError> {
    let inactive = |fault: TokenFault| Introspection::Inactive {
        active: false,
        reason: fault.reason(),
    };
    let caller = match verify(token, &admin.keys, now).and_then(|caller| let_in(admin, caller)) {
        Ok(caller) => caller,
        Err(fault) => return Ok(inactive(fault)),
    };
    Ok(match admin.desk.registry.liveness(&caller)? {
        Liveness::Revoked => inactive(TokenFault::Revoked),
        Liveness::Unknown => inactive(TokenFault::Unregistered),
        Liveness::Live => Introspection::Active {
            active: true,
            token_type: "Bearer",
            sub: caller.agent,
            tenant: caller.tenant,
            task: caller.task,
            jti: caller.token,
            iat: caller.issued_at.as_seconds(),
            exp: caller.expires_at.as_seconds(),
            cnf: caller
                .certificate
                .map(|digest| json!({ "x5t#S256": digest.to_string() })),
        },
    })
}

/// Whether the policy in force lets the caller in.
fn let_in(admin: &Admin, caller: Caller) -> Result<Caller, TokenFault> {
    let policy = (admin.policy)();
    let tenant = policy.tenants.get(&caller.tenant);
    match tenant.filter(|tenant| tenant.enabled) {
        None => Err(TokenFault::UnknownTenant),
        Some(tenant) if tenant.disabled_agents.contains(&caller.agent) => {
            Err(TokenFault::DisabledAgent)
        }
        Some(_) => Ok(caller),
    }
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

fn name<T>(text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse()
        .map_err(|wrong: T::Err| Problem::invalid(wrong.to_string()))
}

/// A token id: a UUID of version 7, so that they sort by the time they were made.
fn fresh_id() -> Result<TokenId, Problem> {
    let id = uuid::Uuid::now_v7().as_simple().to_string();
    id.parse().map_err(|_not_a_name| Problem::internal())
}

pub(crate) async fn mint(
    State(admin): State<Arc<Admin>>,
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
    let policy = (admin.policy)();
    let (token, caller) = admin
        .desk
        .issue(&policy, wanted, None, (admin.clock)(), fresh_id()?)
        .await?;
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
    Ok((StatusCode::CREATED, unkept, Json(answer)).into_response())
}

pub(crate) async fn revoke(
    State(admin): State<Arc<Admin>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let what = Revocation::try_from(read::<RevokeRequest>(body)?)?;
    let revoked = admin.desk.registry.revoke(&what, (admin.clock)()).await?;
    tracing::info!(?what, revoked, "task tokens revoked");
    Ok(Json(json!({ "revoked": revoked })))
}

pub(crate) async fn introspect(
    State(admin): State<Arc<Admin>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: IntrospectRequest = read(body)?;
    let answer = judge(&admin, &asked.token, (admin.clock)())?;
    Ok(Json(answer).into_response())
}
