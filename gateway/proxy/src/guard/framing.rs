//! Follows the bytes of an HTTP/1 connection to know where each head starts and each body ends.
//!
//! Decides which bytes may be released to the codec. It never changes a byte and buffers none;
//! its owner keeps what is not released. Worst case: a body that breaks its framing ends the
//! connection, because nothing after it can be trusted to be a head.

use super::{Framing, HeadFault, judge};

/// Longest line that gives a chunk's size, extensions included, in bytes: room for what real
/// clients send and far below what would be worth sending as an attack.
const MAX_SIZE_LINE: usize = 256;
/// Size lines and framing of one body may exceed its data by this much, in bytes, before they
/// count as an attack: one-byte chunks of a 16 KiB body still pass.
const MAX_FRAMING_SURPLUS: u64 = 128 * 1024;

/// A body that breaks its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request body breaks the chunked framing")]
pub struct BodyFault;

/// What is wrong with the bytes after the released ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The head.
    Head(HeadFault),
    /// The body.
    Body(BodyFault),
}

/// The place in the stream of requests.
#[derive(Debug)]
pub struct Guard {
    state: State,
    scanned: usize,
    line_start: usize,
    max_head_bytes: usize,
    max_target_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Head,
    Pass { left: u64, chunked: bool },
    Chunked(Chunks),
    Broken(BodyFault),
}

#[derive(Debug, Clone, Copy)]
struct Chunks {
    place: Place,
    framing_bytes: u64,
    data_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Size { value: u64, digits: usize },
    Extension { value: u64, length: usize },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataEnd { line_feed: bool },
    LastEnd { line_feed: bool },
    Done,
}

impl Guard {
    /// A guard at the start of a connection.
    #[must_use]
    pub const fn new(max_head_bytes: usize, max_target_bytes: usize) -> Self {
        Self {
            state: State::Head,
            scanned: 0,
            line_start: 0,
            max_head_bytes,
            max_target_bytes,
        }
    }

    /// Whether the next byte belongs to the message whose head has been released.
    #[must_use]
    pub const fn mid_message(&self) -> bool {
        !matches!(self.state, State::Head)
    }

    /// How many of `bytes` may be released, at most `room` of them and at most to the end of one
    /// message.
    ///
    /// `bytes` starts with the first byte that has not been released. Zero means that more bytes
    /// are needed.
    ///
    /// # Errors
    /// [`Fault`]: no byte of what follows may ever be released.
    pub fn release(&mut self, bytes: &[u8], room: usize) -> Result<usize, Fault> {
        if matches!(self.state, State::Head) {
            let Some(length) = self.head_length(bytes).map_err(Fault::Head)? else {
                return Ok(0);
            };
            let framing = judge(&bytes[..length], self.max_target_bytes).map_err(Fault::Head)?;
            (self.scanned, self.line_start) = (0, 0);
            let (body, chunked) = match framing {
                Framing::Length(body) => (body, false),
                Framing::Chunked => (0, true),
            };
            self.state = State::Pass {
                left: (length as u64).saturating_add(body),
                chunked,
            };
        }
        let bytes = &bytes[..bytes.len().min(room)];
        let mut released = 0;
        while released < bytes.len() {
            match &mut self.state {
                State::Head => break,
                State::Pass { left, chunked } => {
                    let taken = clamp(*left, bytes.len() - released);
                    released += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = if *chunked {
                            State::Chunked(Chunks::START)
                        } else {
                            State::Head
                        };
                    }
                }
                State::Chunked(chunks) => match chunks.follow(&bytes[released..]) {
                    Ok(more) => {
                        released += more;
                        if matches!(chunks.place, Place::Done) {
                            self.state = State::Head;
                        }
                    }
                    // What stands before it, the head above all, still goes on.
                    Err(fault) => self.state = State::Broken(fault),
                },
                State::Broken(_) if released > 0 => break,
                State::Broken(fault) => return Err(Fault::Body(*fault)),
            }
        }
        Ok(released)
    }

    /// The length of the head at the start of `bytes`, if it is whole. Looks at each byte once,
    /// however the head is cut into reads.
    fn head_length(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadFault> {
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let at = self.scanned + found;
            if at == 0 || bytes[at - 1] != b'\r' {
                return Err(HeadFault::LineBreak);
            }
            let (start, empty) = (self.line_start, at - 1 == self.line_start);
            self.scanned = at + 1;
            self.line_start = at + 1;
            if self.scanned > self.max_head_bytes {
                return Err(HeadFault::TooLarge);
            }
            if empty {
                return if start == 0 {
                    Err(HeadFault::Malformed)
                } else {
                    Ok(Some(self.scanned))
                };
            }
            if start == 0 {
                self.bound_request_line(at)?;
                request_line(&bytes[..at - 1])?;
            }
        }
        self.scanned = bytes.len();
        if self.line_start == 0 {
            self.bound_request_line(bytes.len())?;
        }
        if bytes.len() > self.max_head_bytes {
            return Err(HeadFault::TooLarge);
        }
        Ok(None)
    }

    /// Refuses a request line that is too long, whether or not its end is there yet.
    const fn bound_request_line(&self, length: usize) -> Result<(), HeadFault> {
        // The method and the version take a few bytes more than the target.
        if length > self.max_target_bytes + 64 {
            return Err(HeadFault::TargetTooLong);
        }
        Ok(())
    }
}

