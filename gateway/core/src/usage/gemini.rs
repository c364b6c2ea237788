//! Usage in Gemini's generated content, as Google AI and Vertex AI serve it.
//!
//! - Every chunk of a stream states usage, cumulatively: the last value of each field counts. It
//!   is final with a chunk that says why each answer ended, or why the prompt was blocked.
//! - Thoughts are counted apart from the candidates and what the provider's tools put in apart
//!   from the prompt; both are added here. What was cached is part of the prompt. Where the total
//!   says that thoughts are among the candidates, they are not added again.
//! - Documents are counted as text.
//! - Searches are billed for Gemini 3 by the query, before that once per grounded prompt. A model
//!   that does not say its generation is billed by the query, which is never less. An answer that
//!   rests on maps, which states no query for them, is billed one search more.
//!
//! At most [`MAX_QUERY_BYTES`] of search queries are kept, to tell new ones from old.
//!
//! Worst case: queries beyond that count as new each time they are repeated.
//!
//! Source: Gemini API reference, "UsageMetadata"; Vertex AI reference,
//! "GenerateContentResponse.UsageMetadata"; Gemini API, "Grounding with Google Search", pricing.

use std::collections::BTreeSet;

use http::HeaderMap;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::text::{Count, Text, TextBytes, if_understood, is_sound, part, text_or_none};
use super::{Metered, Reading, Usage, tally};
use crate::call::Terms;

/// The most bytes of search queries that are kept of one answer.
const MAX_QUERY_BYTES: usize = 64 * 1024;

/// What one answer has said so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    model: Option<String>,
    stated: Stated,
    queries: Queries,
    candidates: Candidates,
    /// Whether usage was stated when nothing more was to come.
    over: bool,
    /// Whether some of it could not be understood.
    odd: bool,
    tier_in_head: Option<String>,
    output_bytes: u64,
}

/// Which candidates have begun and not ended.
#[derive(Debug, Clone, Copy, Default)]
struct Candidates {
    /// One bit each; those beyond the last bit share it.
    unfinished: u64,
    /// Whether any ended, or none will come.
    ended: bool,
}

#[derive(Debug, Default)]
struct Queries {
    seen: BTreeSet<String>,
    seen_bytes: usize,
    /// Those for which there was no room.
    uncompared: u64,
    /// Whether the answer rests on maps.
    maps: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(default, borrow)]
    candidates: Option<&'a RawValue>,
    #[serde(default, borrow)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(default, borrow)]
    prompt_feedback: Option<&'a RawValue>,
    #[serde(default, borrow)]
    model_version: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Candidate<'a> {
    index: Count,
    #[serde(borrow)]
    finish_reason: Text<'a>,
    content: TextBytes,
    #[serde(borrow)]
    grounding_metadata: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Grounding {
    #[serde(deserialize_with = "if_understood")]
    web_search_queries: Option<Vec<String>>,
    #[serde(deserialize_with = "if_understood")]
    image_search_queries: Option<Vec<String>>,
    #[serde(deserialize_with = "if_understood")]
    grounding_chunks: Option<Vec<Source>>,
}

/// What an answer rests on, as far as that is billed without a query.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    maps: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(default, borrow)]
    block_reason: Text<'a>,
}

/// `usageMetadata`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Stated {
    prompt_token_count: Count,
    cached_content_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    tool_use_prompt_token_count: Count,
    total_token_count: Count,
    #[serde(deserialize_with = "if_understood")]
    prompt_tokens_details: Option<Modalities>,
    #[serde(deserialize_with = "if_understood")]
    cache_tokens_details: Option<Modalities>,
    #[serde(deserialize_with = "if_understood")]
    candidates_tokens_details: Option<Modalities>,
    #[serde(deserialize_with = "if_understood")]
    tool_use_prompt_tokens_details: Option<Modalities>,
    #[serde(deserialize_with = "text_or_none")]
    service_tier: Option<String>,
    #[serde(deserialize_with = "text_or_none")]
    traffic_type: Option<String>,
}

/// Parts of a count that are not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "Vec<Modality>")]
pub(super) struct Modalities {
    pub(super) audio: u64,
    pub(super) image: u64,
    pub(super) video: u64,
    /// All of them together, text too.
    pub(super) all: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Modality {
    modality: Kind,
    token_count: Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Text,
    Audio,
    Image,
    Video,
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Text::deserialize(deserializer)?.as_deref() {
            Some("AUDIO") => Self::Audio,
            Some("IMAGE") => Self::Image,
            Some("VIDEO") => Self::Video,
            _ => Self::Text,
        })
    }
}

