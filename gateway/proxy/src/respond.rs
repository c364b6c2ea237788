//! Refusal or failure -> HTTP, in the dialect of the route. The only file that knows status codes.
//!
//! Statuses are the same in every dialect but Bedrock's, whose clients go by the error's name and
//! retry by status: the AWS SDKs repeat every 429 and 5xx, so that a spend cap is their quota's
//! 400, and what was paid for already is answered with a status that is not repeated.
//!
//! Worst case: a client that reads neither status nor hints asks again, and is refused again.

mod envelope;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use tollgate_core::budget::{Balance, BudgetKey, StoreError};
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Dialect;
use tollgate_core::rate::Counted;
use tollgate_core::refusal::Refusal;
use tollgate_core::time::Timestamp;
use tollgate_core::vault::VaultError;

use crate::admit::Rejected;
use crate::body::{AnswerBody, UploadFault};
use crate::collect::CollectError;
use crate::obtain::Unobtained;
use crate::pool::{Stage, UpstreamError};
use crate::pressure::Pressed;

use crate::record::REQUEST_ID;
use envelope::{Answer, Kind};

const ERROR_CODE: HeaderName = HeaderName::from_static("x-tollgate-error");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Read by the OpenAI and Anthropic SDKs before their own rules on what to retry.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// By which the AWS SDKs tell errors apart, before the body and the status.
const AWS_ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
/// Where each dialect's SDKs look for the id of an answer, to show it with an error.
const fn id_header(dialect: Dialect) -> Option<HeaderName> {
    match dialect {
        Dialect::OpenAi => Some(HeaderName::from_static("x-request-id")),
        Dialect::Anthropic => Some(HeaderName::from_static("request-id")),
        Dialect::Bedrock => Some(HeaderName::from_static("x-amzn-requestid")),
        Dialect::Gemini | Dialect::Cohere | Dialect::Ollama | Dialect::Http => None,
    }
}

/// The facts of the body as JSON, for clients that do not show it.
const FACTS: HeaderName = HeaderName::from_static("x-tollgate-facts");

/// The one message for everything that can be wrong with a token.
const NO_TOKEN: &str = "the task token is missing, not valid, expired or revoked";

/// Why the gateway, not the caller, is the reason that a call is not made or not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Money cannot be counted or the intent not written.
    #[error("the ledger is not available")]
    Ledger(#[source] StoreError),
    /// The table of live tokens cannot be read.
    #[error("the token registry is not available")]
    Registry(#[source] StoreError),
    /// The secret did not come.
    #[error("the credential is not available")]
    Credential(#[source] VaultError),
    /// No access token could be had for the secret.
    #[error("the credential is not available")]
    Unobtained(#[source] Unobtained),
    /// The secret can never stand where it should go.
    #[error("the stored credential is malformed")]
    CredentialInvalid,
    /// More than there is room for.
    #[error("the gateway is overloaded")]
    Overloaded(Pressed),
    /// The client's body came too slowly.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// The client left before its request was whole.
    #[error("the client left")]
    ClientGone,
    /// The upstream could not be reached or broke off before it answered.
    #[error("there is no answer from the upstream")]
    Upstream(#[source] UpstreamError),
    /// The upstream's answer cannot be searched for secrets, so it is not relayed.
    #[error("the upstream's answer is compressed although identity was asked for; it is withheld")]
    AnswerWithheld,
}

impl Failure {
    /// The stable code for clients, metrics and dashboards.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Ledger(_) => "ledger_unavailable",
            Self::Registry(_) => "registry_unavailable",
            Self::Credential(VaultError::Malformed(_))
            | Self::Unobtained(Unobtained::Invalid(_))
            | Self::CredentialInvalid => "credential_invalid",
            Self::Credential(_) | Self::Unobtained(_) => "credential_unavailable",
            Self::Overloaded(_) => "overloaded",
            Self::BodyTimeout => "request_timeout",
            Self::ClientGone => "client_gone",
            Self::Upstream(error) => match error {
                UpstreamError::Connect(_) => "upstream_unreachable",
                UpstreamError::Tls(_) => "upstream_tls",
                UpstreamError::Timeout { .. } => "upstream_timeout",
                UpstreamError::Protocol { .. } | UpstreamError::GivenUp { .. } => "upstream_failed",
                UpstreamError::Upload(UploadFault::TooLarge) => "body_too_large",
                UpstreamError::Upload(UploadFault::Stalled) => "request_timeout",
                UpstreamError::Upload(UploadFault::ClientGone) => "client_gone",
            },
            Self::AnswerWithheld => "answer_withheld",
        }
    }

    /// The cause behind the code, for records.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Overloaded(pressed) => pressed.as_str(),
            _ => self.code(),
        }
    }

    /// Whether the client, not the gateway or the upstream, is the reason after all.
    pub(crate) const fn is_the_clients(&self) -> bool {
        matches!(
            self,
            Self::BodyTimeout | Self::ClientGone | Self::Upstream(UpstreamError::Upload(_))
        )
    }

    /// The status the client gets.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Ledger(_) | Self::Registry(_) | Self::Overloaded(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Credential(VaultError::Malformed(_))
            | Self::Unobtained(Unobtained::Invalid(_))
            | Self::CredentialInvalid => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Credential(_) | Self::Unobtained(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTimeout | Self::Upstream(UpstreamError::Upload(UploadFault::Stalled)) => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::ClientGone | Self::Upstream(UpstreamError::Upload(UploadFault::ClientGone)) => {
                StatusCode::BAD_REQUEST
            }
            Self::Upstream(UpstreamError::Upload(UploadFault::TooLarge)) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Upstream(UpstreamError::Timeout {
                stage: Stage::FirstByte,
            }) => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream(_) | Self::AnswerWithheld => StatusCode::BAD_GATEWAY,
        }
    }
}

