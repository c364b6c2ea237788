//! Decides the answer to one request: which endpoint of which dialect, which spoiling.
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

use super::answer::{Answer, Whole, Written};
use super::ask::Ask;
use super::batches::Deferred;
use super::openai::flavour::OPENAI;
use super::place::{Api, Place};
use super::seen::BodyFacts;
use super::steer::{Echo, Steering, UnknownWord};
use super::{anthropic, bedrock, cohere, form, gemini, ollama, openai};

/// One request, read.
pub(crate) struct Asked<'a> {
    pub(crate) serial: u64,
    pub(crate) head: &'a Parts,
    pub(crate) place: &'a Place,
    pub(crate) facts: &'a BodyFacts,
    /// The body's bytes.
    pub(crate) whole: &'a Bytes,
    /// The body as JSON, a form's fields included.
    pub(crate) body: &'a Value,
    pub(crate) deferred: &'a Deferred,
}

/// The answer to a request.
pub(crate) fn answer(asked: &Asked<'_>, steering: &Steering) -> Written {
    let mut answer = match (steering.status.map(StatusCode::from_u16), steering.redirect) {
        (Some(Ok(status)), _) => error(asked, status),
        (Some(Err(_)), _) => error(asked, StatusCode::INTERNAL_SERVER_ERROR),
        (None, Some(code)) => redirect(code),
        (None, None) if steering.echo == Echo::Body => {
            Answer::json(StatusCode::OK, asked.whole.clone())
        }
        (None, None) => endpoint(asked, steering),
    };
    decorate(&mut answer, asked, steering);
    let mut written = answer.write(steering.lie);
    if steering.gzip {
        compress(&mut written);
    }
    written
}

/// The body of a request as JSON; `None` where it is neither JSON nor a form.
pub(crate) fn read(head: &Parts, whole: &[u8]) -> Option<Value> {
    let content_type = head.headers.get("content-type");
    content_type
        .and_then(|value| form::fields(value.to_str().ok()?, whole))
        .or_else(|| serde_json::from_slice(whole).ok())
}

/// The answer to a misspelt steering word.
pub(crate) fn misspelt(word: &UnknownWord) -> Written {
    let message = format!("the mock knows no word {}", word.0);
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": "mock_word"});
    Answer::json(StatusCode::BAD_REQUEST, json!({"error": error}).to_string()).write(None)
}

fn endpoint(asked: &Asked<'_>, steering: &Steering) -> Answer {
    if let Some(answer) = asked.deferred.answer(asked) {
        return answer;
    }
    let Asked { head, place, .. } = asked;
    let flavour = match (steering.flavour, place.api) {
        (Some(flavour), _) | (None, Api::OpenAi(flavour)) => flavour,
        _ => &OPENAI,
    };
    let ask = Ask {
        serial: asked.serial,
        model_in_path: place.model.as_deref(),
        flavour,
        body: asked.body,
        steering,
        text: text(head, steering),
    };
    match (place.api, place.rest.as_str()) {
        (Api::Bedrock, verb) => bedrock::call(&ask, verb),
        (Api::Google, "/models") => gemini::models(),
        (Api::Google, verb) => gemini::call(&ask, verb, head.uri.query().unwrap_or_default()),
        (Api::Tool, _) => tool(head, asked.facts),
        (Api::OpenAi(_), path) if head.method == Method::POST => openai_call(asked, &ask, path),
        (Api::OpenAi(_), "/models") => openai::models(),
        (Api::Anthropic, "/messages" | "rawPredict") => anthropic::messages(&ask),
        (Api::Anthropic, "streamRawPredict") => anthropic::stream(&ask),
        (Api::Anthropic, "/messages/count_tokens") => anthropic::count_tokens(&ask),
        (Api::Anthropic, "/models") => anthropic::models(),
        (Api::Cohere, "chat") => cohere::chat(&ask),
        (Api::Cohere, "embed") => cohere::embed(&ask),
        (Api::Cohere, "rerank") => cohere::rerank(&ask),
        (Api::Ollama, "chat") => ollama::chat(&ask, false),
        (Api::Ollama, "generate") => ollama::chat(&ask, true),
        (Api::Ollama, "embed") => ollama::embed(&ask),
        (Api::Ollama, "tags") => ollama::tags(),
        _ => error(asked, StatusCode::NOT_FOUND),
    }
}

fn openai_call(asked: &Asked<'_>, ask: &Ask<'_>, path: &str) -> Answer {
    match path {
        "/chat/completions" => openai::chat(ask),
        "/completions" => openai::completions(ask),
        "/responses" => openai::responses(ask),
        "/embeddings" => openai::embeddings(ask),
        "/images/generations" => openai::images(ask, false),
        "/images/edits" => openai::images(ask, true),
        "/audio/transcriptions" | "/audio/translations" => openai::transcription(ask),
        "/audio/speech" => openai::speech(ask),
        "/ocr" => openai::ocr(ask),
        "/moderations" => openai::moderations(ask),
        "/files" => openai::files(ask.serial, asked.facts),
        _ => error(asked, StatusCode::NOT_FOUND),
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

fn error(asked: &Asked<'_>, status: StatusCode) -> Answer {
    match asked.place.api {
        Api::OpenAi(_) | Api::Tool => openai::error(status),
        Api::Anthropic => anthropic::error(status, asked.serial),
        Api::Google => gemini::error(status),
        Api::Bedrock => bedrock::error(status),
        Api::Cohere => cohere::error(status),
        Api::Ollama => ollama::error(status),
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

fn decorate(answer: &mut Answer, asked: &Asked<'_>, steering: &Steering) {
    let name = match asked.place.api {
        Api::Anthropic => "request-id",
        Api::Bedrock => "x-amzn-requestid",
        _ => "x-request-id",
    };
    answer.header(name, format!("req_mock{:012}", asked.serial));
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
        for (name, value) in &asked.head.headers {
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
fn compress(written: &mut Written) {
    match &mut written.bytes {
        Whole::Plain(bytes) => *bytes = gzip(bytes),
        Whole::Events { events, error } => {
            for event in events.iter_mut().chain([error]) {
                *event = gzip(event);
            }
        }
    }
    let name = http::header::CONTENT_ENCODING;
    written
        .headers
        .insert(name, HeaderValue::from_static("gzip"));
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to a vector cannot fail; an empty result would show at once in any test.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}
