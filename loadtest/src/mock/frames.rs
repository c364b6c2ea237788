//! How events are written down: server-sent events, JSON lines, a JSON array, Amazon's binary frames.
//!
//! It knows no event. Source of the binary form: AWS, "Event stream encoding": a prelude (total
//! length, length of the headers, CRC-32), the headers, the payload, CRC-32 over everything before.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::lies;

/// One thing a stream says.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// An event with its name, which not every form writes down.
    Named(&'static str, Value),
    /// Bytes that are no event: comments and end marks.
    Verbatim(&'static str),
}

/// How events become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// `data: ...`
    Data,
    /// `event: name`, then `data: ...`
    NamedData,
    /// A line of JSON each.
    Lines,
    /// One JSON array that grows.
    Array,
    /// Amazon's binary frames, named by a header.
    Amazon,
    /// The same, each event in base64 as the `bytes` of a `chunk`.
    AmazonChunks,
}

impl Framing {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Data | Self::NamedData => "text/event-stream; charset=utf-8",
            Self::Lines => "application/x-ndjson",
            Self::Array => "application/json; charset=UTF-8",
            Self::Amazon | Self::AmazonChunks => "application/vnd.amazon.eventstream",
        }
    }

    /// The events as bytes, each for itself.
    pub(crate) fn write(self, events: &[Event]) -> Vec<Bytes> {
        let mut written: Vec<Bytes> = events
            .iter()
            .enumerate()
            .map(|(index, event)| self.write_one(index, event))
            .collect();
        if self == Self::Array {
            written.push(Bytes::from_static(b"]"));
        }
        written
    }

    /// One event as bytes, if it stands at `index`.
    pub(crate) fn write_one(self, index: usize, event: &Event) -> Bytes {
        let (name, body) = match event {
            Event::Named(name, body) => (*name, body),
            Event::Verbatim(text) => return Bytes::from_static(text.as_bytes()),
        };
        let text = lies::text(body);
        match self {
            Self::Data => format!("data: {text}\n\n").into(),
            Self::NamedData => format!("event: {name}\ndata: {text}\n\n").into(),
            Self::Lines => format!("{text}\n").into(),
            Self::Array if index == 0 => format!("[{text}\n").into(),
            Self::Array => format!(",\n{text}\n").into(),
            Self::Amazon => frame(name, text.as_bytes()),
            Self::AmazonChunks => {
                let chunk = json!({"bytes": STANDARD.encode(&text), "p": "abcdefghij"});
                frame("chunk", chunk.to_string().as_bytes())
            }
        }
    }
}

/// One binary frame. Names that end in `Exception` are Amazon's errors.
fn frame(name: &str, payload: &[u8]) -> Bytes {
    let (kind, kind_header) = if name.ends_with("Exception") {
        ("exception", ":exception-type")
    } else {
        ("event", ":event-type")
    };
    let mut headers = Vec::new();
    for (header, value) in [
        (kind_header, name),
        (":content-type", "application/json"),
        (":message-type", kind),
    ] {
        headers.extend(u8::try_from(header.len()).unwrap_or(u8::MAX).to_be_bytes());
        headers.extend(header.as_bytes());
        // Type 7: text, its length in two bytes.
        headers.push(7);
        headers.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        headers.extend(value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::new();
    frame.extend(length(headers.len() + payload.len() + 16));
    frame.extend(length(headers.len()));
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(headers);
    frame.extend(payload);
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.into()
}
