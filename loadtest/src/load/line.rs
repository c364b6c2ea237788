//! One connection to the target, and one call on it.
//!
//! A connection that the target closed between two calls is replaced, which is no failure; one that
//! ends after a request was written on it is.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::answer;
use super::mix::{Call, Mix};
use super::outcome::{Failure, Seen};
use super::target::Target;

/// The gateway's word for why it refused or failed a call.
const ERROR_CODE: &str = "x-tollgate-error";

/// A connection that is kept for the next call.
#[derive(Debug)]
pub(super) struct Line(SendRequest<Full<Bytes>>);

impl Line {
    /// Connects, with TLS if the target has it.
    pub(super) async fn open(target: &Arc<Target>) -> Result<Self, Failure> {
        let stream = TcpStream::connect(&target.addrs[..]).await;
        let stream = stream.map_err(|_refused| Failure::Connect)?;
        // Nagle's algorithm would hold back the second part of a request.
        let _ = stream.set_nodelay(true);
        match &target.tls {
            None => Self::speak(TokioIo::new(stream)).await,
            Some((tls, name)) => {
                let stream = tls.connect(name.clone(), stream).await;
                Self::speak(TokioIo::new(stream.map_err(|_refused| Failure::Connect)?)).await
            }
        }
    }

    async fn speak(io: impl Read + Write + Unpin + 'static) -> Result<Self, Failure> {
        let (sender, connection) = http1::handshake(io)
            .await
            .map_err(|_broken| Failure::Connect)?;
        // It ends with its sender.
        tokio::task::spawn_local(connection);
        Ok(Self(sender))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends the request. If it was not written at all, it comes back.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Option<Request<Full<Bytes>>>> {
        if self.0.ready().await.is_err() {
            return Err(Some(request));
        }
        let sent = self.0.try_send_request(request).await;
        sent.map_err(|mut error| error.take_message())
    }
}

/// Makes the call, on the connection that is there or a new one. Returns what came of it, the connection if
/// it is still good, and how many were opened.
pub(super) async fn call(
    target: &Arc<Target>,
    mix: &Mix,
    call: &Call,
    due: Instant,
    line: Option<Line>,
) -> (Seen, Option<Line>, u64) {
    let mut opened = 0;
    let failed = |failure, opened| {
        let failure = Some(failure);
        (
            Seen {
                failure,
                whole: due.elapsed(),
                ..Seen::default()
            },
            None,
            opened,
        )
    };
    let Some(mut request) = mix.request(call) else {
        return failed(Failure::Connect, opened);
    };
    let mut line = line.filter(|line| !line.is_closed());
    let (answer, line) = loop {
        let mut open = match line.take() {
            Some(line) => line,
            None if opened > 0 => return failed(Failure::NoAnswer, opened),
            None => {
                opened += 1;
                match Line::open(target).await {
                    Ok(line) => line,
                    Err(failure) => return failed(failure, opened),
                }
            }
        };
        match open.send(request).await {
            Ok(answer) => break (answer, open),
            Err(Some(unwritten)) => request = unwritten,
            Err(None) => return failed(Failure::NoAnswer, opened),
        }
    };
    let seen = read(answer, call, due).await;
    let is_good = !line.is_closed() && !matches!(seen.failure, Some(Failure::BrokenBody));
    (seen, is_good.then_some(line), opened)
}

async fn read(answer: Response<Incoming>, call: &Call, due: Instant) -> Seen {
    let (head, body) = answer.into_parts();
    let code = head
        .headers
        .get(ERROR_CODE)
        .and_then(|code| code.to_str().ok());
    let right = head.status.is_success();
    let read = if right && call.streamed && is_stream(&head.headers) {
        answer::stream(body, call.dialect).await
    } else {
        answer::plain(body).await
    };
    let failure = match (right, call.streamed && !is_stream(&head.headers)) {
        (false, _) => Some(Failure::Status),
        (true, true) => Some(Failure::WrongEnd),
        (true, false) => read.failure,
    };
    Seen {
        streamed: call.streamed,
        status: Some(head.status),
        code: code.map(str::to_owned),
        failure,
        first_byte: read.first_byte.map(|at| at - due),
        whole: due.elapsed(),
        events: read.events,
        gaps: read.gaps,
        bytes: read.bytes,
        usage: read.usage,
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}
