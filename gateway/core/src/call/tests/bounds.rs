//! What may come out and what may be charged beside it, dialect by dialect.

use serde_json::{Value, json};

use super::*;

const VECTORS: &str = include_str!("../../../testdata/bound_vectors.json");

fn at(operation: Operation, path: &str, body: &Value) -> Result<Ask, Refusal> {
    let model = "model-in-path".parse().expect("a name");
    let body = body.to_string();
    let request = Request {
        path,
        model_in_path: Some(&model),
        ..Request::json(body.as_bytes())
    };
    Ask::parse(operation, &request)
}

fn ask(operation: Operation, body: &Value) -> Ask {
    at(operation, "/", body).expect("an ask")
}

fn bound(operation: Operation, body: &Value) -> (Option<u64>, u64) {
    let ask = ask(operation, body);
    (ask.max_output_tokens, ask.choices)
}

#[test]
fn every_bound_vector_is_read_to_its_bound() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("the vectors");
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 12);
    for case in cases {
        let id = case["id"].as_str().expect("an id");
        let request = &case["request_excerpt"];
        let operation = match case["provider"].as_str().expect("a provider") {
            "anthropic" => Operation::Messages,
            "google" => Operation::GenerateContent,
            "aws" => Operation::Converse,
            _ if id.ends_with("best_of") => Operation::Completions,
            _ if request.get("max_output_tokens").is_some() => Operation::Responses,
            _ => Operation::ChatCompletions,
        };
        let ask = ask(operation, request);
        let output = ask.max_output_tokens.map(|most| most * ask.choices);
        if id.ends_with("no-cap") {
            assert_eq!((output, ask.choices), (None, 1), "{id}: the model's own");
        } else {
            assert_eq!(output, case["output_tokens_upper"].as_u64(), "{id}");
        }
        let tools = case["tool_calls_upper"].as_u64();
        assert_eq!(Some(ask.most.web_searches), tools, "{id}");
        let tier = request["service_tier"].as_str();
        assert_eq!(ask.terms.service_tier.as_deref(), tier, "{id}");
        let (cache, input) = (ask.cache_write, ask.input);
        assert_eq!(
            cache == CacheWrite::OneHour,
            id.ends_with("cache-write"),
            "{id}"
        );
        assert_eq!(input == Input::Looping, id.ends_with("websearch"), "{id}");
    }
}

#[test]
fn a_field_that_only_some_servers_know_raises_the_bound_and_is_none_by_itself() {
    let chat = Operation::ChatCompletions;
    for raising in ["max_output_tokens", "max_new_tokens", "n_predict"] {
        assert_eq!(bound(chat, &json!({ raising: 9 })), (None, 1), "{raising}");
        let both = json!({ "max_tokens": 5, raising: 9 });
        assert_eq!(bound(chat, &both), (Some(9), 1), "{raising}");
        let lower = json!({ "max_tokens": 5, raising: 2 });
        assert_eq!(bound(chat, &lower), (Some(5), 1), "{raising}");
        assert!(at(chat, "/", &json!({ raising: -1 })).is_err(), "{raising}");
    }
}

#[test]
fn thinking_beyond_the_bound_is_added_to_it() {
    let chat = Operation::ChatCompletions;
    let messages = Operation::Messages;
    for (operation, body, expected) in [
        (
            chat,
            json!({"max_tokens":10,"thinking_budget":90}),
            Some(100),
        ),
        (chat, json!({"max_tokens":10,"enable_thinking":true}), None),
        (
            chat,
            json!({"max_tokens":10,"enable_thinking":false}),
            Some(10),
        ),
        (
            chat,
            json!({"max_tokens":10,"enable_thinking":true,"thinking_budget":5}),
            Some(15),
        ),
        (
            chat,
            json!({"max_tokens":10,"reasoning":{"max_tokens":90}}),
            Some(100),
        ),
        (
            chat,
            json!({"max_tokens":10,"reasoning":{"effort":"high"}}),
            Some(10),
        ),
        (
            messages,
            json!({"max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":1024}}),
            Some(2000),
        ),
        (
            messages,
            json!({"max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":9000}}),
            Some(11_000),
        ),
        (
            Operation::Converse,
            json!({"inferenceConfig":{"maxTokens":5},
                   "additionalModelRequestFields":{"max_tokens":7,"thinking":{"budget_tokens":9}}}),
            Some(16),
        ),
        (
            Operation::CohereChat,
            json!({"max_tokens":5,"thinking":{"token_budget":9}}),
            Some(14),
        ),
    ] {
        assert_eq!(bound(operation, &body).0, expected, "{body}");
    }
}

