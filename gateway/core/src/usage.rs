//! What a provider says was used, in one normal form for every dialect.
//!
//! [`Meter`] reads a copy of the answer while it is relayed. It decides what was used and how far
//! that is known; it does not know prices, and it never changes an answer except to take out the
//! usage chunk that the gateway itself asked for.
//!
//! Worst case: an answer or event beyond the bounds below is relayed unread, and its usage is
//! [`Metered::Unknown`] unless a later event states it.

#[expect(
    clippy::disallowed_types,
    reason = "what serde derives for flattened fields names every type there is"
)]
mod anthropic;
mod aws_events;
pub mod batch;
mod bedrock;
mod cohere;
mod embed_content;
mod framing;
mod gemini;
mod invoke_model;
mod json_array;
mod lines;
mod ocr;
mod ollama;
mod openai;
mod plain;
mod sse;
mod tally;
#[expect(
    clippy::disallowed_types,
    reason = "some providers write counts as 10.0, and serde hands them over as floats"
)]
mod text;
mod unfinished;

pub use framing::Framing;

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::call::Terms;
use crate::money::PicoUsd;
use crate::policy::Operation;
use framing::{Cutter, Piece};
use tally::Tally;

/// What one call used.
///
/// `input_tokens` includes cache reads and writes, `output_tokens` includes reasoning: the normal
/// form of the OpenTelemetry GenAI conventions. A count that a provider left out is zero here;
/// whether usage was reported at all is [`Metered`]. Counts of zero are left out of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens in, cached ones included.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_tokens: u64,
    /// Of these, read from a cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_input_tokens: u64,
    /// Of the input, written to a cache that lives five minutes (or a provider's only kind).
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Of the input, written to a cache that lives an hour.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_1h_tokens: u64,
    /// Tokens out, reasoning included.
    #[serde(skip_serializing_if = "is_zero")]
    pub output_tokens: u64,
    /// Of the output, reasoning.
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
    /// Of the input, audio.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_audio_tokens: u64,
    /// Of the cached input, audio.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_audio_tokens: u64,
    /// Of the output, audio.
    #[serde(skip_serializing_if = "is_zero")]
    pub output_audio_tokens: u64,
    /// Of the input, images.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_image_tokens: u64,
    /// Of the cached input, images.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_image_tokens: u64,
    /// Of the output, images.
    #[serde(skip_serializing_if = "is_zero")]
    pub output_image_tokens: u64,
    /// Of the input, video.
    #[serde(skip_serializing_if = "is_zero")]
    pub input_video_tokens: u64,
    /// Of the input, what the provider's own tools put in.
    #[serde(skip_serializing_if = "is_zero")]
    pub tool_input_tokens: u64,
    /// Web searches made by the provider.
    #[serde(skip_serializing_if = "is_zero")]
    pub web_searches: u64,
    /// File searches made by the provider.
    #[serde(skip_serializing_if = "is_zero")]
    pub file_searches: u64,
    /// Units of search that a reranker bills.
    #[serde(skip_serializing_if = "is_zero")]
    pub search_units: u64,
    /// Pages of documents read.
    #[serde(skip_serializing_if = "is_zero")]
    pub pages: u64,
    /// Milliseconds of audio billed by its length.
    #[serde(skip_serializing_if = "is_zero")]
    pub audio_ms: u64,
    /// Characters billed by their number.
    #[serde(skip_serializing_if = "is_zero")]
    pub characters: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Usage {
    /// The counts of both, each at most `u64::MAX`.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// The larger of each count.
    #[must_use]
    pub fn max(self, other: &Self) -> Self {
        self.zip(other, u64::max)
    }

    /// What is left of each count, at least zero.
    #[must_use]
    pub fn minus(self, other: &Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    fn zip(self, other: &Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            input_tokens: f(self.input_tokens, other.input_tokens),
            cached_input_tokens: f(self.cached_input_tokens, other.cached_input_tokens),
            cache_write_tokens: f(self.cache_write_tokens, other.cache_write_tokens),
            cache_write_1h_tokens: f(self.cache_write_1h_tokens, other.cache_write_1h_tokens),
            output_tokens: f(self.output_tokens, other.output_tokens),
            reasoning_tokens: f(self.reasoning_tokens, other.reasoning_tokens),
            input_audio_tokens: f(self.input_audio_tokens, other.input_audio_tokens),
            cached_audio_tokens: f(self.cached_audio_tokens, other.cached_audio_tokens),
            output_audio_tokens: f(self.output_audio_tokens, other.output_audio_tokens),
            input_image_tokens: f(self.input_image_tokens, other.input_image_tokens),
            cached_image_tokens: f(self.cached_image_tokens, other.cached_image_tokens),
            output_image_tokens: f(self.output_image_tokens, other.output_image_tokens),
            input_video_tokens: f(self.input_video_tokens, other.input_video_tokens),
            tool_input_tokens: f(self.tool_input_tokens, other.tool_input_tokens),
            web_searches: f(self.web_searches, other.web_searches),
            file_searches: f(self.file_searches, other.file_searches),
            search_units: f(self.search_units, other.search_units),
            pages: f(self.pages, other.pages),
            audio_ms: f(self.audio_ms, other.audio_ms),
            characters: f(self.characters, other.characters),
        }
    }

    /// These counts with no part larger than its whole. A provider that says otherwise has
    /// miscounted; the whole is what it bills.
    #[must_use]
    pub fn consistent(mut self) -> Self {
        self.cached_input_tokens = self.cached_input_tokens.min(self.input_tokens);
        let mut rest = self.input_tokens.saturating_sub(self.cached_input_tokens);
        self.cache_write_1h_tokens = self.cache_write_1h_tokens.min(rest);
        rest = rest.saturating_sub(self.cache_write_1h_tokens);
        self.cache_write_tokens = self.cache_write_tokens.min(rest);
        rest = rest.saturating_sub(self.cache_write_tokens);
        self.cached_audio_tokens = self.cached_audio_tokens.min(self.cached_input_tokens);
        self.input_audio_tokens = self
            .input_audio_tokens
            .min(rest.saturating_add(self.cached_audio_tokens));
        self.cached_audio_tokens = self.cached_audio_tokens.min(self.input_audio_tokens);
        self.cached_image_tokens = self.cached_image_tokens.min(
            self.cached_input_tokens
                .saturating_sub(self.cached_audio_tokens),
        );
        let rest = rest.saturating_sub(
            self.input_audio_tokens
                .saturating_sub(self.cached_audio_tokens),
        );
        self.input_image_tokens = self
            .input_image_tokens
            .min(rest.saturating_add(self.cached_image_tokens));
        self.cached_image_tokens = self.cached_image_tokens.min(self.input_image_tokens);
        let rest = rest.saturating_sub(
            self.input_image_tokens
                .saturating_sub(self.cached_image_tokens),
        );
        self.input_video_tokens = self.input_video_tokens.min(rest);
        self.tool_input_tokens = self.tool_input_tokens.min(self.input_tokens);
        self.output_audio_tokens = self.output_audio_tokens.min(self.output_tokens);
        self.output_image_tokens = self
            .output_image_tokens
            .min(self.output_tokens.saturating_sub(self.output_audio_tokens));
        self.reasoning_tokens = self.reasoning_tokens.min(self.output_tokens);
        self
    }
}

