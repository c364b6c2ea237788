//! Calls as agents make them, one fluent line each.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tollgate_testkit::raw::{Answer, Raw, request};

use super::scan::check_answer;

/// The shape in which the gateway's own answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Problem,
}

/// A request in the making.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Ask {
    /// A request with this method and target, and a `host`.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            line: format!("{method} {target}"),
            headers: vec![("host".to_owned(), "tollgate".to_owned())],
            body: Vec::new(),
        }
    }

    /// Calls the gateway by another name.
    pub(crate) fn host(mut self, name: &str) -> Self {
        self.headers.retain(|(field, _)| field != "host");
        self.header("host", name)
    }

    /// Adds a header field.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds the token as the OpenAI SDKs do.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Adds the token where no SDK puts anything, which leaves the key slots to handles.
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("x-tollgate-token", token)
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// The bytes to send.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        request(&self.line, &headers, &self.body)
    }

    /// Sends it on a connection of its own.
    pub(crate) async fn send(&self, to: SocketAddr) -> Answer {
        let mut raw = Raw::connect(to).await;
        self.send_on(&mut raw).await
    }

    /// Sends it on a connection that is kept.
    pub(crate) async fn send_on(&self, raw: &mut Raw) -> Answer {
        raw.send(self.bytes()).await;
        let method = self.line.split(' ').next().unwrap_or_default();
        let answer = raw
            .answer_to(method)
            .await
            .expect("the connection ended without an answer");
        check_answer(&answer);
        answer
    }
}

/// The body of a small chat completion.
pub(crate) fn chat() -> Value {
    json!({
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": 64,
    })
}

/// The body of a small Anthropic message.
pub(crate) fn message() -> Value {
    json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Say something."}],
    })
}
