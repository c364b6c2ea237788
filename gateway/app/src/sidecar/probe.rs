//! `tollgate sidecar --probe`: asks a running sidecar whether it is ready.
//!
//! For `exec` probes: kubelet's own HTTP probes call the pod's address, where the sidecar does not
//! listen, and its image holds no other client. Worst case: no answer, and the probe fails after
//! [`DEADLINE`].

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long the answer may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Succeeds if the sidecar at `address` has a token.
///
/// # Errors
/// If it has none, or does not answer.
pub(super) async fn probe(address: SocketAddr) -> anyhow::Result<()> {
    let asked = tokio::time::timeout(DEADLINE, ask(address)).await;
    asked.with_context(|| format!("the sidecar at {address} does not answer"))?
}

async fn ask(address: SocketAddr) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("no sidecar answers at {address}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    let request = Request::get("/__tollgate/readyz")
        .header("host", address.to_string())
        .body(Empty::new())?;
    let answer = tokio::select! {
        answer = sender.send_request(request) => answer?,
        ended = connection => {
            ended?;
            bail!("the sidecar at {address} closed the connection without an answer");
        }
    };
    if !answer.status().is_success() {
        bail!("the sidecar at {address} has no task token");
    }
    Ok(())
}
