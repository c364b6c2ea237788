//! Why no token is given out, and how that is said: RFC 6749 section 5.2, RFC 8693 section 2.2.2.
//!
//! Everything that can be wrong with a subject token gets one and the same answer; which rule it
//! broke stands in the record. Only who has proven to be somebody learns what about the task is
//! wrong. Worst case: a client that reads none of it asks again and is refused again.

use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;
use tollgate_core::budget::StoreError;
use tollgate_core::ids::RecordId;
use tollgate_core::policy::Dialect;

use super::fetch::KeysError;
use super::json_answer;
use crate::admit::Rejected;
use crate::body::AnswerBody;
use crate::metrics::TokenExchange;
use crate::respond::Verdict;

const ERROR_CODE: HeaderName = HeaderName::from_static("x-tollgate-error");

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ungranted {
    #[error("the token endpoint takes POST")]
    Method,
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the body could not be read: it is too large, too slow or broken")]
    Body(Rejected),
    #[error("only urn:ietf:params:oauth:grant-type:token-exchange is granted here")]
    Grant,
    #[error("task tokens are for this gateway and for nothing else")]
    Target,
    #[error("task tokens have no scope to choose")]
    Scope,
    /// With the rule that decided.
    #[error("the subject token is not accepted")]
    Subject(&'static str),
    /// With the rule that decided.
    #[error("the task is missing, or may not be named by this request")]
    Task(&'static str),
    /// With the time to wait.
    #[error("this agent asks for tokens too often")]
    Pace(Duration),
    #[error("the issuer's keys are not available")]
    Keys(#[source] KeysError),
    #[error("the token registry is not available")]
    Registry(#[source] StoreError),
    #[error("no token could be made")]
    NotMinted,
}

impl Ungranted {
    /// The stable code for clients, metrics and dashboards.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Method => "not_allowed",
            Self::Malformed(_) => "malformed_request",
            Self::Body(rejected) => Verdict::of(rejected, Dialect::Http).code,
            Self::Grant => "unsupported_grant_type",
            Self::Target => "invalid_target",
            Self::Scope => "invalid_scope",
            Self::Subject(_) => "invalid_subject_token",
            Self::Task(_) => "task_not_allowed",
            Self::Pace(_) => "rate_limit_exceeded",
            Self::Keys(_) => "issuer_keys_unavailable",
            Self::Registry(_) => "registry_unavailable",
            Self::NotMinted => "token_not_minted",
        }
    }

    /// The rule that decided, for the record.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Pace(_) => "exchange_pace",
            Self::Subject(reason) | Self::Task(reason) => reason,
            _ => self.code(),
        }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body(rejected) => Verdict::of(rejected, Dialect::Http).status,
            Self::Pace(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Keys(_) | Self::Registry(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotMinted => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether the gateway, not the request, is the reason.
    pub(crate) fn is_failure(&self) -> bool {
        self.status().is_server_error()
    }

    pub(super) fn counts_as(&self) -> TokenExchange {
        if self.is_failure() {
            TokenExchange::Failed
        } else {
            TokenExchange::Refused
        }
    }

    /// What the operator should know of a failure. Why there are no keys is logged once, when they
    /// are asked for, and not for each of those who wait for them: anybody can be one.
    pub(super) fn cause(&self) -> Option<String> {
        match self {
            Self::Keys(KeysError::Pausing) => None,
            Self::Keys(error) => Some(error.to_string()),
            Self::Registry(error) => Some(format!("{error}: {}", error.cause)),
            Self::NotMinted => Some("the signing key does not sign".to_owned()),
            _ => None,
        }
    }

    /// The OAuth error. A subject token that is not accepted is `invalid_request`, not
    /// `invalid_grant`: RFC 8693 section 2.2.2 says so.
    const fn error(&self) -> &'static str {
        match self {
            Self::Grant => "unsupported_grant_type",
            Self::Target => "invalid_target",
            Self::Scope => "invalid_scope",
            Self::Pace(_) | Self::Keys(_) | Self::Registry(_) => "temporarily_unavailable",
            Self::NotMinted => "server_error",
            _ => "invalid_request",
        }
    }

    pub(super) fn answer(&self, id: RecordId) -> Response<AnswerBody> {
        let body = json!({
            "error": self.error(),
            "error_description": self.to_string(),
        });
        let mut response = json_answer(&body, id);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(ERROR_CODE, HeaderValue::from_static(self.code()));
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            Self::Pace(wait) => {
                let seconds = wait.as_secs().saturating_add(1);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Keys(_) | Self::Registry(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}
