use proptest::prelude::*;

use super::*;

fn bounded(operation: Operation, body: &str, bound: u64) -> Option<String> {
    let model = "m".parse().expect("a name");
    let request = Request {
        model_in_path: Some(&model),
        ..Request::json(body.as_bytes())
    };
    let ask = Ask::parse(operation, &request).expect("an ask");
    let body = with_output_bound(body.as_bytes(), &ask, bound)?;
    Some(String::from_utf8(body).expect("UTF-8"))
}

/// Requests, and what becomes of them under a bound of 50.
const BOUNDED: &[(Operation, &str, &str)] = &[
    (
        Operation::ChatCompletions,
        r#"{"a":1}"#,
        r#"{"max_completion_tokens":50,"a":1}"#,
    ),
    (
        Operation::ChatCompletions,
        "{ }",
        r#"{"max_completion_tokens":50 }"#,
    ),
    (
        Operation::ChatCompletions,
        r#"{"max_tokens": 99 }"#,
        r#"{"max_tokens": 50 }"#,
    ),
    (
        Operation::ChatCompletions,
        r#"{"max_tokens":null}"#,
        r#"{"max_tokens":50}"#,
    ),
    (
        Operation::ChatCompletions,
        r#"{"max_tokens":0}"#,
        r#"{"max_tokens":50}"#,
    ),
    (
        Operation::ChatCompletions,
        r#"{"max_tokens":99,"max_completion_tokens":40,"n_predict":60}"#,
        r#"{"max_tokens":50,"max_completion_tokens":40,"n_predict":50}"#,
    ),
    (
        Operation::ChatCompletions,
        r#"{"max_tokens":9}"#,
        r#"{"max_tokens":9}"#,
    ),
    (Operation::Completions, "{}", r#"{"max_tokens":50}"#),
    (
        Operation::Responses,
        r#"{"max_tokens":7}"#,
        r#"{"max_output_tokens":50,"max_tokens":7}"#,
    ),
    (
        Operation::Messages,
        r#"{"max_tokens":99}"#,
        r#"{"max_tokens":50}"#,
    ),
    (Operation::CohereChat, "{}", r#"{"max_tokens":50}"#),
    (
        Operation::GenerateContent,
        "{}",
        r#"{"generationConfig":{"maxOutputTokens":50}}"#,
    ),
    (
        Operation::GenerateContent,
        r#"{"generationConfig":{"temperature":1}}"#,
        r#"{"generationConfig":{"maxOutputTokens":50,"temperature":1}}"#,
    ),
    (
        Operation::GenerateContent,
        r#"{"generation_config":{"max_output_tokens":99},"generationConfig":{}}"#,
        r#"{"generation_config":{"max_output_tokens":50},"generationConfig":{"maxOutputTokens":50}}"#,
    ),
    (
        Operation::Converse,
        r#"{"inferenceConfig":{"maxTokens":99},"additionalModelRequestFields":{"max_tokens":98}}"#,
        r#"{"inferenceConfig":{"maxTokens":50},"additionalModelRequestFields":{"max_tokens":50}}"#,
    ),
    (
        Operation::Converse,
        "{}",
        r#"{"inferenceConfig":{"maxTokens":50}}"#,
    ),
    (
        Operation::OllamaChat,
        r#"{"options":{"num_predict":-1}}"#,
        r#"{"options":{"num_predict":50}}"#,
    ),
    (
        Operation::OllamaChat,
        r#"{"options":null}"#,
        r#"{"options":{"num_predict":50}}"#,
    ),
    (
        Operation::InvokeModel,
        r#"{"anthropic_version":"bedrock-2023-05-31"}"#,
        r#"{"max_tokens":50,"anthropic_version":"bedrock-2023-05-31"}"#,
    ),
    (
        Operation::InvokeModel,
        r#"{"prompt":"x","max_gen_len":99}"#,
        r#"{"prompt":"x","max_gen_len":50}"#,
    ),
    (
        Operation::InvokeModel,
        r#"{"textGenerationConfig":{"maxTokenCount":99}}"#,
        r#"{"textGenerationConfig":{"maxTokenCount":50}}"#,
    ),
    (
        Operation::InvokeModel,
        r#"{"inferenceConfig":{"max_new_tokens":99}}"#,
        r#"{"inferenceConfig":{"max_new_tokens":50}}"#,
    ),
    (
        Operation::InvokeModel,
        r#"{"schemaVersion":"messages-v1"}"#,
        r#"{"inferenceConfig":{"maxTokens":50},"schemaVersion":"messages-v1"}"#,
    ),
];

#[test]
fn a_bound_is_written_where_the_operation_has_it() {
    for &(operation, body, expected) in BOUNDED {
        let spliced = bounded(operation, body, 50);
        assert_eq!(spliced.as_deref(), Some(expected), "{operation:?} {body}");
    }
}

#[test]
fn a_bound_that_would_not_hold_is_not_written() {
    use Operation as Op;
    for (operation, body) in [
        (Op::Embeddings, r#"{"input":"x"}"#),
        (Op::Rerank, r#"{"documents":[]}"#),
        (Op::ImageGenerations, "{}"),
        (Op::InvokeModel, r#"{"inputText":"x"}"#),
        (Op::ChatCompletions, r#"{"enable_thinking":true}"#),
        (
            Op::ChatCompletions,
            r#"{"thinking_budget":9,"max_tokens":99}"#,
        ),
        (Op::ChatCompletions, r#"{"reasoning":{"max_tokens":50}}"#),
        (
            Op::GenerateContent,
            r#"{"generationConfig":{"responseModalities":["TEXT","IMAGE"]}}"#,
        ),
        (
            Op::Messages,
            r#"{"max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":50}}"#,
        ),
        (
            Op::Converse,
            r#"{"additionalModelRequestFields":{"thinking":{"budget_tokens":50}}}"#,
        ),
    ] {
        assert_eq!(bounded(operation, body, 50), None, "{operation:?} {body}");
    }
    let fits = r#"{"max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":49}}"#;
    assert!(bounded(Op::Messages, fits, 50).is_some());
    assert_eq!(bounded(Op::Messages, "{}", 0), None, "zero bounds nothing");
}

/// JSON text that must survive: odd numbers, escapes, white space, nesting.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("1.50e0".to_owned()),
        Just("\"\\u00e9\\ud83d\\ude00 \\\"max_tokens\\\":9\"".to_owned()),
        Just(" { \"max_tokens\" : 99 , \"stream_options\":{} } ".to_owned()),
        Just("[ 1,\t-0.0, null ,[\"generationConfig\"]]".to_owned()),
        "[a-z ]{0,9}".prop_map(|text| format!("\"{text}\"")),
    ]
}

fn body(fields: &[(String, String)], space: &str) -> String {
    let fields: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(i, (name, value))| format!("{space}\"{name}{i}\"{space}:{space}{value}{space}"))
        .collect();
    format!("{space}{{{}}}{space}", fields.join(","))
}

proptest! {
    #[test]
    fn a_new_bound_is_added_and_every_other_byte_stays(
        fields in prop::collection::vec(("[a-f]{1,4}", value()), 0..5),
        space in "[ \n\t]{0,2}",
        bound in 1_u64..1 << 53,
    ) {
        let body = body(&fields, &space);
        for (operation, added) in [
            (Operation::ChatCompletions, format!("\"max_completion_tokens\":{bound}")),
            (Operation::Messages, format!("\"max_tokens\":{bound}")),
            (Operation::Converse, format!("\"inferenceConfig\":{{\"maxTokens\":{bound}}}")),
        ] {
            let spliced = bounded(operation, &body, bound).expect("a bound fits");
            let comma = if fields.is_empty() { "" } else { "," };
            prop_assert_eq!(spliced.replacen(&format!("{added}{comma}"), "", 1), body.clone());
        }
    }

    #[test]
    fn a_bound_that_is_lowered_changes_only_its_digits(
        fields in prop::collection::vec(("[a-f]{1,4}", value()), 0..5),
        space in "[ \n\t]{0,2}",
        given in 1_u64..1 << 53,
        bound in 1_u64..1 << 53,
    ) {
        let with = |bound: u64| {
            let mut fields = fields.clone();
            fields.push(("n_predict".to_owned(), "0".to_owned()));
            body(&fields, &space).replace(
                &format!("\"n_predict{}\"{space}:{space}0", fields.len() - 1),
                &format!("\"max_tokens\"{space}:{space}{bound}"),
            )
        };
        let spliced = bounded(Operation::ChatCompletions, &with(given), bound);
        prop_assert_eq!(spliced, Some(with(given.min(bound))));
    }

    #[test]
    fn asking_for_usage_adds_one_field_and_keeps_every_other_byte(
        fields in prop::collection::vec(("[a-f]{1,4}", value()), 0..5),
        space in "[ \n\t]{0,2}",
        said in prop_oneof![Just(""), Just("\"include_usage\":false,")],
    ) {
        let mut fields = fields;
        fields.push(("x".to_owned(), "1".to_owned()));
        let options = |said: &str| format!("{{{space}{said}\"y\":1}}");
        let at = fields.len() - 1;
        let with = |options: &str| {
            body(&fields, &space).replace(
                &format!("\"x{at}\"{space}:{space}1"),
                &format!("\"model\":\"m\",\"stream\":true,\"stream_options\":{options}"),
            )
        };
        for operation in [Operation::ChatCompletions, Operation::Completions] {
            let before = with(&options(said));
            let ask = Ask::parse(operation, &Request::json(before.as_bytes())).expect("an ask");
            let after = ask_for_usage(before.as_bytes(), &ask).expect("a change");
            let after = String::from_utf8(after).expect("UTF-8");
            let expected = if said.is_empty() {
                with(&format!("{{\"include_usage\":true,{space}\"y\":1}}"))
            } else {
                with(&options("\"include_usage\":true,"))
            };
            prop_assert_eq!(after, expected);
        }
    }
}

#[test]
fn a_server_that_knows_only_max_tokens_is_bounded_by_that_field() {
    let request = |body| Request {
        max_tokens_alone: true,
        ..Request::json(body)
    };
    let body = br#"{"model":"m","max_completion_tokens":5}"#;
    let ask = Ask::parse(Operation::ChatCompletions, &request(body)).expect("an ask");
    assert_eq!(ask.max_output_tokens, None, "the field is ignored there");
    let body = br#"{"model":"m","messages":[]}"#;
    let ask = Ask::parse(Operation::ChatCompletions, &request(body)).expect("an ask");
    let bounded = with_output_bound(body, &ask, 7).expect("a bound");
    assert_eq!(bounded, br#"{"max_tokens":7,"model":"m","messages":[]}"#);
}
