//! Reads an answer to its end: when its first byte came, its events, what usage it states.
//!
//! It looks at an event's name and end mark and at usage, at nothing else. Worst case: one event, and
//! the first [`LOOKED_AT`] bytes of a plain answer, are held in memory.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use memchr::{memchr, memmem};
use serde::Deserialize;

use super::dialect::{Dialect, Meaning};
use super::outcome::{Failure, Usage};

/// Bytes of a plain answer in which usage is looked for.
const LOOKED_AT: usize = 4 << 20;

/// What an answer's body was.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) first_byte: Option<Instant>,
    pub(super) events: u64,
    pub(super) gaps: Vec<Duration>,
    pub(super) bytes: u64,
    pub(super) usage: Option<Usage>,
    pub(super) failure: Option<Failure>,
}

/// Reads a plain answer.
pub(super) async fn plain(mut body: Incoming) -> Read {
    let mut read = Read::default();
    // Most answers are one frame, which needs no copy.
    let mut first = Bytes::new();
    let mut rest = Vec::new();
    while let Some(data) = read.next(&mut body).await {
        if first.is_empty() {
            first = data;
        } else if first.len() + rest.len() + data.len() <= LOOKED_AT {
            rest.extend_from_slice(&data);
        }
    }
    if read.failure.is_none() {
        let whole = if rest.is_empty() {
            first
        } else {
            [&first[..], &rest].concat().into()
        };
        read.usage = usage(&whole);
    }
    read
}

/// Reads a stream of server-sent events.
pub(super) async fn stream(mut body: Incoming, dialect: Dialect) -> Read {
    let mut read = Read::default();
    let mut events = Events::default();
    let mut meaning = Meaning::More;
    let mut last: Option<Instant> = None;
    while let Some(data) = read.next(&mut body).await {
        let now = Instant::now();
        let (count, gaps, told) = (&mut read.events, &mut read.gaps, &mut read.usage);
        events.feed(&data, |name, data| {
            *count += 1;
            if let Some(last) = last {
                gaps.push(now - last);
            }
            last = Some(now);
            if meaning == Meaning::More {
                meaning = dialect.meaning(name, data);
            }
            if let Some(more) = usage(data) {
                let sum = told.get_or_insert_default();
                // Counts of later events take in those of earlier ones.
                sum.input = sum.input.max(more.input);
                sum.output = sum.output.max(more.output);
            }
        });
    }
    read.failure = match meaning {
        Meaning::Error => Some(Failure::ErrorEvent),
        // What follows the end mark is of no use to anybody.
        Meaning::End => None,
        Meaning::More => read.failure.or(Some(Failure::WrongEnd)),
    };
    read
}

impl Read {
    /// The next bytes; nothing at the end, be it right or broken.
    async fn next(&mut self, body: &mut Incoming) -> Option<Bytes> {
        loop {
            match body.frame().await? {
                Ok(frame) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if data.is_empty() {
                        continue;
                    }
                    self.first_byte.get_or_insert_with(Instant::now);
                    self.bytes += data.len() as u64;
                    return Some(data);
                }
                Err(_broken) => {
                    self.failure = Some(Failure::BrokenBody);
                    return None;
                }
            }
        }
    }
}

/// The usage that some JSON states; nothing if it states none.
fn usage(json: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Counts {
        prompt_tokens: Option<u64>,
        completion_tokens: Option<u64>,
        input_tokens: Option<u64>,
        output_tokens: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Inner {
        usage: Option<Counts>,
    }
    /// Usage stands at the top, in Anthropic's first event in its message, in OpenAI's last in its response.
    #[derive(Deserialize)]
    struct Told {
        usage: Option<Counts>,
        message: Option<Inner>,
        response: Option<Inner>,
    }
    memmem::find(json, b"\"usage\"")?;
    let told: Told = serde_json::from_slice(json).ok()?;
    let inner = || told.message.or(told.response)?.usage;
    let counts = told.usage.or_else(inner)?;
    Some(Usage {
        input: counts.input_tokens.or(counts.prompt_tokens).unwrap_or(0),
        output: counts
            .output_tokens
            .or(counts.completion_tokens)
            .unwrap_or(0),
    })
}

/// Takes server-sent events out of bytes, however those are cut.
///
/// Source: WHATWG, "HTML", section 9.2.6. Lines that end in a single carriage return are not told
/// apart: no provider sends them.
#[derive(Debug, Default)]
struct Events {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
}

impl Events {
    fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], &[u8])) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.line(line, &mut each);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.line(&whole, &mut each);
            }
        }
        self.line.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8], each: &mut impl FnMut(&[u8], &[u8])) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if self.has_data {
                each(&self.name, &self.data);
            }
            self.name.clear();
            self.data.clear();
            self.has_data = false;
            return;
        }
        let colon = memchr(b':', line).unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut events = Events::default();
        for piece in pieces {
            events.feed(piece, |name, data| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                found.push((text(name), text(data)));
            });
        }
        found
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let stream = b": hello\n\nevent: a\r\ndata: 1\r\n\r\ndata:2\ndata: 3\nid: 4\n\nevent: b\n\ndata\n\ndata: cut";
        let whole = events(&[stream]);
        let text = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        assert_eq!(whole, [text("a", "1"), text("", "2\n3"), text("", "")]);
        for at in 0..stream.len() {
            let (first, second) = stream.split_at(at);
            assert_eq!(events(&[first, second]), whole, "cut at {at}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&bytes), whole);
    }

    #[test]
    fn usage_is_found_where_each_provider_states_it() {
        let some = |input, output| Some(Usage { input, output });
        for (json, expected) in [
            (
                r#"{"usage":{"prompt_tokens":5,"completion_tokens":7}}"#,
                some(5, 7),
            ),
            (
                r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}"#,
                some(5, 1),
            ),
            (
                r#"{"type":"message_delta","usage":{"output_tokens":7}}"#,
                some(0, 7),
            ),
            (
                r#"{"response":{"usage":{"input_tokens":5,"output_tokens":7}}}"#,
                some(5, 7),
            ),
            (r#"{"usage":null}"#, None),
            (r#"{"choices":[]}"#, None),
            (r#"{"usage":"#, None),
        ] {
            assert_eq!(usage(json.as_bytes()), expected, "{json}");
        }
    }
}
