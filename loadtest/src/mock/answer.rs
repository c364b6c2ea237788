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
use serde_json::Value;
use tokio::sync::watch;

use super::frames::{Event, Framing};
use super::lies::{self, Lie};
use super::seen::{Billed, Entry, Outcome};
use super::steer::Steering;

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What is to be said, before the steering spoils it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content,
    /// What it costs.
    pub(crate) billed: Option<Billed>,
}

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Content {
    /// Bytes that nothing looks into.
    Plain(Bytes),
    /// JSON, whose usage may become a lie.
    Json(Value),
    /// Events, and what is said instead of one of them if that is wanted.
    Stream {
        framing: Framing,
        events: Vec<Event>,
        error: Event,
    },
}

/// An answer as bytes, before the steering's pace is applied.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Whole,
    pub(crate) billed: Option<Billed>,
}

/// A whole text, or events.
#[derive(Debug)]
pub(crate) enum Whole {
    Plain(Bytes),
    Events { events: Vec<Bytes>, error: Bytes },
}

impl Answer {
    /// JSON that is already text, with a status.
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", Content::Plain(body.into()))
    }

    /// JSON, and what it costs.
    pub(crate) fn of(body: Value, billed: Billed) -> Self {
        let answer = Self::new(StatusCode::OK, "application/json", Content::Json(body));
        answer.costs(billed)
    }

    /// JSON that costs nothing.
    pub(crate) fn free(body: Value) -> Self {
        Self::new(StatusCode::OK, "application/json", Content::Json(body))
    }

    /// Bytes of another type.
    pub(crate) fn bytes(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, content_type, Content::Plain(body.into()))
    }

    /// A stream, what may take the place of one of its events, and what it costs.
    pub(crate) fn stream(
        framing: Framing,
        events: Vec<Event>,
        error: Event,
        billed: Billed,
    ) -> Self {
        let content = Content::Stream {
            framing,
            events,
            error,
        };
        Self::new(StatusCode::OK, framing.content_type(), content).costs(billed)
    }

    /// The same answer at a price.
    pub(crate) fn costs(mut self, billed: Billed) -> Self {
        self.billed = Some(billed);
        self
    }

    fn new(status: StatusCode, content_type: &'static str, content: Content) -> Self {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self {
            status,
            headers,
            content,
            billed: None,
        }
    }

    pub(crate) fn header(&mut self, name: &'static str, value: impl AsRef<str>) {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.append(HeaderName::from_static(name), value);
        }
    }

    /// Writes it down, with the lie about its usage that is wanted.
    pub(crate) fn write(self, lie: Option<Lie>) -> Written {
        let bytes = match self.content {
            Content::Plain(bytes) => Whole::Plain(bytes),
            Content::Json(mut body) => {
                if let Some(lie) = lie {
                    lie.spoil(&mut body);
                }
                Whole::Plain(lies::text(&body).into())
            }
            Content::Stream {
                framing,
                mut events,
                error,
            } => {
                if let Some(lie) = lie {
                    lie.spoil_events(&mut events);
                }
                Whole::Events {
                    events: framing.write(&events),
                    error: framing.write_one(1, &error),
                }
            }
        };
        Written {
            status: self.status,
            headers: self.headers,
            bytes,
            billed: self.billed,
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
    written: Written,
    steering: &Steering,
    trailers: Option<HeaderMap>,
    gate: watch::Receiver<bool>,
    entry: Option<Arc<Entry>>,
) -> Response<Body> {
    let Written {
        status,
        mut headers,
        bytes,
        billed,
    } = written;
    if let (Some(entry), Some(billed)) = (&entry, billed) {
        entry.bill(billed);
    }
    let body = match bytes {
        Whole::Plain(bytes) if !is_scripted(steering) && trailers.is_none() => {
            if let Some(entry) = &entry {
                entry.finish(Outcome::Sent);
            }
            Full::new(bytes)
                .map_err(|never| match never {})
                .boxed_unsync()
        }
        Whole::Plain(bytes) => {
            if steering.hangup_after.is_some() {
                // The promised length makes the missing rest visible to the reader.
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            }
            play(plain_steps(bytes, steering, trailers), gate, entry)
        }
        Whole::Events { events, error } => {
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
