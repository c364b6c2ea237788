//! Refusal or failure -> HTTP, in the dialect of the route. The only file that knows status codes.

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
use crate::pool::{Stage, UpstreamError};

use crate::record::REQUEST_ID;

const ERROR_CODE: HeaderName = HeaderName::from_static("x-tollgate-error");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Read by the OpenAI and Anthropic SDKs before their own rules on what to retry.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

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
    /// The secret can never stand where it should go.
    #[error("the stored credential is malformed")]
    CredentialInvalid,
    /// Too many bodies in memory.
    #[error("the gateway is overloaded")]
    Overloaded,
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
            Self::Credential(VaultError::Malformed { .. }) | Self::CredentialInvalid => {
                "credential_invalid"
            }
            Self::Credential(_) => "credential_unavailable",
            Self::Overloaded => "overloaded",
            Self::BodyTimeout => "request_timeout",
            Self::ClientGone => "client_gone",
            Self::Upstream(error) => match error {
                UpstreamError::Connect(_) => "upstream_unreachable",
                UpstreamError::Tls(_) => "upstream_tls",
                UpstreamError::Timeout { .. } => "upstream_timeout",
                UpstreamError::Protocol { .. } => "upstream_failed",
                UpstreamError::Upload(UploadFault::TooLarge) => "body_too_large",
                UpstreamError::Upload(UploadFault::Stalled) => "request_timeout",
                UpstreamError::Upload(UploadFault::ClientGone) => "client_gone",
            },
            Self::AnswerWithheld => "answer_withheld",
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
            Self::Ledger(_) | Self::Registry(_) | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Credential(VaultError::Malformed { .. }) | Self::CredentialInvalid => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Credential(_) => StatusCode::SERVICE_UNAVAILABLE,
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
            CollectError::Overloaded => Failure::Overloaded.into(),
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
    pub(crate) const fn of(rejected: &Rejected) -> Self {
        match rejected {
            Rejected::Refused(refusal) => Self {
                status: refusal_status(refusal),
                code: refusal.code(),
            },
            Rejected::Failed(failure) => Self {
                status: failure.status(),
                code: failure.code(),
            },
        }
    }
}

const fn refusal_status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Refusal::NotAllowed { .. }
        | Refusal::ModelDenied(_)
        | Refusal::CredentialDenied { .. }
        | Refusal::HandleRepeated
        | Refusal::NotPriced { .. } => StatusCode::FORBIDDEN,
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
    let verdict = Verdict::of(rejected);
    let (message, details) = match rejected {
        // Which of the rules a token breaks would help nobody but someone who forges them.
        Rejected::Refused(Refusal::Unauthenticated(_)) => (NO_TOKEN.to_owned(), None),
        Rejected::Refused(refusal) => (refusal.to_string(), details(refusal)),
        Rejected::Failed(failure) => (failure.to_string(), None),
    };
    let body = envelope(dialect, &verdict, kind(rejected), &message, details, id);
    let mut response = Response::new(AnswerBody::full(Bytes::from(body.to_string())));
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
    hint(headers, rejected, now);
    response
}

/// The id as a header value.
pub(crate) fn id_value(id: RecordId) -> HeaderValue {
    HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static("-"))
}

