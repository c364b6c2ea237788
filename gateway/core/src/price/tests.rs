use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::call::{Request, Terms};
use crate::usage::tests::{is_stream, read_vector, vectors};

fn book() -> PriceBook {
    PriceBook::embedded().expect("the embedded prices are sound")
}

fn at(case: &Value) -> Timestamp {
    let time = case["request_time"]
        .as_str()
        .unwrap_or("2026-11-20T12:00:00Z");
    time.parse().expect("a time")
}

fn money(value: &Value) -> PicoUsd {
    value
        .as_str()
        .expect("an amount")
        .parse()
        .expect("an amount")
}

fn ask(operation: Operation, body: &str) -> Ask {
    Ask::parse(operation, &Request::json(body.as_bytes())).expect("a request")
}

#[test]
fn every_vector_costs_what_it_should() {
    let book = book();
    let mut priced = 0;
    for (operation, case) in vectors() {
        let reading = read_vector(operation, &case);
        let (Metered::Exact(_), Some(_)) = (reading.metered, case["expected_cost_usd"].as_str())
        else {
            continue;
        };
        let provider = case["provider"].as_str().expect("a provider");
        let ask = ask(operation, &case["request_excerpt"].to_string());
        let settled = book
            .settle(provider, &ask, &reading, at(&case), 4_096)
            .expect("a priced model");
        assert_eq!(
            settled.cost,
            money(&case["expected_cost_usd"]),
            "{}",
            case["id"]
        );
        assert_eq!(settled.source, UsageSource::Exact);
        assert_eq!(Some(settled.usage), reading.total());
        priced += 1;
    }
    assert_eq!(
        priced, 36,
        "42 but for one refused and five without final usage"
    );
}

#[test]
fn an_answer_without_final_usage_is_settled_between_nothing_and_the_worst_case() {
    let book = book();
    let mut estimated = 0;
    for (operation, case) in vectors() {
        let reading = read_vector(operation, &case);
        if matches!(reading.metered, Metered::Exact(_)) || !is_stream(&case) {
            continue;
        }
        let provider = case["provider"].as_str().expect("a provider");
        let ask = ask(operation, &case["request_excerpt"].to_string());
        let rates = book
            .rates(provider, ask.model.as_str(), at(&case))
            .expect("priced");
        let settled = book
            .settle(provider, &ask, &reading, at(&case), 4_096)
            .expect("a priced model");
        assert_eq!(settled.source, UsageSource::Estimated, "{}", case["id"]);
        assert!(settled.cost > PicoUsd::ZERO && settled.cost <= rates.worst_case(&ask, 4_096));
        if let Some(reported) = reading.total() {
            assert!(settled.usage.input_tokens == reported.input_tokens);
            assert!(settled.usage.output_tokens >= reported.output_tokens);
        }
        estimated += 1;
    }
    assert_eq!(estimated, 5);
}

/// A request that fits a bound vector, and whether its body can be given the stated length.
fn bound_case(case: &Value) -> Option<(Ask, PicoUsd)> {
    let operation = match (case["provider"].as_str()?, case["id"].as_str()?) {
        ("openai", id) if id.contains("-10-") || id.contains("-11-") => Operation::Responses,
        ("openai", _) => Operation::ChatCompletions,
        ("anthropic", _) => Operation::Messages,
        _ => return None,
    };
    let mut body = case["request_excerpt"].clone();
    body["model"] = case["model"].clone();
    Some((
        ask(operation, &body.to_string()),
        money(&case["expected_upper_usd"]),
    ))
}

