//! A call of every kind that is metered, in every language, and what the tests of money read of it.

use serde_json::Value;
use tollgate_core::money::PicoUsd;
use tollgate_loadtest::mock::Billed;

use crate::harness::{Called, Streams, Way, text};

/// A way of a few words.
pub(super) const fn way(
    path: &'static str,
    streams: Streams,
    words: &'static str,
    body: &'static str,
) -> Way {
    Way {
        path,
        streams,
        words,
        body,
    }
}

/// All of them.
#[rustfmt::skip]
pub(super) const WAYS: &[Way] = &[
    way("/openai/v1/chat/completions", Streams::ByField, "cached-4,reasoning-5",
        r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/openai/v1/chat/completions", Streams::ByField, "cached-2,cache-write-3",
        r#"{"model": "gpt-5.6-sol", "messages": [{"role": "user", "content": "Say something."}], "max_completion_tokens": 64}"#),
    way("/openai/v1/completions", Streams::ByField, "",
        r#"{"model": "gpt-3.5-turbo-instruct", "prompt": "Say something.", "max_tokens": 64}"#),
    way("/openai/v1/responses", Streams::ByField, "cached-4,reasoning-5",
        r#"{"model": "gpt-4.1-mini", "input": "Say something.", "max_output_tokens": 64}"#),
    way("/openai/v1/embeddings", Streams::Never, "",
        r#"{"model": "text-embedding-3-small", "input": "Some text that is to be embedded."}"#),
    way("/openai/v1/images/generations", Streams::ByField, "usage-5-1056",
        r#"{"model": "gpt-image-1", "prompt": "A red square on a blue one.", "size": "1024x1024", "quality": "medium"}"#),
    way("/openai/v1/images/edits", Streams::ByField, "usage-5-1056",
        r#"{"model": "gpt-image-1", "prompt": "A red square on a blue one.", "size": "1024x1024", "quality": "medium"}"#),
    way("/openai/v1/audio/transcriptions", Streams::ByField, "",
        r#"{"model": "gpt-4o-transcribe"}"#),
    way("/openai/v1/audio/transcriptions", Streams::Never, "",
        r#"{"model": "whisper-1"}"#),
    way("/openai/v1/audio/translations", Streams::Never, "",
        r#"{"model": "whisper-1"}"#),
    way("/openai/v1/audio/speech", Streams::Never, "",
        r#"{"model": "tts-1", "input": "Say this aloud.", "voice": "alloy"}"#),
    way("/openai/v1/audio/speech", Streams::Never, "",
        r#"{"model": "gpt-4o-mini-tts", "input": "Say this aloud.", "voice": "alloy", "stream_format": "sse"}"#),

    way("/azure/openai/deployments/gpt-4.1/chat/completions?api-version=2024-10-21", Streams::ByField, "cached-4",
        r#"{"messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/azure/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21", Streams::Never, "",
        r#"{"model": "text-embedding-3-small", "input": "Some text that is to be embedded."}"#),

    way("/anthropic/v1/messages", Streams::ByField, "cached-4",
        r#"{"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/anthropic/v1/messages", Streams::ByField, "cached-4,cache-write-6",
        r#"{"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content":
            [{"type": "text", "text": "Say something.", "cache_control": {"type": "ephemeral"}}]}]}"#),

    way("/gemini/v1beta/models/gemini-2.5-flash:generateContent",
        Streams::At("/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"), "cached-4,reasoning-5",
        r#"{"contents": [{"parts": [{"text": "Say something."}]}], "generationConfig": {"maxOutputTokens": 64}}"#),
    way("/gemini/v1beta/models/gemini-2.5-pro:generateContent",
        Streams::At("/gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent"), "",
        r#"{"contents": [{"parts": [{"text": "Say something."}]}], "generationConfig": {"maxOutputTokens": 64, "candidateCount": 2}}"#),
    way("/gemini/v1beta/models/gemini-embedding-001:embedContent", Streams::Never, "",
        r#"{"content": {"parts": [{"text": "Some text that is to be embedded."}]}}"#),
    way("/vertex/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash:generateContent",
        Streams::At("/vertex/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        "reasoning-5",
        r#"{"contents": [{"role": "user", "parts": [{"text": "Say something."}]}], "generationConfig": {"maxOutputTokens": 64}}"#),
    way("/vertex/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4@20250514:rawPredict",
        Streams::At("/vertex/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict"), "cached-4",
        r#"{"anthropic_version": "vertex-2023-10-16", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),

    way("/bedrock/model/amazon.nova-lite-v1%3A0/converse",
        Streams::At("/bedrock/model/amazon.nova-lite-v1%3A0/converse-stream"), "cached-4",
        r#"{"messages": [{"role": "user", "content": [{"text": "Say something."}]}], "inferenceConfig": {"maxTokens": 64}}"#),
    way("/bedrock/model/us.anthropic.claude-3-5-haiku-20241022-v1%3A0/invoke",
        Streams::At("/bedrock/model/us.anthropic.claude-3-5-haiku-20241022-v1%3A0/invoke-with-response-stream"), "cached-4",
        r#"{"anthropic_version": "bedrock-2023-05-31", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/bedrock/model/amazon.nova-lite-v1%3A0/invoke",
        Streams::At("/bedrock/model/amazon.nova-lite-v1%3A0/invoke-with-response-stream"), "",
        r#"{"messages": [{"role": "user", "content": [{"text": "Say something."}]}], "inferenceConfig": {"maxTokens": 64}}"#),
    way("/bedrock/model/meta.llama3-8b-instruct-v1%3A0/invoke", Streams::Never, "",
        r#"{"prompt": "Say something.", "max_gen_len": 64}"#),

    way("/cohere/v2/chat", Streams::ByField, "",
        r#"{"model": "command-r-08-2024", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/cohere/v2/embed", Streams::Never, "",
        r#"{"model": "embed-v4.0", "texts": ["Some text that is to be embedded."], "input_type": "search_query"}"#),
    way("/cohere/v2/rerank", Streams::Never, "",
        r#"{"model": "rerank-v3.5", "query": "Which?", "documents": ["This one.", "That one."]}"#),

    way("/mistral/v1/chat/completions", Streams::ByField, "as-mistral",
        r#"{"model": "mistral-small-latest", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/mistral/v1/embeddings", Streams::Never, "as-mistral",
        r#"{"model": "mistral-embed", "input": ["Some text that is to be embedded."]}"#),
    way("/mistral/v1/ocr", Streams::Never, "as-mistral",
        r#"{"model": "mistral-ocr-latest", "document": {"type": "document_url", "document_url": "https://x.test/a.pdf"}, "pages": [0, 1, 2, 3, 4, 5, 6]}"#),
    way("/groq/openai/v1/chat/completions", Streams::ByField, "",
        r#"{"model": "llama-3.3-70b-versatile", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/xai/v1/chat/completions", Streams::ByField, "as-xai,reasoning-5",
        r#"{"model": "grok-4", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/openrouter/api/v1/chat/completions", Streams::ByField, "",
        r#"{"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/deepseek/chat/completions", Streams::ByField, "as-deepseek,cached-4",
        r#"{"model": "deepseek-v4-pro", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/together/v1/chat/completions", Streams::ByField, "as-together",
        r#"{"model": "meta-llama/Llama-3.3-70B-Instruct-Turbo", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
    way("/fireworks/inference/v1/chat/completions", Streams::ByField, "",
        r#"{"model": "accounts/fireworks/models/deepseek-v4-pro", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),

    way("/ollama/api/chat", Streams::ByField, "",
        r#"{"model": "qwen3:0.6b", "messages": [{"role": "user", "content": "Say something."}], "options": {"num_predict": 64}}"#),
    way("/ollama/api/generate", Streams::ByField, "",
        r#"{"model": "qwen3:0.6b", "prompt": "Say something.", "options": {"num_predict": 64}}"#),
    way("/ollama/api/embed", Streams::Never, "",
        r#"{"model": "all-minilm", "input": ["Some text that is to be embedded."]}"#),
    way("/vllm/v1/chat/completions", Streams::ByField, "as-vllm",
        r#"{"model": "our/model", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 64}"#),
];

/// Whether what a way leads to costs nothing.
pub(super) fn is_free(way: &Way) -> bool {
    way.path.starts_with("/ollama/") || way.path.starts_with("/vllm/")
}

/// An amount in a record.
pub(super) fn usd(record: &Value, field: &str) -> PicoUsd {
    text(record, field).parse().expect("an amount")
}

/// The counts of a record as a provider's bill has them.
pub(super) fn counted(record: &Value) -> Billed {
    let usage = &record["tollgate.usage"];
    let count = |name: &str| usage[name].as_u64().unwrap_or(0);
    Billed {
        input: count("input_tokens"),
        cached: count("cached_input_tokens"),
        cache_write: count("cache_write_tokens") + count("cache_write_1h_tokens"),
        output: count("output_tokens"),
        reasoning: count("reasoning_tokens"),
        characters: count("characters"),
        audio_ms: count("audio_ms"),
        searches: count("search_units"),
        pages: count("pages"),
    }
}

/// What a call was settled at.
pub(super) fn settled(called: &Called) -> PicoUsd {
    usd(&called.record, "tollgate.cost_usd")
}

/// What was reserved for a call.
pub(super) fn reserved(called: &Called) -> PicoUsd {
    usd(&called.record, "tollgate.cost.reserved_usd")
}

/// Where the usage of a call comes from.
pub(super) fn source(called: &Called) -> &str {
    text(&called.record, "tollgate.usage.source")
}

/// Each of these ways plain and, where there is such a form, streamed.
pub(super) fn forms_of(ways: &[Way]) -> impl Iterator<Item = (&Way, bool)> {
    let all = ways.iter().flat_map(|way| [(way, false), (way, true)]);
    all.filter(|(way, streamed)| !streamed || way.can_stream())
}
