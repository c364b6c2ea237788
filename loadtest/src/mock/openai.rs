//! Answers in OpenAI's shapes: chat completions, completions, embeddings, models, files.
//!
//! The shapes follow OpenAI's API reference closely enough for its own SDKs; the content is fixed.
//! Requests are not validated beyond what an answer needs.

pub(crate) mod flavour;
mod media;
mod responses;

use http::StatusCode;
use serde_json::{Value, json};

use super::CREATED;
use super::answer::Answer;
use super::ask::Ask;
use super::frames::{Event, Framing};
use super::seen::{Billed, BodyFacts};
use super::toolcall::ToolCall;
use flavour::{Flavour, Stated};

pub(crate) use media::{images, speech, transcription};
pub(crate) use responses::responses;

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
    let (content, calls, finish) = match ask.tool_call() {
        Some(call) => (Value::Null, json!([tool_call(ask, &call)]), "tool_calls"),
        None => (json!(ask.text), Value::Null, "stop"),
    };
    let choice = |index| {
        let mut message =
            json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
        if calls.is_array() {
            message["tool_calls"] = calls.clone();
        }
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish})
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
    if ask.flavour.filters {
        body["prompt_filter_results"] = filters();
    }
    body["usage"] = chat_usage(ask);
    Answer::of(body, billed(ask))
}

fn tool_call(ask: &Ask<'_>, call: &ToolCall) -> Value {
    json!({
        "id": format!("call_mock{:012}", ask.serial),
        "type": "function",
        "function": {"name": call.name, "arguments": call.text()},
    })
}

/// What a stream says in its deltas between role and finish, and why it finishes.
fn deltas(ask: &Ask<'_>) -> (Vec<Value>, &'static str) {
    let Some(call) = ask.tool_call() else {
        let pieces = ask.pieces().into_iter();
        return (
            pieces.map(|piece| json!({"content": piece})).collect(),
            "stop",
        );
    };
    let mut start = tool_call(ask, &call);
    start["index"] = json!(0);
    start["function"]["arguments"] = json!("");
    let rest = json!({"index": 0, "function": {"arguments": call.text()}});
    let calls = [start, rest].map(|call| json!({"tool_calls": [call]}));
    (calls.into(), "tool_calls")
}

fn filters() -> Value {
    let verdict = json!({"hate": {"filtered": false, "severity": "safe"}});
    json!([{"prompt_index": 0, "content_filter_results": verdict}])
}

/// What an answer of a flavour that counts reasoning beside the completion bills.
fn billed(ask: &Ask<'_>) -> Billed {
    if ask.flavour.reasoning_beside {
        ask.counts().beside_reasoning()
    } else {
        ask.counts().inclusive()
    }
}

fn option(ask: &Ask<'_>, name: &str) -> bool {
    let options = ask.body.get("stream_options");
    let value = options.and_then(|options| options.get(name));
    value.and_then(Value::as_bool).unwrap_or(false)
}

/// Whether a stream ends with a chunk that holds nothing but usage.
fn ends_with_usage(ask: &Ask<'_>) -> bool {
    matches!(ask.flavour.stated, Stated::WhenAsked | Stated::InXGroq)
        && option(ask, "include_usage")
}

fn chat_stream(ask: &Ask<'_>) -> Answer {
    let Flavour { stated, .. } = *ask.flavour;
    let asked = ends_with_usage(ask);
    let continuous = asked && option(ask, "continuous_usage_stats");
    let chunk = |choices: Value| {
        let mut body = json!({
            "id": format!("chatcmpl-mock{:012}", ask.serial),
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": ask.model(),
            "service_tier": "default",
            "system_fingerprint": "fp_mock",
            "choices": choices,
        });
        if continuous {
            body["usage"] = chat_usage(ask);
        } else if asked {
            body["usage"] = Value::Null;
        }
        body
    };
    let delta = |index: u64, delta: Value, finish: Value| {
        let choice =
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
        chunk(json!([choice]))
    };
    let role = json!({"role": "assistant", "content": "", "refusal": null});
    let mut bodies = Vec::new();
    for index in 0..choices(ask) {
        bodies.push(delta(index, role.clone(), Value::Null));
        let (said, finish) = deltas(ask);
        bodies.extend(said.into_iter().map(|said| delta(index, said, Value::Null)));
        bodies.push(delta(index, json!({}), json!(finish)));
    }
    if stated == Stated::AfterFinish {
        bodies.push(delta(0, role, Value::Null));
    }
    match (stated, bodies.last_mut()) {
        (Stated::AtFinish | Stated::AfterFinish, Some(last)) => last["usage"] = chat_usage(ask),
        (Stated::InXGroq, Some(last)) => {
            last["x_groq"] = json!({"id": "req_mock", "usage": chat_usage(ask)});
        }
        _ => {}
    }
    if asked {
        let mut last = chunk(json!([]));
        last["usage"] = chat_usage(ask);
        bodies.push(last);
    }
    if ask.flavour.filters {
        bodies.insert(0, json!({"id": "", "object": "", "created": 0, "model": "", "prompt_filter_results": filters(), "choices": []}));
    }
    let comments = usize::from(ask.flavour.comments) * 2;
    let mut events = vec![Event::Verbatim(": OPENROUTER PROCESSING\n\n"); comments];
    events.extend(bodies.into_iter().map(|body| Event::Named("", body)));
    ended(ask, events)
}

