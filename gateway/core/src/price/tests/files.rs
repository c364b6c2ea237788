//! Operators' files: what they can say, and what is wrong with them.

use super::*;

/// What a million tokens in cost.
fn input(book: &PriceBook, provider: &str, model: &str, at: &str) -> Option<String> {
    let rates = book.rates(provider, model, time(at))?;
    let usage = tokens(1_000_000, 0);
    Some(rates.exact(&usage, &Terms::default()).to_string())
}

fn with(text: &str) -> PriceBook {
    book().with_file(text).expect("a sound file")
}

const NOON: &str = "2026-11-20T12:00:00Z";

#[test]
fn prices_follow_the_date_the_hour_and_the_reseller() {
    let cost = |provider, model, at| input(&BOOK, provider, model, at);
    assert_ne!(
        cost("openai", "gpt-5.6-sol", "2026-08-20T23:59:59Z"),
        cost("openai", "gpt-5.6-sol", "2026-08-21T00:00:00Z")
    );
    assert_eq!(
        cost("azure", "gpt-4.1-mini", NOON).as_deref(),
        Some("0.4"),
        "azure resells OpenAI's"
    );
    assert_eq!(cost("nobody", "gpt-4.1", NOON), None);
    let claude = |at| cost("anthropic", "claude-sonnet-4-5-20250929", at);
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
}

#[test]
fn deepseek_is_off_peak_at_night_and_on_weekends() {
    for (at, expected) in [
        ("2026-11-20T02:30:00Z", "1.32"), // a Friday
        ("2026-11-20T05:00:00Z", "0.66"),
        ("2026-11-20T09:59:59Z", "1.32"),
        ("2026-11-20T10:00:00Z", "0.66"),
        ("2026-11-21T02:30:00Z", "0.66"), // a Saturday
        ("2026-11-22T09:00:00Z", "0.66"),
        ("2026-11-23T01:00:00Z", "1.32"),
        ("2026-08-22T02:30:00Z", "1.32"), // a Saturday when weekends were no exception
        ("2026-08-16T02:30:00Z", "0.435"),
    ] {
        let cost = input(&BOOK, "deepseek", "deepseek-v4-pro", at);
        assert_eq!(cost.as_deref(), Some(expected), "{at}");
    }
    for model in ["deepseek-v4-flash", "deepseek-flash"] {
        let cost = |at| input(&BOOK, "deepseek", model, at);
        assert_eq!(cost("2026-11-20T02:30:00Z").as_deref(), Some("0.3"));
        assert_eq!(cost("2026-11-21T02:30:00Z").as_deref(), Some("0.15"));
    }
}

#[test]
fn amazons_names_are_found_with_their_geography_and_as_resource_names() {
    let cost = |model: &str| input(&BOOK, "aws", model, NOON);
    for (model, expected) in [
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", Some("1")),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", Some("1.1")),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", Some("1.1")),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/global.anthropic.claude-haiku-4-5-20251001-v1:0",
            Some("1"),
        ),
        (
            "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-haiku-4-5-20251001-v1:0",
            Some("1.1"),
        ),
        // A region that the catalogue does not list costs what the region's own name does.
        ("apac.anthropic.claude-opus-4-8-v1:0", Some("5.5")),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-opus-5-5",
            Some("4.4"),
        ),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/a1b2c3d4",
            None,
        ),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:provisioned-model/anthropic.claude-opus-5-5",
            None,
        ),
    ] {
        assert_eq!(cost(model).as_deref(), expected, "{model}");
    }
}

#[test]
fn fine_tuned_models_have_their_own_price_or_none() {
    let cost = |model: &str| input(&BOOK, "openai", model, NOON);
    assert_eq!(
        cost("ft:gpt-4o-mini-2024-07-18:us:x:1").as_deref(),
        Some("0.3")
    );
    assert_eq!(cost("ft:gpt-4.1-mini-2025-04-14:us::1"), None);
}

