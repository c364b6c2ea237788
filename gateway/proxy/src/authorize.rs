//! Caller + route -> permit: may this agent of this tenant call this endpoint at all, and is that
//! an elevated action, which takes more?
//!
//! The model is judged later, once the body has been read.

use std::sync::Arc;

use http::Method;
use tollgate_core::identity::Caller;
use tollgate_core::policy::{Elevation, Tenant};
use tollgate_core::refusal::Refusal;
use tollgate_core::route::Route;

use crate::authenticate::Identified;
use crate::record::Draft;
use crate::route::Routed;
use crate::sealed::SealedTokens;

/// Proof that the caller may call the route.
pub(crate) struct Permit<'r> {
    pub(crate) caller: Arc<Caller>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) route: Route<'r>,
}

impl Permit<'_> {
    /// The same, with the tokens that were sealed for the caller's task among the credentials.
    pub(crate) fn with_sealed(mut self, sealed: &SealedTokens) -> Self {
        let credentials = sealed.credentials(&self.caller, &self.route.provider.name);
        if !credentials.is_empty() {
            let mut tenant = Tenant::clone(&self.tenant);
            for credential in credentials {
                tenant.credentials.add(credential);
            }
            self.tenant = Arc::new(tenant);
        }
        self
    }
}

pub(crate) fn authorize<'r>(
    identified: Identified,
    routed: Routed<'r>,
    method: &Method,
    draft: &mut Draft,
) -> Result<Permit<'r>, Refusal> {
    let Identified { caller, tenant } = identified;
    let route = routed.route;
    // First of all, so that attempts at elevated actions are recorded as such.
    let elevation = tenant.elevation(&caller.agent, &route, method);
    draft.is_elevated(elevation.is_elevated());
    if tenant
        .grant(&caller.agent, &route.provider.name, route.path)
        .is_none()
    {
        return Err(Refusal::NotAllowed { what: "provider" });
    }
    if elevation == Elevation::NotGranted {
        return Err(Refusal::ElevatedNotGranted);
    }
    Ok(Permit {
        caller,
        tenant,
        route,
    })
}
