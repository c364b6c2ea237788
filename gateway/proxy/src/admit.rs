//! The story of a call up to the point where it may leave, in one function.

use http::request::Parts;
use hyper::body::Incoming;
use tollgate_core::identity::ClientCertificate;
use tollgate_core::refusal::Refusal;
use tollgate_core::time::Timestamp;

use crate::ask::read_ask;
use crate::authenticate::authenticate;
use crate::authorize::authorize;
use crate::bind::bind;
use crate::gateway::Gateway;
use crate::live::Snapshot;
use crate::pressure::Pressed;
use crate::record::Draft;
use crate::reserve::reserve;
use crate::respond::Failure;
use crate::route::route;
use crate::unseal::{Admitted, unseal};

/// Why a call does not leave.
#[derive(Debug)]
pub(crate) enum Rejected {
    /// A deliberate no.
    Refused(Refusal),
    /// The gateway could not decide or prepare.
    Failed(Failure),
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Pressed> for Rejected {
    fn from(pressed: Pressed) -> Self {
        Self::Failed(Failure::Overloaded(pressed))
    }
}

impl From<Failure> for Rejected {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Everything that must hold before one byte leaves for a provider.
///
/// Each line consumes the proof made by the line above it, so no step can be skipped or swapped.
/// What can be refused from the head alone is refused before the body is read. Nothing needs
/// undoing until `reserve`; from there on the hold settles itself if it is dropped.
pub(crate) async fn admit(
    gw: &std::sync::Arc<Gateway>,
    live: &Snapshot,
    head: &Parts,
    shown: Option<&ClientCertificate>,
    body: &mut Option<Incoming>,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Box<Admitted>, Rejected> {
    let identified = authenticate(gw, live, head, shown, draft, now).await?; // who asks?
    let place = gw.pressure.enter(&identified.caller.tenant)?; //   is there room?
    let routed = route(live, head, draft)?; //                      for what, where?
    let permit = authorize(identified, routed, &head.method, draft)?; // may they?
    let permit = permit.with_sealed(&gw.sealed);
    let bound = bind(permit, head)?; //                             whose key goes where?
    let call = read_ask(gw, bound, head, body, draft).await?; //    with which model, how much?
    let held = reserve(gw, live, call, draft, now).await?; //       can they afford it?
    let admitted = unseal(gw, held, head, draft).await?; //         the secret itself, last of all
    Ok(admitted.occupying(place))
}
