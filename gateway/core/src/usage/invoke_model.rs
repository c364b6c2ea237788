//! Usage in answers of Amazon Bedrock's InvokeModel, in the language of the model behind it.
//!
//! - A plain answer is the model's own: Claude's messages, Nova's camel case, Titan, Llama,
//!   Cohere, and whoever speaks like OpenAI. Some state nothing; then the answer's head counts,
//!   which Amazon writes itself.
//! - A stream wraps each event as base64. Amazon adds its own count to the last one, which is the
//!   same usage once more and not to be added. Claude's own counts say more (how long a cache
//!   lives), so Amazon's counts for Claude only if Claude's are not final.
//! - The model's maker names it otherwise than Amazon does, so the answer's name is not kept:
//!   Amazon's prices go by the id in the request's path.
//!
//! One decoded event is kept at a time.
//!
//! Worst case: models that bill images or searches and state no tokens are unknown.
//!
//! Source: Amazon Bedrock API reference, "InvokeModel"; user guide, "Inference request parameters
//! and response fields for foundation models".

use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bedrock::{Stated, terms_in};
use super::tally::Tally as _;
use super::text::{Count, Text, TextBytes, if_understood, is_sound, part};
use super::{Metered, Reading, Usage, anthropic, tally};
use crate::call::Terms;

/// What one answer has said so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    claude: Box<anthropic::Tally>,
    said: Said,
    in_head: Option<Stated>,
    metrics: Option<Stated>,
    terms: Terms,
    streamed: bool,
    /// Whether some of what was stated could not be understood.
    odd: bool,
    output_bytes: u64,
}

/// Usage of a model that is not Claude.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    usage: Usage,
    input: bool,
    output: bool,
}

/// A frame's payload.
#[derive(Debug, Deserialize)]
struct Wrapped<'a> {
    #[serde(default, borrow)]
    bytes: Text<'a>,
}

/// What any of the models may say, at the top level of an answer or an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(rename = "amazon-bedrock-invocationMetrics", borrow)]
    metrics: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    /// Claude's first event.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// Nova's last event.
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    /// Titan.
    #[serde(rename = "inputTextTokenCount")]
    titan_input: Option<Count>,
    #[serde(rename = "totalOutputTextTokenCount")]
    titan_output: Option<Count>,
    #[serde(borrow)]
    results: Option<&'a RawValue>,
    /// Llama.
    prompt_token_count: Option<Count>,
    generation_token_count: Option<Count>,
    /// Cohere.
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    /// Embeddings, by whichever name.
    #[serde(borrow)]
    embedding: Option<&'a RawValue>,
    #[serde(borrow)]
    embeddings: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Metadata<'a> {
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct TitanResult {
    #[serde(default, rename = "tokenCount")]
    token_count: Count,
}

#[derive(Debug, Deserialize)]
struct Meta {
    #[serde(default, deserialize_with = "if_understood")]
    billed_units: Option<BilledUnits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BilledUnits {
    input_tokens: Count,
    output_tokens: Count,
    search_units: Count,
}

/// `usage` as those state it who speak like OpenAI.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OpenAiUsage {
    prompt_tokens: Count,
    completion_tokens: Count,
    #[serde(default, deserialize_with = "if_understood")]
    prompt_tokens_details: Option<Details>,
    #[serde(default, deserialize_with = "if_understood")]
    completion_tokens_details: Option<Details>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Count,
    reasoning_tokens: Count,
}

impl tally::Tally for Tally {
    fn event(&mut self, data: &[u8]) -> bool {
        self.streamed = true;
        let decoded = serde_json::from_slice::<Wrapped<'_>>(data)
            .ok()
            .and_then(|wrapped| BASE64_STANDARD.decode(wrapped.bytes.as_deref()?).ok());
        let inner = decoded.unwrap_or_default();
        match serde_json::from_slice::<Answer<'_>>(&inner) {
            Ok(event) => self.take(&event, &inner),
            Err(_) => self.unread(data.len()),
        }
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Answer<'_>>(bytes) else {
            return;
        };
        self.odd |= answer.is_odd();
        if answer.is_claudes() {
            self.claude.body(bytes);
        } else {
            self.said = answer.said();
        }
    }

    fn unread(&mut self, bytes: usize) {
        self.output_bytes = self
            .output_bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn reads_lists(&self) -> bool {
        true
    }

    fn heed(&mut self, headers: &HeaderMap) {
        self.in_head = Stated::in_head(headers);
        self.terms = terms_in(headers);
    }

    fn finish(self: Box<Self>) -> Reading {
        let counted = self.counted();
        let mut reading = self.claude.finish();
        reading.response_model = None;
        reading.terms = reading.terms.or(&self.terms);
        reading.output_bytes = reading.output_bytes.saturating_add(self.output_bytes);
        reading.metered = match (reading.metered, counted) {
            (Metered::Exact(usage), _) => Metered::Exact(usage),
            (Metered::Partial(usage), Metered::Exact(counted)) => {
                Metered::Exact(with_lifetimes(counted, &usage))
            }
            (Metered::Partial(usage), _) => Metered::Partial(usage),
            (Metered::Unknown, counted) => counted,
        };
        reading
    }
}

impl Tally {
    fn take(&mut self, event: &Answer<'_>, bytes: &[u8]) {
        self.odd |= event.is_odd();
        self.metrics = part(event.metrics).or(self.metrics.take());
        if event.is_claudes() {
            self.claude.event(bytes);
        } else {
            let text = serde_json::from_slice::<TextBytes>(bytes).unwrap_or_default();
            self.output_bytes = self.output_bytes.saturating_add(text.0);
            self.said = event.said().or(self.said);
        }
    }

