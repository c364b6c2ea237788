//! What a model call asks for, as far as its price and its bounds depend on it.
//!
//! Reads the few fields that decide cost and leaves the rest alone; each dialect has a reader of
//! its own below. It does not know any price, and it does not judge whether the provider will
//! accept the request: what the provider would refuse costs nothing. Where a field could be read
//! in two ways, the request is refused; where a request could cost more than its bytes tell,
//! [`Input`] says so.
//!
//! Worst case: words such as `"image_url"` are looked for as bytes, so a harmless body may be
//! taken for one with images and reserve more than it needs. It never reserves less.

mod anthropic;
pub mod batch;
mod bedrock;
mod cohere;
mod form;
mod gemini;
mod head;
mod media;
mod mistral;
mod ollama;
mod openai;
mod read;
mod splice;
mod tools;

use serde::{Deserialize, Serialize};

use crate::ids::ModelName;
use crate::json::Fields;
use crate::policy::Operation;
use crate::refusal::Refusal;
use crate::usage::Usage;

pub use openai::{bounds_by_max_tokens_alone, names_kept_items};
pub use splice::{ask_for_usage, with_output_bound};
pub use tools::UNSTATED_TOOL_CALLS;

/// Bytes of text per token, for estimates (never for bounds): o200k on English text and code is
/// 8 % above it.
const BYTES_PER_TOKEN: u64 = 4;

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
    /// No more than this request's bytes, pictures aside: a byte-level token is at least one byte.
    Bounded,
    /// It refers to things the gateway cannot see or whose tokens do not follow from their bytes
    /// (stored conversations, files, audio): up to the model's context window.
    Referenced,
    /// The provider may run several internal calls and bill each one's input (server tools,
    /// compaction, advisors).
    Looping,
}

/// Which cache the request asks to write to, which is dearer than plain input. Read where a
/// dialect has breakpoints of its own; servers compatible with OpenAI may take any.
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
    /// Whether the server bounds a chat by `max_tokens` alone; see [`bounds_by_max_tokens_alone`].
    pub max_tokens_alone: bool,
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
            max_tokens_alone: false,
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
    /// Whether only `max_tokens` bounds the output of a chat.
    pub max_tokens_alone: bool,
    /// How many answers are generated: `n` or `best_of`, for every prompt; at least 1.
    pub choices: u64,
    /// Whether a stream is asked to end with usage.
    pub usage_asked: bool,
    /// Terms asked for.
    pub terms: Terms,
    /// Cache writes asked for.
    pub cache_write: CacheWrite,
    /// What bounds the input.
    pub input: Input,
    /// How many pictures go in, each of which is billed by its size and not by its bytes.
    pub pictures: u64,
    /// Whether tools are defined or anything else is asked for, for which providers add text of
    /// their own to the prompt.
    pub tools: bool,
    /// Whether predicted output is given, whose rejected tokens are billed as output.
    pub prediction: bool,
    /// The most that may be billed of what is not a token: searches, pages, characters, audio.
    /// Its token counts are zero.
    pub most: Usage,
    /// Whether the answer comes later, by another call, so that this one's answer has no usage.
    pub deferred: bool,
    /// How many bytes go in: the length of the request body, and more where the provider reads
    /// some of it several times.
    pub body_bytes: u64,
}

impl Ask {
    /// Reads a request.
    ///
    /// Batches are not one call; [`batch`] reads them. What the head says beside path and content
    /// type is added by [`Ask::read_head`].
    ///
    /// # Errors
    /// [`Refusal::Malformed`] with `invalid_json`, `invalid_form`, `duplicate_field`,
    /// `missing_model` or `invalid_field`.
    pub fn parse(operation: Operation, request: &Request<'_>) -> Result<Self, Refusal> {
        match operation {
            Operation::Transcriptions => return media::read_transcription(request),
            Operation::ImageEdits if !is_json(request) => return media::read_image_edits(request),
            _ => {}
        }
        if request.content_type.is_some_and(names_another_charset) {
            return Err(read::invalid("the request body is in UTF-8"));
        }
        let fields = Fields::scan_watching::<openai::Signs>(request.body)?;
        let mut ask = Self::of(operation, request, &fields)?;
        ask.max_tokens_alone = request.max_tokens_alone;
        ask.read(&fields, request)?;
        Ok(ask)
    }

