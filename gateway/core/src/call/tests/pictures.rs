//! Lists of any length, pictures that go in, pictures that tools draw, and tools that run other models.

use super::*;

fn pictures(operation: Operation, rest: &str) -> (u64, Input) {
    let ask = parse(operation, &format!(r#"{{"model":"m",{rest}}}"#)).expect("an ask");
    (ask.pictures, ask.input)
}

#[test]
fn pictures_are_counted_and_nothing_else_becomes_unbounded_by_them() {
    let two = r#""messages":[{"content":[
        {"type":"image_url","image_url":{"url":"https://x"}},
        {"type":"image_url","image_url":{"url":"data:image/png;base64,A"}}]}]"#;
    let chat = Operation::ChatCompletions;
    assert_eq!(pictures(chat, two), (2, Input::Bounded));
    let untyped = r#""messages":[{"content":[{"image_url":"https://x"}]}]"#;
    assert_eq!(pictures(chat, untyped), (1, Input::Bounded));
    assert_eq!(
        pictures(
            Operation::Responses,
            r#""input":[{"content":[{"type":"input_image","file_id":"f"}]},
                {"output":{"type":"computer_screenshot","image_url":"u"}}]"#
        ),
        (2, Input::Bounded)
    );
    assert_eq!(
        pictures(
            Operation::Messages,
            r#""messages":[{"content":[{"type":"image","source":{"type":"url","url":"u"}}]}]"#
        ),
        (1, Input::Bounded)
    );
}

#[test]
fn a_picture_that_a_tool_draws_is_bounded_by_the_searches_that_cost_as_much() {
    let searches = |tool: &str| {
        let body = format!(r#"{{"model":"m","max_tool_calls":1,"tools":[{tool}]}}"#);
        let ask = parse(Operation::Responses, &body).expect("an ask");
        ask.most.web_searches
    };
    assert_eq!(searches(r#"{"type":"image_generation"}"#), 34);
    let large = r#"{"type":"image_generation","model":"gpt-image-2","partial_images":3}"#;
    assert_eq!(searches(large), 143);
}

#[test]
fn tools_and_plugins_that_run_other_models_are_refused() {
    for (operation, rest, taken) in [
        (
            Operation::Messages,
            r#""tools":[{"type":"advisor_20260301","model":"other"}]"#,
            false,
        ),
        (
            Operation::Messages,
            r#""tools":[{"type":"advisor_20260301","model":"m"}]"#,
            true,
        ),
        (
            Operation::ChatCompletions,
            r#""tools":[{"type":"openrouter:fusion"}]"#,
            false,
        ),
        (
            Operation::ChatCompletions,
            r#""tools":[{"type":"openrouter:web_search"}]"#,
            true,
        ),
        (
            Operation::ChatCompletions,
            r#""plugins":[{"id":"fusion"}]"#,
            false,
        ),
        (
            Operation::ChatCompletions,
            r#""plugins":[{"id":"auto-router"}]"#,
            false,
        ),
    ] {
        let body = format!(r#"{{"model":"m",{rest}}}"#);
        assert_eq!(parse(operation, &body).is_ok(), taken, "{body}");
    }
}

#[test]
fn a_list_longer_than_any_provider_takes_costs_no_memory_and_hides_nothing() {
    let long = format!("[{}1]", "1,".repeat(1 << 20));
    for (operation, field) in [
        (Operation::ChatCompletions, "tools"),
        (Operation::ChatCompletions, "models"),
        (Operation::Completions, "prompt"),
        (Operation::Rerank, "documents"),
    ] {
        let body = format!(r#"{{"model":"m","{field}":{long}}}"#);
        assert!(parse(operation, &body).is_err(), "{field}");
    }
    let body = format!(r#"{{"model":"m","input":[{}{{}}]}}"#, "1,".repeat(1 << 20));
    let ask = parse(Operation::Embeddings, &body).expect("an ask");
    assert_eq!(ask.input, Input::Referenced);
}

#[test]
fn what_is_put_before_a_prompt_by_a_template_or_a_shape_is_bounded() {
    let chat = r#"{"model":"m","chat_template":"{% for i in range(9) %}x{% endfor %}"}"#;
    let ask = parse(Operation::ChatCompletions, chat).expect("an ask");
    assert_eq!(ask.input, Input::Referenced);
    let shaped = r#"{"model":"m","output_config":{"format":{"type":"json_schema"}}}"#;
    assert!(parse(Operation::Messages, shaped).expect("an ask").tools);
}
