use proptest::prelude::*;

use super::*;
use crate::policy::Operation;
use crate::usage::aws_events::tests::{event, frame};
use crate::usage::{Framing, Meter, Relay};

fn read(framing: Framing, bytes: &[u8]) -> Reading {
    let mut meter = Meter::new(Operation::Converse, framing, false);
    assert_eq!(meter.feed(bytes), Relay::Unchanged);
    meter.finish()
}

fn plain(text: &str) -> Reading {
    read(Framing::Document, text.as_bytes())
}

const METADATA: &[u8] = br#"{"usage":{"inputTokens":30,"outputTokens":628,"totalTokens":658},
    "serviceTier":{"type":"flex"},"performanceConfig":{"latency":"optimized"},"p":"abcd"}"#;

fn text_event() -> Vec<u8> {
    let payload = br#"{"contentBlockIndex":0,"delta":{"text":"Hello"},"p":"abcdefgh"}"#;
    event("contentBlockDelta", payload)
}

#[test]
fn what_was_cached_is_added_and_its_lifetime_kept_under_either_name() {
    let usage = Usage {
        input_tokens: 603,
        cached_input_tokens: 400,
        cache_write_tokens: 150,
        cache_write_1h_tokens: 50,
        output_tokens: 7,
        ..Usage::default()
    };
    for text in [
        r#"{"usage":{"inputTokens":3,"outputTokens":7,"cacheReadInputTokens":400,
            "cacheWriteInputTokens":200,"cacheReadInputTokenCount":400,"cacheWriteInputTokenCount":200,
            "cacheDetails":[{"ttl":"1h","inputTokens":50},{"ttl":"5m","inputTokens":150}]}}"#,
        r#"{"usage":{"inputTokens":3,"outputTokens":7.0,"cacheReadInputTokenCount":400,
            "cacheWriteInputTokenCount":200,"cacheDetails":[{"ttl":"1h","inputTokens":50}]}}"#,
        r#"{"usage":{"inputTokens":3,"outputTokens":7,"cacheReadInputTokens":400,
            "cacheDetails":[{"ttl":"1h","inputTokens":50},{"inputTokens":150}]}}"#,
    ] {
        assert_eq!(plain(text).metered, Metered::Exact(usage), "{text}");
    }
}

#[test]
fn a_stream_is_final_with_its_metadata() {
    let mut stream = event("messageStart", br#"{"role":"assistant"}"#);
    stream.extend(text_event());
    let begun = stream.len();
    stream.extend(event("metadata", METADATA));
    let reading = read(Framing::AwsEvents, &stream);
    assert!(matches!(reading.metered, Metered::Exact(usage) if usage.output_tokens == 628));
    assert_eq!(reading.output_bytes, 5, "padding is no text");
    assert_eq!(reading.terms.service_tier.as_deref(), Some("flex"));
    assert_eq!(reading.terms.speed.as_deref(), Some("optimized"));
    for cut in begun..stream.len() {
        let reading = read(Framing::AwsEvents, &stream[..cut]);
        assert_eq!(reading.metered, Metered::Unknown);
        assert!(reading.output_bytes >= 5);
    }
}

#[test]
fn an_exception_in_a_stream_leaves_usage_unknown() {
    let mut stream = text_event();
    let kind = (":exception-type", "modelStreamErrorException");
    stream.extend(frame(&[kind, (":message-type", "exception")], METADATA));
    let reading = read(Framing::AwsEvents, &stream);
    assert_eq!(
        (reading.metered, reading.output_bytes),
        (Metered::Unknown, 5)
    );
}

#[test]
fn usage_is_not_final_where_the_framing_broke() {
    let mut stream = event("metadata", METADATA);
    let whole = stream.clone();
    let mut broken = text_event();
    broken[9] ^= 1;
    stream.extend(&broken);
    let reading = read(Framing::AwsEvents, &stream);
    assert!(
        matches!(reading.metered, Metered::Partial(_)),
        "more may have come"
    );
    assert!(reading.output_bytes >= u64::try_from(broken.len()).expect("small"));
    broken.extend(whole);
    assert_eq!(read(Framing::AwsEvents, &broken).metered, Metered::Unknown);
}

#[test]
fn a_frame_too_long_to_read_does_not_hide_what_follows() {
    let long = vec![b'x'; 17 * 1024 * 1024];
    let mut stream = event("contentBlockDelta", &long);
    stream.extend(event("metadata", METADATA));
    let reading = read(Framing::AwsEvents, &stream);
    assert!(matches!(reading.metered, Metered::Exact(_)));
    assert!(reading.output_bytes > 17 * 1024 * 1024);
}

#[test]
fn odd_usage_is_partial_or_unknown() {
    for (text, partial) in [
        (r#"{"usage":{"inputTokens":3}}"#, true),
        (r#"{"usage":{"inputTokens":null,"outputTokens":4}}"#, true),
        (
            r#"{"usage":{"inputTokens":3,"outputTokens":4,"cacheReadInputTokens":"?"}}"#,
            true,
        ),
        (r#"{"usage":{}}"#, false),
        (r#"{"usage":[]}"#, false),
        (r#"{"usage":{"inputTokens":3,"outputTokens":4}"#, false),
        ("", false),
    ] {
        let metered = plain(text).metered;
        assert_eq!(matches!(metered, Metered::Partial(_)), partial, "{text}");
        assert_eq!(metered == Metered::Unknown, !partial, "{text}");
    }
}

#[test]
fn the_head_states_terms_where_the_body_does_not() {
    let mut headers = HeaderMap::new();
    headers.insert(
        "X-Amzn-Bedrock-Service-Tier",
        "priority".parse().expect("a value"),
    );
    headers.insert(
        "X-Amzn-Bedrock-PerformanceConfig-Latency",
        "standard".parse().expect("a value"),
    );
    for (body, tier) in [
        ("{}", "priority"),
        (r#"{"serviceTier":{"type":"flex"}}"#, "flex"),
    ] {
        let mut meter = Meter::new(Operation::Converse, Framing::Document, false);
        meter.heed(&headers);
        let _ = meter.feed(body.as_bytes());
        let terms = meter.finish().terms;
        assert_eq!(
            (terms.service_tier.as_deref(), terms.speed),
            (Some(tier), None)
        );
    }
}

proptest! {
    #[test]
    fn streams_with_a_fault_anywhere_pass_unchanged_and_are_never_wrong(
        at in 0_usize..400,
        flip in 1_u8..=255,
        step in 1_usize..60,
    ) {
        let mut stream = text_event();
        stream.extend(event("metadata", METADATA));
        let length = stream.len();
        stream[at % length] ^= flip;
        let mut meter = Meter::new(Operation::Converse, Framing::AwsEvents, false);
        for piece in stream.chunks(step) {
            prop_assert_eq!(meter.feed(piece), Relay::Unchanged);
        }
        prop_assert!(meter.end().is_empty());
        prop_assert_eq!(meter.finish().metered, Metered::Unknown);
    }
}
