//! Rate and money at the worst case, all or nothing -> a hold.
//!
//! The cap comes first and the rate second, because a rate token once taken cannot be given back
//! while a hold can. A call refused by its rate gives its hold back at once; for that instant a
//! concurrent call of the same tenant may find less room than there is, never more.

use std::sync::Arc;

use tollgate_core::budget::{Budget, BudgetKey, Reserved, Scope};
use tollgate_core::identity::Caller;
use tollgate_core::ids::ModelName;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::{Caps, Operation, ScopeLimits, Tenant};
use tollgate_core::rate::{Counted, Limit, Limits, Paced, RateKey, Size};
use tollgate_core::refusal::Refusal;
use tollgate_core::time::{Timestamp, Window};

use crate::admit::Rejected;
use crate::ask::Call;
use crate::gateway::Gateway;
use crate::live::Snapshot;
use crate::record::Draft;
use crate::respond::Failure;
use crate::settle::{Metering, Settlement, Tariff};

/// A call that can be afforded.
pub(crate) struct Held<'r> {
    pub(crate) call: Call<'r>,
    pub(crate) settlement: Settlement,
}

pub(crate) async fn reserve<'r>(
    gw: &Arc<Gateway>,
    live: &Snapshot,
    mut call: Call<'r>,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Held<'r>, Rejected> {
    let budgets = budgets(
        &call.bound.permit.caller,
        &call.bound.permit.tenant,
        call.ask.as_ref().map(|ask| &ask.model),
        now,
    );
    let capped = budgets.iter().any(|budget| budget.limit.is_some());
    let tariff = tariff(live, &mut call, capped, now)?;
    let amount = tariff.worst_case();
    draft.costs_at_most(amount, live.prices.version(), &tariff);
    let reserved = gw
        .stores
        .budgets
        .reserve(draft.id, &budgets, amount, now)
        .await;
    let hold = match reserved.map_err(Failure::Ledger)? {
        Reserved::Held(hold) => hold,
        Reserved::Exhausted {
            key,
            limit,
            balance,
        } => {
            let left = limit
                .saturating_sub(balance.settled)
                .saturating_sub(balance.reserved);
            let resets_at = key.window.resets_at();
            return Err(if balance.settled >= limit {
                Refusal::CapReached {
                    key,
                    limit,
                    balance,
                    resets_at,
                }
            } else {
                let fitting_output_tokens = tariff.largest_output(left);
                let asked = amount;
                Refusal::ExceedsHeadroom {
                    key,
                    limit,
                    balance,
                    resets_at,
                    asked,
                    fitting_output_tokens,
                }
            }
            .into());
        }
    };
    let tokens = tariff.tokens();
    let mut settlement = Settlement::open(Arc::clone(gw), hold, tariff);
    let limits = limits(
        &call.bound.permit.caller,
        &call.bound.permit.tenant,
        settlement.tariff().model(),
    );
    let paced = gw.stores.rates.admit(draft.id, &limits, tokens).await;
    match paced.map_err(Failure::Ledger)? {
        Paced::Go(pass) => settlement.paced(pass),
        Paced::Free => {}
        Paced::Wait { key, retry_after } => {
            return Err(Refusal::RateLimited { key, retry_after }.into());
        }
    }
    Ok(Held { call, settlement })
}

/// What the call is charged by. An unpriced model is refused where a cap could not be kept.
fn tariff(
    live: &Snapshot,
    call: &mut Call<'_>,
    capped: bool,
    now: Timestamp,
) -> Result<Tariff, Refusal> {
    let route = &call.bound.permit.route;
    if let Some(price) = route.endpoint.price_per_call {
        return Ok(Tariff::PerCall(price));
    }
    let Some(ask) = call.ask.take() else {
        return match route.endpoint.operation {
            Operation::Tool if capped => Err(Refusal::NotPriced {
                what: "this endpoint".to_owned(),
            }),
            Operation::Tool => Ok(Tariff::Unpriced),
            _ => Ok(Tariff::Free),
        };
    };
    let catalogue = route.provider.prices.as_deref();
    let priced = catalogue.and_then(|provider| {
        let rates = live.prices.rates(provider, ask.model.as_str(), now)?;
        Some((provider.to_owned(), rates))
    });
    match priced {
        Some((catalogue, rates)) => Ok(Tariff::Metered(Box::new(Metering {
            ask,
            rates,
            prices: Arc::clone(&live.prices),
            catalogue,
            at: now,
            default_max_output: call.bound.permit.tenant.default_max_output_tokens,
        }))),
        None if capped => Err(Refusal::NotPriced {
            what: ask.model.to_string(),
        }),
        None => Ok(Tariff::Unmetered(Box::new(ask))),
    }
}

/// Every counter the call counts in. The tenant's own always count, so that a cap set later
/// starts from what has been spent; an agent's and a task's only while they have a cap.
fn budgets(
    caller: &Caller,
    tenant: &Tenant,
    model: Option<&ModelName>,
    now: Timestamp,
) -> Vec<Budget> {
    let budget = |scope: Scope, window: Window, limit: Option<PicoUsd>| Budget {
        key: BudgetKey {
            tenant: tenant.id.clone(),
            scope,
            window,
        },
        limit,
    };
    let (day, month) = (Window::day(now), Window::month(now));
    let mut budgets = Vec::with_capacity(5);
    budgets.push(budget(Scope::Tenant, day, tenant.caps.daily));
    budgets.push(budget(Scope::Tenant, month, tenant.caps.monthly));
    if let Some(Caps { daily, monthly }) = tenant.agents.get(&caller.agent).map(|agent| agent.caps)
    {
        let agent = || Scope::Agent(caller.agent.clone());
        budgets.extend(daily.map(|limit| budget(agent(), day, Some(limit))));
        budgets.extend(monthly.map(|limit| budget(agent(), month, Some(limit))));
    }
    for (pattern, ScopeLimits { caps, .. }) in &tenant.models {
        if model.is_some_and(|model| pattern.matches(model.as_str())) {
            let model = || Scope::Model(pattern.clone());
            budgets.extend(caps.daily.map(|limit| budget(model(), day, Some(limit))));
            budgets.extend(
                caps.monthly
                    .map(|limit| budget(model(), month, Some(limit))),
            );
        }
    }
    let task = || Scope::Task(caller.task.clone());
    budgets.extend(
        tenant
            .task_cap
            .map(|limit| budget(task(), Window::Total, Some(limit))),
    );
    budgets
}

/// Every limit on the pace of the call.
fn limits(caller: &Caller, tenant: &Tenant, model: Option<&ModelName>) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut add = |scope: Scope, of: Limits| {
        let sizes = [
            (Counted::Concurrent, of.concurrent.map(Size::AtOnce)),
            (Counted::Requests, of.requests.map(Size::Rate)),
            (Counted::Tokens, of.tokens.map(Size::Rate)),
        ];
        for (counted, size) in sizes {
            limits.extend(size.map(|size| Limit {
                key: RateKey {
                    tenant: tenant.id.clone(),
                    scope: scope.clone(),
                    counted,
                },
                size,
            }));
        }
    };
    if let Some(agent) = tenant.agents.get(&caller.agent) {
        add(Scope::Agent(caller.agent.clone()), agent.limits);
    }
    for (pattern, of) in &tenant.models {
        if model.is_some_and(|model| pattern.matches(model.as_str())) {
            add(Scope::Model(pattern.clone()), of.limits);
        }
    }
    add(Scope::Tenant, tenant.limits);
    limits
}

#[cfg(test)]
mod tests;
