//! Cuts a stream of JSON lines into lines, however the bytes are split.
//!
//! Lines end in LF or CRLF; the last one of a stream may lack its end. Source: the NDJSON and JSON
//! Lines conventions, as Ollama streams and batch results use them.
//!
//! Worst case: a line longer than the bound is handed on in parts, unread.

use std::borrow::Cow;

use super::framing::Piece;
use super::unfinished::Unfinished;

/// The unfinished line at the end of what has been fed so far.
#[derive(Debug)]
pub(super) struct Lines {
    pending: Unfinished,
}

impl Lines {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            pending: Unfinished::new(max_bytes),
        }
    }

    /// Whether bytes are kept that belong to no finished line.
    pub(super) fn holds(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands on every line that `bytes` completes, in order; together with what is kept, the
    /// pieces are the stream.
    pub(super) fn feed(&mut self, bytes: &[u8], mut piece: impl FnMut(Piece<'_>)) {
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', bytes) {
            let next = newline.saturating_add(1);
            let end = bytes.get(start..next).unwrap_or_default();
            self.pending.complete(end, whole, &mut piece);
            start = next;
        }
        let rest = bytes.get(start..).unwrap_or_default();
        self.pending.keep(rest, &mut piece);
    }

    /// Hands on the unfinished line, if there is one.
    pub(super) fn end(&mut self, piece: impl FnMut(Piece<'_>)) {
        self.pending.end(whole, piece);
    }
}

fn whole(bytes: &[u8]) -> Piece<'_> {
    Piece::Whole {
        bytes,
        data: Cow::Borrowed(bytes.trim_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of whole lines, and all bytes of `stream` fed in pieces of `step` bytes.
    fn cut(stream: &[u8], step: usize, max_bytes: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut lines = Lines::new(max_bytes);
        let (mut whole, mut all) = (Vec::new(), Vec::new());
        let mut note = |piece: Piece<'_>| {
            all.extend_from_slice(piece.bytes());
            if let Piece::Whole { data, .. } = piece {
                whole.push(data.to_vec());
            }
        };
        for bytes in stream.chunks(step) {
            lines.feed(bytes, &mut note);
        }
        lines.end(&mut note);
        assert!(!lines.holds());
        (whole, all)
    }

    #[test]
    fn any_split_gives_the_same_lines_and_every_byte() {
        let stream = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":3}";
        for step in 1..=stream.len() {
            let (lines, all) = cut(stream, step, 1_000);
            let expected: [&[u8]; 4] = [b"{\"a\":1}", b"", b"{\"b\":2}", b"{\"c\":3}"];
            assert_eq!(lines, expected, "{step}");
            assert_eq!(all, stream);
        }
    }

    #[test]
    fn a_line_too_long_to_read_is_handed_on_and_the_next_one_is_read() {
        let stream = b"aaaaaaaaaaaaaaaaaaaaaaaaaaaa\nb\n";
        for step in 1..=8 {
            let (lines, all) = cut(stream, step, 8);
            assert_eq!(lines, [b"b"], "{step}");
            assert_eq!(all, stream);
        }
    }
}
