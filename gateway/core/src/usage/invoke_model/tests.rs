use proptest::prelude::*;

use super::*;
use crate::policy::Operation;
use crate::usage::aws_events::tests::event;
use crate::usage::{Framing, Meter, Relay};

fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        output_tokens,
        ..Usage::default()
    }
}

fn head(counts: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, count) in counts {
        headers.insert(*name, count.parse().expect("a value"));
    }
    headers
}

fn read(framing: Framing, headers: &HeaderMap, bytes: &[u8]) -> Reading {
    let mut meter = Meter::new(Operation::InvokeModel, framing, false);
    meter.heed(headers);
    assert_eq!(meter.feed(bytes), Relay::Unchanged);
    meter.finish()
}

fn plain(text: &str) -> Reading {
    read(Framing::Document, &HeaderMap::new(), text.as_bytes())
}

/// A stream of these inner events.
fn stream(events: &[&str]) -> Vec<u8> {
    let wrapped = events.iter().map(|inner| {
        let payload = format!(
            "{{\"bytes\":\"{}\",\"p\":\"ab\"}}",
            BASE64_STANDARD.encode(inner)
        );
        event("chunk", payload.as_bytes())
    });
    wrapped.collect::<Vec<_>>().concat()
}

fn streamed(events: &[&str]) -> Reading {
    read(Framing::AwsEvents, &HeaderMap::new(), &stream(events))
}

const METRICS: &str = r#""amazon-bedrock-invocationMetrics":{"inputTokenCount":40,
    "outputTokenCount":222,"invocationLatency":1,"firstByteLatency":1}"#;

#[test]
fn each_models_own_words_are_understood() {
    for (text, expected) in [
        (
            r#"{"type":"message","content":[{"type":"text","text":"a"}],"stop_reason":"end_turn",
                "usage":{"input_tokens":3,"output_tokens":4}}"#,
            usage(3, 4),
        ),
        (
            r#"{"output":{},"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":4,
                "totalTokens":7,"cacheReadInputTokenCount":0,"cacheWriteInputTokenCount":0}}"#,
            usage(3, 4),
        ),
        (
            r#"{"inputTextTokenCount":3,"results":[{"tokenCount":1,"outputText":"a"},
                {"tokenCount":3,"outputText":"b"}]}"#,
            usage(3, 4),
        ),
        (
            r#"{"embedding":[0.1,0.2],"inputTextTokenCount":3}"#,
            usage(3, 0),
        ),
        (
            r#"{"generation":"a","prompt_token_count":3,"generation_token_count":4}"#,
            usage(3, 4),
        ),
        (
            r#"{"text":"a","meta":{"billed_units":{"input_tokens":3.0,"output_tokens":4.0}}}"#,
            usage(3, 4),
        ),
        (
            r#"{"choices":[{"message":{}}],"usage":{"prompt_tokens":3,"completion_tokens":4,
                "prompt_tokens_details":{"cached_tokens":2},
                "completion_tokens_details":{"reasoning_tokens":1}}}"#,
            Usage {
                cached_input_tokens: 2,
                reasoning_tokens: 1,
                ..usage(3, 4)
            },
        ),
        (
            r#"{"results":[{"index":0}],"meta":{"billed_units":{"search_units":1}}}"#,
            Usage {
                search_units: 1,
                ..Usage::default()
            },
        ),
    ] {
        let reading = plain(text);
        assert_eq!(reading.metered, Metered::Exact(expected), "{text}");
        assert!(reading.output_bytes > 0);
    }
}

#[test]
fn the_models_own_name_is_not_kept() {
    let text = r#"{"type":"message","model":"claude-haiku-4-5","usage":{"input_tokens":1,"output_tokens":1}}"#;
    assert_eq!(plain(text).response_model, None);
}