#[test]
fn every_bound_vector_is_bounded_as_expected() {
    let file: Value =
        serde_json::from_str(include_str!("../../testdata/bound_vectors.json")).expect("JSON");
    let now = file["request_time"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    let book = book();
    let mut run = 0;
    for case in file["cases"].as_array().expect("cases") {
        let Some((mut ask, expected)) = bound_case(case) else {
            continue; // another dialect
        };
        // The vectors give the input bound; here it follows from the body.
        ask.body_bytes = case["input_tokens_upper"].as_u64().expect("a bound");
        ask.input = crate::call::Input::Bounded;
        ask.tools = false;
        let provider = case["provider"].as_str().expect("a provider");
        let rates = book
            .rates(provider, ask.model.as_str(), now)
            .expect("priced");
        assert_eq!(rates.worst_case(&ask, 1), expected, "{}", case["id"]);
        let calls = ask.most.web_searches + ask.most.file_searches;
        assert_eq!(
            Some(calls),
            case["tool_calls_upper"].as_u64(),
            "{}",
            case["id"]
        );
        run += 1;
    }
    assert_eq!(run, 9, "8 of OpenAI but for Gemini's two and Bedrock's one");
}

#[test]
fn the_largest_output_bound_is_the_last_one_that_fits() {
    let book = book();
    let now = "2026-11-20T12:00:00Z".parse().expect("a time");
    for body in [
        r#"{"model":"gpt-4.1-nano","messages":[],"n":3}"#,
        r#"{"model":"gpt-6-sol","service_tier":"auto","tools":[{"type":"function"}]}"#,
        r#"{"model":"gpt-4.1","prediction":{"content":"abc"},"n":2}"#,
    ] {
        let mut ask = ask(Operation::ChatCompletions, body);
        let rates = book
            .rates("openai", ask.model.as_str(), now)
            .expect("priced");
        let available = "0.05".parse().expect("an amount");
        let fits = rates
            .largest_output_bound(&ask, available)
            .expect("some output fits");
        ask.max_output_tokens = Some(fits);
        assert!(rates.worst_case(&ask, 0) <= available, "{body}");
        ask.max_output_tokens = Some(fits + 1);
        assert!(rates.worst_case(&ask, 0) > available, "{body}");
        assert_eq!(rates.largest_output_bound(&ask, PicoUsd::new(1)), None);
    }
}

#[test]
fn absurd_bounds_are_dear_and_not_an_overflow() {
    let now = "2026-11-20T12:00:00Z".parse().expect("a time");
    let body = r#"{"model":"gpt-6-sol","max_tokens":9007199254740992,"n":9007199254740992,
        "prediction":{},"service_tier":"auto"}"#;
    let ask = ask(Operation::ChatCompletions, body);
    let rates = book().rates("openai", "gpt-6-sol", now).expect("priced");
    assert_eq!(rates.worst_case(&ask, u64::MAX), MOST);
    assert_eq!(rates.largest_output_bound(&ask, PicoUsd::ZERO), None);
    assert!(
        rates.exact(
            &Usage {
                output_tokens: u64::MAX,
                ..Usage::default()
            },
            &Terms::default()
        ) > MOST
    );
}

#[test]
fn an_unstated_output_bound_is_the_models_then_the_windows_then_the_tenants() {
    let book = book();
    let now = "2026-11-20T12:00:00Z".parse().expect("a time");
    let worst = |model: &str, default| {
        let ask = ask(
            Operation::ChatCompletions,
            &format!(r#"{{"model":"{model}"}}"#),
        );
        let rates = book.rates("openai", model, now).expect("priced");
        rates.worst_case(&ask, default)
    };
    assert_eq!(
        worst("gpt-4.1", 5),
        worst("gpt-4.1", 50),
        "32,768 from the table"
    );
    assert_eq!(
        worst("gpt-6.1-terra", 5),
        worst("gpt-6.1-terra", 50),
        "its window"
    );
    assert!(
        worst("gpt-6-rosalind", 5) < worst("gpt-6-rosalind", 50),
        "nothing is known of it"
    );
}

#[test]
fn prices_follow_the_date_the_hour_and_the_reseller() {
    let book = book();
    let cost = |provider: &str, model: &str, time: &str| {
        let rates = book.rates(provider, model, time.parse().expect("a time"))?;
        let million = Usage {
            input_tokens: 1_000_000,
            ..Usage::default()
        };
        Some(rates.exact(&million, &Terms::default()).to_string())
    };
    let before = cost("openai", "gpt-5.6-sol", "2026-08-20T23:59:59Z");
    let after = cost("openai", "gpt-5.6-sol", "2026-08-21T00:00:00Z");
    assert_ne!(before, after);
    assert_eq!(
        cost("azure", "gpt-4.1-mini", "2026-11-20T12:00:00Z").as_deref(),
        Some("0.4"),
        "azure resells OpenAI's"
    );
    assert_eq!(cost("nobody", "gpt-4.1", "2026-11-20T12:00:00Z"), None);
    assert_eq!(
        cost("openai", "gpt-transcribe", "2026-11-20T12:00:00Z"),
        None
    );
    let claude = |time| cost("anthropic", "claude-sonnet-4-5-20250929", time);
    assert_eq!(
        claude("2026-04-29T00:00:00Z").as_deref(),
        Some("6"),
        "long context"
    );
    assert_eq!(
        claude("2026-04-30T00:00:00Z").as_deref(),
        Some("3"),
        "no longer"
    );
    let peak = cost("deepseek", "deepseek-chat", "2026-11-20T07:00:00Z");
    assert!(peak.is_some());
}

#[test]
fn an_operators_file_wins_and_changes_the_version() {
    let now = "2026-11-20T12:00:00Z".parse().expect("a time");
    let plain = book();
    let version = plain.version().to_owned();
    assert_eq!(version, book().version());
    let book = plain
        .with_file(
            r#"{"format":1,"overrides":[
            {"provider":"openai","model":"gpt-4.1","prices":{"input_mtok":"1","output_mtok":4}},
            {"provider":"openai","model":"our-deployment","same_as":{"provider":"openai","model":"gpt-4.1"}},
            {"provider":"vllm","match":{"starts_with":"llama"},"prices":{"input_mtok":0,"output_mtok":0},"max_output_tokens":100},
            {"provider":"openai","model":"gpt-4o","max_output_tokens":7}]}"#,
        )
        .expect("a sound file");
    assert_ne!(book.version(), version);
    let usage = Usage {
        input_tokens: 3,
        output_tokens: 1,
        ..Usage::default()
    };
    let cost = |provider, model| {
        let rates = book.rates(provider, model, now).expect("priced");
        rates.exact(&usage, &Terms::default()).to_string()
    };
    assert_eq!(cost("openai", "gpt-4.1"), "0.000007");
    assert_eq!(cost("openai", "our-deployment"), "0.000007");
    assert_eq!(cost("vllm", "llama-9"), "0");
    let ask = ask(Operation::ChatCompletions, r#"{"model":"gpt-4o"}"#);
    let rates = book.rates("openai", "gpt-4o", now).expect("priced");
    assert_eq!(
        rates.worst_case(&ask, 0).to_string(),
        "0.000115",
        "18 bytes in, 7 tokens out"
    );
}

