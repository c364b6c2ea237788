//! Which reader understands an operation's answers, and what every reader can do.

use std::fmt::Debug;

use http::HeaderMap;

use super::{
    Framing, Reading, anthropic, bedrock, cohere, embed_content, gemini, invoke_model, ocr, ollama,
    openai,
};
use crate::policy::Operation;

/// What one answer has said so far, in one dialect.
pub(super) trait Tally: Debug + Send + Sync {
    /// Reads the data of an event, a line or an element. True if it carries nothing but usage.
    fn event(&mut self, data: &[u8]) -> bool;

    /// Reads a whole plain answer in one pass if it has the usual shape. False if it has not; then
    /// nothing was read.
    fn glance(&mut self, _bytes: &[u8]) -> bool {
        false
    }

    /// Reads what is kept of a plain answer.
    fn body(&mut self, bytes: &[u8]);

    /// Notes that so many bytes passed whose text was not measured.
    fn unread(&mut self, bytes: usize);

    /// Reads the head of the answer, which comes before the rest if at all.
    fn heed(&mut self, _headers: &HeaderMap) {}

    /// Whether usage follows from lists directly under the top level of a plain answer, such as
    /// fees for the items of `output`. Otherwise these are left out as they pass.
    fn reads_lists(&self) -> bool {
        false
    }

    /// What the answer said.
    fn finish(self: Box<Self>) -> Reading;
}

/// The reader of an operation's answers; `None` where they state no usage.
pub(super) fn of(operation: Operation, framing: Framing) -> Option<Box<dyn Tally>> {
    Some(match operation {
        Operation::ChatCompletions | Operation::Completions | Operation::Embeddings => {
            Box::new(openai::Chat::new(operation))
        }
        Operation::Responses => Box::new(openai::Responses::default()),
        Operation::ImageGenerations | Operation::ImageEdits | Operation::Transcriptions => {
            Box::new(openai::Media::new(operation))
        }
        Operation::Speech if framing == Framing::Events => Box::new(openai::Media::new(operation)),
        Operation::CohereChat | Operation::CohereEmbed | Operation::Rerank => {
            Box::new(cohere::Cohere::new(operation))
        }
        Operation::Ocr => Box::new(ocr::Ocr::default()),
        Operation::OllamaChat | Operation::OllamaEmbed => Box::new(ollama::Ollama::new(operation)),
        Operation::Messages => Box::new(anthropic::Tally::default()),
        Operation::GenerateContent => Box::new(gemini::Tally::default()),
        Operation::EmbedContent => Box::new(embed_content::Tally::default()),
        Operation::Converse => Box::new(bedrock::Tally::default()),
        Operation::InvokeModel => Box::new(invoke_model::Tally::default()),
        _ => return None,
    })
}
