//! Every counter of money and every limit on pace that one call meets.
//!
//! Whose call it is comes from the verified token, the model's names from the call that has been
//! read. Worst case: a cap that is set on an agent, a task or a model within a window counts from
//! then on, since they are counted only while they have caps; the tenant's own always count.

use tollgate_core::budget::{Account, Budget, BudgetKey, Scope};
use tollgate_core::identity::Caller;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::{Caps, NamePattern, ScopeLimits, Tenant};
use tollgate_core::rate::{Counted, Limit, Limits, RateKey, Size};
use tollgate_core::time::{Timestamp, Window};

/// Whose call it is, and of which model.
pub(super) struct Scopes<'c> {
    pub(super) caller: &'c Caller,
    pub(super) tenant: &'c Tenant,
    /// The places of those of the tenant's models that cover it.
    pub(super) models: Vec<usize>,
}

impl<'c> Scopes<'c> {
    /// `names` are all names that the model goes by. What covers one of them covers the call, so
    /// that no alias leads past a cap.
    pub(super) fn new<'n, N: Iterator<Item = &'n str>>(
        caller: &'c Caller,
        tenant: &'c Tenant,
        names: impl Fn() -> N,
    ) -> Self {
        Self {
            caller,
            tenant,
            models: tenant.models.covering(names),
        }
    }

    /// The models with limits of their own that cover the call.
    pub(super) fn models(&self) -> impl Iterator<Item = &'c (NamePattern, ScopeLimits)> {
        let all = &self.tenant.models;
        self.models.iter().filter_map(|place| all.get(*place))
    }

    /// Every counter the call counts in, those that end last first: of several that are full, the
    /// one that stays so the longest is named.
    pub(super) fn account(&self, now: Timestamp) -> Account {
        let (day, month) = (Window::day(now), Window::month(now));
        let mut budgets = Vec::with_capacity(6);
        let mut add = |scope: Scope, window: Window, limit: Option<PicoUsd>| {
            budgets.push(Budget {
                key: BudgetKey::new(self.tenant.id.clone(), scope, window),
                limit,
            });
        };
        if self.tenant.task_cap.is_some() {
            let task = Scope::Task(self.caller.task.clone());
            add(task, Window::Total, self.tenant.task_cap);
        }
        let whole = self.tenant.caps;
        add(Scope::Tenant, month, whole.monthly);
        for (scope, Caps { monthly, .. }) in self.parts() {
            if monthly.is_some() {
                add(scope, month, monthly);
            }
        }
        add(Scope::Tenant, day, whole.daily);
        for (scope, Caps { daily, .. }) in self.parts() {
            if daily.is_some() {
                add(scope, day, daily);
            }
        }
        budgets.into_iter().collect()
    }

    /// The caps of the tenant's parts.
    fn parts(&self) -> impl Iterator<Item = (Scope, Caps)> {
        let agent = self.tenant.agents.get(&self.caller.agent);
        let agent = agent.map(|of| (Scope::Agent(self.caller.agent.clone()), of.caps));
        let models = self.models();
        agent
            .into_iter()
            .chain(models.map(|(pattern, of)| (Scope::Model(pattern.clone()), of.caps)))
    }

    /// Every limit on the pace of the call. Limits of tokens concern calls of models only.
    pub(super) fn limits(&self, takes_tokens: bool) -> Vec<Limit> {
        let mut limits = Vec::new();
        let mut add = |scope: Scope, of: Limits| {
            let tokens = of.tokens.filter(|_| takes_tokens);
            let sizes = [
                (Counted::Concurrent, of.concurrent.map(Size::AtOnce)),
                (Counted::Requests, of.requests.map(Size::Rate)),
                (Counted::Tokens, tokens.map(Size::Rate)),
            ];
            for (counted, size) in sizes {
                limits.extend(size.map(|size| Limit {
                    key: RateKey {
                        tenant: self.tenant.id.clone(),
                        scope: scope.clone(),
                        counted,
                    },
                    size,
                }));
            }
        };
        if let Some(agent) = self.tenant.agents.get(&self.caller.agent) {
            add(Scope::Agent(self.caller.agent.clone()), agent.limits);
        }
        for (pattern, of) in self.models() {
            add(Scope::Model(pattern.clone()), of.limits);
        }
        add(Scope::Tenant, self.tenant.limits);
        limits
    }
}
