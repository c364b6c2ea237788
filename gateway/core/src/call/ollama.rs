//! Ollama's own dialect: chat, generate and embeddings.
//!
//! It does not know the model's own options, which may set a bound of their own.

use super::read::{invalid, maybe_flag, object, plain_count};
use super::{Ask, Input};
use crate::json::{Fields, Word, disguises_ascii, words};
use crate::refusal::Refusal;

/// Where the bound is.
pub(super) const OPTIONS: &str = "options";
/// The bound.
pub(super) const BOUND: &str = "num_predict";

/// Reads a chat or a generation, which streams unless it says otherwise.
pub(super) fn read_chat(ask: &mut Ask, fields: &Fields<'_>, body: &[u8]) -> Result<(), Refusal> {
    static PARTS: [Word; 1] = words!["images"];
    let stream = maybe_flag(fields, "stream", "stream must be a boolean")?;
    ask.stream = stream.unwrap_or(true);
    if let Some(options) = object(fields, OPTIONS, "options must be an object")? {
        ask.max_output_tokens = match options.given(BOUND) {
            None => None,
            Some(text) => predicted(text)?,
        };
    }
    ask.tools = fields.is_given("tools");
    // Tokens of an earlier answer are given as numbers and so in at least two bytes each.
    if disguises_ascii(body) || PARTS.iter().any(|part| part.occurs(body)) {
        ask.widen(Input::Referenced);
    }
    Ok(())
}

/// Reads an embedding. Nothing is generated.
pub(super) fn read_embedding(ask: &mut Ask) {
    ask.max_output_tokens = Some(0);
}

/// The bound, where the number is one: negative numbers mean no end, or the context's.
fn predicted(text: &str) -> Result<Option<u64>, Refusal> {
    let number = text.strip_prefix('-');
    match (number, plain_count(number.unwrap_or(text))) {
        (None, Some(bound)) => Ok(bound),
        (Some(_), Some(_)) => Ok(None),
        _ => Err(invalid("num_predict must be an integer up to 2^53")),
    }
}
