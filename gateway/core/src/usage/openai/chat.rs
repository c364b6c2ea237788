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

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Account, Stated};
use crate::policy::Operation;
use crate::usage::text::{Choices, Count, Text, part};
use crate::usage::{Reading, Usage, tally};

/// What one answer has said so far.
#[derive(Debug)]
pub(in crate::usage) struct Chat {
    account: Account,
    finished: bool,
    has_output: bool,
}

/// A chunk, or a plain answer.
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
            finished: false,
            has_output: operation != Operation::Embeddings,
        }
    }

    fn take(&mut self, chunk: &Chunk<'_>) {
        self.account.name(&chunk.model, &chunk.service_tier);
        self.finished |= chunk.choices.finished;
        self.account.generated(chunk.choices.text);
        let groq = || part::<XGroq<'_>>(chunk.x_groq)?.usage;
        if let Some(usage) = chunk.usage.or_else(groq) {
            self.account.state(Stated::read(usage));
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
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            self.account.unread(data.len());
            return false;
        };
        self.take(&chunk);
        let alone = chunk.choices.empty && chunk.usage.is_some();
        if alone && self.finished {
            self.account.end();
        }
        alone
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Ok(body) = serde_json::from_slice::<Chunk<'_>>(bytes) {
            self.take(&body);
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
