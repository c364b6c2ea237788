//! The one line kept per upstream attempt and per refusal. No prompts, no bodies, no secrets.

use std::borrow::Cow;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::budget::{Hold, StoreError};
use crate::call::Terms;
use crate::identity::CertificateDigest;
use crate::ids::{
    AgentId, HandleName, ModelName, ProviderName, RecordId, TaskId, TenantId, TokenId,
};
use crate::money::PicoUsd;
use crate::shared_str::SharedStr;
use crate::time::Timestamp;
use crate::trace::{SpanId, TraceId};
use crate::usage::Usage;

/// The version of this shape, in every record.
pub const SCHEMA: &str = "tollgate.record/1";

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The upstream's answer was relayed whole.
    Completed,
    /// The client left before the answer was whole.
    ClientGone,
    /// The upstream broke off, or could not be reached in time.
    UpstreamFailed,
    /// Ended by the gateway: its token was revoked while the answer streamed.
    Revoked,
    /// A deliberate no before contact.
    Refused,
    /// The gateway itself could not, before contact.
    Failed,
    /// The gateway died between intent and outcome.
    Interrupted,
}

impl Outcome {
    /// The outcome as records, logs and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
            Self::Revoked => "revoked",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Where the usage figures come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    /// The provider's final figures.
    Exact,
    /// Computed by the gateway because the provider's figures did not come.
    Estimated,
    /// None known; settled at the reservation after a crash.
    Interrupted,
    /// Nothing was used, or nothing is metered here.
    None,
}

impl UsageSource {
    /// The source as records and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Estimated => "estimated",
            Self::Interrupted => "interrupted",
            Self::None => "none",
        }
    }
}

/// Whom and what a record is about: all that is known before contact.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// The record's id, also the answer's `x-tollgate-request-id`.
    #[serde(rename = "tollgate.record.id")]
    pub id: RecordId,
    /// When the request's head had been read.
    #[serde(rename = "tollgate.started_at")]
    pub started_at: Timestamp,
    /// The tenant, from the token alone.
    #[serde(rename = "tenant.id")]
    pub tenant: TenantId,
    /// The agent, from the token alone.
    #[serde(rename = "gen_ai.agent.id")]
    pub agent: AgentId,
    /// The task, from the token alone.
    #[serde(rename = "tollgate.task.id")]
    pub task: TaskId,
    /// The token's id.
    #[serde(rename = "tollgate.token.id")]
    pub token: TokenId,
    /// The client certificate that came with the call, by its digest.
    #[serde(
        rename = "tollgate.certificate.sha256",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub certificate: Option<CertificateDigest>,
    /// The provider or tool.
    #[serde(
        rename = "gen_ai.provider.name",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub provider: Option<ProviderName>,
    /// What kind of call: `chat`, `embeddings`, `execute_tool`, ...
    #[serde(
        rename = "gen_ai.operation.name",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub operation: Option<Cow<'static, str>>,
    /// The model the client named.
    #[serde(
        rename = "gen_ai.request.model",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub request_model: Option<ModelName>,
    /// The request's method.
    #[serde(rename = "http.request.method")]
    pub method: Cow<'static, str>,
    /// The request's path as the client sent it, before any credential, without the query.
    #[serde(rename = "url.path")]
    pub path: SharedStr,
    /// The upstream's host and port.
    #[serde(
        rename = "server.address",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub upstream: Option<SharedStr>,
    /// The credential used, by name.
    #[serde(
        rename = "tollgate.credential.name",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub credential: Option<HandleName>,
    /// The credential's version.
    #[serde(
        rename = "tollgate.credential.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub credential_version: Option<u32>,
    /// The prices in force.
    #[serde(
        rename = "tollgate.price.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub price_version: Option<SharedStr>,
    /// The provider's name in the price catalogue.
    #[serde(
        rename = "tollgate.price.provider",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub price_provider: Option<SharedStr>,
    /// What the call could cost at worst.
    #[serde(
        rename = "tollgate.cost.reserved_usd",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub reserved: Option<PicoUsd>,
    /// Whether the route is marked as elevated.
    #[serde(
        rename = "tollgate.elevated",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub elevated: bool,
    /// The trace that the client says the call belongs to, untrusted like the next two.
    #[serde(
        rename = "tollgate.trace.id",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub trace: Option<TraceId>,
    /// The client's span in it.
    #[serde(
        rename = "tollgate.trace.span.id",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub span: Option<SpanId>,
    /// Tenant names and the like that the client supplied, kept as untrusted text.
    #[serde(
        rename = "tollgate.untrusted",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub untrusted: Vec<String>,
    /// Things worth noting, such as `handle_inert`.
    #[serde(
        rename = "tollgate.notes",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub notes: Vec<Cow<'static, str>>,
}