/// How much is known about the usage of a finished call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metered {
    /// The provider's final word.
    Exact(Usage),
    /// The provider's word up to where the answer broke off.
    Partial(Usage),
    /// The provider said nothing.
    Unknown,
}

/// What an answer says about its own cost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Usage of the call's own model.
    pub metered: Metered,
    /// Usage of other models that the provider ran for this call, each by name.
    pub elsewhere: Vec<(String, Usage)>,
    /// The model the provider says it used.
    pub response_model: Option<String>,
    /// The terms the provider says it applied.
    pub terms: Terms,
    /// What the provider itself says the call cost, where it does: OpenRouter and xAI.
    pub reported_cost: Option<PicoUsd>,
    /// Bytes of generated text and tool arguments seen, from which output is estimated.
    pub output_bytes: u64,
}

impl Reading {
    /// A reading of nothing, for an answer that never began.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            metered: Metered::Unknown,
            elsewhere: Vec::new(),
            response_model: None,
            terms: Terms::default(),
            reported_cost: None,
            output_bytes: 0,
        }
    }

    /// Everything reported, over all models; `None` if nothing was.
    #[must_use]
    pub fn total(&self) -> Option<Usage> {
        let (Metered::Exact(own) | Metered::Partial(own)) = self.metered else {
            return None;
        };
        Some(
            self.elsewhere
                .iter()
                .fold(own, |sum, (_, usage)| sum.plus(usage)),
        )
    }
}

/// What to relay for the bytes just fed to a [`Meter`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "what the meter says is what the client must receive"]
pub enum Relay<'a> {
    /// Those bytes, untouched.
    Unchanged,
    /// These bytes instead; perhaps none for now.
    Instead(&'a [u8]),
}

/// The most that is kept of a plain answer.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Reads one answer as it passes.
#[derive(Debug)]
pub struct Meter {
    reader: Reader,
    withhold: bool,
    out: Vec<u8>,
}

