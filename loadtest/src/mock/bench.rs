//! The mock's quick side: answers made once, for measuring what stands in front of it.
//!
//! It reads no steering and keeps no record. A request whose body says `"stream":true` gets the
//! stream, every other one the plain answer. Pieces of text in a stream say when they were sent, see
//! `stamp.rs`; all streams have the same number of bytes.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use serde_json::json;

use super::answer::{Answer, Body, Whole};
use super::ask::Ask;
use super::openai;
use super::steer::Steering;
use crate::stamp;

/// One plain and one streamed chat completion.
#[derive(Debug, Clone)]
pub struct BenchAnswers {
    plain: Bytes,
    events: Vec<Prepared>,
    pause: Duration,
    plain_pause: Duration,
}

/// An event that is made, but for the time at which it is sent.
#[derive(Debug, Clone)]
struct Prepared {
    event: Bytes,
    /// Where that time stands, if it has one.
    stamp: Option<usize>,
}

impl Prepared {
    fn new(event: Bytes) -> Self {
        let stamp = stamp::place(&event);
        Self { event, stamp }
    }

    fn sent_now(self) -> Bytes {
        let Some(at) = self.stamp else {
            return self.event;
        };
        let mut event = BytesMut::from(self.event);
        if let Some(place) = event.get_mut(at..at + stamp::BYTES) {
            place.copy_from_slice(stamp::text(stamp::micros()).as_bytes());
        }
        event.freeze()
    }
}

impl BenchAnswers {
    /// A plain answer of about `plain_bytes`, a stream of `events` events (at least five) with `pause` before each
    /// but the first.
    pub fn new(plain_bytes: usize, events: usize, pause: Duration) -> Self {
        // Besides the pieces of text: role, finish, usage and the end mark.
        let pieces = events.saturating_sub(4).max(1);
        let make = |stream: bool, text: String| {
            let body = json!({"model": "gpt-4o-mini", "stream": stream, "stream_options": {"include_usage": true}});
            let steering = Steering {
                chunks: Some(pieces),
                usage: Some((500, 60)),
                ..Steering::default()
            };
            content(openai::chat(&Ask {
                serial: 1,
                model_in_path: None,
                flavour: &openai::flavour::OPENAI,
                body: &body,
                steering: &steering,
                text,
            }))
        };
        let frame: usize = make(false, String::new()).iter().map(Bytes::len).sum();
        let text_bytes = plain_bytes.saturating_sub(frame);
        let text = "All is well. ".chars().cycle().take(text_bytes).collect();
        let plain = make(false, text).pop().unwrap_or_default();
        let events = make(true, stamp::text(0).repeat(pieces));
        Self {
            plain,
            events: events.into_iter().map(Prepared::new).collect(),
            pause,
            plain_pause: Duration::ZERO,
        }
    }

    /// The same with a pause before each plain answer, as models make one.
    #[must_use]
    pub fn slow(self, plain_pause: Duration) -> Self {
        Self {
            plain_pause,
            ..self
        }
    }

    /// Events of one streamed answer, its end mark included.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let streamed = asks_for_stream(request.into_body()).await?;
        let (content_type, body) = if streamed {
            ("text/event-stream; charset=utf-8", self.stream())
        } else {
            if !self.plain_pause.is_zero() {
                tokio::time::sleep(self.plain_pause).await;
            }
            (
                "application/json",
                Full::new(self.plain.clone())
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            )
        };
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(response)
    }

    fn stream(&self) -> Body {
        let start = (self.events.clone().into_iter(), Duration::ZERO, self.pause);
        let frames = stream::unfold(start, async |(mut events, wait, pause)| {
            let event = events.next()?;
            if wait.is_zero() {
                // Lets the connection flush, so that events leave one by one.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(wait).await;
            }
            Some((Ok(Frame::data(event.sent_now())), (events, pause, pause)))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// Reads a body to its end and tells whether it says `"stream":true`, with or without a space.
async fn asks_for_stream(mut body: Incoming) -> io::Result<bool> {
    const FIELD: &[u8] = br#""stream":"#;
    const KEPT: usize = FIELD.len() + " true".len();
    let mut streamed = false;
    let mut seen = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
            continue;
        };
        // The end of what came before, since the field may lie across two frames.
        let text = if seen.is_empty() {
            data
        } else {
            seen.extend_from_slice(&data);
            seen.split().freeze()
        };
        streamed |= memchr::memmem::find_iter(&text, FIELD).any(|at| {
            let value = text.get(at + FIELD.len()..).unwrap_or_default();
            value.trim_ascii_start().starts_with(b"true")
        });
        seen.extend_from_slice(
            text.get(text.len().saturating_sub(KEPT)..)
                .unwrap_or_default(),
        );
    }
    Ok(streamed)
}

fn content(answer: Answer) -> Vec<Bytes> {
    match answer.write(None).bytes {
        Whole::Plain(bytes) => vec![bytes],
        Whole::Events { events, .. } => events,
    }
}
