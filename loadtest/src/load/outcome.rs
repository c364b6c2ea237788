//! What can come of a call.

use std::time::Duration;

use http::StatusCode;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// No connection, or none with TLS.
    Connect,
    /// The connection ended before there was an answer.
    NoAnswer,
    /// It took too long.
    Timeout,
    /// The status was none of success.
    Status,
    /// The body broke off.
    BrokenBody,
    /// A stream ended without its mark, or was none.
    WrongEnd,
    /// A stream said that it failed.
    ErrorEvent,
    /// No connection was free until the load ended.
    Unsent,
}

impl Failure {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::NoAnswer => "no_answer",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::BrokenBody => "broken_body",
            Self::WrongEnd => "wrong_end",
            Self::ErrorEvent => "error_event",
            Self::Unsent => "unsent",
        }
    }

    /// Whether the time it took is only what was waited in vain. Without it among the latencies,
    /// a target would look the better the more it leaves lying.
    pub(super) fn is_endless(self) -> bool {
        matches!(self, Self::Timeout | Self::Unsent)
    }
}

/// Tokens that an answer states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) output: u64,
}

/// What came of one call. Times count from when it was due.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Whether a stream was asked for.
    pub(super) streamed: bool,
    pub(super) status: Option<StatusCode>,
    /// The gateway's word for a refusal.
    pub(super) code: Option<String>,
    pub(super) failure: Option<Failure>,
    pub(super) first_byte: Option<Duration>,
    pub(super) whole: Duration,
    /// Events of a stream.
    pub(super) events: u64,
    /// Between each two of them.
    pub(super) gaps: Vec<Duration>,
    pub(super) bytes: u64,
    pub(super) usage: Option<Usage>,
}
