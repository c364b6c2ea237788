//! OpenAI's dialect, as it and everything compatible with it speaks it: chat, completions,
//! responses and embeddings.
//!
//! It does not know which server is behind a call. A field by which only some servers raise the
//! output raises the bound; it never lowers it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::{
    count, elements, flag, invalid, length, object, output_bound, refuse_other_spellings, text,
};
use super::{Ask, Input, Terms, anthropic, tools};
use crate::json::{Fields, Watch, Word, disguises_ascii, words};
use crate::policy::{Dialect, Provider};
use crate::refusal::Refusal;
use crate::usage::Usage;

/// Fields by which only some servers bound output: llama.cpp's `n_predict` wins over `max_tokens`.
const RAISING: [&str; 3] = ["max_output_tokens", "max_new_tokens", "n_predict"];
/// The same for completions.
pub(super) const RAISING_COMPLETIONS: [&str; 4] = [
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "n_predict",
];
/// The same for responses.
pub(super) const RAISING_RESPONSES: [&str; 2] = ["max_tokens", "max_completion_tokens"];
/// The fields of chat completions; where both are given, the deprecated one may be ignored.
const CHAT_BOUNDS: [&str; 2] = ["max_completion_tokens", "max_tokens"];
/// Providers, by their names in the price catalogue, that bound a chat by `max_tokens` alone:
/// DeepSeek ignores `max_completion_tokens`, Mistral refuses it.
const MAX_TOKENS_ALONE: [&str; 2] = ["deepseek", "mistral"];
/// The field of responses.
pub(super) const RESPONSE_BOUNDS: [&str; 1] = ["max_output_tokens"];
/// The field of completions.
pub(super) const COMPLETION_BOUNDS: [&str; 1] = ["max_tokens"];

/// Fields of a chat by which a server makes calls of its own: connectors, compaction, Groq's
/// compound systems, Azure's search in the customer's data.
const LOOPING: [&str; 5] = [
    "compound_custom",
    "context_management",
    "dataSources",
    "data_sources",
    "mcp_servers",
];

/// Whether a provider bounds a chat by `max_tokens` alone, so that `max_completion_tokens` bounds
/// nothing there.
#[must_use]
pub fn bounds_by_max_tokens_alone(provider: &Provider) -> bool {
    let prices = provider.prices.as_deref();
    provider.dialect == Dialect::Ollama
        || prices.is_some_and(|prices| MAX_TOKENS_ALONE.contains(&prices))
}

/// The fields that bound a chat, and those that may only raise its bound.
pub(super) const fn chat_bounds(ask: &Ask) -> (&'static [&'static str], &'static [&'static str]) {
    if ask.max_tokens_alone {
        (&COMPLETION_BOUNDS, &RAISING_COMPLETIONS)
    } else {
        (&CHAT_BOUNDS, &RAISING)
    }
}

/// Reads a chat completion.
pub(super) fn read_chat(ask: &mut Ask, fields: &Fields<'_>, body: &[u8]) -> Result<(), Refusal> {
    let given = |names: &[&str]| names.iter().any(|name| fields.is_given(name));
    read_stream(ask, fields)?;
    let (known, raising) = chat_bounds(ask);
    ask.max_output_tokens = with_thinking(output_bound(fields, known, raising)?, fields)?;
    ask.choices = choices(fields)?;
    ask.terms = terms(fields)?;
    ask.prediction = fields.is_given("prediction");
    // xAI makes such an answer later and hands it out at another path.
    ask.deferred = flag(fields, "deferred", "deferred must be a boolean")?;
    // Mistral puts prompts of its own before the others.
    ask.tools = given(&["functions", "safe_prompt", "prompt_mode"]);
    // Most chats are seen to be nothing but text while they are scanned.
    let is_text = !fields.may_hold_watched();
    // A template of the client's own may repeat what it is given.
    if (!is_text && refers_to_the_unseen(fields, body)) || given(&["chat_template"]) {
        ask.widen(Input::Referenced);
    }
    if !is_text {
        ask.pictures = pictures(body);
    }
    if given(&LOOPING) {
        ask.widen(Input::Looping);
    }
    tools::read(ask, fields)?;
    tools::read_searches(ask, fields)
}

/// Reads a completion. Each prompt of a list is answered by itself.
pub(super) fn read_completion(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    read_stream(ask, fields)?;
    ask.max_output_tokens = output_bound(fields, &COMPLETION_BOUNDS, &RAISING_COMPLETIONS)?;
    let prompts = prompts(fields.given("prompt"))?
        .saturating_add(prompts(fields.given("prompt_embeds"))?)
        .max(1);
    ask.choices = choices(fields)?.saturating_mul(prompts);
    ask.terms = terms(fields)?;
    tools::read_searches(ask, fields)
}

