//! Anthropic's dialect: messages, also as Vertex AI and Bedrock serve them.
//!
//! It does not know prices of caches, only that a request asks to write to one.

use std::borrow::Cow;

use serde::Deserialize;

use super::openai::terms;
use super::read::{BOUND_DETAIL, count, flag, largest, length};
use super::{Ask, CacheWrite, Input, Request, tools};
use crate::json::{Fields, Word, disguises_ascii, words};
use crate::refusal::Refusal;

/// The field of messages.
pub(super) const BOUNDS: [&str; 1] = ["max_tokens"];

/// Reads a message. On Vertex AI the path names the model and may ask for the stream.
pub(super) fn read(
    ask: &mut Ask,
    fields: &Fields<'_>,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    let asked = flag(fields, "stream", "stream must be a boolean")?;
    ask.stream = asked || request.path.ends_with("streamRawPredict");
    let bound = largest(fields, &BOUNDS)?;
    ask.max_output_tokens = with_budget(bound, fields, "thinking", "budget_tokens")?;
    ask.terms = terms(fields)?;
    // A shape for the answer is described to the model by a prompt of the provider's own.
    ask.tools = ["output_config", "output_format"]
        .iter()
        .any(|name| fields.is_given(name));
    read_input(ask, fields, request.body);
    tools::read(ask, fields)?;
    tools::read_searches(ask, fields)
}

/// Finds what makes the input dearer or larger than its bytes.
pub(super) fn read_input(ask: &mut Ask, fields: &Fields<'_>, body: &[u8]) {
    static PARTS: [Word; 2] = words!["document", "container_upload"];
    static PICTURE: Word = Word::new("\"image\"");
    static CACHE: [Word; 2] = words!["cache_control", "1h"];
    let disguised = disguises_ascii(body);
    if disguised || fields.is_given("container") || PARTS.iter().any(|kind| kind.is_a_type(body)) {
        ask.widen(Input::Referenced);
    }
    let pictures = length(PICTURE.parts(body));
    ask.pictures = ask.pictures.max(pictures);
    let compacts = fields
        .given("context_management")
        .is_some_and(|management| !only_clears(management));
    if compacts || fields.is_given("mcp_servers") {
        ask.widen(Input::Looping);
    }
    let [marker, hour] = &CACHE;
    if disguised || marker.occurs(body) {
        ask.cache_write = if disguised || hour.occurs(body) {
            CacheWrite::OneHour
        } else {
            CacheWrite::FiveMinutes
        };
    }
}

/// Whether the context is managed only by leaving parts of it out, which costs nothing and which
/// Claude Code asks for of itself. Compaction is a call of its own.
fn only_clears(management: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Management<'a> {
        #[serde(borrow, default)]
        edits: Vec<Edit<'a>>,
    }
    #[derive(Deserialize)]
    struct Edit<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Management<'_>>(management).is_ok_and(|management| {
        let mut edits = management.edits.iter();
        edits.all(|edit| edit.kind.starts_with("clear_"))
    })
}

/// The bound raised by a budget for thinking that is not within it. Anthropic allows that where
/// thinking alternates with tool calls, and then holds to neither alone.
pub(super) fn with_budget(
    bound: Option<u64>,
    fields: &Fields<'_>,
    name: &str,
    budget: &str,
) -> Result<Option<u64>, Refusal> {
    let Some(thinking) = fields.given(name).filter(|raw| raw.starts_with('{')) else {
        return Ok(bound);
    };
    let thinking = Fields::scan_text(thinking)?;
    let budget = count(&thinking, budget, BOUND_DETAIL)?.unwrap_or(0);
    Ok(bound.map(|bound| {
        if budget < bound {
            bound
        } else {
            bound.saturating_add(budget)
        }
    }))
}