#[test]
fn a_price_file_with_a_mistake_is_refused() {
    for (text, expected) in [
        ("{}", "shape"),
        (r#"{"format":2,"overrides":[]}"#, "format 1"),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","modell":"x"}]}"#,
            "modell",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","model":"no-such","drop_tiers":true}]}"#,
            "no model",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","prices":{"input_mtok":"1"}}]}"#,
            "neither",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","model":"m","prices":{"input_mtok":"-1"}}]}"#,
            "not a price",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","match":{"regex":"("},"prices":{"input_mtok":"1"}}]}"#,
            "pattern",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","model":"m","same_as":{"provider":"openai","model":"no-such"}}]}"#,
            "no model",
        ),
    ] {
        let error = book().with_file(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

fn any_usage() -> impl Strategy<Value = Usage> {
    proptest::array::uniform11(0_u64..2_000_000).prop_map(|n| {
        Usage {
            input_tokens: n[0],
            cached_input_tokens: n[1],
            cache_write_tokens: n[2],
            cache_write_1h_tokens: n[3],
            output_tokens: n[4],
            reasoning_tokens: n[5],
            input_audio_tokens: n[6],
            cached_audio_tokens: n[7],
            output_audio_tokens: n[8],
            web_searches: n[9] % 5,
            file_searches: n[10] % 5,
            ..Usage::default()
        }
        .consistent()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_usage_within_the_bounds_costs_more_than_the_worst_case(
        usage in any_usage(),
        model in proptest::sample::select(vec![
            "gpt-4.1", "gpt-6-sol", "gpt-audio", "gpt-5-mini", "gpt-4o-audio-preview",
            "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-4-8"]),
        tier in proptest::sample::select(vec!["", "auto", "flex", "priority", "default"]),
        speed in proptest::sample::select(vec!["", "fast"]),
    ) {
        thread_local!(static BOOK: PriceBook = book());
        BOOK.with(|book| {
            let now = "2026-11-20T12:00:00Z".parse().expect("a time");
            let claude = model.starts_with("claude");
            let (provider, operation) = if claude {
                ("anthropic", Operation::Messages)
            } else {
                ("openai", Operation::Responses)
            };
            let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
            let mut ask = ask(operation, &format!(r#"{{"model":"{model}"}}"#));
            ask.body_bytes = usage.input_tokens;
            ask.max_output_tokens = Some(usage.output_tokens.max(1));
            ask.cache_write = crate::call::CacheWrite::OneHour;
            ask.most.web_searches = usage.web_searches;
            ask.most.file_searches = usage.file_searches;
            ask.terms = Terms {
                service_tier: text(tier),
                speed: text(speed),
                inference_geo: text("us"),
                processing: None,
            };
            let rates = book.rates(provider, model, now).expect("priced");
            let worst = rates.worst_case(&ask, 0);
            prop_assert!(rates.exact(&usage, &ask.terms) <= worst);
            prop_assert!(rates.exact(&usage, &Terms::default()) <= worst);
            if tier == "auto" {
                let served = Terms { service_tier: text("priority"), ..ask.terms.clone() };
                prop_assert!(rates.exact(&usage, &served) <= worst);
            }
            Ok(())
        })?;
    }
}
