//! Answers in Anthropic's shapes: messages, token counting, models.
//!
//! The shapes follow Anthropic's API reference closely enough for its own SDKs; the content is fixed.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::ask::Ask;
use super::frames::{Event, Framing};

/// `POST /v1/messages`.
pub(crate) fn messages(ask: &Ask<'_>) -> Answer {
    if ask.streams() {
        return stream(ask);
    }
    let (block, stop) = match ask.tool_call() {
        Some(call) => (
            tool_use(ask, &call.name, call.arguments.clone()),
            "tool_use",
        ),
        None => (json!({"type": "text", "text": ask.text}), "end_turn"),
    };
    let body = message(ask, json!([block]), json!(stop), ask.tokens().1);
    Answer::of(body, ask.counts().beside_cache())
}

/// The same as a stream, whatever the body asks for.
pub(crate) fn stream(ask: &Ask<'_>) -> Answer {
    let (_, output) = ask.tokens();
    let start = message(ask, json!([]), Value::Null, output.min(1));
    let (block, deltas, stop) = spoken(ask);
    let mut events = vec![
        event("message_start", json!({"message": start})),
        event(
            "content_block_start",
            json!({"index": 0, "content_block": block}),
        ),
        event("ping", json!({})),
    ];
    for delta in deltas {
        events.push(event(
            "content_block_delta",
            json!({"index": 0, "delta": delta}),
        ));
    }
    events.push(event("content_block_stop", json!({"index": 0})));
    let stop = json!({"stop_reason": stop, "stop_sequence": null});
    events.push(event(
        "message_delta",
        json!({"delta": stop, "usage": {"output_tokens": output}}),
    ));
    events.push(event("message_stop", json!({})));
    let error = json!({"error": {"type": "overloaded_error", "message": "mock error"}});
    Answer::stream(
        Framing::NamedData,
        events,
        event("error", error),
        ask.counts().beside_cache(),
    )
}

fn tool_use(ask: &Ask<'_>, name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": format!("toolu_mock{:012}", ask.serial), "name": name, "input": input})
}

/// The one block of a stream as it starts, its deltas, and why the message ends.
fn spoken(ask: &Ask<'_>) -> (Value, Vec<Value>, &'static str) {
    let Some(call) = ask.tool_call() else {
        let deltas = ask.pieces().into_iter();
        let deltas = deltas.map(|piece| json!({"type": "text_delta", "text": piece}));
        return (
            json!({"type": "text", "text": ""}),
            deltas.collect(),
            "end_turn",
        );
    };
    let delta = json!({"type": "input_json_delta", "partial_json": call.text()});
    (
        tool_use(ask, &call.name, json!({})),
        vec![delta],
        "tool_use",
    )
}

fn message(ask: &Ask<'_>, content: Value, stop_reason: Value, output: u64) -> Value {
    let model = ask.model_or("claude-sonnet-4-5");
    let (input, _) = ask.tokens();
    json!({
        "id": format!("msg_mock{:012}", ask.serial),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": input,
            "cache_creation_input_tokens": ask.steering.cache_write,
            "cache_read_input_tokens": ask.steering.cached,
            "cache_creation": {
                "ephemeral_5m_input_tokens": ask.steering.cache_write, "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": output,
            "service_tier": "standard",
        },
    })
}

/// `POST /v1/messages/count_tokens`.
pub(crate) fn count_tokens(ask: &Ask<'_>) -> Answer {
    Answer::free(json!({"input_tokens": ask.tokens().0}))
}

/// `GET /v1/models`, as Anthropic answers it.
pub(crate) fn models() -> Answer {
    let model = json!({
        "type": "model", "id": "claude-sonnet-4-5", "display_name": "Claude Sonnet 4.5",
        "created_at": "2025-09-29T00:00:00Z",
    });
    let body = json!({"data": [model], "has_more": false, "first_id": "claude-sonnet-4-5", "last_id": "claude-sonnet-4-5"});
    Answer::free(body)
}

/// An error of Anthropic's shape.
pub(crate) fn error(status: StatusCode, serial: u64) -> Answer {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let message = format!("mock error {}", status.as_u16());
    let body = json!({
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": format!("req_mock{serial:012}"),
    });
    Answer::json(status, body.to_string())
}

fn event(name: &'static str, mut body: Value) -> Event {
    body["type"] = json!(name);
    Event::Named(name, body)
}
