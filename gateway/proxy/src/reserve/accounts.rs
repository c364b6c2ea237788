//! The accounts and limits of calls that count alike, each made once and shared by them.
//!
//! What is remembered is used only for a call to which the same rules apply, at a time in the same
//! windows; so it need not be told of a new policy or a new day. Worst case: calls of more kinds
//! at a time than are remembered have theirs made anew, as if there were no memory.

use std::sync::Arc;

use quick_cache::sync::Cache;
use tollgate_core::budget::Account;
use tollgate_core::ids::{AgentId, TaskId, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::{Caps, NamePattern, ScopeLimits};
use tollgate_core::rate::{Limit, Limits};
use tollgate_core::time::{Timestamp, Window};

use super::scopes::Scopes;

/// How many kinds of calls are remembered: at about 1,500 bytes each, some 15 MB.
const REMEMBERED: usize = 10_000;

/// What every call that counts alike has to keep.
pub(crate) struct Bounds {
    pub(crate) account: Account,
    pub(crate) limits: Box<[Limit]>,
    /// What the policy said when they were made.
    rules: Rules,
    /// The time for which its windows are the current ones, as far as that is known.
    during: (Timestamp, Option<Timestamp>),
}

/// Whose calls count alike, and which of them.
#[derive(PartialEq, Eq, Hash, Clone)]
struct Kind {
    tenant: TenantId,
    /// If it has limits of its own.
    agent: Option<AgentId>,
    /// If it has a cap.
    task: Option<TaskId>,
    /// Of the tenant's models with limits of their own, the places of those that cover it.
    models: Vec<usize>,
    takes_tokens: bool,
}

/// What a policy says of them.
struct Rules {
    caps: Caps,
    limits: Limits,
    task_cap: Option<PicoUsd>,
    agent: Option<ScopeLimits>,
    models: Vec<(NamePattern, ScopeLimits)>,
}

/// What is remembered.
pub struct Accounts(Cache<Kind, Arc<Bounds>>);

impl Default for Accounts {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Accounts {
    /// The bounds of a call of these scopes.
    pub(super) fn bounds(
        &self,
        scopes: &Scopes<'_>,
        takes_tokens: bool,
        now: Timestamp,
    ) -> Arc<Bounds> {
        let kind = Kind::of(scopes, takes_tokens);
        if let Some(known) = self.0.get(&kind)
            && known.rules.are_of(scopes)
            && known.covers(now)
        {
            return known;
        }
        let made = Arc::new(Bounds::new(scopes, takes_tokens, now));
        self.0.insert(kind, Arc::clone(&made));
        made
    }
}

impl Bounds {
    /// Those of a call of these scopes, remembered by nobody.
    pub(super) fn new(scopes: &Scopes<'_>, takes_tokens: bool, now: Timestamp) -> Self {
        Self {
            account: scopes.account(now),
            limits: scopes.limits(takes_tokens).into(),
            rules: Rules::of(scopes),
            // A day is never in two months.
            during: (now, Window::day(now).resets_at()),
        }
    }

    fn covers(&self, now: Timestamp) -> bool {
        let (from, until) = self.during;
        from <= now && until.is_some_and(|until| now < until)
    }
}

impl Kind {
    fn of(scopes: &Scopes<'_>, takes_tokens: bool) -> Self {
        let (caller, tenant) = (scopes.caller, scopes.tenant);
        let listed = tenant.agents.contains_key(&caller.agent);
        Self {
            tenant: tenant.id.clone(),
            agent: listed.then(|| caller.agent.clone()),
            task: tenant.task_cap.map(|_| caller.task.clone()),
            models: scopes.models.clone(),
            takes_tokens,
        }
    }
}

impl Rules {
    fn of(scopes: &Scopes<'_>) -> Self {
        let tenant = scopes.tenant;
        Self {
            caps: tenant.caps,
            limits: tenant.limits,
            task_cap: tenant.task_cap,
            agent: tenant.agents.get(&scopes.caller.agent).copied(),
            models: scopes.models().cloned().collect(),
        }
    }

    fn are_of(&self, scopes: &Scopes<'_>) -> bool {
        let Self {
            caps,
            limits,
            task_cap,
            agent,
            models,
        } = self;
        let tenant = scopes.tenant;
        (*caps, *limits, *task_cap) == (tenant.caps, tenant.limits, tenant.task_cap)
            && agent.as_ref() == tenant.agents.get(&scopes.caller.agent)
            && models.iter().eq(scopes.models())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tollgate_core::identity::KeySet;
    use tollgate_core::policy::Tenant;

    use super::*;
    use crate::fakes::{caller, noon, snapshot};

    const ACME: &str = "[tenant]\nid = \"acme\"\n";

    #[test]
    fn calls_that_count_alike_share_their_bounds_until_a_rule_or_the_day_is_another() {
        let policy = snapshot(ACME, KeySet::new("tollgate")).policy;
        let tenant = policy.tenants.values().next().expect("a tenant");
        let (caller, accounts) = (caller(), Accounts::default());
        let none = std::iter::empty;
        let ask = |tenant: &Tenant, tokens, now| {
            accounts.bounds(&Scopes::new(&caller, tenant, none), tokens, now)
        };
        let first = ask(tenant, true, noon());
        let later = noon().plus(Duration::from_secs(60));
        assert!(Arc::ptr_eq(&first, &ask(tenant, true, later)));
        assert!(!Arc::ptr_eq(&first, &ask(tenant, false, noon())));

        let mut stricter = Tenant::clone(tenant);
        stricter.caps.daily = Some(PicoUsd::new(7));
        let under_new_rules = ask(&stricter, true, later);
        assert!(
            under_new_rules
                .account
                .iter()
                .any(|budget| budget.limit == Some(PicoUsd::new(7)))
        );

        let next_day = noon().plus(Duration::from_secs(86_400));
        let tomorrow = ask(&stricter, true, next_day);
        assert_ne!(
            tomorrow.account.counters(),
            under_new_rules.account.counters()
        );
        let back = ask(&stricter, true, noon());
        assert_eq!(back.account.counters(), first.account.counters());
    }
}
