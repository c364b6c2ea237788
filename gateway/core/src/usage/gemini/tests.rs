use proptest::prelude::*;

use super::*;
use crate::policy::Operation;
use crate::usage::{Framing, Meter, Relay};

fn meter(framing: Framing) -> Meter {
    Meter::new(Operation::GenerateContent, framing, false)
}

fn read(text: &str) -> Reading {
    let mut meter = meter(Framing::Document);
    assert_eq!(meter.feed(text.as_bytes()), Relay::Unchanged);
    meter.finish()
}

fn exact(text: &str) -> Usage {
    match read(text).metered {
        Metered::Exact(usage) => usage,
        other => panic!("{other:?} of {text}"),
    }
}

/// A plain answer with this usage.
fn answer(usage: &str) -> String {
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":"hi"}}]}},"finishReason":"STOP"}}],
            "usageMetadata":{{{usage}}},"modelVersion":"gemini-3-pro"}}"#
    )
}

#[test]
fn thoughts_are_added_unless_the_total_says_they_are_among_the_candidates() {
    for (usage, output) in [
        (
            r#""promptTokenCount":5,"candidatesTokenCount":7,"thoughtsTokenCount":3,"totalTokenCount":15"#,
            10,
        ),
        (
            r#""promptTokenCount":5,"candidatesTokenCount":7,"thoughtsTokenCount":3,"totalTokenCount":12"#,
            7,
        ),
        (
            r#""promptTokenCount":5,"candidatesTokenCount":7,"thoughtsTokenCount":3"#,
            10,
        ),
        (
            r#""promptTokenCount":5,"candidatesTokenCount":7,"thoughtsTokenCount":9,"totalTokenCount":12"#,
            16,
        ),
        (
            r#""promptTokenCount":5,"thoughtsTokenCount":9,"totalTokenCount":14"#,
            9,
        ),
    ] {
        assert_eq!(exact(&answer(usage)).output_tokens, output, "{usage}");
    }
}

#[test]
fn every_modality_is_a_part_of_its_whole_and_documents_are_text() {
    let usage = exact(&answer(
        r#""promptTokenCount":100,"toolUsePromptTokenCount":20,"cachedContentTokenCount":30,
        "candidatesTokenCount":50,"totalTokenCount":170,
        "promptTokensDetails":[{"modality":"TEXT","tokenCount":40},{"modality":"AUDIO","tokenCount":10},
            {"modality":"IMAGE","tokenCount":20},{"modality":"VIDEO","tokenCount":15},
            {"modality":"DOCUMENT","tokenCount":15}],
        "toolUsePromptTokensDetails":[{"modality":"IMAGE","tokenCount":20}],
        "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":4},{"modality":"IMAGE","tokenCount":6}],
        "candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":11},{"modality":"IMAGE","tokenCount":12}]"#,
    ));
    let expected = Usage {
        input_tokens: 120,
        cached_input_tokens: 30,
        output_tokens: 50,
        input_audio_tokens: 10,
        cached_audio_tokens: 4,
        output_audio_tokens: 11,
        input_image_tokens: 40,
        cached_image_tokens: 6,
        output_image_tokens: 12,
        input_video_tokens: 15,
        tool_input_tokens: 20,
        ..Usage::default()
    };
    assert_eq!(usage, expected);
}

