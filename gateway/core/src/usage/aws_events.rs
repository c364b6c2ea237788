//! Cuts Amazon's binary event stream into frames, however the bytes are split.
//!
//! A frame is a prelude (its length, the length of its headers and a checksum of both), headers, a
//! payload and a checksum of everything before. All numbers are big-endian, checksums are CRC-32.
//! The payload of an event is handed on; exceptions and whatever else there is are not to be read.
//! This module knows nothing of what the payloads mean.
//!
//! At most one frame of [`MAX_FRAME_BYTES`] is kept, and only while it is unfinished; a longer one
//! is passed over by its length, which its prelude's checksum vouches for.
//!
//! Worst case: after a wrong checksum or an impossible length nobody knows where the next frame
//! begins. The rest of the stream is then handed on unread, and [`Frames::is_broken`] says so.
//!
//! Source: AWS, "Event stream encoding" (vnd.amazon.eventstream) in the Amazon Transcribe and
//! Smithy specifications.

use std::borrow::Cow;

use super::framing::Piece;

/// The largest frame that is read. Providers' frames hold a few words of text, so this is ample.
pub(super) const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// Length of the frame, length of its headers, checksum of these two.
const PRELUDE_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
const MAX_HEADER_BYTES: usize = 128 * 1024;
const MAX_PAYLOAD_BYTES: usize = 24 * 1024 * 1024;
/// What no frame is longer than, by Amazon's own limits.
const IMPOSSIBLE_BYTES: usize =
    PRELUDE_BYTES + MAX_HEADER_BYTES + MAX_PAYLOAD_BYTES + CHECKSUM_BYTES;

/// The unfinished frame at the end of what has been fed so far.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pending: Vec<u8>,
    /// Bytes still to come of a frame that is too long to be read.
    passing_over: usize,
    broken: bool,
}

/// What stands at the beginning of some bytes.
enum Cut<'a> {
    Whole(Frame<'a>),
    /// So many bytes are needed before more can be said.
    Needs(usize),
    TooLong(usize),
    Broken,
}

/// A frame whose checksums are right.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    bytes: &'a [u8],
    headers: &'a [u8],
    payload: &'a [u8],
}

impl Frames {
    /// Hands on every piece that `bytes` completes, in order.
    pub(super) fn feed(&mut self, bytes: &[u8], mut piece: impl FnMut(Piece<'_>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = if self.broken {
                piece(Piece::Oversized(rest));
                &[]
            } else if self.passing_over > 0 {
                let (over, after) = split(rest, self.passing_over);
                self.passing_over = self.passing_over.saturating_sub(over.len());
                piece(Piece::Oversized(over));
                after
            } else if self.pending.is_empty() {
                self.begin(rest, &mut piece)
            } else {
                self.go_on(rest, &mut piece)
            };
        }
    }

    /// Reads a frame where it stands, or keeps its beginning. Returns what is left.
    fn begin<'a>(&mut self, bytes: &'a [u8], piece: &mut impl FnMut(Piece<'_>)) -> &'a [u8] {
        match cut(bytes) {
            Cut::Whole(frame) => {
                piece(frame.piece());
                split(bytes, frame.bytes.len()).1
            }
            Cut::Needs(_) => {
                self.pending.extend_from_slice(bytes);
                &[]
            }
            Cut::TooLong(length) => {
                self.passing_over = length;
                bytes
            }
            Cut::Broken => {
                self.broken = true;
                bytes
            }
        }
    }

    /// Adds to the frame that is kept. Returns what is left.
    fn go_on<'a>(&mut self, bytes: &'a [u8], piece: &mut impl FnMut(Piece<'_>)) -> &'a [u8] {
        let needs = match cut(&self.pending) {
            Cut::Needs(length) => length.saturating_sub(self.pending.len()),
            _ => 0,
        };
        let (more, after) = split(bytes, needs);
        self.pending.extend_from_slice(more);
        match cut(&self.pending) {
            Cut::Needs(_) => return after,
            Cut::Whole(frame) => piece(frame.piece()),
            Cut::TooLong(length) => {
                self.passing_over = length.saturating_sub(self.pending.len());
                piece(Piece::Oversized(&self.pending));
            }
            Cut::Broken => {
                self.broken = true;
                piece(Piece::Oversized(&self.pending));
            }
        }
        self.pending.clear();
        after
    }

    /// Whether the framing broke, so that what came after it is unknown.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether bytes are kept that belong to no finished frame.
    pub(super) fn holds(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Hands on the unfinished frame, if there is one, unread.
    pub(super) fn end(&mut self, mut piece: impl FnMut(Piece<'_>)) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            piece(Piece::Oversized(&rest));
        }
    }
}

impl<'a> Frame<'a> {
    fn piece(self) -> Piece<'a> {
        let is_event = self.header(":message-type") == Some("event");
        Piece::Whole {
            bytes: self.bytes,
            data: Cow::Borrowed(if is_event { self.payload } else { &[] }),
        }
    }

    /// A header's text. Headers of other types, and what follows a malformed one, are not seen.
    fn header(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.headers;
        while let Some((found, value, after)) = next_header(rest) {
            if found == name.as_bytes() {
                return value;
            }
            rest = after;
        }
        None
    }
}

/// Name, text (if it is text) and what follows.
fn next_header(headers: &[u8]) -> Option<(&[u8], Option<&str>, &[u8])> {
    const BYTES: u8 = 6;
    const TEXT: u8 = 7;
    let (&name_bytes, rest) = headers.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(name_bytes))?;
    let (&kind, rest) = rest.split_first()?;
    let (value, rest) = match kind {
        0 | 1 => (&[][..], rest),
        2 => rest.split_at_checked(1)?,
        3 => rest.split_at_checked(2)?,
        4 => rest.split_at_checked(4)?,
        5 | 8 => rest.split_at_checked(8)?,
        BYTES | TEXT => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?
        }
        9 => rest.split_at_checked(16)?,
        _ => return None,
    };
    let text = (kind == TEXT)
        .then(|| std::str::from_utf8(value).ok())
        .flatten();
    Some((name, text, rest))
}

