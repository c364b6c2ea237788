//! The `usage` object of the OpenAI family, under all the names in use, in one flat form.
//!
//! - Where input, output and reasoning do not make the total, the server counts reasoning apart
//!   from output (xAI), or leaves it out altogether (Gemini's compatible endpoint): whatever the
//!   total holds beyond input and output is output. That is the dearest it can be.
//! - DeepSeek splits the input into cache hits and misses. Moonshot and Together state
//!   `cached_tokens` beside the counts. Mistral's `num_cached_tokens` repeats the details; alone it
//!   proves no discount, so it is not read.
//! - OpenRouter states its price in `cost`. With the customer's own key for the model's provider,
//!   that is only its fee, and the provider's bill comes on top. Perplexity states an object with
//!   a `total_cost`. xAI states ticks, of which 10^10 are one US dollar.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{Glance, once};
use crate::money::PicoUsd;
use crate::usage::Usage;
use crate::usage::text::{Count, is_sound_text, part, scaled};

/// Usage as it stands in the answer; a server may give several names for one thing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts<'a> {
    prompt_tokens: Count,
    input_tokens: Count,
    completion_tokens: Count,
    output_tokens: Count,
    total_tokens: Count,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    input_token_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_token_details: Option<&'a RawValue>,
    prompt_cache_hit_tokens: Count,
    prompt_cache_miss_tokens: Count,
    cached_tokens: Count,
    #[serde(borrow)]
    server_side_tool_usage_details: Option<&'a RawValue>,
    /// Of audio billed by its length.
    #[serde(borrow)]
    seconds: Option<&'a RawValue>,
    #[serde(borrow)]
    cost: Option<&'a RawValue>,
    #[serde(borrow)]
    is_byok: Option<&'a RawValue>,
    #[serde(borrow)]
    cost_details: Option<&'a RawValue>,
    cost_in_usd_ticks: Count,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details<'a> {
    cached_tokens: Count,
    cache_write_tokens: Count,
    text_tokens: Count,
    audio_tokens: Count,
    image_tokens: Count,
    video_tokens: Count,
    reasoning_tokens: Count,
    #[serde(borrow)]
    cached_tokens_details: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CachedDetails {
    audio_tokens: Count,
    image_tokens: Count,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerTools {
    web_search_calls: Count,
    x_search_calls: Count,
    file_search_calls: Count,
    document_search_calls: Count,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CostDetails<'a> {
    #[serde(borrow)]
    upstream_inference_cost: Option<&'a RawValue>,
    #[serde(borrow)]
    total_cost: Option<&'a RawValue>,
}

/// Usage with one name for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::usage) struct Stated {
    pub(in crate::usage) input: Count,
    pub(in crate::usage) output: Count,
    pub(in crate::usage) total: Count,
    cached: Count,
    cache_write: Count,
    input_text: Count,
    input_audio: Count,
    input_image: Count,
    input_video: Count,
    cached_audio: Count,
    cached_image: Count,
    output_text: Count,
    output_audio: Count,
    output_image: Count,
    reasoning: Count,
    web_searches: Count,
    file_searches: Count,
    pub(in crate::usage) audio_ms: Count,
    /// What the provider says the call cost.
    pub(in crate::usage) reported_cost: Option<PicoUsd>,
    /// Whether some of it could not be understood.
    pub(in crate::usage) odd: bool,
}

impl Stated {
    /// Reads a `usage` object.
    pub(in crate::usage) fn read(usage: &RawValue) -> Self {
        Self::read_text(usage.get())
    }

    /// The same from its text.
    pub(super) fn read_text(usage: &str) -> Self {
        Self::at_a_glance(usage).unwrap_or_else(|| Self::with_care(usage))
    }

    fn at_a_glance(usage: &str) -> Option<Self> {
        let mut glance = Glance::at(usage);
        let stated = Self::glance(&mut glance)?;
        glance.end()?;
        Some(stated)
    }

    /// Reads one of the usual shape, in which every count is a count; `None` says nothing about
    /// it.
    pub(super) fn glance(glance: &mut Glance<'_>) -> Option<Self> {
        let (counts, [input, output]) = Counts::glance(glance)?;
        Some(Self::of(&counts, &input, &output))
    }

