use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

mod dialects;
mod hostile;

/// Which operation serves a vector's endpoint; `None` where none does yet.
fn operation_of(provider: &str, endpoint: &str) -> Option<Operation> {
    Some(match (provider, endpoint) {
        ("openai" | "x-ai", "/v1/responses") => Operation::Responses,
        ("openai", "/v1/completions") => Operation::Completions,
        ("openai", "/v1/embeddings") => Operation::Embeddings,
        ("openai", "/v1/images/generations") => Operation::ImageGenerations,
        ("openai", "/v1/images/edits") => Operation::ImageEdits,
        ("openai", "/v1/audio/speech") => Operation::Speech,
        ("openai", "/v1/moderations") => Operation::Free,
        ("openai", "/v1/batches (output file line)") => Operation::BatchOutput,
        // The gateway relays no realtime session; the event has the form of a response.
        ("openai", "wss /v1/realtime (response.done event)") => Operation::Responses,
        ("anthropic", "/v1/messages") => Operation::Messages,
        ("anthropic", "/v1/messages/count_tokens") => Operation::Free,
        ("anthropic", path) if path.contains("/batches/") => Operation::MessageBatchResults,
        ("google", path) if path.contains("/publishers/anthropic/") => Operation::Messages,
        ("google", path) if path.contains("enerateContent") => Operation::GenerateContent,
        ("aws", path) if path.contains("/converse") => Operation::Converse,
        ("aws", path) if path.contains("/invoke") => Operation::InvokeModel,
        ("mistral", "/v1/ocr") => Operation::Ocr,
        ("cohere", "/v2/chat") => Operation::CohereChat,
        ("cohere", "/v2/embed") => Operation::CohereEmbed,
        ("cohere", "/v2/rerank") => Operation::Rerank,
        ("ollama", "/api/chat") => Operation::OllamaChat,
        (_, path) if path.contains("/chat/completions") => Operation::ChatCompletions,
        (_, path) if path.ends_with("/audio/transcriptions") => Operation::Transcriptions,
        _ => return None,
    })
}

/// Every vector that is read, with its operation.
pub(crate) fn every_vector() -> Vec<(Operation, Value)> {
    let file: Value = serde_json::from_str(include_str!("../../testdata/usage_vectors.json"))
        .expect("the vectors are JSON");
    let cases = file["cases"].as_array().expect("a list of cases").clone();
    let covered: Vec<_> = cases
        .into_iter()
        .filter_map(|case| {
            let operation = operation_of(case["provider"].as_str()?, case["endpoint"].as_str()?)?;
            Some((operation, case))
        })
        .collect();
    assert_eq!(covered.len(), 94, "all of them");
    covered
}

pub(crate) fn is_stream(case: &Value) -> bool {
    case["streaming"] == Value::Bool(true)
}

pub(crate) fn answer(case: &Value) -> Vec<u8> {
    if let Some(text) = case["response_text"].as_str() {
        return text.as_bytes().to_vec();
    }
    match case["response_base64"].as_str() {
        Some(text) => BASE64_STANDARD.decode(text).expect("base64"),
        None => case["response_body"].to_string().into_bytes(),
    }
}

/// A meter for the answer of `case`, framed as its content type says, that has seen its head.
fn meter_of(operation: Operation, case: &Value) -> Meter {
    let kind = case["content_type"].as_str().map(str::as_bytes);
    let framing = Framing::of(operation, kind, is_stream(case));
    let mut meter = Meter::new(operation, framing, false);
    let mut headers = HeaderMap::new();
    for (name, value) in case["response_headers"].as_object().into_iter().flatten() {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        let value = value.as_str().expect("text").parse().expect("a value");
        headers.insert(name, value);
    }
    meter.heed(&headers);
    meter
}

/// Feeds `pieces` and returns what is relayed and read.
fn run<'a>(mut meter: Meter, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Reading) {
    let mut relayed = Vec::new();
    for piece in pieces {
        match meter.feed(piece) {
            Relay::Unchanged => relayed.extend_from_slice(piece),
            Relay::Instead(bytes) => relayed.extend_from_slice(bytes),
        }
    }
    relayed.extend(meter.end());
    (relayed, meter.finish())
}

fn meter(operation: Operation, stream: bool, withhold: bool) -> Meter {
    let framing = if stream {
        Framing::Events
    } else {
        Framing::Document
    };
    Meter::new(operation, framing, withhold)
}

fn read(operation: Operation, stream: bool, bytes: &[u8]) -> Reading {
    run(meter(operation, stream, false), [bytes]).1
}

pub(crate) fn read_vector(operation: Operation, case: &Value) -> Reading {
    run_vector(operation, case, [answer(case).as_slice()]).1
}

