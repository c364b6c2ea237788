//! The admin listener: which path leads to which handler, and how much a connection may take.
//!
//! Knows no tenant and no money. Worst case: [`MAX_CONNECTIONS`] clients that send slowly hold
//! the listener for [`HEAD_DEADLINE`] each; the call path does not notice, it runs elsewhere.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use crate::access::{self, ClientAddress, Gate};
use crate::problem::Problem;
use crate::{
    Admin, audit_key, browser, budgets, console, events, explain, exposition, introspection, live,
    log, openapi, probes, purge, reports, tenants, tokens, whoami,
};

/// The longest request body in bytes. The longest that makes sense, a token to look at, is 8 KiB.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Connections served at one time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;

/// How long a request head may take to arrive, and a connection may idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);

/// How long a request may take from head to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// How long a connection on which events are told may take to end once the gateway stops: whoever
/// reads them may have stalled.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How long accepting pauses after it failed, for lack of file descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound admin socket.
#[derive(Debug)]
pub struct AdminListener {
    socket: TcpListener,
    address: SocketAddr,
}

impl AdminListener {
    /// Takes the address; port 0 picks a free one. Clients can connect from now on and are
    /// answered once [`serve`] runs.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::on(TcpListener::bind(address)?)
    }

    /// Takes a socket that is bound.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn on(socket: TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Another handle of the socket, in which clients wait while nobody serves.
    ///
    /// # Errors
    /// If there is no file descriptor for it.
    pub fn socket(&self) -> io::Result<TcpListener> {
        self.socket.try_clone()
    }

    /// Its address, with the real port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Every path that wants a credential, with what it takes.
fn guarded() -> [(&'static str, MethodRouter<Arc<Admin>>); 18] {
    [
        ("/v1/tokens", post(tokens::mint)),
        ("/v1/tokens/revoke", post(tokens::revoke)),
        ("/v1/tokens/introspect", post(introspection::introspect)),
        ("/v1/tasks/complete", post(tokens::complete)),
        ("/v1/introspect", post(introspection::introspect_form)),
        ("/v1/revoke", post(tokens::revoke_form)),
        ("/v1/budgets/{tenant}", get(budgets::of_tenant)),
        ("/v1/live", get(live::figures)),
        ("/v1/calls", get(events::calls)),
        ("/v1/events", get(events::follow)),
        ("/v1/self", get(whoami::show)),
        ("/v1/reports/cost", get(reports::cost)),
        (
            "/v1/explain",
            post(explain::explain).layer(DefaultBodyLimit::max(explain::MAX_QUESTION_BYTES)),
        ),
        ("/v1/audit/key", get(audit_key::show)),
        ("/v1/audit/purge", post(purge::purge)),
        ("/v1/log", get(log::show).put(log::set)),
        ("/v1/tenants", get(tenants::list)),
        ("/v1/tenants/{tenant}", get(tenants::show)),
    ]
}

/// Every path that anybody may read who reaches the listener.
fn open() -> [(&'static str, MethodRouter<Arc<Admin>>); 5] {
    [
        ("/livez", get(probes::livez)),
        ("/readyz", get(probes::readyz)),
        ("/openapi.json", get(openapi::document)),
        ("/console", get(console::page)),
        ("/console/{file}", get(console::file)),
    ]
}

/// Every path that shows more to whoever has a credential.
fn ajar() -> [(&'static str, MethodRouter<Arc<Admin>>); 1] {
    [("/metrics", get(exposition::metrics))]
}

/// Every path of the admin side.
pub fn router(admin: Arc<Admin>) -> Router {
    let gate = Arc::new(Gate::new(Arc::clone(&admin)));
    let guarded = routed(&guarded())
        .fallback(|| async { Problem::no_route() })
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&gate),
            access::require,
        ));
    let ajar = routed(&ajar())
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .route_layer(middleware::from_fn_with_state(gate, exposition::admit));
    routed(&open())
        .method_not_allowed_fallback(|| async { Problem::wrong_method() })
        .merge(ajar)
        .merge(guarded)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&admin),
            browser::require,
        ))
        .layer(middleware::from_fn(in_time))
        .with_state(admin)
}