/// Reads a response.
pub(super) fn read_response(
    ask: &mut Ask,
    fields: &Fields<'_>,
    body: &[u8],
) -> Result<(), Refusal> {
    ask.stream = stream(fields)?;
    ask.max_output_tokens = output_bound(fields, &RESPONSE_BOUNDS, &RAISING_RESPONSES)?;
    ask.terms = terms(fields)?;
    ask.deferred = flag(fields, "background", "background must be a boolean")?;
    let given = |names: &[&str]| names.iter().any(|name| fields.is_given(name));
    if given(&["previous_response_id", "conversation"])
        || items_refer_to_the_unseen(fields.given("input").unwrap_or_default(), body)
    {
        ask.widen(Input::Referenced);
    }
    static PICTURES: [Word; 2] = words!["input_image", "computer_screenshot"];
    ask.pictures = PICTURES
        .iter()
        .fold(0, |sum, word| length(word.parts(body)).saturating_add(sum));
    if given(&["mcp_servers", "context_management"]) {
        ask.widen(Input::Looping);
    }
    if given(&["prompt"]) {
        // A stored prompt may bring tools along.
        ask.tools = true;
        tools::may_search(ask, fields)?;
    }
    tools::read(ask, fields)?;
    tools::read_searches(ask, fields)
}

/// Reads an embedding. Nothing is generated.
pub(super) fn read_embedding(
    ask: &mut Ask,
    fields: &Fields<'_>,
    body: &[u8],
) -> Result<(), Refusal> {
    ask.max_output_tokens = Some(0);
    ask.terms = terms(fields)?;
    let of_objects = fields
        .given("input")
        .filter(|input| input.starts_with('[') && input.contains('{'))
        .is_some_and(|inputs| {
            elements(inputs).is_none_or(|inputs| {
                let mut inputs = inputs.iter();
                inputs.any(|input| input.get().starts_with('{'))
            })
        });
    // Texts are strings or token ids; an object may point to an image.
    let in_messages =
        fields.is_given("messages") && (refers_to_the_unseen(fields, body) || pictures(body) > 0);
    if of_objects || in_messages {
        ask.widen(Input::Referenced);
    }
    Ok(())
}

fn stream(fields: &Fields<'_>) -> Result<bool, Refusal> {
    flag(fields, "stream", "stream must be a boolean")
}

fn read_stream(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    ask.stream = stream(fields)?;
    let options = object(fields, "stream_options", "stream_options must be an object")?;
    if let Some(options) = options {
        refuse_other_spellings(&options)?;
        ask.usage_asked = flag(
            &options,
            "include_usage",
            "stream_options.include_usage must be a boolean",
        )?;
    }
    Ok(())
}

/// Terms of service, which all dialects in lower case name alike.
pub(super) fn terms(fields: &Fields<'_>) -> Result<Terms, Refusal> {
    Ok(Terms {
        service_tier: text(fields, "service_tier", "service_tier must be a string")?,
        speed: text(fields, "speed", "speed must be a string")?,
        inference_geo: text(fields, "inference_geo", "inference_geo must be a string")?,
        processing: None,
    })
}

fn choices(fields: &Fields<'_>) -> Result<u64, Refusal> {
    let n = count(fields, "n", "n must be an integer from 0 to 2^53")?;
    let best_of = count(
        fields,
        "best_of",
        "best_of must be an integer from 0 to 2^53",
    )?;
    Ok(n.max(best_of).unwrap_or(1))
}

/// How many prompts there are: token ids in a list are one, everything else in a list is each one.
fn prompts(prompt: Option<&str>) -> Result<u64, Refusal> {
    let Some(prompt) = prompt else {
        return Ok(0);
    };
    if !prompt.starts_with('[') {
        return Ok(1);
    }
    let prompts = elements(prompt).ok_or_else(|| invalid("prompt must be a string or a list"))?;
    let is_token = |text: &str| {
        text.bytes()
            .next()
            .is_some_and(|first| first.is_ascii_digit())
    };
    if prompts.iter().all(|prompt| is_token(prompt.get())) {
        return Ok(1);
    }
    Ok(length(prompts.len()))
}

/// The bound raised by what some servers let a model think beyond it. Alibaba's counts thinking
/// apart, up to `thinking_budget` or else the model's limit; OpenRouter's `reasoning` and the
/// `thinking` of several are within the bound unless they are larger.
fn with_thinking(bound: Option<u64>, fields: &Fields<'_>) -> Result<Option<u64>, Refusal> {
    let budget = count(
        fields,
        "thinking_budget",
        "thinking_budget must be an integer from 0 to 2^53",
    )?;
    let unlimited = flag(
        fields,
        "enable_thinking",
        "enable_thinking must be a boolean",
    )?;
    if unlimited && budget.is_none() {
        return Ok(None);
    }
    let bound = bound.map(|bound| bound.saturating_add(budget.unwrap_or(0)));
    let bound = anthropic::with_budget(bound, fields, "thinking", "budget_tokens")?;
    anthropic::with_budget(bound, fields, "reasoning", "max_tokens")
}

