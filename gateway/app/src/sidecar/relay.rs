//! Takes each call from the agent's SDK to the gateway and its answer back, both as they come.
//!
//! Changes two things: the task token goes in, and fields that concern one connection only (RFC
//! 9110 section 7.6.1) stay out. Method, target, other fields, bodies and statuses are passed on
//! as they are, and nothing is held back or collected. Either side that leaves takes the other
//! connection with it. A web page that a browser in the pod shows must not reach the gateway
//! through here, so a call has to name a loopback host and must not come from a page.
//!
//! Worst case: [`MAX_CONNECTIONS`] clients each hold two connections and two buffers of at most
//! [`MAX_BUFFER_BYTES`]; more clients wait to be accepted.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use super::keeper::Tokens;

/// Clients at once.
const MAX_CONNECTIONS: u32 = 1_024;

/// The longest head, and the most of a body that is held for a side that is slow.
const MAX_BUFFER_BYTES: usize = 128 * 1024;

/// How long a client may keep a connection without asking anything, or take to ask.
const CLIENT_IDLE: Duration = Duration::from_secs(300);

/// The pause after a connection could not be accepted, for the lack of files for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What begins the sidecar's own paths; the gateway has none that begin so.
const OWN: &str = "/__tollgate/";

const TOKEN: HeaderName = HeaderName::from_static("x-tollgate-token");
const ERROR: HeaderName = HeaderName::from_static("x-tollgate-error");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Fields that concern one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What goes back: one's own words, or the gateway's.
type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// What the sidecar says itself.
struct Own {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// What every call needs.
pub(super) struct Relay {
    tokens: Arc<Tokens>,
    /// Whether a call may name a host that is not this machine: the listener is open to others.
    any_host: bool,
}

/// Accepts clients until told to stop, and returns when the last one has gone.
pub(super) async fn serve(
    listener: TcpListener,
    relay: Arc<Relay>,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    loop {
        let accepting = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            () = stopping(&mut stopped) => break,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let (relay, stopped) = (Arc::clone(&relay), stopped.clone());
                tokio::spawn(relay.connection(stream, place, stopped));
            }
            (_, Err(error)) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_closed), _) => break,
        }
    }
    drop(listener);
    // Every place is free again once every connection has ended.
    let _all = places.acquire_many(MAX_CONNECTIONS).await;
}

/// Returns when the sidecar stops. The watch's own guard must not live across an await.
async fn stopping(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        debug!("whoever says when to stop is gone; stopping");
    }
}

