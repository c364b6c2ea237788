//! Answers in Google's shapes, as the Gemini API and Vertex AI give them.
//!
//! Thoughts count beside the candidates' tokens; usage grows from event to event.

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Answer;
use super::ask::Ask;
use super::frames::{Event, Framing};

/// What stands after the colon of a path, answered.
pub(crate) fn call(ask: &Ask<'_>, verb: &str, query: &str) -> Answer {
    match verb {
        "generateContent" => Answer::of(
            chunk(ask, &ask.text, json!("STOP"), ask.tokens().1),
            ask.counts().beside_reasoning(),
        ),
        "streamGenerateContent" => stream(ask, query.split('&').any(|pair| pair == "alt=sse")),
        "embedContent" => embedded(ask, json!({"embedding": vector()})),
        "batchEmbedContents" => {
            let items = ask.body.get("requests").and_then(Value::as_array);
            let vectors = vec![vector(); items.map_or(1, Vec::len)];
            embedded(ask, json!({"embeddings": vectors}))
        }
        "predict" => predict(ask),
        "countTokens" => {
            let (input, _) = ask.tokens();
            Answer::free(json!({"totalTokens": input, "promptTokensDetails": details(input)}))
        }
        _ => error(StatusCode::NOT_FOUND),
    }
}

fn stream(ask: &Ask<'_>, sse: bool) -> Answer {
    let pieces = ask.pieces();
    let (_, output) = ask.tokens();
    let events: Vec<_> = pieces
        .iter()
        .enumerate()
        .map(|(index, piece)| {
            let last = index + 1 == pieces.len();
            let so_far = output * (index as u64 + 1) / pieces.len() as u64;
            let finish = if last { json!("STOP") } else { Value::Null };
            Event::Named("", chunk(ask, piece, finish, so_far))
        })
        .collect();
    let framing = if sse { Framing::Data } else { Framing::Array };
    let error = Event::Named("", error_body(StatusCode::INTERNAL_SERVER_ERROR));
    Answer::stream(framing, events, error, ask.counts().beside_reasoning())
}

fn chunk(ask: &Ask<'_>, text: &str, finish: Value, output: u64) -> Value {
    let counts = ask.counts();
    let candidate = |index: u64| {
        let mut candidate =
            json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": index});
        if !finish.is_null() {
            candidate["finishReason"] = finish.clone();
        }
        candidate
    };
    let wanted = ask.body.pointer("/generationConfig/candidateCount");
    let wanted = wanted.and_then(Value::as_u64).unwrap_or(1).clamp(1, 8);
    let mut usage = json!({
        "promptTokenCount": counts.input,
        "candidatesTokenCount": output,
        "totalTokenCount": counts.input + output + counts.reasoning,
        "promptTokensDetails": details(counts.input),
    });
    if counts.cached > 0 {
        usage["cachedContentTokenCount"] = json!(counts.cached);
        usage["cacheTokensDetails"] = details(counts.cached);
    }
    if counts.reasoning > 0 {
        usage["thoughtsTokenCount"] = json!(counts.reasoning);
    }
    json!({
        "candidates": (0..wanted).map(candidate).collect::<Vec<_>>(),
        "usageMetadata": usage,
        "modelVersion": ask.model_or("gemini-2.5-flash"),
        "responseId": format!("mock{:012}", ask.serial),
    })
}

fn details(tokens: u64) -> Value {
    json!([{"modality": "TEXT", "tokenCount": tokens}])
}

fn vector() -> Value {
    json!({"values": [0.25, 0.5, 1.0]})
}

fn embedded(ask: &Ask<'_>, mut body: Value) -> Answer {
    let (input, _) = ask.tokens();
    body["usageMetadata"] =
        json!({"promptTokenCount": input, "promptTokenDetails": details(input)});
    Answer::of(body, ask.counts().input_only())
}

/// Vertex AI's embeddings, which count each text for itself.
fn predict(ask: &Ask<'_>) -> Answer {
    let (input, _) = ask.tokens();
    let texts = ask.body.get("instances").and_then(Value::as_array);
    let texts = texts.map_or(1, Vec::len).max(1) as u64;
    let predictions: Vec<_> = (0..texts)
        .map(|index| {
            let tokens = input / texts + u64::from(index < input % texts);
            let statistics = json!({"token_count": tokens, "truncated": false});
            json!({"embeddings": {"values": [0.25, 0.5, 1.0], "statistics": statistics}})
        })
        .collect();
    Answer::of(
        json!({"predictions": predictions}),
        ask.counts().input_only(),
    )
}

/// `GET /v1beta/models`.
pub(crate) fn models() -> Answer {
    let model = json!({
        "name": "models/gemini-2.5-flash", "displayName": "Gemini 2.5 Flash",
        "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    });
    Answer::free(json!({"models": [model]}))
}

/// An error of Google's shape.
pub(crate) fn error(status: StatusCode) -> Answer {
    Answer::json(status, error_body(status).to_string())
}

fn error_body(status: StatusCode) -> Value {
    let word = match status.as_u16() {
        400 | 413 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "FAILED_PRECONDITION",
    };
    let code = status.as_u16();
    json!({"error": {"code": code, "message": format!("mock error {code}"), "status": word}})
}