    /// What everyone but Claude says, Amazon first.
    fn counted(&self) -> Metered {
        let amazons = self.metrics.as_ref().map(Said::from).unwrap_or_default();
        let mut said = amazons.or(self.said);
        if !self.streamed {
            // A plain answer's head is written when all has been generated.
            said = said.or(self.in_head.as_ref().map(Said::from).unwrap_or_default());
        }
        match (said.input, said.output) {
            (true, true) if !self.odd && (self.metrics.is_some() || !self.streamed) => {
                Metered::Exact(said.usage)
            }
            (true, _) | (_, true) if said.usage != Usage::default() => Metered::Partial(said.usage),
            _ => Metered::Unknown,
        }
    }
}

/// Amazon's counts do not tell how long a cache lives; Claude's first event does.
fn with_lifetimes(mut amazons: Usage, claudes: &Usage) -> Usage {
    let written = amazons.cache_write_tokens;
    amazons.cache_write_1h_tokens = claudes.cache_write_1h_tokens.min(written);
    amazons.cache_write_tokens = written.saturating_sub(amazons.cache_write_1h_tokens);
    amazons
}

impl Answer<'_> {
    fn is_claudes(&self) -> bool {
        let kind = self.kind.as_deref().unwrap_or_default();
        kind == "message" || kind == "ping" || {
            kind.starts_with("message_") || kind.starts_with("content_block_")
        }
    }

    /// Whether a count is none, or a part that has counts is not made of such.
    fn is_odd(&self) -> bool {
        let counts = [
            self.titan_input,
            self.titan_output,
            self.prompt_token_count,
            self.generation_token_count,
        ];
        let parts = [
            self.metrics,
            self.usage,
            self.message,
            self.metadata,
            self.meta,
        ];
        let results: Vec<&RawValue> = part(self.results).unwrap_or_default();
        counts.contains(&Some(Count(None)))
            || !parts.into_iter().flatten().chain(results).all(is_sound)
    }

    fn said(&self) -> Said {
        let metadata: Option<Metadata<'_>> = part(self.metadata);
        let usage = self.usage.or(metadata.and_then(|metadata| metadata.usage));
        let nova = part::<Stated>(usage).as_ref().map(Said::from);
        let openai = part::<OpenAiUsage>(usage).map(|usage| usage.said());
        let meta: Option<Meta> = part(self.meta);
        let cohere = meta.and_then(|meta| Some(meta.billed_units?.said()));
        let results: Vec<TitanResult> = part(self.results).unwrap_or_default();
        let counts: Vec<u64> = results
            .iter()
            .filter_map(|result| result.token_count.0)
            .collect();
        let generated = (!counts.is_empty()).then(|| {
            counts
                .iter()
                .fold(0_u64, |sum, count| sum.saturating_add(*count))
        });
        let count = Option::unwrap_or_default;
        let titan_output: Count = count(self.titan_output);
        let titan = Said::counts(count(self.titan_input), titan_output.or(Count(generated)));
        let llama = Said::counts(
            count(self.prompt_token_count),
            count(self.generation_token_count),
        );
        let mut said = titan.or(llama);
        for other in [nova, openai, cohere].into_iter().flatten() {
            said = said.or(other);
        }
        // Embeddings have no output.
        said.output |= self.embedding.is_some() || self.embeddings.is_some();
        said
    }
}

impl OpenAiUsage {
    fn said(&self) -> Said {
        let input = self.prompt_tokens_details.unwrap_or_default();
        let output = self.completion_tokens_details.unwrap_or_default();
        let mut said = Said::counts(self.prompt_tokens, self.completion_tokens);
        said.usage.cached_input_tokens = input.cached_tokens.known();
        said.usage.reasoning_tokens = output.reasoning_tokens.known();
        said.usage = said.usage.consistent();
        said
    }
}

impl BilledUnits {
    fn said(&self) -> Said {
        let mut said = Said::counts(self.input_tokens, self.output_tokens);
        said.usage.search_units = self.search_units.known();
        // A reranker bills nothing else.
        said.input |= self.search_units.0.is_some();
        said.output |= self.search_units.0.is_some();
        said
    }
}

impl From<&Stated> for Said {
    fn from(stated: &Stated) -> Self {
        Self {
            usage: stated.normal(),
            input: stated.input().0.is_some(),
            output: stated.output().0.is_some(),
        }
    }
}

impl Said {
    fn counts(input: Count, output: Count) -> Self {
        Self {
            usage: Usage {
                input_tokens: input.known(),
                output_tokens: output.known(),
                ..Usage::default()
            },
            input: input.0.is_some(),
            output: output.0.is_some(),
        }
    }

    /// What this says, and of the other what this leaves out.
    fn or(self, other: Self) -> Self {
        let ins = if self.input { self.usage } else { other.usage };
        let outs = if self.output { self.usage } else { other.usage };
        Self {
            usage: Usage {
                output_tokens: outs.output_tokens,
                reasoning_tokens: outs.reasoning_tokens,
                search_units: self.usage.search_units.max(other.usage.search_units),
                ..ins
            },
            input: self.input || other.input,
            output: self.output || other.output,
        }
    }
}

#[cfg(test)]
mod tests;
