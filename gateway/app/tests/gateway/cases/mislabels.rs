//! Case 80: a call of a model is metered or refused, by whatever way it is asked for.

use serde_json::json;
use tollgate_core::money::PicoUsd;

use super::ways::{WAYS, is_free, settled, source};
use crate::harness::{Ask, Called, World};

/// Ways to a model that no file of a provider lists, or that lead to one in disguise.
const TARGETS: &[&str] = &[
    "/github/v1/chat/completions",
    "/github/v1/messages",
    "/github/model/amazon.nova-lite-v1:0/converse",
    "/github/v1beta/models/gemini-2.5-pro:generateContent",
    "/github/repos/a/b/../../../v1/chat/completions",
    "/github/search/..%2f..%2fv1%2fchat%2fcompletions",
    "/openai/v1/chat%2Fcompletions",
    "/openai/v1/chat/completions%2f",
    "/openai/v1/chat/completions/",
    "/openai/v1/chat/completions;x",
    "/openai/v1/ch%61t/completions",
    "/openai/v1/chat/completion%73",
    "/openai/%76%31/chat/completions",
    "/openai/v1/./chat/completions",
    "/openai/v1//chat/completions",
    "/openai//v1/chat/completions",
    "/openai/v1/moderations/../chat/completions",
    "/openai/v1/moderations%2f..%2fchat/completions",
    "/openai%2fv1/chat/completions",
    "/OpenAI/v1/chat/completions",
    "/openai/V1/chat/completions",
    "/openai/v1/CHAT/completions",
    "/openai/v2/chat/completions",
    "/openai/v1beta/chat/completions",
    "/openai/v1/realtime/sessions",
    "/openai/v1/realtime/client_secrets",
    "/openai/v1/realtime/calls",
    "/openai/v1/threads/runs",
    "/openai/v1/videos",
    "/openai/v1/fine_tuning/jobs",
    "/openai/v1/responses/resp_1/cancel",
    "/openai/v1/models/gpt-4o/chat/completions",
    "/azure/openai/deployments/gpt-4.1/extensions/chat/completions",
    "/azure/openai/deployments//chat/completions",
    "/azure/OpenAI/deployments/gpt-4.1/chat/completions",
    "/azure/openai/deployments/gpt-4.1/Chat/completions",
    "/azure/openai/deployments/gpt-4.1%2fchat/completions",
    "/azure/openai/realtime?deployment=gpt-4o-realtime",
    "/anthropic/v1/complete",
    "/anthropic/v1/messages/",
    "/anthropic/v1/Messages",
    "/anthropic/v2/messages",
    "/anthropic/v1/messages/count_tokens/../../messages",
    "/anthropic/v1/messages%2fcount_tokens%2f..",
    "/gemini/v1alpha2/models/gemini-2.5-pro:generateContent",
    "/gemini/V1beta/models/gemini-2.5-pro:generateContent",
    "/gemini/v1beta/Models/gemini-2.5-pro:generateContent",
    "/gemini/v1beta/models/gemini-2.5-pro:GenerateContent",
    "/gemini/v1beta/models/gemini-2.5-pro:generatecontent",
    "/gemini/v1beta/models/gemini-2.5-pro%3AgenerateContent",
    "/gemini/v1beta/models/gemini-2.5-pro:countTokens:generateContent",
    "/gemini/v1beta/models/gemini-2.5-pro:countTokens%3AgenerateContent",
    "/gemini/v1beta/models/gemini-2.5-pro:generateContent/",
    "/gemini/v1beta/models/gemini-2.5-pro:predict",
    "/gemini/v1beta/models/veo-3.0-generate-001:predictLongRunning",
    "/gemini/v1beta/models/gemini-2.5-pro:batchGenerateContent",
    "/gemini/v1beta/tunedModels/x:generateContent",
    "/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    "/vertex/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
    "/vertex/v1/projects/p/locations/l/endpoints/123:predict",
    "/vertex/v1/projects/p/locations/l/publishers/google/models/imagen-4.0-generate-001:predict",
    "/vertex/v1/projects/p/locations/l/publishers/meta/models/llama:rawPredict",
    "/vertex/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:streamRawPredict",
    "/bedrock/model/amazon.nova-lite-v1:0/Converse",
    "/bedrock/Model/amazon.nova-lite-v1:0/converse",
    "/bedrock/model/amazon.nova-lite-v1:0/converse/",
    "/bedrock/model/amazon.nova-lite-v1:0/count-tokens%2f..%2fconverse",
    "/bedrock/model/amazon.nova-lite-v1:0/count-tokens/../converse",
    "/bedrock/model/amazon.nova-lite-v1:0/x/converse",
    "/bedrock/model/amazon.nova-sonic-v1:0/invoke-with-bidirectional-stream",
    "/bedrock/async-invoke",
    "/bedrock/v1/chat/completions",
    "/cohere/v1/generate",
    "/cohere/v2/Chat",
    "/cohere/v3/chat",
    "/cohere/v2/chat/",
    "/ollama/api/Chat",
    "/ollama//api/chat",
    "/ollama/api/pull",
    "/ollama/v1/responses/x",
    "/mistral/v1/agents/completions",
    "/mistral/v1/conversations",
    "/groq/v1/chat/completions",
    "/openrouter/v1/chat/completions",
    "/openrouter/api/v2/chat/completions",
    "/together/v1/images/generations",
    "/deepseek/v3/chat/completions",
    "/xai/v1/images/generations",
    "/v1/chat/completions",
    "/v1beta/models/gemini-2.5-pro:generateContent",
    "/model/amazon.nova-lite-v1:0/converse",
];

