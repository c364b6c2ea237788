//! The worst case: vectors, bypasses and properties.

use proptest::prelude::*;

use super::*;
use crate::call::Request;

/// A bound vector's request, as its dialect reads it.
fn bound_case(case: &Value) -> Ask {
    let id = case["id"].as_str().expect("an id");
    let operation = match case["provider"].as_str().expect("a provider") {
        "openai" if id.contains("-10-") || id.contains("-11-") => Operation::Responses,
        "openai" if id.contains("-04-") => Operation::Completions,
        "openai" => Operation::ChatCompletions,
        "anthropic" => Operation::Messages,
        "google" => Operation::GenerateContent,
        _ => Operation::Converse,
    };
    let model = case["model"].as_str().expect("a model");
    let mut body = case["request_excerpt"].clone();
    let name = model.parse().expect("a model's name");
    let in_path = matches!(operation, Operation::GenerateContent | Operation::Converse);
    if !in_path {
        body["model"] = model.into();
    }
    if operation == Operation::Completions {
        body["prompt"] = "x".into();
    }
    let request = Request {
        model_in_path: in_path.then_some(&name),
        ..Request::json(&[])
    };
    let text = body.to_string();
    let request = Request {
        body: text.as_bytes(),
        ..request
    };
    Ask::parse(operation, &request).expect(id)
}

#[test]
fn every_bound_vector_is_bounded_as_expected() {
    let file: Value =
        serde_json::from_str(include_str!("../../../testdata/bound_vectors.json")).expect("JSON");
    let now = time(file["request_time"].as_str().expect("a time"));
    let mut run = 0;
    for case in file["cases"].as_array().expect("cases") {
        let mut ask = bound_case(case);
        // The vectors give the input bound; here it follows from the body.
        ask.body_bytes = case["input_tokens_upper"].as_u64().expect("a bound");
        ask.input = Input::Bounded;
        ask.pictures = 0;
        ask.tools = false;
        let provider = case["provider"].as_str().expect("a provider");
        let rates = BOOK
            .rates(provider, ask.model.as_str(), now)
            .expect("priced");
        assert_eq!(
            rates.worst_case(&ask, 1),
            money(&case["expected_upper_usd"]),
            "{}",
            case["id"]
        );
        let calls = ask.most.web_searches + ask.most.file_searches;
        assert_eq!(Some(calls), case["tool_calls_upper"].as_u64());
        run += 1;
    }
    assert_eq!(run, 12);
}

#[test]
fn absurd_bounds_are_dear_and_not_an_overflow() {
    let mut ask = ask(Operation::ChatCompletions, "gpt-6-sol");
    ask.max_output_tokens = Some(1 << 53);
    ask.choices = 1 << 53;
    ask.body_bytes = 100;
    ask.prediction = true;
    ask.terms.service_tier = Some("auto".to_owned());
    let rates = BOOK.rates("openai", "gpt-6-sol", noon()).expect("priced");
    assert_eq!(rates.worst_case(&ask, u64::MAX), MOST);
    assert_eq!(rates.largest_output_bound(&ask, PicoUsd::ZERO), None);
    assert!(rates.exact(&tokens(0, u64::MAX), &Terms::default()) > MOST);
}

