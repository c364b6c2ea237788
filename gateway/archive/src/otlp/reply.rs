//! What a collector's answer means for the records that were sent.
//!
//! OTLP says which errors may be repeated. This is more patient: records are dropped only where
//! the collector says that it is about them, for a wrong token or path would cost them all. Worst
//! case: as long as it answers so, nothing moves, and the lag says so.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, StatusCode};
use prost::Message;

use super::proto::{ExportResponse, RetryInfo, RpcStatus};

/// The longest pause that a collector can ask for: an hour was meant for somebody else.
const MAX_HINT: Duration = Duration::from_secs(600);

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Taken, but for so many records.
    Taken {
        /// How many were refused.
        rejected: u64,
        /// What the collector says besides.
        said: String,
    },
    /// Not now, or not as things are: nothing is wrong with the records.
    Later {
        /// Why.
        why: String,
        /// When the collector wants to hear of it again.
        after: Option<Duration>,
    },
    /// Something broke there, and perhaps because of the records.
    Unclear {
        /// Why.
        why: String,
    },
    /// Something is wrong with the records.
    Bad {
        /// Why.
        why: String,
    },
}

impl Reply {
    pub(super) fn later(why: impl Into<String>) -> Self {
        Self::Later {
            why: why.into(),
            after: None,
        }
    }

    fn taken(body: &[u8]) -> Self {
        // A success is one also where its body says nothing.
        let response = ExportResponse::decode(body).unwrap_or_default();
        let partial = response.partial_success.unwrap_or_default();
        Self::Taken {
            rejected: u64::try_from(partial.rejected).unwrap_or_default(),
            said: shown(&partial.error_message),
        }
    }

    /// The answer to a request over HTTP.
    pub(super) fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let why = format!("HTTP status {}", status.as_u16());
        match status.as_u16() {
            200..=299 => Self::taken(body),
            400 | 413 | 422 => Self::Bad { why },
            500 => Self::Unclear { why },
            _ => Self::Later {
                why,
                after: retry_after(headers),
            },
        }
    }

    /// The answer to a call over gRPC. `trailers` are the headers where no body follows.
    pub(super) fn of_grpc(status: StatusCode, trailers: &HeaderMap, body: &[u8]) -> Self {
        let code = trailers
            .get("grpc-status")
            .and_then(|code| code.to_str().ok());
        let Some(code) = code.and_then(|code| code.parse::<u16>().ok()) else {
            // A proxy in between has answered, or the stream broke off.
            return match status {
                StatusCode::OK => Self::later("the call ended without a status"),
                _ => Self::later(format!("HTTP status {}", status.as_u16())),
            };
        };
        let said = trailers
            .get("grpc-message")
            .map_or("", |said| said.to_str().unwrap_or_default());
        let why = format!("gRPC status {code}: {}", shown(said));
        let after = hint(trailers);
        match code {
            0 => Self::taken(message(body).unwrap_or_default()),
            3 => Self::Bad { why },
            // Without a hint it is the message that is too much, not the moment (OTLP, failures).
            8 if after.is_none() => Self::Bad { why },
            2 | 13 => Self::Unclear { why },
            _ => Self::Later { why, after },
        }
    }
}

/// The one message in a body of gRPC, which has five bytes in front of it.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (head, rest) = body.split_at_checked(5)?;
    let [0, length @ ..] = head else { return None };
    let length = u32::from_be_bytes(length.try_into().ok()?);
    rest.get(..usize::try_from(length).ok()?)
}

/// A message for gRPC.
pub(super) fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut body = Vec::with_capacity(length.saturating_add(5));
    body.push(0);
    // Requests are a few MiB at most, see the bounds of a batch and of a line.
    body.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(&message.encode_to_vec());
    body
}

/// `Retry-After` in seconds; a date is not what collectors send.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let after = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    let after = after.trim().parse().ok()?;
    Some(Duration::from_secs(after).min(MAX_HINT))
}

/// The `RetryInfo` among the details of a status.
fn hint(trailers: &HeaderMap) -> Option<Duration> {
    let details = trailers.get("grpc-status-details-bin")?.as_bytes();
    let details = STANDARD_NO_PAD
        .decode(details)
        .or_else(|_padded| STANDARD.decode(details));
    let status = RpcStatus::decode(&*details.ok()?).ok()?;
    let mut details = status.details.iter();
    let info = details.find(|it| it.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanos = u32::try_from(delay.nanos).ok()?;
    Some(
        Duration::from_secs(seconds)
            .saturating_add(Duration::from_nanos(nanos.into()))
            .min(MAX_HINT),
    )
}

/// What somebody else says, fit for one line of a log.
fn shown(said: &str) -> String {
    const LONGEST: usize = 200;
    let printable = said.chars().filter(|c| !c.is_control());
    printable.take(LONGEST).collect()
}

#[cfg(test)]
mod tests;
