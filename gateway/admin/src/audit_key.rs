//! What the signatures under chains of records are checked with.
//!
//! Public by nature, and given to nobody but known askers because nothing here is. An auditor
//! compares it with the key that came with the records. Worst case: the listener is not the
//! gateway that it claims to be, and neither is the key.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tollgate_core::admin_log::About;
use tollgate_core::audit::AuditPublicKey;
use tollgate_core::ids::ReplicaId;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;

/// Who writes the chains of records here, and what signs them.
#[derive(Debug, Clone)]
pub struct Signer {
    /// Whose chains.
    pub replica: ReplicaId,
    /// What their checkpoints are checked with.
    pub key: AuditPublicKey,
}

pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
) -> Result<Response, Problem> {
    let action = Action::ReadAuditKey;
    let deed = asker.begin_unseeing(&admin, action, About::default());
    let deed = deed.await?;
    let Signer { replica, key } = &admin.signer;
    Ok(deed.close(Ok(Json(json!({
        "replica": replica,
        "key": key.id(),
        "algorithm": "Ed25519",
        "public_key": key.pem(),
    })))))
}
