use super::*;
use crate::policy::Operation;
use crate::usage::batch::{Line, Results};

fn at() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("a time")
}

fn prices() -> Arc<PriceBook> {
    Arc::new(PriceBook::embedded().expect("the embedded prices"))
}

fn charge(catalogue: &str, amount: i128) -> Charge {
    Charge {
        record: "019ab3c0000070008000000000000001".parse().expect("an id"),
        keys: vec!["acme/tenant/day:2026-11-20".parse().expect("a key")],
        amount: PicoUsd::new(amount),
        catalogue: Some(catalogue.into()),
        model: None,
        aliases: Vec::new(),
        lines: 0,
        terms: Terms {
            processing: Some("batch".to_owned()),
            ..Terms::default()
        },
        at: at(),
    }
}

fn correct(operation: Operation, charge: Charge, file: &[u8]) -> Correction {
    let mut tally = Tally::new(charge, prices());
    let mut results = Results::new(operation);
    let mut add = |line| match line {
        Line::Used(reading) => tally.add(&reading),
        Line::Unbilled => {}
        Line::Unread => tally.add_unread(),
    };
    results.feed(file, &mut add);
    results.finish(&mut add);
    tally.finish()
}

/// A line of an output file: a chat completion of so many tokens.
fn line(model: &str, input: u64, output: u64) -> String {
    format!(
        r#"{{"id":"b","custom_id":"c{input}","response":{{"status_code":200,"request_id":"r","body":{{"id":"x","object":"chat.completion","model":"{model}","choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":1}}}}}},"error":null}}"#
    ) + "\n"
}

#[test]
fn the_vectors_of_batches_cost_what_they_say() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../testdata/usage_vectors.json")).expect("JSON");
    let cases = file["cases"].as_array().expect("cases");
    for (id, operation) in [
        ("openai-batch-036-output-line", Operation::BatchOutput),
        ("anthropic-049-batch", Operation::MessageBatchResults),
    ] {
        let case = cases.iter().find(|case| case["id"] == id).expect(id);
        let answer = case["response_body"].to_string();
        let provider = case["provider"].as_str().expect("a provider");
        let correction = correct(operation, charge(provider, 0), answer.as_bytes());
        let cost: PicoUsd = case["expected_cost_usd"]
            .as_str()
            .and_then(|cost| cost.parse().ok())
            .expect("a cost");
        assert_eq!(correction.cost, cost, "{id}");
        assert_eq!(correction.source, UsageSource::Exact);
        let count = |name: &str| case["expected"][name].as_u64().unwrap_or(0);
        let usage = correction.usage;
        assert_eq!(usage.input_tokens, count("input_tokens"), "{id}");
        assert_eq!(usage.cached_input_tokens, count("cached_input_tokens"));
        assert_eq!(usage.output_tokens, count("output_tokens"), "{id}");
    }
}

#[test]
fn what_was_charged_and_its_correction_are_what_was_used() {
    // 1,000 in at half of $2 and 100 out at half of $8 per million, twice.
    let file = line("gpt-4.1", 1_000, 100) + &line("gpt-4.1", 1_000, 100);
    for charged in [0_i128, 1, 2_800_000_000, 9_000_000_000] {
        let correction = correct(
            Operation::BatchOutput,
            charge("openai", charged),
            file.as_bytes(),
        );
        assert_eq!(charged + correction.cost.as_pico(), 2_800_000_000);
        assert_eq!(correction.models.len(), 1);
        assert_eq!(correction.usage.output_tokens, 200);
    }
}

#[test]
fn each_call_is_priced_by_its_own_length() {
    // Gemini and the like charge long inputs more; two short ones together are not a long one.
    let book = prices();
    let rates = book
        .rates("openai", "gpt-5.4", at())
        .expect("a model with a context tier");
    let usage = Usage {
        input_tokens: 200_000,
        output_tokens: 10,
        ..Usage::default()
    };
    let terms = charge("openai", 0).terms;
    let one = rates.exact(&usage, &terms).as_pico();
    let both = rates.exact(&usage.plus(&usage), &terms).as_pico();
    assert!(both > 2 * one, "the model has a context tier");
    let file = line("gpt-5.4", 200_000, 10).repeat(2);
    let correction = correct(Operation::BatchOutput, charge("openai", 0), file.as_bytes());
    assert_eq!(correction.cost.as_pico(), 2 * one);
}

