//! Cuts a server-sent event stream into events, however the bytes are split.
//!
//! Lines end in LF or CRLF. (The standard also allows a lone CR, which no provider sends; such a
//! stream is one long event here.) Source: WHATWG HTML, "Server-sent events", section 9.2.6.
//!
//! Worst case: an event longer than the bound is handed on in pieces, unread.

use std::borrow::Cow;

use super::framing::Piece;
use super::unfinished::Unfinished;

/// The unfinished event at the end of what has been fed so far.
#[derive(Debug)]
pub(super) struct Events {
    pending: Unfinished,
    line: Line,
}

/// What the current, unfinished line holds so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    /// Just a CR: blank if LF follows.
    Cr,
    Text,
}

impl Line {
    /// The line with `more` appended.
    fn with(self, more: &[u8]) -> Self {
        match (self, more) {
            (_, []) => self,
            (Self::Empty, [b'\r']) => Self::Cr,
            _ => Self::Text,
        }
    }
}

impl Events {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            pending: Unfinished::new(max_bytes),
            line: Line::Empty,
        }
    }

    /// Whether bytes are kept that belong to no finished event.
    pub(super) fn holds(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands on every piece that `bytes` completes, in order; together with what is kept, the
    /// pieces are the stream.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut piece: impl FnMut(Piece<'_>)) {
        while self.is_between_events()
            && let Some((event, rest)) = one_line(bytes)
        {
            piece(event);
            bytes = rest;
        }
        self.feed_lines(bytes, piece);
    }

    /// Whether nothing has come yet of the event that comes next.
    fn is_between_events(&self) -> bool {
        self.pending.is_idle() && self.line == Line::Empty
    }

    fn feed_lines(&mut self, bytes: &[u8], mut piece: impl FnMut(Piece<'_>)) {
        let mut event_start = 0;
        let mut line_start = 0;
        for newline in memchr::memchr_iter(b'\n', bytes) {
            let line = bytes.get(line_start..newline).unwrap_or_default();
            let blank = self.line.with(line) != Line::Text;
            self.line = Line::Empty;
            line_start = newline.saturating_add(1);
            if blank {
                let end = bytes.get(event_start..line_start).unwrap_or_default();
                self.pending.complete(end, whole, &mut piece);
                event_start = line_start;
            }
        }
        self.line = self.line.with(bytes.get(line_start..).unwrap_or_default());
        let rest = bytes.get(event_start..).unwrap_or_default();
        self.pending.keep(rest, &mut piece);
    }

    /// Hands on the unfinished event, if there is one.
    pub(super) fn end(&mut self, piece: impl FnMut(Piece<'_>)) {
        self.line = Line::Empty;
        self.pending.end(whole, piece);
    }
}

/// The event at the start of `bytes` and what follows it, if it is a single line of data, as most
/// are: then nothing has to be looked for but the end of that line.
fn one_line(bytes: &[u8]) -> Option<(Piece<'_>, &[u8])> {
    let data = value(bytes)?;
    let end = memchr::memchr(b'\n', data)?;
    let (data, after) = data.split_at_checked(end)?;
    let rest = after.strip_prefix(b"\n\n")?;
    let length = bytes.len().saturating_sub(rest.len());
    let event = Piece::Whole {
        bytes: bytes.get(..length)?,
        data: Cow::Borrowed(data.strip_suffix(b"\r").unwrap_or(data)),
    };
    Some((event, rest))
}

/// What follows the name of the field in a line of data.
fn value(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data:")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

fn whole(bytes: &[u8]) -> Piece<'_> {
    Piece::Whole {
        bytes,
        data: data(bytes),
    }
}

/// The data of an event: its `data` lines joined by LF. Borrowed when there is one such line.
fn data(event: &[u8]) -> Cow<'_, [u8]> {
    let mut joined: Option<Cow<'_, [u8]>> = None;
    let mut rest = event;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = after.get(1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(value) = value(line) else {
            continue;
        };
        joined = Some(match joined {
            None => Cow::Borrowed(value),
            Some(before) => {
                let mut both = before.into_owned();
                both.push(b'\n');
                both.extend_from_slice(value);
                Cow::Owned(both)
            }
        });
    }
    joined.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of `stream`, fed in pieces of `step` bytes.
    fn events(stream: &[u8], step: usize, max_bytes: usize) -> Vec<(bool, Vec<u8>)> {
        let mut events = Events::new(max_bytes);
        let mut seen = Vec::new();
        let mut note = |piece: Piece<'_>| {
            let whole = matches!(piece, Piece::Whole { .. });
            seen.push((whole, piece.bytes().to_vec()));
        };
        for bytes in stream.chunks(step) {
            events.feed(bytes, &mut note);
        }
        events.end(&mut note);
        seen
    }

    #[test]
    fn any_split_gives_the_same_events() {
        for stream in [
            &b"event: a\ndata: 1\n\n: note\n\ndata: 2\n\n"[..],
            b"data: 1\r\n\r\ndata: 2\r\ndata: 3\r\n\r\nrest",
            b"\n\n\r\n\r\ndata: \r\r\n\n",
        ] {
            let whole = events(stream, stream.len(), 1_000);
            for step in 1..stream.len() {
                assert_eq!(events(stream, step, 1_000), whole, "{step}");
            }
            let joined: Vec<u8> = whole.into_iter().flat_map(|(_, bytes)| bytes).collect();
            assert_eq!(joined, stream, "no byte is lost");
        }
    }

    #[test]
    fn an_event_too_long_to_read_is_handed_on_and_the_next_one_is_read() {
        let stream = b"data: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\ndata: b\n\n";
        for step in 1..stream.len() {
            let seen = events(stream, step, 16);
            let joined: Vec<u8> = seen.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            assert_eq!(joined, stream);
            assert!(seen.contains(&(true, b"data: b\n\n".to_vec())), "{step}");
        }
    }

    #[test]
    fn data_lines_are_joined() {
        assert_eq!(
            data(b"event: x\r\ndata: a\r\ndata:b\r\n\r\n").as_ref(),
            b"a\nb"
        );
        assert_eq!(data(b"data: [DONE]\n\n").as_ref(), b"[DONE]");
        assert_eq!(data(b": comment\n\n").as_ref(), b"");
    }
}
