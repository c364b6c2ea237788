//! A provider that answers as told, on one port: OpenAI and its relatives, Anthropic, Gemini and
//! Vertex AI, Bedrock, Cohere, Ollama, and a generic tool.
//!
//! ```no_run
//! # use tollgate_loadtest::mock::Mock;
//! # async fn example() -> std::io::Result<()> {
//! let mock = Mock::start("127.0.0.1:0".parse().unwrap()).await?;
//! println!("{}", mock.url());
//! mock.wait_for(1).await;                       // one request has arrived whole
//! let authorization = mock.seen()[0].header("authorization");
//! # Ok(()) }
//! ```
//! HTTP/1.1 and HTTP/2 (by prior knowledge, and by ALPN with TLS). What a request can ask for is listed
//! in `mock/steer.rs`, and how it is made to call a tool in `mock/toolcall.rs`. Ids count up, times stand still: the same requests in the same order get
//! the same answers. It checks no key and no permission.
//!
//! Worst case: inspected bodies (JSON calls) are held in memory whole, and every request is kept; a mock is for tests,
//! not for strangers. One that runs for long is [`MockConfig::standing`]: it bounds both.

mod account;
mod answer;
mod anthropic;
mod ask;
mod batches;
mod bedrock;
mod bench;
mod cohere;
mod form;
mod frames;
mod gemini;
mod lies;
mod ollama;
mod openai;
mod place;
mod provider;
mod seen;
mod steer;
mod toolcall;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use bench::BenchAnswers;
pub use seen::{Billed, Outcome, SeenRequest};

use answer::{Answer, Body, Written, gate_open, respond};
use batches::Deferred;
use place::Place;
use provider::Asked;
use seen::{BodyFacts, Journal};
use steer::Steering;

/// Unix seconds of everything created here: 2026-01-01.
const CREATED: u64 = 1_767_225_600;

/// How a mock is set up.
#[derive(Debug, Clone)]
pub struct MockConfig {
    /// Where to listen; port 0 picks a free one.
    pub addr: SocketAddr,
    /// TLS, if wanted. Its `alpn_protocols` decide whether HTTP/2 is offered.
    pub tls: Option<Arc<ServerConfig>>,
    /// Bytes kept of each request's body; hash and length always cover all of it.
    pub keep_body_bytes: usize,
    /// Prepared answers, no steering and no record: for measuring.
    pub bench: Option<BenchAnswers>,
    /// Requests that are kept; the oldest are forgotten first.
    pub keep_requests: usize,
    /// Longest body that is inspected; a longer one is answered with 413.
    pub inspected_bytes: usize,
    /// Connections at one time; one more is closed at once.
    pub connections: usize,
    /// Whether `/healthz` and `/account` are the mock's own, and not a tool's.
    pub tells_of_itself: bool,
}

impl MockConfig {
    /// Plain TCP, steerable, keeping up to a mebibyte of each body.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            tls: None,
            keep_body_bytes: 1 << 20,
            bench: None,
            keep_requests: usize::MAX,
            inspected_bytes: usize::MAX,
            connections: usize::MAX,
            tells_of_itself: false,
        }
    }

    /// For a mock that runs for long: it keeps little, and tells how it is and what it has billed.
    #[must_use]
    pub fn standing(addr: SocketAddr) -> Self {
        Self {
            keep_body_bytes: 0,
            keep_requests: 100,
            inspected_bytes: 8 << 20,
            connections: 256,
            tells_of_itself: true,
            ..Self::new(addr)
        }
    }
}

/// A running mock. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Mock {
    addr: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

/// What connections and handle share.
#[derive(Debug)]
struct Shared {
    config: MockConfig,
    journal: Journal,
    serial: AtomicU64,
    accepted: AtomicU64,
    gate: watch::Sender<bool>,
    deferred: Deferred,
}

