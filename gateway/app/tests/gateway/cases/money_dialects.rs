//! Case 76: in every language the worst case is reserved and what the provider bills is settled.

use tollgate_core::money::PicoUsd;
use tollgate_testkit::wait::{eventually, until_true};

use super::ways::{WAYS, counted, forms_of, is_free, reserved, settled, source, usd, way};
use crate::harness::{Streams, TenantPlan, Way, World, outcome};

#[tokio::test]
async fn case_76_every_language_is_metered_exactly_and_within_its_reservation() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let forms: Vec<_> = forms_of(WAYS).collect();
    let asks = forms
        .iter()
        .map(|(way, streamed)| way.ask("", *streamed).bearer(&token));
    let calls = world.make(asks).await;
    for ((way, _), call) in forms.iter().zip(&calls) {
        assert_eq!(call.answer.status, 200, "{call:?}");
        assert_eq!(outcome(&call.record), "completed", "{call:?}");
        assert_eq!(source(call), "exact", "{call:?}");
        assert_eq!(Some(counted(&call.record)), call.billed, "{call:?}");
        assert_eq!(settled(call) == PicoUsd::ZERO, is_free(way), "{call:?}");
        assert!(settled(call) <= reserved(call), "{call:?}");
    }
}

/// What the provider bills here is the most that the request allows: as many tokens as its bytes, or
/// as a window where bytes say nothing, and as many out as asked for, in every choice.
#[rustfmt::skip]
const AT_WORST: &[Way] = &[
    way("/openai/v1/chat/completions", Streams::ByField, "usage-90-1000",
        r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 1000, "max_completion_tokens": 1}"#),
    way("/openai/v1/chat/completions", Streams::ByField, "usage-90-1000,reasoning-1000",
        r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 1, "max_completion_tokens": 1000}"#),
    way("/openai/v1/chat/completions", Streams::ByField, "usage-75-16384",
        r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say something."}]}"#),
    way("/openai/v1/chat/completions", Streams::ByField, "usage-90-5000",
        r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 100, "n": 50}"#),
    way("/openai/v1/chat/completions", Streams::ByField, "usage-90-10,cache-write-90",
        r#"{"model": "gpt-5.6-sol", "messages": [{"role": "user", "content": "Say something."}], "max_completion_tokens": 10}"#),
    way("/openai/v1/chat/completions", Streams::ByField, "usage-48169-10",
        r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.test/i.png"}}]}], "max_tokens": 10}"#),
    way("/openai/v1/completions", Streams::ByField, "usage-80-1500",
        r#"{"model": "gpt-3.5-turbo-instruct", "prompt": ["Say one.", "Say two.", "Say three."], "best_of": 5, "max_tokens": 100}"#),
    way("/openai/v1/responses", Streams::ByField, "usage-1000000-64",
        r#"{"model": "gpt-4.1-mini", "input": "Go on.", "previous_response_id": "resp_1", "max_output_tokens": 64}"#),
    way("/openai/v1/responses", Streams::ByField, "usage-40-32768,reasoning-32768",
        r#"{"model": "gpt-4.1-mini", "input": "Say something."}"#),
    way("/openai/v1/images/generations", Streams::ByField, "usage-20-62400",
        r#"{"model": "gpt-image-1", "prompt": "A red square on a blue one.", "size": "1024x1536", "quality": "high", "n": 10}"#),
    way("/openai/v1/images/generations", Streams::ByField, "usage-20-6240",
        r#"{"model": "gpt-image-1", "prompt": "A red square on a blue one."}"#),
    way("/openai/v1/images/edits", Streams::Never, "usage-5000-12480",
        r#"{"model": "gpt-image-1", "prompt": "A red square on a blue one.", "n": 2}"#),
    way("/openai/v1/audio/transcriptions", Streams::ByField, "usage-1000-2000",
        r#"{"model": "gpt-4o-transcribe"}"#),
    way("/openai/v1/audio/speech", Streams::Never, "usage-15-120",
        r#"{"model": "gpt-4o-mini-tts", "input": "Say this aloud.", "voice": "alloy", "stream_format": "sse"}"#),
    way("/azure/openai/deployments/gpt-4.1/chat/completions?api-version=2024-10-21", Streams::ByField, "usage-80-3000",
        r#"{"model": "gpt-4.1", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 1000, "n": 3}"#),
    way("/anthropic/v1/messages", Streams::ByField, "usage-1-64,cache-write-150",
        r#"{"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content":
            [{"type": "text", "text": "Say something.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]}"#),
    way("/anthropic/v1/messages", Streams::ByField, "usage-100-64000",
        r#"{"model": "claude-sonnet-4-5", "max_tokens": 64000, "thinking": {"type": "enabled", "budget_tokens": 60000}, "messages": [{"role": "user", "content": "Say something."}]}"#),
    way("/gemini/v1beta/models/gemini-2.5-pro:generateContent",
        Streams::At("/gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"), "usage-80-8000",
        r#"{"contents": [{"parts": [{"text": "Say something."}]}], "generationConfig": {"candidateCount": 8, "maxOutputTokens": 1000}}"#),
    way("/gemini/v1beta/models/gemini-2.5-flash:generateContent",
        Streams::At("/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent"), "usage-50-35535,reasoning-30000",
        r#"{"contents": [{"parts": [{"text": "Say something."}]}]}"#),
    way("/gemini/v1beta/models/gemini-2.5-pro:generateContent",
        Streams::At("/gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent"), "usage-1000000-64,cached-200000",
        r#"{"contents": [{"parts": [{"text": "Say something."}]}], "cachedContent": "cachedContents/1", "generationConfig": {"maxOutputTokens": 64}}"#),
    way("/vertex/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent",
        Streams::Never, "usage-1000000-64",
        r#"{"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": "gs://b/v.mp4"}}]}], "generation_config": {"max_output_tokens": 64}}"#),
    way("/bedrock/model/amazon.nova-lite-v1%3A0/converse",
        Streams::At("/bedrock/model/amazon.nova-lite-v1%3A0/converse-stream"), "usage-60-5000",
        r#"{"messages": [{"role": "user", "content": [{"text": "Say something."}]}]}"#),
    way("/bedrock/model/us.anthropic.claude-3-5-haiku-20241022-v1%3A0/converse",
        Streams::At("/bedrock/model/us.anthropic.claude-3-5-haiku-20241022-v1%3A0/converse-stream"), "usage-1-64,cache-write-120",
        r#"{"messages": [{"role": "user", "content": [{"text": "Say something."}, {"cachePoint": {"type": "default"}}]}], "inferenceConfig": {"maxTokens": 64}}"#),
    way("/bedrock/model/us.anthropic.claude-3-5-haiku-20241022-v1%3A0/invoke",
        Streams::At("/bedrock/model/us.anthropic.claude-3-5-haiku-20241022-v1%3A0/invoke-with-response-stream"), "usage-100-8192",
        r#"{"anthropic_version": "bedrock-2023-05-31", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 8192}"#),
    way("/cohere/v2/chat", Streams::ByField, "usage-80-4000",
        r#"{"model": "command-r-08-2024", "messages": [{"role": "user", "content": "Say something."}]}"#),
    way("/cohere/v2/embed", Streams::Never, "usage-80-0",
        r#"{"model": "embed-v4.0", "texts": ["Some text that is to be embedded."], "input_type": "search_query"}"#),
    way("/mistral/v1/chat/completions", Streams::ByField, "as-mistral,usage-90-3000",
        r#"{"model": "mistral-small-latest", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 1000, "n": 3}"#),
    way("/groq/openai/v1/chat/completions", Streams::ByField, "usage-80-16384",
        r#"{"model": "llama-3.3-70b-versatile", "messages": [{"role": "user", "content": "Say something."}]}"#),
    way("/deepseek/chat/completions", Streams::ByField, "as-deepseek,usage-70-1000,reasoning-900",
        r#"{"model": "deepseek-v4-pro", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 1000}"#),
];

#[tokio::test]
async fn case_76_what_a_request_allows_at_worst_has_been_reserved() {
    let world = World::of_all_providers(|plan| {
        plan.tenant("acme").caps = "daily_usd = \"1000\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    let forms = forms_of(AT_WORST);
    let asks = forms.map(|(way, streamed)| way.ask("", streamed).bearer(&token));
    let calls = world.make(asks).await;
    let mut sum = PicoUsd::ZERO;
    for call in &calls {
        assert_eq!(call.answer.status, 200, "{call:?}");
        assert_eq!(source(call), "exact", "{call:?}");
        assert_eq!(Some(counted(&call.record)), call.billed, "{call:?}");
        assert!(settled(call) > PicoUsd::ZERO, "{call:?}");
        assert!(settled(call) <= reserved(call), "{call:?}");
        sum = sum.saturating_add(settled(call));
    }
    let today = &world.gateway.budgets("acme").await[0];
    assert_eq!(usd(today, "settled_usd"), sum);
    assert_eq!(usd(today, "reserved_usd"), PicoUsd::ZERO);
}

/// Two models with caps of their own inside one tenant, in other languages than OpenAI's.
#[tokio::test(flavor = "multi_thread")]
async fn case_75_of_parallel_streams_only_as_many_as_fit_the_cap_of_their_model_go_out() {
    const PARALLEL: usize = 60;
    const ROOM: usize = 7;
    let world = World::of_all_providers(|_| {}).await;
    let (rich, poor) = (world.token("globex").await, world.token("acme").await);
    let pro = "/gemini/v1beta/models/gemini-2.5-pro:";
    let nova = "/bedrock/model/amazon.nova-lite-v1%3A0/converse";
    let way = |start: &str| WAYS.iter().find(|way| way.path.starts_with(start)).unwrap();
    let ways = [
        (way(pro), pro, "gemini-2.5-pro"),
        (way(nova), nova, "amazon.nova-lite*"),
    ];
    // What one call reserves is read from a tenant that can afford it.
    let mut acme = TenantPlan::new("acme");
    (acme.grants, acme.credentials) = (String::new(), String::new());
    acme.allow("gemini", "").allow("bedrock", "");
    for (way, _, model) in ways {
        let answer = world.send(&way.ask("", true).bearer(&rich)).await;
        let record = world.record_of("globex", &answer).await;
        let worst = usd(&record, "tollgate.cost.reserved_usd").as_pico();
        let cap = PicoUsd::new(worst * i128::try_from(ROOM).unwrap() + worst / 2);
        acme.more += &format!("[models.\"{model}\"]\ndaily_usd = \"{cap}\"\n");
    }
    world
        .gateway
        .site
        .write_policy("tenants/acme.toml", &acme.text("acme"));
    eventually("the caps are in force", async || {
        world.gateway.budgets("acme").await.len() == 4
    })
    .await;
    world.mock.forget();
    let calls: Vec<_> = (0..PARALLEL)
        .flat_map(|_| ways)
        .map(|(way, ..)| {
            let ask = way.ask("hold-after-1", true).bearer(&poor);
            let address = world.gateway.address;
            tokio::spawn(async move { ask.send(address).await.status })
        })
        .collect();
    let site = &world.gateway.site;
    until_true("all others are refused", || {
        site.records("acme").len() == 2 * (PARALLEL - ROOM)
    })
    .await;
    for (_, start, _) in ways {
        let path = start.split_once("/model").unwrap().1;
        let mut seen = world.calls();
        seen.retain(|seen| seen.path_and_query.contains(path));
        assert_eq!(seen.len(), ROOM, "{path}");
    }
    world.mock.release();
    let mut served = 0;
    for call in calls {
        served += usize::from(call.await.unwrap() == 200);
    }
    assert_eq!(served, 2 * ROOM);
}
