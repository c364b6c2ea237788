//! The mock's quick side: answers made once, for measuring what stands in front of it.
//!
//! It reads no steering and keeps no record. A request whose body says `"stream":true` gets the
//! stream, every other one the plain answer.

use std::io;
use std::time::Duration;

use bytes::Bytes;
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

/// One plain and one streamed chat completion.
#[derive(Debug, Clone)]
pub struct BenchAnswers {
    plain: Bytes,
    events: Vec<Bytes>,
    pause: Duration,
    plain_pause: Duration,
}

impl BenchAnswers {
    /// A plain answer of about `plain_bytes`, a stream of `events` events (at least five) with `pause` before each.
    pub fn new(plain_bytes: usize, events: usize, pause: Duration) -> Self {
        let make = |stream: bool, text_bytes: usize| {
            let body = json!({"model": "gpt-4o-mini", "stream": stream, "stream_options": {"include_usage": true}});
            // Besides the pieces of text: role, finish, usage and the end mark.
            let chunks = Some(events.saturating_sub(4).max(1));
            let steering = Steering {
                chunks,
                usage: Some((500, 60)),
                ..Steering::default()
            };
            let text = "All is well. ".chars().cycle().take(text_bytes).collect();
            content(openai::chat(&Ask {
                serial: 1,
                model_in_path: None,
                flavour: &openai::flavour::OPENAI,
                body: &body,
                steering: &steering,
                text,
            }))
        };
        let frame = make(false, 0).iter().map(Bytes::len).sum::<usize>();
        let plain = make(false, plain_bytes.saturating_sub(frame))
            .pop()
            .unwrap_or_default();
        Self {
            plain,
            events: make(true, events * 8),
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
        let mut body = request.into_body();
        let mut streamed = false;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                // Benchmarks put the field first, so it never straddles two frames.
                streamed |= data
                    .windows(13)
                    .take(64)
                    .any(|window| window == br#""stream":true"#);
            }
        }
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
        let start = (self.events.clone().into_iter(), self.pause);
        let frames = stream::unfold(start, async |(mut events, pause)| {
            let event = events.next()?;
            if pause.is_zero() {
                // Lets the connection flush, so that events leave one by one.
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(pause).await;
            }
            Some((Ok(Frame::data(event)), (events, pause)))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

fn content(answer: Answer) -> Vec<Bytes> {
    match answer.write(None).bytes {
        Whole::Plain(bytes) => vec![bytes],
        Whole::Events { events, .. } => events,
    }
}
