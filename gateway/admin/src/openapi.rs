//! The description of the admin API, for programs that are written against it.
//!
//! It is written by hand, in `openapi.json`; the tests hold it against the paths there are, and
//! against what they answer. Worst case: a text in it that no longer fits.

use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

/// OpenAPI 3.1.
pub(crate) const DOCUMENT: &str = include_str!("openapi.json");

pub(crate) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}
