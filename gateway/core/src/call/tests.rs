use super::*;

fn parse(operation: Operation, body: &str) -> Result<Ask, Refusal> {
    Ask::parse(operation, &Request::json(body.as_bytes()))
}

fn chat(body: &str) -> Ask {
    parse(Operation::ChatCompletions, body).expect("a chat request")
}

fn code(operation: Operation, body: &str) -> &'static str {
    parse(operation, body).expect_err("a refusal").code()
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    for (body, expected) in [
        ("", "invalid_json"),
        ("[]", "invalid_json"),
        (r#"{"model":"m"} {}"#, "invalid_json"),
        (r#"{"model":"m","model":"n"}"#, "duplicate_field"),
        (
            r#"{"model":"m","max_tokens":1,"max\u005ftokens":9}"#,
            "duplicate_field",
        ),
        (
            r#"{"model":"m","stream_options":{"include_usage":true,"include_usage":false}}"#,
            "duplicate_field",
        ),
        ("{}", "missing_model"),
        (r#"{"model":null}"#, "missing_model"),
        (r#"{"model":1}"#, "invalid_field"),
        (r#"{"model":""}"#, "invalid_field"),
        (r#"{"model":"a\u0000"}"#, "invalid_field"),
        (r#"{"model":"m","max_tokens":-1}"#, "invalid_field"),
        (r#"{"model":"m","max_tokens":1.0}"#, "invalid_field"),
        (r#"{"model":"m","max_tokens":1e3}"#, "invalid_field"),
        (r#"{"model":"m","max_tokens":"9"}"#, "invalid_field"),
        (
            r#"{"model":"m","max_tokens":9007199254740993}"#,
            "invalid_field",
        ),
        (r#"{"model":"m","n":99999999999999999999}"#, "invalid_field"),
        (r#"{"model":"m","n":-1}"#, "invalid_field"),
        (r#"{"model":"m","stream":"true"}"#, "invalid_field"),
        (r#"{"model":"m","stream":1}"#, "invalid_field"),
        (r#"{"model":"m","stream_options":[]}"#, "invalid_field"),
        (r#"{"model":"m","tools":{}}"#, "invalid_field"),
        (r#"{"model":"m","service_tier":1}"#, "invalid_field"),
    ] {
        assert_eq!(code(Operation::ChatCompletions, body), expected, "{body}");
    }
}

#[test]
fn the_larger_of_two_output_bounds_counts() {
    let ask =
        chat(r#"{"model":"m","max_tokens":500,"max_completion_tokens":800,"n":2,"best_of":5}"#);
    assert_eq!((ask.max_output_tokens, ask.choices), (Some(800), 5));
    assert_eq!(
        chat(r#"{"model":"m","max_tokens":null}"#).max_output_tokens,
        None
    );
    assert_eq!(
        chat(r#"{"model":"m","max_tokens":0}"#).max_output_tokens,
        None
    );
    assert_eq!(chat(r#"{"model":"m","n":null}"#).choices, 1);
}

#[test]
fn a_bound_of_another_api_is_no_bound() {
    assert_eq!(
        chat(r#"{"model":"m","max_output_tokens":1}"#).max_output_tokens,
        None
    );
    let ask = parse(
        Operation::Responses,
        r#"{"model":"m","max_tokens":1,"n":3}"#,
    )
    .expect("an ask");
    assert_eq!((ask.max_output_tokens, ask.choices), (None, 1));
}

#[test]
fn usage_is_asked_for_only_where_the_client_did_not() {
    for (body, expected) in [
        (
            r#"{ "model":"m","stream":true }"#,
            Some(r#"{"stream_options":{"include_usage":true}, "model":"m","stream":true }"#),
        ),
        (
            r#"{"stream":true,"stream_options":{ "include_usage" : false, "x":1},"model":"m"}"#,
            Some(
                r#"{"stream":true,"stream_options":{ "include_usage" : true, "x":1},"model":"m"}"#,
            ),
        ),
        (
            r#"{"stream":true,"stream_options":{},"model":"m"}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#),
        ),
        (
            r#"{"stream":true,"stream_options":null,"model":"m"}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#),
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            None,
        ),
        (r#"{"model":"m","stream":false}"#, None),
        (r#"{"model":"m"}"#, None),
    ] {
        let spliced = ask_for_usage(body.as_bytes(), &chat(body));
        assert_eq!(
            spliced
                .map(|body| String::from_utf8(body).expect("UTF-8"))
                .as_deref(),
            expected,
            "{body}"
        );
    }
    let body = br#"{"model":"m","stream":true}"#;
    let ask = Ask::parse(Operation::Responses, &Request::json(body)).expect("an ask");
    assert_eq!(
        ask_for_usage(body, &ask),
        None,
        "responses always report usage"
    );
}

#[test]
fn input_that_bytes_do_not_bound_is_recognised() {
    let chat = Operation::ChatCompletions;
    let (responses, messages) = (Operation::Responses, Operation::Messages);
    for (operation, rest, expected) in [
        (chat, r#""user":"a \"image_url\" b""#, Input::Bounded),
        (chat, r#""messages":[{"type":"image_url"}]"#, Input::Bounded),
        (
            chat,
            r#""messages":[{"type":"image\u005furl"}]"#,
            Input::Referenced,
        ),
        (chat, r#""messages":[{"type":"file"}]"#, Input::Referenced),
        (
            chat,
            r#""messages":[{"image_url":{"url":"data:application/pdf;base64,A"}}]"#,
            Input::Referenced,
        ),
        (
            chat,
            r#""tools":[{"type":"function","p":{"file":1}}]"#,
            Input::Bounded,
        ),
        (chat, r#""web_search_options":{}"#, Input::Looping),
        (
            responses,
            r#""previous_response_id":"r""#,
            Input::Referenced,
        ),
        (responses, r#""conversation":"c""#, Input::Referenced),
        (responses, r#""prompt":{"id":"p"}"#, Input::Looping),
        (responses, r#""tools":[{"type":"mcp"}]"#, Input::Looping),
        (
            messages,
            r#""messages":[{"type":"document"}]"#,
            Input::Referenced,
        ),
        (
            messages,
            r#""tools":[{"name":"f"},{"type":"bash_20250124"}]"#,
            Input::Bounded,
        ),
        (
            messages,
            r#""tools":[{"type":"advisor_20260301"}]"#,
            Input::Looping,
        ),
        (
            messages,
            r#""context_management":{"edits":[{"type":"clear_thinking_20251015"},{"type":"clear_tool_uses_20250919"}]}"#,
            Input::Bounded,
        ),
        (
            messages,
            r#""context_management":{"edits":[{"type":"clear_thinking_20251015"},{"type":"compact_20260112"}]}"#,
            Input::Looping,
        ),
        (
            messages,
            r#""context_management":{"edits":[],"compact":{}}"#,
            Input::Looping,
        ),
    ] {
        let body = format!(r#"{{"model":"m",{rest}}}"#);
        assert_eq!(
            parse(operation, &body).expect("an ask").input,
            expected,
            "{body}"
        );
    }
}

#[test]
fn cache_writes_and_tool_fees_are_recognised() {
    let ask = parse(
        Operation::Messages,
        r#"{"model":"m","system":[{"cache_control":{"type":"ephemeral"}}],
            "tools":[{"type":"web_search_20250305","max_uses":3},{"type":"web_fetch_1"}]}"#,
    )
    .expect("an ask");
    assert_eq!(ask.cache_write, CacheWrite::FiveMinutes);
    assert_eq!((ask.most.web_searches, ask.input), (3, Input::Looping));
    let ask = parse(
        Operation::Messages,
        r#"{"model":"m","cache_control":{"type":"ephemeral","ttl":"1h"}}"#,
    )
    .expect("an ask");
    assert_eq!(ask.cache_write, CacheWrite::OneHour);
    let ask = parse(
        Operation::Responses,
        r#"{"model":"m","tools":[{"type":"web_search"},{"type":"file_search"}],"max_tool_calls":4}"#,
    )
    .expect("an ask");
    assert_eq!((ask.most.web_searches, ask.most.file_searches), (4, 4));
    let ask = parse(
        Operation::Responses,
        r#"{"model":"m","tools":[{"type":"web_search"}]}"#,
    )
    .expect("an ask");
    assert_eq!(ask.most.web_searches, UNSTATED_TOOL_CALLS);
}

mod bounds;
mod bypasses;
mod media;
mod pictures;
