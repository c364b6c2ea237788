//! What every refusal must be, whatever it refuses.
//!
//! One check for all of them: status, code, the headers, the body in the route's dialect, a record
//! in the right partition with the identity of the token, and no secret in any of it.

use serde_json::Value;
use tollgate_testkit::raw::Answer;

use super::client::Dialect;
use super::process::Gateway;
use super::records::text;

/// What a refusal is expected to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    /// The status.
    pub(crate) status: u16,
    /// The code, in the header and, where the dialect has a place for it, in the body.
    pub(crate) code: &'static str,
    /// The body's `type` in the OpenAI dialect.
    pub(crate) openai: &'static str,
    /// The body's `type` in the Anthropic dialect.
    pub(crate) anthropic: &'static str,
}

impl Refused {
    /// A token that does not hold.
    pub(crate) const UNAUTHENTICATED: Self = Self::new(
        401,
        "invalid_api_key",
        "invalid_request_error",
        "authentication_error",
    );
    /// A route, method, model or host that is not allowed.
    pub(crate) const NOT_ALLOWED: Self = Self::forbidden("not_allowed");
    /// A credential that is not this caller's, not known or not for this place.
    pub(crate) const CREDENTIAL_DENIED: Self = Self::forbidden("credential_denied");
    /// A handle in two places.
    pub(crate) const HANDLE_REPEATED: Self = Self::forbidden("handle_repeated");
    /// No price, and a cap.
    pub(crate) const NOT_PRICED: Self = Self::forbidden("model_not_priced");
    /// Too many requests.
    pub(crate) const RATE_LIMITED: Self =
        Self::new(429, "rate_limit_exceeded", "requests", "rate_limit_error");
    /// A cap that is reached.
    pub(crate) const CAP_REACHED: Self = Self::new(
        429,
        "spend_limit_exceeded",
        "insufficient_quota",
        "rate_limit_error",
    );
    /// A call too big for what is left.
    pub(crate) const NO_HEADROOM: Self = Self::new(
        429,
        "request_exceeds_headroom",
        "insufficient_quota",
        "rate_limit_error",
    );
    /// A body that is too large.
    pub(crate) const TOO_LARGE: Self = Self::new(
        413,
        "body_too_large",
        "invalid_request_error",
        "request_too_large",
    );

    /// No room for one more call.
    pub(crate) const OVERLOADED: Self = Self::new(503, "overloaded", "server_error", "api_error");
    /// A ledger that takes nothing.
    pub(crate) const LEDGER_UNAVAILABLE: Self =
        Self::new(503, "ledger_unavailable", "server_error", "api_error");

    const fn new(
        status: u16,
        code: &'static str,
        openai: &'static str,
        anthropic: &'static str,
    ) -> Self {
        Self {
            status,
            code,
            openai,
            anthropic,
        }
    }

    const fn forbidden(code: &'static str) -> Self {
        Self::new(403, code, "invalid_request_error", "permission_error")
    }

    /// A request that cannot be understood.
    pub(crate) const fn malformed(code: &'static str) -> Self {
        Self::new(400, code, "invalid_request_error", "invalid_request_error")
    }

    /// An upstream that did not answer as it should.
    pub(crate) const fn bad_gateway(code: &'static str) -> Self {
        Self::new(502, code, "server_error", "api_error")
    }

    /// Checks the answer alone.
    #[track_caller]
    pub(crate) fn check(&self, answer: &Answer, dialect: Dialect) {
        assert_eq!(
            answer.status,
            self.status,
            "{self:?}: {answer:?} {}",
            answer.text()
        );
        assert_eq!(
            answer.header("x-tollgate-error"),
            Some(self.code),
            "{}",
            answer.text()
        );
        assert!(answer.whole, "{answer:?}");
        let id = answer.header("x-tollgate-request-id").expect("an id");
        assert!(!id.is_empty());
        let body = answer.json();
        let content_type = answer.header("content-type").expect("a content-type");
        match dialect {
            Dialect::OpenAi => {
                assert!(
                    content_type.starts_with("application/json"),
                    "{content_type}"
                );
                let error = &body["error"];
                assert_eq!(error["code"], self.code, "{body}");
                assert_eq!(error["type"], self.openai, "{body}");
                assert!(
                    error["message"]
                        .as_str()
                        .is_some_and(|text| !text.is_empty()),
                    "{body}"
                );
                assert!(error.get("param").is_some(), "SDKs read `param`: {body}");
            }
            Dialect::Anthropic => {
                assert!(
                    content_type.starts_with("application/json"),
                    "{content_type}"
                );
                assert_eq!(body["type"], "error", "{body}");
                assert_eq!(body["error"]["type"], self.anthropic, "{body}");
                let message = body["error"]["message"].as_str();
                assert!(message.is_some_and(|text| !text.is_empty()), "{body}");
            }
            Dialect::Problem => {
                assert!(
                    content_type.starts_with("application/problem+json"),
                    "{content_type}"
                );
                assert_eq!(body["status"], self.status, "{body}");
                assert!(
                    body["title"].is_string() && body["type"].is_string(),
                    "{body}"
                );
                assert_eq!(body["code"], self.code, "{body}");
            }
        }
    }

    /// Checks the answer and its record in the partition of `tenant`; returns the record.
    pub(crate) async fn check_recorded(
        &self,
        gateway: &Gateway,
        answer: &Answer,
        dialect: Dialect,
        tenant: &str,
    ) -> Value {
        self.check(answer, dialect);
        let id = answer.header("x-tollgate-request-id").expect("an id");
        let record = gateway.site.record(tenant, id).await;
        assert_eq!(text(&record, "error.type"), self.code, "{record:#}");
        assert_eq!(
            record["http.response.status_code"], self.status,
            "{record:#}"
        );
        assert!(record["tollgate.refusal.reason"].is_string(), "{record:#}");
        if tenant != "_gateway" {
            assert_eq!(text(&record, "tenant.id"), tenant, "{record:#}");
            assert_eq!(
                record["tollgate.cost_usd"], "0",
                "a refusal is free: {record:#}"
            );
        }
        assert!(!record.to_string().contains("sk-canary"), "{record:#}");
        record
    }
}
