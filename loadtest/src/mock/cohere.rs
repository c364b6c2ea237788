//! Answers in Cohere's shapes (version 2 of its API): chat, embeddings, rerank.
//!
//! What is billed stands beside what was counted; the two differ, as they do at Cohere.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::ask::Ask;
use super::frames::{Event, Framing};
use super::seen::Billed;

/// Tokens that are counted but not billed: Cohere's own prompt around the caller's.
const UNBILLED: u64 = 496;

/// Documents that one search covers.
const DOCUMENTS_PER_SEARCH: usize = 100;

/// `POST /v2/chat`.
pub(crate) fn chat(ask: &Ask<'_>) -> Answer {
    let (input, output) = ask.tokens();
    let billed = ask.counts().inclusive();
    let usage = json!({
        "billed_units": {"input_tokens": input, "output_tokens": output},
        "tokens": {"input_tokens": input + UNBILLED, "output_tokens": output + 2},
        "cached_tokens": ask.steering.cached,
    });
    let id = format!("mock-{:012}", ask.serial);
    if !ask.streams() {
        let message = json!({"role": "assistant", "content": [{"type": "text", "text": ask.text}]});
        let body =
            json!({"id": id, "message": message, "finish_reason": "COMPLETE", "usage": usage});
        return Answer::of(body, billed);
    }
    let mut events = Vec::new();
    let mut say = |name: &'static str, mut body: Value| {
        body["type"] = json!(name);
        events.push(Event::Named(name, body));
    };
    let message = json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
    say(
        "message-start",
        json!({"id": id, "delta": {"message": message}}),
    );
    let content = |content: Value| json!({"index": 0, "delta": {"message": {"content": content}}});
    say(
        "content-start",
        content(json!({"type": "text", "text": ""})),
    );
    for piece in ask.pieces() {
        say("content-delta", content(json!({"text": piece})));
    }
    say("content-end", json!({"index": 0}));
    say(
        "message-end",
        json!({"delta": {"finish_reason": "COMPLETE", "usage": usage}}),
    );
    events.push(Event::Verbatim("data: [DONE]\n\n"));
    let error =
        json!({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "mock error"}});
    Answer::stream(
        Framing::NamedData,
        events,
        Event::Named("message-end", error),
        billed,
    )
}

/// `POST /v2/embed`.
pub(crate) fn embed(ask: &Ask<'_>) -> Answer {
    let (input, _) = ask.tokens();
    let texts = ask.body.get("texts").cloned().unwrap_or_else(|| json!([]));
    let vectors = vec![json!([0.25, 0.5, 1.0]); texts.as_array().map_or(0, Vec::len)];
    let body = json!({
        "id": format!("mock-{:012}", ask.serial),
        "embeddings": {"float": vectors},
        "texts": texts,
        "meta": meta(&json!({"input_tokens": input})),
    });
    Answer::of(body, ask.counts().input_only())
}

/// `POST /v2/rerank`.
pub(crate) fn rerank(ask: &Ask<'_>) -> Answer {
    let documents = ask.body.get("documents").and_then(Value::as_array);
    let documents = documents.map_or(1, Vec::len);
    let searches = documents.div_ceil(DOCUMENTS_PER_SEARCH).max(1) as u64;
    let results: Vec<_> = (0..documents)
        .map(|index| json!({"index": index, "relevance_score": 0.5}))
        .collect();
    let body = json!({
        "id": format!("mock-{:012}", ask.serial),
        "results": results,
        "meta": meta(&json!({"search_units": searches})),
    });
    let billed = Billed {
        searches,
        ..Billed::default()
    };
    Answer::of(body, billed)
}

fn meta(billed_units: &Value) -> Value {
    json!({"api_version": {"version": "2"}, "billed_units": billed_units})
}

/// An error of Cohere's shape.
pub(crate) fn error(status: StatusCode) -> Answer {
    let message = format!("mock error {}", status.as_u16());
    Answer::json(status, json!({"message": message}).to_string())
}
