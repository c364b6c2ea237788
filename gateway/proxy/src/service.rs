//! Puts an HTTP codec on each accepted connection and hands each request to the handler.
//!
//! Decides which protocol a connection speaks, how long it may idle and how it ends; it knows
//! nothing of what a request asks. A client that hangs up does not stop an exchange: it runs on
//! without one. Worst case: at most `max_connections` clients each hold `max_streams` exchanges.

mod detach;
mod fresh;
mod watched;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pingora_core::apps::ServerApp;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::sync::Semaphore;
use tollgate_core::identity::ClientCertificate;

use crate::body::AnswerBody;
use crate::engine::EngineConfig;
use crate::farewell::Farewell;
use crate::guard::{HeadFault, RESERVED_METHOD, judge_http2};
use crate::handshake::Handshake;
use crate::io::{Downstream, Verdict, starts_http2};
use crate::server_name::ServerName;
use crate::tracker::{Arrival, Requests, Tracker};
use detach::{Detach, Last};
use fresh::{FIRST_REQUEST, Fresh};
use watched::Watched;

/// Most streams that a client has opened and reset before we have looked at them; more is the
/// rapid-reset attack (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;

/// Most streams of one connection that we reset for breaking the protocol.
const MAX_ERROR_RESETS: usize = 256;

/// Most bytes of one HTTP/2 stream's answer held for a slow client.
const STREAM_SEND_BYTES: usize = 128 * 1024;

/// The code of every refused head.
const MALFORMED: &str = "malformed_request";

/// What is known of a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnInfo {
    /// The client's address.
    pub client: SocketAddr,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The certificate the client has shown, verified.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl ConnInfo {
    /// A connection without TLS.
    #[must_use]
    pub const fn in_clear(client: SocketAddr) -> Self {
        Self {
            client,
            tls: false,
            certificate: None,
        }
    }
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Runs to its end also if the client goes away. `arrival` is dropped once
    /// it is decided whether the request is let through.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: ConnInfo,
        arrival: Arrival,
    ) -> impl Future<Output = Response<AnswerBody>> + Send;

    /// A request was refused for its head, and never became one: for the record.
    fn refused(&self, fault: HeadFault, request_id: &str, peer: &ConnInfo) {
        tracing::debug!(%fault, request_id, client = %peer.client, "a request head was refused");
    }
}

/// A handler on the network. Clones share its limits and count together, so that each thread can
/// have one.
pub struct Engine<H> {
    handler: Arc<H>,
    config: Arc<EngineConfig>,
    tracker: Tracker,
    connections: Arc<Semaphore>,
    farewell: Farewell,
}

impl<H> Clone for Engine<H> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            config: Arc::clone(&self.config),
            tracker: self.tracker.clone(),
            connections: Arc::clone(&self.connections),
            farewell: self.farewell.clone(),
        }
    }
}

