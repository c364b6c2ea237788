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
    Caller, KeySet, MAX_LIFETIME_SECONDS, Mint, MintError, TokenFault, verify,
};
use tollgate_core::ids::{AgentId, TaskId, TenantId, TokenId};
use tollgate_core::registry::{Liveness, Revocation, TokenRegistry};
use tollgate_core::time::Timestamp;

use crate::problem::Problem;
use crate::server::read;
use crate::{Admin, CurrentPolicy};

/// The lifetime of a token whose request names none: the longest there is.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(MAX_LIFETIME_SECONDS.unsigned_abs());

/// Makes task tokens and judges those shown to it.
pub struct TokenDesk {
    /// Signs.
    pub mint: Mint,
    /// Whose signatures are believed.
    pub keys: KeySet,
    /// Which tokens are live.
    pub registry: Arc<dyn TokenRegistry>,
    /// Which tenants there are.
    pub policy: CurrentPolicy,
}

/// Why no token was given out.
#[derive(Debug, thiserror::Error)]
enum NotMinted {
    #[error("no policy file defines this tenant")]
    UnknownTenant,
    #[error("this tenant is disabled by policy")]
    DisabledTenant,
    #[error("this task is complete")]
    CompleteTask,
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error(transparent)]
    Registry(#[from] StoreError),
}

/// What a token is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MintRequest {
    tenant: String,
    agent: String,
    task: String,
    ttl_seconds: Option<u64>,
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
    },
    Inactive {
        active: bool,
        reason: &'static str,
    },
}

impl TokenDesk {
    async fn mint(
        &self,
        tenant: TenantId,
        agent: AgentId,
        task: TaskId,
        lifetime: Duration,
        now: Timestamp,
        token: TokenId,
    ) -> Result<(String, Caller), NotMinted> {
        let policy = (self.policy)();
        let known = policy.tenants.get(&tenant);
        let known = known.ok_or(NotMinted::UnknownTenant)?;
        if !known.enabled {
            return Err(NotMinted::DisabledTenant);
        }
        let (jwt, caller) = self.mint.issue(tenant, agent, task, lifetime, now, token)?;
        if self.registry.register(&caller).await? {
            Ok((jwt, caller))
        } else {
            Err(NotMinted::CompleteTask)
        }
    }

    fn introspect(&self, token: &str, now: Timestamp) -> Result<Introspection, StoreError> {
        let judged = verify(token, &self.keys, now);
        let judged = judged.and_then(|caller| {
            let policy = (self.policy)();
            let tenant = policy.tenants.get(&caller.tenant);
            match tenant.filter(|tenant| tenant.enabled) {
                Some(_) => Ok(caller),
                None => Err(TokenFault::UnknownTenant),
            }
        });
        let inactive = |fault: TokenFault| Introspection::Inactive {
            active: false,
            reason: fault.reason(),
        };
        let caller = match judged {
            Ok(caller) => caller,
            Err(fault) => return Ok(inactive(fault)),
        };
        Ok(match self.registry.liveness(&caller)? {
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
            },
        })
    }
}

impl From<NotMinted> for Problem {
    fn from(reason: NotMinted) -> Self {
        match reason {
            NotMinted::UnknownTenant => Self::unknown_tenant(),
            NotMinted::DisabledTenant => Self::disabled_tenant(),
            NotMinted::CompleteTask => Self::complete_task(),
            NotMinted::Mint(MintError::Lifetime) => Self::invalid(MintError::Lifetime.to_string()),
            NotMinted::Mint(MintError::Signing) => Self::internal(),
            NotMinted::Registry(failed) => failed.into(),
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
    T: std::str::FromStr<Err = tollgate_core::ids::InvalidName>,
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
    let (token, caller) = admin
        .tokens
        .mint(
            name(&asked.tenant)?,
            name(&asked.agent)?,
            name(&asked.task)?,
            lifetime,
            (admin.clock)(),
            fresh_id()?,
        )
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
    let revoked = admin.tokens.registry.revoke(&what, (admin.clock)()).await?;
    tracing::info!(?what, revoked, "task tokens revoked");
    Ok(Json(json!({ "revoked": revoked })))
}

pub(crate) async fn introspect(
    State(admin): State<Arc<Admin>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: IntrospectRequest = read(body)?;
    let answer = admin.tokens.introspect(&asked.token, (admin.clock)())?;
    Ok(Json(answer).into_response())
}