/// Every path of the admin side, as it stands in the router.
#[cfg(test)]
pub(crate) fn paths() -> Vec<&'static str> {
    let paths = guarded().map(|(path, _)| path).into_iter();
    let paths = paths.chain(open().map(|(path, _)| path));
    paths.chain(ajar().map(|(path, _)| path)).collect()
}

fn routed(routes: &[(&'static str, MethodRouter<Arc<Admin>>)]) -> Router<Arc<Admin>> {
    let add = |router: Router<_>, (path, takes): &(&str, MethodRouter<_>)| {
        router.route(path, takes.clone())
    };
    routes.iter().fold(Router::new(), add)
}

async fn in_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(ANSWER_DEADLINE, next.run(request))
        .await
        .unwrap_or_else(|_elapsed| Problem::too_slow().into_response())
}

/// Serves until `stop` turns true or its sender is gone; then lets requests under way finish.
///
/// # Errors
/// If the socket cannot be used in this runtime.
pub async fn serve(
    listener: AdminListener,
    admin: Arc<Admin>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let socket = tokio::net::TcpListener::from_std(listener.socket)?;
    let router = router(admin);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&socket, &places) => accepted,
            _stopped_or_gone = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, from, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            converse(stream, from, router, stop).await;
            drop(place);
        });
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn accept(
    socket: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(
    tokio::net::TcpStream,
    SocketAddr,
    tokio::sync::OwnedSemaphorePermit,
)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    let (stream, from) = socket.accept().await.ok()?;
    Some((stream, from, place))
}

/// The connection that a request came on, as far as its answer has to know it.
#[derive(Clone)]
pub(crate) struct Connection {
    stop: watch::Receiver<bool>,
    is_followed: Arc<AtomicBool>,
}

impl Connection {
    pub(crate) fn new(stop: watch::Receiver<bool>) -> Self {
        Self {
            stop,
            is_followed: Arc::default(),
        }
    }

    /// Events are told on it, which have no end of their own.
    pub(crate) fn is_followed(&self) {
        self.is_followed.store(true, Ordering::Relaxed);
    }

    /// Returns once the gateway stops.
    pub(crate) async fn stopped(&mut self) {
        // The guard inside the result must not live across an await.
        drop(self.stop.wait_for(|stop| *stop).await);
    }
}

impl<S: Sync> FromRequestParts<S> for Connection {
    type Rejection = Infallible;

    /// The one that [`converse`] has named; a request that came on none has ended with it.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let named = parts.extensions.get::<Self>();
        let ended = || Self::new(watch::channel(true).1);
        Ok(named.cloned().unwrap_or_else(ended))
    }
}

async fn converse(
    stream: tokio::net::TcpStream,
    from: SocketAddr,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    let mut here = Connection::new(stop);
    let of_requests = here.clone();
    let routed = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let from = ClientAddress(from.ip());
        request.extensions_mut().insert(from);
        request.extensions_mut().insert(of_requests.clone());
        routed.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // What goes wrong on a connection is its client's affair: there is nobody left to tell.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = here.stopped() => {
            connection.as_mut().graceful_shutdown();
            if here.is_followed.load(Ordering::Relaxed) {
                drop(tokio::time::timeout(LAST_EVENTS, connection).await);
            } else {
                drop(connection.await);
            }
        }
    }
}

/// Reads a JSON body of exactly the fields of `T`.
pub(crate) fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    serde_json::from_slice(&whole(body)?).map_err(|wrong| Problem::malformed(shape_of(&wrong)))
}

/// A body that has arrived and is not too long.
pub(crate) fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejected| match rejected.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
        _ => Problem::malformed("the body did not arrive whole"),
    })
}

/// A checked name out of a request, or another text with a form of its own.
pub(crate) fn name<T>(text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse()
        .map_err(|wrong: T::Err| Problem::invalid(wrong.to_string()))
}

/// Where and how a body is wrong, without the words it used: they may be a misplaced secret.
fn shape_of(wrong: &serde_json::Error) -> String {
    let (line, column) = (wrong.line(), wrong.column());
    let what = match wrong.classify() {
        serde_json::error::Category::Data => "the fields are not the ones this path takes",
        _ => "the body is not JSON",
    };
    format!("{what} (line {line}, column {column})")
}
