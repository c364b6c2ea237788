//! The connections to one origin: unused HTTP/1 ones, and the shared HTTP/2 ones.
//!
//! An HTTP/1 connection is driven by the call that uses it (`http1`), an HTTP/2 one by a task of its
//! own; dropping the connection closes the socket. Worst case: a burst opens one connection per
//! call, of which a bounded number is kept.

mod http1;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tollgate_core::policy::Upstream;

use super::UpstreamError;
use crate::body::{RequestBody, UploadState};
use crate::dial::{Dialed, Dialer};
use crate::engine::EngineConfig;
use crate::io::{Upstreamed, Wire};
use http1::Http1;

/// Time between two looks at whether unused connections are still of use.
const LOOK: Duration = Duration::from_secs(1);

/// Most streams on one HTTP/2 connection: what RFC 9113 (section 6.5.2) asks every peer to allow
/// at least. Where an upstream allows fewer, the codec queues the rest.
const MAX_SHARED_STREAMS: u32 = 100;

/// Most bytes of one HTTP/2 answer held for a slow client. The connection's window has room for
/// all its streams, so that slow clients of one tenant cannot stall the others.
const STREAM_WINDOW: u32 = 256 * 1024;

/// One origin.
#[derive(Debug)]
pub(super) struct Peer {
    upstream: Upstream,
    /// Its name, and the header that says it, made once.
    pub(super) authority: String,
    pub(super) host: Option<HeaderValue>,
    config: Arc<EngineConfig>,
    idle: Mutex<VecDeque<Idle>>,
    reaping: AtomicBool,
    shared: tokio::sync::Mutex<Vec<Http2>>,
    /// The upstream has turned HTTP/2 down, so that nobody needs to wait for another's handshake.
    http1_only: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    since: Instant,
    connection: Http1,
}

/// Ends the task that drives a connection, and with it the connection.
#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, Clone)]
struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicU32>,
    _task: Arc<AbortOnDrop>,
}

/// A place on a shared connection.
#[derive(Debug)]
struct Stream {
    streams: Arc<AtomicU32>,
    /// Keeps the connection's task running for as long as the answer.
    _connection: Http2,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection that a request can be sent over.
pub(super) struct Connection {
    kind: Kind,
    peer: Arc<Peer>,
    reused: bool,
}

enum Kind {
    Http1(Http1),
    Http2(Http2, Stream),
}

/// What came of sending.
pub(super) enum Sent {
    Answer(Response<Incoming>, Lease),
    Failed {
        error: hyper::Error,
        /// The upstream has not acted on the request.
        unseen: bool,
        /// The request, if it was never written.
        returned: Option<Request<RequestBody>>,
    },
}

/// The right to read one answer from a connection. Dropping it closes the connection or stream.
#[derive(Debug)]
pub(super) struct Lease(Held);

#[derive(Debug)]
enum Held {
    Http1 { connection: Http1, peer: Arc<Peer> },
    Http2 { _stream: Stream },
}

impl Lease {
    /// Reads on in the answer.
    pub(super) fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Held::Http1 { connection, .. } => connection.poll_frame(incoming, cx),
            Held::Http2 { .. } => Pin::new(incoming).poll_frame(cx),
        }
    }

    /// The answer has been read whole: others may use the connection.
    pub(super) fn finish(self) {
        if let Held::Http1 { connection, peer } = self.0 {
            peer.keep(connection);
        }
    }
}

impl Peer {
    pub(super) fn new(upstream: Upstream, config: Arc<EngineConfig>) -> Self {
        let authority = upstream.authority();
        Self {
            upstream,
            host: HeaderValue::try_from(&authority).ok(),
            authority,
            config,
            idle: Mutex::default(),
            reaping: AtomicBool::new(false),
            shared: tokio::sync::Mutex::default(),
            http1_only: AtomicBool::new(false),
        }
    }

    /// A connection that is ready; a new one if `fresh`.
    pub(super) async fn connection(
        self: &Arc<Self>,
        dialer: &Dialer,
        fresh: bool,
    ) -> Result<Connection, UpstreamError> {
        let may_share = self.upstream.tls && self.upstream.http2;
        if may_share && !self.http1_only.load(Ordering::Acquire) {
            return self.shared_connection(dialer, fresh).await;
        }
        if !fresh && let Some(connection) = self.take_idle() {
            return Ok(self.connected(Kind::Http1(connection), true));
        }
        // Few calls need a new one, and all would carry its state along.
        let (kind, _http2) = Box::pin(self.open(dialer)).await?;
        Ok(self.connected(kind, false))
    }

    /// A new connection, and whether the upstream has chosen HTTP/2 for it.
    async fn open(&self, dialer: &Dialer) -> Result<(Kind, bool), UpstreamError> {
        let dialed = dialer.dial(&self.upstream, &self.config).await?;
        let http2 = dialed.http2;
        Ok((self.handshake(dialed).await?, http2))
    }

    /// One of the shared connections, or a new one. The lock is held while it is made, so that
    /// a burst of first requests makes one connection.
    async fn shared_connection(
        self: &Arc<Self>,
        dialer: &Dialer,
        fresh: bool,
    ) -> Result<Connection, UpstreamError> {
        let mut shared = self.shared.lock().await;
        shared.retain(|connection| !connection.sender.is_closed());
        if !fresh && let Some(connection) = shared.iter().find(|connection| connection.has_room()) {
            let kind = connection.clone().enter();
            return Ok(self.connected(kind, true));
        }
        let (kind, http2) = Box::pin(self.open(dialer)).await?;
        if let Kind::Http2(connection, _) = &kind {
            shared.push(connection.clone());
        }
        self.http1_only.store(!http2, Ordering::Release);
        Ok(self.connected(kind, false))
    }