/// What stands in every body that [`refers_to_the_unseen`], or has [`pictures`].
pub(super) struct Signs;

impl Watch for Signs {
    fn string(written: &[u8]) -> bool {
        matches!(written, b"file" | b"audio" | b"cached_content")
            || written.starts_with(b"data:")
            || written.ends_with(b"_url")
    }

    fn escape(text: &[u8]) -> bool {
        // The words are looked for as bytes, whose first quotation mark may be an escaped one.
        const QUOTED: [&[u8]; 4] = [b"data:", b"file\"", b"audio\"", b"cached_content\""];
        let quoted = text.strip_prefix(b"\\\"");
        quoted.is_some_and(|text| QUOTED.iter().any(|word| text.starts_with(word)))
            || text.starts_with(br"\u00")
    }
}

/// Whether the input holds what the gateway cannot see, or what is not billed by its bytes.
/// Compatible servers take parts without a type, by the name of their one field.
fn refers_to_the_unseen(fields: &Fields<'_>, body: &[u8]) -> bool {
    static FILE: [Word; 1] = words!["file"];
    static AUDIO: [Word; 1] = words!["audio"];
    static CACHED: [Word; 1] = words!["cached_content"];
    disguises_ascii(body)
        || embeds_more_than_pictures(body)
        || FILE.iter().any(|word| word.is_a_type(body))
        || ends_in_url(body)
        // An answer's audio may be given back by its id.
        || fields.given("messages").is_some_and(|messages| {
            AUDIO.iter().any(|word| word.occurs(messages.as_bytes()))
        })
        || fields.given("extra_body").is_some_and(|extra| {
            CACHED.iter().any(|word| word.occurs(extra.as_bytes()))
        })
}

/// An item of a response's input, as far as it tells whether all of it is there.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    encrypted_content: Option<&'a RawValue>,
}

impl Item<'_> {
    /// Whether the item itself is all that goes in. One that is named by its id may stand for more
    /// than it shows: a stored item, reasoning, what a tool of the provider found.
    fn is_whole(&self) -> bool {
        let given = |raw: &Option<&RawValue>| raw.is_some_and(|raw| raw.get() != "null");
        match self.kind.as_deref() {
            _ if !given(&self.id) => true,
            None => given(&self.role),
            Some("reasoning") => given(&self.encrypted_content),
            Some(kind) => matches!(
                kind,
                "message"
                    | "function_call"
                    | "function_call_output"
                    | "custom_tool_call"
                    | "custom_tool_call_output"
            ),
        }
    }
}

/// Whether the input of a response holds what the gateway cannot see, or what is not billed by its
/// bytes.
fn items_refer_to_the_unseen(input: &str, body: &[u8]) -> bool {
    static PARTS: [Word; 3] = words!["input_file", "item_reference", "image_generation_call"];
    static ID: [Word; 1] = words!["id"];
    disguises_ascii(body)
        || PARTS.iter().any(|word| word.occurs(body))
        || (ID.iter().any(|word| word.occurs(input.as_bytes())) && names_items(input))
}

/// Whether an item of a response's input stands for something that the provider keeps.
#[must_use]
pub fn names_kept_items(body: &[u8]) -> bool {
    Fields::scan(body).map_or(true, |fields| {
        names_items(fields.given("input").unwrap_or_default())
    })
}

fn names_items(input: &str) -> bool {
    input.starts_with('[')
        && elements(input).is_none_or(|items| {
            let is_whole = |item: &&RawValue| {
                serde_json::from_str::<Item<'_>>(item.get()).is_ok_and(|item| item.is_whole())
            };
            !items.iter().all(is_whole)
        })
}

/// How many pictures a chat gives.
fn pictures(body: &[u8]) -> u64 {
    static PICTURE: Word = Word::new("\"image_url\"");
    length(PICTURE.parts(body))
}

/// Whether something else than a picture stands in the request as a data URL: some servers take a
/// document or a video where a picture is expected.
fn embeds_more_than_pictures(body: &[u8]) -> bool {
    static DATA: Word = Word::new("\"data:");
    DATA.positions(body).any(|at| {
        let rest = body.get(at..).unwrap_or_default();
        !rest.starts_with(b"\"data:image/")
    })
}

/// Whether one of the other parts that are given by their address occurs, found in one pass.
fn ends_in_url(body: &[u8]) -> bool {
    static URL: Word = Word::new("_url\"");
    const STEMS: [&[u8]; 4] = [b"\"video", b"\"audio", b"\"document", b"\"file"];
    URL.positions(body).any(|at| {
        body.get(..at)
            .is_some_and(|before| STEMS.iter().any(|stem| before.ends_with(stem)))
    })
}

/// Adds searches of the web to what may be billed.
pub(super) fn add_searches(most: &mut Usage, searches: u64) {
    most.web_searches = most.web_searches.saturating_add(searches);
}

#[cfg(test)]
mod tests;