#[test]
fn an_operators_file_wins_and_changes_the_version() {
    let version = book().version().to_owned();
    assert_eq!(version, *book().version());
    let book = with(
        r#"{"format":1,"overrides":[
        {"provider":"openai","model":"gpt-4.1","prices":{"input_mtok":"1","output_mtok":4}},
        {"provider":"openai","model":"our-deployment","same_as":{"provider":"openai","model":"gpt-4.1"}},
        {"provider":"vllm","match":{"starts_with":"llama"},"price_per_call":"0","max_output_tokens":100},
        {"provider":"vllm","model":"big","price_per_call":"0.01"},
        {"provider":"openai","model":"gpt-4o","max_output_tokens":7}]}"#,
    );
    assert_ne!(*book.version(), version);
    let cost = |provider, model| {
        let rates = book.rates(provider, model, noon()).expect("priced");
        assert!(rates.covers(Operation::ChatCompletions));
        rates.exact(&tokens(3, 1), &Terms::default()).to_string()
    };
    assert_eq!(cost("openai", "gpt-4.1"), "0.000007");
    assert_eq!(cost("openai", "our-deployment"), "0.000007");
    assert_eq!(cost("vllm", "llama-9"), "0");
    assert_eq!(cost("vllm", "big"), "0.01");
    let big = book.rates("vllm", "big", noon()).expect("priced");
    for operation in [Operation::Ocr, Operation::Speech, Operation::Rerank] {
        assert!(big.covers(operation));
        assert_eq!(big.worst_case(&ask(operation, "big"), 9), usd("0.01"));
    }
    let mut ask = ask(Operation::ChatCompletions, "gpt-4o");
    ask.body_bytes = 18;
    let rates = book.rates("openai", "gpt-4o", noon()).expect("priced");
    assert_eq!(
        rates.worst_case(&ask, 0),
        usd("0.000115"),
        "18 bytes in, 7 tokens out"
    );
}

#[test]
fn an_operators_price_for_the_name_asked_for_wins_over_the_answers_name() {
    let book = with(
        r#"{"format":1,"overrides":[{"provider":"azure","model":"our-deploy",
            "prices":{"input_mtok":"1","output_mtok":"1"}}],
        "aliases":[{"provider":"azure","model":"Other-Deploy","priced_as":"gpt-4.1"}]}"#,
    );
    let mut reading = stated(tokens(1_000_000, 0));
    let mut settle = |model: &str, answered: Option<&str>| {
        reading.response_model = answered.map(str::to_owned);
        let ask = ask(Operation::ChatCompletions, model);
        book.settle("azure", &ask, &reading, noon(), 1)
            .map(|settled| settled.cost.to_string())
    };
    assert_eq!(
        settle("our-deploy", Some("gpt-4.1-2025-04-14")).as_deref(),
        Some("1")
    );
    assert_eq!(settle("other-deploy", None).as_deref(), Some("2"));
    assert_eq!(
        settle("other-deploy", Some("gpt-4.1-nano")).as_deref(),
        Some("0.1"),
        "the answer knows better than an alias"
    );
    assert_eq!(settle("nameless", None), None);
}

#[test]
fn the_example_in_the_documentation_is_a_sound_file() {
    let page = include_str!("../../../prices/README.md");
    let (_, rest) = page.split_once("```json").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let book = with(example);
    let cost = |model, at| input(&book, "deepseek", model, at);
    assert_eq!(cost("our-model", NOON).as_deref(), Some("1"));
    assert_eq!(
        cost("our-model", "2026-11-20T02:00:00Z").as_deref(),
        Some("2")
    );
    assert_eq!(
        input(&book, "azure", "my-deploy", NOON).as_deref(),
        Some("1.6"),
        "an alias follows the price of what it stands for"
    );
}

#[test]
fn a_price_file_with_a_mistake_is_refused() {
    for (text, expected) in [
        ("[]", "shape"),
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
            r#"{"format":1,"overrides":[{"provider":"openai","model":"m","prices":{"input_tokens":"1"}}]}"#,
            "unknown unit",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","model":"m","prices":{},"price_per_call":"1"}]}"#,
            "not several",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","match":{"regex":"("},"prices":{"input_mtok":"1"}}]}"#,
            "pattern",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"openai","model":"m","same_as":{"provider":"openai","model":"no-such"}}]}"#,
            "no model",
        ),
        (
            r#"{"format":1,"aliases":[{"provider":"azure","model":"m","priced_as":"no-such"}]}"#,
            "no model",
        ),
        (
            r#"{"format":1,"overrides":[{"provider":"x","model":"m","prices":[
                {"constraint":{"weekdays":["someday"]},"prices":{"input_mtok":"1"}}]}]}"#,
            "someday",
        ),
    ] {
        let error = book().with_file(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// A catalogue as genai-prices publishes it: prices are JSON numbers.
const OTHER: &str = r#"{"providers":[{"id":"openai","models":[
    {"id":"gpt-4.1","match":{"equals":"gpt-4.1"},"prices":{"input_mtok":12.5,"output_mtok":8,"cache_read_mtok":5e-05}},
    {"id":"whole-new","match":{"equals":"whole-new"},"prices":{"input_mtok":1,"output_mtok":{"base":2,"tiers":[{"start":100,"price":3}]}}},
    {"id":"odd","match":{"equals":"odd"},"prices":{"input_mtok":1,"input_mdreams":2}}]}]}"#;

