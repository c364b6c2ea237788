//! One request over a plain connection of its own, and the whole answer to it.
//!
//! For commands that talk to a process of ours nearby. Judges no answer and knows no deadline.
//! Worst case: an answer of [`MAX_ANSWER_BYTES`] is held in memory; a longer one is an error.

use anyhow::{Context, bail};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Sends `request` to `who` at `authority`, which is `HOST:PORT`: status and body.
///
/// # Errors
/// If there is no whole answer.
pub(crate) async fn exchange(
    who: &str,
    authority: &str,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(authority)
        .await
        .with_context(|| format!("no {who} answers at {authority}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES);
        let body = body.collect().await.map_err(anyhow::Error::from_boxed)?;
        anyhow::Ok((status, body.to_bytes()))
    };
    tokio::select! {
        answered = answered => answered,
        ended = connection => {
            ended?;
            bail!("the {who} at {authority} closed the connection without an answer")
        }
    }
}
