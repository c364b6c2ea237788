//! Decides the answer to one request: which dialect, which endpoint, which spoiling.
//!
//! A path that belongs to no provider is a generic tool and is answered with what arrived.

use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answer, Content};
use super::anthropic;
use super::openai::{self, Ask};
use super::seen::BodyFacts;
use super::steer::{Echo, Steering, UnknownWord};

/// Bodies of these endpoints are read as JSON; all others are only hashed.
pub(crate) fn is_inspected(head: &Parts) -> bool {
    head.method == Method::POST
        && matches!(
            head.uri.path(),
            "/v1/chat/completions"
                | "/v1/responses"
                | "/v1/embeddings"
                | "/v1/messages"
                | "/v1/messages/count_tokens"
        )
}

/// The answer to a request whose body, if inspected, is `whole`.
pub(crate) fn answer(
    serial: u64,
    head: &Parts,
    facts: &BodyFacts,
    whole: &Bytes,
    steering: &Steering,
) -> Answer {
    let body = serde_json::from_slice::<Value>(whole).unwrap_or(Value::Null);
    let mut answer = match (steering.status.map(StatusCode::from_u16), steering.redirect) {
        (Some(Ok(status)), _) => error(serial, head, status),
        (Some(Err(_)), _) => error(serial, head, StatusCode::INTERNAL_SERVER_ERROR),
        (None, Some(code)) => redirect(code),
        (None, None) if steering.echo == Echo::Body => Answer::json(StatusCode::OK, whole.clone()),
        (None, None) => endpoint(serial, head, facts, &body, steering),
    };
    decorate(&mut answer, serial, head, steering);
    if steering.gzip {
        compress(&mut answer);
    }
    answer
}

/// The answer to a misspelt steering word.
pub(crate) fn misspelt(word: &UnknownWord) -> Answer {
    let message = format!("the mock knows no word {}", word.0);
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": "mock_word"});
    Answer::json(StatusCode::BAD_REQUEST, json!({"error": error}).to_string())
}

fn endpoint(
    serial: u64,
    head: &Parts,
    facts: &BodyFacts,
    body: &Value,
    steering: &Steering,
) -> Answer {
    let ask = Ask {
        serial,
        body,
        steering,
        text: text(head, steering),
    };
    match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/chat/completions") => openai::chat(&ask),
        (&Method::POST, "/v1/responses") => openai::responses(&ask),
        (&Method::POST, "/v1/embeddings") => openai::embeddings(&ask),
        (&Method::POST, "/v1/files") => openai::files(serial, facts),
        (&Method::POST, "/v1/messages") => anthropic::messages(&ask),
        (&Method::POST, "/v1/messages/count_tokens") => anthropic::count_tokens(&ask),
        (&Method::GET, "/v1/models") if is_anthropic(head) => anthropic::models(),
        (&Method::GET, "/v1/models") => openai::models(),
        (_, path) if path.starts_with("/v1/") => error(serial, head, StatusCode::NOT_FOUND),
        _ => tool(head, facts),
    }
}

fn tool(head: &Parts, facts: &BodyFacts) -> Answer {
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let body = json!({
        "login": "mock",
        "id": 1,
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers,
        "body_len": facts.len,
        "body_sha256": facts.sha256,
        "body": String::from_utf8_lossy(&facts.kept),
    });
    Answer::json(StatusCode::OK, body.to_string())
}

fn is_anthropic(head: &Parts) -> bool {
    head.headers.contains_key("anthropic-version") || head.uri.path().starts_with("/v1/messages")
}

fn error(serial: u64, head: &Parts, status: StatusCode) -> Answer {
    if is_anthropic(head) {
        anthropic::error(status, serial)
    } else {
        openai::error(status)
    }
}

fn redirect(code: u16) -> Answer {
    let mut answer = Answer::json(
        StatusCode::from_u16(code).unwrap_or(StatusCode::FOUND),
        "{}",
    );
    answer.header("location", "https://redirected.invalid/");
    answer
}

fn decorate(answer: &mut Answer, serial: u64, head: &Parts, steering: &Steering) {
    let name = if is_anthropic(head) {
        "request-id"
    } else {
        "x-request-id"
    };
    answer.header(name, format!("req_mock{serial:012}"));
    if let Some(seconds) = steering.retry_after {
        answer.header("retry-after", seconds.to_string());
    }
    if steering.extra_headers {
        answer.header("set-cookie", "mock=1; Path=/");
        answer.header("alt-svc", "h3=\":443\"; ma=86400");
        answer.header("nel", "{\"report_to\":\"mock\",\"max_age\":60}");
        answer.header(
            "report-to",
            "{\"group\":\"mock\",\"max_age\":60,\"endpoints\":[]}",
        );
        answer.header("refresh", "0; url=https://redirected.invalid/");
        answer.header("link", "<https://redirected.invalid/>; rel=preload");
    }
    if steering.echo_headers {
        for (name, value) in &head.headers {
            if let Ok(name) = HeaderName::try_from(format!("x-echo-{name}")) {
                answer.headers.append(name, value.clone());
            }
        }
    }
}

/// The trailers an answer ends with, if it was told to have any.
pub(crate) fn trailers(head: &Parts, steering: &Steering) -> Option<HeaderMap> {
    let value = HeaderValue::from_str(&credentials(head)).ok()?;
    steering
        .echo_trailer
        .then(|| HeaderMap::from_iter([(HeaderName::from_static("x-echo-trailer"), value)]))
}

fn text(head: &Parts, steering: &Steering) -> String {
    let text = match steering.echo {
        Echo::Nothing | Echo::Body => "Hello from the mock provider. All is well.".to_owned(),
        Echo::Headers => head
            .headers
            .iter()
            .fold(String::new(), |mut text, (name, value)| {
                let _ = writeln!(
                    text,
                    "{name}: {}",
                    String::from_utf8_lossy(value.as_bytes())
                );
                text
            }),
        Echo::Base64 => STANDARD.encode(credentials(head)),
        Echo::Hex => spell(&credentials(head), ""),
        Echo::Percent => spell(&credentials(head), "%"),
    };
    match steering.text_bytes {
        Some(bytes) => text
            .chars()
            .filter(char::is_ascii)
            .cycle()
            .take(bytes)
            .collect(),
        None => text,
    }
}

fn spell(text: &str, before: &str) -> String {
    text.bytes().fold(String::new(), |mut spelt, byte| {
        let _ = write!(spelt, "{before}{byte:02x}");
        spelt
    })
}

/// The values of all headers that may carry a key, one after the other.
fn credentials(head: &Parts) -> String {
    let names = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    let values = names
        .iter()
        .filter_map(|name| head.headers.get(*name))
        .filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(" ")
}

/// Each event becomes a gzip member of its own: a stream that can be read as it comes.
fn compress(answer: &mut Answer) {
    match &mut answer.content {
        Content::Plain(bytes) => *bytes = gzip(bytes),
        Content::Events { events, error } => {
            for event in events.iter_mut().chain([error]) {
                *event = gzip(event);
            }
        }
    }
    answer.header("content-encoding", "gzip");
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to a vector cannot fail; an empty result would show at once in any test.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}
