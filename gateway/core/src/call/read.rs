//! Reads single fields of a request: what each may look like, and how it is refused.
//!
//! It does not know what a field means.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::ids::ModelName;
use crate::json::{Fields, JsonFault};
use crate::refusal::Refusal;

/// The largest integer that every JSON reader takes alike (2⁵³).
const MAX_INTEGER: u64 = 1 << 53;

pub(super) const BOUND_DETAIL: &str =
    "the bound on output tokens must be an integer from 0 to 2^53";

pub(super) fn invalid(detail: &'static str) -> Refusal {
    Refusal::Malformed {
        code: "invalid_field",
        detail,
    }
}

/// The fields of an object that is a field's value; `None` where there is none.
pub(super) fn object<'a>(
    fields: &Fields<'a>,
    name: &str,
    detail: &'static str,
) -> Result<Option<Fields<'a>>, Refusal> {
    let Some(raw) = fields.given(name) else {
        return Ok(None);
    };
    match Fields::scan_text(raw) {
        Ok(fields) => Ok(Some(fields)),
        Err(JsonFault::DuplicateField) => Err(Refusal::Malformed {
            code: "duplicate_field",
            detail: "a field within a field of the request body occurs twice",
        }),
        Err(JsonFault::NotAnObject | JsonFault::TooManyFields) => Err(invalid(detail)),
    }
}

pub(super) fn model(fields: &Fields<'_>) -> Result<ModelName, Refusal> {
    let raw = fields.given("model").ok_or(MISSING_MODEL)?;
    serde_json::from_str(raw)
        .map_err(|_bad: serde_json::Error| invalid("model must be a string of 1 to 256 characters"))
}

/// The refusal of a request without a model.
pub(super) const MISSING_MODEL: Refusal = Refusal::Malformed {
    code: "missing_model",
    detail: "the request body names no model",
};

pub(super) fn flag(fields: &Fields<'_>, name: &str, detail: &'static str) -> Result<bool, Refusal> {
    Ok(maybe_flag(fields, name, detail)?.unwrap_or(false))
}

/// A flag whose absence has a meaning of its own.
pub(super) fn maybe_flag(
    fields: &Fields<'_>,
    name: &str,
    detail: &'static str,
) -> Result<Option<bool>, Refusal> {
    match fields.given(name) {
        None => Ok(None),
        Some("false") => Ok(Some(false)),
        Some("true") => Ok(Some(true)),
        Some(_) => Err(invalid(detail)),
    }
}

/// A count written as a plain integer. Signs, fractions and exponents are refused, since
/// providers differ in what they make of them. Zero counts as absent: not every provider takes it
/// for a bound.
pub(super) fn count(
    fields: &Fields<'_>,
    name: &str,
    detail: &'static str,
) -> Result<Option<u64>, Refusal> {
    match fields.given(name) {
        None => Ok(None),
        Some(text) => plain_count(text).ok_or_else(|| invalid(detail)),
    }
}

/// [`count`] for one number; `None` if it is not one, `Some(None)` if it is zero.
#[expect(
    clippy::option_option,
    reason = "zero is neither a count nor a mistake"
)]
pub(super) fn plain_count(text: &str) -> Option<Option<u64>> {
    match text.parse::<u64>() {
        Ok(0) => Some(None),
        Ok(number) if number <= MAX_INTEGER && !text.starts_with('+') => Some(Some(number)),
        _ => None,
    }
}

/// The largest of several bounds on output.
pub(super) fn largest(fields: &Fields<'_>, names: &[&str]) -> Result<Option<u64>, Refusal> {
    let mut largest = None;
    for name in names {
        largest = largest.max(count(fields, name, BOUND_DETAIL)?);
    }
    Ok(largest)
}

/// A bound on output by fields that every server of the dialect knows, raised by fields that only
/// some know: a server that ignores one of these would otherwise be taken to be bound by it.
pub(super) fn output_bound(
    fields: &Fields<'_>,
    known: &[&str],
    raising: &[&str],
) -> Result<Option<u64>, Refusal> {
    let raised = largest(fields, raising)?;
    Ok(largest(fields, known)?.map(|bound| bound.max(raised.unwrap_or(0))))
}