#[test]
fn nothing_is_given_back_for_results_that_cannot_be_read() {
    let file = line("gpt-4.1", 1_000, 100) + "{\"custom_id\":\"broken\n";
    for (charged, expected) in [(9_000_000_000, 0), (1_000, 1_400_000_000 - 1_000)] {
        let correction = correct(
            Operation::BatchOutput,
            charge("openai", charged),
            file.as_bytes(),
        );
        assert_eq!(correction.cost.as_pico(), expected);
        assert_eq!(correction.source, UsageSource::Estimated);
    }
    let unpriced = line("no-such-model", 10, 10);
    let correction = correct(
        Operation::BatchOutput,
        charge("openai", 500),
        unpriced.as_bytes(),
    );
    assert_eq!(correction.cost, PicoUsd::ZERO);
}

#[test]
fn calls_that_failed_cost_nothing() {
    let file = concat!(
        r#"{"custom_id":"a","response":{"status_code":400,"request_id":"r","body":{"error":{"message":"no"}}},"error":null}"#,
        "\n",
        r#"{"custom_id":"b","response":null,"error":{"code":"batch_expired"}}"#,
        "\n",
    );
    let correction = correct(
        Operation::BatchOutput,
        charge("openai", 500),
        file.as_bytes(),
    );
    assert_eq!(correction.cost.as_pico(), -500);
    assert_eq!(correction.source, UsageSource::Exact);
    let file = r#"{"custom_id":"a","result":{"type":"errored","error":{}}}
{"custom_id":"b","result":{"type":"expired"}}
{"custom_id":"c","result":{"type":"canceled"}}"#;
    let correction = correct(
        Operation::MessageBatchResults,
        charge("anthropic", 500),
        file.as_bytes(),
    );
    assert_eq!(correction.cost.as_pico(), -500);
}

#[test]
fn without_prices_usage_is_counted_and_costs_nothing() {
    let charge = Charge {
        catalogue: None,
        ..charge("openai", 0)
    };
    let file = line("own-model", 10, 20);
    let correction = correct(Operation::BatchOutput, charge, file.as_bytes());
    assert_eq!(correction.cost, PicoUsd::ZERO);
    assert_eq!(correction.models[0].0, "own-model");
    assert_eq!(correction.usage.output_tokens, 20);
}

#[test]
fn a_file_of_any_number_of_models_makes_a_record_of_bounded_size() {
    let file: String = (0..100).map(|n| line(&format!("m{n}"), 1, 1)).collect();
    let correction = correct(Operation::BatchOutput, charge("openai", 0), file.as_bytes());
    assert_eq!(correction.models.len(), MAX_MODELS + 1);
    assert_eq!(correction.usage.input_tokens, 100);
}

#[test]
fn ids_that_no_provider_gives_are_not_kept() {
    let (tenant, provider) = (
        "acme".parse().expect("a tenant"),
        "openai".parse().expect("a provider"),
    );
    let id = |id: &str| RemoteId::new(&tenant, &provider, Kind::File, id);
    assert_eq!(id(""), None);
    assert_eq!(id(&"x".repeat(257)), None);
    assert!(id("file-1").is_some());
    for path in ["/v1/files/file-1/content", "/v1/files/file%2D1"] {
        let named = RemoteId::in_path(&tenant, &provider, Kind::File, path, "files");
        assert_eq!(named, id("file-1"), "{path}");
    }
    for path in ["/v1/files", "/v1/files/", "/v1/batches/file-1"] {
        let named = RemoteId::in_path(&tenant, &provider, Kind::File, path, "files");
        assert_eq!(named, None, "{path}");
    }
}

#[test]
fn a_name_that_is_the_clients_own_is_priced_as_what_it_stands_for() {
    let dear = "gpt-4.1";
    // A deployment that is called like another model.
    let aliases = vec![(
        "gpt-4.1-nano".parse().expect("a name"),
        dear.parse().expect("a name"),
    )];
    let aliased = Charge {
        aliases,
        ..charge("openai", 0)
    };
    let echoed = line("gpt-4.1-nano", 1_000, 10);
    let told = correct(Operation::BatchOutput, aliased, echoed.as_bytes());
    let named = line(dear, 1_000, 10);
    let expected = correct(
        Operation::BatchOutput,
        charge("openai", 0),
        named.as_bytes(),
    );
    assert_eq!(told, expected);
    assert!(told.cost > PicoUsd::ZERO, "{told:?}");
}
