//! Usage in answers of Amazon Bedrock's Converse and ConverseStream.
//!
//! - `inputTokens` leaves out what was read from a cache or written to one; here these are added.
//!   `cacheDetails` says how long what was written lives. Some counts come under two names.
//! - A stream states usage once, in the `metadata` event that ends it. An exception in between
//!   ends it without, and what was generated before must be estimated.
//! - The answer does not name its model. Guardrails, which are billed by text units of their own,
//!   are not counted.
//!
//! The heads of answers are read here too, for [`super::invoke_model`].
//!
//! Worst case: without the last event nothing but the length of the generated text is known.
//!
//! Source: Amazon Bedrock API reference, "TokenUsage" and "ConverseStreamMetadataEvent".

use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{Count, TextBytes, if_understood, is_sound, part, text_or_none};
use super::{Metered, Reading, Usage, tally};
use crate::call::Terms;

/// What one answer has said so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    stated: Option<Stated>,
    /// Whether some of it could not be understood.
    odd: bool,
    terms: Terms,
    output_bytes: u64,
}

/// A plain answer, or an event of a stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    delta: TextBytes,
    #[serde(default, borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(default, borrow)]
    performance_config: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct ServiceTier {
    #[serde(default, rename = "type", deserialize_with = "text_or_none")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Performance {
    #[serde(default, deserialize_with = "text_or_none")]
    latency: Option<String>,
}

/// Token counts as Bedrock itself states them, under each of the names it uses.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Stated {
    input_tokens: Count,
    input_token_count: Count,
    output_tokens: Count,
    output_token_count: Count,
    cache_read_input_tokens: Count,
    cache_read_input_token_count: Count,
    cache_write_input_tokens: Count,
    cache_write_input_token_count: Count,
    #[serde(deserialize_with = "if_understood")]
    cache_details: Option<Vec<CacheDetail>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CacheDetail {
    #[serde(deserialize_with = "text_or_none")]
    ttl: Option<String>,
    input_tokens: Count,
}

impl tally::Tally for Tally {
    fn event(&mut self, data: &[u8]) -> bool {
        if data.is_empty() {
            return false;
        }
        match serde_json::from_slice::<Answer<'_>>(data) {
            Ok(answer) => {
                self.output_bytes = self.output_bytes.saturating_add(answer.delta.0);
                self.take(&answer);
            }
            Err(_) => self.unread(data.len()),
        }
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(bytes) {
            self.take(&answer);
        }
    }

    fn unread(&mut self, bytes: usize) {
        self.output_bytes = self
            .output_bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn heed(&mut self, headers: &HeaderMap) {
        self.terms = terms_in(headers);
    }

    fn finish(self: Box<Self>) -> Reading {
        let metered = self.stated.map_or(Metered::Unknown, |stated| {
            let usage = stated.normal();
            match (stated.input().0, stated.output().0) {
                (Some(_), Some(_)) if !self.odd => Metered::Exact(usage),
                (None, None) => Metered::Unknown,
                _ => Metered::Partial(usage),
            }
        });
        Reading {
            metered,
            terms: self.terms,
            output_bytes: self.output_bytes,
            ..Reading::nothing()
        }
    }
}

impl Tally {
    fn take(&mut self, answer: &Answer<'_>) {
        self.odd |= answer.usage.is_some_and(|usage| !is_sound(usage));
        self.stated = part(answer.usage).or(self.stated.take());
        let tier = part::<ServiceTier>(answer.service_tier).and_then(|tier| tier.kind);
        let performance = part::<Performance>(answer.performance_config);
        let stated = Terms {
            service_tier: tier,
            speed: performance.and_then(|stated| speed(&stated.latency?)),
            ..Terms::default()
        };
        self.terms = stated.or(&self.terms);
    }
}

impl Stated {
    /// Counts of a head; `None` if it has none.
    pub(super) fn in_head(headers: &HeaderMap) -> Option<Self> {
        let count = |name: &str| {
            let value = headers.get(name).map(HeaderValue::as_bytes);
            let count = value.and_then(|text| serde_json::from_slice(text).ok());
            count.unwrap_or_default()
        };
        let stated = Self {
            input_tokens: count("x-amzn-bedrock-input-token-count"),
            output_tokens: count("x-amzn-bedrock-output-token-count"),
            cache_read_input_tokens: count("x-amzn-bedrock-cache-read-input-token-count"),
            cache_write_input_tokens: count("x-amzn-bedrock-cache-write-input-token-count"),
            ..Self::default()
        };
        (stated.input().0.is_some() || stated.output().0.is_some()).then_some(stated)
    }

    /// Tokens in, without those of a cache.
    pub(super) fn input(&self) -> Count {
        self.input_tokens.or(self.input_token_count)
    }

    pub(super) fn output(&self) -> Count {
        self.output_tokens.or(self.output_token_count)
    }

    pub(super) fn normal(&self) -> Usage {
        let read = self
            .cache_read_input_tokens
            .or(self.cache_read_input_token_count)
            .known();
        let (mut all, mut one_hour) = (0_u64, 0_u64);
        for detail in self.cache_details.iter().flatten() {
            let tokens = detail.input_tokens.known();
            all = all.saturating_add(tokens);
            if detail.ttl.as_deref() == Some("1h") {
                one_hour = one_hour.saturating_add(tokens);
            }
        }
        let written = self
            .cache_write_input_tokens
            .or(self.cache_write_input_token_count)
            .0
            .unwrap_or(all);
        let one_hour = one_hour.min(written);
        Usage {
            input_tokens: self
                .input()
                .known()
                .saturating_add(read)
                .saturating_add(written),
            cached_input_tokens: read,
            cache_write_tokens: written.saturating_sub(one_hour),
            cache_write_1h_tokens: one_hour,
            output_tokens: self.output().known(),
            ..Usage::default()
        }
        .consistent()
    }
}

/// The terms that a head states.
pub(super) fn terms_in(headers: &HeaderMap) -> Terms {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim().to_owned());
    Terms {
        service_tier: text("x-amzn-bedrock-service-tier").filter(|tier| !tier.is_empty()),
        speed: text("x-amzn-bedrock-performanceconfig-latency").and_then(|latency| speed(&latency)),
        ..Terms::default()
    }
}

/// What Bedrock calls latency, where it is not the standard one.
fn speed(latency: &str) -> Option<String> {
    (!latency.is_empty() && latency != "standard").then(|| latency.to_owned())
}

#[cfg(test)]
mod tests;