pub(super) fn text(
    fields: &Fields<'_>,
    name: &str,
    detail: &'static str,
) -> Result<Option<String>, Refusal> {
    fields
        .given(name)
        .map(serde_json::from_str::<String>)
        .transpose()
        .map_err(|_bad: serde_json::Error| invalid(detail))
}

/// The most elements of a list that is looked through: as many tokens as a prompt can hold. A list
/// of nothing but commas would otherwise cost many times the memory of its text.
const MAX_ELEMENTS: usize = 1 << 20;

/// The elements of a list; `None` if it is not one, or too long.
pub(super) fn elements(raw: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw).ok().map(|Elements(list)| list)
}

struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ElementsVisitor)
    }
}

struct ElementsVisitor;

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_ELEMENTS} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            if list.len() >= MAX_ELEMENTS {
                return Err(A::Error::invalid_length(list.len(), &self));
            }
            list.push(element);
        }
        Ok(Elements(list))
    }
}

/// The number of bytes, or of anything else in memory.
pub(super) fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Names that decide what a call costs, in the dialects that write them in lower case.
const JUDGED: [&str; 47] = [
    "background",
    "best_of",
    "chat_template",
    "context_management",
    "connectors",
    "conversation",
    "conversation_id",
    "deferred",
    "document",
    "documents",
    "enable_search",
    "enable_thinking",
    "functions",
    "include_usage",
    "inference_geo",
    "input",
    "max_completion_tokens",
    "max_new_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_tool_calls",
    "mcp_servers",
    "messages",
    "model",
    "models",
    "n",
    "n_predict",
    "options",
    "partial_images",
    "plugins",
    "prediction",
    "preset",
    "previous_response_id",
    "prompt",
    "prompt_embeds",
    "query",
    "reasoning",
    "search_parameters",
    "service_tier",
    "size",
    "speed",
    "stream",
    "stream_options",
    "thinking",
    "thinking_budget",
    "tools",
    "web_search_options",
];

/// Refuses a judged field that is written in another case. Servers in Go take `MAX_TOKENS`, and
/// even `max_toKens` with a Kelvin sign, for `max_tokens`; others ignore them.
pub(super) fn refuse_other_spellings(fields: &Fields<'_>) -> Result<(), Refusal> {
    let usual = |byte: u8| !byte.is_ascii_uppercase() && byte.is_ascii();
    for name in fields.names().filter(|name| !name.bytes().all(usual)) {
        let folded = name
            .to_lowercase()
            .replace('\u{17f}', "s")
            .replace('\u{212a}', "k");
        if JUDGED.contains(&folded.as_str()) {
            return Err(invalid(
                "a field that decides the cost must be written in lower case",
            ));
        }
    }
    Ok(())
}

/// Whether a text holds an ASCII character.
pub(super) fn holds(text: &str, character: u8) -> bool {
    memchr::memchr(character, text.as_bytes()).is_some()
}

/// Refuses what lets the provider answer with another model than the one that is judged:
/// OpenRouter's fallbacks and presets.
pub(super) fn refuse_other_models(fields: &Fields<'_>, model: &ModelName) -> Result<(), Refusal> {
    // Most names have no such sign, which is told faster than that they have no such word.
    let in_name = holds(model.as_str(), b'@') && model.as_str().contains("@preset/");
    if fields.is_given("preset") || in_name {
        return Err(invalid("a preset may choose another model; name one model"));
    }
    let Some(models) = fields.given("models") else {
        return Ok(());
    };
    let models = elements(models).ok_or_else(|| invalid("models must be a list of strings"))?;
    let is_other = |name: &&RawValue| {
        !serde_json::from_str::<String>(name.get()).is_ok_and(|name| name == model.as_str())
    };
    if models.iter().any(is_other) {
        return Err(invalid(
            "models may name only the model itself; name one model",
        ));
    }
    Ok(())
}
