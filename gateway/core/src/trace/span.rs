//! The gateway's own spans of a call: which are kept, where they stand in the trace, and what they
//! are made of.
//!
//! A call has two: what was asked of the gateway, and inside it what was asked of the upstream.
//! Ids come from outside, so nothing here is random. Worst case: a client that says of each of its
//! calls that it is sampled has spans kept of each; the sink drops what is too much.

use super::{RANDOM, SAMPLED, SpanId, TraceId, TraceParent};
use crate::record::{Ending, Subject};
use crate::time::Timestamp;

/// All of a ratio.
const MILLION: u32 = 1_000_000;

/// Of which calls spans are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    per_million: u32,
    follow_parent: bool,
}

impl Sampling {
    /// Of so many calls in a million, found by the trace's id. With `follow_parent`, what a caller
    /// says of its trace decides instead, where it says so.
    #[must_use]
    pub fn new(per_million: u32, follow_parent: bool) -> Self {
        Self {
            per_million: per_million.min(MILLION),
            follow_parent,
        }
    }

    /// How many in a million.
    #[must_use]
    pub const fn per_million(&self) -> u32 {
        self.per_million
    }

    /// Whether the caller's word decides.
    #[must_use]
    pub const fn follows_parent(&self) -> bool {
        self.follow_parent
    }

    /// Places a call in the trace of its caller, or else in the trace `new`.
    #[must_use]
    pub fn place(
        &self,
        parent: Option<TraceParent>,
        new: TraceId,
        server: SpanId,
        attempt: SpanId,
    ) -> CallTrace {
        let trace = parent.map_or(new, |parent| parent.trace);
        let sampled = match parent {
            Some(parent) if self.follow_parent => parent.is_sampled(),
            _ => self.takes(trace),
        };
        let random = parent.map_or(RANDOM, |parent| parent.flags & RANDOM);
        CallTrace {
            trace,
            parent: parent.map(|parent| parent.span),
            server,
            attempt,
            flags: if sampled { random | SAMPLED } else { random },
            contacted_at: None,
        }
    }

    /// By the last 56 bits of the id, which are the random ones: everybody who samples by them at
    /// the same ratio takes the same traces.
    fn takes(&self, trace: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g] = *trace.as_bytes();
        let drawn = u128::from(u64::from_be_bytes([0, a, b, c, d, e, f, g]));
        let below = u128::from(self.per_million) << 56;
        drawn.saturating_mul(MILLION.into()) < below
    }
}

/// Where a call's spans stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTrace {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span, if it named one.
    pub parent: Option<SpanId>,
    /// The span of what was asked of the gateway.
    pub server: SpanId,
    /// The span of what is asked of the upstream.
    pub attempt: SpanId,
    /// What the next one is told.
    pub flags: u8,
    /// When the upstream was turned to, if it was.
    pub contacted_at: Option<Timestamp>,
}

impl CallTrace {
    /// Whether the spans are kept.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What the upstream is told.
    #[must_use]
    pub const fn onward(&self) -> TraceParent {
        TraceParent {
            trace: self.trace,
            span: self.attempt,
            flags: self.flags,
        }
    }
}

/// All that the spans of a call are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSpans {
    /// Where they stand.
    pub at: CallTrace,
    /// Whose call it was, and what.
    pub subject: Subject,
    /// How it ended.
    pub ending: Ending,
}

/// Takes spans of calls that have ended.
pub trait SpanSink: Send + Sync {
    /// Takes them, or drops and counts them. Never waits.
    fn take(&self, spans: CallSpans);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(last: u64) -> TraceId {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&last.to_be_bytes());
        TraceId::new(bytes).expect("not zero")
    }

    fn span(byte: u8) -> SpanId {
        SpanId::new([byte; 8]).expect("not zero")
    }

    fn parent(flags: u8) -> TraceParent {
        TraceParent {
            trace: trace(5),
            span: span(9),
            flags,
        }
    }

    #[test]
    fn a_callers_word_decides_where_it_is_followed_and_the_ratio_elsewhere() {
        let all = 1_000_000;
        for (per_million, follow, flags, sampled) in [
            (all, true, None, true),
            (0, true, None, false),
            (0, true, Some(SAMPLED), true),
            (all, true, Some(0), false),
            (all, false, Some(0), true),
            (0, false, Some(SAMPLED), false),
        ] {
            let sampling = Sampling::new(per_million, follow);
            let at = sampling.place(flags.map(parent), trace(1), span(1), span(2));
            assert_eq!(at.is_sampled(), sampled, "{per_million} {follow} {flags:?}");
        }
    }

    #[test]
    fn the_upstream_is_told_the_trace_the_span_of_the_attempt_and_the_flags() {
        let sampling = Sampling::new(0, true);
        let at = sampling.place(Some(parent(0b11)), trace(1), span(1), span(2));
        assert_eq!((at.trace, at.parent), (trace(5), Some(span(9))));
        let onward = at.onward();
        assert_eq!(
            (onward.trace, onward.span, onward.flags),
            (trace(5), span(2), 0b11)
        );
        let begun = sampling.place(None, trace(1), span(1), span(2));
        assert_eq!(
            (begun.trace, begun.parent, begun.flags),
            (trace(1), None, RANDOM)
        );
    }

    #[test]
    fn a_ratio_is_kept_to_by_the_last_56_bits_of_the_id() {
        let half = Sampling::new(500_000, true);
        let middle = 1 << 55;
        for (last, taken) in [
            (0, true),
            (middle - 1, true),
            (middle, false),
            (u64::MAX, false),
        ] {
            assert_eq!(half.takes(trace(last)), taken, "{last:x}");
        }
        // What stands in front of them says nothing.
        assert!(half.takes(trace(0xff << 56)));
        assert!(Sampling::new(u32::MAX, true).takes(trace(u64::MAX)));
        assert!(!Sampling::new(0, true).takes(trace(0)));
    }
}