/// A call that went out is one whose model is known, paid for and within its reservation.
fn is_metered(call: &Called) -> bool {
    call.answer.status == 200
        && source(call) == "exact"
        && settled(call) > PicoUsd::ZERO
        && call.record["gen_ai.request.model"].is_string()
}

fn is_refused(call: &Called) -> bool {
    matches!(call.answer.status, 400 | 403 | 404 | 405 | 421)
        && call.answer.header("x-tollgate-error").is_some()
        && call.billed.is_none()
        && settled(call) == PicoUsd::ZERO
}

/// Something that every provider could read as a call, whatever it looks for.
fn any_body() -> serde_json::Value {
    json!({
        "model": "gpt-4o-mini", "max_tokens": 64, "prompt": "Say something.", "input": "Say something.",
        "messages": [{"role": "user", "content": "Say something."}],
        "contents": [{"parts": [{"text": "Say something."}]}],
    })
}

#[tokio::test]
async fn case_80_what_no_file_lists_as_a_call_of_a_model_never_reaches_one() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    for target in TARGETS {
        for method in ["POST", "GET", "PUT", "PATCH"] {
            let ask = Ask::new(method, target).bearer(&token).json(&any_body());
            world.mock.forget();
            let answer = world.send(&ask).await;
            let id = answer.header("x-tollgate-request-id").expect("an id");
            let Some(seen) = world.calls().pop() else {
                assert!(
                    matches!(answer.status, 400..=405),
                    "{method} {target}: {}",
                    answer.text()
                );
                let code = answer.header("x-tollgate-error");
                assert!(code.is_some(), "{method} {target}");
                continue;
            };
            // Reading about a model is free, and no provider takes a call by GET.
            if method == "GET" && seen.path_and_query.contains("/models/") {
                continue;
            }
            let record = world.gateway.site.record("acme", id).await;
            let call = Called::unanswered(record, seen.billed);
            assert_eq!(source(&call), "exact", "{method} {target} {call:?}");
            assert!(settled(&call) > PicoUsd::ZERO, "{method} {target} {call:?}");
        }
    }
}

#[tokio::test]
async fn case_80_no_header_turns_a_metered_call_into_another_kind() {
    let world = World::of_all_providers(|_| {}).await;
    let token = world.token("acme").await;
    let paid: Vec<_> = WAYS.iter().filter(|way| !is_free(way)).collect();
    let hints = [
        ("x-operation", "tool"),
        ("x-service", "free"),
        ("x-http-method-override", "GET"),
        ("x-original-url", "/v1/models"),
        ("x-forwarded-path", "/v1/models"),
        ("upgrade", "websocket"),
        ("accept", "text/plain"),
    ];
    let asks = paid.iter().flat_map(|way| {
        hints.map(|(name, value)| {
            let ask = way.ask("", false).bearer(&token).header(name, value);
            if name == "upgrade" {
                ask.header("connection", "upgrade")
            } else {
                ask
            }
        })
    });
    for call in world.make(asks).await {
        assert!(is_metered(&call) || is_refused(&call), "{call:?}");
    }
    for target in [
        "/openai/v1/realtime?model=gpt-4o-realtime-preview",
        "/openai/v1/responses",
        "/azure/openai/realtime?api-version=2024-10-01-preview&deployment=gpt-4o-realtime",
        "/gemini/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
        "/vertex/ws/google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent",
        "/xai/v1/realtime",
        "/openai/v1/models",
    ] {
        let upgrade = Ask::new("GET", target)
            .bearer(&token)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let answer = world.send(&upgrade).await;
        let is_free = target == "/openai/v1/models" && answer.status == 200;
        assert!(
            is_free || matches!(answer.status, 400 | 403),
            "{target}: {}",
            answer.text()
        );
    }
    for seen in world.calls() {
        assert!(seen.header_values("upgrade").is_empty(), "{seen:?}");
        assert!(
            seen.header_values("x-http-method-override").is_empty(),
            "{seen:?}"
        );
    }
}