/// What cuts the answer, and what reads the pieces.
#[derive(Debug)]
enum Reader {
    Stream(Cutter, Box<dyn Tally>),
    Document(plain::Body, Box<dyn Tally>),
    /// Text whose bytes are counted.
    Text(u64),
    /// Nothing to read.
    None,
}

impl Meter {
    /// A meter for one answer with status 2xx. (Providers bill no other.)
    ///
    /// `framing` follows from the answer's content type.
    /// `withhold_usage_chunk` is whether [`crate::call::ask_for_usage`] changed the request.
    #[must_use]
    pub fn new(operation: Operation, framing: Framing, withhold_usage_chunk: bool) -> Self {
        let tally = tally::of(operation, framing);
        let reader = match (tally, Cutter::new(operation, framing)) {
            (None, _) => Reader::None,
            _ if framing == Framing::Text => Reader::Text(0),
            (Some(tally), Some(cutter)) => Reader::Stream(cutter, tally),
            (Some(tally), None) => {
                let body = plain::Body::new(MAX_BODY_BYTES, !tally.reads_lists());
                Reader::Document(body, tally)
            }
        };
        Self {
            reader,
            withhold: withhold_usage_chunk
                && framing == Framing::Events
                && matches!(
                    operation,
                    Operation::ChatCompletions | Operation::Completions
                ),
            out: Vec::new(),
        }
    }

    /// Takes in the head of the answer, for providers that state usage or terms in it. What the
    /// body states wins.
    pub fn heed(&mut self, headers: &HeaderMap) {
        if let Reader::Stream(_, tally) | Reader::Document(_, tally) = &mut self.reader {
            tally.heed(headers);
        }
    }

    /// Takes in the next bytes of the answer and says what to relay for them.
    ///
    /// Only where a usage chunk is withheld can that be anything but the same bytes; then at most
    /// one unfinished event is held back, to be had from [`Meter::end`].
    pub fn feed(&mut self, bytes: &[u8]) -> Relay<'_> {
        let Self {
            reader,
            withhold,
            out,
        } = self;
        match reader {
            Reader::None => Relay::Unchanged,
            Reader::Document(body, _) => {
                body.feed(bytes);
                Relay::Unchanged
            }
            Reader::Text(seen) => {
                let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                *seen = seen.saturating_add(more);
                Relay::Unchanged
            }
            Reader::Stream(cutter, tally) if !*withhold => {
                cutter.feed(bytes, |piece| {
                    take(tally.as_mut(), &piece);
                });
                Relay::Unchanged
            }
            Reader::Stream(cutter, tally) => {
                out.clear();
                let held_before = cutter.holds();
                let mut dropped = false;
                cutter.feed(bytes, |piece| {
                    if take(tally.as_mut(), &piece) {
                        dropped = true;
                    } else {
                        out.extend_from_slice(piece.bytes());
                    }
                });
                if held_before || dropped || cutter.holds() {
                    Relay::Instead(out)
                } else {
                    Relay::Unchanged
                }
            }
        }
    }

    /// Tells the meter that the answer is over, whole or not, and returns what it still holds
    /// back. To be called before [`Meter::finish`] where a usage chunk is withheld.
    #[must_use]
    pub fn end(&mut self) -> Vec<u8> {
        let Reader::Stream(cutter, tally) = &mut self.reader else {
            return Vec::new();
        };
        let mut relayed = Vec::new();
        cutter.end(|piece| {
            if !take(tally.as_mut(), &piece) && self.withhold {
                relayed.extend_from_slice(piece.bytes());
            }
        });
        relayed
    }

    /// What the answer said.
    #[must_use]
    pub fn finish(mut self) -> Reading {
        drop(self.end());
        match self.reader {
            Reader::None => Reading::nothing(),
            Reader::Stream(cutter, tally) => {
                let mut reading = tally.finish();
                if let Metered::Exact(usage) = reading.metered
                    && cutter.is_broken()
                {
                    reading.metered = Metered::Partial(usage);
                }
                reading
            }
            Reader::Text(seen) => Reading {
                output_bytes: seen,
                ..Reading::nothing()
            },
            Reader::Document(body, mut tally) => {
                tally.unread(body.seen_bytes());
                let read = body.whole().is_some_and(|whole| tally.glance(whole));
                if !read && let Some(kept) = body.into_kept() {
                    tally.body(&kept);
                }
                tally.finish()
            }
        }
    }
}

/// Reads a piece of a stream. True if it carries nothing but usage.
fn take(tally: &mut dyn Tally, piece: &Piece<'_>) -> bool {
    match piece {
        Piece::Whole { data, .. } => tally.event(data),
        Piece::Oversized(bytes) => {
            tally.unread(bytes.len());
            false
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
