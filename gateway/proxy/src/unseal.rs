//! The secret itself, last of all; then the intent, durable before anything leaves.

use std::sync::Arc;

use http::request::Parts;
use tollgate_core::call::ask_for_usage;
use tollgate_core::handle::Bound;
use tollgate_core::identity::Caller;
use tollgate_core::policy::{Dialect, Endpoint, Provider, Upstream, shared};
use tollgate_core::vault::SecretVersion;

use crate::admit::Rejected;
use crate::ask::{Call, Payload};
use crate::authenticate::recheck;
use crate::deferred::Later;
use crate::forward::{Outgoing, outgoing};
use crate::gateway::Gateway;
use crate::obtain::{Key, obtain};
use crate::pressure::Place;
use crate::record::Draft;
use crate::reserve::Held;
use crate::respond::Failure;
use crate::scrub::Scrub;
use crate::settle::Settlement;
use crate::sign::sign;
use crate::traces;

/// A call that may leave: allowed, affordable, written down, and carrying its one credential. Boxed
/// wherever it goes, since it is large.
pub(crate) struct Admitted {
    pub(crate) caller: Arc<Caller>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) endpoint: Arc<Endpoint>,
    /// The language of the client.
    pub(crate) dialect: Dialect,
    pub(crate) outgoing: Outgoing,
    pub(crate) payload: Payload,
    /// Whether the stream was asked to end with its usage, which the client had not asked for.
    pub(crate) usage_was_asked_for: bool,
    pub(crate) settlement: Box<Settlement>,
    /// What the answer may tell of deferred work.
    pub(crate) later: Later,
    /// Present if an answer could echo a secret.
    pub(crate) scrub: Option<Scrub>,
}

impl Admitted {
    /// The call occupies `place` until it is settled.
    pub(crate) fn occupying(mut self: Box<Self>, place: Place) -> Box<Self> {
        self.settlement.occupies(place);
        self
    }
}

pub(crate) async fn unseal(
    gw: &Arc<Gateway>,
    held: Held<'_>,
    head: &Parts,
    draft: &mut Draft,
) -> Result<Box<Admitted>, Rejected> {
    let Held {
        call,
        mut settlement,
        later,
    } = held;
    let Call {
        bound, mut payload, ..
    } = call;
    let permit = bound.permit;
    let usage_was_asked_for = complete(gw, &mut payload, &settlement, &permit.route.provider)?;
    let mut outgoing = outgoing(head, &permit.route);
    if let Some(trace) = draft.trace() {
        traces::tell(&trace, &mut outgoing.headers);
    }
    let credential = bound.bound.credential().cloned();
    let scrub = if let Some(credential) = &credential {
        shared::separate(credential, &permit.caller.tenant, &mut outgoing.headers);
        let key = obtain(gw, &permit.caller, credential).await?;
        let upstream = &permit.route.provider.upstream;
        let sent = put_in(
            gw,
            &bound.bound,
            &key,
            &mut outgoing,
            &mut payload,
            upstream,
        )?;
        draft.uses(&credential.name, key.version());
        sent.map(|sent| {
            if sent.needles.is_none() {
                draft.cannot_be_scrubbed();
            }
            Scrub::new(sent.needles.clone())
        })
    } else {
        bound
            .bound
            .strip(&mut outgoing.headers, &mut outgoing.query);
        None
    };
    recheck(gw, &permit.caller)?;
    let subject = draft.let_through(&permit.caller);
    settlement.intend(subject).await.map_err(Failure::Ledger)?;
    if let Some(trace) = draft.trace() {
        settlement.traced(trace);
    }
    Ok(Box::new(Admitted {
        caller: permit.caller,
        dialect: permit.route.dialect(),
        endpoint: permit.route.endpoint,
        provider: permit.route.provider,
        outgoing,
        payload,
        usage_was_asked_for,
        settlement,
        later,
        scrub,
    }))
}

/// Brings a judged body into the form in which it is sent, before a credential is put into it or
/// signed over it. Returns whether it now asks a stream for its usage.
fn complete(
    gw: &Gateway,
    payload: &mut Payload,
    settlement: &Settlement,
    provider: &Provider,
) -> Result<bool, Rejected> {
    let Payload::Whole(collected) = payload else {
        return Ok(false);
    };
    let spliced = settlement
        .tariff()
        .ask()
        .filter(|_| provider.asks_for_usage)
        .and_then(|ask| ask_for_usage(&collected.bytes, ask));
    let Some(spliced) = spliced else {
        return Ok(false);
    };
    replace(gw, payload, spliced)?;
    Ok(true)
}

/// Makes the key the only credential of the request, or signs it. Returns what is sent of the key.
fn put_in<'k>(
    gw: &Gateway,
    bound: &Bound,
    key: &'k Key,
    outgoing: &mut Outgoing,
    payload: &mut Payload,
    upstream: &Upstream,
) -> Result<Option<&'k SecretVersion>, Rejected> {
    let sent = match key {
        Key::Sent(sent) => sent,
        Key::Signs(signer) => {
            sign(bound, signer, outgoing, payload, upstream, (gw.clock)())?;
            return Ok(signer.sent.as_ref());
        }
    };
    let body = match &*payload {
        Payload::Whole(collected) => Some(&*collected.bytes),
        Payload::Streamed => None,
    };
    let (headers, query) = (&mut outgoing.headers, &mut outgoing.query);
    let written = bound
        .inject(headers, query, body, &sent.secret)
        .map_err(|_invalid| Failure::CredentialInvalid)?;
    if let Some(written) = written {
        replace(gw, payload, written)?;
    }
    Ok(Some(sent))
}

/// Sends another body than the client's, within the memory that bodies may take.
fn replace(gw: &Gateway, payload: &mut Payload, bytes: Vec<u8>) -> Result<(), Rejected> {
    if let Payload::Whole(collected) = payload {
        let replaced = collected.replace(bytes, &gw.memory);
        replaced.map_err(|error| Rejected::from_collect(error, gw.limits.inspected_body_bytes))?;
    }
    Ok(())
}