impl Rejected {
    pub(crate) fn from_collect(error: CollectError, limit_bytes: u64) -> Self {
        match error {
            CollectError::TooLarge => Refusal::BodyTooLarge { limit_bytes }.into(),
            CollectError::Timeout => Failure::BodyTimeout.into(),
            CollectError::ClientGone => Failure::ClientGone.into(),
            CollectError::Overloaded => Pressed::Memory.into(),
            CollectError::Malformed => Refusal::Malformed {
                code: "malformed_request",
                detail: "the framing of the request body is broken",
            }
            .into(),
        }
    }
}

/// What a rejection becomes, apart from the dialect.
pub(crate) struct Verdict {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
}

impl Verdict {
    pub(crate) const fn of(rejected: &Rejected, dialect: Dialect) -> Self {
        let (status, code) = match rejected {
            Rejected::Refused(refusal) => (refusal_status(refusal), refusal.code()),
            Rejected::Failed(failure) => (failure.status(), failure.code()),
        };
        let status = match (dialect, aws_status(rejected)) {
            (Dialect::Bedrock, Some(status)) => status,
            _ => status,
        };
        Self { status, code }
    }
}

/// The status for clients of AWS, where it is not everybody's.
const fn aws_status(rejected: &Rejected) -> Option<StatusCode> {
    match rejected {
        Rejected::Refused(Refusal::Unauthenticated(_)) => Some(StatusCode::FORBIDDEN),
        Rejected::Refused(Refusal::CapReached { .. } | Refusal::ExceedsHeadroom { .. }) => {
            Some(StatusCode::BAD_REQUEST)
        }
        Rejected::Failed(Failure::Upstream(UpstreamError::Timeout {
            stage: Stage::FirstByte,
        })) => Some(StatusCode::REQUEST_TIMEOUT),
        Rejected::Failed(Failure::AnswerWithheld) => Some(StatusCode::FAILED_DEPENDENCY),
        _ => None,
    }
}

const fn refusal_status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Refusal::NotAllowed { .. }
        | Refusal::ModelDenied(_)
        | Refusal::ElevatedNotGranted
        | Refusal::SharedAccount
        | Refusal::CredentialDenied { .. }
        | Refusal::HandleRepeated
        | Refusal::NotPriced { .. }
        | Refusal::BatchNotBounded => StatusCode::FORBIDDEN,
        Refusal::BadHandle { .. } | Refusal::Malformed { .. } => StatusCode::BAD_REQUEST,
        Refusal::RateLimited { .. }
        | Refusal::CapReached { .. }
        | Refusal::ExceedsHeadroom { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
    }
}

