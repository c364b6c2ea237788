//! Signs a request that is ready to leave, for credentials that are never sent.
//!
//! Everything is signed in the form in which it is sent: nothing may change a request after this.

use tollgate_core::handle::Bound;
use tollgate_core::policy::{Place, Upstream};
use tollgate_core::sigv4::{self, Scope, Signed};
use tollgate_core::time::Timestamp;

use crate::ask::Payload;
use crate::forward::Outgoing;
use crate::obtain::Signer;
use crate::respond::Failure;

/// Takes the client's credentials and signature out of the request and puts one signature in.
pub(crate) fn sign(
    bound: &Bound,
    signer: &Signer,
    outgoing: &mut Outgoing,
    payload: &Payload,
    upstream: &Upstream,
    now: Timestamp,
) -> Result<(), Failure> {
    bound.strip(&mut outgoing.headers, &mut outgoing.query);
    sigv4::strip(&mut outgoing.headers, &mut outgoing.query);
    let place = bound.credential().map(|it| &it.binding.place);
    let (Some(Place::AwsSigv4 { service, region }), Payload::Whole(collected)) = (place, payload)
    else {
        return Err(Failure::CredentialInvalid);
    };
    let request = Signed {
        method: &outgoing.method,
        authority: &upstream.authority(),
        path: &format!("{}{}", upstream.base_path, outgoing.path),
        query: outgoing.query.as_deref(),
        body: &collected.bytes,
    };
    let scope = Scope { service, region };
    sigv4::sign(&mut outgoing.headers, &request, &signer.key, scope, now)
        .map_err(|_unsendable| Failure::CredentialInvalid)
}
