//! Every usage vector costs what it should.

use super::*;
use crate::record::UsageSource;
use crate::usage::tests::{every_vector, is_stream, read_vector};

fn cases() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../../testdata/usage_vectors.json")).expect("JSON");
    file["cases"].as_array().expect("cases").clone()
}

/// The prices the vectors assume: models of one's own are free where their operator says so.
fn with_own_models() -> PriceBook {
    book()
        .with_file(
            r#"{"format":1,"overrides":[
            {"provider":"ollama","match":{"contains":""},"price_per_call":"0"},
            {"provider":"vllm","match":{"contains":""},"price_per_call":"0"}]}"#,
        )
        .expect("a sound file")
}

/// What is done at a vector's endpoint; `None` where nothing is metered.
fn operation(case: &Value) -> Option<Operation> {
    let provider = case["provider"].as_str().expect("a provider");
    let endpoint = case["endpoint"].as_str().expect("an endpoint");
    let ends = |end: &str| endpoint.ends_with(end);
    Some(match provider {
        "anthropic" if endpoint.contains("/results") => Operation::MessageBatchResults,
        "anthropic" if ends("/count_tokens") => return None,
        "anthropic" => Operation::Messages,
        "google" if endpoint.contains("RawPredict") => Operation::Messages,
        "google" => Operation::GenerateContent,
        "aws" if endpoint.contains("/converse") => Operation::Converse,
        "aws" => Operation::InvokeModel,
        "cohere" if ends("/rerank") => Operation::Rerank,
        "cohere" if ends("/embed") => Operation::CohereEmbed,
        "cohere" => Operation::CohereChat,
        "ollama" => Operation::OllamaChat,
        _ if ends("/ocr") => Operation::Ocr,
        _ if ends("/transcriptions") => Operation::Transcriptions,
        _ if ends("/speech") => Operation::Speech,
        _ if ends("/generations") => Operation::ImageGenerations,
        _ if ends("/edits") => Operation::ImageEdits,
        _ if ends("/embeddings") => Operation::Embeddings,
        _ if ends("/responses") || endpoint.contains("/realtime") => Operation::Responses,
        _ if endpoint.contains("/batches") => Operation::BatchOutput,
        _ if ends("/v1/completions") => Operation::Completions,
        _ if ends("/moderations") => return None,
        _ => Operation::ChatCompletions,
    })
}

fn at(case: &Value) -> Timestamp {
    time(case["request_time"].as_str().expect("a time"))
}

/// A decimal number of seconds in milliseconds.
fn ms(seconds: &Value) -> u64 {
    let text = seconds.to_string();
    let text = text.trim_matches('"');
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{part:0<3}").parse().expect("a number")
}

