//! Sends requests to upstreams over connections that are used again.
//!
//! A request is sent a second time only if the upstream cannot have acted on the first: it was
//! never written, or its used connection died without one byte of an answer, or HTTP/2 says that
//! it was not processed. Knows nothing of tenants: a connection carries no identity. Worst case:
//! an upstream that reads a request, acts on it and dies without answering sees it twice.

mod peer;
mod spare;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use foldhash::HashMap;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::runtime;
use tokio::time::timeout;
use tollgate_core::policy::Upstream;

use crate::body::{RequestBody, UploadFault};
use crate::dial::Dialer;
use crate::engine::EngineConfig;
use peer::{Connection, Lease, Peer, Sent};
use spare::Spare;

/// Time between two looks at whether an answer is still waited for.
const RECHECK: Duration = Duration::from_secs(1);

/// The part of an exchange that took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Finding and reaching the upstream.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Waiting for the head of the answer.
    FirstByte,
}

/// Why there is no answer from an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// It cannot be found or reached. Nothing was sent.
    #[error("could not connect to the upstream: {0}")]
    Connect(String),
    /// It is not who it should be, or TLS failed otherwise. Nothing was sent.
    #[error("could not establish TLS with the upstream: {0}")]
    Tls(String),
    /// It took too long.
    #[error("the upstream took too long ({stage:?})")]
    Timeout {
        /// Doing what.
        stage: Stage,
    },
    /// The connection broke, or what came over it is not HTTP.
    #[error("the upstream broke the exchange: {detail}")]
    Protocol {
        /// Whether the upstream may have seen, and acted on, the request.
        sent: bool,
        /// What the codec says.
        detail: String,
    },
    /// The client's upload ended early, and with it the request.
    #[error("the upload ended early: {0}")]
    Upload(UploadFault),
    /// Whoever asked waits for the answer no longer.
    #[error("the answer is no longer waited for")]
    GivenUp {
        /// Whether the upstream may have seen, and acted on, the request.
        sent: bool,
    },
}

impl UpstreamError {
    /// Whether the upstream may have seen the request, so that it may have cost something.
    #[must_use]
    pub const fn may_have_been_sent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Tls(_) => false,
            Self::Timeout { stage } => matches!(stage, Stage::FirstByte),
            Self::Protocol { sent, .. } | Self::GivenUp { sent } => *sent,
            Self::Upload(_) => true,
        }
    }
}

/// An upstream's answer.
#[derive(Debug)]
pub struct UpstreamAnswer {
    /// The head, and the body still to be read.
    pub response: Response<UpstreamBody>,
    /// Whether the connection had been used before.
    pub reused: bool,
}

/// An answer's body, and the connection it comes over, which is closed when this is dropped.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Lease,
}

impl UpstreamBody {
    /// It has been read whole: others may use the connection.
    pub(crate) fn finish(self) {
        self.lease.finish();
    }

