//! Images and speech in OpenAI's dialect: what is counted in pictures, milliseconds and characters.
//!
//! It does not look into files. The length of audio is bounded by the file's bytes at the lowest
//! bit rate of the codecs in use.
//!
//! Worst case: a file made to say little (hours of coded silence) is longer than its bytes tell.
//! Its bound is then too low; its settlement is still exact.

use std::borrow::Cow;

use super::form::{Form, invalid as invalid_form};
use super::openai::terms;
use super::read::{MISSING_MODEL, count, flag, invalid, length, plain_count, text};
use super::{Ask, Input, Request};
use crate::ids::ModelName;
use crate::json::Fields;
use crate::policy::Operation;
use crate::refusal::Refusal;

/// Tokens of output text beside an image: its revised description.
const TEXT_TOKENS: u64 = 2_048;
/// Pixels per token of the finest quality: OpenAI states 4,160 tokens for 1024 x 1024.
const PIXELS_PER_TOKEN: u64 = 250;
/// The largest picture of the first models that choose its size themselves.
const FIRST_PIXELS: u64 = 1_536 * 1_024;
/// The largest picture that is assumed of any other.
const MOST_PIXELS: u64 = 3_840 * 2_160;
/// Tokens of one unfinished picture in a stream, as OpenAI states it.
const PARTIAL_TOKENS: u64 = 100;
/// Milliseconds per byte at 6 kbit/s, as a fraction: the lowest rate that Opus is defined for
/// (RFC 6716, section 2.1.1); MP3 begins at 8 kbit/s, AMR at 4.75 kbit/s is taken by no provider.
const MS_PER_BYTES: (u64, u64) = (4, 3);
/// What is billed at least: Groq counts every file as ten seconds.
const LEAST_AUDIO_MS: u64 = 10_000;
/// The largest file that a provider fetches from an address: Groq's limit of 100 MB.
const MOST_FETCHED_BYTES: u64 = 100_000_000;

/// Reads an image generation, or an edit of images that are given by their addresses.
pub(super) fn read_image(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    ask.stream = flag(fields, "stream", "stream must be a boolean")?;
    ask.choices = count(fields, "n", "n must be an integer from 0 to 2^53")?.unwrap_or(1);
    let partial = count(
        fields,
        "partial_images",
        "partial_images must be an integer from 0 to 2^53",
    )?;
    let size = text(fields, "size", "size must be a string")?;
    ask.max_output_tokens = Some(image_tokens(
        ask.model.as_str(),
        size.as_deref(),
        partial.unwrap_or(0),
    ));
    ask.terms = terms(fields)?;
    let given = [
        "image",
        "images",
        "mask",
        "input_images",
        "reference_images",
    ];
    if ask.operation == Operation::ImageEdits || given.iter().any(|name| fields.is_given(name)) {
        ask.widen(Input::Referenced);
    }
    Ok(())
}

/// Reads an edit of images that come with it in a form.
pub(super) fn read_image_edits(request: &Request<'_>) -> Result<Ask, Refusal> {
    let form = Form::read(request.content_type, request.body)?;
    let mut ask = of_form(Operation::ImageEdits, &form, request)?;
    ask.choices = form_count(&form, "n")?.unwrap_or(1);
    let partial = form_count(&form, "partial_images")?.unwrap_or(0);
    ask.max_output_tokens = Some(image_tokens(
        ask.model.as_str(),
        form.text("size")?,
        partial,
    ));
    Ok(ask)
}

/// Reads a transcription or a translation.
pub(super) fn read_transcription(request: &Request<'_>) -> Result<Ask, Refusal> {
    let form = Form::read(request.content_type, request.body)?;
    let mut ask = of_form(Operation::Transcriptions, &form, request)?;
    let fetched = if form.has("url") {
        MOST_FETCHED_BYTES
    } else {
        0
    };
    let bytes = if form.has("file") {
        length(form.file("file")?.len())
    } else {
        0
    };
    let (ms, per) = MS_PER_BYTES;
    ask.most.audio_ms = bytes
        .saturating_add(fetched)
        .saturating_mul(ms)
        .div_ceil(per)
        .max(LEAST_AUDIO_MS);
    Ok(ask)
}

/// Reads a request for speech. Some models bill its characters, others its tokens.
pub(super) fn read_speech(ask: &mut Ask, fields: &Fields<'_>) -> Result<(), Refusal> {
    let detail = "input must be a string";
    let format = text(fields, "stream_format", "stream_format must be a string")?;
    ask.stream = format.as_deref() == Some("sse");
    let input = fields.given("input").ok_or_else(|| invalid(detail))?;
    let input: Cow<'_, str> = serde_json::from_str::<String>(input)
        .map_err(|_bad: serde_json::Error| invalid(detail))?
        .into();
    ask.most.characters = length(input.chars().count());
    Ok(())
}

/// A call by form: the files in it are not billed by their bytes.
fn of_form(operation: Operation, form: &Form<'_>, request: &Request<'_>) -> Result<Ask, Refusal> {
    let named = form.text("model")?;
    let model = match request.model_in_path {
        Some(model) => model.clone(),
        None => named.ok_or(MISSING_MODEL)?.parse().map_err(
            |_bad: <ModelName as std::str::FromStr>::Err| {
                invalid_form("model must have 1 to 256 characters")
            },
        )?,
    };
    let mut ask = Ask::bare(operation, model, request.body);
    ask.stream = match form.text("stream")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(invalid_form("stream must be true or false")),
    };
    ask.terms.service_tier = form.text("service_tier")?.map(str::to_owned);
    ask.widen(Input::Referenced);
    Ok(ask)
}

fn form_count(form: &Form<'_>, name: &str) -> Result<Option<u64>, Refusal> {
    match form.text(name)? {
        None => Ok(None),
        Some(text) => plain_count(text)
            .ok_or_else(|| invalid_form("a count must be an integer from 0 to 2^53")),
    }
}

/// The most tokens that one picture takes, at the finest quality.
pub(super) fn image_tokens(model: &str, size: Option<&str>, partial: u64) -> u64 {
    let pixels = match size {
        None | Some("auto" | "") => {
            let is_first = ["gpt-image-1", "chatgpt-image"]
                .iter()
                .any(|prefix| model.starts_with(prefix));
            if is_first { FIRST_PIXELS } else { MOST_PIXELS }
        }
        Some(size) => pixels(size).unwrap_or(MOST_PIXELS),
    };
    pixels
        .div_ceil(PIXELS_PER_TOKEN)
        .saturating_add(partial.saturating_mul(PARTIAL_TOKENS))
        .saturating_add(TEXT_TOKENS)
}

fn pixels(size: &str) -> Option<u64> {
    let (width, height) = size.split_once('x')?;
    let side = |text: &str| plain_count(text).flatten();
    Some(side(width)?.saturating_mul(side(height)?))
}
