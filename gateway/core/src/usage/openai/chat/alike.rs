//! Recognises a chunk that differs from the one before in nothing but its choices and its padding, as
//! most chunks of a stream do.
//!
//! It does not know what the rest says, only that it has been taken in before and states no usage.
//!
//! Worst case: no chunk is like the one before, and up to [`MAX_BYTES`] of each are copied in vain.

use std::ops::Range;

use crate::json::Glance;
use crate::usage::text::Choices;

/// The most that is noted of a chunk: several times what any provider writes around its choices.
const MAX_BYTES: usize = 4 * 1024;

/// What differs from chunk to chunk, by where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Places {
    pub(super) choices: Range<usize>,
    /// The text by which OpenAI hides how long the choices are; empty if there is none.
    pub(super) padding: Range<usize>,
}

/// The last chunk without what differs; empty if none is to be recognised.
#[derive(Debug, Default)]
pub(super) struct Alike {
    rest: Vec<u8>,
    /// Where in it the choices stood.
    choices: usize,
    /// Where in it the padding stood, at the end if there was none.
    padding: usize,
}

impl Alike {
    /// The choices of a chunk that is like the one noted; `None` says nothing about it.
    pub(super) fn choices_of(&self, chunk: &[u8]) -> Option<Choices> {
        let before = self.rest.get(..self.choices)?;
        if before.is_empty() {
            return None;
        }
        let mut glance = Glance::at_bytes(chunk.strip_prefix(before)?);
        let choices = Choices::glance(&mut glance)?;
        glance.verbatim(self.rest.get(self.choices..self.padding)?)?;
        let behind = self.rest.get(self.padding..)?;
        if !behind.is_empty() {
            glance.quoted()?;
            glance.verbatim(behind)?;
        }
        glance.end().map(|()| choices)
    }

    /// Notes a chunk of the usual shape.
    pub(super) fn note(&mut self, chunk: &[u8], places: Places) {
        self.forget();
        let Places { choices, padding } = places;
        let padding = if choices.end <= padding.start {
            padding
        } else {
            chunk.len()..chunk.len()
        };
        let parts = [
            chunk.get(..choices.start),
            chunk.get(choices.end..padding.start),
            chunk.get(padding.end..),
        ];
        let [before, between, behind] = parts.map(Option::unwrap_or_default);
        let padding = before.len().saturating_add(between.len());
        let length = padding.saturating_add(behind.len());
        if length <= MAX_BYTES {
            (self.choices, self.padding) = (before.len(), padding);
            self.rest.reserve(length);
            self.rest.extend_from_slice(before);
            self.rest.extend_from_slice(between);
            self.rest.extend_from_slice(behind);
        }
    }

    /// Recognises nothing until the next note.
    pub(super) fn forget(&mut self) {
        self.rest.clear();
        (self.choices, self.padding) = (0, 0);
    }
}
