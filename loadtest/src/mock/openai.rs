//! Answers in OpenAI's shapes: chat completions, responses, embeddings, models, files.
//!
//! The shapes follow OpenAI's API reference closely enough for its own SDKs; the content is fixed.
//! Requests are not validated beyond what an answer needs.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::seen::BodyFacts;
use super::steer::Steering;
use super::{CREATED, pieces};

/// What every answer needs to know.
pub(crate) struct Ask<'a> {
    pub(crate) serial: u64,
    pub(crate) body: &'a Value,
    pub(crate) steering: &'a Steering,
    pub(crate) text: String,
}

impl Ask<'_> {
    pub(crate) fn model(&self) -> &str {
        self.body
            .get("model")
            .and_then(Value::as_str)
            .unwrap_or("gpt-4o-mini")
    }

    pub(crate) fn streams(&self) -> bool {
        self.body
            .get("stream")
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }

    /// Tokens in and out. Without a word about it, the mock never produces more than was asked for.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        self.steering.usage.unwrap_or_else(|| {
            let bounds = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
            let bound = bounds
                .iter()
                .filter_map(|name| self.body.get(name).and_then(Value::as_u64))
                .max();
            (10, bound.map_or(20, |bound| bound.min(20)))
        })
    }
}

/// `POST /v1/chat/completions`.
pub(crate) fn chat(ask: &Ask<'_>) -> Answer {
    if ask.streams() {
        chat_stream(ask)
    } else {
        chat_plain(ask)
    }
}

fn choices(ask: &Ask<'_>) -> u64 {
    ask.body
        .get("n")
        .and_then(Value::as_u64)
        .unwrap_or(1)
        .clamp(1, 128)
}

fn chat_plain(ask: &Ask<'_>) -> Answer {
    let choice = |index| {
        json!({
            "index": index,
            "message": {"role": "assistant", "content": ask.text, "refusal": null, "annotations": []},
            "logprobs": null,
            "finish_reason": "stop",
        })
    };
    let mut body = json!({
        "id": format!("chatcmpl-mock{:012}", ask.serial),
        "object": "chat.completion",
        "created": CREATED,
        "model": ask.model(),
        "choices": (0..choices(ask)).map(choice).collect::<Vec<_>>(),
        "service_tier": "default",
        "system_fingerprint": "fp_mock",
    });
    if !ask.steering.no_usage {
        body["usage"] = chat_usage(ask);
    }
    Answer::json(StatusCode::OK, body.to_string())
}