/// Refuses what is not HTTP/1 as soon as its first line is there: an HTTP/0.9 client would wait
/// for an answer after it.
fn request_line(line: &[u8]) -> Result<(), HeadFault> {
    if line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") {
        Ok(())
    } else {
        Err(HeadFault::Version)
    }
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

impl Chunks {
    const START: Self = Self {
        place: Place::Size {
            value: 0,
            digits: 0,
        },
        framing_bytes: 0,
        data_bytes: 0,
    };

    /// Follows `bytes` up to their end or the body's, whichever comes first.
    fn follow(&mut self, bytes: &[u8]) -> Result<usize, BodyFault> {
        let mut at = 0;
        while at < bytes.len() && !matches!(self.place, Place::Done) {
            if let Place::Data { left } = &mut self.place {
                let taken = clamp(*left, bytes.len() - at);
                at += taken;
                *left -= taken as u64;
                self.data_bytes = self.data_bytes.saturating_add(taken as u64);
                if *left == 0 {
                    self.place = Place::DataEnd { line_feed: false };
                }
                continue;
            }
            self.framing_bytes += 1;
            if self.framing_bytes > self.data_bytes.saturating_add(MAX_FRAMING_SURPLUS) {
                return Err(BodyFault);
            }
            self.place = self.place.next(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }
}

impl Place {
    /// The place after a framing byte. Trailers are refused: they could only pass for headers.
    fn next(self, byte: u8) -> Result<Self, BodyFault> {
        Ok(match (self, byte) {
            (Self::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    _ => (byte | 0x20) - b'a' + 10,
                };
                Self::Size {
                    value: value << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { value, digits: 1.. }, b'\r') => Self::SizeEnd { value },
            (Self::Size { value, digits: 1.. }, b';') => Self::Extension { value, length: 0 },
            (Self::Extension { value, .. }, b'\r') => Self::SizeEnd { value },
            (Self::Extension { value, length }, _)
                if length < MAX_SIZE_LINE && (byte == b'\t' || (byte >= b' ' && byte != 0x7f)) =>
            {
                Self::Extension {
                    value,
                    length: length + 1,
                }
            }
            (Self::SizeEnd { value: 0 }, b'\n') => Self::LastEnd { line_feed: false },
            (Self::SizeEnd { value }, b'\n') => Self::Data { left: value },
            (Self::DataEnd { line_feed: false }, b'\r') => Self::DataEnd { line_feed: true },
            (Self::DataEnd { line_feed: true }, b'\n') => Self::Size {
                value: 0,
                digits: 0,
            },
            (Self::LastEnd { line_feed: false }, b'\r') => Self::LastEnd { line_feed: true },
            (Self::LastEnd { line_feed: true }, b'\n') => Self::Done,
            _ => return Err(BodyFault),
        })
    }
}