#[test]
fn every_prompt_of_a_completion_is_answered() {
    for (prompt, choices) in [
        (json!("x"), 3),
        (json!(["x"]), 3),
        (json!(["x", "y"]), 6),
        (json!([1, 2, 3, 4]), 3),
        (json!([[1, 2], [3]]), 6),
        (json!([]), 3),
        (json!(null), 3),
        (json!([1, "x"]), 6),
    ] {
        let body = json!({"prompt": prompt, "max_tokens": 9, "n": 2, "best_of": 3});
        assert_eq!(
            bound(Operation::Completions, &body),
            (Some(9), choices),
            "{body}"
        );
    }
    let without = json!({"prompt": "x"});
    assert_eq!(bound(Operation::Completions, &without), (None, 1));
}

#[test]
fn gemini_bounds_count_in_both_spellings_and_the_larger_holds() {
    for (body, expected) in [
        (
            json!({"generationConfig":{"maxOutputTokens":9}}),
            (Some(9), 1),
        ),
        (
            json!({"generation_config":{"max_output_tokens":9,"candidate_count":4}}),
            (Some(9), 4),
        ),
        (
            json!({"generationConfig":{"maxOutputTokens":1,"candidateCount":1},
                   "generation_config":{"max_output_tokens":9,"candidateCount":2}}),
            (Some(9), 2),
        ),
        (
            json!({"generationConfig":{"maxOutputTokens":9,"thinkingConfig":{"thinkingBudget":99}}}),
            (Some(9), 1),
        ),
        (
            json!({"generationConfig":{"maxOutputTokens":9,"responseModalities":["TEXT"]}}),
            (Some(9), 1),
        ),
        (
            json!({"generationConfig":{"maxOutputTokens":9,"responseModalities":["IMAGE"]}}),
            (None, 1),
        ),
        (json!({"max_tokens":9}), (None, 1)),
    ] {
        assert_eq!(bound(Operation::GenerateContent, &body), expected, "{body}");
    }
    for bad in [json!("9"), json!(9.0), json!(-1)] {
        let body = json!({"generationConfig":{"maxOutputTokens":bad}});
        assert!(
            at(Operation::GenerateContent, "/", &body).is_err(),
            "{body}"
        );
    }
    let twice =
        r#"{"generationConfig":{"maxOutputTokens":1,"maxOutputTok\u0065ns":9},"model":"m"}"#;
    assert_eq!(code(Operation::GenerateContent, twice), "duplicate_field");
}

#[test]
fn an_invocation_is_bounded_by_the_field_of_its_model() {
    for (body, expected) in [
        (
            json!({"anthropic_version":"x","max_tokens":5}),
            (Some(5), 1),
        ),
        (json!({"inferenceConfig":{"maxTokens":5}}), (Some(5), 1)),
        (
            json!({"inferenceConfig":{"max_new_tokens":5}}),
            (Some(5), 1),
        ),
        (
            json!({"textGenerationConfig":{"maxTokenCount":5}}),
            (Some(5), 1),
        ),
        (json!({"prompt":"x","max_gen_len":5}), (Some(5), 1)),
        (
            json!({"prompt":"x","max_tokens":5,"max_gen_len":7,"num_generations":3}),
            (Some(7), 3),
        ),
        (
            json!({"messages":[],"max_completion_tokens":5,"n":2}),
            (Some(5), 2),
        ),
        (
            json!({"prompt":"x","maxTokens":5,"numResults":4}),
            (Some(5), 4),
        ),
        (json!({"inputText":"x"}), (None, 1)),
    ] {
        assert_eq!(bound(Operation::InvokeModel, &body), expected, "{body}");
    }
}

#[test]
fn ollama_predicts_without_end_unless_told_and_streams_unless_told() {
    for (body, most, stream) in [
        (json!({}), None, true),
        (
            json!({"options":{"num_predict":9},"stream":false}),
            Some(9),
            false,
        ),
        (json!({"options":{"num_predict":-1}}), None, true),
        (json!({"options":{"num_predict":-2}}), None, true),
        (
            json!({"options":{"num_predict":0},"stream":null}),
            None,
            true,
        ),
    ] {
        let ask = ask(Operation::OllamaChat, &body);
        assert_eq!(
            (ask.max_output_tokens, ask.stream),
            (most, stream),
            "{body}"
        );
    }
    for bad in [json!("9"), json!(9.5), json!({}), json!("-1")] {
        let body = json!({"options":{"num_predict":bad}});
        assert!(at(Operation::OllamaChat, "/", &body).is_err(), "{body}");
    }
}

