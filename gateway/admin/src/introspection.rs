//! What a task token is worth now: RFC 7662, and the same as JSON.
//!
//! A token of a tenant that is not the asker's is not active for them, like one that is none, and
//! only operators are told why (section 2.2). Worst case: a token that ends between the answer
//! and its use; calls look for themselves.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tollgate_core::admin_log::About;
use tollgate_core::budget::StoreError;
use tollgate_core::identity::{Caller, CertificateDigest, TokenFault, verify};
use tollgate_core::ids::{AgentId, TaskId, TenantId, TokenId};
use tollgate_core::registry::Liveness;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::form;
use crate::problem::Problem;
use crate::server::read;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntrospectRequest {
    token: String,
}

/// The answer about a token. There is no `client_id`: task tokens have no OAuth client but an
/// agent, which is their `sub`.
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
        cnf: Option<Confirmation>,
    },
    Inactive {
        active: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
    },
}

/// The certificate that a bound token must come with: RFC 8705 section 3.2.
#[derive(Serialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

impl Confirmation {
    fn of(certificate: CertificateDigest) -> Self {
        Self {
            certificate: certificate.to_string(),
        }
    }
}

/// What a caller's action is about.
pub(crate) fn about(caller: &Caller) -> About {
    About {
        tenant: Some(caller.tenant.clone()),
        agent: Some(caller.agent.clone()),
        task: Some(caller.task.clone()),
        token: Some(caller.token.clone()),
    }
}

pub(crate) async fn introspect(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: IntrospectRequest = read(body)?;
    answer(&admin, &asker, &asked.token).await
}

pub(crate) async fn introspect_form(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let token = form::token(&headers, body)?;
    answer(&admin, &asker, &token).await
}

async fn answer(admin: &Admin, asker: &Asker, token: &str) -> Result<Response, Problem> {
    let read = verify(token, &admin.keys, (admin.clock)());
    let about = read.as_ref().map(about).unwrap_or_default();
    let action = Action::IntrospectToken;
    let deed = asker.begin_unseeing(admin, action, about).await?;
    let told = judge(admin, asker, read).await.map_err(Problem::from);
    // RFC 7662 section 4: what a token is worth changes at any moment.
    let unkept = [(http::header::CACHE_CONTROL, "no-store")];
    Ok(deed.close(told.map(|told| (unkept, Json(told)))))
}

async fn judge(
    admin: &Admin,
    asker: &Asker,
    read: Result<Caller, TokenFault>,
) -> Result<Introspection, StoreError> {
    let inactive = |fault: TokenFault| Introspection::Inactive {
        active: false,
        reason: asker.is_operator().then(|| fault.reason()),
    };
    let caller = match read.and_then(|caller| let_in(admin, caller)) {
        Ok(caller) if asker.is_of(&caller.tenant) => caller,
        Ok(_of_others) => return Ok(inactive(TokenFault::UnknownTenant)),
        Err(fault) => return Ok(inactive(fault)),
    };
    Ok(match admin.desk.registry.look_up(&caller).await? {
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
            cnf: caller.certificate.map(Confirmation::of),
        },
    })
}

/// Whether the policy in force lets the caller in.
fn let_in(admin: &Admin, caller: Caller) -> Result<Caller, TokenFault> {
    (admin.policy)().lets_in(&caller.tenant, &caller.agent)?;
    Ok(caller)
}
