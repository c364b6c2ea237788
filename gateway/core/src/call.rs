//! What a model call asks for, as far as its price and its bounds depend on it.
//!
//! Reads the few fields that decide cost and leaves the rest alone. It does not know any price,
//! and it does not judge whether the provider will accept the request: what the provider would
//! refuse costs nothing. Where a field could be read in two ways, the request is refused; where a
//! request could cost more than its bytes tell, [`Input`] says so.
//!
//! Worst case: words such as `"image_url"` are looked for as bytes, so a harmless body may be
//! taken for one with images and reserve more than it needs. It never reserves less.

mod tools;

use serde::{Deserialize, Serialize};

use crate::ids::ModelName;
use crate::json::{Fields, JsonFault, contains_field, contains_word, disguises_ascii};
use crate::policy::Operation;
use crate::refusal::Refusal;
use crate::usage::Usage;

pub use tools::UNSTATED_TOOL_CALLS;

/// The largest integer that every JSON reader takes alike (2⁵³).
const MAX_INTEGER: u64 = 1 << 53;

/// Terms of service that change the price. Asked for in the request, stated in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// `default`, `flex`, `priority`, `auto`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// Anthropic's `fast`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// Anthropic's `us` or `global`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference_geo: Option<String>,
    /// `batch` for calls that are made later, at a discount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processing: Option<String>,
}

impl Terms {
    /// These terms, with `fallback` where they say nothing.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        let pick = |ours: &Option<String>, theirs: &Option<String>| {
            ours.as_ref().or(theirs.as_ref()).cloned()
        };
        Self {
            service_tier: pick(&self.service_tier, &fallback.service_tier),
            speed: pick(&self.speed, &fallback.speed),
            inference_geo: pick(&self.inference_geo, &fallback.inference_geo),
            processing: pick(&self.processing, &fallback.processing),
        }
    }

    /// Whether nothing special is asked for or stated.
    #[must_use]
    pub fn is_standard(&self) -> bool {
        *self == Self::default()
    }
}

/// What the request's bytes say about how many tokens go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// No more than this request's bytes: a byte-level token is at least one byte.
    Bounded,
    /// It refers to things the gateway cannot see or whose tokens do not follow from their bytes
    /// (stored conversations, files, images): up to the model's context window.
    Referenced,
    /// The provider may run several internal calls and bill each one's input (server tools,
    /// compaction, advisors).
    Looping,
}

/// Which cache the request asks to write to, which is dearer than plain input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheWrite {
    /// None, or whatever the provider does of itself.
    Unasked,
    /// Explicit breakpoints.
    FiveMinutes,
    /// Explicit breakpoints, some of which may live an hour.
    OneHour,
}

/// A request, as far as it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The path after the provider's name.
    pub path: &'a str,
    /// The model that the path names, as the endpoint's `{model}` captured it, decoded. It wins
    /// over the body, since the provider goes by it.
    pub model_in_path: Option<&'a ModelName>,
    /// The content type, which tells a form from JSON.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// A request with a JSON body that says everything.
    #[must_use]
    pub const fn json(body: &'a [u8]) -> Self {
        Self {
            path: "/",
            model_in_path: None,
            content_type: None,
            body,
        }
    }
}

/// A model call, reduced to what its cost depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What kind of call.
    pub operation: Operation,
    /// The model the client names.
    pub model: ModelName,
    /// Whether the answer is asked for as a stream.
    pub stream: bool,
    /// The client's own bound on output tokens per choice: the largest it gives.
    pub max_output_tokens: Option<u64>,
    /// How many answers are generated: `n` or `best_of`, at least 1.
    pub choices: u64,
    /// Whether a stream is asked to end with usage.
    pub usage_asked: bool,
    /// Terms asked for.
    pub terms: Terms,
    /// Cache writes asked for.
    pub cache_write: CacheWrite,
    /// What bounds the input.
    pub input: Input,
    /// Whether tools are defined, for which providers add text of their own to the prompt.
    pub tools: bool,
    /// Whether predicted output is given, whose rejected tokens are billed as output.
    pub prediction: bool,
    /// The most that may be billed of what is not a token: searches, pages, characters, audio.
    /// Its token counts are zero.
    pub most: Usage,
    /// Whether the answer comes later, by another call, so that this one's answer has no usage.
    pub deferred: bool,
    /// The length of the request body.
    pub body_bytes: u64,
}

