//! Answers that lie, break off or are no answers at all.

use super::*;

/// What a provider may write where a count belongs.
const ODD: [&str; 14] = [
    "-1",
    "-9223372036854775808",
    "9007199254740992",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e300",
    "1e400",
    "0.5",
    "NaN",
    "\"7\"",
    "true",
    "[7]",
    "{\"count\":7}",
];

/// Where the numbers of a text begin and end.
fn numbers(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
        let length = bytes[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit() || **byte == b'.')
            .count();
        if length > 0 && matches!(before, b':' | b',' | b'[') {
            found.push((at, at + length));
        }
        at += length.max(1);
    }
    found
}

#[test]
fn no_odd_number_anywhere_in_an_answer_makes_it_cheaper() {
    let billed = |usage: &Usage| {
        [
            usage.input_tokens,
            usage.output_tokens,
            usage.input_tokens - usage.cached_input_tokens,
            usage.input_audio_tokens,
            usage.output_audio_tokens,
            usage.input_image_tokens,
            usage.output_image_tokens,
            usage.cache_write_tokens,
            usage.cache_write_1h_tokens,
            usage.web_searches,
            usage.file_searches,
            usage.search_units,
            usage.pages,
            usage.audio_ms,
        ]
    };
    for (operation, case) in every_vector() {
        let (Metered::Exact(_), Ok(text)) = (
            read_vector(operation, &case).metered,
            String::from_utf8(answer(&case)),
        ) else {
            continue;
        };
        let whole = read_vector(operation, &case).total().expect("usage");
        for (start, end) in numbers(&text) {
            for odd in ODD {
                if odd == "0.5" && operation == Operation::Transcriptions {
                    continue; // half a second is a length
                }
                let lie = format!("{}{odd}{}", &text[..start], &text[end..]);
                let (relayed, reading) = run_vector(operation, &case, [lie.as_bytes()]);
                assert_eq!(relayed, lie.as_bytes());
                let (Metered::Exact(_), Some(usage)) = (reading.metered, reading.total()) else {
                    continue;
                };
                let pairs = billed(&usage).into_iter().zip(billed(&whole));
                for (after, before) in pairs {
                    assert!(after >= before, "{}: {odd} at {start}", case["id"]);
                }
            }
        }
    }
}

