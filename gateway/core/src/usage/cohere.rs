//! Usage in Cohere's chat, embeddings and rerank, and in servers that rerank alike.
//!
//! - Only `billed_units` are billed; `tokens` also holds what Cohere adds for itself. Where there
//!   are no billed units, the tokens bound them.
//! - Chat streams state usage in `message-end` (v2) or `stream-end` (v1).
//! - Voyage, Jina, Together and vLLM rerank for tokens, in a `usage` object as OpenAI's.
//! - Images that are embedded are billed as tokens of their own.
//!
//! Source: Cohere API reference, "Chat", "Embed", "Rerank", and "How are costs calculated".

use serde::Deserialize;
use serde_json::value::RawValue;

use super::openai::Stated;
use super::text::{Count, Text, TextBytes, is_sound, part};
use super::{Metered, Reading, Usage, tally};
use crate::money::PicoUsd;
use crate::policy::Operation;

/// What one answer has said so far.
#[derive(Debug)]
pub(super) struct Cohere {
    operation: Operation,
    model: Option<String>,
    billed: Units,
    /// In the terms of OpenAI, as other rerankers state it.
    stated: Option<Stated>,
    over: bool,
    output_bytes: u64,
}

/// An event, or a plain answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
    /// The same in v1.
    #[serde(borrow)]
    event_type: Text<'a>,
    #[serde(borrow)]
    model: Text<'a>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

/// `usage` in v2, `meta` elsewhere.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bill<'a> {
    #[serde(borrow)]
    billed_units: Option<&'a RawValue>,
    #[serde(borrow)]
    tokens: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Units {
    input_tokens: Count,
    output_tokens: Count,
    image_tokens: Count,
    search_units: Count,
}

impl Cohere {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            model: None,
            billed: Units::default(),
            stated: None,
            over: false,
            output_bytes: 0,
        }
    }

    /// Takes the last word of an answer, or of an event that carries it.
    fn take_final(&mut self, answer: &Answer<'_>) {
        answer.model.put_into(&mut self.model);
        let bill = |raw: Option<&RawValue>| {
            let Bill {
                billed_units,
                tokens,
            } = part(raw)?;
            let units = part::<Units>(billed_units).or_else(|| part(tokens));
            units.map(|units| (units, raw.is_some_and(is_sound)))
        };
        let mut sound = true;
        if let Some((units, units_are_sound)) = bill(answer.usage).or_else(|| bill(answer.meta)) {
            self.billed = units;
            sound = units_are_sound;
        }
        if self.operation == Operation::Rerank {
            self.stated = answer.usage.map(Stated::read);
        }
        self.over = sound && !self.stated.is_some_and(|stated| stated.odd);
    }

    fn judge(&self) -> Metered {
        let (units, stated) = (self.billed, self.stated.unwrap_or_default());
        let input = units.input_tokens.or(stated.input).or(stated.total);
        let output = units.output_tokens.or(stated.output);
        let images = units.image_tokens.known();
        let usage = Usage {
            input_tokens: input.known().saturating_add(images),
            input_image_tokens: images,
            output_tokens: output.known(),
            search_units: units.search_units.known(),
            ..Usage::default()
        };
        let is_known = |count: Count| count.0.is_some();
        let (any, whole) = match self.operation {
            Operation::CohereChat => (
                is_known(input) || is_known(output),
                is_known(input) && is_known(output),
            ),
            Operation::Rerank => {
                let any = is_known(units.search_units) || is_known(input);
                (any, any)
            }
            _ => {
                let any = is_known(input) || is_known(units.image_tokens);
                (any, any)
            }
        };
        match (any, whole && self.over) {
            (false, _) => Metered::Unknown,
            (true, true) => Metered::Exact(usage.consistent()),
            (true, false) => Metered::Partial(usage.consistent()),
        }
    }

    fn reported_cost(&self) -> Option<PicoUsd> {
        self.stated.filter(|_| self.over)?.reported_cost
    }
}

impl tally::Tally for Cohere {
    fn event(&mut self, data: &[u8]) -> bool {
        if data.is_empty() || data == b"[DONE]" {
            return false;
        }
        let Ok(event) = serde_json::from_slice::<Answer<'_>>(data) else {
            self.unread(data.len());
            return false;
        };
        match event.kind.as_deref().or(event.event_type.as_deref()) {
            Some("message-end") => {
                if let Some(delta) = part::<Answer<'_>>(event.delta) {
                    self.take_final(&delta);
                }
            }
            Some("stream-end") => {
                if let Some(response) = part::<Answer<'_>>(event.response) {
                    self.take_final(&response);
                }
            }
            _ => {
                for text in [event.delta, event.text] {
                    let TextBytes(bytes) = part(text).unwrap_or_default();
                    self.output_bytes = self.output_bytes.saturating_add(bytes);
                }
            }
        }
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Ok(answer) = serde_json::from_slice::<Answer<'_>>(bytes) {
            self.take_final(&answer);
        }
    }

    fn unread(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.output_bytes = self.output_bytes.saturating_add(bytes);
    }

    fn finish(self: Box<Self>) -> Reading {
        Reading {
            metered: self.judge(),
            reported_cost: self.reported_cost(),
            response_model: self.model,
            output_bytes: self.output_bytes,
            ..Reading::nothing()
        }
    }
}