impl Ask {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with `invalid_json`, `duplicate_field`, `missing_model` or
    /// `invalid_field`.
    pub fn parse(operation: Operation, request: &Request<'_>) -> Result<Self, Refusal> {
        let body = request.body;
        let fields = Fields::scan(body).map_err(refuse_json)?;
        let model = match request.model_in_path {
            Some(model) => model.clone(),
            None => model(&fields)?,
        };
        let stream = flag(&fields, "stream", "stream must be a boolean")?;
        let usage_asked = match fields.given("stream_options") {
            Some(options) => flag(
                &Fields::scan_text(options).map_err(refuse_options)?,
                "include_usage",
                "stream_options.include_usage must be a boolean",
            )?,
            None => false,
        };
        let mut ask = Self {
            operation,
            model,
            stream,
            max_output_tokens: max_output_tokens(operation, &fields)?,
            choices: choices(operation, &fields)?,
            usage_asked,
            terms: terms(&fields)?,
            cache_write: CacheWrite::Unasked,
            input: Input::Bounded,
            tools: false,
            prediction: fields.given("prediction").is_some(),
            most: Usage::default(),
            deferred: flag(&fields, "background", "background must be a boolean")?,
            body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        };
        if matches!(
            operation,
            Operation::ChatCompletions | Operation::Responses | Operation::Messages
        ) {
            ask.read_input(&fields, body);
            tools::read(&mut ask, &fields)?;
        }
        Ok(ask)
    }

    /// Finds what makes the input dearer or larger than its bytes.
    fn read_input(&mut self, fields: &Fields<'_>, body: &[u8]) {
        let disguised = disguises_ascii(body);
        let mentions = |word: &str| disguised || contains_word(body, word);
        let holds_type = |kind: &&str| disguised || contains_field(body, "type", kind);
        let given = |names: &[&str]| names.iter().any(|name| fields.given(name).is_some());
        let referenced = match self.operation {
            Operation::Responses => {
                given(&["previous_response_id", "conversation", "prompt"])
                    || ["input_image", "input_file", "item_reference"]
                        .iter()
                        .any(|kind| mentions(kind))
            }
            Operation::Messages => {
                given(&["container"])
                    || ["image", "document", "container_upload"]
                        .iter()
                        .any(holds_type)
            }
            // Compatible servers take parts without a type, by the name of their one field.
            _ => {
                holds_type(&"file")
                    || ["image_url", "video_url", "audio_url"]
                        .iter()
                        .any(|part| mentions(part))
            }
        };
        if referenced {
            self.input = Input::Referenced;
        }
        if given(&["mcp_servers", "context_management"]) {
            self.input = Input::Looping;
        }
        if self.operation == Operation::Messages && mentions("cache_control") {
            self.cache_write = if mentions("1h") {
                CacheWrite::OneHour
            } else {
                CacheWrite::FiveMinutes
            };
        }
    }
}

/// The body with `stream_options.include_usage` set, where a streamed chat completion does not
/// ask for usage itself; `None` where the body goes as it is. Every other byte stays.
///
/// The chunk this adds to the answer is taken out again by `usage::Meter`.
#[must_use]
pub fn ask_for_usage(body: &[u8], ask: &Ask) -> Option<Vec<u8>> {
    if ask.operation != Operation::ChatCompletions || !ask.stream || ask.usage_asked {
        return None;
    }
    let fields = Fields::scan(body).ok()?;
    let options = match fields.given("stream_options") {
        Some(options) => {
            let options = Fields::scan_text(options).ok()?;
            String::from_utf8(options.splice("include_usage", "true")).ok()?
        }
        None => r#"{"include_usage":true}"#.to_owned(),
    };
    Some(fields.splice("stream_options", &options))
}

