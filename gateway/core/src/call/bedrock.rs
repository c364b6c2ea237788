//! Bedrock's dialect: Converse, and models invoked in their own languages.
//!
//! The path names the model. Bedrock refuses fields that a model does not have, so the largest of
//! all bounds that are given is the one that holds.

use super::openai::add_searches;
use super::read::{BOUND_DETAIL, count, elements, invalid, largest, object, text};
use super::tools::UNSTATED_TOOL_CALLS;
use super::{Ask, CacheWrite, Input, Request, anthropic, openai, tools};
use crate::json::{Fields, Word, disguises_ascii, words};
use crate::refusal::Refusal;

/// Where Converse has its bound.
pub(super) const CONFIG: &str = "inferenceConfig";
/// Where Converse has what only some models know.
pub(super) const EXTRA: &str = "additionalModelRequestFields";
/// The names of bounds at the top of a body, by all models: Anthropic's two, OpenAI's and
/// Mistral's, Llama's, Nova's and AI21's.
pub(super) const BOUNDS: [&str; 8] = [
    "max_tokens",
    "max_completion_tokens",
    "max_tokens_to_sample",
    "max_gen_len",
    "max_new_tokens",
    "max_output_tokens",
    "maxTokens",
    "maxTokenCount",
];
/// The objects in a body that hold such names too: Converse's and Nova's, Titan's.
pub(super) const CONFIGS: [&str; 2] = [CONFIG, "textGenerationConfig"];

const CHOICES: [&str; 5] = [
    "n",
    "best_of",
    "num_generations",
    "numResults",
    "candidate_count",
];

/// Reads a Converse call, streamed or not.
pub(super) fn read_converse(
    ask: &mut Ask,
    fields: &Fields<'_>,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    ask.stream = request.path.ends_with("converse-stream");
    let config = object(fields, CONFIG, "inferenceConfig must be an object")?;
    let bound = match &config {
        Some(config) => largest(config, &["maxTokens"])?,
        None => None,
    };
    let extra = object(
        fields,
        EXTRA,
        "additionalModelRequestFields must be an object",
    )?;
    ask.max_output_tokens = match &extra {
        Some(extra) => {
            ask.choices = choices(extra)?;
            tools::read(ask, extra)?;
            anthropic::read_input(ask, extra, request.body);
            let raised = all_bounds(extra)?.unwrap_or(0);
            let bound = bound.map(|bound| bound.max(raised));
            with_thinking(bound, extra)?
        }
        None => bound,
    };
    read_terms(ask, fields)?;
    read_input(ask, fields, request.body);
    read_converse_tools(ask, fields)
}

/// Reads an invocation in the language of the model behind it.
pub(super) fn read_invocation(
    ask: &mut Ask,
    fields: &Fields<'_>,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    ask.stream = request.path.ends_with("invoke-with-response-stream");
    ask.max_output_tokens = with_thinking(all_bounds(fields)?, fields)?;
    ask.choices = choices(fields)?;
    ask.terms = openai::terms(fields)?;
    read_input(ask, fields, request.body);
    anthropic::read_input(ask, fields, request.body);
    if fields.is_given("toolConfig") {
        read_converse_tools(ask, fields)?;
    }
    tools::read(ask, fields)
}

/// The largest bound that the object or one of its known parts gives.
fn all_bounds(fields: &Fields<'_>) -> Result<Option<u64>, Refusal> {
    let mut bound = largest(fields, &BOUNDS)?;
    for name in CONFIGS {
        if let Some(config) = object(fields, name, "the configuration must be an object")? {
            bound = bound.max(largest(&config, &BOUNDS)?);
        }
    }
    Ok(bound)
}

/// The bound raised by thinking that is not within it, by each name it has.
fn with_thinking(mut bound: Option<u64>, fields: &Fields<'_>) -> Result<Option<u64>, Refusal> {
    for name in ["thinking", "reasoning_config", "reasoningConfig"] {
        for budget in ["budget_tokens", "maxReasoningTokens"] {
            bound = anthropic::with_budget(bound, fields, name, budget)?;
        }
    }
    Ok(bound)
}

fn choices(fields: &Fields<'_>) -> Result<u64, Refusal> {
    let mut choices = 1;
    for name in CHOICES {
        choices = choices.max(count(fields, name, BOUND_DETAIL)?.unwrap_or(1));
    }
    Ok(choices)
}

fn read_terms(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    if let Some(tier) = object(fields, "serviceTier", "serviceTier must be an object")? {
        ask.terms.service_tier = text(&tier, "type", "serviceTier.type must be a string")?;
    }
    let performance = object(
        fields,
        "performanceConfig",
        "performanceConfig must be an object",
    )?;
    if let Some(performance) = performance {
        let latency = text(
            &performance,
            "latency",
            "performanceConfig.latency must be a string",
        )?;
        ask.terms.speed = latency.filter(|latency| latency != "standard");
    }
    Ok(())
}

/// Finds what makes the input dearer or larger than its bytes. Blocks are told by the name of
/// their one field; the bytes of images and documents are not what is billed.
fn read_input(ask: &mut Ask, fields: &Fields<'_>, body: &[u8]) {
    static PARTS: [Word; 8] = words![
        "image",
        "images",
        "inputImage",
        "document",
        "video",
        "audio",
        "s3Location",
        "image_url",
    ];
    static CACHE: [Word; 2] = words!["cachePoint", "1h"];
    let disguised = disguises_ascii(body);
    if disguised || fields.is_given("promptVariables") || PARTS.iter().any(|part| part.occurs(body))
    {
        ask.widen(Input::Referenced);
    }
    let [point, hour] = &CACHE;
    if disguised || point.occurs(body) {
        ask.cache_write = if disguised || hour.occurs(body) {
            CacheWrite::OneHour
        } else {
            CacheWrite::FiveMinutes
        };
    }
}

/// Reads the tools of Converse: `toolSpec` runs at the client, `systemTool` at the provider.
fn read_converse_tools(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    let shape = "toolConfig must be an object with a list of tools";
    let Some(config) = object(fields, "toolConfig", shape)? else {
        return Ok(());
    };
    ask.tools = true;
    let Some(raw) = config.given("tools") else {
        return Ok(());
    };
    for tool in elements(raw).ok_or_else(|| invalid(shape))? {
        let tool = Fields::scan_text(tool.get()).map_err(|_fault| invalid(shape))?;
        if tool
            .names()
            .any(|name| !matches!(name, "toolSpec" | "cachePoint"))
        {
            ask.widen(Input::Looping);
            add_searches(&mut ask.most, UNSTATED_TOOL_CALLS);
        }
    }
    Ok(())
}
