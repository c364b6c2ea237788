//! What is seen of one answer while it comes in: its size, its events, and how long they took.
//!
//! Pure: pieces of a body and the time at which they came go in. It keeps the last bytes only.

use anyhow::ensure;

use crate::stamp;

/// Bytes at the end that are kept: the end mark of a stream, or an error's text.
const TAIL: usize = 512;

/// What a right answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Any 200; used once, to learn the length.
    Anything,
    /// A body of this many bytes.
    Bytes(usize),
    /// A body of at least this many bytes, from somebody who writes it anew.
    AtLeast(usize),
    /// A stream of this many events and bytes, the last event being the end mark.
    Stream { events: usize, bytes: usize },
    /// A stream with at least this many stamped events and the end mark, from somebody who writes it anew.
    Stamped(usize),
}

/// Counts bytes and events, whatever the pieces they come in.
#[derive(Debug, Default)]
pub(super) struct Seen {
    len: usize,
    events: usize,
    newline_before: bool,
    tail: Vec<u8>,
    stamped: usize,
    stamps: stamp::Reader,
    /// When the first of the body came.
    first: Option<u64>,
    /// How long each stamped event was under way, in microseconds.
    delays: Vec<u32>,
}

impl Seen {
    /// A piece of the body that came at `now`, in microseconds of the stamps' clock.
    pub(super) fn see(&mut self, piece: &[u8], now: u64) {
        self.first.get_or_insert(now);
        self.len += piece.len();
        for at in memchr::memchr_iter(b'\n', piece) {
            let doubled = match at.checked_sub(1) {
                Some(before) => piece.get(before) == Some(&b'\n'),
                None => self.newline_before,
            };
            self.events += usize::from(doubled);
        }
        self.newline_before = piece.last() == Some(&b'\n');
        let (stamped, delays) = (&mut self.stamped, &mut self.delays);
        self.stamps.read(piece, |stamp| {
            *stamped += 1;
            delays.push(u32::try_from(stamp::age(stamp, now)).unwrap_or(u32::MAX));
        });
        let last = piece.get(piece.len().saturating_sub(TAIL)..);
        let last = last.unwrap_or_default();
        let excess = (self.tail.len() + last.len()).saturating_sub(TAIL);
        self.tail.drain(..excess.min(self.tail.len()));
        self.tail.extend_from_slice(last);
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.first
    }

    pub(super) fn delays(&self) -> &[u32] {
        &self.delays
    }

    /// Fails unless the answer is what was expected.
    pub(super) fn must_be(&self, status: u16, expected: Expected) -> anyhow::Result<()> {
        let text = String::from_utf8_lossy(&self.tail);
        ensure!(status == 200, "answer {status}: {text}");
        let (len, events, stamped) = (self.len, self.events, self.stamped);
        match expected {
            Expected::Anything => {}
            Expected::Bytes(bytes) => ensure!(len == bytes, "{len} bytes instead of {bytes}"),
            Expected::AtLeast(bytes) => ensure!(len >= bytes, "{len} bytes, {bytes} are too few"),
            Expected::Stream {
                events: wanted,
                bytes,
            } => {
                ensure!(events == wanted, "{events} events instead of {wanted}");
                ensure!(len == bytes, "{len} bytes instead of {bytes}");
                ensure!(self.is_marked(), "stream ends without its mark");
            }
            Expected::Stamped(wanted) => {
                ensure!(
                    stamped >= wanted,
                    "{stamped} events with text instead of {wanted}: {text}"
                );
                ensure!(self.is_marked(), "stream ends without its mark");
            }
        }
        Ok(())
    }

    fn is_marked(&self) -> bool {
        self.tail.trim_ascii_end().ends_with(b"data: [DONE]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_across_any_split() {
        let stream = format!("data: a\n\ndata: {}\n\ndata: [DONE]\n\n", stamp::text(40));
        for at in 0..stream.len() {
            let (start, end) = stream.as_bytes().split_at(at);
            let mut seen = Seen::default();
            seen.see(start, 50);
            seen.see(end, 50);
            let (events, bytes) = (3, stream.len());
            let expected = Expected::Stream { events, bytes };
            seen.must_be(200, expected).unwrap();
            seen.must_be(200, Expected::Stamped(1)).unwrap();
            assert_eq!(
                (seen.len(), seen.delays()),
                (stream.len(), &[10][..]),
                "split at {at}"
            );
        }
    }

    #[test]
    fn an_answer_that_is_not_whole_is_wrong() {
        let mut seen = Seen::default();
        seen.see(b"data: a\n\n", 1);
        for expected in [
            Expected::Bytes(8),
            Expected::AtLeast(10),
            Expected::Stream {
                events: 1,
                bytes: 9,
            },
            Expected::Stamped(0),
        ] {
            assert!(seen.must_be(200, expected).is_err(), "{expected:?}");
        }
        assert!(seen.must_be(503, Expected::Anything).is_err());
        seen.must_be(200, Expected::AtLeast(9)).unwrap();
    }
}