/// A stream of data that ends as OpenAI's do.
fn ended(ask: &Ask<'_>, mut events: Vec<Event>) -> Answer {
    events.push(Event::Verbatim("data: [DONE]\n\n"));
    let error = Event::Named("", error_body(StatusCode::INTERNAL_SERVER_ERROR));
    Answer::stream(Framing::Data, events, error, billed(ask))
}

fn chat_usage(ask: &Ask<'_>) -> Value {
    let counts = ask.counts();
    let mut total = counts.input + counts.output;
    if ask.flavour.reasoning_beside {
        total += counts.reasoning;
    }
    let mut usage = json!({
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    });
    if counts.cache_write > 0 {
        usage["prompt_tokens_details"]["cache_write_tokens"] = json!(counts.cache_write);
    }
    ask.flavour.add(&mut usage, &counts);
    usage
}

/// `POST /v1/completions`.
pub(crate) fn completions(ask: &Ask<'_>) -> Answer {
    let (input, output) = ask.tokens();
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    let body = |choices: Value, usage: Value| {
        json!({
            "id": format!("cmpl-mock{:012}", ask.serial),
            "object": "text_completion",
            "created": CREATED,
            "model": ask.model(),
            "choices": choices,
            "usage": usage,
        })
    };
    let choice = |index: u64, text: &str, finish: Value| json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish});
    if !ask.streams() {
        let all = (0..choices(ask)).map(|index| choice(index, &ask.text, json!("stop")));
        return Answer::of(body(all.collect(), usage), billed(ask));
    }
    let mut events: Vec<Event> = ask
        .pieces()
        .iter()
        .map(|piece| body(json!([choice(0, piece, Value::Null)]), Value::Null))
        .chain([body(json!([choice(0, "", json!("stop"))]), Value::Null)])
        .map(|body| Event::Named("", body))
        .collect();
    if ends_with_usage(ask) {
        events.push(Event::Named("", body(json!([]), usage)));
    }
    ended(ask, events)
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
    let (input, _) = ask.tokens();
    body["usage"] = json!({"prompt_tokens": input, "total_tokens": input});
    Answer::of(body, ask.counts().input_only())
}

/// `POST /v1/ocr`, which is Mistral's: seven pages, whatever is sent.
pub(crate) fn ocr(ask: &Ask<'_>) -> Answer {
    let pages: Vec<_> = (0..7)
        .map(|index| json!({"index": index, "markdown": ask.text}))
        .collect();
    let billed = Billed {
        pages: 7,
        ..Billed::default()
    };
    let usage = json!({"pages_processed": 7, "doc_size_bytes": 10_000});
    let body =
        json!({"pages": pages, "model": ask.model_or("mistral-ocr-latest"), "usage_info": usage});
    Answer::of(body, billed)
}

/// `POST /v1/moderations`, which are free.
pub(crate) fn moderations(ask: &Ask<'_>) -> Answer {
    let result = json!({"flagged": false, "categories": {}, "category_scores": {}});
    let id = format!("modr-mock{:012}", ask.serial);
    Answer::free(
        json!({"id": id, "model": ask.model_or("omni-moderation-latest"), "results": [result]}),
    )
}

/// `GET /v1/models`.
pub(crate) fn models() -> Answer {
    let model = |id| json!({"id": id, "object": "model", "created": CREATED, "owned_by": "mock"});
    let body = json!({"object": "list", "data": [model("gpt-4o-mini"), model("gpt-4o"), model("text-embedding-3-small")]});
    Answer::free(body)
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
    Answer::free(answer)
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
