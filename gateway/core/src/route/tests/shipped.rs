//! The provider files that come with the gateway: each parses, and requests as SDKs make them
//! lead to the operation that meters them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::time::Timestamp;

fn files() -> Vec<PathBuf> {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    ["providers", "examples/providers"]
        .into_iter()
        .flat_map(|part| std::fs::read_dir(policies.join(part)).expect("a directory"))
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

/// All of them as one policy, as they may well be used.
fn shipped() -> Policy {
    let files: Vec<PolicyFile> = files()
        .iter()
        .map(|path| PolicyFile {
            path: path.display().to_string(),
            text: std::fs::read_to_string(path).expect("a text"),
        })
        .collect();
    crate::policy::parse(&files).expect("files without a mistake")
}

#[test]
fn every_file_is_named_like_its_provider() {
    let policy = shipped();
    let names: BTreeSet<&str> = policy.providers.keys().map(|name| name.as_str()).collect();
    let files = files();
    let stems: BTreeSet<&str> = files
        .iter()
        .filter_map(|path| path.file_stem()?.to_str())
        .collect();
    assert_eq!(names, stems);
}

/// The name of the price list is one the catalogue knows, and clients' model names are found there.
#[test]
fn a_well_known_model_of_every_paid_provider_has_a_price() {
    let prices = crate::price::PriceBook::embedded().expect("prices");
    let at = Timestamp::from_seconds(1_795_435_200);
    let policy = shipped();
    let mut unpriced: BTreeSet<&str> = policy.providers.keys().map(|name| name.as_str()).collect();
    for (provider, model) in [
        ("anthropic", "claude-sonnet-4-5"),
        ("azure", "gpt-4.1"),
        ("bedrock", "us.anthropic.claude-3-5-haiku-20241022-v1:0"),
        ("cohere", "command-r-08-2024"),
        ("deepseek", "deepseek-v4-pro"),
        ("fireworks", "accounts/fireworks/models/deepseek-v4-pro"),
        ("gemini", "gemini-2.5-pro"),
        ("groq", "llama-3.3-70b-versatile"),
        ("mistral", "mistral-small-latest"),
        ("openai", "gpt-4o-mini"),
        ("openrouter", "openai/gpt-4o"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("vertex", "claude-sonnet-4@20250514"),
        ("xai", "grok-4"),
    ] {
        let catalogue = policy.providers[provider].prices.as_deref();
        let rates = catalogue.and_then(|catalogue| prices.rates(catalogue, model, at));
        assert!(rates.is_some(), "{provider} {model}");
        unpriced.remove(provider);
    }
    assert_eq!(unpriced, BTreeSet::from(["github", "ollama", "vllm"]));
}

/// Method, path, operation, and the model that the path names.
type Row = (&'static str, &'static str, Operation, Option<&'static str>);

#[rustfmt::skip]
const TYPICAL: &[Row] = &[
    ("POST", "/openai/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/openai/v1/completions", Operation::Completions, None),
    ("POST", "/openai/v1/responses", Operation::Responses, None),
    ("GET", "/openai/v1/responses/resp_1", Operation::ResponseStatus, None),
    ("POST", "/openai/v1/responses/input_tokens", Operation::Free, None),
    ("POST", "/openai/v1/embeddings", Operation::Embeddings, None),
    ("POST", "/openai/v1/images/generations", Operation::ImageGenerations, None),
    ("POST", "/openai/v1/images/edits", Operation::ImageEdits, None),
    ("POST", "/openai/v1/audio/transcriptions", Operation::Transcriptions, None),
    ("POST", "/openai/v1/audio/translations", Operation::Transcriptions, None),
    ("POST", "/openai/v1/audio/speech", Operation::Speech, None),
    ("POST", "/openai/v1/files", Operation::BatchInput, None),
    ("GET", "/openai/v1/files", Operation::Tool, None),
    ("GET", "/openai/v1/files/file-1", Operation::Tool, None),
    ("DELETE", "/openai/v1/files/file-1", Operation::Tool, None),
    ("GET", "/openai/v1/files/file-1/content", Operation::BatchOutput, None),
    ("POST", "/openai/v1/batches", Operation::Batch, None),
    ("GET", "/openai/v1/batches", Operation::BatchStatus, None),
    ("GET", "/openai/v1/batches/batch_1", Operation::BatchStatus, None),
    ("POST", "/openai/v1/batches/batch_1/cancel", Operation::BatchStatus, None),
    ("GET", "/openai/v1/models/gpt-4o", Operation::Free, None),
    ("POST", "/openai/v1/moderations", Operation::Free, None),

    ("POST", "/anthropic/v1/messages", Operation::Messages, None),
    ("POST", "/anthropic/v1/messages/count_tokens", Operation::Free, None),
    ("POST", "/anthropic/v1/messages/batches", Operation::MessageBatch, None),
    ("GET", "/anthropic/v1/messages/batches/b1", Operation::BatchStatus, None),
    ("GET", "/anthropic/v1/messages/batches/b1/results", Operation::MessageBatchResults, None),
    ("POST", "/anthropic/v1/messages/batches/b1/cancel", Operation::Free, None),
    ("DELETE", "/anthropic/v1/messages/batches/b1", Operation::Tool, None),
    ("GET", "/anthropic/v1/models", Operation::Free, None),

    ("POST", "/gemini/v1beta/models/gemini-2.5-pro:generateContent", Operation::GenerateContent, Some("gemini-2.5-pro")),
    ("POST", "/gemini/v1/models/gemini-2.5-pro:streamGenerateContent", Operation::GenerateContent, Some("gemini-2.5-pro")),
    ("POST", "/gemini/v1beta/models/gemini-embedding-001:embedContent", Operation::EmbedContent, Some("gemini-embedding-001")),
    ("POST", "/gemini/v1beta/models/gemini-embedding-001:batchEmbedContents", Operation::EmbedContent, Some("gemini-embedding-001")),
    ("POST", "/gemini/v1/models/gemini-2.5-pro:countTokens", Operation::Free, Some("gemini-2.5-pro")),
    ("GET", "/gemini/v1beta/models/gemini-2.5-pro", Operation::Free, None),

    ("POST", "/vertex/v1beta1/projects/p/locations/global/publishers/google/models/gemini-2.5-pro:generateContent", Operation::GenerateContent, Some("gemini-2.5-pro")),
    ("POST", "/vertex/v1/projects/p/locations/us-east5/publishers/google/models/gemini-2.5-pro:streamGenerateContent", Operation::GenerateContent, Some("gemini-2.5-pro")),
    ("POST", "/vertex/v1/projects/p/locations/us-east5/publishers/google/models/gemini-2.5-pro:countTokens", Operation::Free, Some("gemini-2.5-pro")),
    ("POST", "/vertex/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4@20250514:rawPredict", Operation::Messages, Some("claude-sonnet-4@20250514")),
    ("POST", "/vertex/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4:streamRawPredict", Operation::Messages, Some("claude-sonnet-4")),
    ("POST", "/vertex/v1/projects/p/locations/us-east5/publishers/anthropic/models/count-tokens:rawPredict", Operation::Free, None),

    ("POST", "/bedrock/model/anthropic.claude-3-5-haiku-20241022-v1%3A0/converse", Operation::Converse, Some("anthropic.claude-3-5-haiku-20241022-v1:0")),
    ("POST", "/bedrock/model/us.amazon.nova-pro-v1%3A0/converse-stream", Operation::Converse, Some("us.amazon.nova-pro-v1:0")),
    ("POST", "/bedrock/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.meta.x/invoke", Operation::InvokeModel, Some("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.x")),
    ("POST", "/bedrock/model/cohere.embed-v4%3A0/invoke-with-response-stream", Operation::InvokeModel, Some("cohere.embed-v4:0")),
    ("POST", "/bedrock/model/cohere.embed-v4%3A0/count-tokens", Operation::Free, Some("cohere.embed-v4:0")),
    ("POST", "/bedrock/openai/v1/chat/completions", Operation::ChatCompletions, None),

    ("POST", "/azure/openai/deployments/my-gpt/chat/completions", Operation::ChatCompletions, Some("my-gpt")),
    ("POST", "/azure/openai/deployments/my-gpt/completions", Operation::Completions, Some("my-gpt")),
    ("POST", "/azure/openai/deployments/my-embed/embeddings", Operation::Embeddings, Some("my-embed")),
    ("POST", "/azure/openai/deployments/img/images/generations", Operation::ImageGenerations, Some("img")),
    ("POST", "/azure/openai/deployments/img/images/edits", Operation::ImageEdits, Some("img")),
    ("POST", "/azure/openai/deployments/whisper/audio/transcriptions", Operation::Transcriptions, Some("whisper")),
    ("POST", "/azure/openai/deployments/tts/audio/speech", Operation::Speech, Some("tts")),
    ("POST", "/azure/openai/responses", Operation::Responses, None),
    ("GET", "/azure/openai/responses/resp_1", Operation::ResponseStatus, None),
    ("POST", "/azure/openai/files", Operation::BatchInput, None),
    ("GET", "/azure/openai/files/f/content", Operation::BatchOutput, None),
    ("POST", "/azure/openai/batches", Operation::Batch, None),
    ("POST", "/azure/openai/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/azure/openai/v1/responses", Operation::Responses, None),
    ("POST", "/azure/openai/v1/batches/b/cancel", Operation::BatchStatus, None),

    ("POST", "/mistral/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/mistral/v1/fim/completions", Operation::Completions, None),
    ("POST", "/mistral/v1/embeddings", Operation::Embeddings, None),
    ("POST", "/mistral/v1/ocr", Operation::Ocr, None),
    ("POST", "/groq/openai/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/groq/openai/v1/responses", Operation::Responses, None),
    ("POST", "/groq/openai/v1/audio/transcriptions", Operation::Transcriptions, None),
    ("POST", "/deepseek/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/deepseek/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/deepseek/beta/completions", Operation::Completions, None),
    ("POST", "/deepseek/anthropic/v1/messages", Operation::Messages, None),
    ("POST", "/xai/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/xai/v1/responses", Operation::Responses, None),
    ("POST", "/xai/v1/messages", Operation::Messages, None),
    ("POST", "/cohere/v2/chat", Operation::CohereChat, None),
    ("POST", "/cohere/v1/chat", Operation::CohereChat, None),
    ("POST", "/cohere/v2/embed", Operation::CohereEmbed, None),
    ("POST", "/cohere/v2/rerank", Operation::Rerank, None),
    ("POST", "/cohere/compatibility/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/cohere/v1/tokenize", Operation::Free, None),
    ("POST", "/openrouter/api/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/openrouter/api/v1/messages", Operation::Messages, None),
    ("GET", "/openrouter/api/v1/models/openai/gpt-4o/endpoints", Operation::Free, None),
    ("POST", "/together/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/together/v1/embeddings", Operation::Embeddings, None),
    ("POST", "/fireworks/inference/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/fireworks/inference/v1/messages", Operation::Messages, None),
    ("POST", "/ollama/api/chat", Operation::OllamaChat, None),
    ("POST", "/ollama/api/generate", Operation::OllamaChat, None),
    ("POST", "/ollama/api/embed", Operation::OllamaEmbed, None),
    ("POST", "/ollama/v1/chat/completions", Operation::ChatCompletions, None),
    ("GET", "/ollama/api/tags", Operation::Free, None),
    ("POST", "/vllm/v1/chat/completions", Operation::ChatCompletions, None),
    ("POST", "/vllm/v1/responses", Operation::Responses, None),
    ("GET", "/vllm/v1/models", Operation::Free, None),
    ("GET", "/github/repos/o/r/pulls", Operation::Free, None),
    ("PUT", "/github/repos/o/r/pulls/1/merge", Operation::Tool, None),
];

#[test]
fn requests_as_sdks_make_them_lead_to_what_meters_them() {
    let policy = shipped();
    for (method, path, operation, model) in TYPICAL {
        let method = method.parse().expect("a method");
        let route = find(&policy, &method, path).unwrap_or_else(|refusal| {
            panic!("{method} {path}: {refusal}");
        });
        assert_eq!(route.endpoint.operation, *operation, "{method} {path}");
        let named = route.model.as_ref().map(ModelName::as_str);
        assert_eq!(named, *model, "{method} {path}");
    }
    let covered: BTreeSet<&str> = TYPICAL
        .iter()
        .filter_map(|(_, path, ..)| path.split('/').nth(1))
        .collect();
    let providers: BTreeSet<&str> = policy.providers.keys().map(|name| name.as_str()).collect();
    assert_eq!(covered, providers);
}

/// What costs money and is not metered is not listed.
#[test]
fn what_cannot_be_metered_is_refused() {
    let policy = shipped();
    for (method, path) in [
        ("POST", "/openai/v1/realtime/sessions"),
        ("POST", "/openai/v1/videos"),
        ("POST", "/openai/v1/fine_tuning/jobs"),
        ("POST", "/openai/v1/assistants"),
        ("POST", "/openai/v1/threads/t/runs"),
        ("POST", "/openai/v1/uploads"),
        ("POST", "/openai/v1/responses/compact"),
        ("POST", "/openai/v1/containers"),
        ("POST", "/anthropic/v1/complete"),
        ("POST", "/anthropic/v1/files"),
        ("POST", "/gemini/v1beta/models/m:batchGenerateContent"),
        ("POST", "/gemini/v1beta/models/m:predictLongRunning"),
        ("POST", "/gemini/v1beta/models/m:predict"),
        ("POST", "/gemini/v1beta/cachedContents"),
        (
            "POST",
            "/vertex/v1/projects/p/locations/l/publishers/google/models/m:predict",
        ),
        (
            "POST",
            "/vertex/v1/projects/p/locations/l/endpoints/1:generateContent",
        ),
        ("POST", "/bedrock/async-invoke"),
        ("POST", "/bedrock/model/m/invoke-with-bidirectional-stream"),
        ("POST", "/bedrock/guardrail/g/version/1/apply"),
        (
            "POST",
            "/azure/openai/deployments/d/extensions/chat/completions",
        ),
        ("POST", "/mistral/v1/agents/completions"),
        ("POST", "/xai/v1/images/generations"),
        ("GET", "/xai/v1/chat/deferred-completion/1"),
        ("POST", "/cohere/v1/embed-jobs"),
        ("POST", "/ollama/api/pull"),
        ("DELETE", "/ollama/api/delete"),
    ] {
        let method = method.parse().expect("a method");
        let refused = find(&policy, &method, path).map(|route| route.endpoint.path.to_string());
        assert!(
            matches!(refused, Err(Refusal::NotAllowed { .. })),
            "{method} {path}: {refused:?}"
        );
    }
}
