//! What finished calls are settled at.

use super::*;
use crate::record::UsageSource;

/// What a call is settled at on a Friday noon.
fn settle(provider: &str, ask: &Ask, reading: &Reading) -> Settlement {
    BOOK.settle(provider, ask, reading, noon(), 4_096)
        .expect("a priced model")
}

fn worst(provider: &str, ask: &Ask) -> PicoUsd {
    let rates = BOOK.rates(provider, ask.model.as_str(), noon());
    rates.expect("priced").worst_case(ask, 4_096)
}

#[test]
fn what_a_reseller_reports_is_what_is_settled() {
    let ask = ask(Operation::ChatCompletions, "openai/gpt-4o-mini");
    let mut reading = stated(tokens(900, 69));
    reading.reported_cost = Some(usd("0.0160614"));
    let settled = settle("openrouter", &ask, &reading);
    assert_eq!(settled.cost, usd("0.0160614"));
    assert_eq!(settled.computed, Some(usd("0.0001764")));
    assert_eq!(settled.reported, reading.reported_cost);

    reading.reported_cost = Some(PicoUsd::ZERO);
    let settled = settle("openrouter", &ask, &reading);
    assert_eq!(
        settled.cost,
        usd("0.0001764"),
        "a key of one's own is billed elsewhere"
    );

    reading.metered = Metered::Unknown;
    reading.reported_cost = Some(usd("1"));
    let settled = settle("openrouter", &ask, &reading);
    assert_eq!(
        (settled.cost, settled.source),
        (usd("1"), UsageSource::Estimated)
    );

    let mut unknown = ask;
    unknown.model = "nobody/nothing".parse().expect("a name");
    let settled = settle("openrouter", &unknown, &reading);
    assert_eq!((settled.cost, settled.computed), (usd("1"), None));
}

#[test]
fn a_report_of_any_other_provider_is_kept_and_not_believed() {
    let ask = ask(Operation::ChatCompletions, "gpt-4.1");
    let mut reading = stated(tokens(1_000, 0));
    reading.reported_cost = Some(usd("0.000001"));
    let settled = settle("openai", &ask, &reading);
    assert_eq!(settled.cost, usd("0.002"));
    assert_eq!(settled.reported, reading.reported_cost);
}

#[test]
fn speech_that_states_nothing_is_exact_where_characters_are_billed() {
    let mut ask = ask(Operation::Speech, "tts-1");
    ask.most.characters = 1_000;
    let settled = settle("openai", &ask, &Reading::nothing());
    assert_eq!(settled.cost, usd("0.015"));
    assert_eq!(settled.source, UsageSource::Exact);
    assert_eq!(settled.usage.characters, 1_000);

    ask.model = "gpt-4o-mini-tts".parse().expect("a name");
    let settled = settle("openai", &ask, &Reading::nothing());
    assert_eq!(settled.source, UsageSource::Estimated);
    assert_eq!(
        settled.cost,
        usd("0.024"),
        "2,000 tokens at $12 per million"
    );
}

#[test]
fn what_is_used_and_has_no_price_is_settled_at_the_worst_case() {
    let mut ask = ask(Operation::Transcriptions, "whisper-1");
    ask.most.audio_ms = 60_000;
    let by_tokens = settle("openai", &ask, &stated(tokens(500, 50)));
    assert_eq!(by_tokens.cost, usd("0.006"), "a minute, as bounded");
    assert_eq!(by_tokens.source, UsageSource::Estimated);
    let silent = settle("openai", &ask, &stated(Usage::default()));
    assert_eq!(
        (silent.cost, silent.source),
        (usd("0.006"), UsageSource::Estimated)
    );
    let by_time = stated(Usage {
        audio_ms: 30_000,
        ..tokens(500, 50)
    });
    let by_time = settle("openai", &ask, &by_time);
    assert_eq!(
        by_time.cost,
        usd("0.003"),
        "tokens that are not billed do not matter"
    );
    assert_eq!(by_time.source, UsageSource::Exact);
    let embedding = super::ask(Operation::InvokeModel, "amazon.titan-embed-text-v2:0");
    let chatty = settle("aws", &embedding, &stated(tokens(10, 10)));
    assert_eq!(chatty.source, UsageSource::Estimated);
    assert_eq!(chatty.cost, usd("0.0000002"), "the input it reported");
}

#[test]
fn groq_bills_ten_seconds_at_least_and_the_record_tells_the_truth() {
    let ask = ask(Operation::Transcriptions, "whisper-large-v3");
    let audio = |audio_ms| {
        stated(Usage {
            audio_ms,
            ..Usage::default()
        })
    };
    let short = settle("groq", &ask, &audio(3_200));
    assert_eq!(short.cost, usd("0.000308333333"));
    assert_eq!(short.usage.audio_ms, 3_200);
    let long = settle("groq", &ask, &audio(45_500));
    assert_eq!(
        long.cost,
        usd("0.001402916667"),
        "45.5 x 0.111 / 3600, to the nearest"
    );
}

