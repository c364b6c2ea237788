//! Tools in a request that the provider runs itself, and what they may add to the bill.
//!
//! Tools the client runs cost nothing but their tokens. A tool type this file does not know is
//! taken for one the provider runs and charges like a search: dearer at worst, never too cheap.
//!
//! Worst case: OpenAI's `code_interpreter` is charged by the container, which no count stands for;
//! searches stand for it in the bound, and large containers cost more than they do.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::media::image_tokens;
use super::openai::add_searches;
use super::read::{count, elements, holds, invalid, object, plain_count, text};
use super::{Ask, Input};
use crate::ids::ModelName;
use crate::json::Fields;
use crate::policy::Operation;
use crate::refusal::Refusal;

/// Calls of a provider's own tool assumed where the request sets no limit. Neither OpenAI nor
/// Anthropic states one; both stop their internal loops after some ten rounds.
pub const UNSTATED_TOOL_CALLS: u64 = 10;
/// Sources that xAI's live search returns, each of which is billed, where the request sets no
/// limit.
const UNSTATED_SOURCES: u64 = 20;
/// Results of OpenRouter's web plugin, each of which is billed, where the request sets no limit.
const UNSTATED_RESULTS: u64 = 5;

/// The model that draws where a request names none.
const DRAWING_MODEL: &str = "gpt-image-1";
/// Tokens of a picture that cost what a search costs at least: 40 US dollars per million, the
/// dearest, and 10 per thousand.
const PICTURE_TOKENS_PER_SEARCH: u64 = 250;

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    max_uses: Option<&'a RawValue>,
    #[serde(borrow, default)]
    environment: Option<&'a RawValue>,
    /// The model that the tool runs.
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    /// The size of the pictures that it draws.
    #[serde(borrow, default)]
    size: Option<&'a RawValue>,
    #[serde(borrow, default)]
    partial_images: Option<&'a RawValue>,
}

impl Tool<'_> {
    /// How many searches stand for one picture that it draws.
    fn searches_per_picture(&self) -> Result<u64, Refusal> {
        let text = |raw: Option<&RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
        };
        let partial = match self.partial_images.map(RawValue::get) {
            None | Some("null") => None,
            Some(partial) => plain_count(partial)
                .ok_or_else(|| invalid("partial_images must be an integer from 0 to 2^53"))?,
        };
        let model = text(self.model).unwrap_or_else(|| DRAWING_MODEL.to_owned());
        let tokens = image_tokens(&model, text(self.size).as_deref(), partial.unwrap_or(0));
        Ok(tokens.div_ceil(PICTURE_TOKENS_PER_SEARCH))
    }

    /// Whether it names no environment but the client's own: OpenAI also hosts shells.
    fn is_local(&self) -> bool {
        let Some(environment) = self.environment.map(RawValue::get) else {
            return true;
        };
        environment == "null"
            || Fields::scan_text(environment)
                .is_ok_and(|fields| fields.given("type") == Some("\"local\""))
    }
}

/// Adds to `ask` what the request's tools allow.
pub(super) fn read(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    let Some(raw) = fields.given("tools") else {
        return Ok(());
    };
    ask.tools = true;
    let shape = "tools must be a list of objects without repeated fields";
    let stated = stated_calls(ask, fields)?;
    for tool in elements(raw).ok_or_else(|| invalid(shape))? {
        let tool: Tool<'_> =
            serde_json::from_str(tool.get()).map_err(|_bad: serde_json::Error| invalid(shape))?;
        let kind = tool.kind.as_deref().unwrap_or_default();
        if runs_at_client(ask.operation, kind) && tool.is_local() {
            continue;
        }
        ask.widen(Input::Looping);
        let uses = match tool.max_uses.map(RawValue::get) {
            None | Some("null") => None,
            Some(uses) => plain_count(uses)
                .ok_or_else(|| invalid("max_uses must be an integer from 0 to 2^53"))?,
        };
        let calls = stated.or(uses).unwrap_or(UNSTATED_TOOL_CALLS);
        refuse_other_models(kind, &tool, &ask.model)?;
        if kind == "image_generation" {
            add_searches(
                &mut ask.most,
                calls.saturating_mul(tool.searches_per_picture()?),
            );
        } else if kind == "file_search" {
            ask.most.file_searches = ask.most.file_searches.saturating_add(calls);
        } else if !costs_only_tokens(kind) {
            add_searches(&mut ask.most, calls);
        }
    }
    Ok(())
}

