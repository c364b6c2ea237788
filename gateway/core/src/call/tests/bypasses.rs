//! Ways to be charged for more than was judged, each of which is seen or refused.

use super::*;

fn input(operation: Operation, rest: &str) -> Input {
    let body = format!(r#"{{"model":"m",{rest}}}"#);
    let ask = parse(operation, &body);
    ask.unwrap_or_else(|refusal| panic!("{body}: {refusal}"))
        .input
}

#[test]
fn a_field_in_another_case_is_not_overlooked_by_us_alone() {
    for name in [
        "Model",
        "MAX_TOKENS",
        "N",
        "Stream",
        "Tools",
        "max_to\\u212aens",
        "be\\u017ft_of",
        "\\u004e",
        "Options",
    ] {
        let body = format!(r#"{{"model":"m","max_tokens":1,"{name}":99}}"#);
        for operation in [
            Operation::ChatCompletions,
            Operation::Messages,
            Operation::OllamaChat,
            Operation::CohereChat,
        ] {
            assert_eq!(code(operation, &body), "invalid_field", "{body}");
        }
    }
    chat(r#"{"model":"m","X-Custom":1,"größe":2}"#);
}

#[test]
fn a_list_of_models_may_not_choose_another_than_the_one_that_is_judged() {
    for refused in [
        r#"{"model":"m","models":["m","n"]}"#,
        r#"{"model":"m","models":["n"]}"#,
        r#"{"model":"m","models":"n"}"#,
        r#"{"model":"m","preset":"p"}"#,
        r#"{"model":"m@preset/p"}"#,
        r#"{"model":"@preset/p"}"#,
    ] {
        for operation in [
            Operation::ChatCompletions,
            Operation::Responses,
            Operation::Messages,
        ] {
            assert_eq!(code(operation, refused), "invalid_field", "{refused}");
        }
    }
    chat(r#"{"model":"m","models":["m"]}"#);
    chat(r#"{"model":"m","models":[]}"#);
}

#[test]
fn searches_by_other_fields_than_tools_are_counted() {
    for (body, searches) in [
        (r#"{"model":"m","web_search_options":{}}"#, 1),
        (r#"{"model":"m","search_parameters":{"mode":"auto"}}"#, 20),
        (
            r#"{"model":"m","search_parameters":{"max_search_results":50}}"#,
            50,
        ),
        (r#"{"model":"m","plugins":[{"id":"web"}]}"#, 5),
        (
            r#"{"model":"m","plugins":[{"id":"web","max_results":9},{"id":"web"}]}"#,
            14,
        ),
        (r#"{"model":"m:online"}"#, 5),
        (r#"{"model":"m","enable_search":true}"#, 10),
    ] {
        let ask = chat(body);
        assert_eq!(
            (ask.most.web_searches, ask.input),
            (searches, Input::Looping),
            "{body}"
        );
    }
    assert_eq!(
        chat(r#"{"model":"m","enable_search":false}"#).input,
        Input::Bounded
    );
    assert_eq!(
        code(
            Operation::ChatCompletions,
            r#"{"model":"m","plugins":[{"id":"web","max_results":1,"max_results":9}]}"#
        ),
        "invalid_field"
    );
}

#[test]
fn a_tool_of_a_kind_not_known_is_charged_like_a_search() {
    let responses = |tools: &str| {
        let body = format!(r#"{{"model":"m","tools":[{tools}]}}"#);
        parse(Operation::Responses, &body)
    };
    let read = |tools: &str| {
        let ask = responses(tools).expect("an ask");
        (ask.input, ask.most.web_searches)
    };
    assert_eq!(read(r#"{"type":"new_thing"}"#), (Input::Looping, 10));
    assert_eq!(read(r#"{"type":"mcp"}"#), (Input::Looping, 0));
    assert_eq!(
        read(r#"{"type":"function","name":"f"}"#),
        (Input::Bounded, 0)
    );
    assert_eq!(
        read(r#"{"type":"shell","environment":{"type":"local"}}"#),
        (Input::Bounded, 0)
    );
    assert_eq!(
        read(r#"{"type":"shell","environment":{"type":"container_auto"}}"#),
        (Input::Looping, 10)
    );
    for uses in ["-1", "50.0", "\"50\"", "5e1"] {
        let body = format!(
            r#"{{"model":"m","tools":[{{"type":"web_search_20250305","max_uses":{uses}}}]}}"#
        );
        assert_eq!(code(Operation::Messages, &body), "invalid_field", "{uses}");
    }
    assert!(responses(r#"{"type":"function","type":"web_search"}"#).is_err());
}

/// What each request says about its input.
const INPUTS: &[(Operation, &str, Input)] = &[
    (
        Operation::ChatCompletions,
        r#""data_sources":[]"#,
        Input::Looping,
    ),
    (
        Operation::ChatCompletions,
        r#""messages":[{"audio":{"id":"a"}}]"#,
        Input::Referenced,
    ),
    (
        Operation::ChatCompletions,
        r#""modalities":["audio"],"messages":["audio b"]"#,
        Input::Bounded,
    ),
    (
        Operation::ChatCompletions,
        r#""messages":[{"document_url":"u"}]"#,
        Input::Referenced,
    ),
    (
        Operation::ChatCompletions,
        r#""messages":[{"video_url":"u"}]"#,
        Input::Referenced,
    ),
    (
        Operation::ChatCompletions,
        r#""tools":[{"type":"function","p":{"avatar_url":{}}}]"#,
        Input::Bounded,
    ),
    (
        Operation::ChatCompletions,
        r#""extra_body":{"google":{"cached_content":"c"}}"#,
        Input::Referenced,
    ),
    (
        Operation::ChatCompletions,
        r#""mcp_servers":[]"#,
        Input::Looping,
    ),
    (
        Operation::Embeddings,
        r#""input":["a{b","c"]"#,
        Input::Bounded,
    ),
    (
        Operation::Embeddings,
        r#""input":[[1,2],[3]]"#,
        Input::Bounded,
    ),
    (
        Operation::Embeddings,
        r#""input":["a",{"image":"u"}]"#,
        Input::Referenced,
    ),
    (Operation::Messages, r#""container":"c""#, Input::Referenced),
    (Operation::Messages, r#""mcp_servers":[{}]"#, Input::Looping),
    (
        Operation::GenerateContent,
        r#""contents":[{"parts":[{"text":"x"}]}]"#,
        Input::Bounded,
    ),
    (
        Operation::GenerateContent,
        r#""contents":[{"parts":[{"fileData":{}}]}]"#,
        Input::Referenced,
    ),
    (
        Operation::GenerateContent,
        r#""contents":[{"parts":[{"inline_data":{}}]}]"#,
        Input::Referenced,
    ),
    (
        Operation::GenerateContent,
        r#""contents":[{"parts":[{"inline\u0044ata":{}}]}]"#,
        Input::Referenced,
    ),
    (
        Operation::GenerateContent,
        r#""cached_content":"c""#,
        Input::Referenced,
    ),
    (
        Operation::GenerateContent,
        r#""tools":[{"functionDeclarations":[]}]"#,
        Input::Bounded,
    ),
    (
        Operation::GenerateContent,
        r#""tools":[{"functionDeclarations":[],"google_search":{}}]"#,
        Input::Looping,
    ),
    (
        Operation::GenerateContent,
        r#""tools":[{"codeExecution":{}}]"#,
        Input::Looping,
    ),
    (
        Operation::EmbedContent,
        r#""content":{"parts":[{"text":"x"}]}"#,
        Input::Bounded,
    ),
    (
        Operation::EmbedContent,
        r#""instances":[{"image":{"gcsUri":"u"}}]"#,
        Input::Referenced,
    ),
    (
        Operation::Converse,
        r#""messages":[{"content":[{"text":"image"}]}]"#,
        Input::Referenced,
    ),
    (
        Operation::Converse,
        r#""messages":[{"content":[{"text":"an image"}]}]"#,
        Input::Bounded,
    ),
    (
        Operation::Converse,
        r#""messages":[{"content":[{"document":{}}]}]"#,
        Input::Referenced,
    ),
    (
        Operation::Converse,
        r#""messages":[{"content":[{"x":{"s3Location":{}}}]}]"#,
        Input::Referenced,
    ),
    (
        Operation::Converse,
        r#""toolConfig":{"tools":[{"toolSpec":{}},{"cachePoint":{}}]}"#,
        Input::Bounded,
    ),
    (
        Operation::Converse,
        r#""toolConfig":{"tools":[{"systemTool":{"name":"nova_grounding"}}]}"#,
        Input::Looping,
    ),
    (
        Operation::Converse,
        r#""additionalModelRequestFields":{"mcp_servers":[]}"#,
        Input::Looping,
    ),
    (
        Operation::InvokeModel,
        r#""messages":[{"content":[{"type":"image"}]}]"#,
        Input::Referenced,
    ),
    (
        Operation::InvokeModel,
        r#""images":["x"]"#,
        Input::Referenced,
    ),
    (Operation::InvokeModel, r#""inputText":"x""#, Input::Bounded),
    (
        Operation::CohereChat,
        r#""message":"x","connectors":[{"id":"web-search"}]"#,
        Input::Looping,
    ),
    (
        Operation::CohereChat,
        r#""conversation_id":"c""#,
        Input::Referenced,
    ),
    (
        Operation::CohereChat,
        r#""tools":[{"type":"function"}]"#,
        Input::Bounded,
    ),
    (Operation::CohereEmbed, r#""texts":["x"]"#, Input::Bounded),
    (
        Operation::CohereEmbed,
        r#""images":["x"]"#,
        Input::Referenced,
    ),
    (Operation::Ocr, r#""document":{}"#, Input::Referenced),
    (
        Operation::OllamaChat,
        r#""messages":[{"images":["x"]}]"#,
        Input::Referenced,
    ),
    (Operation::OllamaChat, r#""prompt":"x""#, Input::Bounded),
];

#[test]
fn what_is_out_of_sight_is_seen_to_be_in_every_dialect() {
    for &(operation, rest, expected) in INPUTS {
        assert_eq!(input(operation, rest), expected, "{operation:?} {rest}");
    }
}

#[test]
fn cache_writes_are_seen_in_every_dialect_that_asks_for_them() {
    use CacheWrite::{FiveMinutes, OneHour, Unasked};
    use Operation as Op;
    for (operation, rest, expected) in [
        (
            Op::Converse,
            r#""system":[{"cachePoint":{"type":"default"}}]"#,
            FiveMinutes,
        ),
        (
            Op::Converse,
            r#""system":[{"cachePoint":{"type":"default","ttl":"1h"}}]"#,
            OneHour,
        ),
        (Op::Converse, r#""system":[]"#, Unasked),
        (
            Op::InvokeModel,
            r#""system":[{"cache_control":{"type":"ephemeral"}}]"#,
            FiveMinutes,
        ),
        (Op::Messages, r#""x":{"cache\u005fcontrol":{}}"#, OneHour),
    ] {
        let body = format!(r#"{{"model":"m",{rest}}}"#);
        let ask = parse(operation, &body).expect("an ask");
        assert_eq!(ask.cache_write, expected, "{body}");
    }
}

#[test]
fn terms_that_change_the_price_are_read_by_every_name() {
    let tier = |operation, body: &str| parse(operation, body).expect("an ask").terms.service_tier;
    for (operation, body, expected) in [
        (
            Operation::GenerateContent,
            r#"{"model":"m","serviceTier":"priority"}"#,
            "priority",
        ),
        (
            Operation::GenerateContent,
            r#"{"model":"m","service_tier":"SERVICE_TIER_FLEX"}"#,
            "flex",
        ),
        (
            Operation::Converse,
            r#"{"model":"m","serviceTier":{"type":"flex"}}"#,
            "flex",
        ),
        (
            Operation::Embeddings,
            r#"{"model":"m","service_tier":"auto"}"#,
            "auto",
        ),
        (
            Operation::Completions,
            r#"{"model":"m","service_tier":"flex"}"#,
            "flex",
        ),
    ] {
        assert_eq!(tier(operation, body).as_deref(), Some(expected), "{body}");
    }
    let fast = r#"{"model":"m","performanceConfig":{"latency":"optimized"}}"#;
    let ask = parse(Operation::Converse, fast).expect("an ask");
    assert_eq!(ask.terms.speed.as_deref(), Some("optimized"));
}

#[test]
fn an_answer_that_comes_later_is_recognised() {
    let deferred = |operation, body: &str| parse(operation, body).expect("an ask").deferred;
    assert!(deferred(
        Operation::Responses,
        r#"{"model":"m","background":true}"#
    ));
    assert!(deferred(
        Operation::ChatCompletions,
        r#"{"model":"m","deferred":true}"#
    ));
    assert!(!deferred(Operation::ChatCompletions, r#"{"model":"m"}"#));
    assert!(!deferred(
        Operation::ImageGenerations,
        r#"{"model":"m","background":"transparent"}"#
    ));
}

#[test]
fn items_that_are_named_but_not_shown_are_out_of_sight() {
    for (items, expected) in [
        (r#"{"role":"user","content":"x"}"#, Input::Bounded),
        (
            r#"{"id":"msg_1","role":"assistant","content":"x"}"#,
            Input::Bounded,
        ),
        (
            r#"{"id":"msg_1","type":"message","content":[]}"#,
            Input::Bounded,
        ),
        (
            r#"{"id":"fc_1","type":"function_call","arguments":"{}"}"#,
            Input::Bounded,
        ),
        (
            r#"{"id":"rs_1","type":"reasoning","encrypted_content":"x"}"#,
            Input::Bounded,
        ),
        (
            r#"{"id":"rs_1","type":"reasoning","encrypted_content":null}"#,
            Input::Referenced,
        ),
        (
            r#"{"id":"rs_1","type":"reasoning","summary":[]}"#,
            Input::Referenced,
        ),
        (r#"{"id":"msg_1"}"#, Input::Referenced),
        (r#"{"id":"msg_1","type":null}"#, Input::Referenced),
        (r#"{"i\u0064":"msg_1"}"#, Input::Referenced),
        (r#"{"id":"a","id":null}"#, Input::Referenced),
        (
            r#"{"id":"ws_1","type":"web_search_call","status":"completed"}"#,
            Input::Referenced,
        ),
    ] {
        let rest = format!(r#""input":[{items}]"#);
        assert_eq!(input(Operation::Responses, &rest), expected, "{items}");
    }
    assert_eq!(
        input(Operation::Responses, r#""input":"id""#),
        Input::Bounded
    );
}

#[test]
fn a_body_in_another_charset_is_refused() {
    let body = br#"{"model":"m"}"#;
    for (kind, taken) in [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("application/json;Charset=\"UTF-8\"", true),
        ("application/json; charset=utf-7", false),
        ("application/json; x=y; CHARSET = utf-16le", false),
        ("application/json; charset", false),
    ] {
        let request = Request {
            content_type: Some(kind),
            ..Request::json(body)
        };
        let ask = Ask::parse(Operation::ChatCompletions, &request);
        assert_eq!(ask.is_ok(), taken, "{kind}");
    }
}

#[test]
fn usage_that_is_declined_in_another_case_is_refused() {
    let body = r#"{"model":"m","stream":true,"stream_options":{"Include_Usage":false}}"#;
    assert_eq!(code(Operation::ChatCompletions, body), "invalid_field");
    assert_eq!(code(Operation::Completions, body), "invalid_field");
}

#[test]
fn a_batch_is_not_taken_for_one_call() {
    for operation in [
        Operation::Batch,
        Operation::MessageBatch,
        Operation::BatchInput,
    ] {
        assert!(parse(operation, r#"{"model":"m","requests":[]}"#).is_err());
    }
}