#[test]
fn usage_in_an_event_that_carries_none_is_not_believed() {
    let openai = r#""usage":{"input_tokens":1,"output_tokens":1,"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}"#;
    let cohere = r#""usage":{"billed_units":{"input_tokens":1,"output_tokens":1}}"#;
    for (operation, event) in [
        (
            Operation::ChatCompletions,
            format!(r#"{{"choices":[{{"delta":{{{openai}}}}}]}}"#),
        ),
        (Operation::ChatCompletions, format!(r#"[{{{openai}}}]"#)),
        (
            Operation::Responses,
            format!(r#"{{"type":"response.in_progress","response":{{{openai}}}}}"#),
        ),
        (
            Operation::Responses,
            format!(r#"{{"type":"response.completed",{openai}}}"#),
        ),
        (
            Operation::Responses,
            format!(r#"{{"type":"response.output_text.delta","delta":{{{openai}}}}}"#),
        ),
        (
            Operation::ImageGenerations,
            format!(r#"{{"type":"image_generation.partial_image",{openai}}}"#),
        ),
        (
            Operation::Transcriptions,
            format!(r#"{{"type":"transcript.text.delta","delta":"a",{openai}}}"#),
        ),
        (
            Operation::Speech,
            format!(r#"{{"type":"speech.audio.delta",{openai}}}"#),
        ),
        (
            Operation::CohereChat,
            format!(r#"{{"type":"content-delta","delta":{{{cohere}}}}}"#),
        ),
        (
            Operation::CohereChat,
            format!(r#"{{"type":"message-end",{cohere}}}"#),
        ),
        (
            Operation::Messages,
            format!(r#"{{"type":"content_block_delta",{openai}}}"#),
        ),
        (
            Operation::Messages,
            format!(r#"{{"type":"ping",{openai}}}"#),
        ),
    ] {
        let stream = format!("data: {event}\n\ndata: [DONE]\n\n");
        let reading = read(operation, true, stream.as_bytes());
        assert_eq!(reading.metered, Metered::Unknown, "{event}");
    }
}

#[test]
fn usage_given_twice_in_one_object_is_not_believed() {
    let usage = r#"{"prompt_tokens":9,"completion_tokens":9}"#;
    for body in [
        format!(r#"{{"usage":{usage},"usage":{usage}}}"#),
        r#"{"usage":{"prompt_tokens":9,"completion_tokens":9,"completion_tokens":0}}"#.to_owned(),
    ] {
        let reading = read(Operation::ChatCompletions, false, body.as_bytes());
        assert_eq!(reading.metered, Metered::Unknown, "{body}");
    }
}

#[test]
fn a_later_statement_that_makes_no_sense_leaves_the_earlier_one_partial() {
    let good = r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    for later in [
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":-1}}"#,
        r#"{"choices":[],"usage":"none"}"#,
        r#"{"choices":[],"usage":[]}"#,
    ] {
        let stream = format!("data: {good}\n\ndata: {later}\n\ndata: [DONE]\n\n");
        let reading = read(Operation::ChatCompletions, true, stream.as_bytes());
        assert!(
            matches!(reading.metered, Metered::Partial(usage) if usage.output_tokens == 1),
            "{later}: {reading:?}"
        );
    }
}

#[test]
fn text_in_an_event_that_cannot_be_read_is_measured_by_its_length() {
    let event = r#"{"choices":[{"delta":{"content":"abc"}}],"choices":[]}"#;
    for operation in [
        Operation::ChatCompletions,
        Operation::Responses,
        Operation::Messages,
        Operation::CohereChat,
        Operation::OllamaChat,
    ] {
        let broken = event.replace('}', "");
        let stream = format!("data: {broken}\n\n: a comment\n\n");
        let reading = read(operation, true, stream.as_bytes());
        assert_eq!(reading.output_bytes, broken.len() as u64, "{operation:?}");
    }
}

const OPERATIONS: [Operation; 15] = [
    Operation::ChatCompletions,
    Operation::Completions,
    Operation::Responses,
    Operation::Embeddings,
    Operation::ImageGenerations,
    Operation::Transcriptions,
    Operation::Speech,
    Operation::Messages,
    Operation::CohereChat,
    Operation::CohereEmbed,
    Operation::Rerank,
    Operation::Ocr,
    Operation::OllamaChat,
    Operation::OllamaEmbed,
    Operation::GenerateContent,
];

const FRAMINGS: [Framing; 5] = [
    Framing::Document,
    Framing::Events,
    Framing::Lines,
    Framing::AwsEvents,
    Framing::Text,
];

proptest! {
    #[test]
    fn bytes_of_any_kind_are_relayed_as_they_came(
        pieces in proptest::collection::vec(
            proptest::collection::vec(
                proptest::sample::select(b"data: {}[]\":,\r\n\nusage1\xff".to_vec()), 0..40), 0..20),
        withhold in any::<bool>(),
    ) {
        for operation in OPERATIONS {
            for framing in FRAMINGS {
                let meter = Meter::new(operation, framing, withhold);
                let (relayed, reading) = run(meter, pieces.iter().map(Vec::as_slice));
                prop_assert_eq!(relayed, pieces.concat());
                prop_assert!(!matches!(reading.metered, Metered::Exact(_)));
            }
        }
    }

    #[test]
    fn tokens_of_json_in_any_order_never_overflow_or_panic(
        tokens in proptest::collection::vec(proptest::sample::select(vec![
            "data: ", "\n\n", "\n", "{", "}", "[", "]", ":", ",", "null", "true", "\"usage\":{",
            "\"choices\":[]", "\"choices\":[{\"delta\":{\"content\":\"a\"}}]", "\"prompt_tokens\":",
            "\"completion_tokens\":", "\"total_tokens\":", "9007199254740991", "-1", "1e999",
            "\"cost\":", "\"type\":\"response.completed\"", "\"response\":{", "\"done\":true",
            "\"eval_count\":", "\"prompt_eval_count\":", "[DONE]", "\"message-end\"",
        ]), 0..60),
    ) {
        let text = tokens.concat();
        for operation in OPERATIONS {
            for framing in FRAMINGS {
                let (relayed, reading) =
                    run(Meter::new(operation, framing, false), [text.as_bytes()]);
                prop_assert_eq!(relayed, text.as_bytes());
                if let Some(usage) = reading.total() {
                    prop_assert!(usage.cached_input_tokens <= usage.input_tokens);
                    prop_assert!(usage.reasoning_tokens <= usage.output_tokens);
                }
            }
        }
    }
}
