//! The request's path and method -> which endpoint of which provider.

use http::request::Parts;
use tollgate_core::refusal::Refusal;
use tollgate_core::route::{Route, find};

use crate::live::Snapshot;
use crate::record::Draft;

/// Proof that the path leads to a declared endpoint.
pub(crate) struct Routed {
    pub(crate) route: Route,
}

pub(crate) fn route(live: &Snapshot, head: &Parts, draft: &mut Draft) -> Result<Routed, Refusal> {
    let route = find(&live.policy, &head.method, head.uri.path())?;
    draft.goes_to(&route);
    Ok(Routed { route })
}
