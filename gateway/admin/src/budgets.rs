//! What a tenant has spent, holds reserved and may spend, counter by counter.
//!
//! Reads the same counters that calls reserve from, in the windows of now. An agent's and a
//! model's counters are listed if it has a cap, a task's only if asked for by name: tasks are
//! without number.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_core::admin_log::About;
use tollgate_core::budget::{BudgetKey, Scope};
use tollgate_core::ids::{TaskId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::{Caps, Tenant};
use tollgate_core::time::{Timestamp, Window};

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;
use crate::server::name;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    task: Option<String>,
}

/// One counter. Money is decimal US dollars as text, so that no digit is ever rounded.
#[derive(Serialize)]
struct Line {
    key: BudgetKey,
    limit_usd: Option<PicoUsd>,
    settled_usd: PicoUsd,
    reserved_usd: PicoUsd,
    /// What is left under the limit.
    left_usd: Option<PicoUsd>,
    resets_at: Option<Timestamp>,
}

pub(crate) async fn of_tenant(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(tenant): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(asked) = asked.map_err(|wrong| Problem::malformed(wrong.body_text()))?;
    let task = asked.task.as_deref().map(name).transpose()?;
    let about = About {
        tenant: tenant.parse().ok(),
        task: task.clone(),
        ..About::default()
    };
    let id = about.tenant.clone();
    let deed = asker.begin(&admin, Action::ReadBudget, about).await?;
    Ok(deed.close(balances(&admin, id, task).await))
}

async fn balances(
    admin: &Admin,
    id: Option<TenantId>,
    task: Option<TaskId>,
) -> Result<Json<Value>, Problem> {
    let id = id.ok_or_else(Problem::unknown_tenant)?;
    let policy = (admin.policy)();
    let tenant = policy
        .tenants
        .get(&id)
        .ok_or_else(Problem::unknown_tenant)?;
    let mut lines = Vec::new();
    for (key, limit) in counters(tenant, task, (admin.clock)()) {
        let balance = admin.budgets.balance(&key).await?;
        let taken = balance.settled.saturating_add(balance.reserved);
        lines.push(Line {
            resets_at: key.window.resets_at(),
            key,
            limit_usd: limit,
            settled_usd: balance.settled,
            reserved_usd: balance.reserved,
            left_usd: limit.map(|limit| limit.saturating_sub(taken).max(PicoUsd::ZERO)),
        });
    }
    Ok(Json(json!({ "tenant": id, "budgets": lines })))
}

fn counters(
    tenant: &Tenant,
    task: Option<TaskId>,
    now: Timestamp,
) -> Vec<(BudgetKey, Option<PicoUsd>)> {
    let key = |scope: Scope, window: Window| BudgetKey::new(tenant.id.clone(), scope, window);
    let (day, month) = (Window::day(now), Window::month(now));
    let mut counters = vec![
        (key(Scope::Tenant, day), tenant.caps.daily),
        (key(Scope::Tenant, month), tenant.caps.monthly),
    ];
    for (scope, Caps { daily, monthly }) in tenant.parts() {
        let daily = daily.map(|cap| (key(scope.clone(), day), Some(cap)));
        let monthly = monthly.map(|cap| (key(scope, month), Some(cap)));
        counters.extend(daily.into_iter().chain(monthly));
    }
    if let Some(task) = task {
        counters.push((key(Scope::Task(task), Window::Total), tenant.task_cap));
    }
    counters
}
