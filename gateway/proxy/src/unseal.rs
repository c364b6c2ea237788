//! The secret itself, last of all; then the intent, durable before anything leaves.

use std::sync::Arc;

use http::request::Parts;
use tollgate_core::call::ask_for_usage;
use tollgate_core::identity::Caller;
use tollgate_core::policy::{CredentialKind, Dialect, Provider, shared};

use crate::admit::Rejected;
use crate::ask::{Call, Payload};
use crate::authenticate::recheck;
use crate::deferred::Later;
use crate::forward::{Outgoing, outgoing};
use crate::gateway::Gateway;
use crate::record::Draft;
use crate::reserve::Held;
use crate::respond::Failure;
use crate::scrub::Scrub;
use crate::settle::Settlement;

/// A call that may leave: allowed, affordable, written down, and carrying its one credential.
pub(crate) struct Admitted {
    pub(crate) caller: Arc<Caller>,
    pub(crate) provider: Arc<Provider>,
    /// The language of the client.
    pub(crate) dialect: Dialect,
    pub(crate) outgoing: Outgoing,
    pub(crate) payload: Payload,
    /// Whether the stream was asked to end with its usage, which the client had not asked for.
    pub(crate) usage_was_asked_for: bool,
    pub(crate) settlement: Settlement,
    /// What the answer may tell of deferred work.
    pub(crate) later: Later,
    /// Present if an answer could echo a secret.
    pub(crate) scrub: Option<Scrub>,
}

pub(crate) async fn unseal(
    gw: &Gateway,
    held: Held<'_>,
    head: &Parts,
    draft: &mut Draft,
) -> Result<Admitted, Rejected> {
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
    let credential = bound.bound.credential().cloned();
    let scrub = if let Some(credential) = &credential {
        shared::separate(credential, &permit.caller.tenant, &mut outgoing.headers);
        if credential.kind != CredentialKind::Static {
            return Err(Failure::CredentialInvalid.into());
        }
        let fetched = gw.stores.vault.fetch(&credential.secret).await;
        let fetched = fetched.map_err(Failure::Credential)?;
        let body = match &payload {
            Payload::Whole(collected) => Some(&*collected.bytes),
            Payload::Streamed => None,
        };
        let written = bound
            .bound
            .inject(
                &mut outgoing.headers,
                &mut outgoing.query,
                body,
                &fetched.secret,
            )
            .map_err(|_invalid| Failure::CredentialInvalid)?;
        if let Some(written) = written {
            replace(gw, &mut payload, written)?;
        }
        draft.uses(&credential.name, fetched.version);
        if fetched.needles.is_none() {
            draft.cannot_be_scrubbed();
        }
        Some(Scrub::new(fetched.needles))
    } else {
        bound
            .bound
            .strip(&mut outgoing.headers, &mut outgoing.query);
        None
    };
    recheck(gw, &permit.caller)?;
    let subject = draft.subject(&permit.caller);
    settlement.intend(subject).await.map_err(Failure::Ledger)?;
    Ok(Admitted {
        caller: permit.caller,
        dialect: permit.route.dialect(),
        provider: permit.route.provider,
        outgoing,
        payload,
        usage_was_asked_for,
        settlement,
        later,
        scrub,
    })
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

/// Sends another body than the client's, within the memory that bodies may take.
fn replace(gw: &Gateway, payload: &mut Payload, bytes: Vec<u8>) -> Result<(), Rejected> {
    if let Payload::Whole(collected) = payload {
        let replaced = collected.replace(bytes, &gw.memory);
        replaced.map_err(|error| Rejected::from_collect(error, gw.limits.inspected_body_bytes))?;
    }
    Ok(())
}