#[test]
fn the_head_counts_only_where_the_body_says_nothing() {
    let both = head(&[
        ("x-amzn-bedrock-input-token-count", "500"),
        ("x-amzn-bedrock-output-token-count", "230"),
        ("x-amzn-bedrock-cache-read-input-token-count", "1000"),
        ("x-amzn-bedrock-cache-write-input-token-count", "10"),
    ]);
    let of_head = Usage {
        cached_input_tokens: 1000,
        cache_write_tokens: 10,
        ..usage(1510, 230)
    };
    for (body, expected) in [
        (r#"{"outputs":[{"text":"a"}]}"#, of_head),
        (r#"{"outputs":[{"text":"#, of_head),
        ("", of_head),
        (
            r#"{"prompt_token_count":3,"generation_token_count":4}"#,
            usage(3, 4),
        ),
        (
            r#"{"type":"message","usage":{"input_tokens":3,"output_tokens":4}}"#,
            usage(3, 4),
        ),
    ] {
        let reading = read(Framing::Document, &both, body.as_bytes());
        assert_eq!(reading.metered, Metered::Exact(expected), "{body}");
    }
    let input = head(&[("x-amzn-bedrock-input-token-count", " 500 ")]);
    for (body, metered) in [
        (r#"{"embeddings":[[0.1]]}"#, Metered::Exact(usage(500, 0))),
        (
            r#"{"outputs":[{"text":"a"}]}"#,
            Metered::Partial(usage(500, 0)),
        ),
    ] {
        assert_eq!(
            read(Framing::Document, &input, body.as_bytes()).metered,
            metered
        );
    }
    let odd = head(&[("x-amzn-bedrock-input-token-count", "-5")]);
    assert_eq!(
        read(Framing::Document, &odd, b"{}").metered,
        Metered::Unknown
    );
}

#[test]
fn streams_are_final_with_amazons_own_count_which_is_not_added() {
    let titan = format!(
        r#"{{"outputText":"b","inputTextTokenCount":40,"totalOutputTextTokenCount":222,{METRICS}}}"#
    );
    let nova =
        format!(r#"{{"metadata":{{"usage":{{"inputTokens":40,"outputTokens":222}}}},{METRICS}}}"#);
    let llama = format!(
        r#"{{"generation":"b","prompt_token_count":null,"generation_token_count":222,{METRICS}}}"#
    );
    for (first, last) in [
        (
            r#"{"outputText":"a","totalOutputTextTokenCount":null}"#,
            titan.as_str(),
        ),
        (r#"{"contentBlockDelta":{"delta":{"text":"a"}}}"#, &nova),
        (
            r#"{"generation":"a","prompt_token_count":40,"generation_token_count":1}"#,
            &llama,
        ),
        (
            r#"{"outputs":[{"text":"a","stop_reason":null}]}"#,
            &format!("{{{METRICS}}}"),
        ),
    ] {
        let reading = streamed(&[first, last]);
        assert_eq!(reading.metered, Metered::Exact(usage(40, 222)), "{first}");
        let begun = streamed(&[first]);
        assert!(!matches!(begun.metered, Metered::Exact(_)), "{first}");
        assert!(begun.output_bytes > 0, "{first}");
    }
}

const START: &str = r#"{"type":"message_start","message":{"usage":{"input_tokens":30,
    "cache_creation_input_tokens":10,"cache_creation":{"ephemeral_1h_input_tokens":10},
    "output_tokens":1}}}"#;

#[test]
fn claudes_lifetimes_are_kept_where_its_last_words_are_lost() {
    let lost = r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":30,
        "outputTokenCount":9,"cacheWriteInputTokenCount":10}}"#;
    let expected = Usage {
        cache_write_1h_tokens: 10,
        ..usage(40, 9)
    };
    assert_eq!(streamed(&[START, lost]).metered, Metered::Exact(expected));
    let odd = START.replace("_1h_input_tokens\":10", "_1h_input_tokens\":\"?\"");
    assert!(matches!(
        streamed(&[&odd, lost]).metered,
        Metered::Partial(_)
    ));
}

#[test]
fn claudes_stream_cut_short_is_partial_and_its_text_measured() {
    let delta = r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hello"}}"#;
    let reading = streamed(&[START, delta]);
    assert!(matches!(reading.metered, Metered::Partial(usage) if usage.input_tokens == 40));
    assert_eq!(reading.output_bytes, 5);
}

#[test]
fn events_that_cannot_be_decoded_are_passed_over() {
    let last = format!("{{{METRICS}}}");
    let mut bytes = event("chunk", br#"{"bytes":"no base64!"}"#);
    bytes.extend(event("chunk", br#"{"bytes":7}"#));
    bytes.extend(stream(&["no JSON", &last]));
    let reading = read(Framing::AwsEvents, &HeaderMap::new(), &bytes);
    assert_eq!(reading.metered, Metered::Exact(usage(40, 222)));
}

#[test]
fn an_odd_count_is_never_final() {
    for text in [
        r#"{"inputTextTokenCount":3,"results":[{"tokenCount":1},{"tokenCount":"?"}]}"#,
        r#"{"prompt_token_count":3,"generation_token_count":4,"inputTextTokenCount":-1}"#,
        r#"{"usage":{"inputTokens":3,"outputTokens":4,"cacheReadInputTokenCount":0.5}}"#,
        r#"{"text":"a","meta":{"billed_units":{"input_tokens":3,"output_tokens":4,"search_units":[]}}}"#,
    ] {
        let metered = plain(text).metered;
        assert!(
            matches!(metered, Metered::Partial(_)),
            "{text}: {metered:?}"
        );
    }
}

#[test]
fn models_that_state_nothing_are_unknown_but_not_empty() {
    for text in [r#"{"images":["aGk="]}"#, r#"{"completion":"a"}"#, "no JSON"] {
        let reading = plain(text);
        assert_eq!(reading.metered, Metered::Unknown, "{text}");
        assert!(reading.output_bytes > 0, "{text}");
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_pass_unchanged_under_every_framing(
        pieces in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..40), 0..12),
        good in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let inner = format!("{{{METRICS}}}");
        let event = stream(&[&inner]);
        for operation in [
            Operation::GenerateContent,
            Operation::EmbedContent,
            Operation::Converse,
            Operation::InvokeModel,
        ] {
            for framing in [
                Framing::Document,
                Framing::Events,
                Framing::Lines,
                Framing::AwsEvents,
            ] {
                let mut meter = Meter::new(operation, framing, false);
                for (piece, good) in pieces.iter().zip(&good) {
                    let piece = if *good { &event } else { piece };
                    prop_assert_eq!(meter.feed(piece), Relay::Unchanged);
                }
                prop_assert!(meter.end().is_empty());
                let _ = meter.finish();
            }
        }
    }
}
