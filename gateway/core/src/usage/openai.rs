//! Usage in answers of the OpenAI family: OpenAI itself and the many servers that speak alike.
//!
//! - Cached, written, audio, image and reasoning tokens are parts of their wholes, whichever of the
//!   names in use a server gives them.
//! - Counts are cumulative: the last value of each counts, and nothing is added up.
//! - Usage is a provider's final word only at the end of the answer, and only if nothing was
//!   generated after it.
//!
//! What tells one server from another is what stands in the answer, never configuration.
//!
//! Source: OpenAI API reference; the references of the servers named beside their quirks; checked
//! against `testdata/usage_vectors.json`.

mod chat;
mod counts;
mod media;
mod responses;

pub(super) use chat::Chat;
pub(super) use counts::Stated;
pub(super) use media::Media;
pub(super) use responses::Responses;

use super::text::{Text, TextBytes};
use super::{Metered, Reading, Usage};
use crate::call::Terms;

/// What an answer of the family has said so far.
#[derive(Debug, Default)]
pub(super) struct Account {
    model: Option<String>,
    service_tier: Option<String>,
    stated: Option<Stated>,
    /// Whether the answer has come to its end.
    over: bool,
    /// Whether more was generated, or passed unread, after the last statement.
    stale: bool,
    output_bytes: u64,
}

impl Account {
    pub(super) fn name(&mut self, model: &Text<'_>, service_tier: &Text<'_>) {
        // Azure's first chunk has an empty model.
        model.put_into(&mut self.model);
        service_tier.put_into(&mut self.service_tier);
    }

    /// Notes text that was generated.
    pub(super) fn generated(&mut self, TextBytes(bytes): TextBytes) {
        self.output_bytes = self.output_bytes.saturating_add(bytes);
        self.stale |= bytes > 0;
    }

    /// Notes bytes whose text was not measured.
    pub(super) fn unread(&mut self, bytes: usize) {
        self.generated(TextBytes(u64::try_from(bytes).unwrap_or(u64::MAX)));
    }

    /// Takes usage that replaces what was stated before.
    pub(super) fn state(&mut self, stated: Stated) {
        self.stated = Some(match &self.stated {
            Some(earlier) => stated.or(earlier),
            None => stated,
        });
        self.stale = false;
    }

    /// Takes usage of another part of the answer.
    pub(super) fn add(&mut self, stated: Stated) {
        self.stated = Some(match &self.stated {
            Some(earlier) => stated.plus(earlier),
            None => stated,
        });
        self.stale = false;
    }

    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// The reading. `judge` makes usage of what was stated, and says whether it is complete; it
    /// says nothing if nothing that is billed was stated.
    pub(super) fn reading(self, judge: impl FnOnce(&Stated) -> Option<(Usage, bool)>) -> Reading {
        let last_word = self.over && !self.stale;
        let odd = self.stated.is_some_and(|stated| stated.odd);
        let metered = match self.stated.as_ref().and_then(judge) {
            None => Metered::Unknown,
            Some((usage, true)) if last_word && !odd => Metered::Exact(usage),
            Some((usage, _)) => Metered::Partial(usage),
        };
        Reading {
            metered,
            elsewhere: Vec::new(),
            response_model: self.model,
            terms: Terms {
                service_tier: self.service_tier,
                ..Terms::default()
            },
            reported_cost: self
                .stated
                .filter(|_| last_word)
                .and_then(|stated| stated.reported_cost),
            output_bytes: self.output_bytes,
        }
    }
}
