//! What a sidecar takes for its gateway: exchanges as scripted, calls by the real one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::header::HOST;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// How exchanges are answered from now on.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// With this token, which lives so many seconds.
    Token(String, u64),
    /// As RFC 6749 section 5.2 refuses.
    Refusal(u16, &'static str),
}

type Form = BTreeMap<String, String>;

/// The gateway's place. Closed when dropped.
pub(super) struct Front {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

struct State {
    reply: Reply,
    asked: Vec<Form>,
    /// The tokens that calls came with.
    used: Vec<String>,
}

impl Front {
    pub(super) async fn before(gateway: SocketAddr, reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            reply,
            asked: Vec::new(),
            used: Vec::new(),
        }));
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let accepting = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                // Ends with this task: a gateway that is gone has no connections.
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (state, client) = (Arc::clone(&state), client.clone());
                    connections.spawn(async move {
                        let service = service_fn(|request| {
                            answer(request, Arc::clone(&state), client.clone(), gateway)
                        });
                        drop(
                            http1::Builder::new()
                                .serve_connection(TokioIo::new(stream), service)
                                .await,
                        );
                    });
                }
            }
        });
        Self {
            address,
            state,
            accepting,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn replies(&self, reply: Reply) {
        self.state.lock().unwrap().reply = reply;
    }

    /// The forms of all exchanges so far.
    pub(super) fn asked(&self) -> Vec<Form> {
        self.state.lock().unwrap().asked.clone()
    }

    /// The tokens that calls came with so far.
    pub(super) fn used(&self) -> Vec<String> {
        self.state.lock().unwrap().used.clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(
    mut request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    client: Client<HttpConnector, Incoming>,
    gateway: SocketAddr,
) -> Result<Response<Either<Full<Bytes>, Incoming>>, Infallible> {
    if request.uri().path() == "/oauth2/token" {
        let form = request.into_body().collect().await.unwrap().to_bytes();
        return Ok(exchange(&state, &form).map(Either::Left));
    }
    assert_eq!(
        request.headers().get_all(HOST).iter().count(),
        1,
        "{request:?}"
    );
    let tokens = request.headers().get_all("x-tollgate-token");
    let tokens: Vec<_> = tokens
        .iter()
        .map(|t| t.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(tokens.len(), 1, "exactly one token");
    state.lock().unwrap().used.extend(tokens);
    let target = format!("http://{gateway}{}", request.uri());
    *request.uri_mut() = target.parse().unwrap();
    Ok(match client.request(request).await {
        Ok(answer) => answer.map(Either::Right),
        Err(_) => {
            let mut bad = Response::new(Either::Left(Full::default()));
            *bad.status_mut() = StatusCode::BAD_GATEWAY;
            bad
        }
    })
}

fn exchange(state: &Mutex<State>, form: &[u8]) -> Response<Full<Bytes>> {
    let mut state = state.lock().unwrap();
    let form = std::str::from_utf8(form).unwrap();
    let fields = form.split('&').filter_map(|field| field.split_once('='));
    let form = fields
        .map(|(name, value)| (name.to_owned(), value.replace("%3A", ":")))
        .collect();
    state.asked.push(form);
    let (status, body) = match &state.reply {
        Reply::Token(token, seconds) => (
            200,
            json!({
                "access_token": token,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": seconds,
            }),
        ),
        Reply::Refusal(status, error) => (*status, json!({ "error": error })),
    };
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
        .body(Full::from(body.to_string()))
        .unwrap()
}
