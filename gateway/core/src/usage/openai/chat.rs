//! Usage in chat completions, text completions and embeddings.
//!
//! - Streams state usage in one last chunk with empty `choices`, if they were asked to. Compatible
//!   servers put it on the chunk that finishes (Mistral), into `x_groq` there (Groq), on any late
//!   chunk (xAI, OpenRouter), or on every chunk (vLLM): the last one counts. It is final once the
//!   stream says `[DONE]`, or in a chunk of its own after a finished choice.
//! - Embeddings have no output; some servers state only the total.
//!
//! Source: OpenAI API reference, "Chat completion chunk object"; Groq API reference, `x_groq`;
//! vLLM, `continuous_usage_stats`.

mod alike;

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Account, Stated};
use crate::json::{Glance, once};
use crate::policy::Operation;
use crate::usage::text::{Choices, Count, Text, part};
use crate::usage::{Reading, Usage, tally};
use alike::{Alike, Places};

/// What one answer has said so far.
#[derive(Debug)]
pub(in crate::usage) struct Chat {
    account: Account,
    alike: Alike,
    finished: bool,
    has_output: bool,
}

/// What a chunk, or a plain answer, says.
#[derive(Debug, PartialEq, Eq)]
struct Said<'a> {
    model: Text<'a>,
    service_tier: Text<'a>,
    choices: Choices,
    usage: Option<Stated>,
    /// Whether the usage stands where Groq puts it.
    of_groq: bool,
}

impl<'a> Said<'a> {
    /// Reads a chunk of the usual shape in one pass, and says where in it stands what differs from
    /// chunk to chunk; `None` says nothing about it.
    fn at_a_glance(bytes: &'a [u8], lists: Lists) -> Option<(Self, Places)> {
        let mut glance = Glance::at_bytes(bytes);
        let (mut model, mut service_tier) = (None, None);
        let (mut choices, mut stated) = (None, None);
        let (mut usage, mut padding) = (None, 0..0);
        glance.object(|value, name| match name {
            b"model" => once(&mut model, Text::glance(value)?),
            b"service_tier" => once(&mut service_tier, Text::glance(value)?),
            b"choices" => once(&mut choices, lists.read(value)?),
            b"usage" => {
                once(&mut stated, ())?;
                read_usage(value, bytes, &mut usage)
            }
            b"x_groq" => None,
            b"obfuscation" if value.peek()? == b'"' => {
                padding = value.span()?;
                Some(())
            }
            _ => value.skip(),
        })?;
        glance.end()?;
        let (choices, place) = choices.unwrap_or_default();
        let places = Places {
            choices: place,
            padding,
        };
        let said = Self {
            model: model.unwrap_or_default(),
            service_tier: service_tier.unwrap_or_default(),
            choices,
            usage,
            of_groq: false,
        };
        Some((said, places))
    }

    /// Reads any chunk; `None` if it is none.
    fn with_care(bytes: &'a [u8]) -> Option<Self> {
        let chunk: Chunk<'a> = serde_json::from_slice(bytes).ok()?;
        let groq = || part::<XGroq<'_>>(chunk.x_groq)?.usage;
        let usage = chunk.usage.or_else(groq);
        Some(Self {
            model: chunk.model,
            service_tier: chunk.service_tier,
            choices: chunk.choices,
            usage: usage.map(|usage| Stated::with_care(usage.get())),
            of_groq: chunk.usage.is_none() && usage.is_some(),
        })
    }
}

/// Reads what is stated next in `bytes`: mostly nothing, or usage of the usual shape.
fn read_usage(glance: &mut Glance<'_>, bytes: &[u8], usage: &mut Option<Stated>) -> Option<()> {
    match glance.peek()? {
        b'n' => return glance.skip(),
        // Of a plain answer such a list is left out.
        b'[' => return None,
        _ => {}
    }
    let mut ahead = glance.clone();
    *usage = Stated::glance(&mut ahead);
    if usage.is_some() {
        *glance = ahead;
    } else {
        let written = bytes.get(glance.span()?)?;
        *usage = Some(Stated::with_care(str::from_utf8(written).ok()?));
    }
    Some(())
}

