//! Money and pace at the worst case, all or nothing -> a hold.
//!
//! The store takes both in one step. A tenant at its cap is always told so, not to come back in a
//! second. Worst case: see [`Admission`].

mod accounts;
mod clamp;
mod scopes;

use std::sync::Arc;

use tollgate_core::admission::{self, Admission, Demand, Taken};
use tollgate_core::budget::Hold;
use tollgate_core::deferred::DeferredCharges;
use tollgate_core::policy::Operation;
use tollgate_core::rate::Pass;
use tollgate_core::refusal::Refusal;
use tollgate_core::time::Timestamp;

use crate::admit::Rejected;
use crate::ask::{Call, Payload};
use crate::deferred::{Later, later};
use crate::gateway::Gateway;
use crate::live::Snapshot;
use crate::metrics::{Asked, waited};
use crate::record::Draft;
use crate::respond::Failure;
use crate::settle::{Metering, Settlement, Tariff};

pub use accounts::Accounts;
use accounts::Bounds;
pub(crate) use clamp::Clamping;
use scopes::Scopes;

/// A call that can be afforded.
pub(crate) struct Held<'r> {
    pub(crate) call: Call<'r>,
    pub(crate) settlement: Box<Settlement>,
    /// What the answer may tell of deferred work.
    pub(crate) later: Later,
}

pub(crate) async fn reserve<'r>(
    gw: &Arc<Gateway>,
    live: &Snapshot,
    mut call: Call<'r>,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Held<'r>, Rejected> {
    let stores = &gw.stores;
    let deferred = stores.deferred.as_ref();
    let mut quote = quote(live, Some(&gw.accounts), deferred, &mut call, draft, now)?;
    let fitted = fit(
        stores.admission.as_ref(),
        &mut quote,
        &mut call.payload,
        draft,
        now,
    );
    let (fitted, wait) = waited(fitted).await;
    let failed = matches!(&fitted, Err(Rejected::Failed(Failure::Ledger(_))));
    let times = &gw.metrics.stores;
    times.took(Asked::Reserve, wait, failed);
    let (hold, pass) = fitted?;
    let Quote {
        tariff, clamping, ..
    } = quote;
    let mut settlement = Settlement::open(Arc::clone(gw), hold, tariff);
    if let Some(tokens) = clamping.written {
        draft.is_clamped();
        settlement.clamped(tokens);
    }
    if let Some(pass) = pass {
        settlement.paced(pass);
    }
    let later = later(
        gw,
        live,
        &call.bound.permit,
        settlement.tariff(),
        draft,
        now,
    );
    Ok(Held {
        call,
        settlement,
        later,
    })
}

/// What a call is charged by, and every cap and limit that it has to keep. Nothing is taken yet.
pub(crate) struct Quote {
    pub(crate) tariff: Tariff,
    pub(crate) bounds: Arc<Bounds>,
    /// Tokens of output that are expected where nothing bounds them.
    default_output: u64,
    pub(crate) clamping: Clamping,
}

/// Names price, caps and limits of a call, and lowers its output bound to the tenant's ceiling.
/// What bounds other calls alike is taken from `known`.
pub(crate) fn quote(
    live: &Snapshot,
    known: Option<&Accounts>,
    deferred: &dyn DeferredCharges,
    call: &mut Call<'_>,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Quote, Refusal> {
    let asked = call.ask.as_ref().map(|ask| ask.model.clone());
    let mut tariff = tariff(deferred, live, call, now)?;
    let permit = &call.bound.permit;
    let names = || {
        let asked = asked.iter().map(|model| model.as_str());
        asked.chain(tariff.names())
    };
    let scopes = Scopes::new(&permit.caller, &permit.tenant, names);
    let takes_tokens = tariff.ask().is_some();
    let bounds = match known {
        Some(known) => known.bounds(&scopes, takes_tokens, now),
        None => Arc::new(Bounds::new(&scopes, takes_tokens, now)),
    };
    if bounds.account.iter().any(|budget| budget.limit.is_some()) {
        refuse_unpriced(&tariff)?;
    }
    draft.is_charged_by(live.prices.version(), &tariff);
    let mut clamping = Clamping::new(permit.tenant.clamp);
    clamping.lower_to_ceiling(&mut tariff, &mut call.payload);
    Ok(Quote {
        tariff,
        bounds,
        default_output: permit.tenant.default_max_output_tokens,
        clamping,
    })
}

