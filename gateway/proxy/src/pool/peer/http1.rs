//! An HTTP/1 connection without a task: whoever uses it drives its codec.
//!
//! A task between an answer and its reader would take two turns of the event loop for every piece of
//! the answer. Nobody drives a connection that is not in use: that it has been closed shows when it
//! is looked at. Worst case: an upload that goes on after its answer has begun would stop while the
//! client reads nothing, which is why such a connection gets a task after all, and no second call.

mod gate;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::{AbortOnDrop, drive};
use crate::body::RequestBody;
use crate::io::{Upstreamed, Wire};
use gate::Gate;

/// A connection, and who drives it.
#[derive(Debug)]
pub(super) struct Http1 {
    sender: SendRequest<RequestBody>,
    codec: Codec,
    gate: Gate,
    bytes_read: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Codec {
    /// Whoever holds the connection drives it.
    Here(Pin<Box<Connection<TokioIo<Upstreamed>, RequestBody>>>),
    /// A task does.
    Away(#[expect(dead_code, reason = "ends the task when it is dropped")] AbortOnDrop),
    /// The connection is closed.
    Ended,
}

impl Http1 {
    pub(super) async fn open(wire: Wire) -> hyper::Result<Self> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let io = TokioIo::new(Upstreamed::new(wire, Arc::clone(&bytes_read)));
        let (sender, connection) = Builder::new().handshake(io).await?;
        Ok(Self {
            sender,
            codec: Codec::Here(Box::pin(connection)),
            gate: Gate::default(),
            bytes_read,
        })
    }

    /// How much has been read from it.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Acquire)
    }

    /// Whether it is open and takes a request.
    pub(super) fn is_ready(&mut self) -> bool {
        // Nobody waits for what comes over an unused connection.
        let nobody = &mut Context::from_waker(Waker::noop());
        let Self { codec, sender, .. } = self;
        let ready = self.gate.poll(nobody, |cx| {
            drive_codec(codec, cx);
            Poll::Ready(sender.is_ready())
        });
        ready == Poll::Ready(true)
    }

    /// Sends `request` and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let Self { codec, gate, .. } = self;
        poll_fn(|cx| {
            gate.poll(cx, |cx| {
                drive_codec(codec, cx);
                answer.as_mut().poll(cx)
            })
        })
        .await
    }

    /// Reads on in the answer.
    pub(super) fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut incoming = Pin::new(incoming);
        if matches!(self.codec, Codec::Away(_)) {
            return incoming.poll_frame(cx);
        }
        let Self { codec, gate, .. } = self;
        gate.poll(cx, |cx| {
            drive_codec(codec, cx);
            incoming.as_mut().poll_frame(cx)
        })
    }

    /// From now on it needs nobody to drive it, and serves no other request.
    pub(super) fn runs_by_itself(&mut self) {
        if let Codec::Here(connection) = std::mem::replace(&mut self.codec, Codec::Ended) {
            self.codec = Codec::Away(drive(connection));
        }
    }
}

/// Lets the codec read and write what it can.
fn drive_codec(codec: &mut Codec, cx: &mut Context<'_>) {
    if let Codec::Here(connection) = codec
        && let Poll::Ready(ended) = connection.as_mut().poll(cx)
    {
        if let Err(error) = ended {
            tracing::debug!(%error, "an upstream connection ended");
        }
        *codec = Codec::Ended;
    }
}
