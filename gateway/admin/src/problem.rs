//! What is answered when something is not done: RFC 9457 problem JSON with a stable code.
//!
//! Texts are written here or by the core and never repeat what was sent, so that an answer
//! cannot carry a token back into somebody's log.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tollgate_core::budget::StoreError;
use tracing::error;

/// A deliberate no, or a failure, on its way to who asked.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    /// The word that RFC 6749 section 5.2 has for it.
    oauth: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            code,
            detail,
            oauth: None,
        }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "admin_credential_required",
            "send an admin credential: Authorization: Bearer …",
        )
    }

    /// One answer for what the role is not for, for tenants of others and for those that do not
    /// exist.
    pub(crate) fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this credential's role does not reach so far",
        )
    }

    /// It cannot be told who may ask.
    pub(crate) fn no_credentials() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "credentials_unavailable",
            "the file of admin credentials cannot be read; the gateway's log says why",
        )
    }

    /// The request is not of the form this place reads.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_request", detail)
    }

    /// The same where OAuth clients ask.
    pub(crate) fn invalid_request(detail: impl Into<String>) -> Self {
        Self {
            oauth: Some("invalid_request"),
            ..Self::malformed(detail)
        }
    }

    /// The form is right but a value cannot be used.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_value", detail)
    }

    pub(crate) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "a request here has at most 64 KiB",
        )
    }

    pub(crate) fn unknown_tenant() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "tenant_unknown",
            "no policy file defines this tenant",
        )
    }

    pub(crate) fn disabled_tenant() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "tenant_disabled",
            "this tenant is disabled by policy",
        )
    }

    pub(crate) fn disabled_agent() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "agent_disabled",
            "this agent is disabled by policy",
        )
    }

    pub(crate) fn complete_task() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "task_complete",
            "this task has been completed or revoked; its name cannot be used again",
        )
    }

    pub(crate) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this path",
        )
    }

    pub(crate) fn wrong_method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path takes another method",
        )
    }

    pub(crate) fn too_slow() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "deadline_exceeded",
            "the answer took too long; ask for less",
        )
    }

    /// As many follow what happens as may.
    pub(crate) fn crowded() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_followers",
            "as many are following what happens as may at one time; try again later",
        )
    }

    /// A page that is not of this listener asks.
    pub(crate) fn foreign_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "a page of another origin may not ask here",
        )
    }

    /// A browser calls this listener by a name that anybody may own.
    pub(crate) fn foreign_name() -> Self {
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            "foreign_name",
            "browsers reach this listener by an address, localhost, a private name or one in `admin_names`",
        )
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the gateway's log says more",
        )
    }
}

impl From<StoreError> for Problem {
    fn from(failed: StoreError) -> Self {
        error!(
            error = &failed as &dyn std::error::Error,
            "a store failed the admin API"
        );
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ledger_unavailable",
            failed.to_string(),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut content_type = HeaderValue::from_static("application/problem+json");
        if let Some(oauth) = self.oauth {
            body["error"] = oauth.into();
            body["error_description"] = body["detail"].clone();
            content_type = HeaderValue::from_static("application/json");
        }
        (
            self.status,
            [(CONTENT_TYPE, content_type)],
            body.to_string(),
        )
            .into_response()
    }
}