/// What a client should do next, in headers its SDK understands.
fn hint(headers: &mut http::HeaderMap, rejected: &Rejected, now: Timestamp) {
    let final_answer = HeaderValue::from_static("false");
    match rejected {
        Rejected::Refused(Refusal::RateLimited { retry_after, .. }) => {
            let millis = retry_after.as_millis().max(1);
            headers.insert(RETRY_AFTER, number(millis.div_ceil(1000)));
            headers.insert(RETRY_AFTER_MS, number(millis));
        }
        Rejected::Refused(
            Refusal::CapReached { resets_at, .. } | Refusal::ExceedsHeadroom { resets_at, .. },
        ) => {
            headers.insert(SHOULD_RETRY, final_answer);
            if let Some(resets_at) = resets_at {
                let seconds = resets_at.since(now).as_millis().div_ceil(1000);
                headers.insert(RETRY_AFTER, number(seconds));
            }
        }
        Rejected::Refused(Refusal::Unauthenticated(_)) => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Rejected::Failed(Failure::Ledger(_) | Failure::Registry(_)) => {
            headers.insert(RETRY_AFTER, number(2));
        }
        Rejected::Failed(Failure::Overloaded) => {
            headers.insert(RETRY_AFTER, number(1));
        }
        // A withheld answer was billed; the next one would be, too.
        Rejected::Failed(
            Failure::Credential(_) | Failure::CredentialInvalid | Failure::AnswerWithheld,
        ) => {
            headers.insert(SHOULD_RETRY, final_answer);
        }
        Rejected::Refused(_) | Rejected::Failed(_) => {}
    }
}

fn number(value: u128) -> HeaderValue {
    HeaderValue::from(u64::try_from(value).unwrap_or(u64::MAX))
}

/// The error types of the OpenAI and the Anthropic envelope.
fn kind(rejected: &Rejected) -> (&'static str, &'static str) {
    match rejected {
        Rejected::Refused(refusal) => match refusal {
            Refusal::Unauthenticated(_) => ("invalid_request_error", "authentication_error"),
            Refusal::RateLimited { key, .. } => match key.counted {
                Counted::Tokens => ("tokens", "rate_limit_error"),
                Counted::Requests | Counted::Concurrent => ("requests", "rate_limit_error"),
            },
            Refusal::CapReached { .. } | Refusal::ExceedsHeadroom { .. } => {
                ("insufficient_quota", "rate_limit_error")
            }
            Refusal::BodyTooLarge { .. } => ("invalid_request_error", "request_too_large"),
            Refusal::BadHandle { .. } | Refusal::Malformed { .. } => {
                ("invalid_request_error", "invalid_request_error")
            }
            _ => ("invalid_request_error", "permission_error"),
        },
        Rejected::Failed(Failure::Upstream(UpstreamError::Upload(UploadFault::TooLarge))) => {
            ("invalid_request_error", "request_too_large")
        }
        Rejected::Failed(failure) if failure.is_the_clients() => {
            ("invalid_request_error", "invalid_request_error")
        }
        Rejected::Failed(_) => ("server_error", "api_error"),
    }
}

/// Facts a program can act on, beside the message: which cap, how full, until when, what fits.
fn details(refusal: &Refusal) -> Option<Map<String, Value>> {
    let mut facts = Map::new();
    match refusal {
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

fn envelope(
    dialect: Dialect,
    verdict: &Verdict,
    (openai, anthropic): (&str, &str),
    message: &str,
    details: Option<Map<String, Value>>,
    id: RecordId,
) -> Value {
    match dialect {
        Dialect::OpenAi
        | Dialect::Gemini
        | Dialect::Bedrock
        | Dialect::Cohere
        | Dialect::Ollama => {
            let mut error = json!({
                "message": message, "type": openai, "param": null, "code": verdict.code,
            });
            if let Some(facts) = details {
                error["tollgate"] = facts.into();
            }
            json!({ "error": error })
        }
        Dialect::Anthropic => {
            let mut error = json!({ "type": anthropic, "message": message, "code": verdict.code });
            if let Some(facts) = details {
                error["tollgate"] = facts.into();
            }
            json!({ "type": "error", "error": error, "request_id": id })
        }
        Dialect::Http => {
            let mut problem = json!({
                "type": "about:blank",
                "title": verdict.status.canonical_reason(),
                "status": verdict.status.as_u16(),
                "detail": message,
                "code": verdict.code,
                "request_id": id,
            });
            if let Some(facts) = details {
                problem["tollgate"] = facts.into();
            }
            problem
        }
    }
}

#[cfg(test)]
mod tests;