    fn connected(self: &Arc<Self>, kind: Kind, reused: bool) -> Connection {
        Connection {
            kind,
            peer: Arc::clone(self),
            reused,
        }
    }

    async fn handshake(&self, dialed: Dialed) -> Result<Kind, UpstreamError> {
        let failed = |error: hyper::Error| super::protocol(false, &error);
        if dialed.http2 {
            return Ok(http2(dialed.wire).await.map_err(failed)?.enter());
        }
        Ok(Kind::Http1(Http1::open(dialed.wire).await.map_err(failed)?))
    }

    /// The connection used last that is still open; the others may have been closed for idling.
    fn take_idle(&self) -> Option<Http1> {
        loop {
            let mut idle = self.idle().pop_back()?;
            if idle.since.elapsed() < self.config.upstream_idle && idle.connection.is_ready() {
                return Some(idle.connection);
            }
        }
    }

    fn keep(self: &Arc<Self>, mut connection: Http1) {
        if !connection.is_ready() {
            return;
        }
        let mut idle = self.idle();
        if idle.len() >= self.config.max_idle_per_upstream {
            idle.pop_front();
        }
        idle.push_back(Idle {
            since: Instant::now(),
            connection,
        });
        drop(idle);
        if !self.reaping.swap(true, Ordering::AcqRel) {
            reap(Arc::downgrade(self), LOOK.min(self.config.upstream_idle));
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what has been unused for too long, or closed by the upstream; false if nothing is
    /// left.
    fn close_unused(&self) -> bool {
        let mut idle = self.idle();
        idle.retain_mut(|idle| {
            idle.since.elapsed() < self.config.upstream_idle && idle.connection.is_ready()
        });
        if idle.is_empty() {
            self.reaping.store(false, Ordering::Release);
            return false;
        }
        true
    }
}

/// Watches the unused connections of one origin for as long as there are any.
fn reap(peer: Weak<Peer>, every: Duration) {
    tokio::spawn(async move {
        loop {
            sleep(every).await;
            if !peer.upgrade().is_some_and(|peer| peer.close_unused()) {
                return;
            }
        }
    });
}

async fn http2(wire: Wire) -> hyper::Result<Http2> {
    let io = TokioIo::new(Upstreamed::new(wire, Arc::default()));
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * MAX_SHARED_STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(io)
        .await?;
    Ok(Http2 {
        sender,
        streams: Arc::default(),
        _task: Arc::new(drive(connection)),
    })
}

fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> AbortOnDrop {
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    AbortOnDrop(task.abort_handle())
}

impl Http2 {
    fn has_room(&self) -> bool {
        self.sender.is_ready() && self.streams.load(Ordering::Acquire) < MAX_SHARED_STREAMS
    }

    fn enter(self) -> Kind {
        self.streams.fetch_add(1, Ordering::AcqRel);
        let stream = Stream {
            streams: Arc::clone(&self.streams),
            _connection: self.clone(),
        };
        Kind::Http2(self, stream)
    }
}

impl Connection {
    /// Whether it has been used before, so that it may have died unnoticed.
    pub(super) const fn reused(&self) -> bool {
        self.reused
    }

    pub(super) const fn http2(&self) -> bool {
        matches!(self.kind, Kind::Http2(..))
    }

    /// Sends `request` and waits for the head of the answer.
    pub(super) async fn send(
        self,
        request: Request<RequestBody>,
        upload: Option<Arc<UploadState>>,
    ) -> Sent {
        match self.kind {
            Kind::Http1(mut connection) => {
                let before = connection.bytes_read();
                match connection.send(request).await {
                    Ok(response) => {
                        if upload.is_some_and(|upload| !upload.finished()) {
                            connection.runs_by_itself();
                        }
                        let peer = self.peer;
                        Sent::Answer(response, Lease(Held::Http1 { connection, peer }))
                    }
                    Err(mut failure) => {
                        let silent = connection.bytes_read() == before;
                        let returned = failure.take_message();
                        Sent::Failed {
                            unseen: returned.is_some()
                                || (self.reused && silent && upload.is_none()),
                            returned,
                            error: failure.into_error(),
                        }
                    }
                }
            }
            Kind::Http2(mut connection, stream) => {
                match connection.sender.try_send_request(request).await {
                    Ok(response) => Sent::Answer(response, Lease(Held::Http2 { _stream: stream })),
                    Err(mut failure) => {
                        let returned = failure.take_message();
                        let error = failure.into_error();
                        Sent::Failed {
                            unseen: returned.is_some() || refused(&error),
                            returned,
                            error,
                        }
                    }
                }
            }
        }
    }
}

/// Whether the upstream says that it has not processed the request (RFC 9113 section 8.7).
fn refused(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let reset = error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let leaving = error.is_go_away()
                && error.is_remote()
                && error.reason() == Some(h2::Reason::NO_ERROR);
            return reset || leaving;
        }
        source = cause.source();
    }
    false
}
