//! Usage in answers of Anthropic messages.
//!
//! - `input_tokens` leaves out cache reads and writes; here they are added.
//! - A stream states usage in `message_start` and then, cumulatively, in one or more
//!   `message_delta`: the last value of each field counts. It is final with a stop reason.
//! - `iterations` lists internal calls (compaction, advisors). The top-level counts leave some of
//!   them out, and an advisor's are billed as its own model.
//!
//! Source: Anthropic API reference, "Streaming messages" and "Prompt caching"; checked against
//! `testdata/usage_vectors.json`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{Count, Text, TextBytes, is_sound, part, text_or_none};
use super::{Metered, Reading, Usage, tally};
use crate::call::Terms;

/// What one answer has said so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    model: Option<String>,
    stated: Stated,
    /// Whether a last word on usage has come.
    over: bool,
    /// Whether some of it could not be understood.
    odd: bool,
    output_bytes: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Stated {
    #[serde(flatten)]
    counts: Counts,
    #[serde(deserialize_with = "text_or_none")]
    service_tier: Option<String>,
    #[serde(deserialize_with = "text_or_none")]
    speed: Option<String>,
    #[serde(deserialize_with = "text_or_none")]
    inference_geo: Option<String>,
    server_tool_use: Option<ServerToolUse>,
    output_tokens_details: Option<OutputDetails>,
    iterations: Option<Vec<Iteration>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Counts {
    input_tokens: Count,
    cache_creation_input_tokens: Count,
    cache_read_input_tokens: Count,
    output_tokens: Count,
    cache_creation: Option<CacheCreation>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Count,
    ephemeral_1h_input_tokens: Count,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct ServerToolUse {
    web_search_requests: Count,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Count,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Iteration {
    #[serde(deserialize_with = "text_or_none")]
    model: Option<String>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message<'a> {
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Stop {
    #[serde(default, deserialize_with = "text_or_none")]
    stop_reason: Option<String>,
}

impl tally::Tally for Tally {
    fn event(&mut self, data: &[u8]) -> bool {
        if data.is_empty() {
            return false;
        }
        match serde_json::from_slice::<Event<'_>>(data) {
            Ok(event) => self.take_event(&event),
            Err(_) => self.unread(data.len()),
        }
        false
    }

    fn unread(&mut self, bytes: usize) {
        self.output_bytes = self
            .output_bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Ok(message) = serde_json::from_slice::<Message<'_>>(bytes) {
            self.take(&message);
            self.over = true;
        }
    }

    fn finish(self: Box<Self>) -> Reading {
        let counts = self.stated.counts;
        let known = (counts.input_tokens.0, counts.output_tokens.0);
        let (own, elsewhere) = self.stated.normal(self.model.as_deref());
        let metered = match known {
            (Some(_), Some(_)) if self.over && !self.odd => Metered::Exact(own),
            (None, None) => Metered::Unknown,
            _ => Metered::Partial(own),
        };
        Reading {
            metered,
            elsewhere,
            response_model: self.model,
            terms: Terms {
                service_tier: self.stated.service_tier,
                speed: self.stated.speed,
                inference_geo: self.stated.inference_geo,
                processing: None,
            },
            reported_cost: None,
            output_bytes: self.output_bytes,
        }
    }
}

impl Tally {
    fn take_event(&mut self, event: &Event<'_>) {
        match event.kind.as_deref() {
            Some("content_block_delta") => {
                let TextBytes(bytes) = part(event.delta).unwrap_or_default();
                self.output_bytes = self.output_bytes.saturating_add(bytes);
            }
            Some("message_start") => {
                if let Some(message) = part::<Message<'_>>(event.message) {
                    self.take(&message);
                }
            }
            Some("message_delta") => {
                let stop: Option<Stop> = part(event.delta);
                let stopped = stop.is_some_and(|stop| stop.stop_reason.is_some());
                if let Some(usage) = event.usage {
                    self.over |= self.state(usage) && stopped;
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, message: &Message<'_>) {
        message.model.put_into(&mut self.model);
        if let Some(usage) = message.usage {
            self.state(usage);
        }
    }

    /// Takes a `usage` object. True if it states the output.
    fn state(&mut self, usage: &RawValue) -> bool {
        self.odd |= !is_sound(usage);
        let Some(stated) = part::<Stated>(Some(usage)) else {
            self.odd = true;
            return false;
        };
        let states_output = stated.counts.output_tokens.0.is_some();
        self.stated.update(stated);
        states_output
    }
}

impl Stated {
    /// Replaces every field that `later` states.
    fn update(&mut self, later: Self) {
        self.counts = Counts {
            input_tokens: later.counts.input_tokens.or(self.counts.input_tokens),
            cache_creation_input_tokens: later
                .counts
                .cache_creation_input_tokens
                .or(self.counts.cache_creation_input_tokens),
            cache_read_input_tokens: later
                .counts
                .cache_read_input_tokens
                .or(self.counts.cache_read_input_tokens),
            output_tokens: later.counts.output_tokens.or(self.counts.output_tokens),
            cache_creation: later.counts.cache_creation.or(self.counts.cache_creation),
        };
        self.service_tier = later.service_tier.or(self.service_tier.take());
        self.speed = later.speed.or(self.speed.take());
        self.inference_geo = later.inference_geo.or(self.inference_geo.take());
        self.server_tool_use = later.server_tool_use.or(self.server_tool_use);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
        self.iterations = later.iterations.or(self.iterations.take());
    }

    /// Usage of the call's own model, and of each other model.
    fn normal(&self, own_model: Option<&str>) -> (Usage, Vec<(String, Usage)>) {
        let mut own_iterations = Usage::default();
        let mut elsewhere = Vec::new();
        for iteration in self.iterations.iter().flatten() {
            let usage = iteration.counts.normal();
            match &iteration.model {
                Some(model) if Some(model.as_str()) != own_model => {
                    elsewhere.push((model.clone(), usage));
                }
                _ => own_iterations = own_iterations.plus(&usage),
            }
        }
        let mut own = self.counts.normal();
        if own_iterations != Usage::default() {
            own = own_iterations.max(&own);
        }
        own.reasoning_tokens = self
            .output_tokens_details
            .unwrap_or_default()
            .thinking_tokens
            .known();
        own.web_searches = self
            .server_tool_use
            .unwrap_or_default()
            .web_search_requests
            .known();
        (own.consistent(), elsewhere)
    }
}

impl Counts {
    fn normal(&self) -> Usage {
        let split = self.cache_creation.unwrap_or_default();
        let five_minutes = split.ephemeral_5m_input_tokens.known();
        let one_hour = split.ephemeral_1h_input_tokens.known();
        let written = self
            .cache_creation_input_tokens
            .0
            .unwrap_or(five_minutes.saturating_add(one_hour));
        let read = self.cache_read_input_tokens.known();
        let one_hour = one_hour.min(written);
        Usage {
            input_tokens: self
                .input_tokens
                .known()
                .saturating_add(read)
                .saturating_add(written),
            cached_input_tokens: read,
            cache_write_tokens: written.saturating_sub(one_hour),
            cache_write_1h_tokens: one_hour,
            output_tokens: self.output_tokens.known(),
            ..Usage::default()
        }
    }
}
