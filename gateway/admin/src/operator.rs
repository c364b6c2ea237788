//! Whether a request comes from the operator.
//!
//! Only the SHA-256 of the operator token is kept, and digests are compared without stopping at
//! the first difference, so neither memory nor timing tells the token. Knows no users or roles.
//! Worst case: a token that is short enough to guess; the one made at first start has 256 bits.

use std::hint::black_box;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, HeaderMap};
use sha2::{Digest, Sha256};

use crate::Admin;
use crate::problem::Problem;

/// The operator token, as its digest.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// Remembers a token by its digest.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether the request shows exactly this token, once, as a bearer token.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return false;
        };
        let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' '))
        else {
            return false;
        };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        scheme.eq_ignore_ascii_case("bearer") && equal(&self.0, &digest)
    }
}

/// Compares without stopping early.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |found, (a, b)| found | (a ^ b));
    black_box(difference) == 0
}

/// Lets only the operator through.
pub(crate) async fn require(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    if admin.operator.admits(request.headers()) {
        return next.run(request).await;
    }
    tracing::warn!("a request without the operator token was refused");
    let mut refused = Problem::unauthorized().into_response();
    refused.headers_mut().insert(
        http::header::WWW_AUTHENTICATE,
        http::HeaderValue::from_static("Bearer realm=\"tollgate-admin\""),
    );
    refused
}
