//! One question to a process of ours that listens nearby: GET, no credential, an answer soon.
//!
//! For probes that run where no other client is installed. Judges no answer. Worst case: none
//! comes, and that is said after [`DEADLINE`].

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long the answer may take. Orchestrators give a probe a second or more.
const DEADLINE: Duration = Duration::from_secs(2);

/// The longest answer that is read, in bytes: what is asked answers in a line.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Asks `who` at `address` for `path`: status and body.
///
/// # Errors
/// If no answer comes in time.
pub(crate) async fn get(
    who: &str,
    address: SocketAddr,
    path: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let asked = tokio::time::timeout(DEADLINE, ask(who, address, path)).await;
    asked.with_context(|| format!("the {who} at {address} does not answer"))?
}

async fn ask(who: &str, address: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("no {who} answers at {address}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header("host", address.to_string())
        .body(Empty::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES);
        let body = body.collect().await.map_err(anyhow::Error::from_boxed)?;
        anyhow::Ok((status, body.to_bytes()))
    };
    tokio::select! {
        answered = exchange => answered,
        ended = connection => {
            ended?;
            bail!("the {who} at {address} closed the connection without an answer");
        }
    }
}