fn cut(bytes: &[u8]) -> Cut<'_> {
    let Some((prelude, _)) = bytes.split_first_chunk::<PRELUDE_BYTES>() else {
        return Cut::Needs(PRELUDE_BYTES);
    };
    let [lengths @ .., c0, c1, c2, c3] = prelude;
    let [l0, l1, l2, l3, h0, h1, h2, h3] = *lengths;
    let length = to_usize([l0, l1, l2, l3]);
    let header_bytes = to_usize([h0, h1, h2, h3]);
    let least = PRELUDE_BYTES
        .saturating_add(header_bytes)
        .saturating_add(CHECKSUM_BYTES);
    if crc32fast::hash(lengths) != u32::from_be_bytes([*c0, *c1, *c2, *c3])
        || header_bytes > MAX_HEADER_BYTES
        || length < least
        || length > IMPOSSIBLE_BYTES
    {
        return Cut::Broken;
    }
    if length > MAX_FRAME_BYTES {
        return Cut::TooLong(length);
    }
    let Some(frame) = bytes.get(..length) else {
        return Cut::Needs(length);
    };
    whole(frame, header_bytes).map_or(Cut::Broken, Cut::Whole)
}

/// The frame in exactly these bytes, if its checksum is right.
fn whole(bytes: &[u8], header_bytes: usize) -> Option<Frame<'_>> {
    let (checked, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if crc32fast::hash(checked) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let (_, body) = checked.split_at_checked(PRELUDE_BYTES)?;
    let (headers, payload) = body.split_at_checked(header_bytes)?;
    Some(Frame {
        bytes,
        headers,
        payload,
    })
}

