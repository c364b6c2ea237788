//! Handles -> which credential goes into which place. No secret is touched yet.
//!
//! The head is judged before the body is read; [`HeadBoundCall::with_body`] completes the proof.

use http::request::Parts;
use tollgate_core::handle::{self, Asked};
use tollgate_core::policy::shared;
use tollgate_core::refusal::Refusal;

use crate::authorize::Permit;

/// Proof that at most one credential of this tenant goes to a place it is bound to.
pub(crate) struct BoundCall<'r> {
    pub(crate) permit: Permit<'r>,
    pub(crate) bound: handle::Bound,
}

/// Proof that nothing in the head stands against the call's credential.
pub(crate) struct HeadBoundCall<'r> {
    pub(crate) permit: Permit<'r>,
    pub(crate) bound: handle::HeadBound,
}

pub(crate) fn bind<'r>(permit: Permit<'r>, head: &Parts) -> Result<HeadBoundCall<'r>, Refusal> {
    let bound = handle::bind(
        &asked(&permit, head),
        &permit.tenant,
        &permit.caller.agent,
        &permit.route.provider,
    )?;
    Ok(HeadBoundCall { permit, bound })
}

impl<'r> HeadBoundCall<'r> {
    /// Binds the call, given its whole body where that is needed.
    pub(crate) fn with_body(self, head: &Parts, body: &[u8]) -> Result<BoundCall<'r>, Refusal> {
        let Self { permit, bound } = self;
        let bound = bound.with_body(
            &asked(&permit, head),
            &permit.tenant,
            &permit.caller.agent,
            &permit.route.provider,
            body,
        )?;
        if let Some(credential) = bound.credential() {
            shared::refuse_endpoint(credential, &permit.route.endpoint)?;
        }
        Ok(BoundCall { permit, bound })
    }
}

fn asked<'a>(permit: &Permit<'a>, head: &'a Parts) -> Asked<'a> {
    Asked {
        headers: &head.headers,
        query: head.uri.query(),
        path: permit.route.path,
        method: &head.method,
    }
}