#[test]
fn an_unstated_output_bound_is_the_models_then_the_windows_then_the_tenants() {
    let worst = |model: &str, default| {
        let rates = BOOK.rates("openai", model, noon()).expect("priced");
        rates.worst_case(&ask(Operation::ChatCompletions, model), default)
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
fn each_operation_is_bounded_by_what_it_bills() {
    let worst = |provider: &str, ask: &Ask| {
        let rates = BOOK
            .rates(provider, ask.model.as_str(), noon())
            .expect("priced");
        rates.worst_case(ask, 4_096).to_string()
    };
    let mut whisper = ask(Operation::Transcriptions, "whisper-1");
    whisper.input = Input::Referenced;
    whisper.most.audio_ms = 60_000;
    assert_eq!(worst("openai", &whisper), "0.006");
    let mut short = ask(Operation::Transcriptions, "whisper-large-v3");
    short.most.audio_ms = 1;
    assert_eq!(worst("groq", &short), "0.000308333334", "ten seconds, up");
    let mut transcribe = ask(Operation::Transcriptions, "gpt-4o-transcribe");
    transcribe.most.audio_ms = 60_000;
    // 16,000 tokens of audio at $6 and 2,000 of text at $10 per million.
    assert_eq!(worst("openai", &transcribe), "0.116");
    let mut speech = ask(Operation::Speech, "tts-1");
    speech.most.characters = 1_000;
    assert_eq!(worst("openai", &speech), "0.015");
    speech.model = "gpt-4o-mini-tts".parse().expect("a name");
    speech.body_bytes = 1_000;
    // 1,000 bytes at $0.60 and 8,512 tokens at $12 per million.
    assert_eq!(worst("openai", &speech), "0.102744");
    let mut ocr = ask(Operation::Ocr, "mistral-ocr-2512");
    ocr.most.pages = 10;
    assert_eq!(worst("mistral", &ocr), "0.02");
    ocr.tools = true;
    assert_eq!(worst("mistral", &ocr), "0.03", "with annotations");
    let mut rerank = ask(Operation::Rerank, "rerank-v3.5");
    rerank.most.search_units = 2;
    assert_eq!(worst("cohere", &rerank), "0.004");
    let mut image = ask(Operation::ImageGenerations, "gpt-image-1.5");
    image.max_output_tokens = Some(1_000);
    image.choices = 2;
    assert_eq!(
        worst("openai", &image),
        "0.064",
        "images at $32 per million"
    );
    let mut embedding = ask(Operation::Embeddings, "text-embedding-3-small");
    embedding.body_bytes = 1_000_000;
    assert_eq!(worst("openai", &embedding), "0.02", "nothing comes out");
}

#[test]
fn a_model_is_priced_only_for_what_it_has_prices_for() {
    let covers = |provider: &str, model: &str, operation| {
        let rates = BOOK.rates(provider, model, noon())?;
        Some(rates.covers(operation))
    };
    for (provider, model, operation, expected) in [
        ("openai", "whisper-1", Operation::Transcriptions, Some(true)),
        (
            "openai",
            "whisper-1",
            Operation::ChatCompletions,
            Some(false),
        ),
        ("openai", "gpt-4.1", Operation::ChatCompletions, Some(true)),
        ("openai", "gpt-4.1", Operation::Ocr, Some(false)),
        ("openai", "tts-1", Operation::Speech, Some(true)),
        ("openai", "tts-1", Operation::Responses, Some(false)),
        (
            "openai",
            "text-embedding-3-small",
            Operation::Embeddings,
            Some(true),
        ),
        (
            "openai",
            "text-embedding-3-small",
            Operation::ChatCompletions,
            Some(false),
        ),
        ("cohere", "rerank-v3.5", Operation::Rerank, Some(true)),
        ("cohere", "rerank-v3.5", Operation::CohereChat, Some(false)),
        ("mistral", "mistral-ocr-latest", Operation::Ocr, Some(true)),
        ("openai", "omni-moderation-latest", Operation::Free, None),
        // Citations and video that comes out cannot be counted.
        (
            "perplexity",
            "sonar-deep-research",
            Operation::ChatCompletions,
            None,
        ),
        (
            "google",
            "gemini-omni-1.1-flash",
            Operation::GenerateContent,
            None,
        ),
    ] {
        assert_eq!(covers(provider, model, operation), expected, "{model}");
        if expected == Some(false) {
            let rates = BOOK.rates(provider, model, noon()).expect("rates");
            assert_eq!(rates.worst_case(&ask(operation, model), 1), MOST, "{model}");
        }
    }
}

/// A model that each operation can use, with its provider.
const MODELS: [(Operation, &str, &str); 24] = [
    (Operation::ChatCompletions, "openai", "gpt-4.1"),
    (Operation::ChatCompletions, "openai", "gpt-audio"),
    (Operation::ChatCompletions, "openai", "gpt-6-sol"),
    (Operation::ChatCompletions, "deepseek", "deepseek-v4-pro"),
    (
        Operation::ChatCompletions,
        "mistral",
        "voxtral-small-24b-2507",
    ),
    (Operation::ChatCompletions, "perplexity", "sonar-pro"),
    (
        Operation::ChatCompletions,
        "openrouter",
        "mistralai/mistral-large-4-0",
    ),
    (Operation::Completions, "openai", "gpt-3.5-turbo-instruct"),
    (Operation::Responses, "openai", "gpt-5-mini"),
    (Operation::Embeddings, "openai", "text-embedding-3-small"),
    (Operation::EmbedContent, "google", "gemini-embedding-2"),
    (Operation::ImageGenerations, "openai", "gpt-image-1.5"),
    (Operation::ImageEdits, "openai", "gpt-image-1"),
    (Operation::Transcriptions, "openai", "whisper-1"),
    (
        Operation::Transcriptions,
        "openai",
        "gpt-4o-mini-transcribe",
    ),
    (Operation::Transcriptions, "groq", "whisper-large-v3"),
    (Operation::Speech, "openai", "gpt-4o-mini-tts"),
    (Operation::Speech, "openai", "tts-1-hd"),
    (Operation::Messages, "anthropic", "claude-opus-4-8"),
    (Operation::Messages, "anthropic", "claude-haiku-5-5"),
    (Operation::GenerateContent, "google", "gemini-2.5-pro"),
    (Operation::Converse, "aws", "us.anthropic.claude-haiku-5-5"),
    (Operation::Rerank, "cohere", "rerank-v3.5"),
    (Operation::Ocr, "mistral", "mistral-ocr-4-1"),
];

fn any_usage() -> impl Strategy<Value = Usage> {
    proptest::array::uniform20(0_u64..400_000).prop_map(|n| Usage {
        input_tokens: n[0],
        cached_input_tokens: n[1],
        cache_write_tokens: n[2],
        cache_write_1h_tokens: n[3],
        output_tokens: n[4],
        reasoning_tokens: n[5],
        input_audio_tokens: n[6],
        cached_audio_tokens: n[7],
        output_audio_tokens: n[8],
        input_image_tokens: n[9],
        cached_image_tokens: n[10],
        output_image_tokens: n[11],
        input_video_tokens: n[12],
        tool_input_tokens: n[13],
        web_searches: n[14] % 5,
        file_searches: n[15] % 5,
        search_units: n[16] % 5,
        pages: n[17] % 50,
        audio_ms: n[18],
        characters: n[19] % 5_000,
    })
}

/// A request that bounds `usage`, and what of `usage` such a request can come to.
fn bounding(operation: Operation, model: &str, mut usage: Usage, rates: &Rates) -> (Ask, Usage) {
    let mut ask = ask(operation, model);
    ask.most = Usage {
        web_searches: usage.web_searches,
        file_searches: usage.file_searches,
        search_units: usage.search_units,
        pages: usage.pages,
        audio_ms: usage.audio_ms,
        characters: usage.characters,
        ..Usage::default()
    };
    ask.cache_write = CacheWrite::OneHour;
    ask.max_output_tokens = Some(usage.output_tokens);
    ask.body_bytes = usage.input_tokens;
    usage.input_tokens = usage.input_tokens.min(rates.input_bound(&ask));
    usage.output_tokens = usage.output_tokens.min(rates.output_bound(&ask, 0));
    if operation == Operation::GenerateContent {
        // Such a body holds text, or counts as referring to more; caches are written apart.
        usage.input_audio_tokens = 0;
        usage.input_image_tokens = 0;
        usage.input_video_tokens = 0;
        usage.cache_write_tokens = 0;
        usage.cache_write_1h_tokens = 0;
    }
    (ask, usage.consistent())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_usage_within_the_bounds_costs_more_than_the_worst_case(
        usage in any_usage(),
        (operation, provider, model) in proptest::sample::select(MODELS.to_vec()),
        tier in proptest::sample::select(vec!["", "auto", "flex", "priority", "default"]),
        speed in proptest::sample::select(vec!["", "fast"]),
        geo in proptest::sample::select(vec!["", "us"]),
        hour in 0..24_u32,
    ) {
        let at = time(&format!("2026-11-20T{hour:02}:30:00Z"));
        let rates = BOOK.rates(provider, model, at).expect("priced");
        prop_assert!(rates.covers(operation));
        let (mut ask, usage) = bounding(operation, model, usage, &rates);
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        ask.terms = Terms {
            service_tier: text(tier),
            speed: text(speed),
            inference_geo: text(geo),
            processing: None,
        };
        let worst = rates.worst_case(&ask, 0);
        prop_assert!(worst < MOST);
        let mut served = vec![Terms::default(), ask.terms.clone()];
        if tier == "auto" {
            served.push(Terms { service_tier: text("priority"), ..ask.terms.clone() });
            served.push(Terms { service_tier: text("fast"), ..Terms::default() });
        }
        for terms in served {
            prop_assert!(rates.exact(&usage, &terms) <= worst, "{terms:?}");
            let reading = Reading { terms, ..stated(usage) };
            let settled = BOOK.settle(provider, &ask, &reading, at, 0).expect("settled");
            prop_assert!(settled.cost <= worst, "{settled:?}");
        }
        let unread = Reading::nothing();
        let settled = BOOK.settle(provider, &ask, &unread, at, 0).expect("settled");
        prop_assert!(settled.cost <= worst, "{settled:?}");
        // A request without a byte that asks for nothing cannot cost anything.
        prop_assert!(PicoUsd::ZERO < settled.cost || worst == PicoUsd::ZERO || ask.body_bytes == 0, "{settled:?}");
    }

    #[test]
    fn asking_again_with_the_largest_bound_succeeds(
        (operation, provider, model) in proptest::sample::select(MODELS.to_vec()),
        body_bytes in 20_u64..300_000,
        choices in 1_u64..4,
        prediction: bool,
        stated: bool,
        added in 0_u64..=64,
        pico in 1_i128..3_000_000_000_000,
    ) {
        let rates = BOOK.rates(provider, model, noon()).expect("priced");
        let available = PicoUsd::new(pico);
        // Naming a bound makes the body longer, also beside one that is there.
        let max_output_tokens = stated.then_some(1 << 53);
        let ask = Ask { body_bytes, choices, prediction, max_output_tokens, ..ask(operation, model) };
        let Some(fits) = rates.largest_output_bound(&ask, available) else {
            return Ok(());
        };
        let again = Ask {
            max_output_tokens: Some(fits),
            body_bytes: body_bytes + added,
            ..ask.clone()
        };
        prop_assert!(rates.worst_case(&again, 0) <= available);
        let beyond = Ask { max_output_tokens: Some(fits + 1), body_bytes: body_bytes + 64, ..ask };
        prop_assert!(rates.worst_case(&beyond, 0) > available, "it is the largest");
    }

    #[test]
    fn the_order_of_settlements_is_irrelevant(
        mut usages in proptest::collection::vec(any_usage(), 1..6),
    ) {
        let rates = BOOK.rates("openai", "gpt-6-sol", noon()).expect("priced");
        let sum = |usages: &[Usage]| usages.iter().fold(PicoUsd::ZERO, |sum, usage| {
            sum.saturating_add(rates.exact(usage, &Terms::default()))
        });
        let forwards = sum(&usages);
        usages.reverse();
        prop_assert_eq!(forwards, sum(&usages));
    }

    #[test]
    fn nothing_counted_is_free(
        usage in any_usage(),
        (operation, provider, model) in proptest::sample::select(MODELS.to_vec()),
    ) {
        let rates = BOOK.rates(provider, model, noon()).expect("priced");
        let usage = usage.consistent();
        let cost = rates.cost(&usage, &Terms::default(), false);
        let (_, usage) = bounding(operation, model, usage, &rates);
        let more = Usage { input_tokens: usage.input_tokens + 1_000, ..usage };
        prop_assert!(cost.sum >= 0);
        if rates.card(&Terms::default()).has(units::Unit::Input) {
            let (less, more) = (
                rates.exact(&usage, &Terms::default()),
                rates.exact(&more, &Terms::default()),
            );
            prop_assert!(less < more);
        }
    }
}

#[test]
fn a_gemini_call_without_a_bound_of_its_own_is_bounded_by_what_the_model_gives() {
    for (model, most) in [
        ("gemini-2.5-pro", 65_536),
        ("gemini-2.5-flash", 65_536),
        ("gemini-2.0-flash", 8_192),
    ] {
        let name = model.parse().expect("a model's name");
        let body = br#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
        let request = Request {
            model_in_path: Some(&name),
            ..Request::json(body)
        };
        let ask = Ask::parse(Operation::GenerateContent, &request).expect("an ask");
        let rates = BOOK
            .rates("google", model, time("2026-11-20T12:00:00Z"))
            .expect("priced");
        assert_eq!(rates.output_bound(&ask, 1), most, "{model}");
    }
}

#[test]
fn pictures_are_bounded_one_by_one_even_beyond_the_window() {
    let bound = |provider: &str, operation, body: &str| {
        let ask = Ask::parse(operation, &Request::json(body.as_bytes())).expect("an ask");
        let rates = BOOK.rates(provider, ask.model.as_str(), time("2026-11-20T12:00:00Z"));
        rates.expect("priced").input_bound(&ask)
    };
    let chat = |model: &str, pictures: usize| {
        let part = r#"{"type":"image_url","image_url":{"url":"https://x"}}"#;
        let parts = vec![part; pictures].join(",");
        let body =
            format!(r#"{{"model":"{model}","max_tokens":1,"messages":[{{"content":[{parts}]}}]}}"#);
        bound("openai", Operation::ChatCompletions, &body)
    };
    assert!(chat("gpt-4o-mini", 10) >= 481_690, "as OpenAI bills them");
    assert!(
        chat("gpt-4.1", 1) < 60_000,
        "and not its window of a million"
    );
}

#[test]
fn a_model_that_draws_unasked_is_not_bounded_by_the_tokens_of_its_text() {
    let name = "gemini-2.5-flash-image".parse().expect("a model's name");
    let request = Request {
        model_in_path: Some(&name),
        ..Request::json(br#"{"contents":[],"generationConfig":{"maxOutputTokens":10}}"#)
    };
    let ask = Ask::parse(Operation::GenerateContent, &request).expect("an ask");
    let rates = BOOK.rates("google", name.as_str(), time("2026-11-20T12:00:00Z"));
    assert_eq!(rates.expect("priced").output_bound(&ask, 1), 32_768);
}
