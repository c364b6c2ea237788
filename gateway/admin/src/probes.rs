//! What orchestrators and metrics collectors ask: alive, ready, counters.
//!
//! Readable by anybody who reaches the listener, so the answers name parts of the gateway and
//! never tenants. Alive means that this listener answers; everything else is readiness.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus::{Encoder, TextEncoder};
use serde_json::json;

use crate::Admin;
use crate::problem::Problem;

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
    if missing.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    let answer = Json(json!({ "status": "not_ready", "missing": missing }));
    (StatusCode::SERVICE_UNAVAILABLE, answer).into_response()
}

pub(crate) async fn metrics(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    (admin.refresh_metrics)();
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    encoder
        .encode(&admin.metrics.gather(), &mut text)
        .map_err(|_only_if_a_metric_is_malformed| Problem::internal())?;
    let content_type = encoder.format_type().to_owned();
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}