fn refuse_json(fault: JsonFault) -> Refusal {
    let (code, detail) = match fault {
        JsonFault::NotAnObject => ("invalid_json", "the request body is not a JSON object"),
        JsonFault::DuplicateField => (
            "duplicate_field",
            "a field of the request body occurs twice",
        ),
        JsonFault::TooManyFields => ("invalid_field", "the request body has too many fields"),
    };
    Refusal::Malformed { code, detail }
}

fn refuse_options(fault: JsonFault) -> Refusal {
    match fault {
        JsonFault::DuplicateField => Refusal::Malformed {
            code: "duplicate_field",
            detail: "a field of stream_options occurs twice",
        },
        JsonFault::NotAnObject | JsonFault::TooManyFields => {
            invalid("stream_options must be an object")
        }
    }
}

fn invalid(detail: &'static str) -> Refusal {
    Refusal::Malformed {
        code: "invalid_field",
        detail,
    }
}

fn model(fields: &Fields<'_>) -> Result<ModelName, Refusal> {
    let raw = fields.given("model").ok_or(Refusal::Malformed {
        code: "missing_model",
        detail: "the request body names no model",
    })?;
    serde_json::from_str(raw)
        .map_err(|_bad: serde_json::Error| invalid("model must be a string of 1 to 256 characters"))
}

fn flag(fields: &Fields<'_>, name: &str, detail: &'static str) -> Result<bool, Refusal> {
    match fields.given(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(invalid(detail)),
    }
}

/// A count written as a plain integer. Signs, fractions and exponents are refused, since
/// providers differ in what they make of them. Zero counts as absent: not every provider takes it
/// for a bound.
fn count(fields: &Fields<'_>, name: &str, detail: &'static str) -> Result<Option<u64>, Refusal> {
    match fields.given(name).map(str::parse::<u64>) {
        None | Some(Ok(0)) => Ok(None),
        Some(Ok(number)) if number <= MAX_INTEGER => Ok(Some(number)),
        Some(_) => Err(invalid(detail)),
    }
}

fn max_output_tokens(operation: Operation, fields: &Fields<'_>) -> Result<Option<u64>, Refusal> {
    let detail = "the bound on output tokens must be an integer from 0 to 2^53";
    let names: &[&str] = match operation {
        Operation::ChatCompletions => &["max_completion_tokens", "max_tokens"],
        Operation::Responses => &["max_output_tokens"],
        Operation::Messages => &["max_tokens"],
        _ => return Ok(Some(0)),
    };
    let mut largest = None;
    for name in names {
        largest = largest.max(count(fields, name, detail)?);
    }
    Ok(largest)
}

fn choices(operation: Operation, fields: &Fields<'_>) -> Result<u64, Refusal> {
    if operation != Operation::ChatCompletions {
        return Ok(1);
    }
    let n = count(fields, "n", "n must be an integer from 0 to 2^53")?;
    let best_of = count(
        fields,
        "best_of",
        "best_of must be an integer from 0 to 2^53",
    )?;
    Ok(n.max(best_of).unwrap_or(1))
}

fn terms(fields: &Fields<'_>) -> Result<Terms, Refusal> {
    let text = |name: &str, detail| {
        fields
            .given(name)
            .map(serde_json::from_str::<String>)
            .transpose()
            .map_err(|_bad: serde_json::Error| invalid(detail))
    };
    Ok(Terms {
        service_tier: text("service_tier", "service_tier must be a string")?,
        speed: text("speed", "speed must be a string")?,
        inference_geo: text("inference_geo", "inference_geo must be a string")?,
        processing: None,
    })
}

#[cfg(test)]
mod tests;