impl<H> std::fmt::Debug for Engine<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl<H: Handler> Engine<H> {
    /// Serves `handler` within the limits of `config`; `tracker` counts its exchanges.
    #[must_use]
    pub fn new(handler: Arc<H>, config: Arc<EngineConfig>, tracker: Tracker) -> Self {
        let connections = config.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            handler,
            config,
            tracker,
            connections: Arc::new(Semaphore::new(connections)),
            farewell: Farewell::default(),
        }
    }

    /// What sends its clients to other connections.
    #[must_use]
    pub fn farewell(&self) -> Farewell {
        self.farewell.clone()
    }

    /// What counts its exchanges.
    pub(crate) fn tracker(&self) -> Tracker {
        self.tracker.clone()
    }

    async fn connection(
        self: &Arc<Self>,
        mut stream: Stream,
        client: SocketAddr,
        fresh: Fresh,
        shutdown: ShutdownWatch,
    ) {
        let handshake = Handshake::of(&stream);
        let certificate = match handshake.certificate() {
            Ok(certificate) => certificate,
            Err(error) => {
                tracing::warn!(%client, "a connection was closed: {error}");
                return;
            }
        };
        let peer = ConnInfo {
            client,
            tls: stream.get_ssl_digest().is_some(),
            certificate,
        };
        let (http2, inbox) = match stream.selected_alpn_proto() {
            Some(ALPN::H2) => (true, BytesMut::new()),
            None if !peer.tls && self.config.clear_text_http2 => {
                let first = starts_http2(
                    &mut stream,
                    self.config.client_idle,
                    self.config.head_deadline,
                );
                let mut shutdown = shutdown.clone();
                tokio::select! {
                    first = first => match first {
                        Ok(first) => first,
                        Err(error) => {
                            tracing::trace!(%error, "a connection ended before its first request");
                            return;
                        }
                    },
                    () = unused(&mut shutdown) => return,
                }
            }
            _ => (false, BytesMut::new()),
        };
        let result = if http2 {
            Box::pin(self.http2(stream, inbox, peer, handshake, fresh, shutdown)).await
        } else {
            Box::pin(self.http1(stream, inbox, peer, handshake, fresh, shutdown)).await
        };
        if let Err(error) = result {
            tracing::debug!(%error, %client, "a client connection ended");
        }
    }

    async fn http1(
        self: &Arc<Self>,
        stream: Stream,
        inbox: BytesMut,
        peer: ConnInfo,
        handshake: Handshake,
        fresh: Fresh,
        mut shutdown: ShutdownWatch,
    ) -> hyper::Result<()> {
        let verdict = Arc::new(Verdict::default());
        let io = Downstream::guarded(stream, inbox, Arc::clone(&verdict), &self.config);
        let last = Last {
            verdict: Arc::clone(&verdict),
            farewell: self.farewell.clone(),
        };
        let service = service_fn(|request: Request<Incoming>| {
            let arrival = fresh.used_by(&self.tracker);
            let request_under_way = verdict.enter();
            let fault = if request.method().as_str() == RESERVED_METHOD {
                Some(verdict.refused().unwrap_or(HeadFault::Malformed))
            } else {
                ServerName::judge(handshake.server_name.as_ref(), &request).err()
            };
            if let Some(fault) = fault {
                let mut refusal = self.refuse(fault, &peer);
                close(&mut refusal);
                return Detach::refusal(refusal, request_under_way, self.tracker.clone());
            }
            let handler = Arc::clone(&self.handler);
            let exchange = Box::pin(handler.handle(request, peer.clone(), arrival));
            Detach::exchange(exchange, request_under_way, self.tracker.clone())
                .which_may_be(last.clone())
        });
        // The stream itself bounds idling and heads: the codec, which sees whole heads only, would
        // end one that has begun by the clock of an idle connection, and without an answer.
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(self.config.max_head_bytes)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result,
            () = fresh.then(stopping(&mut shutdown)) => {}
            () = handshake.ending() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    async fn http2(
        self: &Arc<Self>,
        stream: Stream,
        inbox: BytesMut,
        peer: ConnInfo,
        handshake: Handshake,
        fresh: Fresh,
        mut shutdown: ShutdownWatch,
    ) -> hyper::Result<()> {
        let io = Downstream::open(stream, inbox, &self.config);
        let seen = Arc::new(Requests::default());
        let service = service_fn(|request: Request<Incoming>| {
            let arrival = fresh.used_by(&self.tracker);
            let request_under_way = seen.enter();
            let for_whom = ServerName::judge(handshake.server_name.as_ref(), &request);
            let (head, body) = request.into_parts();
            let judged = judge_http2(&head, self.config.max_target_bytes).and(for_whom);
            if let Err(fault) = judged {
                let refusal = self.refuse(fault, &peer);
                return Detach::refusal(refusal, request_under_way, self.tracker.clone());
            }
            let request = Request::from_parts(head, body);
            let handler = Arc::clone(&self.handler);
            let exchange = Box::pin(handler.handle(request, peer.clone(), arrival));
            Detach::exchange(exchange, request_under_way, self.tracker.clone())
        });
        let max_head_bytes = u32::try_from(self.config.max_head_bytes).unwrap_or(u32::MAX);
        let connection = http2::Builder::new(Watched::new(self.config.write_deadline))
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.config.max_streams)
            .max_header_list_size(max_head_bytes)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_ERROR_RESETS)
            .max_send_buf_size(STREAM_SEND_BYTES)
            .keep_alive_interval(self.config.ping_interval)
            .keep_alive_timeout(self.config.ping_deadline)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = pin!(connection);
        tokio::select! {
            result = connection.as_mut() => return result,
            () = fresh.then(stopping(&mut shutdown)) => {}
            () = fresh.then(self.farewell.said()) => {}
            () = seen.idle(self.config.client_idle) => {}
            () = handshake.ending() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    fn refuse(&self, fault: HeadFault, peer: &ConnInfo) -> Response<AnswerBody> {
        let request_id = uuid::Uuid::now_v7().simple().to_string();
        self.handler.refused(fault, &request_id, peer);
        refusal(fault, &request_id)
    }
}

#[async_trait]
impl<H: Handler> ServerApp for Engine<H> {
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let client = client(&session);
        let fresh = Fresh::new(self.tracker.come(&client));
        let Ok(_place) = self.connections.try_acquire() else {
            tracing::warn!("a connection over the limit was closed");
            return None;
        };
        let _open = self.tracker.connect();
        Box::pin(self.connection(session, client, fresh, shutdown.clone())).await;
        None
    }
}

/// Returns when the server stops. The watch's own guard must not live across an await.
async fn stopping(shutdown: &mut ShutdownWatch) {
    if shutdown.wait_for(|stopping| *stopping).await.is_err() {
        tracing::debug!("the shutdown watch is gone; stopping");
    }
}

/// Returns when the server has stopped, and nothing has come over a new connection.
async fn unused(shutdown: &mut ShutdownWatch) {
    stopping(shutdown).await;
    tokio::time::sleep(FIRST_REQUEST).await;
}

fn client(stream: &Stream) -> SocketAddr {
    stream
        .get_socket_digest()
        .and_then(|digest| {
            digest
                .peer_addr()
                .and_then(|address| address.as_inet().copied())
        })
        .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
}

/// Tells an HTTP/1 client, and the codec, that this is the connection's last answer.
fn close(response: &mut Response<AnswerBody>) {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The answer to a head that the guard refuses. No route is known yet, hence no dialect: the
/// envelope is OpenAI's, which most clients understand.
fn refusal(fault: HeadFault, request_id: &str) -> Response<AnswerBody> {
    let body = serde_json::json!({"error": {
        "message": fault.to_string(),
        "type": "invalid_request_error",
        "code": MALFORMED,
        "param": null,
    }});
    let mut response = Response::new(AnswerBody::full(body.to_string()));
    *response.status_mut() = fault.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-tollgate-error", HeaderValue::from_static(MALFORMED));
    if let Ok(request_id) = HeaderValue::try_from(request_id) {
        headers.insert("x-tollgate-request-id", request_id);
    }
    response
}
