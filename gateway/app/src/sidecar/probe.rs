//! `tollgate sidecar --probe`: asks a running sidecar whether it is ready.
//!
//! For `exec` probes: kubelet's own HTTP probes call the pod's address, where the sidecar does not
//! listen, and its image holds no other client.

use std::net::SocketAddr;

use anyhow::bail;

use crate::probe;

/// Succeeds if the sidecar at `address` has a token.
///
/// # Errors
/// If it has none, or does not answer.
pub(super) async fn probe(address: SocketAddr) -> anyhow::Result<()> {
    let (status, _told) = probe::get("sidecar", address, "/__tollgate/readyz").await?;
    if !status.is_success() {
        bail!("the sidecar at {address} has no task token");
    }
    Ok(())
}
