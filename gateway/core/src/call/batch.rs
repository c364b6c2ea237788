//! What a batch asks for: many calls that are made later, at a discount.
//!
//! A batch is judged by its lines, each of which is read as the call that it will be. This module
//! does not know which file a batch is started from; that is remembered elsewhere.
//!
//! Worst case: one [`Ask`] per line, of which there may be [`MAX_CALLS`]. A line that cannot be
//! read refuses the whole batch, since the provider might read it.

use std::borrow::Cow;
use std::collections::HashSet;

use super::form::Form;
use super::read::{elements, invalid};
use super::{Ask, Request};
use crate::json::Fields;
use crate::policy::Operation;
use crate::refusal::Refusal;

/// The most calls one batch may hold: Anthropic's limit. OpenAI's is half of it.
pub const MAX_CALLS: usize = 100_000;

/// The most models one batch may ask for, since their names are kept for as long as its charge.
/// OpenAI's limit is one; Anthropic has fewer than this.
pub const MAX_MODELS: usize = 16;

/// What an uploaded file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchFile {
    /// A file for another purpose.
    NotABatch,
    /// The input of a batch: the calls it will make. Calls that cost nothing are left out.
    Batch(Vec<Ask>),
}

/// Reads the calls of a batch of Anthropic messages.
///
/// # Errors
/// [`Refusal::Malformed`], as for [`Ask::parse`].
pub fn read_message_batch(body: &[u8]) -> Result<Vec<Ask>, Refusal> {
    let fields = Fields::scan(body)?;
    let shape = "requests must be a list of objects with custom_id and params";
    let requests = fields
        .given("requests")
        .and_then(elements)
        .ok_or_else(|| invalid(shape))?;
    if requests.len() > MAX_CALLS {
        return Err(invalid("the batch holds too many calls"));
    }
    let mut ids = HashSet::new();
    let asks = requests
        .into_iter()
        .map(|request| {
            let call = Fields::scan_text(request.get())?;
            remember(&mut ids, &call)?;
            let params = call.given("params").ok_or_else(|| invalid(shape))?;
            ask_of_line(Operation::Messages, params)
        })
        .collect::<Result<Vec<_>, _>>()?;
    refuse_many_models(&asks)?;
    Ok(asks)
}

/// Reads an upload, and the calls of a batch if it is one's input.
///
/// # Errors
/// [`Refusal::Malformed`] with `invalid_form`, or as for [`Ask::parse`].
pub fn read_batch_input(content_type: Option<&str>, body: &[u8]) -> Result<BatchFile, Refusal> {
    let form = Form::read(content_type, body)?;
    if form.text("purpose")? != Some("batch") {
        return Ok(BatchFile::NotABatch);
    }
    let file = std::str::from_utf8(form.file("file")?)
        .map_err(|_not_utf8: std::str::Utf8Error| invalid("a batch is in UTF-8"))?;
    let mut ids = HashSet::new();
    let mut asks = Vec::new();
    for line in file.split('\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if asks.len() >= MAX_CALLS {
            return Err(invalid("the batch holds too many calls"));
        }
        let call = Fields::scan_text(line)?;
        remember(&mut ids, &call)?;
        let Some(operation) = operation_of_line(&call)? else {
            continue;
        };
        let body = call
            .given("body")
            .ok_or_else(|| invalid("each line of a batch must have a body"))?;
        asks.push(ask_of_line(operation, body)?);
    }
    refuse_many_models(&asks)?;
    Ok(BatchFile::Batch(asks))
}

/// Reads which file a batch is started from.
///
/// # Errors
/// [`Refusal::Malformed`], if it names none.
pub fn read_batch_start(body: &[u8]) -> Result<String, Refusal> {
    let fields = Fields::scan(body)?;
    fields
        .given("input_file_id")
        .and_then(|raw| serde_json::from_str::<String>(raw).ok())
        .filter(|id| !id.is_empty())
        .ok_or_else(|| invalid("input_file_id must be the id of an uploaded file"))
}

/// Results are told apart by their `custom_id`, so none may occur twice.
fn remember<'a>(ids: &mut HashSet<Cow<'a, str>>, call: &Fields<'a>) -> Result<(), Refusal> {
    let id = call.given("custom_id").and_then(string);
    if id.is_some_and(|id| ids.insert(id)) {
        Ok(())
    } else {
        Err(invalid(
            "each call of a batch must have a custom_id of its own",
        ))
    }
}

fn refuse_many_models(asks: &[Ask]) -> Result<(), Refusal> {
    let mut models = HashSet::new();
    for ask in asks {
        models.insert(&ask.model);
        if models.len() > MAX_MODELS {
            return Err(invalid("the batch is of too many models"));
        }
    }
    Ok(())
}

fn string(raw: &str) -> Option<Cow<'_, str>> {
    // Without an escape the text between the quotes is the string.
    match raw.strip_prefix('"')?.strip_suffix('"')? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(raw).ok().map(Cow::Owned),
    }
}

/// What a line asks for; `None` if it costs nothing.
fn operation_of_line(call: &Fields<'_>) -> Result<Option<Operation>, Refusal> {
    let url = call.given("url").and_then(string).unwrap_or_default();
    // Azure leaves the version out.
    let path = url.strip_prefix("/v1").unwrap_or(&url);
    Ok(match path {
        "/chat/completions" => Some(Operation::ChatCompletions),
        "/completions" => Some(Operation::Completions),
        "/responses" => Some(Operation::Responses),
        "/embeddings" => Some(Operation::Embeddings),
        "/images/generations" => Some(Operation::ImageGenerations),
        "/images/edits" => Some(Operation::ImageEdits),
        "/moderations" => None,
        _ => {
            return Err(invalid(
                "the url of a line of the batch is not one that is priced",
            ));
        }
    })
}

fn ask_of_line(operation: Operation, body: &str) -> Result<Ask, Refusal> {
    let mut ask = Ask::parse(operation, &Request::json(body.as_bytes()))?;
    ask.terms.processing = Some("batch".to_owned());
    ask.deferred = true;
    Ok(ask)
}

#[cfg(test)]
mod tests;
