//! The body of the gateway's own answers, as each dialect's SDKs read it.
//!
//! Knows names and shapes, and nothing of why a call was rejected. Every shape carries the stable
//! code, the message, the request's id or its header, and the facts that a program can act on.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};
use tollgate_core::ids::RecordId;
use tollgate_core::policy::Dialect;

/// What a rejection is called where errors have names of their own.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// `error.type` of OpenAI.
    pub(super) openai: &'static str,
    /// `error.type` of Anthropic.
    pub(super) anthropic: &'static str,
    /// The exception of the AWS SDKs.
    pub(super) bedrock: &'static str,
}

/// An answer, apart from its shape.
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: &'a str,
    pub(super) kind: Kind,
    pub(super) facts: Option<&'a Map<String, Value>>,
    pub(super) retry_after: Option<Duration>,
    pub(super) id: RecordId,
}

impl Answer<'_> {
    /// The body in the language of `dialect`.
    pub(super) fn body(&self, dialect: Dialect) -> Value {
        let Self {
            status,
            code,
            message,
            kind,
            id,
            ..
        } = self;
        match dialect {
            Dialect::OpenAi => {
                let error =
                    json!({ "message": message, "type": kind.openai, "param": null, "code": code });
                json!({ "error": self.with_facts(error) })
            }
            Dialect::Anthropic => {
                let error = json!({ "type": kind.anthropic, "message": message, "code": code });
                json!({ "type": "error", "error": self.with_facts(error), "request_id": id })
            }
            Dialect::Gemini => json!({
                "error": {
                    "code": status.as_u16(),
                    "message": message,
                    "status": google_status(*status),
                    "details": self.google_details(),
                }
            }),
            Dialect::Bedrock => self.with_facts(json!({ "message": message, "code": code })),
            Dialect::Cohere => {
                self.with_facts(json!({ "id": id, "message": message, "code": code }))
            }
            Dialect::Ollama => self.with_facts(json!({ "error": message, "code": code })),
            Dialect::Http => self.with_facts(json!({
                "type": "about:blank",
                "title": status.canonical_reason(),
                "status": status.as_u16(),
                "detail": message,
                "code": code,
                "request_id": id,
            })),
        }
    }

    fn with_facts(&self, mut error: Value) -> Value {
        if let Some(facts) = self.facts {
            error["tollgate"] = facts.clone().into();
        }
        error
    }

    /// `google.rpc.ErrorInfo`, whose facts are all texts, and `google.rpc.RetryInfo`.
    fn google_details(&self) -> Vec<Value> {
        let mut metadata = Map::new();
        metadata.insert("code".to_owned(), json!(self.code));
        metadata.insert("request_id".to_owned(), json!(self.id));
        for (name, fact) in self.facts.into_iter().flatten() {
            let text = match fact {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            metadata.insert(name.clone(), text.into());
        }
        let mut details = vec![json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": self.code.to_ascii_uppercase(),
            "domain": "tollgate",
            "metadata": metadata,
        })];
        details.extend(self.retry_after.map(|pause| {
            let (seconds, millis) = (pause.as_secs(), pause.subsec_millis());
            json!({
                "@type": "type.googleapis.com/google.rpc.RetryInfo",
                "retryDelay": format!("{seconds}.{millis:03}s"),
            })
        }));
        details
    }
}

/// The canonical code of Google's APIs for a status.
fn google_status(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
        StatusCode::FORBIDDEN => "PERMISSION_DENIED",
        StatusCode::TOO_MANY_REQUESTS => "RESOURCE_EXHAUSTED",
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "DEADLINE_EXCEEDED",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "UNAVAILABLE",
        status if status.is_client_error() => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}
