//! Watches how much of each cap is spent and gives notice when a share of it is passed.
//!
//! Calls only leave a mark on whose money was touched; one task looks at the balances behind it,
//! so that no call ever waits for a notice. Worst case: a notice comes a moment late.

mod marks;
mod webhook;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tollgate_core::budget::{Balance, Budget, BudgetKey, Scope};
use tollgate_core::ids::{RecordId, TaskId};
use tollgate_core::money::PicoUsd;
use tollgate_core::notice::{Notice, NoticeBook, passed};
use tollgate_core::policy::{Caps, Tenant};
use tollgate_core::time::{Timestamp, Window};

pub use marks::CapMarks;
pub use webhook::{InvalidSecret, Webhook};

use crate::gateway::Gateway;
use marks::Marks;

/// Time in which marks gather before the balances are looked at.
const GATHER: Duration = Duration::from_millis(100);
/// Time until what the book has not taken is given to it again.
const AGAIN: Duration = Duration::from_secs(1);
/// Notices remembered here so that the book need not be asked again.
const REMEMBERED: usize = 100_000;
/// A call that ends this long after midnight may still count for the day before.
const LATE: Duration = Duration::from_secs(3_600);

/// Gives notice of every share that is passed, until it is dropped. Notices go to `webhook`, if
/// there is one, until it has taken them.
pub async fn watch(gw: Arc<Gateway>, book: Arc<dyn NoticeBook>, webhook: Option<Webhook>) {
    let letters = Arc::new(Notify::new());
    let has_webhook = webhook.is_some();
    let deliver = async {
        if let Some(webhook) = webhook {
            webhook::deliver(&gw, &*book, &webhook, &letters).await;
        }
    };
    let look = async {
        let mut told = HashSet::new();
        let mut owed: Vec<Notice> = Vec::new();
        loop {
            if owed.is_empty() {
                gw.caps.bell.notified().await;
                tokio::time::sleep(GATHER).await;
            } else {
                tokio::time::sleep(AGAIN).await;
            }
            let marks = gw.caps.take();
            owed.extend(due(&gw, marks, &mut told).await);
            owed.truncate(REMEMBERED);
            for notice in std::mem::take(&mut owed) {
                if give(&gw, &*book, &notice, has_webhook).await {
                    letters.notify_one();
                } else {
                    owed.push(notice);
                }
            }
        }
    };
    let ((), ()) = tokio::join!(look, deliver);
}

/// Whether the book has it; otherwise it is to be given again.
async fn give(gw: &Gateway, book: &dyn NoticeBook, notice: &Notice, has_webhook: bool) -> bool {
    match book.keep(notice).await {
        Ok(true) => {
            gw.metrics.noticed(notice.percent);
            tracing::warn!(
                tenant = notice.tenant.as_str(),
                cap = %notice.key,
                percent = notice.percent,
                limit_usd = %notice.limit,
                spent_usd = %notice.spent,
                "a share of a spend cap is reached"
            );
            if !has_webhook && let Err(error) = book.sent(notice.id).await {
                tracing::warn!(%error, "a notice could not be marked");
            }
        }
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(%error, cap = %notice.key, "a notice could not be kept");
            return false;
        }
    }
    true
}

/// The notices that the marks call for and that have not been given by this task.
async fn due(
    gw: &Gateway,
    marks: Marks,
    told: &mut HashSet<(BudgetKey, u8, PicoUsd)>,
) -> Vec<Notice> {
    if told.len() > REMEMBERED {
        told.clear();
    }
    let now = (gw.clock)();
    let policy = Arc::clone(&gw.live.snapshot().policy);
    let mut seen: Vec<(Budget, Balance, &[u8])> = Vec::new();
    for (id, tasks) in marks.spenders() {
        let Some(tenant) = policy.tenants.get(id) else {
            continue;
        };
        for budget in capped(tenant, tasks.into_iter(), now) {
            // A store that cannot answer is reported by the calls that need it.
            if let Ok(balance) = gw.stores.budgets.balance(&budget.key).await {
                seen.push((budget, balance, &tenant.notify_percent));
            }
        }
    }
    let mut notices = Vec::new();
    let mut note = |key: &BudgetKey, percent, limit, balance| {
        if told.insert((key.clone(), percent, limit)) {
            let id = RecordId::new(uuid::Uuid::now_v7());
            notices.push(Notice::new(id, now, key.clone(), percent, limit, balance));
        }
    };
    for (Budget { key, limit }, balance, shares) in seen {
        if let Some(limit) = limit {
            for percent in passed(balance.settled, limit, shares) {
                note(&key, percent, limit, balance);
            }
        }
    }
    for (key, (limit, balance)) in marks.refused {
        let tenant = policy.tenants.get(&key.tenant);
        if tenant.is_some_and(|tenant| tenant.notify_percent.contains(&100)) {
            note(&key, 100, limit, balance);
        }
    }
    notices
}

/// Every cap of a tenant, in the windows that calls ending now may count in.
fn capped<'a>(
    tenant: &Tenant,
    tasks: impl Iterator<Item = &'a TaskId>,
    now: Timestamp,
) -> Vec<Budget> {
    let mut budgets = Vec::new();
    let mut add = |scope: Scope, window: Window, limit: Option<PicoUsd>| {
        budgets.extend(limit.map(|limit| Budget {
            key: BudgetKey::new(tenant.id.clone(), scope, window),
            limit: Some(limit),
        }));
    };
    let mut both = |scope: &Scope, Caps { daily, monthly }: Caps| {
        let earlier = now.minus(LATE);
        for (window, before, limit) in [
            (Window::day(now), Window::day(earlier), daily),
            (Window::month(now), Window::month(earlier), monthly),
        ] {
            add(scope.clone(), window, limit);
            if before != window {
                add(scope.clone(), before, limit);
            }
        }
    };
    both(&Scope::Tenant, tenant.caps);
    for (scope, caps) in tenant.parts() {
        both(&scope, caps);
    }
    for task in tasks {
        add(Scope::Task(task.clone()), Window::Total, tenant.task_cap);
    }
    budgets
}

#[cfg(test)]
mod tests;
