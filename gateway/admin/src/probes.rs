//! What orchestrators ask: alive, ready.
//!
//! Readable by anybody who reaches the listener, so the answers name parts of the gateway and
//! never tenants. Alive means that this listener answers; everything else is readiness.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::Admin;

/// Tells what stands between the gateway and serving calls.
pub trait Readiness: Send + Sync {
    /// The parts that are missing (`policy`, `keys`, `registry`, `ledger`), or `draining`; empty
    /// when calls can be served. Answers from memory.
    fn missing(&self) -> Vec<&'static str>;
}

pub(crate) async fn livez() -> Json<serde_json::Value> {
    Json(json!({ "status": "alive" }))
}

pub(crate) async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let missing = admin.readiness.missing();
    let is_ready = missing.is_empty();
    let mut told = json!({ "status": if is_ready { "ready" } else { "not_ready" } });
    if !is_ready {
        told["missing"] = json!(missing);
    }
    // Calls go on without the admin API, so that this alone takes no traffic away.
    if admin.credentials.current().is_err() {
        told["degraded"] = json!(["admin_credentials"]);
    }
    if is_ready {
        return Json(told).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(told)).into_response()
}