impl From<Vec<Modality>> for Modalities {
    fn from(details: Vec<Modality>) -> Self {
        let mut sums = Self::default();
        for detail in details {
            let count = detail.token_count.known();
            sums.all = sums.all.saturating_add(count);
            let sum = match detail.modality {
                Kind::Audio => &mut sums.audio,
                Kind::Image => &mut sums.image,
                Kind::Video => &mut sums.video,
                Kind::Text => continue,
            };
            *sum = sum.saturating_add(count);
        }
        sums
    }
}

impl tally::Tally for Tally {
    fn event(&mut self, data: &[u8]) -> bool {
        if data.is_empty() {
            return false;
        }
        match serde_json::from_slice::<Chunk<'_>>(data) {
            Ok(chunk) => self.take(&chunk),
            Err(_) => self.unread(data.len()),
        }
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        self.event(bytes);
    }

    fn unread(&mut self, bytes: usize) {
        self.output_bytes = self
            .output_bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn heed(&mut self, headers: &HeaderMap) {
        self.tier_in_head = headers
            .get("x-gemini-service-tier")
            .and_then(|tier| plain_tier(tier.to_str().ok()?));
    }

    fn finish(self: Box<Self>) -> Reading {
        let stated = &self.stated;
        let usage = Usage {
            web_searches: self.queries.billed(self.model.as_deref()),
            ..stated.normal()
        };
        let (input, total) = (stated.prompt_token_count.0, stated.total_token_count.0);
        let metered = match (input, stated.candidates_token_count.0.or(total)) {
            (Some(_), _) if self.over && !self.odd => Metered::Exact(usage),
            (None, None) => Metered::Unknown,
            _ => Metered::Partial(usage),
        };
        Reading {
            metered,
            elsewhere: Vec::new(),
            response_model: self.model,
            terms: Terms {
                service_tier: self.stated.tier().or(self.tier_in_head),
                ..Terms::default()
            },
            reported_cost: None,
            output_bytes: self.output_bytes,
        }
    }
}

impl Tally {
    fn take(&mut self, chunk: &Chunk<'_>) {
        let candidates: Vec<Candidate<'_>> = part(chunk.candidates).unwrap_or_default();
        for candidate in &candidates {
            self.output_bytes = self.output_bytes.saturating_add(candidate.content.0);
            self.candidates.note(candidate);
            if let Some(grounding) = part(candidate.grounding_metadata) {
                self.queries.add(grounding);
            }
        }
        let feedback: Option<Feedback<'_>> = part(chunk.prompt_feedback);
        let blocked = feedback.is_some_and(|said| is_a_reason(&said.block_reason));
        self.candidates.ended |= blocked;
        chunk.model_version.put_into(&mut self.model);
        self.odd |= chunk.usage_metadata.is_some_and(|usage| !is_sound(usage));
        let usage: Option<Stated> = part(chunk.usage_metadata);
        // Usage that is older than the last words does not cover them.
        self.over = self.candidates.all_ended()
            && (usage.is_some() || (self.over && candidates.is_empty()));
        if let Some(usage) = usage {
            self.stated.update(usage);
        }
    }
}

impl Candidates {
    fn note(&mut self, candidate: &Candidate<'_>) {
        let index = candidate.index.known().min(63);
        let bit = 1_u64.rotate_left(u32::try_from(index).unwrap_or_default());
        if is_a_reason(&candidate.finish_reason) {
            self.unfinished &= !bit;
            self.ended = true;
        } else {
            self.unfinished |= bit;
        }
    }

    fn all_ended(self) -> bool {
        self.ended && self.unfinished == 0
    }
}

impl Queries {
    fn add(&mut self, grounding: Grounding) {
        let mut sources = grounding.grounding_chunks.iter().flatten();
        self.maps |= sources.any(|source| source.maps.is_some());
        let searches = [grounding.web_search_queries, grounding.image_search_queries];
        for query in searches.into_iter().flatten().flatten() {
            if query.trim().is_empty() || self.seen.contains(&query) {
                continue;
            }
            let bytes = self.seen_bytes.saturating_add(query.len());
            if bytes > MAX_QUERY_BYTES {
                self.uncompared = self.uncompared.saturating_add(1);
            } else {
                self.seen_bytes = bytes;
                self.seen.insert(query);
            }
        }
    }