    fn read(&mut self, fields: &Fields<'_>, request: &Request<'_>) -> Result<(), Refusal> {
        let body = request.body;
        match self.operation {
            Operation::ChatCompletions => openai::read_chat(self, fields, body)?,
            Operation::Completions => openai::read_completion(self, fields)?,
            Operation::Responses => openai::read_response(self, fields, body)?,
            Operation::Embeddings => openai::read_embedding(self, fields, body)?,
            Operation::ImageGenerations | Operation::ImageEdits => media::read_image(self, fields)?,
            Operation::Speech => media::read_speech(self, fields)?,
            Operation::Messages => anthropic::read(self, fields, request)?,
            Operation::GenerateContent => gemini::read(self, fields, request)?,
            Operation::EmbedContent => gemini::read_embedding(self, body),
            Operation::Converse => bedrock::read_converse(self, fields, request)?,
            Operation::InvokeModel => bedrock::read_invocation(self, fields, request)?,
            Operation::CohereChat => cohere::read_chat(self, fields, body)?,
            Operation::CohereEmbed => cohere::read_embedding(self, fields, body),
            Operation::Rerank => cohere::read_rerank(self, fields, body)?,
            Operation::Ocr => mistral::read_ocr(self, fields),
            Operation::OllamaChat => ollama::read_chat(self, fields, body)?,
            Operation::OllamaEmbed => ollama::read_embedding(self),
            Operation::Transcriptions
            | Operation::BatchInput
            | Operation::Batch
            | Operation::MessageBatch
            | Operation::ResponseStatus
            | Operation::BatchStatus
            | Operation::BatchOutput
            | Operation::MessageBatchResults
            | Operation::Free
            | Operation::OauthToken
            | Operation::Tool => return Err(read::invalid("this is not one call of one model")),
        }
        Ok(())
    }

    /// A call of which only the operation, the model and the size are known.
    fn of(
        operation: Operation,
        request: &Request<'_>,
        fields: &Fields<'_>,
    ) -> Result<Self, Refusal> {
        let model = match request.model_in_path {
            Some(model) => model.clone(),
            None => read::model(fields)?,
        };
        let in_camel_case = matches!(
            operation,
            Operation::GenerateContent
                | Operation::EmbedContent
                | Operation::Converse
                | Operation::InvokeModel
        );
        if !in_camel_case {
            read::refuse_other_spellings(fields)?;
            read::refuse_other_models(fields, &model)?;
        }
        Ok(Self::bare(operation, model, request.body))
    }

    /// A request of which only the operation, the model and the body's length are known.
    pub(crate) fn bare(operation: Operation, model: ModelName, body: &[u8]) -> Self {
        Self {
            operation,
            model,
            stream: false,
            max_output_tokens: None,
            max_tokens_alone: false,
            choices: 1,
            usage_asked: false,
            terms: Terms::default(),
            cache_write: CacheWrite::Unasked,
            input: Input::Bounded,
            pictures: 0,
            tools: false,
            prediction: false,
            most: Usage::default(),
            deferred: false,
            body_bytes: read::length(body.len()),
        }
    }

    /// The tokens this call is expected to use, for limits of tokens per minute: its bytes by four
    /// and the output it asks for, or `default_output` where it gives no bound. An estimate, not a
    /// bound.
    #[must_use]
    pub fn expected_tokens(&self, default_output: u64) -> u64 {
        let output = self
            .max_output_tokens
            .unwrap_or(default_output)
            .saturating_mul(self.choices);
        self.body_bytes
            .div_ceil(BYTES_PER_TOKEN)
            .saturating_add(output)
    }

    /// Makes the input no better bounded than `input`.
    fn widen(&mut self, input: Input) {
        self.input = self.input.max(input);
    }
}

fn is_json(request: &Request<'_>) -> bool {
    request.content_type.is_none_or(|given| {
        let essence = given.split(';').next().unwrap_or(given);
        essence.trim().eq_ignore_ascii_case("application/json")
    })
}

/// Whether a content type asks for its body to be decoded otherwise than as UTF-8. Some servers
/// would do that, and read other fields than are judged (UTF-7 hides quotation marks).
fn names_another_charset(content_type: &str) -> bool {
    content_type.split(';').skip(1).any(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8")
    })
}

#[cfg(test)]
mod tests;