#[test]
fn the_tier_is_named_as_prices_name_it_and_the_body_wins_over_the_head() {
    for (stated, in_head, tier) in [
        (r#""serviceTier":"flex""#, None, Some("flex")),
        (
            r#""serviceTier":"SERVICE_TIER_PRIORITY""#,
            None,
            Some("priority"),
        ),
        (r#""trafficType":"ON_DEMAND""#, None, Some("standard")),
        (
            r#""trafficType":"ON_DEMAND_FLEX""#,
            Some("priority"),
            Some("flex"),
        ),
        (
            r#""trafficType":"PROVISIONED_THROUGHPUT""#,
            None,
            Some("provisioned_throughput"),
        ),
        (r#""trafficType":"TRAFFIC_TYPE_UNSPECIFIED""#, None, None),
        (r#""serviceTier":null"#, Some("priority"), Some("priority")),
        (r#""serviceTier":7"#, None, None),
    ] {
        let mut meter = meter(Framing::Document);
        let mut headers = HeaderMap::new();
        if let Some(tier) = in_head {
            headers.insert("x-gemini-service-tier", tier.parse().expect("a value"));
        }
        meter.heed(&headers);
        let _ = meter.feed(answer(stated).as_bytes());
        assert_eq!(
            meter.finish().terms.service_tier.as_deref(),
            tier,
            "{stated}"
        );
    }
}

#[test]
fn searches_are_billed_by_the_query_from_gemini_3_on_and_by_the_prompt_before() {
    let grounded = |model: &str, queries: &str| {
        format!(
            r#"{{"candidates":[{{"finishReason":"STOP","groundingMetadata":{{
                "webSearchQueries":{queries},"imageSearchQueries":null}}}}],
                "usageMetadata":{{"promptTokenCount":1}},"modelVersion":"{model}"}}"#
        )
    };
    for (model, queries, billed) in [
        ("gemini-3.1-flash-lite", r#"["a","b","a"," ",""]"#, 2),
        ("gemini-2.5-flash", r#"["a","b"]"#, 1),
        ("gemini-live-2.5-flash", r#"["a","b"]"#, 1),
        (
            "publishers/google/models/gemini-2.5-flash",
            r#"["a","b"]"#,
            1,
        ),
        ("gemini-10-pro", r#"["a","b"]"#, 2),
        ("gemini-flash-latest", r#"["a","b"]"#, 2),
        ("gemini-2.5-flash", r#"[""]"#, 0),
        ("gemini-3-pro", "[]", 0),
        ("gemini-3-pro", "null", 0),
    ] {
        let usage = exact(&grounded(model, queries));
        assert_eq!(usage.web_searches, billed, "{model} {queries}");
    }
}

#[test]
fn queries_repeated_over_chunks_count_once_until_there_is_no_room_to_compare() {
    let grounding = |queries: &str| {
        format!(r#"{{"candidates":[{{"groundingMetadata":{{"webSearchQueries":[{queries}]}}}}]}}"#)
    };
    let last = answer(r#""promptTokenCount":1"#);
    let (a, b) = (grounding(r#""a""#), grounding(r#""a","b""#));
    assert_eq!(exact(&format!("[{a},{b},{a},{last}]")).web_searches, 2);
    let long = grounding(&format!("\"{}\"", "x".repeat(MAX_QUERY_BYTES)));
    assert_eq!(
        exact(&format!("[{long},{long},{a},{a},{last}]")).web_searches,
        3
    );
}

#[test]
fn usage_is_final_once_every_candidate_has_ended() {
    let chunk = |candidates: &str, count: u64| {
        format!(
            r#"{{"candidates":[{candidates}],
            "usageMetadata":{{"promptTokenCount":4,"candidatesTokenCount":{count}}}}}"#
        )
    };
    let open = r#"{"content":{"parts":[{"text":"a"}]},"index":0}"#;
    let ended = r#"{"finishReason":"STOP","index":0}"#;
    let unspecified = r#"{"finishReason":"FINISH_REASON_UNSPECIFIED"}"#;
    let other = r#"{"finishReason":"MAX_TOKENS","index":1}"#;
    let two = format!("{ended},{}", open.replace(":0", ":1"));
    let silent = format!(r#"{{"candidates":[{ended}]}}"#);
    let only_usage = chunk("", 3);
    for (chunks, is_final) in [
        (vec![chunk(open, 1)], false),
        (vec![chunk(unspecified, 1)], false),
        (vec![chunk(open, 1), chunk(ended, 2)], true),
        (vec![chunk(open, 1), silent.clone()], false),
        (vec![chunk(open, 1), silent, only_usage.clone()], true),
        (vec![chunk(ended, 2), only_usage], true),
        (vec![chunk(&two, 2)], false),
        (vec![chunk(&two, 2), chunk(other, 2)], true),
        (vec![chunk(ended, 2), chunk(open, 3)], false),
    ] {
        let text = format!("[{}]", chunks.join(","));
        let reading = read(&text);
        let found = matches!(reading.metered, Metered::Exact(_));
        assert_eq!(found, is_final, "{text}");
        let mut meter = meter(Framing::Events);
        for chunk in chunks {
            let event = format!("data: {}\r\n\r\n", chunk.replace('\n', ""));
            let _ = meter.feed(event.as_bytes());
        }
        assert_eq!(meter.finish(), reading, "{text}");
    }
}

#[test]
fn a_prompt_is_blocked_only_for_a_reason() {
    let usage = r#""usageMetadata":{"promptTokenCount":31,"totalTokenCount":31}"#;
    let blocked = format!(r#"{{"promptFeedback":{{"blockReason":"SAFETY"}},{usage}}}"#);
    assert_eq!(exact(&blocked).input_tokens, 31);
    let rated = format!(r#"{{"promptFeedback":{{"safetyRatings":[]}},{usage}}}"#);
    assert!(matches!(read(&rated).metered, Metered::Partial(_)));
}

#[test]
fn an_odd_value_costs_no_more_than_itself() {
    let text = |more: &str| {
        format!(
            r#"{{"candidates":"?","promptFeedback":{{"blockReason":"OTHER"}},"modelVersion":3,
            "usageMetadata":{{"promptTokenCount":9.0,"thoughtsTokenCount":null,
            "promptTokensDetails":[null],"cacheTokensDetails":"?"{more}}}}}"#
        )
    };
    assert_eq!(exact(&text("")).input_tokens, 9);
    for odd in [
        r#","candidatesTokenCount":-1"#,
        r#","candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":"?"}]"#,
    ] {
        let metered = read(&text(odd)).metered;
        assert!(matches!(metered, Metered::Partial(usage) if usage.input_tokens == 9));
    }
}

#[test]
fn what_is_cut_off_or_too_long_is_measured() {
    let whole = answer(r#""promptTokenCount":4,"candidatesTokenCount":1"#);
    assert_eq!(read(&whole).output_bytes, 2);
    for cut in 1..whole.len() {
        let reading = read(&whole[..cut]);
        assert_eq!(reading.metered, Metered::Unknown);
        assert!(reading.output_bytes > 0, "cut at {cut}");
    }
    let mut meter = meter(Framing::Document);
    let megabyte = vec![b'x'; 1024 * 1024];
    let _ = meter.feed(br#"[{"a":""#);
    for _ in 0..9 {
        assert_eq!(meter.feed(&megabyte), Relay::Unchanged);
    }
    let _ = meter.feed(format!("\"}},{whole}]").as_bytes());
    let reading = meter.finish();
    assert!(reading.output_bytes > 9 * 1024 * 1024);
    assert!(
        matches!(reading.metered, Metered::Exact(_)),
        "the last one counts"
    );
}

proptest! {
    #[test]
    fn bytes_of_any_kind_pass_unchanged(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "[", "]", "{", "}", "\"", "\\", ",", ":", "\"candidates\"", "\"usageMetadata\"",
                "\"promptTokenCount\":1", "\"finishReason\":\"STOP\"", "data: ", "\n\n", "é",
            ]), 0..60),
    ) {
        for framing in [Framing::Document, Framing::Events] {
            let mut meter = meter(framing);
            for piece in &pieces {
                prop_assert_eq!(meter.feed(piece.as_bytes()), Relay::Unchanged);
            }
            prop_assert!(meter.end().is_empty());
            let _ = meter.finish();
        }
    }
}

#[test]
fn an_answer_that_rests_on_maps_is_billed_though_it_states_no_query() {
    let grounded = |metadata: &str| {
        format!(
            r#"{{"candidates":[{{"finishReason":"STOP","groundingMetadata":{{{metadata}}}}}],
                "usageMetadata":{{"promptTokenCount":1}},"modelVersion":"gemini-2.5-flash"}}"#
        )
    };
    for (metadata, billed) in [
        (r#""groundingChunks":[{"maps":{"uri":"u"}},{"maps":{}}]"#, 1),
        (
            r#""webSearchQueries":["a"],"groundingChunks":[{"maps":{}}]"#,
            2,
        ),
        (r#""groundingChunks":[{"web":{"uri":"u"}}]"#, 0),
    ] {
        let usage = exact(&grounded(metadata));
        assert_eq!(usage.web_searches, billed, "{metadata}");
    }
}