    /// How many searches are billed for an answer of this model.
    fn billed(&self, model: Option<&str>) -> u64 {
        let queries = u64::try_from(self.seen.len())
            .unwrap_or(u64::MAX)
            .saturating_add(self.uncompared);
        let searches = match model.and_then(generation) {
            Some(0..=2) => queries.min(1),
            _ => queries,
        };
        searches.saturating_add(u64::from(self.maps))
    }
}

fn is_a_reason(stated: &Text<'_>) -> bool {
    let unspecified = |reason: &str| reason.is_empty() || reason.ends_with("_UNSPECIFIED");
    stated.as_deref().is_some_and(|reason| !unspecified(reason))
}

/// The first number in a model's name: 2 for `gemini-2.5-flash`.
fn generation(model: &str) -> Option<u64> {
    let name = model.rsplit('/').next()?.strip_prefix("gemini-")?;
    let digits = name.split(|char: char| !char.is_ascii_digit());
    digits
        .into_iter()
        .find(|digits| !digits.is_empty())?
        .parse()
        .ok()
}

/// A tier as requests and prices name it. `ON_DEMAND_FLEX` and `SERVICE_TIER_FLEX` are `flex`.
fn plain_tier(stated: &str) -> Option<String> {
    let name = stated.trim().to_ascii_lowercase();
    let name = name.strip_prefix("service_tier_").unwrap_or(&name);
    let name = name.strip_prefix("on_demand_").unwrap_or(name);
    match name {
        "" | "unspecified" | "traffic_type_unspecified" => None,
        "on_demand" => Some("standard".to_owned()),
        other => Some(other.to_owned()),
    }
}

impl Stated {
    /// Replaces every field that `later` states.
    fn update(&mut self, later: Self) {
        let earlier = std::mem::take(self);
        *self = Self {
            prompt_token_count: later.prompt_token_count.or(earlier.prompt_token_count),
            cached_content_token_count: later
                .cached_content_token_count
                .or(earlier.cached_content_token_count),
            candidates_token_count: later
                .candidates_token_count
                .or(earlier.candidates_token_count),
            thoughts_token_count: later.thoughts_token_count.or(earlier.thoughts_token_count),
            tool_use_prompt_token_count: later
                .tool_use_prompt_token_count
                .or(earlier.tool_use_prompt_token_count),
            total_token_count: later.total_token_count.or(earlier.total_token_count),
            prompt_tokens_details: later
                .prompt_tokens_details
                .or(earlier.prompt_tokens_details),
            cache_tokens_details: later.cache_tokens_details.or(earlier.cache_tokens_details),
            candidates_tokens_details: later
                .candidates_tokens_details
                .or(earlier.candidates_tokens_details),
            tool_use_prompt_tokens_details: later
                .tool_use_prompt_tokens_details
                .or(earlier.tool_use_prompt_tokens_details),
            service_tier: later.service_tier.or(earlier.service_tier),
            traffic_type: later.traffic_type.or(earlier.traffic_type),
        };
    }

    fn tier(&self) -> Option<String> {
        let stated = [&self.service_tier, &self.traffic_type];
        stated
            .into_iter()
            .flatten()
            .find_map(|tier| plain_tier(tier))
    }

    fn normal(&self) -> Usage {
        let tools = self.tool_use_prompt_token_count.known();
        let input = self.prompt_token_count.known().saturating_add(tools);
        let candidates = self.candidates_token_count.known();
        let thoughts = self.thoughts_token_count.known();
        let among_candidates = thoughts <= candidates
            && self.total_token_count.0 == Some(input.saturating_add(candidates));
        let prompt = self.prompt_tokens_details.unwrap_or_default();
        let from_tools = self.tool_use_prompt_tokens_details.unwrap_or_default();
        let cached = self.cache_tokens_details.unwrap_or_default();
        let output = self.candidates_tokens_details.unwrap_or_default();
        Usage {
            input_tokens: input,
            cached_input_tokens: self.cached_content_token_count.known(),
            output_tokens: if among_candidates {
                candidates
            } else {
                candidates.saturating_add(thoughts)
            },
            reasoning_tokens: thoughts,
            input_audio_tokens: prompt.audio.saturating_add(from_tools.audio),
            cached_audio_tokens: cached.audio,
            output_audio_tokens: output.audio,
            input_image_tokens: prompt.image.saturating_add(from_tools.image),
            cached_image_tokens: cached.image,
            output_image_tokens: output.image,
            input_video_tokens: prompt.video.saturating_add(from_tools.video),
            tool_input_tokens: tools,
            ..Usage::default()
        }
        .consistent()
    }
}

#[cfg(test)]
mod tests;