impl Mock {
    /// Listens on plain TCP.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(addr: SocketAddr) -> io::Result<Self> {
        Self::start_with(MockConfig::new(addr)).await
    }

    /// Listens as configured, inside the caller's tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start_with(config: MockConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.addr).await?;
        let addr = listener.local_addr()?;
        let tls = config.tls.is_some();
        let shared = Arc::new(Shared {
            journal: Journal::of(config.keep_requests),
            config,
            serial: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            gate: watch::Sender::new(false),
            deferred: Deferred::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            addr,
            tls,
            shared,
            accepting,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT` or `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Every request so far, in order of arrival, including those whose body is still on its way.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.shared.journal.snapshot()
    }

    /// Forgets what was seen; connections keep counting.
    pub fn forget(&self) {
        self.shared.journal.clear();
    }

    /// Returns once `wanted` requests have arrived whole since the start or the last [`forget`](Self::forget).
    pub async fn wait_for(&self, wanted: usize) {
        self.shared.journal.wait_for(wanted).await;
    }

    /// TCP connections accepted so far. None means: no contact.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Lets every answer go on that waits at `hold` or `hold-after-N`, now and from now on.
    pub fn release(&self) {
        self.shared.gate.send_replace(true);
    }

    /// Makes `hold` wait again after a [`release`](Self::release).
    pub fn close_gate(&self) {
        self.shared.gate.send_replace(false);
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // The task owns the listener and, in a JoinSet, all connections; they end with it.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A refused accept (too many files) concerns that one connection only.
                if let Ok((stream, _)) = accepted
                    && connections.len() < shared.config.connections
                {
                    let number = shared.accepted.fetch_add(1, Ordering::AcqRel) + 1;
                    connections.spawn(serve(stream, number, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, connection: u64, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    match &shared.config.tls {
        Some(tls) => {
            if let Ok(stream) = TlsAcceptor::from(Arc::clone(tls)).accept(stream).await {
                speak(stream, connection, &shared).await;
            }
        }
        None => speak(stream, connection, &shared).await,
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: u64,
    shared: &Arc<Shared>,
) {
    let service = service_fn(|request| {
        let shared = Arc::clone(shared);
        async move {
            match &shared.config.bench {
                Some(answers) => answers.answer(request).await,
                None => Box::pin(exchange(request, connection, &shared)).await,
            }
        }
    });
    // Its errors are clients that went away and hang-ups made on purpose.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// One request and its answer. An error closes the connection (HTTP/1) or resets the stream (HTTP/2).
async fn exchange(
    request: Request<Incoming>,
    connection: u64,
    shared: &Shared,
) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    if shared.config.tells_of_itself
        && let Some(told) = own(&head, shared)
    {
        return Ok(told);
    }
    let entry = shared.journal.open(&head, connection);
    let serial = shared.serial.fetch_add(1, Ordering::AcqRel) + 1;
    let mut gate = shared.gate.subscribe();
    let mut steering = match Steering::from_head(&head) {
        Ok(steering) => steering,
        Err(word) => {
            return Ok(respond(
                provider::misspelt(&word),
                &Steering::default(),
                None,
                gate,
                Some(entry),
            ));
        }
    };
    let place = Place::of(&head);
    let mut asked = Asked {
        serial,
        head: &head,
        place: &place,
        facts: &BodyFacts::default(),
        whole: &Bytes::new(),
        body: &Value::Null,
        deferred: &shared.deferred,
    };
    if steering.early {
        let answer = provider::answer(&asked, &steering);
        return Ok(respond(answer, &steering, None, gate, Some(entry)));
    }
    let inspected = place.is_inspected(&head.method);
    let limit = if inspected || steering.echo == steer::Echo::Body {
        shared.config.inspected_bytes
    } else {
        shared.config.keep_body_bytes
    };
    let (facts, whole) = read(body, limit, shared.config.keep_body_bytes).await?;
    if inspected && facts.len > whole.len() as u64 {
        steering.status = Some(StatusCode::PAYLOAD_TOO_LARGE.as_u16());
    }
    (asked.facts, asked.whole) = (&facts, &whole);
    let answer = if inspected {
        answer_inspected(asked, &mut steering)
    } else {
        provider::answer(&asked, &steering)
    };
    shared.journal.complete(&entry, facts);
    if steering.hangup {
        entry.finish(Outcome::Broken);
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    tokio::time::sleep(steering.delay).await;
    if steering.hold {
        gate_open(&mut gate).await;
    }
    if steering.stall {
        std::future::pending::<()>().await;
    }
    let trailers = provider::trailers(&head, &steering);
    Ok(respond(answer, &steering, trailers, gate, Some(entry)))
}

/// What a standing mock says of itself.
fn own(head: &Parts, shared: &Shared) -> Option<Response<Body>> {
    let body = match (&head.method, head.uri.path()) {
        (&Method::GET, "/healthz") => json!({"status": "ok"}),
        (&Method::GET, "/account") => shared.journal.account().to_json(),
        _ => return None,
    };
    let said = Answer::free(body).write(None);
    let gate = shared.gate.subscribe();
    Some(respond(said, &Steering::default(), None, gate, None))
}

fn answer_inspected(asked: Asked<'_>, steering: &mut Steering) -> Written {
    let Some(body) = provider::read(asked.head, asked.whole) else {
        steering.status = steering.status.or(Some(StatusCode::BAD_REQUEST.as_u16()));
        return provider::answer(&asked, steering);
    };
    match steering.add_body(&body) {
        Ok(()) => provider::answer(
            &Asked {
                body: &body,
                ..asked
            },
            steering,
        ),
        Err(word) => provider::misspelt(&word),
    }
}

/// Reads a body to its end: facts for the journal, and its first `limit` bytes.
async fn read(mut body: Incoming, limit: usize, keep: usize) -> io::Result<(BodyFacts, Bytes)> {
    let mut whole = BytesMut::new();
    let mut hash = Sha256::new();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
            continue;
        };
        hash.update(&data);
        len += data.len() as u64;
        let room = limit.saturating_sub(whole.len()).min(data.len());
        whole.extend_from_slice(data.get(..room).unwrap_or_default());
    }
    let whole = whole.freeze();
    let sha256 = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // A copy, so that keeping the start does not keep all of it alive.
    let kept = Bytes::copy_from_slice(whole.get(..keep).unwrap_or(&whole));
    Ok((BodyFacts { len, sha256, kept }, whole))
}
