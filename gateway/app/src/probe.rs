//! One question to a process of ours that listens nearby: GET, no credential, an answer soon.
//!
//! For probes that run where no other client is installed. Judges no answer. Worst case: none
//! comes, and that is said after [`DEADLINE`].

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;

use crate::exchange::exchange;

/// How long the answer may take. Orchestrators give a probe a second or more.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks `who` at `address` for `path`: status and body.
///
/// # Errors
/// If no answer comes in time.
pub(crate) async fn get(
    who: &str,
    address: SocketAddr,
    path: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let authority = address.to_string();
    let request = Request::get(path)
        .header("host", &authority)
        .body(Full::default())?;
    let asked = tokio::time::timeout(DEADLINE, exchange(who, &authority, request)).await;
    asked.with_context(|| format!("the {who} at {address} does not answer"))?
}
