//! Whom a credential makes its holder, for programs that offer only what its role reaches.
//!
//! It is also what is on record of somebody who logs in to the console.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;

pub(crate) async fn show(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
) -> Result<Response, Problem> {
    let deed = asker.begin_unseeing(&admin, Action::ReadSelf, asker.about_its_own());
    let deed = deed.await?;
    let credential = asker.credential();
    Ok(deed.close(Ok(Json(json!({
        "name": credential.name,
        "role": credential.role.as_str(),
        "tenants": credential.role.tenants(),
        "expires_at": credential.expires_at,
        "replica": admin.signer.replica,
        "version": env!("CARGO_PKG_VERSION"),
    })))))
}
