//! How the caps of tenants stand, and whether one was ever passed.
//!
//! Only a tenant's own caps, not those of its agents and models. Those of tenants with series of
//! their own are shown; a sum of all others' would hide the one that is at its end. The overshoot is
//! looked for among all tenants, or in a fleet, where each look is a question to the shared store,
//! among those that are shown. Worst case: the store does not answer, and what it holds is not shown.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use tokio::task::JoinSet;
use tollgate_core::budget::{Balance, Budget, BudgetKey, Scope};
use tollgate_core::ids::{TaskId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::standing::caps_in_force;
use tollgate_core::time::Window;
use tollgate_proxy::gateway::Gateway;

use super::gauge;
use crate::clock;

/// The figures, in 10⁻⁹ USD and seconds.
pub(super) struct CapFigures {
    limit: IntGaugeVec,
    settled: IntGaugeVec,
    reserved: IntGaugeVec,
    remaining: IntGaugeVec,
    reset: IntGaugeVec,
    overshoot: IntGauge,
    reached: IntGauge,
    highest: Mutex<HashMap<BudgetKey, PicoUsd>>,
    fleet: bool,
}

impl CapFigures {
    /// # Errors
    /// If metrics of these names exist.
    pub(super) fn register(
        registry: &Registry,
        of_tenants: &Registry,
        fleet: bool,
    ) -> prometheus::Result<Self> {
        let by_cap = |name: &str, help: &str| -> prometheus::Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["tenant", "window"])?;
            of_tenants.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            limit: by_cap(
                "tollgate_cap_limit_nano_usd",
                "Spend cap of a tenant, in 10^-9 US dollars.",
            )?,
            settled: by_cap(
                "tollgate_cap_settled_nano_usd",
                "What was settled under it in the present window.",
            )?,
            reserved: by_cap(
                "tollgate_cap_reserved_nano_usd",
                "What calls under way have reserved under it.",
            )?,
            remaining: by_cap(
                "tollgate_cap_remaining_nano_usd",
                "What is left for new calls.",
            )?,
            reset: by_cap(
                "tollgate_cap_reset_seconds",
                "Seconds until its window ends and it begins anew.",
            )?,
            overshoot: gauge(
                registry,
                "tollgate_cap_overshoot_nano_usd",
                "By how much caps are passed by calls, in 10^-9 US dollars. Alert on any.",
            )?,
            reached: gauge(
                registry,
                "tollgate_caps_reached",
                "Caps of tenants under which nothing is left.",
            )?,
            highest: Mutex::default(),
            fleet,
        })
    }

    /// Looks at the caps, and shows those of `holders`.
    pub(super) async fn refresh(&self, gateway: &Gateway, holders: &[TenantId]) {
        let shown: HashSet<&TenantId> = holders.iter().collect();
        let looked_at = look(gateway, |tenant| !self.fleet || shown.contains(tenant)).await;
        for gauge in [&self.limit, &self.settled, &self.reserved, &self.remaining] {
            gauge.reset();
        }
        self.reset.reset();
        let now = clock::now();
        let reached = looked_at
            .iter()
            .filter(|(_, limit, balance)| balance.room(*limit) == PicoUsd::ZERO);
        self.reached.set(whole(reached.count()));
        for (key, limit, balance) in &looked_at {
            if !shown.contains(&key.tenant) {
                continue;
            }
            let window = match key.window {
                Window::Day(_) => "day",
                Window::Month(_) => "month",
                Window::Total => "total",
            };
            let labels = [key.tenant.as_str(), window];
            let set = |gauge: &IntGaugeVec, amount| {
                gauge.with_label_values(&labels).set(nano(amount));
            };
            set(&self.limit, *limit);
            set(&self.settled, balance.settled);
            set(&self.reserved, balance.reserved);
            set(&self.remaining, balance.room(*limit));
            if let Some(end) = key.window.resets_at() {
                let left = whole(end.since(now).as_secs());
                self.reset.with_label_values(&labels).set(left);
            }
        }
        self.overshoot.set(nano(self.overshoot(&looked_at)));
    }

    /// What is settled and reserved beyond the highest limit that each cap has had. A limit that was
    /// lowered under what was spent is no overshoot, and neither is what was found at the first look.
    fn overshoot(&self, looked_at: &[(BudgetKey, PicoUsd, Balance)]) -> PicoUsd {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = HashMap::with_capacity(looked_at.len());
        let mut overshoot = PicoUsd::ZERO;
        for (key, limit, balance) in looked_at {
            let taken = balance.settled.saturating_add(balance.reserved);
            let before = highest.get(key).copied().unwrap_or(taken);
            let bound = before.max(*limit);
            overshoot = overshoot.saturating_add(taken.saturating_sub(bound).max(PicoUsd::ZERO));
            next.insert(key.clone(), bound);
        }
        *highest = next;
        overshoot
    }
}

/// Every cap of the tenants that are `wanted`, and what it holds.
async fn look(
    gateway: &Gateway,
    wanted: impl Fn(&TenantId) -> bool,
) -> Vec<(BudgetKey, PicoUsd, Balance)> {
    let policy = Arc::clone(&gateway.live.snapshot().policy);
    let now = clock::now();
    let mut looks = JoinSet::new();
    for tenant in policy.tenants.values().filter(|tenant| wanted(&tenant.id)) {
        let caps = caps_in_force(tenant, std::iter::empty::<&TaskId>(), now);
        for Budget { key, limit } in caps {
            let (Scope::Tenant, Some(limit)) = (&key.scope, limit) else {
                continue;
            };
            let budgets = Arc::clone(&gateway.stores.budgets);
            looks.spawn(async move {
                let balance = budgets.balance(&key).await;
                balance.ok().map(|balance| (key, limit, balance))
            });
        }
    }
    looks.join_all().await.into_iter().flatten().collect()
}

fn nano(amount: PicoUsd) -> i64 {
    i64::try_from(amount.as_pico() / 1_000).unwrap_or(i64::MAX)
}

fn whole(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_calls_took_beyond_every_limit_there_was_is_an_overshoot() {
        let (open, hidden) = (Registry::new(), Registry::new());
        let figures = CapFigures::register(&open, &hidden, false).unwrap();
        let key: BudgetKey = "acme/tenant/day:2026-11-23".parse().unwrap();
        let look = |limit: i128, settled: i128, reserved: i128| {
            let balance = Balance {
                settled: PicoUsd::new(settled),
                reserved: PicoUsd::new(reserved),
            };
            let limit = PicoUsd::new(limit);
            figures
                .overshoot(&[(key.clone(), limit, balance)])
                .as_pico()
        };
        assert_eq!(
            look(10, 25, 0),
            0,
            "found at the first look: the limit was lowered before"
        );
        assert_eq!(look(100, 60, 40), 0, "full");
        assert_eq!(look(50, 60, 40), 0, "the limit was lowered");
        assert_eq!(look(50, 80, 23), 3, "passed");
        assert_eq!(look(50, 80, 10), 0, "given back");
        assert_eq!(figures.overshoot(&[]).as_pico(), 0);
        assert_eq!(
            look(50, 99, 0),
            0,
            "another gateway's look, or the same after a reload"
        );
    }
}
