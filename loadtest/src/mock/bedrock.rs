//! Answers in Amazon Bedrock's shapes: Converse, and InvokeModel in its models' own languages.
//!
//! Streams are Amazon's binary frames. InvokeModel speaks as Anthropic, Amazon's Nova and Titan or
//! Meta's Llama, whichever the model's id names.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Content};
use super::anthropic;
use super::ask::Ask;
use super::frames::{Event, Framing};

/// What stands after the model in a path, answered.
pub(crate) fn call(ask: &Ask<'_>, verb: &str) -> Answer {
    match verb {
        "converse" => converse(ask),
        "converse-stream" => converse_stream(ask, Framing::Amazon),
        "invoke" => invoke(ask),
        "invoke-with-response-stream" => invoke_stream(ask),
        _ => error(StatusCode::NOT_FOUND),
    }
}

fn usage(ask: &Ask<'_>) -> Value {
    let counts = ask.counts();
    let mut usage = json!({
        "inputTokens": counts.input,
        "outputTokens": counts.output,
        "totalTokens": counts.input + counts.output + counts.cached + counts.cache_write,
    });
    if counts.cached + counts.cache_write > 0 {
        usage["cacheReadInputTokens"] = json!(counts.cached);
        usage["cacheWriteInputTokens"] = json!(counts.cache_write);
    }
    usage
}

fn converse(ask: &Ask<'_>) -> Answer {
    let body = json!({
        "metrics": {"latencyMs": 12},
        "output": {"message": {"content": [{"text": ask.text}], "role": "assistant"}},
        "stopReason": "end_turn",
        "usage": usage(ask),
    });
    Answer::of(body, ask.counts().beside_cache())
}

fn converse_stream(ask: &Ask<'_>, framing: Framing) -> Answer {
    // Nova's own stream has the same events, each under its name.
    let event = |name: &'static str, body: Value| match framing {
        Framing::AmazonChunks => Event::Named(name, json!({name: body})),
        _ => Event::Named(name, body),
    };
    let mut events = vec![event("messageStart", json!({"role": "assistant"}))];
    for piece in ask.pieces() {
        let delta = json!({"contentBlockIndex": 0, "delta": {"text": piece}, "p": "abcdefgh"});
        events.push(event("contentBlockDelta", delta));
    }
    events.push(event("contentBlockStop", json!({"contentBlockIndex": 0})));
    events.push(event("messageStop", json!({"stopReason": "end_turn"})));
    let end = json!({"metrics": {"latencyMs": 12}, "usage": usage(ask), "p": "abcd"});
    let mut end = event("metadata", end);
    if let (Framing::AmazonChunks, Event::Named(_, body)) = (framing, &mut end) {
        metrics(ask, body);
    }
    events.push(end);
    Answer::stream(framing, events, exception(), ask.counts().beside_cache())
}

fn exception() -> Event {
    Event::Named(
        "internalServerException",
        json!({"message": "mock error in the stream"}),
    )
}

fn invoke(ask: &Ask<'_>) -> Answer {
    let counts = ask.counts();
    let model = ask.model();
    let mut answer = if model.contains("anthropic.") {
        anthropic::messages(ask)
    } else if model.contains("amazon.nova") {
        converse(ask)
    } else if model.contains("embed") {
        let body = json!({"embedding": [0.25, 0.5, 1.0], "inputTextTokenCount": counts.input});
        Answer::of(body, counts.input_only())
    } else if model.contains("meta.llama") {
        let body = json!({
            "generation": ask.text, "prompt_token_count": counts.input,
            "generation_token_count": counts.output, "stop_reason": "stop",
        });
        Answer::of(body, counts.inclusive())
    } else {
        let result = json!({"tokenCount": counts.output, "outputText": ask.text, "completionReason": "FINISH"});
        let body = json!({"inputTextTokenCount": counts.input, "results": [result]});
        Answer::of(body, counts.inclusive())
    };
    if ask.steering.lie.is_none() {
        for (name, count) in [
            ("x-amzn-bedrock-input-token-count", counts.input),
            ("x-amzn-bedrock-output-token-count", counts.output),
            ("x-amzn-bedrock-cache-read-input-token-count", counts.cached),
            (
                "x-amzn-bedrock-cache-write-input-token-count",
                counts.cache_write,
            ),
        ] {
            answer.header(name, count.to_string());
        }
    }
    answer
}

fn invoke_stream(ask: &Ask<'_>) -> Answer {
    if ask.model().contains("amazon.nova") {
        return converse_stream(ask, Framing::AmazonChunks);
    }
    if !ask.model().contains("anthropic.") {
        return error(StatusCode::BAD_REQUEST);
    }
    let mut answer = anthropic::stream(ask);
    if let Content::Stream {
        framing,
        events,
        error,
    } = &mut answer.content
    {
        *framing = Framing::AmazonChunks;
        *error = exception();
        if let Some(Event::Named(_, last)) = events.last_mut() {
            metrics(ask, last);
        }
    }
    answer.headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(Framing::AmazonChunks.content_type()),
    );
    answer
}

/// What Amazon adds to the last event, whatever the model says itself.
fn metrics(ask: &Ask<'_>, last: &mut Value) {
    let counts = ask.counts();
    let mut metrics = json!({
        "inputTokenCount": counts.input, "outputTokenCount": counts.output,
        "invocationLatency": 12, "firstByteLatency": 3,
    });
    if counts.cached + counts.cache_write > 0 {
        metrics["cacheReadInputTokenCount"] = json!(counts.cached);
        metrics["cacheWriteInputTokenCount"] = json!(counts.cache_write);
    }
    last["amazon-bedrock-invocationMetrics"] = metrics;
}

/// An error of Amazon's shape.
pub(crate) fn error(status: StatusCode) -> Answer {
    let kind = match status.as_u16() {
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    };
    let message = format!("mock error {}", status.as_u16());
    let mut answer = Answer::json(status, json!({"message": message}).to_string());
    answer.header("x-amzn-errortype", kind);
    answer
}
