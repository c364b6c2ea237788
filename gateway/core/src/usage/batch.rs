//! What the later answers about deferred work say: ids, results, and how a batch ended.
//!
//! [`Results`] cuts a file of results into its lines and reads each as the answer of one call.
//! The other functions read the small documents that begin such work or tell how it stands. It
//! knows neither prices nor which work an answer belongs to.
//!
//! Worst case: a line longer than [`MAX_LINE_BYTES`], or one that is no result, is
//! [`Line::Unread`]; what the whole cost is then not known.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::framing::Piece;
use super::lines::Lines;
use super::{Framing, Meter, Metered, Reading};
use crate::policy::Operation;

/// The longest line that is read: no result is longer than the longest plain answer.
const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// What one line of a file of results says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// The answer to a call that was made.
    Used(Box<Reading>),
    /// A call that failed or was never made: providers bill none of these.
    Unbilled,
    /// Not to be understood.
    Unread,
}

/// Reads a file of results as it passes, line by line.
#[derive(Debug)]
pub struct Results {
    operation: Operation,
    lines: Lines,
}

impl Results {
    /// A reader of [`Operation::BatchOutput`] or [`Operation::MessageBatchResults`].
    #[must_use]
    pub fn new(operation: Operation) -> Self {
        Self {
            operation,
            lines: Lines::new(MAX_LINE_BYTES),
        }
    }

    /// Takes in the next bytes and hands on every line that ends in them.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Line)) {
        let Self { operation, lines } = self;
        lines.feed(bytes, |piece| read_piece(*operation, &piece, &mut each));
    }

    /// The file is over: its last line may have no end.
    pub fn finish(mut self, mut each: impl FnMut(Line)) {
        let operation = self.operation;
        self.lines
            .end(|piece| read_piece(operation, &piece, &mut each));
    }
}

fn read_piece(operation: Operation, piece: &Piece<'_>, each: &mut impl FnMut(Line)) {
    match piece {
        Piece::Whole { data, .. } if data.is_empty() => {}
        Piece::Whole { data, .. } => each(read_line(operation, data)),
        Piece::Oversized(_) => each(Line::Unread),
    }
}

/// A line of OpenAI's output file.
#[derive(Deserialize)]
struct OutputLine<'a> {
    #[serde(borrow, default)]
    response: Option<OutputResponse<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputResponse<'a> {
    status_code: u16,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// A line of Anthropic's results.
#[derive(Deserialize)]
struct ResultLine<'a> {
    #[serde(borrow)]
    result: MessageResult<'a>,
}

#[derive(Deserialize)]
struct MessageResult<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

fn read_line(operation: Operation, line: &[u8]) -> Line {
    if operation == Operation::MessageBatchResults {
        return match serde_json::from_slice::<ResultLine<'_>>(line) {
            Ok(ResultLine { result }) => match (&*result.kind, result.message) {
                ("succeeded", Some(message)) => read_answer(Operation::Messages, message),
                ("errored" | "canceled" | "expired", _) => Line::Unbilled,
                _ => Line::Unread,
            },
            Err(_) => Line::Unread,
        };
    }
    let Ok(OutputLine { response, error }) = serde_json::from_slice(line) else {
        return Line::Unread;
    };
    match (response, error) {
        (Some(response), _) if (200..300).contains(&response.status_code) => {
            read_body(response.body)
        }
        (None, None) => Line::Unread,
        _ => Line::Unbilled,
    }
}

/// What tells one endpoint's answer from another's: the line does not name its endpoint.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    object: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    results: Option<&'a RawValue>,
}

fn read_body(body: &RawValue) -> Line {
    let Ok(kind) = serde_json::from_str::<Body<'_>>(body.get()) else {
        return Line::Unread;
    };
    let operation = match kind.object.as_deref() {
        Some("response") => Operation::Responses,
        Some("list") => Operation::Embeddings,
        Some("text_completion") => Operation::Completions,
        Some(_) => Operation::ChatCompletions,
        // Moderations are free and say nothing of usage.
        None if kind.usage.is_none() && kind.results.is_some() => return Line::Unbilled,
        None => Operation::ImageGenerations,
    };
    read_answer(operation, body)
}

fn read_answer(operation: Operation, body: &RawValue) -> Line {
    let mut meter = Meter::new(operation, Framing::Document, false);
    // Nothing is withheld from a document.
    let _unchanged = meter.feed(body.get().as_bytes());
    let reading = meter.finish();
    match reading.metered {
        Metered::Exact(_) => Line::Used(Box::new(reading)),
        Metered::Partial(_) | Metered::Unknown => Line::Unread,
    }
}

/// The id that the answer to an upload, or to the start of a batch or a background response, gives.
#[must_use]
pub fn begun_id(document: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Begun {
        id: String,
    }
    let begun: Begun = serde_json::from_slice(document).ok()?;
    Some(begun.id)
}

/// Whether the stream of a background response has named its id yet, and which.
///
/// `None` while the first event has not ended; `Some(None)` if it names none.
#[must_use]
pub fn streamed_id(stream: &[u8]) -> Option<Option<String>> {
    #[derive(Deserialize)]
    struct Event {
        response: Begun,
    }
    #[derive(Deserialize)]
    struct Begun {
        id: String,
    }
    let text = String::from_utf8_lossy(stream);
    let text = text.replace("\r\n", "\n");
    let (event, _) = text.trim_start_matches('\n').split_once("\n\n")?;
    let data: Vec<&str> = event
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .collect();
    let event: Result<Event, _> = serde_json::from_str(&data.join("\n"));
    Some(event.ok().map(|event| event.response.id))
}

/// How a batch stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchState {
    /// The batch.
    pub id: String,
    /// The file with its results, once there is one.
    pub output_file: Option<String>,
    /// How many calls it has completed, each a line of that file.
    pub completed: u64,
    /// It is over and nothing in it was completed, so that nothing is billed.
    pub came_to_nothing: bool,
}

#[derive(Deserialize)]
struct Batch<'a> {
    id: String,
    /// OpenAI's.
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
    /// Anthropic's.
    #[serde(borrow, default)]
    processing_status: Option<Cow<'a, str>>,
    #[serde(default)]
    output_file_id: Option<String>,
    #[serde(default)]
    request_counts: Option<RequestCounts>,
}

/// How many calls a provider has made, in OpenAI's word or in Anthropic's.
#[derive(Deserialize, Default)]
#[serde(default)]
struct RequestCounts {
    completed: Option<u64>,
    succeeded: Option<u64>,
}

impl From<Batch<'_>> for BatchState {
    fn from(batch: Batch<'_>) -> Self {
        let counts = batch.request_counts.unwrap_or_default();
        let nothing_done = match (batch.status.as_deref(), batch.processing_status.as_deref()) {
            (Some("completed" | "failed" | "expired" | "cancelled"), None) => {
                counts.completed == Some(0)
            }
            (None, Some("ended")) => counts.succeeded == Some(0),
            _ => false,
        };
        let output_file = batch.output_file_id.filter(|id| !id.is_empty());
        Self {
            id: batch.id,
            completed: counts.completed.unwrap_or(0),
            came_to_nothing: nothing_done && output_file.is_none(),
            output_file,
        }
    }
}

/// The batch, or the batches of a list, that a document tells of.
#[must_use]
pub fn batch_states(document: &[u8]) -> Vec<BatchState> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        data: Vec<Batch<'a>>,
    }
    if let Ok(batch) = serde_json::from_slice::<Batch<'_>>(document) {
        return vec![batch.into()];
    }
    serde_json::from_slice::<List<'_>>(document)
        .map(|list| list.data.into_iter().map(BatchState::from).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
