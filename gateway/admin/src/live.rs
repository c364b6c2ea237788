//! How tenants stand with their caps right now: what is settled, reserved and left, how fast money
//! goes, and when a cap will be reached at that pace.
//!
//! Reads the counters that calls reserve from; how fast they fill up is kept beside the calls, by
//! whoever implements [`LiveFigures`]. Worst case: money settled in the last tenth of a second is
//! in a counter and not yet in its pace.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_core::admin_log::About;
use tollgate_core::budget::Scope;
use tollgate_core::burn::{Pace, tasks};
use tollgate_core::happening::Audience;
use tollgate_core::ids::TenantId;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Tenant;
use tollgate_core::rate::RateStore;
use tollgate_core::standing::{LimitStanding, Standing, caps_in_force, limits_in_force};
use tollgate_core::time::Timestamp;

use crate::Admin;
use crate::access::{Action, Asker};
use crate::problem::Problem;

/// The most tenants in one answer: those that money goes fastest in.
const MOST_TENANTS: usize = 1_000;

/// The most tasks of one tenant in an answer: those that money goes fastest in.
const MOST_TASKS: usize = 100;

/// What a running gateway knows of the moment and keeps nowhere.
pub trait LiveFigures: Send + Sync {
    /// How fast money goes in each scope of a tenant in which some was settled in the last hour.
    fn paces(&self, tenant: &TenantId) -> BTreeMap<Scope, Pace>;

    /// How long this process has been watching.
    fn watched_for(&self) -> Duration;

    /// Calls, and drains of answers whose clients have left, under way.
    fn in_flight(&self) -> usize;

    /// Where rates are counted.
    fn rates(&self) -> Arc<dyn RateStore>;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    tenant: Option<String>,
}

/// How fast money goes over one stretch of time.
#[derive(Serialize)]
struct Burn {
    usd_per_hour: PicoUsd,
}

/// How fast money goes in a tenant as a whole, whether it has a cap or not.
#[derive(Serialize)]
struct Burns {
    last_5_minutes: Burn,
    last_hour: Burn,
}

#[derive(Serialize)]
struct OfTenant {
    tenant: TenantId,
    burn: Burns,
    caps: Vec<Standing>,
    limits: Vec<LimitStanding>,
    /// Tasks that money has gone in during the last hour and that are not among the caps.
    tasks_left_out: usize,
}

pub(crate) async fn figures(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(asked) = asked.map_err(|wrong| Problem::malformed(wrong.body_text()))?;
    // What names no tenant is a question about all of them; a name that none can have is not.
    let tenant: Option<TenantId> = asked.tenant.as_deref().and_then(|id| id.parse().ok());
    let about = tenant.clone().map_or_else(About::default, About::tenant);
    let deed = asker.begin(&admin, Action::ReadLive, about).await?;
    let done = match (asked.tenant, tenant) {
        (None, _) => of_audience(&admin, &Audience::Operators, MOST_TENANTS).await,
        (Some(_), Some(tenant)) => one(&admin, &tenant).await,
        (Some(_), None) => Err(Problem::unknown_tenant()),
    };
    Ok(deed.close(done))
}

async fn one(admin: &Admin, id: &TenantId) -> Result<Json<Value>, Problem> {
    let policy = (admin.policy)();
    let tenant = policy.tenants.get(id).ok_or_else(Problem::unknown_tenant)?;
    let now = (admin.clock)();
    let standing = of_tenant(admin, tenant, &admin.live.paces(id), now).await?;
    Ok(answer(admin, now, vec![standing], 0))
}

/// How the tenants that `audience` sees stand: of many, the `most` that money goes fastest in.
pub(crate) async fn of_audience(
    admin: &Admin,
    audience: &Audience,
    most: usize,
) -> Result<Json<Value>, Problem> {
    let policy = (admin.policy)();
    let now = (admin.clock)();
    let mut tenants: Vec<(&Arc<Tenant>, BTreeMap<Scope, Pace>)> = policy
        .tenants
        .values()
        .filter(|tenant| audience.sees(Some(&tenant.id)))
        .map(|tenant| (tenant, admin.live.paces(&tenant.id)))
        .collect();
    tenants.sort_by_cached_key(|(tenant, paces)| {
        let whole = paces.get(&Scope::Tenant).copied().unwrap_or_default();
        (Reverse((whole.five_minutes, whole.hour)), tenant.id.clone())
    });
    let left_out = tenants.len().saturating_sub(most);
    tenants.truncate(most);
    let mut standings = Vec::with_capacity(tenants.len());
    for (tenant, paces) in &tenants {
        standings.push(of_tenant(admin, tenant, paces, now).await?);
    }
    Ok(answer(admin, now, standings, left_out))
}

async fn of_tenant(
    admin: &Admin,
    tenant: &Tenant,
    paces: &BTreeMap<Scope, Pace>,
    now: Timestamp,
) -> Result<OfTenant, Problem> {
    let active = match tenant.task_cap {
        Some(_) => tasks(paces),
        None => Vec::new(),
    };
    let shown = active.iter().take(MOST_TASKS);
    let mut caps = Vec::new();
    for cap in caps_in_force(tenant, shown, now) {
        let Some(limit) = cap.limit else {
            continue;
        };
        let balance = admin.budgets.balance(&cap.key).await?;
        let pace = paces.get(&cap.key.scope).copied().unwrap_or_default();
        caps.push(Standing::new(cap.key, limit, balance, pace, now));
    }
    let whole = paces.get(&Scope::Tenant).copied().unwrap_or_default();
    let limits = limits_in_force(tenant);
    let left = admin.live.rates().left(&limits).await?;
    let limits = limits.iter().zip(left);
    Ok(OfTenant {
        tenant: tenant.id.clone(),
        burn: Burns {
            last_5_minutes: Burn {
                usd_per_hour: whole.five_minutes,
            },
            last_hour: Burn {
                usd_per_hour: whole.hour,
            },
        },
        caps,
        limits: limits
            .map(|(limit, left)| LimitStanding::new(limit, left))
            .collect(),
        tasks_left_out: active.len().saturating_sub(MOST_TASKS),
    })
}

fn answer(admin: &Admin, now: Timestamp, tenants: Vec<OfTenant>, left_out: usize) -> Json<Value> {
    Json(json!({
        "at": now,
        "watched_since": now.minus(admin.live.watched_for()),
        "calls_in_flight": admin.live.in_flight(),
        "tenants": tenants,
        "tenants_left_out": left_out,
    }))
}
