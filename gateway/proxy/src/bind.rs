//! Handles in the head -> which credential goes into which place. No secret is touched yet.

use http::request::Parts;
use tollgate_core::handle::{self, Asked};
use tollgate_core::refusal::Refusal;

use crate::authorize::Permit;

/// Proof that at most one credential of this tenant goes to a place it is bound to.
pub(crate) struct BoundCall<'r> {
    pub(crate) permit: Permit<'r>,
    pub(crate) bound: handle::Bound,
}

pub(crate) fn bind<'r>(permit: Permit<'r>, head: &Parts) -> Result<BoundCall<'r>, Refusal> {
    let asked = Asked {
        headers: &head.headers,
        query: head.uri.query(),
        path: permit.route.path,
        method: &head.method,
    };
    let bound = handle::bind(
        &asked,
        &permit.tenant,
        &permit.caller.agent,
        &permit.route.provider,
    )?;
    Ok(BoundCall { permit, bound })
}
