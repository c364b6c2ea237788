//! Turns what the mock wants to say into a response, and says it at the wanted pace.
//!
//! It knows pauses, holds and broken connections, but no provider's dialect.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::sync::watch;

use super::seen::{Entry, Outcome};
use super::steer::Steering;

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What is to be said, before the steering's pace is applied.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
}

/// A whole text, or events.
#[derive(Debug)]
pub(crate) enum Content {
    Plain(Bytes),
    Events { events: Vec<Bytes>, error: Bytes },
}

impl Answer {
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", Content::Plain(body.into()))
    }

    pub(crate) fn events(events: Vec<Bytes>, error: Bytes) -> Self {
        Self::new(
            StatusCode::OK,
            "text/event-stream; charset=utf-8",
            Content::Events { events, error },
        )
    }

    fn new(status: StatusCode, content_type: &'static str, content: Content) -> Self {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self {
            status,
            headers,
            content,
        }
    }

    pub(crate) fn header(&mut self, name: &'static str, value: impl AsRef<str>) {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.append(HeaderName::from_static(name), value);
        }
    }
}

/// One thing a body does.
#[derive(Debug)]
enum Step {
    Send(Bytes),
    Trailers(HeaderMap),
    Pause(Duration),
    Hold,
    Stall,
    Break,
}

/// Plays the steps one after the other.
struct Script {
    steps: VecDeque<Step>,
    gate: watch::Receiver<bool>,
    entry: Option<Arc<Entry>>,
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            entry.finish(Outcome::Broken);
        }
    }
}

/// Waits until the mock's gate is open.
pub(crate) async fn gate_open(gate: &mut watch::Receiver<bool>) {
    if gate.wait_for(|open| *open).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Builds the response as the steering wants it paced and spoiled.
pub(crate) fn respond(
    answer: Answer,
    steering: &Steering,
    trailers: Option<HeaderMap>,
    gate: watch::Receiver<bool>,
    entry: Option<Arc<Entry>>,
) -> Response<Body> {
    let Answer {
        status,
        mut headers,
        content,
    } = answer;
    let body = match content {
        Content::Plain(bytes) if !is_scripted(steering) && trailers.is_none() => {
            if let Some(entry) = &entry {
                entry.finish(Outcome::Sent);
            }
            Full::new(bytes)
                .map_err(|never| match never {})
                .boxed_unsync()
        }
        Content::Plain(bytes) => {
            if steering.hangup_after.is_some() {
                // The promised length makes the missing rest visible to the reader.
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            }
            play(plain_steps(bytes, steering, trailers), gate, entry)
        }
        Content::Events { events, error } => {
            play(event_steps(events, error, steering, trailers), gate, entry)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn is_scripted(steering: &Steering) -> bool {
    steering.frame_bytes.is_some() || steering.hangup_after.is_some()
}

fn plain_steps(bytes: Bytes, steering: &Steering, trailers: Option<HeaderMap>) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    let kept = steering
        .hangup_after
        .map_or(bytes.len(), |n| n.min(bytes.len()));
    push_frames(&mut steps, bytes.slice(..kept), steering);
    match steering.hangup_after {
        Some(_) => break_off(&mut steps),
        None => steps.extend(trailers.map(Step::Trailers)),
    }
    steps
}

fn event_steps(
    events: Vec<Bytes>,
    error: Bytes,
    steering: &Steering,
    trailers: Option<HeaderMap>,
) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    for (sent, event) in events.into_iter().enumerate() {
        if steering.hold_after == Some(sent) {
            steps.push_back(Step::Hold);
        }
        if steering.stall_after == Some(sent) {
            steps.push_back(Step::Stall);
        }
        if steering.hangup_after == Some(sent) {
            break_off(&mut steps);
            return steps;
        }
        if steering.error_after == Some(sent) {
            steps.push_back(Step::Send(error));
            return steps;
        }
        // A pause of zero still gives the connection a chance to flush, so that events leave one by one.
        steps.push_back(Step::Pause(steering.chunk_delay));
        push_frames(&mut steps, event, steering);
    }
    steps.extend(trailers.map(Step::Trailers));
    steps
}

/// What was said so far is flushed before the connection breaks.
fn break_off(steps: &mut VecDeque<Step>) {
    steps.extend([Step::Pause(Duration::ZERO), Step::Break]);
}

fn push_frames(steps: &mut VecDeque<Step>, mut bytes: Bytes, steering: &Steering) {
    let Some(size) = steering.frame_bytes else {
        steps.push_back(Step::Send(bytes));
        return;
    };
    while !bytes.is_empty() {
        steps.push_back(Step::Send(bytes.split_to(size.min(bytes.len()))));
        steps.push_back(Step::Pause(Duration::ZERO));
    }
}

fn play(steps: VecDeque<Step>, gate: watch::Receiver<bool>, entry: Option<Arc<Entry>>) -> Body {
    let script = Script { steps, gate, entry };
    StreamBody::new(stream::unfold(script, next_frame)).boxed_unsync()
}

async fn next_frame(mut script: Script) -> Option<(io::Result<Frame<Bytes>>, Script)> {
    loop {
        let frame = match script.steps.pop_front() {
            Some(Step::Pause(Duration::ZERO)) => {
                tokio::task::yield_now().await;
                continue;
            }
            Some(Step::Pause(pause)) => {
                tokio::time::sleep(pause).await;
                continue;
            }
            Some(Step::Hold) => {
                gate_open(&mut script.gate).await;
                continue;
            }
            Some(Step::Stall) => std::future::pending().await,
            Some(Step::Break) => return Some((Err(io::ErrorKind::ConnectionReset.into()), script)),
            Some(Step::Send(bytes)) => Frame::data(bytes),
            Some(Step::Trailers(trailers)) => Frame::trailers(trailers),
            None => {
                if let Some(entry) = &script.entry {
                    entry.finish(Outcome::Sent);
                }
                return None;
            }
        };
        if script.steps.is_empty()
            && let Some(entry) = &script.entry
        {
            entry.finish(Outcome::Sent);
        }
        return Some((Ok(frame), script));
    }
}
