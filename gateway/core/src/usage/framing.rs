//! Decides how an answer is cut into pieces, and cuts it.
//!
//! It does not know what the pieces say. Cutters keep the unfinished piece at the end of what has
//! passed, and nothing else of the stream.
//!
//! Worst case: a piece longer than the bound is handed on in parts, unread.

use std::borrow::Cow;

use super::aws_events::Frames;
use super::json_array::Elements;
use super::lines::Lines;
use super::sse::Events;
use crate::policy::Operation;

/// The largest piece of a stream that is read.
const MAX_PIECE_BYTES: usize = 1024 * 1024;
/// The same where the last event repeats the whole answer, or carries an image.
const MAX_LAST_EVENT_BYTES: usize = 8 * 1024 * 1024;

/// How an answer is cut into readable pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// One document, read when it is whole. JSON arrays of Gemini's streams are cut into elements.
    Document,
    /// Server-sent events.
    Events,
    /// One JSON document per line: Ollama's streams, batch results.
    Lines,
    /// Amazon's binary event stream.
    AwsEvents,
    /// Plain text that states nothing and is never read: transcripts, subtitles.
    Text,
}

impl Framing {
    /// The framing of an answer by its content type. One that does not say what it is, is believed
    /// to be what was asked for.
    #[must_use]
    pub fn of(operation: Operation, content_type: Option<&[u8]>, stream_asked: bool) -> Self {
        let is = |kind: &str| {
            content_type.is_some_and(|given| {
                let essence = given.split(|&byte| byte == b';').next().unwrap_or(given);
                essence.trim_ascii().eq_ignore_ascii_case(kind.as_bytes())
            })
        };
        match operation {
            Operation::BatchOutput | Operation::MessageBatchResults => Self::Lines,
            _ if is("text/event-stream") => Self::Events,
            _ if is("application/vnd.amazon.eventstream") => Self::AwsEvents,
            _ if is("application/x-ndjson") || is("application/stream+json") => Self::Lines,
            // What was said on a recording could else pass for the provider's word.
            Operation::Transcriptions if is_text(content_type) => Self::Text,
            Operation::OllamaChat if stream_asked => Self::Lines,
            Operation::Converse | Operation::InvokeModel
                if content_type.is_none() && stream_asked =>
            {
                Self::AwsEvents
            }
            _ if content_type.is_none() && stream_asked => Self::Events,
            _ => Self::Document,
        }
    }
}

fn is_text(content_type: Option<&[u8]>) -> bool {
    content_type
        .and_then(|given| given.trim_ascii_start().get(..5))
        .is_some_and(|start| start.eq_ignore_ascii_case(b"text/"))
}

/// A stretch of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole event or line.
    Whole {
        /// The bytes as they came.
        bytes: &'a [u8],
        /// What is to be read of them, freed from the framing.
        data: Cow<'a, [u8]>,
    },
    /// Part of a piece that is too long to be read.
    Oversized(&'a [u8]),
}

impl<'a> Piece<'a> {
    /// The bytes as they came.
    pub(super) fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Whole { bytes, .. } | Self::Oversized(bytes) => bytes,
        }
    }
}

/// Cuts a stream into pieces that together are the stream.
#[derive(Debug)]
pub(super) enum Cutter {
    Events(Events),
    Lines(Lines),
    AwsEvents(Frames),
    Elements(Elements),
}

impl Cutter {
    /// The cutter of an answer; `None` if it is to be read as one document.
    pub(super) fn new(operation: Operation, framing: Framing) -> Option<Self> {
        let max_bytes = match operation {
            Operation::Responses
            | Operation::ImageGenerations
            | Operation::ImageEdits
            | Operation::GenerateContent => MAX_LAST_EVENT_BYTES,
            _ => MAX_PIECE_BYTES,
        };
        match framing {
            Framing::Document if operation == Operation::GenerateContent => {
                Some(Self::Elements(Elements::new(max_bytes)))
            }
            Framing::Document | Framing::Text => None,
            Framing::Events => Some(Self::Events(Events::new(max_bytes))),
            Framing::Lines => Some(Self::Lines(Lines::new(max_bytes))),
            Framing::AwsEvents => Some(Self::AwsEvents(Frames::default())),
        }
    }

    /// Whether bytes are kept that belong to no finished piece.
    pub(super) fn holds(&self) -> bool {
        match self {
            Self::Events(events) => events.holds(),
            Self::Lines(lines) => lines.holds(),
            Self::AwsEvents(frames) => frames.holds(),
            Self::Elements(elements) => elements.holds(),
        }
    }

    /// Hands on every piece that `bytes` completes, in order.
    pub(super) fn feed(&mut self, bytes: &[u8], piece: impl FnMut(Piece<'_>)) {
        match self {
            Self::Events(events) => events.feed(bytes, piece),
            Self::Lines(lines) => lines.feed(bytes, piece),
            Self::AwsEvents(frames) => frames.feed(bytes, piece),
            Self::Elements(elements) => elements.feed(bytes, piece),
        }
    }

    /// Hands on what is kept, if anything: the stream is over.
    pub(super) fn end(&mut self, piece: impl FnMut(Piece<'_>)) {
        match self {
            Self::Events(events) => events.end(piece),
            Self::Lines(lines) => lines.end(piece),
            Self::AwsEvents(frames) => frames.end(piece),
            Self::Elements(elements) => elements.end(piece),
        }
    }

    /// Whether the framing broke, so that nobody knows what came after.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::AwsEvents(frames) if frames.is_broken())
    }
}
