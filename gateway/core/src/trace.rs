//! W3C Trace Context: which trace a request says it belongs to, and where the gateway's own spans
//! stand in it.
//!
//! A client's word, and nothing more: kept in the record so that it can be found beside the
//! client's own spans, and never part of a decision but for whether spans are kept. Read strictly
//! (Trace Context, section 3.2): what is not a `traceparent` to the last character is none. Worst
//! case: a client names another's trace, and its record is found there.

mod span;

pub use span::{CallSpans, CallTrace, Sampling, SpanSink};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text is not an id of a trace or span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id of a trace or span: lower-case hexadecimal digits, not all of them zero")]
pub struct NotATraceId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// An id of these bytes, unless they are all zero.
            #[must_use]
            pub fn new(bytes: [u8; $bytes]) -> Option<Self> {
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotATraceId;

            fn from_str(text: &str) -> Result<Self, NotATraceId> {
                bytes(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotATraceId;

            fn try_from(text: String) -> Result<Self, NotATraceId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

id!(
    /// A trace.
    TraceId, 16
);
id!(
    /// A span in a trace.
    SpanId, 8
);

/// The trace, and the span in it, that a request says it was made in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Which of the flags that the specification knows are set: [`SAMPLED`] and [`RANDOM`].
    pub flags: u8,
}

/// The flag of a trace whose spans are kept.
pub const SAMPLED: u8 = 0b01;
/// The flag of a trace whose id ends in 56 random bits.
pub const RANDOM: u8 = 0b10;

impl TraceParent {
    /// Reads the value of a `traceparent` header; `None` if it is not a whole and valid one.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?;
        let mut parts = text.splitn(5, '-');
        let version = parts.next()?;
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let more = parts.next();
        let hex = |part: &str| part.len() == 2 && part.bytes().all(is_digit);
        // Later versions may say more, behind what this one says.
        if !hex(version) || !hex(flags) || version == "ff" || (version == "00" && more.is_some()) {
            return None;
        }
        Some(Self {
            trace: trace.parse().ok()?,
            span: span.parse().ok()?,
            flags: u8::from_str_radix(flags, 16).ok()? & (SAMPLED | RANDOM),
        })
    }

    /// Whether its spans are kept, as its sender says.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// As a `traceparent` header, of the first version.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = self;
        write!(f, "00-{trace}-{span}-{flags:02x}")
    }
}

const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn bytes<const BYTES: usize>(text: &str) -> Result<[u8; BYTES], NotATraceId> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; BYTES];
    if pairs.len() != BYTES || !rest.is_empty() || !text.bytes().all(is_digit) {
        return Err(NotATraceId);
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let digits = str::from_utf8(pair).map_err(|_odd| NotATraceId)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_odd| NotATraceId)?;
    }
    if bytes == [0; BYTES] {
        return Err(NotATraceId);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_read_whole_or_not_at_all() {
        let zeros = "0".repeat(32);
        for (value, is_one) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), true),
            (format!("01-{TRACE}-{SPAN}-01-more"), true),
            (format!("cc-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-01-more"), false),
            (format!("ff-{TRACE}-{SPAN}-01"), false),
            (format!("00-{TRACE}-{SPAN}-1"), false),
            (format!("00-{TRACE}-{SPAN}"), false),
            (format!("0-{TRACE}-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
            (format!("00-{zeros}-{SPAN}-01"), false),
            (format!("00-{TRACE}-{}-01", &zeros[..16]), false),
            (format!("00-{TRACE}0-{SPAN}-01"), false),
            (format!("00-{}-{SPAN}-01", &TRACE[..31]), false),
            (format!(" 00-{TRACE}-{SPAN}-01"), false),
            (format!("00-{TRACE}-{SPAN}-01 "), false),
            (format!("00-+{}-{SPAN}-01", &TRACE[..31]), false),
            ("ü".repeat(28), false),
            (String::new(), false),
        ] {
            let read = TraceParent::read(value.as_bytes());
            assert_eq!(read.is_some(), is_one, "{value:?}");
            if let Some(read) = read {
                assert_eq!(
                    (&*read.trace.to_string(), &*read.span.to_string()),
                    (TRACE, SPAN)
                );
                assert_eq!(read.is_sampled(), value.contains("-01"), "{value:?}");
            }
        }
        assert_eq!(TraceParent::read(b"00-\xff"), None);
    }

    #[test]
    fn a_traceparent_is_written_in_the_first_version_with_the_flags_that_are_known() {
        let read = |value: String| TraceParent::read(value.as_bytes()).map(|read| read.to_string());
        for (version, flags, written) in [
            ("00", "01", "01"),
            ("00", "00", "00"),
            ("00", "03", "03"),
            ("00", "ff", "03"),
            ("cc", "05", "01"),
        ] {
            let value = format!("{version}-{TRACE}-{SPAN}-{flags}");
            let expected = format!("00-{TRACE}-{SPAN}-{written}");
            assert_eq!(read(value), Some(expected));
        }
        assert_eq!(SpanId::new([0; 8]), None);
        let span: SpanId = SPAN.parse().expect("an id");
        assert_eq!(SpanId::new(*span.as_bytes()), Some(span));
    }
}