#[test]
fn another_catalogue_takes_our_corrections_where_they_apply() {
    let other = PriceBook::from_catalogue(OTHER).expect("a sound catalogue");
    assert_eq!(
        input(&other, "openai", "gpt-4.1", NOON).as_deref(),
        Some("12.5")
    );
    assert_eq!(
        input(&other, "openai", "odd", NOON),
        None,
        "a unit that cannot be counted"
    );
    assert!(input(&other, "mistral", "mistral-large-latest", NOON).is_some());
    assert_ne!(other.version(), BOOK.version());
    let list = format!("[{}]", &OTHER[14..OTHER.len() - 2]);
    assert!(PriceBook::from_catalogue(&list).is_ok(), "a list alone");
    assert!(PriceBook::from_catalogue("{}").is_err());
}

#[test]
fn a_list_names_each_model_once_with_exact_prices() {
    let listed = BOOK.list(noon());
    assert!(listed.len() > 2_000);
    let find = |provider: &str, model: &str| {
        let mut found = listed
            .iter()
            .filter(|listed| listed.provider == provider && listed.model == model);
        let one = found.next().expect("listed").clone();
        assert!(found.next().is_none());
        one
    };
    let price = |listed: &Listed, unit: &str| {
        let mut prices = listed.prices.iter();
        prices.find(|price| price.unit == unit).cloned()
    };
    let sol = find("openai", "gpt-6-sol");
    assert_eq!(sol.context_window, Some(1_050_000));
    let input = price(&sol, "input_mtok").expect("priced");
    assert_eq!(input.usd, "2");
    assert_eq!(input.tiers, [(272_000, "4".to_owned())]);
    let flex = sol.variants.iter().find(|variant| {
        variant
            .when
            .get("service_tier")
            .is_some_and(|tier| tier == "flex")
    });
    assert!(flex.is_some());
    let turbo = find("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo");
    assert_eq!(price(&turbo, "input_mtok").expect("priced").usd, "1.04");
    let whisper = find("groq", "whisper-large-v3");
    assert_eq!(price(&whisper, "audio_hours").expect("priced").usd, "0.111");
    assert_eq!(price(&whisper, "input_mtok"), None);
    let ocr = find("mistral", "mistral-ocr-2512");
    assert_eq!(
        price(&ocr, "input_document_kpages").expect("priced").usd,
        "2"
    );
    assert_eq!(
        find("openai", "gpt-5.6-sol").valid_from.as_deref(),
        Some("2026-08-21")
    );
}

#[test]
fn changes_name_what_moved_vanished_and_appeared() {
    let other = PriceBook::from_catalogue(OTHER).expect("a sound catalogue");
    assert_eq!(BOOK.changes(&BOOK, noon()), []);
    let changes = BOOK.changes(&other, noon());
    let of = |model: &str, unit: &str| {
        let mut changes = changes.iter();
        changes
            .find(|change| {
                change.provider == "openai" && change.model == model && change.unit == unit
            })
            .cloned()
    };
    let dearer = of("gpt-4.1", "input_mtok").expect("a change");
    assert_eq!(dearer.before.as_deref(), Some("2"));
    assert_eq!(dearer.after.as_deref(), Some("12.5"));
    assert!(dearer.suspicious, "more than five times");
    assert_eq!(of("gpt-4.1", "output_mtok"), None, "the same");
    let cheaper = of("gpt-4.1", "cache_read_mtok").expect("a change");
    assert_eq!(cheaper.after.as_deref(), Some("0.00005"));
    assert!(cheaper.suspicious);
    assert!(
        of("gpt-4.1", "web_searches_kcount")
            .expect("a change")
            .vanished()
    );
    assert!(
        of("gpt-4.1-nano", "input_mtok")
            .expect("a change")
            .vanished()
    );
    assert!(
        of(
            "gpt-6-sol",
            "input_mtok above 272000 with service_tier=flex"
        )
        .expect("a change")
        .vanished()
    );
    let new = of("whole-new", "output_mtok above 100").expect("a change");
    assert_eq!((new.before, new.suspicious), (None, false));
}
