//! The request's path and method -> which endpoint of which provider.

use http::request::Parts;
use tollgate_core::refusal::Refusal;
use tollgate_core::route::{Route, find, refuse_method_override};

use crate::live::Snapshot;
use crate::record::Draft;

/// Proof that the path leads to a declared endpoint.
pub(crate) struct Routed<'r> {
    pub(crate) route: Route<'r>,
}

pub(crate) fn route<'r>(
    live: &Snapshot,
    head: &'r Parts,
    draft: &mut Draft,
) -> Result<Routed<'r>, Refusal> {
    refuse_method_override(head.uri.query())?;
    let route = find(&live.policy, &head.method, head.uri.path())?;
    draft.goes_to(&route);
    Ok(Routed { route })
}
