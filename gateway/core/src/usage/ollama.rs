//! Usage in answers of Ollama's own interface.
//!
//! - Counts stand at the top level of the last line of a stream, or of the only answer: the one
//!   that says `done`.
//! - Some versions leave out `prompt_eval_count` where the prompt was cached; then the input is
//!   unknown. Loading a model says `done` with no counts at all.
//!
//! Source: Ollama API reference, "Generate a completion", "Generate a chat completion", "Generate
//! embeddings".

use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{Count, Text, TextBytes, part};
use super::{Metered, Reading, Usage, tally};
use crate::policy::Operation;

/// What one answer has said so far.
#[derive(Debug)]
pub(super) struct Ollama {
    has_output: bool,
    model: Option<String>,
    input: Count,
    output: Count,
    over: bool,
    output_bytes: u64,
}

/// A line of a stream, or a plain answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    model: Text<'a>,
    message: TextBytes,
    response: TextBytes,
    thinking: TextBytes,
    #[serde(borrow)]
    done: Option<&'a RawValue>,
    prompt_eval_count: Count,
    eval_count: Count,
}

impl Ollama {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            has_output: operation != Operation::OllamaEmbed,
            model: None,
            input: Count::default(),
            output: Count::default(),
            over: false,
            output_bytes: 0,
        }
    }

    fn take(&mut self, line: &Line<'_>) {
        line.model.put_into(&mut self.model);
        self.input = line.prompt_eval_count.or(self.input);
        self.output = line.eval_count.or(self.output);
        self.over = !self.has_output || part(line.done) == Some(true);
    }
}

impl tally::Tally for Ollama {
    fn event(&mut self, data: &[u8]) -> bool {
        if data.is_empty() {
            return false;
        }
        let Ok(line) = serde_json::from_slice::<Line<'_>>(data) else {
            self.unread(data.len());
            return false;
        };
        for TextBytes(bytes) in [line.message, line.response, line.thinking] {
            self.output_bytes = self.output_bytes.saturating_add(bytes);
        }
        self.take(&line);
        false
    }

    fn body(&mut self, bytes: &[u8]) {
        if let Ok(answer) = serde_json::from_slice::<Line<'_>>(bytes) {
            self.take(&answer);
        }
    }

    fn unread(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.output_bytes = self.output_bytes.saturating_add(bytes);
        self.over = false;
    }

    fn finish(self: Box<Self>) -> Reading {
        let usage = Usage {
            input_tokens: self.input.known(),
            output_tokens: self.output.known(),
            ..Usage::default()
        };
        let metered = match (self.input.0, self.output.0) {
            (None, None) => Metered::Unknown,
            (Some(_), Some(_)) if self.over => Metered::Exact(usage),
            (Some(_), None) if self.over && !self.has_output => Metered::Exact(usage),
            _ => Metered::Partial(usage),
        };
        Reading {
            metered,
            response_model: self.model,
            output_bytes: self.output_bytes,
            ..Reading::nothing()
        }
    }
}
