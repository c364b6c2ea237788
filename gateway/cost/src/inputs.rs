//! What the decisions are made about: a policy with everything on, a chat, its answers.
//!
//! They are as `loadtest overhead` has them, and must stay as they are: counts compare only over
//! the same inputs.

use std::time::Duration;

use anyhow::anyhow;
use tollgate_core::identity::{KeySet, Mint, TokenRequest, new_private_key};
use tollgate_core::ids::AgentId;
use tollgate_core::policy::{Policy, PolicyFile, parse};
use tollgate_core::time::Timestamp;

pub(crate) const MODEL: &str = "gpt-4o-mini";
pub(crate) const PATH: &str = "/openai/v1/chat/completions";
pub(crate) const PATH_AT_PROVIDER: &str = "/v1/chat/completions";
pub(crate) const NOW: &str = "2026-11-20T12:00:00Z";
pub(crate) const SECRET: &str = "sk-canary-0123456789abcdef0123456789abcdef0123456789abcdef";

const PROVIDER: &str = r#"
[provider]
name = "openai"
upstream = "https://api.openai.com"
dialect = "openai"
prices = "openai"
place = { header = "authorization", prefix = "Bearer " }

[[endpoint]]
method = "POST"
path = "/v1/chat/completions"
operation = "chat_completions"
"#;

const TENANT: &str = r#"
[tenant]
id = "acme"

[caps]
daily_usd = "1000000"
monthly_usd = "1000000"
task_usd = "1000000"

[limits]
requests_per_minute = 1000000
burst = 1000000

[[allow]]
provider = "openai"
models = ["gpt-4o*"]

[credentials]
openai_key = { provider = "openai", default = true }

[agents.bench]
daily_usd = "1000000"
monthly_usd = "1000000"
requests_per_minute = 1000000
"#;

pub(crate) fn policy() -> anyhow::Result<Policy> {
    let file = |path: &str, text: &str| PolicyFile {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let files = [
        file("providers/openai.toml", PROVIDER),
        file("tenants/acme.toml", TENANT),
    ];
    parse(&files).map_err(|mistakes| anyhow!("the policy is refused: {mistakes:?}"))
}

/// A task token and the keys that believe it.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) keys: KeySet,
    pub(crate) agent: AgentId,
}

pub(crate) fn token(now: Timestamp) -> anyhow::Result<Token> {
    let mint = Mint::from_pem(&new_private_key(&[7; 32]), "tollgate", "tollgate")?;
    let agent: AgentId = "bench".parse()?;
    let wanted = TokenRequest {
        tenant: "acme".parse()?,
        agent: agent.clone(),
        task: "task-1".parse()?,
        lifetime: Duration::from_secs(300),
        certificate: None,
    };
    let (text, _caller) =
        mint.issue(wanted, now, "01980000-0000-7000-8000-000000000001".parse()?)?;
    Ok(Token {
        text,
        keys: mint.keys(),
        agent,
    })
}

/// So many bytes of a text over and over.
fn text(of: &str, bytes: usize) -> String {
    of.chars().cycle().take(bytes).collect()
}

/// 2,048 bytes.
pub(crate) fn request() -> Vec<u8> {
    let start = r#"{"model":"gpt-4o-mini","max_tokens":256,"messages":[{"role":"user","content":""#;
    let end = r#""}]}"#;
    let bytes = 2_048_usize.saturating_sub(start.len().saturating_add(end.len()));
    let text = text("Tell me about toll gates. ", bytes);
    format!("{start}{text}{end}").into_bytes()
}

const USAGE: &str = r#"{"completion_tokens":60,"completion_tokens_details":{"accepted_prediction_tokens":0,"audio_tokens":0,"reasoning_tokens":0,"rejected_prediction_tokens":0},"prompt_tokens":500,"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":0},"total_tokens":560}"#;

/// About 1,024 bytes.
pub(crate) fn plain_answer() -> Vec<u8> {
    let text = text("All is well. ", 400);
    format!(
        r#"{{"choices":[{{"finish_reason":"stop","index":0,"logprobs":null,"message":{{"annotations":[],"content":"{text}","refusal":null,"role":"assistant"}}}}],"created":1780000000,"id":"chatcmpl-mock000000000001","model":"gpt-4o-mini","object":"chat.completion","service_tier":"default","system_fingerprint":"fp_mock","usage":{USAGE}}}"#
    )
    .into_bytes()
}

/// 54 events, each of which comes by itself.
pub(crate) fn stream() -> Vec<Vec<u8>> {
    let chunk = |choices: &str, usage: &str| {
        let event = format!(
            r#"data: {{"choices":{choices},"created":1780000000,"id":"chatcmpl-mock000000000001","model":"gpt-4o-mini","object":"chat.completion.chunk","service_tier":"default","system_fingerprint":"fp_mock","usage":{usage}}}"#
        );
        format!("{event}\n\n").into_bytes()
    };
    let choice = |delta: &str, finish: &str| {
        let choices =
            format!(r#"[{{"delta":{delta},"finish_reason":{finish},"index":0,"logprobs":null}}]"#);
        chunk(&choices, "null")
    };
    let mut events = vec![choice(r#"{"content":"","role":"assistant"}"#, "null")];
    events.extend((0..50).map(|_| choice(r#"{"content":"All is w"}"#, "null")));
    events.push(choice("{}", r#""stop""#));
    events.push(chunk("[]", USAGE));
    events.push(b"data: [DONE]\n\n".to_vec());
    events
}

/// 64 KiB in which no secret stands.
pub(crate) fn long_answer() -> Vec<u8> {
    text(
        "All is well, and the sky is the colour of slate. ",
        64 * 1_024,
    )
    .into_bytes()
}