/// What becomes of the choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// Their text is counted.
    Count,
    /// They are passed over: the bytes of the answer stand for its text.
    Skip,
}

impl Lists {
    /// Reads the choices that come next, and says where they stand.
    fn read(self, glance: &mut Glance<'_>) -> Option<(Choices, Range<usize>)> {
        glance.peek()?;
        let start = glance.passed();
        let choices = match self {
            Self::Count => Choices::glance(glance)?,
            Self::Skip => glance.skip().map(|()| Choices::default())?,
        };
        Some((choices, start..glance.passed()))
    }
}

/// A chunk, or a plain answer, as it is written.
#[derive(Debug, Deserialize)]
struct Chunk<'a> {
    #[serde(default, borrow)]
    model: Text<'a>,
    #[serde(default, borrow)]
    service_tier: Text<'a>,
    #[serde(default)]
    choices: Choices,
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
    #[serde(default, borrow)]
    x_groq: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct XGroq<'a> {
    #[serde(default, borrow)]
    usage: Option<&'a RawValue>,
}

impl Chat {
    pub(in crate::usage) fn new(operation: Operation) -> Self {
        Self {
            account: Account::default(),
            alike: Alike::default(),
            finished: false,
            has_output: operation != Operation::Embeddings,
        }
    }

    /// Reads a chunk; `None` if it is none.
    fn read<'a>(&mut self, data: &'a [u8]) -> Option<Said<'a>> {
        let Some((said, places)) = Said::at_a_glance(data, Lists::Count) else {
            self.alike.forget();
            return Said::with_care(data);
        };
        if said.usage.is_none() {
            self.alike.note(data, places);
        } else {
            self.alike.forget();
        }
        Some(said)
    }

    fn hear(&mut self, choices: Choices) {
        self.finished |= choices.finished;
        self.account.generated(choices.text);
    }

    fn take(&mut self, said: &Said<'_>) {
        self.account.name(&said.model, &said.service_tier);
        self.hear(said.choices);
        if let Some(usage) = said.usage {
            self.account.state(usage);
        }
    }
}

/// Usage of a call that only takes tokens.
pub(in crate::usage) fn judge_input(stated: &Stated) -> Option<(Usage, bool)> {
    let mut stated = *stated;
    stated.input = stated.input.or(stated.total);
    stated.input.0?;
    Some((stated.normal().consistent(), true))
}

/// Usage of a call that takes tokens and makes tokens.
pub(super) fn judge_tokens(stated: &Stated) -> Option<(Usage, bool)> {
    let usage = stated.normal().consistent();
    match (stated.input, stated.output) {
        (Count(None), Count(None)) => None,
        (Count(input), Count(output)) => Some((usage, input.is_some() && output.is_some())),
    }
}

impl tally::Tally for Chat {
    fn event(&mut self, data: &[u8]) -> bool {
        match data {
            b"" => return false,
            b"[DONE]" => {
                self.account.end();
                return false;
            }
            _ => {}
        }
        if let Some(choices) = self.alike.choices_of(data) {
            self.hear(choices);
            return false;
        }
        let Some(said) = self.read(data) else {
            self.account.unread(data.len());
            return false;
        };
        self.take(&said);
        let alone = said.choices.empty && said.usage.is_some() && !said.of_groq;
        if alone && self.finished {
            self.account.end();
        }
        alone
    }

    fn glance(&mut self, bytes: &[u8]) -> bool {
        let said = Said::at_a_glance(bytes, Lists::Skip);
        if let Some((said, _places)) = &said {
            self.take(said);
            self.account.end();
        }
        said.is_some()
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Some(said) = Said::with_care(bytes) {
            self.take(&said);
            self.account.end();
        }
    }

    fn unread(&mut self, bytes: usize) {
        self.account.unread(bytes);
    }

    fn finish(self: Box<Self>) -> Reading {
        self.account.reading(if self.has_output {
            judge_tokens
        } else {
            judge_input
        })
    }
}

#[cfg(test)]
mod tests;