/// Takes the worst case from every counter and what the call needs from every limit; where the
/// tenant wants that, with an output bound that fits.
pub(crate) async fn fit(
    store: &dyn Admission,
    quote: &mut Quote,
    payload: &mut Payload,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<(Hold, Option<Pass>), Rejected> {
    loop {
        let refusal = match take(store, quote, draft, now).await? {
            Ok(taken) => return Ok(taken),
            Err(refusal) => refusal,
        };
        let fitting = refusal.fitting_output_tokens();
        let Quote {
            tariff, clamping, ..
        } = quote;
        if !clamping.lower_to_fit(tariff, payload, fitting) {
            return Err(refusal.into());
        }
    }
}

/// Takes everything at once, or says what has no room for it.
async fn take(
    store: &dyn Admission,
    quote: &Quote,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Result<(Hold, Option<Pass>), Refusal>, Failure> {
    let tariff = &quote.tariff;
    let asked = tariff.worst_case();
    draft.costs_at_most(asked);
    let demand = Demand {
        id: draft.id,
        account: &quote.bounds.account,
        amount: asked,
        limits: &quote.bounds.limits,
        tokens: tariff.expected_tokens(quote.default_output),
        now,
    };
    let taken = admission::take(store, &demand).await;
    Ok(match taken.map_err(Failure::Ledger)? {
        Taken::All(hold, pass) => Ok((hold, pass)),
        // What is only reserved may come free again, so such a cap has not been reached.
        Taken::Exhausted {
            key,
            limit,
            balance,
        } if balance.settled < limit => Err(Refusal::ExceedsHeadroom {
            resets_at: key.window.resets_at(),
            key,
            limit,
            balance,
            asked,
            fitting_output_tokens: tariff.largest_output(balance.room(limit)),
        }),
        Taken::Exhausted {
            key,
            limit,
            balance,
        } => Err(Refusal::CapReached {
            resets_at: key.window.resets_at(),
            key,
            limit,
            balance,
        }),
        Taken::Wait { key, retry_after } => Err(Refusal::RateLimited { key, retry_after }),
    })
}

/// What the call is charged by. From here on its model goes by the name it is priced under.
fn tariff(
    deferred: &dyn DeferredCharges,
    live: &Snapshot,
    call: &mut Call<'_>,
    now: Timestamp,
) -> Result<Tariff, Refusal> {
    let permit = &call.bound.permit;
    let (provider, endpoint) = (&permit.route.provider, &permit.route.endpoint);
    let Some(mut ask) = call.ask.take() else {
        let work = call.work.take();
        return Ok(match (endpoint.price_per_call, endpoint.operation) {
            (Some(price), _) => Tariff::PerCall(price),
            (None, Operation::Tool) => Tariff::Unpriced,
            (None, _) => match work {
                Some(work) => work.tariff(deferred, live, permit, now)?,
                None => Tariff::Free,
            },
        });
    };
    let alias = provider.aliases.get(&ask.model).cloned();
    let alias = alias.map(|model| std::mem::replace(&mut ask.model, model));
    let priced = provider.prices.as_ref().and_then(|catalogue| {
        let rates = live.prices.rates(catalogue, ask.model.as_str(), now)?;
        let covered = rates.covers(ask.operation);
        covered.then(|| (catalogue.clone(), rates))
    });
    Ok(match priced {
        Some((catalogue, rates)) => Tariff::Metered(Box::new(Metering {
            ask,
            rates,
            prices: Arc::clone(&live.prices),
            catalogue,
            at: now,
            default_max_output: permit.tenant.default_max_output_tokens,
            alias,
            unreported: permit.tenant.unreported,
        })),
        None => Tariff::Unmetered(Box::new(ask)),
    })
}

/// Where there is a cap, what has no price is refused: the cap could not be kept.
fn refuse_unpriced(tariff: &Tariff) -> Result<(), Refusal> {
    match tariff {
        Tariff::Unmetered(ask) => Err(Refusal::NotPriced {
            what: ask.model.to_string(),
        }),
        Tariff::Unpriced => Err(Refusal::NotPriced {
            what: "this endpoint".to_owned(),
        }),
        Tariff::Deferred(work) if work.is_unbounded() => Err(Refusal::BatchNotBounded),
        Tariff::Metered(_) | Tariff::PerCall(_) | Tariff::Deferred(_) | Tariff::Free => Ok(()),
    }
}

#[cfg(test)]
mod tests;