/// Where the one log line of a call goes.
pub trait CallLog: Send + Sync {
    /// A call has ended, or was turned away.
    fn ended(&self, subject: &Subject, ending: &Ending);
}

/// What is written, durably, before the upstream is contacted.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    /// Whom and what it is about.
    pub subject: &'a Subject,
    /// The money taken for it. Settled at its amount if no outcome ever follows.
    pub hold: &'a Hold,
}

/// What is known once a call is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ending {
    /// When the last byte had gone, or the refusal.
    #[serde(rename = "tollgate.ended_at")]
    pub ended_at: Timestamp,
    /// How it ended.
    #[serde(rename = "tollgate.outcome")]
    pub outcome: Outcome,
    /// The status the client got.
    #[serde(
        rename = "http.response.status_code",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<u16>,
    /// The code of a refusal or failure.
    #[serde(
        rename = "error.type",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub code: Option<String>,
    /// The rule behind the code.
    #[serde(
        rename = "tollgate.refusal.reason",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<String>,
    /// The cap or limit that refused: `acme/tenant/day:2026-11-23`.
    #[serde(
        rename = "tollgate.refusal.limit",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub limit: Option<String>,
    /// The model the provider says it used.
    #[serde(
        rename = "gen_ai.response.model",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub response_model: Option<String>,
    /// Where `usage` comes from.
    #[serde(rename = "tollgate.usage.source")]
    pub usage_source: UsageSource,
    /// The counts.
    #[serde(
        rename = "tollgate.usage",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub usage: Option<Usage>,
    /// Of these counts, those of other models than the call's own, each by name.
    #[serde(
        rename = "tollgate.usage.elsewhere",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub elsewhere: Vec<(String, Usage)>,
    /// The terms of service that the prices followed.
    #[serde(
        rename = "tollgate.price.terms",
        default,
        skip_serializing_if = "Terms::is_standard"
    )]
    pub terms: Terms,
    /// What the provider itself says the call cost.
    #[serde(
        rename = "tollgate.cost.reported_usd",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub reported_cost: Option<PicoUsd>,
    /// What the call cost; what it is settled at.
    #[serde(rename = "tollgate.cost_usd")]
    pub cost: PicoUsd,
    /// The record whose cost this one's corrects: what was charged in advance is taken back here,
    /// so that both together cost what was used.
    #[serde(
        rename = "tollgate.cost.adjusts",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub adjusts: Option<RecordId>,
    /// Microseconds from the request's head to the first byte of the upstream's answer.
    #[serde(
        rename = "tollgate.first_byte_us",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub first_byte_us: Option<u64>,
    /// Whether the answer held the secret that was sent, and was relayed without it.
    #[serde(
        rename = "tollgate.secret_scrubbed",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub secret_scrubbed: bool,
}

impl Ending {
    /// An ending at which nothing was used.
    #[must_use]
    pub fn new(ended_at: Timestamp, outcome: Outcome) -> Self {
        Self {
            ended_at,
            outcome,
            status: None,
            code: None,
            reason: None,
            limit: None,
            response_model: None,
            usage_source: UsageSource::None,
            usage: None,
            elsewhere: Vec::new(),
            terms: Terms::default(),
            reported_cost: None,
            cost: PicoUsd::ZERO,
            adjusts: None,
            first_byte_us: None,
            secret_scrubbed: false,
        }
    }
}

/// One kept line, before the log gives it its place in the tenant's chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Whom and what it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// How it ended.
    #[serde(flatten)]
    pub ending: Ending,
}

/// Why someone who could not be authenticated was turned away. Kept in the gateway's own
/// partition, since it belongs to no tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stranger {
    /// The answer's `x-tollgate-request-id`.
    #[serde(rename = "tollgate.record.id")]
    pub id: RecordId,
    /// When.
    #[serde(rename = "tollgate.started_at")]
    pub at: Timestamp,
    /// From which address.
    #[serde(rename = "client.address")]
    pub client: String,
    /// The code of the refusal.
    #[serde(rename = "error.type")]
    pub code: String,
    /// The rule behind it.
    #[serde(rename = "tollgate.refusal.reason")]
    pub reason: String,
    /// The status the client got.
    #[serde(rename = "http.response.status_code")]
    pub status: u16,
}

/// Where records are kept.
#[async_trait]
pub trait RecordLog: Send + Sync {
    /// Keeps the intent. When this returns, killing the process no longer loses it.
    async fn intend(&self, intent: Intent<'_>) -> Result<(), StoreError>;

    /// Keeps the outcome of an intent. Does not wait: if it is lost in a crash, the intent is
    /// settled at its reservation.
    fn conclude(&self, id: RecordId, ending: &Ending);

    /// Keeps a call that ended before contact.
    fn refuse(&self, record: &Record);

    /// Keeps a refusal that belongs to no tenant. At most a hundred a second are kept.
    fn turn_away(&self, stranger: &Stranger);
}