    /// Reads any.
    pub(super) fn with_care(usage: &str) -> Self {
        match serde_json::from_str::<Counts<'_>>(usage) {
            Ok(counts) => Self {
                odd: !is_sound_text(usage),
                ..Self::from(counts)
            },
            Err(_other) => Self {
                odd: true,
                ..Self::default()
            },
        }
    }

    fn of(counts: &Counts<'_>, input: &Details<'_>, output: &Details<'_>) -> Self {
        let cached: CachedDetails = part(input.cached_tokens_details).unwrap_or_default();
        let tools: ServerTools = part(counts.server_side_tool_usage_details).unwrap_or_default();
        let (hit, miss) = (
            counts.prompt_cache_hit_tokens,
            counts.prompt_cache_miss_tokens,
        );
        Self {
            input: counts
                .prompt_tokens
                .or(counts.input_tokens)
                .or(both(hit, miss)),
            output: counts.completion_tokens.or(counts.output_tokens),
            total: counts.total_tokens,
            cached: input.cached_tokens.or(hit).or(counts.cached_tokens),
            cache_write: input.cache_write_tokens,
            input_text: input.text_tokens,
            input_audio: input.audio_tokens,
            input_image: input.image_tokens,
            input_video: input.video_tokens,
            cached_audio: cached.audio_tokens,
            cached_image: cached.image_tokens,
            output_text: output.text_tokens,
            output_audio: output.audio_tokens,
            output_image: output.image_tokens,
            reasoning: output.reasoning_tokens,
            web_searches: either(tools.web_search_calls, tools.x_search_calls),
            file_searches: either(tools.file_search_calls, tools.document_search_calls),
            audio_ms: Count(counts.seconds.and_then(|raw| scaled(raw.get(), 3))),
            reported_cost: reported_cost(counts),
            odd: false,
        }
    }
}

impl Counts<'_> {
    /// Reads counts of the usual shape, and the details of input and output beside them.
    fn glance<'a>(glance: &mut Glance<'a>) -> Option<(Self, [Details<'a>; 2])> {
        let mut counts = Self::default();
        let mut details = [None, None];
        let [input, output] = &mut details;
        glance.object(|value, name| {
            let count = match name {
                b"prompt_tokens" => &mut counts.prompt_tokens,
                b"input_tokens" => &mut counts.input_tokens,
                b"completion_tokens" => &mut counts.completion_tokens,
                b"output_tokens" => &mut counts.output_tokens,
                b"total_tokens" => &mut counts.total_tokens,
                b"prompt_cache_hit_tokens" => &mut counts.prompt_cache_hit_tokens,
                b"prompt_cache_miss_tokens" => &mut counts.prompt_cache_miss_tokens,
                b"cached_tokens" => &mut counts.cached_tokens,
                b"cost_in_usd_ticks" => &mut counts.cost_in_usd_ticks,
                b"prompt_tokens_details" | b"input_tokens_details" => {
                    return once(input, Details::glance(value)?);
                }
                b"completion_tokens_details" | b"output_tokens_details" => {
                    return once(output, Details::glance(value)?);
                }
                b"input_token_details"
                | b"output_token_details"
                | b"server_side_tool_usage_details"
                | b"seconds"
                | b"cost"
                | b"is_byok"
                | b"cost_details" => return None,
                _ => return value.count().map(drop),
            };
            once(&mut count.0, value.count()??)
        })?;
        Some((counts, details.map(Option::unwrap_or_default)))
    }
}

impl Details<'_> {
    fn glance(glance: &mut Glance<'_>) -> Option<Self> {
        let mut details = Self::default();
        glance.object(|value, name| {
            let count = match name {
                b"cached_tokens" => &mut details.cached_tokens,
                b"cache_write_tokens" => &mut details.cache_write_tokens,
                b"text_tokens" => &mut details.text_tokens,
                b"audio_tokens" => &mut details.audio_tokens,
                b"image_tokens" => &mut details.image_tokens,
                b"video_tokens" => &mut details.video_tokens,
                b"reasoning_tokens" => &mut details.reasoning_tokens,
                b"cached_tokens_details" => return None,
                _ => return value.count().map(drop),
            };
            once(&mut count.0, value.count()??)
        })?;
        Some(details)
    }
}

impl From<Counts<'_>> for Stated {
    fn from(counts: Counts<'_>) -> Self {
        let input = part(counts.prompt_tokens_details)
            .or_else(|| part(counts.input_tokens_details))
            .or_else(|| part(counts.input_token_details))
            .unwrap_or_default();
        let output = part(counts.completion_tokens_details)
            .or_else(|| part(counts.output_tokens_details))
            .or_else(|| part(counts.output_token_details))
            .unwrap_or_default();
        Self::of(&counts, &input, &output)
    }
}

/// The sum, if both are known.
fn both(a: Count, b: Count) -> Count {
    Count(a.0.zip(b.0).map(|(a, b)| a.saturating_add(b)))
}

/// The sum of what is known.
fn either(a: Count, b: Count) -> Count {
    both(a, b).or(a).or(b)
}

/// Pico-US-dollars in one of xAI's ticks.
const PICO_PER_TICK: u64 = 100;

