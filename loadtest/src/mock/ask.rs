//! What a call asks of the mock, as far as an answer depends on it.
//!
//! It knows where the dialects put their bounds and their model, and how many tokens an answer
//! counts. In which fields those are stated is each dialect's own business.

use serde_json::Value;

use super::openai::flavour::Flavour;
use super::seen::Billed;
use super::steer::Steering;
use super::toolcall::ToolCall;

/// Where the dialects write how many tokens may come out.
const OUTPUT_BOUNDS: [&str; 9] = [
    "/max_completion_tokens",
    "/max_tokens",
    "/max_output_tokens",
    "/generationConfig/maxOutputTokens",
    "/generation_config/max_output_tokens",
    "/inferenceConfig/maxTokens",
    "/textGenerationConfig/maxTokenCount",
    "/max_gen_len",
    "/options/num_predict",
];

/// One call to answer.
pub(crate) struct Ask<'a> {
    pub(crate) serial: u64,
    /// The model that the path names.
    pub(crate) model_in_path: Option<&'a str>,
    pub(crate) flavour: &'static Flavour,
    pub(crate) body: &'a Value,
    pub(crate) steering: &'a Steering,
    pub(crate) text: String,
}

/// Tokens as they are told by the steering, before a dialect adds some of them up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) cache_write: u64,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
}

impl Counts {
    /// What is billed where the input contains what was cached, and the output the reasoning.
    pub(crate) fn inclusive(self) -> Billed {
        Billed {
            input: self.input,
            cached: self.cached,
            cache_write: self.cache_write,
            output: self.output,
            reasoning: self.reasoning,
            ..Billed::default()
        }
    }

    /// What is billed where cache reads and writes come on top of the input.
    pub(crate) fn beside_cache(self) -> Billed {
        Billed {
            input: self.input + self.cached + self.cache_write,
            ..self.inclusive()
        }
    }

    /// What is billed where the reasoning comes on top of the output.
    pub(crate) fn beside_reasoning(self) -> Billed {
        Billed {
            output: self.output + self.reasoning,
            ..self.inclusive()
        }
    }

    /// What is billed where nothing comes out that counts.
    pub(crate) fn input_only(self) -> Billed {
        Billed {
            input: self.input,
            ..Billed::default()
        }
    }
}

impl Ask<'_> {
    /// The model in path or body.
    pub(crate) fn model_or<'b>(&'b self, default: &'b str) -> &'b str {
        let in_body = self.body.get("model").and_then(Value::as_str);
        self.model_in_path.or(in_body).unwrap_or(default)
    }

    /// The model in path or body, else one of OpenAI's.
    pub(crate) fn model(&self) -> &str {
        self.model_or("gpt-4o-mini")
    }

    /// Whether the body asks for a stream; a form says so in words.
    pub(crate) fn streams(&self) -> bool {
        match self.body.get("stream") {
            Some(Value::Bool(stream)) => *stream,
            Some(Value::String(word)) => word == "true",
            _ => false,
        }
    }

    /// The call of a tool that takes the place of the text.
    pub(crate) fn tool_call(&self) -> Option<ToolCall> {
        ToolCall::asked_by(self.body)
    }

    /// Tokens in and out. Without a word about it, the mock never produces more than was asked for.
    pub(crate) fn tokens(&self) -> (u64, u64) {
        self.steering.usage.unwrap_or_else(|| {
            let bound = OUTPUT_BOUNDS
                .iter()
                .filter_map(|place| self.body.pointer(place).and_then(Value::as_u64))
                .max();
            (10, bound.map_or(20, |bound| bound.min(20)))
        })
    }

    /// Every count.
    pub(crate) fn counts(&self) -> Counts {
        let (input, output) = self.tokens();
        Counts {
            input,
            cached: self.steering.cached,
            cache_write: self.steering.cache_write,
            output,
            reasoning: self.steering.reasoning,
        }
    }

    /// The answer's text in the pieces that a stream sends.
    pub(crate) fn pieces(&self) -> Vec<String> {
        pieces(&self.text, self.steering.chunks)
    }
}

/// Cuts a text into `count` pieces of about the same length, at character borders.
fn pieces(text: &str, count: Option<usize>) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let count = count.unwrap_or(4);
    (0..count)
        .map(|i| {
            let (from, to) = (i * letters.len() / count, (i + 1) * letters.len() / count);
            let piece: String = letters.get(from..to).unwrap_or_default().iter().collect();
            // A provider sends no empty piece.
            if piece.is_empty() {
                " ".to_owned()
            } else {
                piece
            }
        })
        .collect()
}
