//! Which reader understands an operation's answers, and what every reader can do.

use std::fmt::Debug;

use super::{Reading, anthropic, openai};
use crate::policy::Operation;

/// What one answer has said so far, in one dialect.
pub(super) trait Tally: Debug + Send + Sync {
    /// Reads the data of an event, a line or an element. True if it carries nothing but usage.
    fn event(&mut self, data: &[u8]) -> bool;

    /// Reads what is kept of a plain answer.
    fn body(&mut self, bytes: &[u8]);

    /// Notes that so many bytes passed whose text was not measured.
    fn unread(&mut self, bytes: usize);

    /// Whether usage follows from lists directly under the top level of a plain answer, such as
    /// fees for the items of `output`. Otherwise these are left out as they pass.
    fn reads_lists(&self) -> bool {
        false
    }

    /// What the answer said.
    fn finish(self: Box<Self>) -> Reading;
}

/// The reader of an operation's answers; `None` where they state no usage.
pub(super) fn of(operation: Operation) -> Option<Box<dyn Tally>> {
    Some(match operation {
        Operation::ChatCompletions | Operation::Responses | Operation::Embeddings => {
            Box::new(openai::Tally::new(operation))
        }
        Operation::Messages => Box::new(anthropic::Tally::default()),
        _ => return None,
    })
}