fn chat_stream(ask: &Ask<'_>) -> Answer {
    let asked = ask
        .body
        .pointer("/stream_options/include_usage")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let usage_wanted = asked && !ask.steering.no_usage;
    let chunk = |choices: Value, usage: Value| {
        let mut body = json!({
            "id": format!("chatcmpl-mock{:012}", ask.serial),
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": ask.model(),
            "service_tier": "default",
            "system_fingerprint": "fp_mock",
            "choices": choices,
        });
        if usage_wanted {
            body["usage"] = usage;
        }
        data(&body)
    };
    let delta = |index: u64, delta: Value, finish: Value| {
        let choice =
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
        chunk(json!([choice]), Value::Null)
    };
    let mut events = Vec::new();
    for index in 0..choices(ask) {
        events.push(delta(
            index,
            json!({"role": "assistant", "content": "", "refusal": null}),
            Value::Null,
        ));
        for piece in pieces(&ask.text, ask.steering.chunks) {
            events.push(delta(index, json!({"content": piece}), Value::Null));
        }
        events.push(delta(index, json!({}), json!("stop")));
    }
    if usage_wanted {
        events.push(chunk(json!([]), chat_usage(ask)));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Answer::events(events, data(&error_body(StatusCode::INTERNAL_SERVER_ERROR)))
}

fn chat_usage(ask: &Ask<'_>) -> Value {
    let (input, output) = ask.tokens();
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": ask.steering.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": ask.steering.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

/// `POST /v1/responses`.
pub(crate) fn responses(ask: &Ask<'_>) -> Answer {
    if !ask.streams() {
        return Answer::json(StatusCode::OK, response_body(ask, "completed").to_string());
    }
    let mut events = Events::default();
    let item_id = format!("msg_mock{:012}", ask.serial);
    let place = |mut event: Value| {
        event["item_id"] = json!(item_id);
        event["output_index"] = json!(0);
        event["content_index"] = json!(0);
        event
    };
    events.push(
        "response.created",
        json!({"response": response_body(ask, "in_progress")}),
    );
    events.push(
        "response.in_progress",
        json!({"response": response_body(ask, "in_progress")}),
    );
    let item = |status: &str, content: Value| json!({"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content});
    events.push(
        "response.output_item.added",
        json!({"output_index": 0, "item": item("in_progress", json!([]))}),
    );
    events.push(
        "response.content_part.added",
        place(json!({"part": text_part("")})),
    );
    for piece in pieces(&ask.text, ask.steering.chunks) {
        events.push(
            "response.output_text.delta",
            place(json!({"delta": piece, "logprobs": []})),
        );
    }
    events.push(
        "response.output_text.done",
        place(json!({"text": ask.text, "logprobs": []})),
    );
    events.push(
        "response.content_part.done",
        place(json!({"part": text_part(&ask.text)})),
    );
    let done = item("completed", json!([text_part(&ask.text)]));
    events.push(
        "response.output_item.done",
        json!({"output_index": 0, "item": done}),
    );
    events.push(
        "response.completed",
        json!({"response": response_body(ask, "completed")}),
    );
    let error = json!({"code": "server_error", "message": "mock error", "param": null});
    events.push("error", error);
    let error = events.0.pop().unwrap_or_default();
    Answer::events(events.0, error)
}

/// Named events that count themselves.
#[derive(Default)]
struct Events(Vec<Bytes>);

impl Events {
    fn push(&mut self, name: &str, mut event: Value) {
        event["type"] = json!(name);
        event["sequence_number"] = json!(self.0.len());
        self.0
            .push(Bytes::from(format!("event: {name}\ndata: {event}\n\n")));
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn response_body(ask: &Ask<'_>, status: &str) -> Value {
    let done = status == "completed";
    let message = json!({
        "id": format!("msg_mock{:012}", ask.serial), "type": "message", "status": status,
        "role": "assistant", "content": [text_part(&ask.text)],
    });
    let (input, output) = ask.tokens();
    let usage = json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": ask.steering.cached},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": ask.steering.reasoning},
        "total_tokens": input + output,
    });
    json!({
        "id": format!("resp_mock{:012}", ask.serial),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": ask.body.get("max_output_tokens"),
        "metadata": ask.body.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "model": ask.model(),
        "output": if done { json!([message]) } else { json!([]) },
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "default",
        "store": true,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": if done && !ask.steering.no_usage { usage } else { Value::Null },
    })
}

/// `POST /v1/embeddings`: three numbers per input, as floats or, when asked, in base64.
pub(crate) fn embeddings(ask: &Ask<'_>) -> Answer {
    let inputs = match ask.body.get("input") {
        Some(Value::Array(items)) if !items.first().is_some_and(Value::is_number) => items.len(),
        _ => 1,
    };
    let in_base64 = ask.body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    // 0.25, 0.5 and 1.0 as little-endian f32.
    let vector = if in_base64 {
        json!("AACAPgAAAD8AAIA/")
    } else {
        json!([0.25, 0.5, 1.0])
    };
    let data: Vec<_> = (0..inputs)
        .map(|i| json!({"object": "embedding", "index": i, "embedding": vector}))
        .collect();
    let mut body = json!({"object": "list", "data": data, "model": ask.model()});
    if !ask.steering.no_usage {
        let (input, _) = ask.tokens();
        body["usage"] = json!({"prompt_tokens": input, "total_tokens": input});
    }
    Answer::json(StatusCode::OK, body.to_string())
}

/// `GET /v1/models`.
pub(crate) fn models() -> Answer {
    let model = |id| json!({"id": id, "object": "model", "created": CREATED, "owned_by": "mock"});
    let body = json!({"object": "list", "data": [model("gpt-4o-mini"), model("gpt-4o"), model("text-embedding-3-small")]});
    Answer::json(StatusCode::OK, body.to_string())
}

/// `POST /v1/files`: size and hash of the whole body as received, multipart framing included.
pub(crate) fn files(serial: u64, body: &BodyFacts) -> Answer {
    let answer = json!({
        "id": format!("file-mock{serial:012}"),
        "object": "file",
        "bytes": body.len,
        "created_at": CREATED,
        "filename": "mock.bin",
        "purpose": "user_data",
        "status": "processed",
        "sha256": body.sha256,
    });
    Answer::json(StatusCode::OK, answer.to_string())
}

/// An error of OpenAI's shape.
pub(crate) fn error(status: StatusCode) -> Answer {
    Answer::json(status, error_body(status).to_string())
}

fn error_body(status: StatusCode) -> Value {
    let (kind, code) = match status.as_u16() {
        401 => ("invalid_request_error", json!("invalid_api_key")),
        429 => ("requests", json!("rate_limit_exceeded")),
        500.. => ("server_error", Value::Null),
        _ => ("invalid_request_error", Value::Null),
    };
    json!({"error": {"message": format!("mock error {}", status.as_u16()), "type": kind, "param": null, "code": code}})
}

fn data(event: &Value) -> Bytes {
    Bytes::from(format!("data: {event}\n\n"))
}
