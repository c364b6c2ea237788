//! The console's files: a page for operators, auditors and minters, made of this API alone.
//!
//! They are part of the binary and hold nothing secret, so whoever reaches the listener may read
//! them. A page cannot load, send to or be framed by anything but this listener, and cannot turn
//! text into markup. Knows nothing of what the page shows. Worst case: a page of an older version
//! stays open over an upgrade; nothing is kept in caches.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::HeaderName;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use crate::problem::Problem;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Name, kind and text of each file beside the page.
const FILES: &[(&str, &str, &str)] = &[
    ("console.css", CSS, include_str!("console/console.css")),
    ("console.js", JS, include_str!("console/console.js")),
    ("calls.js", JS, include_str!("console/calls.js")),
    ("dom.js", JS, include_str!("console/dom.js")),
    ("explain.js", JS, include_str!("console/explain.js")),
    ("gateway.js", JS, include_str!("console/gateway.js")),
    ("refusals.js", JS, include_str!("console/refusals.js")),
    ("revoke.js", JS, include_str!("console/revoke.js")),
    ("tenants.js", JS, include_str!("console/tenants.js")),
    ("words.js", JS, include_str!("console/words.js")),
];

const PAGE: &str = include_str!("console/console.html");

/// What a page may do. Scripts cannot make markup of text, whatever they try.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
                      form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

pub(crate) async fn page() -> Response {
    answer(HTML, PAGE)
}

pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    let found = FILES.iter().find(|(file, _, _)| *file == name);
    let (_, kind, text) = found.ok_or_else(Problem::no_route)?;
    Ok(answer(kind, text))
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    (headers, text).into_response()
}