#[test]
fn usage_of_other_models_is_never_free() {
    let ask = ask(Operation::Messages, "claude-sonnet-5");
    let mut reading = stated(tokens(1_000, 0));
    reading
        .elsewhere
        .push(("claude-opus-4-8".to_owned(), tokens(1_000, 0)));
    let known = settle("anthropic", &ask, &reading);
    assert_eq!(
        (known.cost, known.source),
        (usd("0.007"), UsageSource::Exact)
    );
    assert_eq!(known.usage, tokens(2_000, 0));
    reading
        .elsewhere
        .push(("nobody-knows".to_owned(), tokens(1_000, 0)));
    let unknown = settle("anthropic", &ask, &reading);
    assert_eq!(
        unknown.cost,
        usd("0.012"),
        "as the dearest of the known ones"
    );
    assert_eq!(unknown.source, UsageSource::Estimated);
}

#[test]
fn a_batch_is_the_sum_of_its_lines_at_the_price_of_batches() {
    let ask = ask(Operation::BatchOutput, "batch");
    let mut reading = stated(Usage::default());
    reading.terms.processing = Some("batch".to_owned());
    reading.elsewhere = vec![
        ("gpt-4.1-mini".to_owned(), tokens(1_000_000, 0)),
        ("gpt-4.1-mini-2025-04-14".to_owned(), tokens(0, 1_000_000)),
    ];
    let settled = settle("openai", &ask, &reading);
    assert_eq!(settled.cost, usd("1"), "half of $0.40 and half of $1.60");
    assert_eq!(settled.source, UsageSource::Exact);
    assert_eq!(settled.usage, tokens(1_000_000, 1_000_000));
    reading.elsewhere = vec![("unheard-of".to_owned(), tokens(1, 1))];
    assert_eq!(BOOK.settle("openai", &ask, &reading, noon(), 1), None);

    let results = super::ask(Operation::MessageBatchResults, "batch");
    let mut reading = stated(Usage::default());
    reading.terms.service_tier = Some("batch".to_owned());
    reading.elsewhere = vec![("claude-sonnet-4-6".to_owned(), tokens(1_000_000, 0))];
    let settled = settle("anthropic", &results, &reading);
    assert_eq!(
        settled.cost,
        usd("1.5"),
        "Anthropic names batches as a tier"
    );
}

#[test]
fn amazons_prices_are_those_of_the_profile_asked_for() {
    let ask = ask(
        Operation::InvokeModel,
        "global.anthropic.claude-haiku-4-5-20251001-v1:0",
    );
    let mut reading = stated(tokens(1_000_000, 0));
    reading.response_model = Some("claude-haiku-4-5-20251001".to_owned());
    assert_eq!(settle("aws", &ask, &reading).cost, usd("1"));
}

#[test]
fn rates_known_beforehand_serve_names_that_mean_nothing_to_the_catalogue() {
    let ask = ask(Operation::Converse, "our-profile");
    let reading = stated(tokens(1_000_000, 0));
    let settled = BOOK.settle("aws", &ask, &reading, noon(), 1);
    assert_eq!(settled, None);
    let rates = BOOK.rates("aws", "amazon.nova-lite-v1:0", noon());
    let settled = BOOK.settle_at("aws", rates.as_ref(), &ask, &reading, noon(), 1);
    assert_eq!(settled.map(|settled| settled.cost), Some(usd("0.06")));
}

#[test]
fn pictures_that_are_not_broken_down_are_charged_as_pictures() {
    let ask = ask(Operation::ImageGenerations, "gpt-image-1.5");
    let settled = settle("openai", &ask, &stated(tokens(0, 1_000)));
    assert_eq!(settled.cost, usd("0.032"));
    assert_eq!(settled.usage.output_image_tokens, 0, "as it was reported");
}

#[test]
fn a_deferred_call_is_settled_at_its_worst_case() {
    let mut ask = ask(Operation::Responses, "gpt-4.1");
    ask.deferred = true;
    ask.max_output_tokens = Some(1_000);
    let settled = settle("openai", &ask, &Reading::nothing());
    assert_eq!(settled.cost, worst("openai", &ask));
    assert_eq!(settled.source, UsageSource::Estimated);
}

#[test]
fn a_cheaper_tier_that_the_answer_does_not_confirm_makes_nothing_cheaper() {
    for tier in ["flex", "batch"] {
        let mut ask = ask(Operation::Responses, "gpt-5");
        ask.terms.service_tier = Some(tier.to_owned());
        let mut reading = stated(tokens(1_000_000, 0));
        assert_eq!(settle("openai", &ask, &reading).cost, usd("1.25"), "{tier}");
        reading.terms.service_tier = Some("flex".to_owned());
        assert_eq!(settle("openai", &ask, &reading).cost, usd("0.625"));
    }
    let mut ask = ask(Operation::Responses, "gpt-5");
    ask.terms.service_tier = Some("priority".to_owned());
    let reading = stated(tokens(1_000_000, 0));
    assert_eq!(settle("openai", &ask, &reading).cost, usd("2.5"), "dearer");
}

#[test]
fn usage_that_was_reported_is_charged_even_where_the_bound_was_too_low() {
    let mut ask = ask(Operation::ChatCompletions, "gpt-4.1");
    ask.max_output_tokens = Some(1);
    ask.body_bytes = 100;
    let mut reading = stated(tokens(1_000_000, 0));
    reading.metered = Metered::Partial(tokens(1_000_000, 0));
    let settled = settle("openai", &ask, &reading);
    assert_eq!(settled.cost, usd("2"));
    assert_eq!(settled.source, UsageSource::Estimated);
}