/// The whole answer to a rejected call.
pub(crate) fn respond(
    dialect: Dialect,
    rejected: &Rejected,
    id: RecordId,
    now: Timestamp,
) -> Response<AnswerBody> {
    let verdict = Verdict::of(rejected, dialect);
    let kind = kind(rejected);
    let facts = facts(rejected);
    let answer = Answer {
        status: verdict.status,
        code: verdict.code,
        message: &message(rejected),
        kind,
        facts: facts.as_ref(),
        retry_after: pause(rejected, now),
        id,
    };
    let body = answer.body(dialect).to_string();
    let mut response = Response::new(AnswerBody::full(Bytes::from(body)));
    *response.status_mut() = verdict.status;
    let headers = response.headers_mut();
    let content_type = match dialect {
        Dialect::OpenAi
        | Dialect::Anthropic
        | Dialect::Gemini
        | Dialect::Bedrock
        | Dialect::Cohere
        | Dialect::Ollama => "application/json",
        Dialect::Http => "application/problem+json",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ERROR_CODE, HeaderValue::from_static(verdict.code));
    headers.insert(REQUEST_ID, id_value(id));
    if let Some(name) = id_header(dialect) {
        headers.insert(name, id_value(id));
    }
    if dialect == Dialect::Bedrock {
        headers.insert(AWS_ERROR_TYPE, HeaderValue::from_static(kind.bedrock));
        // Clients of AWS show headers and the fields they know of the body, and nothing else.
        if let Some(text) = facts.and_then(|facts| Value::from(facts).to_string().try_into().ok()) {
            headers.insert(FACTS, text);
        }
    }
    hint(headers, rejected, now);
    response
}

/// What a person, or a model, is told.
pub(crate) fn message(rejected: &Rejected) -> String {
    match rejected {
        // Which of the rules a token breaks would help nobody but someone who forges them.
        Rejected::Refused(Refusal::Unauthenticated(_)) => NO_TOKEN.to_owned(),
        Rejected::Refused(
            refusal @ Refusal::ExceedsHeadroom {
                fitting_output_tokens: Some(fitting),
                ..
            },
        ) => format!("{refusal}; with at most {fitting} output tokens it would fit"),
        Rejected::Refused(refusal) => refusal.to_string(),
        Rejected::Failed(failure) => failure.to_string(),
    }
}

/// After how long the same call may be tried again, where that is known.
fn pause(rejected: &Rejected, now: Timestamp) -> Option<Duration> {
    match rejected {
        Rejected::Refused(Refusal::RateLimited { retry_after, .. }) => {
            Some((*retry_after).max(Duration::from_millis(1)))
        }
        Rejected::Refused(
            Refusal::CapReached { resets_at, .. } | Refusal::ExceedsHeadroom { resets_at, .. },
        ) => resets_at.map(|resets_at| resets_at.since(now)),
        Rejected::Failed(Failure::Ledger(_) | Failure::Registry(_)) => Some(Duration::from_secs(2)),
        Rejected::Failed(Failure::Overloaded(_)) => Some(Duration::from_secs(1)),
        Rejected::Refused(_) | Rejected::Failed(_) => None,
    }
}

/// The id as a header value.
pub(crate) fn id_value(id: RecordId) -> HeaderValue {
    HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static("-"))
}

/// What a client should do next, in headers its SDK understands.
fn hint(headers: &mut http::HeaderMap, rejected: &Rejected, now: Timestamp) {
    if let Some(pause) = pause(rejected, now) {
        headers.insert(RETRY_AFTER, number(pause.as_millis().div_ceil(1000)));
        if matches!(rejected, Rejected::Refused(Refusal::RateLimited { .. })) {
            headers.insert(RETRY_AFTER_MS, number(pause.as_millis()));
        }
    }
    match rejected {
        Rejected::Refused(Refusal::Unauthenticated(_)) => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // A cap does not open by asking again, and a withheld answer was billed: the next one
        // would be, too.
        Rejected::Refused(Refusal::CapReached { .. } | Refusal::ExceedsHeadroom { .. })
        | Rejected::Failed(
            Failure::Credential(_) | Failure::CredentialInvalid | Failure::AnswerWithheld,
        ) => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        Rejected::Refused(_) | Rejected::Failed(_) => {}
    }
}

fn number(value: u128) -> HeaderValue {
    HeaderValue::from(u64::try_from(value).unwrap_or(u64::MAX))
}