/// Lets the provider search, where tools may be in use that the request does not show.
pub(super) fn may_search(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    let calls = stated_calls(ask, fields)?.unwrap_or(UNSTATED_TOOL_CALLS);
    ask.widen(Input::Looping);
    add_searches(&mut ask.most, calls);
    ask.most.file_searches = ask.most.file_searches.saturating_add(calls);
    Ok(())
}

/// Adds searches that are asked for by other fields than `tools`.
pub(super) fn read_searches(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    let mut searches = 0_u64;
    let mut loops = false;
    if fields.is_given("web_search_options") {
        loops = true;
        searches = 1;
    }
    let xai = object(
        fields,
        "search_parameters",
        "search_parameters must be an object",
    )?;
    if let Some(xai) = xai {
        loops = true;
        let detail = "max_search_results must be an integer from 0 to 2^53";
        let sources = count(&xai, "max_search_results", detail)?.unwrap_or(UNSTATED_SOURCES);
        searches = searches.saturating_add(sources);
    }
    if fields
        .given("enable_search")
        .is_some_and(|on| on != "false")
    {
        loops = true;
        searches = searches.saturating_add(UNSTATED_TOOL_CALLS);
    }
    let model = ask.model.as_str();
    if holds(model, b':') && model.contains(":online") {
        loops = true;
        searches = searches.saturating_add(UNSTATED_RESULTS);
    }
    if let Some(plugins) = fields.given("plugins") {
        loops = true;
        searches = searches.saturating_add(results_of_plugins(plugins)?);
    }
    if loops {
        ask.widen(Input::Looping);
    }
    add_searches(&mut ask.most, searches);
    Ok(())
}

/// Refuses a tool or plugin by which other models answer than the one that is judged: their prices
/// are not in the bound, and no policy has allowed them.
fn refuse_other_models(kind: &str, tool: &Tool<'_>, asked: &ModelName) -> Result<(), Refusal> {
    let names_another = tool.model.is_some_and(|model| {
        serde_json::from_str::<Cow<'_, str>>(model.get()).is_ok_and(|model| model != asked.as_str())
    });
    let chooses = kind.strip_prefix("openrouter:").is_some_and(chooses_models);
    if chooses || (names_another && kind.starts_with("advisor")) {
        return Err(invalid(OTHER_MODELS_DETAIL));
    }
    Ok(())
}

/// Whether a tool or plugin of OpenRouter's lets other models answer.
fn chooses_models(name: &str) -> bool {
    ["advisor", "fusion", "subagent"].contains(&name) || name.ends_with("-router")
}

const OTHER_MODELS_DETAIL: &str = "a tool or plugin may run only the model itself; name one model";

/// The results that OpenRouter's plugins may add. One that is not known is counted like a search.
fn results_of_plugins(raw: &str) -> Result<u64, Refusal> {
    let shape = "plugins must be a list of objects";
    let mut results = 0_u64;
    for plugin in elements(raw).ok_or_else(|| invalid(shape))? {
        let plugin = Fields::scan_text(plugin.get()).map_err(|_fault| invalid(shape))?;
        let id = text(&plugin, "id", shape)?;
        if id.as_deref().is_some_and(chooses_models) {
            return Err(invalid(OTHER_MODELS_DETAIL));
        }
        let detail = "max_results must be an integer from 0 to 2^53";
        let given = count(&plugin, "max_results", detail)?.unwrap_or(UNSTATED_RESULTS);
        results = results.saturating_add(given);
    }
    Ok(results)
}

fn stated_calls(ask: &Ask, fields: &Fields<'_>) -> Result<Option<u64>, Refusal> {
    match ask.operation {
        Operation::Responses => count(
            fields,
            "max_tool_calls",
            "max_tool_calls must be an integer from 0 to 2^53",
        ),
        _ => Ok(None),
    }
}

/// Whether the client itself runs a tool of this type.
fn runs_at_client(operation: Operation, kind: &str) -> bool {
    match operation {
        Operation::Messages | Operation::InvokeModel => {
            matches!(kind, "" | "custom" | "function")
                || ["bash_", "text_editor_", "computer_", "memory_"]
                    .iter()
                    .any(|prefix| kind.starts_with(prefix))
        }
        Operation::CohereChat | Operation::OllamaChat => {
            matches!(kind, "" | "function" | "custom")
        }
        _ => matches!(
            kind,
            "function" | "custom" | "local_shell" | "shell" | "apply_patch" | "namespace"
        ),
    }
}

/// Whether a tool that the provider runs is billed by its tokens alone.
fn costs_only_tokens(kind: &str) -> bool {
    [
        "advisor",
        "code_execution",
        "computer",
        "mcp",
        "tool_search",
        "web_fetch",
    ]
    .iter()
    .any(|prefix| kind.starts_with(prefix))
}
