//! Why there is no statement, as RFC 9457 problem JSON with a stable code.
//!
//! Only who has proven who they are gets this far; texts never repeat what was asked.

use std::time::Duration;

use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;
use tollgate_core::ids::RecordId;

use super::json_answer;
use crate::body::AnswerBody;
use crate::metrics::StatementResult;
use crate::respond::Failure;

const ERROR_CODE: HeaderName = HeaderName::from_static("x-tollgate-error");

/// Why there is no statement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unstated {
    #[error("there is nothing here; /tollgate/v1/usage is what the gateway itself answers")]
    NoSuchPath,
    #[error("usage is read with GET")]
    Method,
    #[error("{0}")]
    Malformed(&'static str),
    /// With the time to wait.
    #[error("this agent asks too often")]
    Pace(Duration),
    #[error("records are being read for others; ask again")]
    Busy,
    #[error("there is too much to be read in time; ask for fewer days")]
    TooMuch,
    #[error(transparent)]
    Failed(Failure),
}

impl Unstated {
    /// The stable code for clients, metrics and dashboards.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::NoSuchPath => "not_found",
            Self::Method => "method_not_allowed",
            Self::Malformed(_) => "malformed_request",
            Self::Pace(_) => "rate_limit_exceeded",
            Self::Busy => "usage_busy",
            Self::TooMuch => "usage_too_large",
            Self::Failed(failure) => failure.code(),
        }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Pace(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::TooMuch => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(failure) => failure.status(),
        }
    }

    /// The rule that decided, for the record.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Pace(_) => "usage_pace",
            _ => self.code(),
        }
    }

    /// Whether the gateway, not the request, is the reason.
    pub(crate) fn is_failure(&self) -> bool {
        self.status().is_server_error()
    }

    pub(super) fn counts_as(&self) -> StatementResult {
        if self.is_failure() {
            StatementResult::Failed
        } else {
            StatementResult::Refused
        }
    }

    pub(super) fn answer(&self, id: RecordId) -> Response<AnswerBody> {
        let status = self.status();
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "code": self.code(),
            "detail": self.to_string(),
            "request_id": id,
        });
        let mut response = json_answer("application/problem+json", &body, id);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(ERROR_CODE, HeaderValue::from_static(self.code()));
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            Self::Pace(wait) => {
                let seconds = wait.as_secs().saturating_add(1);
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Busy | Self::Failed(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}