fn to_usize(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

/// The first `count` bytes, or as many as there are, and the rest.
fn split(bytes: &[u8], count: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(count).unwrap_or((bytes, &[]))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event as Amazon writes it.
    pub(crate) fn event(kind: &str, payload: &[u8]) -> Vec<u8> {
        frame(
            &[(":event-type", kind), (":message-type", "event")],
            payload,
        )
    }

    /// A frame with headers of text.
    pub(crate) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(u8::try_from(name.len()).expect("a short name"));
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            let length = u16::try_from(value.len()).expect("a short value");
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        framed(&head, payload)
    }

    fn framed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + headers.len() + payload.len()).expect("it fits");
        let header_bytes = u32::try_from(headers.len()).expect("it fits");
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&header_bytes.to_be_bytes());
        frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
        frame.extend_from_slice(headers);
        frame.extend_from_slice(payload);
        frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
        frame
    }

    struct Seen {
        payloads: Vec<Vec<u8>>,
        unread_bytes: usize,
        is_broken: bool,
    }

    /// What is made of `bytes` fed in pieces of `step`; that no byte is lost is asserted.
    fn read(bytes: &[u8], step: usize) -> Seen {
        let mut frames = Frames::default();
        let (mut payloads, mut unread_bytes, mut all) = (Vec::new(), 0, Vec::new());
        let mut note = |piece: Piece<'_>| {
            all.extend_from_slice(piece.bytes());
            match piece {
                Piece::Whole { data, .. } => payloads.push(data.to_vec()),
                Piece::Oversized(bytes) => unread_bytes += bytes.len(),
            }
        };
        for part in bytes.chunks(step) {
            frames.feed(part, &mut note);
            assert!(frames.pending.len() <= MAX_FRAME_BYTES);
        }
        frames.end(&mut note);
        assert_eq!(all, bytes);
        Seen {
            payloads,
            unread_bytes,
            is_broken: frames.is_broken(),
        }
    }

    #[test]
    fn any_split_gives_the_same_frames() {
        let mut stream = event("a", b"one");
        stream.extend(event("", b""));
        stream.extend(event("b", b"three"));
        for step in 1..=stream.len() {
            let seen = read(&stream, step);
            assert_eq!(seen.payloads, [&b"one"[..], b"", b"three"], "by {step}");
            assert_eq!((seen.unread_bytes, seen.is_broken), (0, false));
        }
        for cut in 0..stream.len() {
            let seen = read(&stream[..cut], 7);
            assert!(seen.payloads.len() < 3);
            assert!(!seen.is_broken, "a cut is no fault");
        }
    }

    #[test]
    fn exceptions_are_not_read() {
        let exception = (":message-type", "exception");
        let stream = frame(
            &[(":exception-type", "throttlingException"), exception],
            b"{}",
        );
        assert_eq!(read(&stream, 9).payloads, [b""]);
        assert_eq!(read(&frame(&[], b"{}"), 9).payloads, [b""]);
    }

    #[test]
    fn headers_of_every_type_are_stepped_over() {
        let mut headers = Vec::new();
        for (kind, value) in [
            (0, &b""[..]),
            (1, b""),
            (2, b"1"),
            (3, b"12"),
            (4, b"1234"),
            (5, b"12345678"),
            (6, b"\x00\x02hi"),
            (8, b"12345678"),
            (9, b"1234567890123456"),
        ] {
            headers.extend_from_slice(b"\x01k");
            headers.push(kind);
            headers.extend_from_slice(value);
        }
        headers.extend_from_slice(b"\x0d:message-type\x07\x00\x05event");
        assert_eq!(read(&framed(&headers, b"read"), 50).payloads, [b"read"]);
    }

    #[test]
    fn any_flipped_bit_is_noticed_and_the_rest_is_unread() {
        let good = event("a", b"payload");
        for bit in 0..good.len() * 8 {
            let mut stream = good.clone();
            stream[bit / 8] ^= 1 << (bit % 8);
            stream.extend_from_slice(&good);
            for step in [1, 5, stream.len()] {
                let seen = read(&stream, step);
                assert_eq!(seen.payloads.len(), 0, "bit {bit}");
                assert_eq!((seen.unread_bytes, seen.is_broken), (stream.len(), true));
            }
        }
    }

    #[test]
    fn impossible_lengths_are_noticed() {
        for (length, header_bytes) in [
            (15, 0),
            (16, 1),
            (0, 0),
            (u32::MAX, 0),
            (u32::MAX, 1 << 20),
            (64, u32::MAX),
        ] {
            let mut bytes = u32::to_be_bytes(length).to_vec();
            bytes.extend_from_slice(&u32::to_be_bytes(header_bytes));
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            bytes.extend_from_slice(&[0; 64]);
            let seen = read(&bytes, 3);
            assert_eq!(seen.unread_bytes, bytes.len(), "{length}");
            assert!(seen.is_broken);
        }
    }

    #[test]
    fn a_frame_too_long_to_read_is_passed_over_and_the_next_one_is_read() {
        let long = event("a", &vec![b'x'; MAX_FRAME_BYTES]);
        let mut stream = long.clone();
        stream.extend(event("b", b"next"));
        for step in [1_000, 65_536, stream.len()] {
            let seen = read(&stream, step);
            assert_eq!(seen.payloads, [b"next"], "by {step}");
            assert_eq!((seen.unread_bytes, seen.is_broken), (long.len(), false));
        }
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_handed_on(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            step in 1_usize..50,
        ) {
            prop_assert!(read(&bytes, step).payloads.is_empty());
        }
    }
}
