//! One caller: a keep-alive connection that reads its answer whole, or hangs up in the middle.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// No answer takes this long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) token: String,
    /// Reaches the provider and the record, so that both can be told to be of the same call.
    pub(crate) label: String,
    pub(crate) body: String,
    /// Whether the caller leaves once the first bytes of the answer have come.
    pub(crate) hangs_up: bool,
}

impl Call {
    /// A call that needs no token.
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: "GET",
            path: path.to_owned(),
            token: String::new(),
            label: "proof".to_owned(),
            body: String::new(),
            hangs_up: false,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body, if the status is no success.
    pub(crate) error: Bytes,
    /// Whether the answer broke off.
    pub(crate) broken: bool,
}

/// A connection, or none yet.
#[derive(Default)]
pub(crate) struct Caller {
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Caller {
    /// Makes a call; an error if there is no answer at all.
    pub(crate) async fn call(&mut self, addr: SocketAddr, call: &Call) -> anyhow::Result<Answer> {
        tokio::time::timeout(PATIENCE, self.exchange(addr, call))
            .await
            .context("no answer in two minutes")?
    }

    /// Makes a call and returns the whole answer as text.
    pub(crate) async fn text(
        &mut self,
        addr: SocketAddr,
        call: &Call,
    ) -> anyhow::Result<(StatusCode, String)> {
        let mut sender = connect(addr).await?;
        let (head, body) = sender
            .send_request(request(addr, call)?)
            .await?
            .into_parts();
        let bytes = body.collect().await?.to_bytes();
        Ok((head.status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The same on a connection that is kept for the next.
    pub(crate) async fn kept_text(
        &mut self,
        addr: SocketAddr,
        call: &Call,
    ) -> anyhow::Result<(StatusCode, String)> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connect(addr).await?,
        };
        sender.ready().await?;
        let (head, body) = sender
            .send_request(request(addr, call)?)
            .await?
            .into_parts();
        let bytes = body.collect().await?.to_bytes();
        self.sender = Some(sender);
        Ok((head.status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn exchange(&mut self, addr: SocketAddr, call: &Call) -> anyhow::Result<Answer> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connect(addr).await?,
        };
        sender.ready().await?;
        let (head, mut body) = sender
            .send_request(request(addr, call)?)
            .await?
            .into_parts();
        let (mut broken, mut error) = (false, Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                broken = true;
                break;
            };
            if call.hangs_up && head.status.is_success() {
                // Dropping the connection is the hang-up.
                return Ok(Answer {
                    status: head.status,
                    headers: head.headers,
                    error: Bytes::new(),
                    broken: true,
                });
            }
            if let (Some(bytes), false) = (frame.data_ref(), head.status.is_success()) {
                error.extend_from_slice(bytes);
            }
        }
        if !broken {
            self.sender = Some(sender);
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            error: error.into(),
            broken,
        })
    }
}

impl Answer {
    /// The gateway's own code, if it refused or failed.
    pub(crate) fn code(&self) -> Option<&str> {
        self.headers.get("x-tollgate-error")?.to_str().ok()
    }
}

pub(crate) async fn connect(addr: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(addr).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let Ok((sender, connection)) = handshake(TokioIo::new(stream)).await else {
        bail!("the connection was refused");
    };
    tokio::spawn(async move {
        // Its error is the hang-up or the kill that the caller sees for itself.
        let _ended = connection.await;
    });
    Ok(sender)
}

pub(crate) fn request(addr: SocketAddr, call: &Call) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(call.method)
        .uri(&call.path)
        .header("host", addr.to_string());
    // What anybody may read is not given to somebody with a credential that is none.
    if !call.token.is_empty() {
        request = request.header("authorization", format!("Bearer {}", call.token));
    }
    request
        .header("content-type", "application/json")
        .header("x-user-id", &call.label)
        .body(Full::from(call.body.clone()))
}