#[test]
fn the_path_says_which_model_and_whether_it_streams() {
    for (operation, path, stream) in [
        (
            Operation::GenerateContent,
            "/v1beta/models/m:generateContent",
            false,
        ),
        (
            Operation::GenerateContent,
            "/v1beta/models/m:streamGenerateContent",
            true,
        ),
        (
            Operation::Messages,
            "/v1/publishers/anthropic/models/m:rawPredict",
            false,
        ),
        (
            Operation::Messages,
            "/v1/publishers/anthropic/models/m:streamRawPredict",
            true,
        ),
        (Operation::Converse, "/model/m/converse", false),
        (Operation::Converse, "/model/m/converse-stream", true),
        (Operation::InvokeModel, "/model/m/invoke", false),
        (
            Operation::InvokeModel,
            "/model/m/invoke-with-response-stream",
            true,
        ),
    ] {
        let ask = at(operation, path, &json!({"model":"in-body"})).expect("an ask");
        assert_eq!(
            (ask.model.as_str(), ask.stream),
            ("model-in-path", stream),
            "{path}"
        );
    }
    let vertex = json!({"anthropic_version":"vertex-2023-10-16","stream":true});
    assert!(ask(Operation::Messages, &vertex).stream);
}

#[test]
fn what_generates_nothing_has_a_bound_of_zero() {
    for operation in [
        Operation::Embeddings,
        Operation::EmbedContent,
        Operation::CohereEmbed,
        Operation::OllamaEmbed,
        Operation::Ocr,
    ] {
        assert_eq!(
            bound(operation, &json!({"input":"x","max_tokens":9})),
            (Some(0), 1)
        );
    }
}

#[test]
fn a_rerank_is_bounded_in_searches_and_in_tokens() {
    let rerank = |documents: Value| {
        ask(
            Operation::Rerank,
            &json!({"query":"12345678","documents":documents}),
        )
    };
    assert_eq!(rerank(json!(vec!["x"; 100])).most.search_units, 1);
    assert_eq!(rerank(json!(vec!["x"; 101])).most.search_units, 2);
    assert_eq!(rerank(json!([])).most.search_units, 1);
    // Each counts as up to five pieces of 250 tokens.
    let long = rerank(json!(vec![json!({"text":"x".repeat(1_000)}); 100]));
    assert_eq!(long.most.search_units, 5);
    let body = json!({"query":"12345678","documents":["a","b","c"]});
    let read = ask(Operation::Rerank, &body);
    let length = u64::try_from(body.to_string().len()).expect("small");
    assert_eq!(
        read.body_bytes,
        length + 3 * 10,
        "the query counts for every document"
    );
    assert!(at(Operation::Rerank, "/", &json!({"query":"x"})).is_err());
}

#[test]
fn a_document_has_no_more_pages_than_are_asked_for_or_can_be() {
    for (rest, pages, annotated) in [
        (json!({}), 1_000, false),
        (json!({"pages":[0,1,2]}), 3, false),
        (json!({"pages":[]}), 1_000, false),
        (json!({"pages":"0-5"}), 1_000, false),
        (
            json!({"pages":[0],"bbox_annotation_format":{"type":"json_schema"}}),
            1,
            true,
        ),
    ] {
        let ask = ask(Operation::Ocr, &rest);
        assert_eq!((ask.most.pages, ask.tools), (pages, annotated), "{rest}");
    }
}

#[test]
fn expected_tokens_are_a_quarter_of_the_bytes_and_the_output_asked_for() {
    let body = r#"{"model":"m","max_tokens":100,"n":3}"#;
    let ask = chat(body);
    assert_eq!(ask.expected_tokens(9), 36 / 4 + 300);
    assert_eq!(chat(r#"{"model":"m" }"#).expected_tokens(9), 4 + 9);
    let huge = format!(r#"{{"model":"m","max_tokens":{0},"n":{0}}}"#, 1_u64 << 53);
    assert_eq!(chat(&huge).expected_tokens(0), u64::MAX);
}