/// Feeds `pieces` of the answer of `case`, or of a file with it as the only line of results.
fn run_vector<'a>(
    operation: Operation,
    case: &Value,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Reading) {
    if !matches!(
        operation,
        Operation::BatchOutput | Operation::MessageBatchResults
    ) {
        return run(meter_of(operation, case), pieces);
    }
    let mut results = batch::Results::new(operation);
    let (mut passed, mut lines) = (Vec::new(), Vec::new());
    for piece in pieces {
        passed.extend_from_slice(piece);
        results.feed(piece, |line| lines.push(line));
    }
    results.finish(|line| lines.push(line));
    match lines.pop() {
        Some(batch::Line::Used(reading)) if lines.is_empty() => (passed, *reading),
        _ => (passed, Reading::nothing()),
    }
}

/// The usage that the vector of an operation expects.
fn expected(operation: Operation, case: &Value) -> Option<Usage> {
    let expected = case["expected"].as_object()?;
    let count = |name: &str| expected.get(name).and_then(Value::as_u64).unwrap_or(0);
    let output_tokens = count("output_tokens").max(count("output_tokens_lower_bound"));
    let images = matches!(
        operation,
        Operation::ImageGenerations | Operation::ImageEdits
    );
    Some(Usage {
        input_tokens: count("input_tokens"),
        cached_input_tokens: count("cached_input_tokens"),
        cache_write_tokens: count("cache_write_tokens") - count("cache_write_1h_tokens"),
        cache_write_1h_tokens: count("cache_write_1h_tokens"),
        output_tokens,
        reasoning_tokens: count("reasoning_tokens"),
        input_audio_tokens: count("input_audio_tokens"),
        cached_audio_tokens: count("cached_audio_tokens"),
        output_audio_tokens: count("output_audio_tokens"),
        input_image_tokens: count("input_image_tokens"),
        cached_image_tokens: count("cached_image_tokens"),
        // The vectors leave these out where the answer does not split its output. The models there
        // have one rate for all output; where another has two, output of images is the dearer.
        output_image_tokens: match expected.get("output_image_tokens") {
            None if images => output_tokens,
            _ => count("output_image_tokens"),
        },
        tool_input_tokens: count("tool_input_tokens"),
        web_searches: count("web_search_requests"),
        file_searches: count("file_search_requests"),
        search_units: count("search_units"),
        pages: count("pages"),
        audio_ms: count("billed_audio_seconds") * 1_000,
        ..Usage::default()
    })
}

#[test]
fn every_vector_is_read_as_expected() {
    for (operation, case) in every_vector() {
        let id = &case["id"];
        if case["http_status"] != 200 {
            continue; // not metered: providers bill no refused call
        }
        let reading = read_vector(operation, &case);
        if operation == Operation::Free {
            assert_eq!(reading, Reading::nothing(), "{id}");
            continue;
        }
        let source = match reading.metered {
            Metered::Exact(_) => "provider",
            Metered::Partial(_) => "partial",
            // What the request says is for the pricer, which has it.
            Metered::Unknown if case["usage_source"] == "request" => {
                assert_eq!(reading, Reading::nothing(), "{id}");
                continue;
            }
            Metered::Unknown => "none",
        };
        assert_eq!(source, case["usage_source"], "{id}");
        assert_eq!(reading.total(), expected(operation, &case), "{id}");
        let cost = case["provider_reported_cost_usd"].as_str();
        let cost = cost.map(|cost| cost.parse().expect("an amount"));
        assert_eq!(reading.reported_cost, cost, "{id}");
        let text = String::from_utf8_lossy(&answer(&case)).into_owned();
        let model = reading.response_model.unwrap_or_default();
        let says = |key: &str, model: &str| text.contains(&format!("\"{key}\":{model}"));
        let named = case["model"].to_string();
        if case["provider"] == "aws" {
            // Bedrock's answers are priced by the id in the request's path.
            assert_eq!(model, "", "{id}");
        } else if says("model", &named) || says("modelVersion", &named) {
            assert_eq!(case["model"], model, "{id}");
        } else {
            assert_eq!(says("model", ""), !model.is_empty(), "{id}");
        }
    }
}

#[test]
fn any_split_and_either_line_end_gives_the_same_reading_and_relays_every_byte() {
    for (operation, case) in every_vector() {
        let whole = read_vector(operation, &case);
        let mut answers = vec![answer(&case)];
        if let Ok(text) = String::from_utf8(answer(&case)) {
            answers.push(text.replace('\n', "\r\n").into_bytes());
            answers.dedup();
        }
        for bytes in answers {
            for cut in 0..=bytes.len() {
                let pieces = [&bytes[..cut], &bytes[cut..]];
                let (relayed, reading) = run_vector(operation, &case, pieces);
                assert_eq!(relayed, bytes);
                assert_eq!(reading, whole, "{} cut at {cut}", case["id"]);
            }
            for step in [1, 2, 7] {
                let (_, reading) = run_vector(operation, &case, bytes.chunks(step));
                assert_eq!(reading, whole, "{} by {step}", case["id"]);
            }
        }
    }
}

