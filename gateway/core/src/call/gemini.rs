//! Google's dialect: the Gemini API and Vertex AI.
//!
//! Its JSON takes every field in camel case and in snake case alike; where both are given the
//! larger counts. It does not know which region serves a call.

use super::openai::add_searches;
use super::read::{count, elements, invalid, object, text};
use super::tools::UNSTATED_TOOL_CALLS;
use super::{Ask, Input, Request};
use crate::json::{Fields, Word, disguises_ascii, words};
use crate::refusal::Refusal;

/// The two spellings of where the bounds are.
pub(super) const CONFIGS: [&str; 2] = ["generationConfig", "generation_config"];
/// The two spellings of the bound.
pub(super) const BOUNDS: [&str; 2] = ["maxOutputTokens", "max_output_tokens"];

const TOOLS_DETAIL: &str = "tools must be a list of objects without repeated fields";

/// Reads a generation, streamed or not.
pub(super) fn read(
    ask: &mut Ask,
    fields: &Fields<'_>,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    static PARTS: [Word; 4] = words!["fileData", "file_data", "inlineData", "inline_data"];
    ask.stream = request.path.ends_with("streamGenerateContent");
    read_configs(ask, fields)?;
    for name in ["serviceTier", "service_tier"] {
        let tier = text(fields, name, "serviceTier must be a string")?;
        // An enumeration may be given by its full name.
        let tier = tier.map(|tier| tier.to_ascii_lowercase());
        let tier = tier.map(|tier| match tier.strip_prefix("service_tier_") {
            Some(short) => short.to_owned(),
            None => tier,
        });
        ask.terms.service_tier = tier.or(ask.terms.service_tier.take());
    }
    if ["cachedContent", "cached_content"]
        .iter()
        .any(|name| fields.is_given(name))
        || disguises_ascii(request.body)
        || PARTS.iter().any(|part| part.occurs(request.body))
    {
        ask.widen(Input::Referenced);
    }
    read_tools(ask, fields)
}

/// Reads an embedding, one or many. Nothing is generated.
pub(super) fn read_embedding(ask: &mut Ask, body: &[u8]) {
    static PARTS: [Word; 8] = words![
        "fileData",
        "file_data",
        "inlineData",
        "inline_data",
        "image",
        "video",
        "gcsUri",
        "bytesBase64Encoded",
    ];
    ask.max_output_tokens = Some(0);
    if disguises_ascii(body) || PARTS.iter().any(|part| part.occurs(body)) {
        ask.widen(Input::Referenced);
    }
}

fn read_configs(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    let mut beyond_text = false;
    for name in CONFIGS {
        let Some(config) = object(fields, name, "generationConfig must be an object")? else {
            continue;
        };
        for bound in BOUNDS {
            let detail = "maxOutputTokens must be an integer from 0 to 2^53";
            let bound = count(&config, bound, detail)?;
            ask.max_output_tokens = ask.max_output_tokens.max(bound);
        }
        for candidates in ["candidateCount", "candidate_count"] {
            let detail = "candidateCount must be an integer from 0 to 2^53";
            let candidates = count(&config, candidates, detail)?.unwrap_or(1);
            ask.choices = ask.choices.max(candidates);
        }
        for modalities in ["responseModalities", "response_modalities"] {
            beyond_text |= config.given(modalities).is_some_and(|raw| {
                elements(raw).is_none_or(|kinds| {
                    let is_text = |kind: &str| kind.eq_ignore_ascii_case("\"text\"");
                    !kinds.iter().all(|kind| is_text(kind.get()))
                })
            });
        }
    }
    if beyond_text {
        // No source says that the bound covers images and speech: the model's own does.
        ask.max_output_tokens = None;
    }
    Ok(())
}

/// Reads the tools. Each object of the list may define several, by the names of its fields.
fn read_tools(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    let Some(raw) = fields.given("tools") else {
        return Ok(());
    };
    ask.tools = true;
    for tool in elements(raw).ok_or_else(|| invalid(TOOLS_DETAIL))? {
        let tool = Fields::scan_text(tool.get()).map_err(|_fault| invalid(TOOLS_DETAIL))?;
        for name in tool.names().filter(|name| tool.is_given(name)) {
            match name {
                "functionDeclarations"
                | "function_declarations"
                | "computerUse"
                | "computer_use" => {}
                "codeExecution" | "code_execution" | "urlContext" | "url_context" => {
                    ask.widen(Input::Looping);
                }
                // Searches, maps and whatever is new: the API has no limit for any of them.
                _ => {
                    ask.widen(Input::Looping);
                    add_searches(&mut ask.most, UNSTATED_TOOL_CALLS);
                }
            }
        }
    }
    Ok(())
}