impl Relay {
    pub(super) fn new(tokens: Arc<Tokens>, any_host: bool) -> Self {
        Self { tokens, any_host }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        _place: OwnedSemaphorePermit,
        mut stopped: watch::Receiver<bool>,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY could not be set");
        }
        let service = service_fn(|request| {
            let relay = Arc::clone(&self);
            async move { Ok::<_, Infallible>(relay.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(CLIENT_IDLE)
            .max_buf_size(MAX_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping(&mut stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a client's connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match self.relay(request).await {
            Ok(answer) => answer,
            Err(own) => own.into_answer(),
        }
    }

    async fn relay(&self, request: Request<Incoming>) -> Result<Answer, Own> {
        self.judge(&request)?;
        if let Some(about) = request.uri().path().strip_prefix(OWN) {
            return self.about_itself(request.method(), about);
        }
        let (mut head, body) = request.into_parts();
        let live = self.tokens.live().await.map_err(|trouble| {
            let why = trouble.map_or_else(
                || "the gateway has not answered yet".to_owned(),
                |trouble| trouble.to_string(),
            );
            Own {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "token_unavailable",
                message: format!("the sidecar has no task token: {why}"),
            }
        })?;
        drop_hop_by_hop(&mut head.headers);
        head.headers.remove(HOST);
        head.headers.insert(TOKEN, live.token.clone());
        head.version = Version::HTTP_11;
        let request = Request::from_parts(head, Either::Right(body));
        let mut answer = live.link.send(request).await.map_err(|error| {
            warn!(error, "the gateway did not answer a call");
            Own {
                status: StatusCode::BAD_GATEWAY,
                code: "gateway_unreachable",
                message: "the sidecar got no answer from the gateway".to_owned(),
            }
        })?;
        // The gateway's own 401 bears its code; a provider's does not.
        if answer.status() == StatusCode::UNAUTHORIZED && answer.headers().contains_key(ERROR) {
            self.tokens.doubt(&live);
        }
        drop_hop_by_hop(answer.headers_mut());
        Ok(answer.map(Either::Right))
    }

    /// Whether the call is one that a program of this pod makes.
    fn judge(&self, request: &Request<Incoming>) -> Result<(), Own> {
        let headers = request.headers();
        let refuse = |message: &str| {
            Err(Own {
                status: StatusCode::FORBIDDEN,
                code: "not_allowed",
                message: message.to_owned(),
            })
        };
        if !request.uri().path().starts_with('/') || request.uri().authority().is_some() {
            return refuse("the sidecar is no proxy: point the SDK's base URL at it");
        }
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return refuse("a call names one host");
        };
        if !self.any_host && !is_loopback(host) {
            return refuse("a call to the sidecar names a loopback host, like 127.0.0.1");
        }
        let from_site = headers
            .get(FETCH_SITE)
            .is_some_and(|site| site.as_bytes() != b"none");
        if headers.contains_key(ORIGIN) || from_site {
            return refuse("web pages cannot call through the sidecar");
        }
        Ok(())
    }

    /// For probes: whether it runs, and whether it has a token.
    fn about_itself(&self, method: &Method, about: &str) -> Result<Answer, Own> {
        let ready = self.tokens.ready();
        let status = match (about, method) {
            ("livez", &Method::GET | &Method::HEAD) => StatusCode::OK,
            ("readyz", &Method::GET | &Method::HEAD) if ready => StatusCode::OK,
            ("readyz", &Method::GET | &Method::HEAD) => StatusCode::SERVICE_UNAVAILABLE,
            _ => {
                return Err(Own {
                    status: StatusCode::NOT_FOUND,
                    code: "not_found",
                    message: "the sidecar has GET /__tollgate/livez and /__tollgate/readyz"
                        .to_owned(),
                });
            }
        };
        Ok(json_answer(status, &json!({ "ready": ready })))
    }
}

/// Whether a `Host` field names this machine in a way that no DNS answer can redefine.
fn is_loopback(host: &HeaderValue) -> bool {
    let Ok(text) = host.to_str() else {
        return false;
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        return address.is_loopback();
    }
    // With an address this has been said already; what is left has a name, with or without port.
    let name = match text.split_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => text,
    };
    name.eq_ignore_ascii_case("localhost")
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(body.to_string())));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

impl Own {
    /// In the envelope that most clients understand.
    fn into_answer(self) -> Answer {
        let kind = if self.status.is_server_error() {
            "server_error"
        } else {
            "invalid_request_error"
        };
        let mut answer = json_answer(
            self.status,
            &json!({"error": {
                "message": self.message,
                "type": kind,
                "code": self.code,
                "param": null,
            }}),
        );
        let headers = answer.headers_mut();
        headers.insert(ERROR, HeaderValue::from_static(self.code));
        if self.status.is_server_error() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_dns_cannot_redefine_are_loopback() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.8.9.1:80",
            "localhost",
            "LOCALHOST:8080",
            "[::1]",
            "[::1]:8080",
        ] {
            assert!(is_loopback(&HeaderValue::from_static(host)), "{host}");
        }
        for host in [
            "",
            "attacker.example",
            "attacker.example:8080",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "localhost:x",
            "localhost:1:2",
            "localhost@attacker.example",
            "10.0.0.1:8080",
            "0.0.0.0",
            "[::]:8080",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_loopback(&HeaderValue::from_static(host)), "{host}");
        }
    }

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Once"),
            ("x-once", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("authorization", "Bearer $CRED{openai_key}"),
            ("x-other", "2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        drop_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "x-other"]);
    }
}
