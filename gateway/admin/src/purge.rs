//! Taking away records whose time is over.
//!
//! What is due is decided by policy alone: nobody can ask here for more. Worst case: the answer
//! takes longer than answers may, and the purge goes on without anybody to tell.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use tollgate_core::admin_log::About;
use tollgate_core::audit::Day;
use tollgate_core::budget::StoreError;
use tollgate_core::ids::TenantId;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;
use crate::server::{name, read};

/// What became of one tenant's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OfTenant {
    /// Whose.
    pub tenant: TenantId,
    /// Records of days before this one are due; nothing is if policy keeps them for good.
    #[serde(serialize_with = "day_text")]
    pub before: Option<Day>,
    /// Records that are gone, or would be.
    pub records: u64,
    /// The files they lay in.
    pub files: u64,
    /// The bytes of those.
    pub bytes: u64,
    /// Files that are due and stay for now: they are open, or wait to be handed over.
    pub waiting_files: u64,
    /// Why nothing, or not all, is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

fn day_text<S: Serializer>(day: &Option<Day>, to: S) -> Result<S::Ok, S::Error> {
    day.map(|day| day.to_string()).serialize(to)
}

/// Purges what is due.
pub trait Purge: Send + Sync {
    /// Of one tenant, or of all that policy knows. Blocks. With `dry_run`, changes nothing.
    ///
    /// # Errors
    /// If nothing could be tried.
    fn purge(&self, only: Option<&TenantId>, dry_run: bool) -> Result<Vec<OfTenant>, StoreError>;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    tenant: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) async fn purge(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let asked: Asked = read(body)?;
    let tenant: Option<TenantId> = asked.tenant.as_deref().map(name).transpose()?;
    let about = tenant.clone().map_or_else(About::default, About::tenant);
    let deed = asker.begin(&admin, Action::PurgeRecords, about).await?;
    Ok(deed.close(purged(&admin, tenant, asked.dry_run).await))
}

async fn purged(
    admin: &Admin,
    tenant: Option<TenantId>,
    dry_run: bool,
) -> Result<Response, Problem> {
    if let Some(tenant) = &tenant
        && !(admin.policy)().tenants.contains_key(tenant)
    {
        return Err(Problem::unknown_tenant());
    }
    let purge = Arc::clone(&admin.purge);
    let purge = move || purge.purge(tenant.as_ref(), dry_run);
    let purged = tokio::task::spawn_blocking(purge).await;
    let tenants = purged.map_err(|_panicked| Problem::internal())??;
    let answer = json!({ "dry_run": dry_run, "tenants": tenants });
    Ok(Json(answer).into_response())
}