#[test]
fn a_stream_cut_anywhere_is_never_exact_unless_nothing_more_would_be_billed() {
    for (operation, case) in every_vector() {
        if !is_stream(&case) {
            continue;
        }
        let bytes = answer(&case);
        let whole = read_vector(operation, &case);
        for cut in 0..bytes.len() {
            let reading = run_vector(operation, &case, [&bytes[..cut]]).1;
            if let Metered::Exact(_) = reading.metered {
                assert_eq!(reading.metered, whole.metered, "{} at {cut}", case["id"]);
            }
            if let (Some(part), Some(all)) = (reading.total(), whole.total()) {
                assert!(part.output_tokens <= all.output_tokens, "{}", case["id"]);
            }
        }
    }
}

#[test]
fn the_injected_usage_chunk_is_taken_out_and_nothing_else() {
    let (operation, case) = every_vector()
        .into_iter()
        .find(|(_, case)| case["id"] == "openai-chat-004-stream-usage")
        .expect("the vector");
    for line_end in ["\n", "\r\n"] {
        let text = String::from_utf8(answer(&case))
            .expect("UTF-8")
            .replace('\n', line_end);
        let end = format!("{line_end}{line_end}");
        let kept: Vec<&str> = text
            .split_inclusive(&end)
            .filter(|event| !event.contains("\"choices\":[]"))
            .collect();
        let kept = kept.concat();
        assert!(kept.len() < text.len());
        let bytes = text.as_bytes();
        for cut in 0..=bytes.len() {
            let meter = meter(operation, true, true);
            let (relayed, reading) = run(meter, [&bytes[..cut], &bytes[cut..]]);
            assert_eq!(String::from_utf8_lossy(&relayed), kept, "cut at {cut}");
            assert!(matches!(reading.metered, Metered::Exact(_)));
        }
        let (relayed, _) = run(meter(operation, true, true), bytes.chunks(1));
        assert_eq!(relayed, kept.as_bytes());
    }
}

#[test]
fn whole_events_pass_without_a_copy_while_a_chunk_is_withheld() {
    let mut metered = meter(Operation::ChatCompletions, true, true);
    let event = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    assert_eq!(metered.feed(event), Relay::Unchanged);
    assert_eq!(metered.feed(&event[..9]), Relay::Instead(b""));
    assert_eq!(metered.feed(&event[9..]), Relay::Instead(event));
    assert_eq!(metered.feed(event), Relay::Unchanged);
    assert_eq!(metered.finish().output_bytes, 3);
}

#[test]
fn an_answer_too_large_to_read_is_relayed_and_its_usage_unknown() {
    let megabyte = vec![b' '; 1024 * 1024];
    let pieces = vec![megabyte.as_slice(); 9];
    for (operation, stream) in [
        (Operation::Responses, false),
        (Operation::ChatCompletions, false),
        (Operation::ChatCompletions, true),
    ] {
        let meter = meter(operation, stream, stream);
        let (relayed, reading) = run(meter, pieces.clone());
        assert_eq!(relayed.len(), 9 * megabyte.len(), "stream: {stream}");
        assert_eq!(reading.metered, Metered::Unknown);
        assert_eq!(reading.output_bytes, 9 * 1024 * 1024);
    }
}

#[test]
fn a_plain_answer_of_any_length_is_read_where_usage_stands_beside_its_bulk() {
    let vector = format!("{{\"embedding\":[{}0]}},", "0.015625,".repeat(1_000));
    let body = format!(
        "{{\"object\":\"list\",\"data\":[{}{{}}],\"model\":\"m\",\
         \"usage\":{{\"prompt_tokens\":9,\"total_tokens\":9}}}}",
        vector.repeat(1_200)
    );
    assert!(body.len() > MAX_BODY_BYTES);
    let meter = meter(Operation::Embeddings, false, false);
    let reading = run(meter, body.as_bytes().chunks(16 * 1024)).1;
    assert!(matches!(reading.metered, Metered::Exact(usage) if usage.input_tokens == 9));
    assert_eq!(reading.response_model.as_deref(), Some("m"));
}

#[test]
fn the_framing_follows_the_content_type_else_what_was_asked_for() {
    for (kind, asked, framing) in [
        (Some("text/event-stream"), false, Framing::Events),
        (
            Some("Text/Event-Stream; charset=utf-8"),
            false,
            Framing::Events,
        ),
        (Some("application/json"), true, Framing::Document),
        (Some("text/event"), true, Framing::Document),
        (Some("application/x-ndjson"), true, Framing::Lines),
        (
            Some("application/vnd.amazon.eventstream"),
            true,
            Framing::AwsEvents,
        ),
        (None, true, Framing::Events),
        (None, false, Framing::Document),
    ] {
        let found = Framing::of(Operation::ChatCompletions, kind.map(str::as_bytes), asked);
        assert_eq!(found, framing, "{kind:?}");
    }
}
