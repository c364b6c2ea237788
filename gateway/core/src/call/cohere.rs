//! Cohere's dialect: chat (both versions), embeddings and rerank, the last also as others speak it.
//!
//! It does not know whether a reranker bills by searches or by tokens, so it bounds both.

use super::openai::add_searches;
use super::read::{elements, flag, invalid, largest, length};
use super::tools::{self, UNSTATED_TOOL_CALLS};
use super::{Ask, Input, anthropic};
use crate::json::{Fields, Word, disguises_ascii, words};
use crate::refusal::Refusal;

/// The field of chat.
pub(super) const BOUNDS: [&str; 1] = ["max_tokens"];

/// Documents that one unit of search covers, as Cohere's price page states it.
const DOCUMENTS_PER_UNIT: u64 = 100;
/// Tokens of a document in one piece, at least. A document of over 500 tokens, the query's
/// included, is cut into pieces that count as documents; a query takes up to half of each.
const TOKENS_PER_PIECE: u64 = 250;

/// Reads a chat.
pub(super) fn read_chat(ask: &mut Ask, fields: &Fields<'_>, body: &[u8]) -> Result<(), Refusal> {
    static PARTS: [Word; 2] = words!["image_url", "image"];
    ask.stream = flag(fields, "stream", "stream must be a boolean")?;
    let bound = largest(fields, &BOUNDS)?;
    ask.max_output_tokens = anthropic::with_budget(bound, fields, "thinking", "token_budget")?;
    if fields.is_given("conversation_id")
        || disguises_ascii(body)
        || PARTS.iter().any(|part| part.occurs(body))
    {
        ask.widen(Input::Referenced);
    }
    if fields.is_given("connectors") {
        ask.widen(Input::Looping);
        add_searches(&mut ask.most, UNSTATED_TOOL_CALLS);
    }
    tools::read(ask, fields)
}

/// Reads an embedding. Nothing is generated.
pub(super) fn read_embedding(ask: &mut Ask, fields: &Fields<'_>, body: &[u8]) {
    static PARTS: [Word; 1] = words!["image_url"];
    ask.max_output_tokens = Some(0);
    if fields.is_given("images")
        || disguises_ascii(body)
        || PARTS.iter().any(|part| part.occurs(body))
    {
        ask.widen(Input::Referenced);
    }
}

/// Reads a rerank. Those who bill it by tokens count the query once for every document.
pub(super) fn read_rerank(ask: &mut Ask, fields: &Fields<'_>, body: &[u8]) -> Result<(), Refusal> {
    static PARTS: [Word; 2] = words!["image", "image_url"];
    ask.max_output_tokens = Some(0);
    let documents = fields
        .given("documents")
        .and_then(elements)
        .ok_or_else(|| invalid("documents must be a list"))?;
    let pieces = documents.iter().fold(0_u64, |pieces, document| {
        let bytes = length(document.get().len());
        pieces
            .saturating_add(1)
            .saturating_add(bytes.div_euclid(TOKENS_PER_PIECE))
    });
    ask.most.search_units = pieces.div_ceil(DOCUMENTS_PER_UNIT).max(1);
    let query = length(fields.given("query").unwrap_or_default().len());
    let queries = query.saturating_mul(length(documents.len()));
    ask.body_bytes = ask.body_bytes.saturating_add(queries);
    if disguises_ascii(body) || PARTS.iter().any(|part| part.occurs(body)) {
        ask.widen(Input::Referenced);
    }
    Ok(())
}