fn reported_cost(counts: &Counts<'_>) -> Option<PicoUsd> {
    let amount = |raw: Option<&RawValue>| scaled(raw?.get(), 12);
    let details: CostDetails<'_> = part(counts.cost_details).unwrap_or_default();
    let own_key = counts.is_byok.is_some() && part(counts.is_byok) != Some(false);
    let stated = match amount(counts.cost) {
        Some(fee) if own_key => {
            let bill = amount(details.upstream_inference_cost)?;
            Some(fee.saturating_add(bill))
        }
        Some(cost) => Some(cost),
        None => {
            let perplexity: CostDetails<'_> = part(counts.cost).unwrap_or_default();
            amount(perplexity.total_cost)
        }
    };
    let ticks = counts
        .cost_in_usd_ticks
        .0
        .map(|ticks| ticks.saturating_mul(PICO_PER_TICK));
    stated.or(ticks).map(|pico| PicoUsd::new(i128::from(pico)))
}

impl Stated {
    /// Every count of this, or else of the earlier statement.
    pub(super) fn or(self, earlier: &Self) -> Self {
        Self {
            reported_cost: self.reported_cost.or(earlier.reported_cost),
            ..self.zip(earlier, Count::or)
        }
    }

    /// The sum of both statements.
    pub(super) fn plus(self, other: &Self) -> Self {
        let cost = self.reported_cost.zip(other.reported_cost);
        Self {
            reported_cost: cost.map(|(a, b)| a.saturating_add(b)),
            odd: self.odd || other.odd,
            ..self.zip(other, either)
        }
    }

    fn zip(self, other: &Self, f: fn(Count, Count) -> Count) -> Self {
        Self {
            input: f(self.input, other.input),
            output: f(self.output, other.output),
            total: f(self.total, other.total),
            cached: f(self.cached, other.cached),
            cache_write: f(self.cache_write, other.cache_write),
            input_text: f(self.input_text, other.input_text),
            input_audio: f(self.input_audio, other.input_audio),
            input_image: f(self.input_image, other.input_image),
            input_video: f(self.input_video, other.input_video),
            cached_audio: f(self.cached_audio, other.cached_audio),
            cached_image: f(self.cached_image, other.cached_image),
            output_text: f(self.output_text, other.output_text),
            output_audio: f(self.output_audio, other.output_audio),
            output_image: f(self.output_image, other.output_image),
            reasoning: f(self.reasoning, other.reasoning),
            web_searches: f(self.web_searches, other.web_searches),
            file_searches: f(self.file_searches, other.file_searches),
            audio_ms: f(self.audio_ms, other.audio_ms),
            reported_cost: self.reported_cost,
            odd: self.odd,
        }
    }

    /// This with searches counted outside the usage object, where it counts none itself.
    pub(super) fn with_searches(self, web: u64, files: u64) -> Self {
        Self {
            web_searches: self.web_searches.or(Count(Some(web))),
            file_searches: self.file_searches.or(Count(Some(files))),
            ..self
        }
    }

    /// Whether the answer says which of its input, or output, is text, audio or images.
    pub(super) fn tells_input_kinds(&self) -> bool {
        let Self {
            input_text,
            input_audio,
            input_image,
            ..
        } = self;
        [input_text, input_audio, input_image]
            .iter()
            .any(|count| count.0.is_some())
    }

    pub(super) fn tells_output_kinds(&self) -> bool {
        let Self {
            output_text,
            output_audio,
            output_image,
            ..
        } = self;
        [output_text, output_audio, output_image]
            .iter()
            .any(|count| count.0.is_some())
    }

    /// The normal form. The length of audio is left to those who know whether it is billed.
    pub(in crate::usage) fn normal(&self) -> Usage {
        let input = self.input.known();
        let beyond_input = match self.input.0 {
            Some(input) => self.total.known().saturating_sub(input),
            None => 0,
        };
        Usage {
            input_tokens: input,
            cached_input_tokens: self.cached.known(),
            cache_write_tokens: self.cache_write.known(),
            output_tokens: self.output.known().max(beyond_input),
            reasoning_tokens: self.reasoning.known(),
            input_audio_tokens: self.input_audio.known(),
            cached_audio_tokens: self.cached_audio.known(),
            output_audio_tokens: self.output_audio.known(),
            input_image_tokens: self.input_image.known(),
            cached_image_tokens: self.cached_image.known(),
            output_image_tokens: self.output_image.known(),
            input_video_tokens: self.input_video.known(),
            web_searches: self.web_searches.known(),
            file_searches: self.file_searches.known(),
            ..Usage::default()
        }
    }
}

#[cfg(test)]
mod tests;