/// The usage that a vector says is to be read from its answer.
fn expected_usage(expected: &Value) -> Usage {
    let count = |name: &str| expected[name].as_u64().unwrap_or(0);
    Usage {
        input_tokens: count("input_tokens"),
        cached_input_tokens: count("cached_input_tokens"),
        cache_write_tokens: count("cache_write_tokens") - count("cache_write_1h_tokens"),
        cache_write_1h_tokens: count("cache_write_1h_tokens"),
        output_tokens: count("output_tokens"),
        reasoning_tokens: count("reasoning_tokens"),
        input_audio_tokens: count("input_audio_tokens"),
        cached_audio_tokens: count("cached_audio_tokens"),
        output_audio_tokens: count("output_audio_tokens"),
        input_image_tokens: count("input_image_tokens"),
        output_image_tokens: count("output_image_tokens"),
        tool_input_tokens: count("tool_input_tokens"),
        web_searches: count("web_search_requests"),
        file_searches: count("file_search_requests"),
        search_units: count("search_units"),
        pages: count("pages"),
        audio_ms: if expected["audio_seconds"].is_null() {
            0
        } else {
            ms(&expected["audio_seconds"])
        },
        ..Usage::default()
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The request of a vector. Where the model is in the path it is the one to price by, but for
/// Azure, whose path holds a name that says nothing.
fn ask_of(operation: Operation, case: &Value) -> Ask {
    let request = &case["request_excerpt"];
    let model = match case["provider"].as_str() {
        Some("azure") => "some-deployment",
        _ => request["model"]
            .as_str()
            .or(case["model"].as_str())
            .expect("a model"),
    };
    let mut ask = ask(operation, model);
    ask.stream = is_stream(case);
    ask.terms.service_tier = text(&request["service_tier"]);
    ask.terms.speed = text(&request["speed"]);
    ask.terms.inference_geo = text(&request["inference_geo"]);
    if matches!(
        operation,
        Operation::BatchOutput | Operation::MessageBatchResults
    ) {
        // As the batch was asked for, of which the answer is one line.
        ask.terms.processing = Some("batch".to_owned());
    }
    if operation == Operation::Speech {
        let characters = request["input"].as_str().expect("an input").chars().count();
        ask.most.characters = u64::try_from(characters).expect("a count");
    }
    ask
}

/// What an answer says, by the vector's own account of it.
fn reading_of(case: &Value) -> Option<Reading> {
    let mut reading = stated(expected_usage(
        case["expected"].as_object().map(|_| &case["expected"])?,
    ));
    let context = &case["price_context"];
    reading.terms = Terms {
        service_tier: text(&context["service_tier"]),
        speed: text(&context["speed"]),
        processing: text(&context["processing"]),
        inference_geo: None,
    };
    reading.response_model = text(&case["model"]);
    let reported = case["provider_reported_cost_usd"].as_str();
    reading.reported_cost = reported.map(usd);
    if operation(case).is_some_and(|done| done == Operation::InvokeModel) {
        reading.response_model = Some("claude-haiku-4-5-20251001".to_owned());
    }
    if case["id"] == "anthropic-053-advisor" {
        reading.metered = Metered::Exact(tokens(2_390, 121));
        reading
            .elsewhere
            .push(("claude-opus-4-8".to_owned(), tokens(2_518, 22)));
    }
    Some(reading)
}

#[test]
fn every_vector_with_a_cost_costs_that_much() {
    let book = with_own_models();
    let mut priced = 0;
    for case in cases() {
        let id = case["id"].as_str().expect("an id");
        let Some(expected) = case["expected_cost_usd"].as_str().map(usd) else {
            continue; // no final usage
        };
        let Some(operation) = operation(&case).filter(|_| case["http_status"] == 200) else {
            assert_eq!(expected, PicoUsd::ZERO, "{id}: free, or refused");
            continue;
        };
        let ask = ask_of(operation, &case);
        let reading = reading_of(&case).expect("usage");
        let provider = case["provider"].as_str().expect("a provider");
        let settled = book
            .settle(provider, &ask, &reading, at(&case), 4_096)
            .expect(id);
        assert_eq!(settled.cost, expected, "{id}");
        assert_eq!(settled.source, UsageSource::Exact, "{id}");
        if let Some(computed) = case["expected_token_cost_usd"].as_str() {
            assert_eq!(settled.computed, Some(usd(computed)), "{id}");
        }
        priced += 1;
    }
    assert_eq!(
        priced, 86,
        "94, but for three that are free or refused and five without final usage"
    );
}

#[test]
fn the_components_of_every_vector_add_up_without_the_catalogue() {
    let mut added = 0;
    for case in cases() {
        let Some(components) = case["cost_components"].as_array() else {
            continue;
        };
        let expected = case["expected_token_cost_usd"]
            .as_str()
            .or(case["expected_cost_usd"].as_str());
        let factor = case["price_multiplier"].to_string();
        let factor = if factor == "null" {
            super::decimal::Factor::ONE
        } else {
            super::decimal::Factor::read(&factor).expect("a factor")
        };
        let mut sum = 0_i128;
        for part in components {
            let key = part["unit"].as_str().expect("a unit");
            let unit = units::Unit::of_key(key).expect("a known unit");
            let price = unit.read(&part["price"].to_string()).expect("a price");
            let count = if key == "audio_hours" {
                ms(&part["count"])
            } else {
                part["count"].as_u64().expect("a count")
            };
            let factor = if key.ends_with("_mtok") {
                factor
            } else {
                super::decimal::Factor::ONE
            };
            sum += i128::from(count) * price.0 * factor.0;
        }
        let expected = expected.map(usd).expect("a cost");
        assert_eq!(rates::round_half_even(sum), expected, "{}", case["id"]);
        added += 1;
    }
    assert!(added >= 80, "{added}");
}

#[test]
fn every_vector_that_is_read_is_settled_as_it_should_be() {
    let book = with_own_models();
    for (operation, case) in every_vector() {
        if case["http_status"] != 200 || operation == Operation::Free {
            continue;
        }
        let id = case["id"].as_str().expect("an id");
        let reading = read_vector(operation, &case);
        let provider = case["provider"].as_str().expect("a provider");
        let ask = ask_of(operation, &case);
        let settled = book
            .settle(provider, &ask, &reading, at(&case), 4_096)
            .expect(id);
        if let Some(expected) = case["expected_cost_usd"].as_str() {
            assert_eq!(settled.cost, usd(expected), "{id}");
            assert_eq!(settled.source, UsageSource::Exact, "{id}");
            continue;
        }
        let rates = book
            .rates(provider, ask.model.as_str(), at(&case))
            .expect("priced");
        assert_eq!(settled.source, UsageSource::Estimated, "{id}");
        assert!(settled.cost > PicoUsd::ZERO, "{id}");
        assert!(settled.cost <= rates.worst_case(&ask, 4_096), "{id}");
        if let Some(reported) = reading.total() {
            assert_eq!(settled.usage.input_tokens, reported.input_tokens, "{id}");
            assert!(settled.usage.output_tokens >= reported.output_tokens);
        }
    }
}
