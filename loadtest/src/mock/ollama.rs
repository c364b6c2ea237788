//! Answers in Ollama's own shapes: chat and generate, which stream unless told not to, embeddings.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::ask::Ask;
use super::frames::{Event, Framing};

const CREATED_AT: &str = "2026-01-01T00:00:00Z";

/// `POST /api/chat` and, where the text stands elsewhere, `POST /api/generate`.
pub(crate) fn chat(ask: &Ask<'_>, generate: bool) -> Answer {
    let billed = ask.counts().inclusive();
    let line = |text: &str, done: bool| {
        let mut line = json!({
            "model": ask.model_or("qwen3:0.6b"), "created_at": CREATED_AT, "done": done,
        });
        if generate {
            line["response"] = json!(text);
        } else {
            line["message"] = json!({"role": "assistant", "content": text});
        }
        line
    };
    let mut done = line(if wants_stream(ask) { "" } else { &ask.text }, true);
    let (input, output) = ask.tokens();
    for (name, value) in [
        ("done_reason", json!("stop")),
        ("total_duration", json!(4_000_000)),
        ("load_duration", json!(1_000_000)),
        ("prompt_eval_count", json!(input)),
        ("prompt_eval_duration", json!(1_000_000)),
        ("eval_count", json!(output)),
        ("eval_duration", json!(2_000_000)),
    ] {
        done[name] = value;
    }
    if !wants_stream(ask) {
        return Answer::of(done, billed);
    }
    let events = ask
        .pieces()
        .iter()
        .map(|piece| line(piece, false))
        .chain([done])
        .map(|line| Event::Named("", line))
        .collect();
    let error = Event::Named("", json!({"error": "mock error"}));
    Answer::stream(Framing::Lines, events, error, billed)
}

fn wants_stream(ask: &Ask<'_>) -> bool {
    ask.body.get("stream").is_none_or(|_| ask.streams())
}

/// `POST /api/embed`.
pub(crate) fn embed(ask: &Ask<'_>) -> Answer {
    let (input, _) = ask.tokens();
    let texts = ask.body.get("input").and_then(Value::as_array);
    let body = json!({
        "model": ask.model_or("all-minilm"),
        "embeddings": vec![json!([0.25, 0.5, 1.0]); texts.map_or(1, Vec::len)],
        "total_duration": 4_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": input,
    });
    Answer::of(body, ask.counts().input_only())
}

/// `GET /api/tags`.
pub(crate) fn tags() -> Answer {
    let model = json!({
        "name": "qwen3:0.6b", "model": "qwen3:0.6b", "modified_at": CREATED_AT, "size": 1,
        "digest": "0", "details": Value::Null,
    });
    Answer::free(json!({"models": [model]}))
}

/// An error of Ollama's shape.
pub(crate) fn error(status: StatusCode) -> Answer {
    let message = format!("mock error {}", status.as_u16());
    Answer::json(status, json!({"error": message}).to_string())
}
