//! Tools in a request that the provider runs itself, and what they may add to the bill.
//!
//! Tools the client runs cost nothing but their tokens. A tool type this file does not know is
//! taken for one the provider runs: dearer at worst, never too cheap.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Ask, Input, count, invalid};
use crate::json::Fields;
use crate::policy::Operation;
use crate::refusal::Refusal;

/// Calls of a provider's own tool assumed where the request sets no limit. Neither OpenAI nor
/// Anthropic states one; both stop their internal loops after some ten rounds.
pub const UNSTATED_TOOL_CALLS: u64 = 10;

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    max_uses: Option<serde_json::Number>,
}

/// Adds to `ask` what the request's tools allow.
pub(super) fn read(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    ask.tools = fields.given("functions").is_some();
    if ask.operation == Operation::ChatCompletions && fields.given("web_search_options").is_some() {
        ask.input = Input::Looping;
        ask.most.web_searches = 1;
    }
    let Some(raw) = fields.given("tools") else {
        return Ok(());
    };
    ask.tools = true;
    let tools: Vec<Tool<'_>> = serde_json::from_str(raw).map_err(|_bad: serde_json::Error| {
        invalid("tools must be a list of objects without repeated fields")
    })?;
    let stated = match ask.operation {
        Operation::Responses => count(
            fields,
            "max_tool_calls",
            "max_tool_calls must be an integer from 0 to 2^53",
        )?,
        _ => None,
    };
    for tool in &tools {
        let kind = tool.kind.as_deref().unwrap_or_default();
        if runs_at_client(ask.operation, kind) {
            continue;
        }
        ask.input = Input::Looping;
        let uses = tool.max_uses.as_ref().and_then(serde_json::Number::as_u64);
        let calls = stated.or(uses).unwrap_or(UNSTATED_TOOL_CALLS);
        if kind.starts_with("web_search") {
            ask.most.web_searches = ask.most.web_searches.saturating_add(calls);
        } else if kind == "file_search" {
            ask.most.file_searches = ask.most.file_searches.saturating_add(calls);
        }
    }
    Ok(())
}

/// Whether the client itself runs a tool of this type.
fn runs_at_client(operation: Operation, kind: &str) -> bool {
    match operation {
        Operation::Messages => {
            kind.is_empty()
                || kind == "custom"
                || ["bash_", "text_editor_", "computer_", "memory_"]
                    .iter()
                    .any(|prefix| kind.starts_with(prefix))
        }
        _ => matches!(
            kind,
            "function" | "custom" | "local_shell" | "shell" | "apply_patch" | "namespace"
        ),
    }
}