/// What the rejection is called in each envelope.
const fn kind(rejected: &Rejected) -> Kind {
    const fn of(openai: &'static str, anthropic: &'static str, bedrock: &'static str) -> Kind {
        Kind {
            openai,
            anthropic,
            bedrock,
        }
    }
    const INVALID: &str = "invalid_request_error";
    match rejected {
        Rejected::Refused(refusal) => match refusal {
            Refusal::Unauthenticated(_) => of(
                INVALID,
                "authentication_error",
                "UnrecognizedClientException",
            ),
            Refusal::RateLimited { key, .. } => match key.counted {
                Counted::Tokens => of("tokens", "rate_limit_error", "ThrottlingException"),
                Counted::Requests | Counted::Concurrent => {
                    of("requests", "rate_limit_error", "ThrottlingException")
                }
            },
            Refusal::CapReached { .. } | Refusal::ExceedsHeadroom { .. } => of(
                "insufficient_quota",
                "rate_limit_error",
                "ServiceQuotaExceededException",
            ),
            Refusal::BodyTooLarge { .. } => of(INVALID, "request_too_large", "ValidationException"),
            Refusal::BadHandle { .. } | Refusal::Malformed { .. } => {
                of(INVALID, INVALID, "ValidationException")
            }
            Refusal::NotAllowed { .. }
            | Refusal::ModelDenied(_)
            | Refusal::ElevatedNotGranted
            | Refusal::SharedAccount
            | Refusal::CredentialDenied { .. }
            | Refusal::HandleRepeated
            | Refusal::NotPriced { .. }
            | Refusal::BatchNotBounded => of(INVALID, "permission_error", "AccessDeniedException"),
        },
        Rejected::Failed(failure) => match failure {
            Failure::Upstream(UpstreamError::Upload(UploadFault::TooLarge)) => {
                of(INVALID, "request_too_large", "ValidationException")
            }
            Failure::BodyTimeout
            | Failure::Upstream(UpstreamError::Upload(UploadFault::Stalled)) => {
                of(INVALID, INVALID, "RequestTimeoutException")
            }
            Failure::ClientGone
            | Failure::Upstream(UpstreamError::Upload(UploadFault::ClientGone)) => {
                of(INVALID, INVALID, "ValidationException")
            }
            Failure::Upstream(UpstreamError::Timeout {
                stage: Stage::FirstByte,
            }) => of("server_error", "api_error", "ModelTimeoutException"),
            Failure::AnswerWithheld => of("server_error", "api_error", "ModelErrorException"),
            Failure::Credential(VaultError::Malformed(_))
            | Failure::Unobtained(Unobtained::Invalid(_))
            | Failure::CredentialInvalid => {
                of("server_error", "api_error", "InternalServerException")
            }
            Failure::Ledger(_)
            | Failure::Registry(_)
            | Failure::Credential(_)
            | Failure::Unobtained(_)
            | Failure::Overloaded(_)
            | Failure::Upstream(_) => {
                of("server_error", "api_error", "ServiceUnavailableException")
            }
        },
    }
}

/// Facts a program can act on, beside the message: which cap or limit, how full, until when, what
/// fits.
fn facts(rejected: &Rejected) -> Option<Map<String, Value>> {
    let Rejected::Refused(refusal) = rejected else {
        return None;
    };
    let mut facts = Map::new();
    match refusal {
        Refusal::RateLimited { key, retry_after } => {
            let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            facts.insert("limit".to_owned(), json!(key.to_string()));
            facts.insert("retry_after_ms".to_owned(), json!(millis.max(1)));
        }
        Refusal::CapReached {
            key,
            limit,
            balance,
            resets_at,
        } => {
            cap_facts(&mut facts, key, *limit, *balance, *resets_at);
        }
        Refusal::ExceedsHeadroom {
            key,
            limit,
            balance,
            resets_at,
            asked,
            fitting_output_tokens,
        } => {
            cap_facts(&mut facts, key, *limit, *balance, *resets_at);
            facts.insert("asked_usd".to_owned(), json!(asked));
            facts.insert(
                "largest_output_tokens_that_fit".to_owned(),
                json!(fitting_output_tokens),
            );
        }
        _ => return None,
    }
    Some(facts)
}

fn cap_facts(
    facts: &mut Map<String, Value>,
    key: &BudgetKey,
    limit: PicoUsd,
    balance: Balance,
    resets_at: Option<Timestamp>,
) {
    facts.insert("cap".to_owned(), json!(key));
    facts.insert("limit_usd".to_owned(), json!(limit));
    facts.insert("spent_usd".to_owned(), json!(balance.settled));
    facts.insert("reserved_usd".to_owned(), json!(balance.reserved));
    facts.insert("resets_at".to_owned(), json!(resets_at));
}

#[cfg(test)]
mod tests;