    /// Reads it to its end, so that others may use the connection.
    ///
    /// # Errors
    /// It is longer than `limit_bytes`, or breaks off.
    pub async fn whole(
        mut self,
        limit_bytes: usize,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let body = Limited::new(&mut self, limit_bytes).collect().await?;
        self.finish();
        Ok(body.to_bytes())
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { incoming, lease } = self.get_mut();
        lease.poll_frame(incoming, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Every upstream's connections. Each runtime has its own: a connection's socket is watched by the
/// runtime that opened it, and to use it from another would wake a thread for every piece of an answer.
#[derive(Debug)]
pub struct Upstreams {
    peers: RwLock<HashMap<runtime::Id, HashMap<Upstream, Arc<Peer>>>>,
    dialer: Dialer,
    config: Arc<EngineConfig>,
}

impl Upstreams {
    /// No connections yet.
    #[must_use]
    pub fn new(config: Arc<EngineConfig>) -> Self {
        Self {
            peers: RwLock::default(),
            dialer: Dialer::default(),
            config,
        }
    }

    /// Sends `request` and waits for the head of the answer.
    ///
    /// The URI of `request` is a path with an optional query; `Host` or `:authority` is set here,
    /// and so is the body's framing. Other hop-by-hop headers are the caller's to remove. Dropping
    /// the future closes the connection or resets the stream.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::may_have_been_sent`] says whether money is at stake.
    pub async fn send(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
    ) -> Result<UpstreamAnswer, UpstreamError> {
        self.send_while(upstream, request, &|| true).await
    }

    /// As [`send`](Self::send), for as long as `goes_on` says so: it is asked before a request goes
    /// out over a new connection, and then every second.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`UpstreamError::GivenUp`].
    pub async fn send_while(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<UpstreamAnswer, UpstreamError> {
        let peer = self.peer(upstream);
        let (mut request, mut spare) = (Some(request), None);
        let mut fresh = false;
        loop {
            let connection = peer.connection(&self.dialer, fresh).await?;
            let again = || spare.take().and_then(Spare::request);
            let Some(sent) = request.take().or_else(again) else {
                return Err(UpstreamError::Protocol {
                    sent: true,
                    detail: "the request cannot be sent again".to_owned(),
                });
            };
            let reused = connection.reused();
            if !reused && !goes_on() {
                return Err(UpstreamError::GivenUp { sent: fresh });
            }
            if reused {
                spare = Spare::of(&sent);
            }
            match self.attempt(&peer, connection, sent, goes_on).await {
                Ok((response, lease)) => {
                    let response = response.map(|incoming| UpstreamBody { incoming, lease });
                    return Ok(UpstreamAnswer { response, reused });
                }
                Err(Failed::Repeatable(error, returned)) => {
                    request = returned.map(|request| *request);
                    if !reused || (request.is_none() && spare.is_none()) {
                        return Err(error);
                    }
                    fresh = true;
                }
                Err(Failed::Final(error)) => return Err(error),
            }
        }
    }

    async fn attempt(
        &self,
        peer: &Peer,
        connection: Connection,
        mut request: Request<RequestBody>,
        goes_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        address(peer, &mut request, connection.http2())
            .map_err(|error| Failed::Final(protocol(false, &error)))?;
        frame(&mut request);
        let upload = request.body().upload_state();
        let sent = connection.send(request, upload.clone());
        let sent = patiently(sent, self.config.first_byte_deadline, goes_on).await;
        let sent = sent.map_err(Failed::Final)?;
        match sent {
            Sent::Answer(response, lease) => match distrust(&response) {
                None => Ok((response, lease)),
                Some(detail) => Err(Failed::Final(UpstreamError::Protocol {
                    sent: true,
                    detail: detail.to_owned(),
                })),
            },
            Sent::Failed {
                error,
                unseen,
                returned,
            } => {
                if let Some(fault) = upload.and_then(|upload| upload.fault()) {
                    return Err(Failed::Final(UpstreamError::Upload(fault)));
                }
                let error = protocol(!unseen, &error);
                Err(if unseen {
                    Failed::Repeatable(error, returned.map(Box::new))
                } else {
                    Failed::Final(error)
                })
            }
        }
    }

    fn peer(&self, upstream: &Upstream) -> Arc<Peer> {
        let here = runtime::Handle::current().id();
        let known = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = known.get(&here).and_then(|known| known.get(upstream)) {
            return Arc::clone(peer);
        }
        drop(known);
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let peer = peers
            .entry(here)
            .or_default()
            .entry(upstream.clone())
            .or_insert_with(|| Arc::new(Peer::new(upstream.clone(), Arc::clone(&self.config))));
        Arc::clone(peer)
    }
}

/// Waits for an answer `within` some time and while somebody wants it. Both have one timer.
async fn patiently<T>(
    answer: impl Future<Output = T>,
    within: Duration,
    goes_on: &(dyn Fn() -> bool + Sync),
) -> Result<T, UpstreamError> {
    let mut answer = pin!(answer);
    let mut left = within;
    loop {
        let part = left.min(RECHECK);
        if let Ok(answer) = timeout(part, answer.as_mut()).await {
            return Ok(answer);
        }
        if !goes_on() {
            return Err(UpstreamError::GivenUp { sent: true });
        }
        left -= part;
        if left.is_zero() {
            let stage = Stage::FirstByte;
            return Err(UpstreamError::Timeout { stage });
        }
    }
}

enum Failed {
    /// The upstream has not acted on the request, which is returned if it was never written.
    Repeatable(UpstreamError, Option<Box<Request<RequestBody>>>),
    Final(UpstreamError),
}

fn protocol(sent: bool, error: &(dyn std::error::Error + 'static)) -> UpstreamError {
    let mut detail = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    UpstreamError::Protocol { sent, detail }
}

/// Why an answer is not relayed, though the codec takes it.
fn distrust(response: &Response<Incoming>) -> Option<&'static str> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked to: what follows would not be HTTP.
        return Some("the upstream switched protocols unasked");
    }
    let headers = response.headers();
    (headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH))
        .then_some("the answer has two lengths")
}

/// Puts the upstream's name where the protocol wants it.
fn address(
    peer: &Peer,
    request: &mut Request<RequestBody>,
    http2: bool,
) -> Result<(), http::Error> {
    let target = |uri: &Uri| match uri.path_and_query() {
        Some(target) => target.clone(),
        None => uri::PathAndQuery::from_static("/"),
    };
    if http2 {
        request.headers_mut().remove(HOST);
        *request.version_mut() = http::Version::HTTP_2;
        *request.uri_mut() = Uri::builder()
            .scheme("https")
            .authority(peer.authority.as_str())
            .path_and_query(target(request.uri()))
            .build()?;
    } else {
        *request.version_mut() = http::Version::HTTP_11;
        if request.uri().authority().is_some() {
            *request.uri_mut() = Uri::from(target(request.uri()));
        }
        let host = match &peer.host {
            Some(host) => host.clone(),
            None => HeaderValue::try_from(&peer.authority)?,
        };
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

/// Leaves the body's framing to the codec, which knows the body; the client's no longer holds.
fn frame(request: &mut Request<RequestBody>) {
    let is_empty = matches!(request.body(), RequestBody::Empty);
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    let had_length = headers.remove(CONTENT_LENGTH).is_some();
    // The codec sends no length with an empty body, and some servers insist on one.
    let takes_body = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    if is_empty && (had_length || takes_body) {
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}
