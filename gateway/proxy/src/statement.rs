//! `GET /tollgate/v1/usage`: what a caller may know of its own use, and nobody else's.
//!
//! The caller is found as for a call, from token or certificate alone; nothing else in a request
//! says whose figures are wanted. An agent sees its own counters, those of its task and the sums
//! of its own records; one that the tenant's policy lets read sees the whole tenant. Nothing here
//! reaches a provider. Records are read beside the calls, within bounds (`readings`). A statement
//! is logged and counted; one that is refused is on record like any refusal.
//!
//! Worst case: a tenant whose records are too many to be read in time is told to ask for less.

mod asked;
mod readings;
mod refusal;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate_core::identity::Caller;
use tollgate_core::ids::RecordId;
use tollgate_core::policy::{Dialect, Tenant};
use tollgate_core::standing::{Standing, View, caps_in_force};
use tollgate_core::time::Timestamp;

use crate::authenticate::{Identified, authenticate};
use crate::body::AnswerBody;
use crate::gateway::Gateway;
use crate::metrics::StatementResult;
use crate::pace::AgentPace;
use crate::record::{Draft, REQUEST_ID, keep_rejected, keep_unstated};
use crate::respond::{Failure, Verdict, id_value, respond};
use crate::service::ConnInfo;
use readings::Readings;

pub use readings::{Question, UsageReports};
pub(crate) use refusal::Unstated;

/// What is the gateway's own on the agents' listener. No provider can be called so.
const OWN: &str = "/tollgate";

/// Where statements are.
const PATH: &str = "/tollgate/v1/usage";

/// Statements that an agent gets at once: a few dozen pods of it that start together.
const BURST: u32 = 50;

/// The time in which one more comes in.
const EVERY: Duration = Duration::from_millis(50);

/// What the endpoint knows from one request to the next.
pub struct Statements {
    pace: AgentPace,
    readings: Readings,
}

impl Statements {
    /// Statements from these records.
    #[must_use]
    pub fn of(reports: Arc<dyn UsageReports>) -> Self {
        Self {
            pace: AgentPace::new(BURST, EVERY),
            readings: Readings::of(reports),
        }
    }
}

/// Whether a request is for the gateway itself.
pub(crate) fn is_here(head: &Parts) -> bool {
    let rest = head.uri.path().strip_prefix(OWN);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request for a statement, and keeps the record of a refusal.
pub(crate) async fn answer(
    gw: &Gateway,
    head: &Parts,
    peer: &ConnInfo,
    id: RecordId,
    now: Timestamp,
) -> Response<AnswerBody> {
    let mut draft = Draft::open(id, now, head, peer.client);
    let live = gw.live.snapshot();
    let shown = peer.certificate.as_deref();
    let Identified { caller, tenant } =
        match authenticate(gw, &live, head, shown, &mut draft, now).await {
            Ok(identified) => identified,
            Err(rejected) => {
                gw.metrics.stated(StatementResult::Refused);
                let verdict = Verdict::of(&rejected, Dialect::Http);
                keep_rejected(gw, &draft, &rejected, &verdict);
                return respond(Dialect::Http, &rejected, id, now);
            }
        };
    match statement(gw, &caller, &tenant, head, now).await {
        Ok(statement) => {
            gw.metrics.stated(StatementResult::Answered);
            tracing::info!(
                request = &*id.text(),
                tenant = caller.tenant.as_str(),
                agent = caller.agent.as_str(),
                task = caller.task.as_str(),
                jti = caller.token.as_str(),
                whole_tenant = statement["reader"].as_bool(),
                "usage stated"
            );
            json_answer("application/json", &statement, id)
        }
        Err(no) => {
            gw.metrics.stated(no.counts_as());
            if let Unstated::Failed(failure) = &no {
                crate::record::log_failure(id, failure);
            }
            keep_unstated(gw, &draft, &no);
            no.answer(id)
        }
    }
}

async fn statement(
    gw: &Gateway,
    caller: &Caller,
    tenant: &Tenant,
    head: &Parts,
    now: Timestamp,
) -> Result<Value, Unstated> {
    if head.uri.path() != PATH {
        return Err(Unstated::NoSuchPath);
    }
    if head.method != Method::GET {
        return Err(Unstated::Method);
    }
    let asked = asked::read(head.uri.query().unwrap_or_default(), now)?;
    gw.statements
        .pace
        .take(&caller.tenant, &caller.agent, Instant::now())
        .map_err(Unstated::Pace)?;
    let view = View::of(tenant, &caller.agent, &caller.task);
    let caps = caps(gw, tenant, &view, caller, now).await?;
    let question = asked.about(&caller.tenant, &view);
    let usage = gw.statements.readings.read(question).await?;
    Ok(json!({
        "tenant": caller.tenant,
        "agent": caller.agent,
        "task": caller.task,
        "reader": view == View::Tenant,
        "at": now,
        "caps": caps,
        "usage": usage.as_ref(),
    }))
}

/// How the caps stand that are in view.
async fn caps(
    gw: &Gateway,
    tenant: &Tenant,
    view: &View,
    caller: &Caller,
    now: Timestamp,
) -> Result<Vec<Standing>, Unstated> {
    let paces = gw.caps.paces(&tenant.id);
    let mut standings = Vec::new();
    for cap in caps_in_force(tenant, [&caller.task], now) {
        let Some(limit) = cap.limit.filter(|_| view.shows(&cap.key.scope)) else {
            continue;
        };
        let balance = gw.stores.budgets.balance(&cap.key).await;
        let balance = balance.map_err(|error| Unstated::Failed(Failure::Ledger(error)))?;
        let pace = paces.get(&cap.key.scope).copied().unwrap_or_default();
        standings.push(Standing::new(cap.key, limit, balance, pace, now));
    }
    Ok(standings)
}

/// JSON that no cache may keep.
fn json_answer(kind: &'static str, body: &Value, id: RecordId) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::full(body.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID, id_value(id));
    response
}
