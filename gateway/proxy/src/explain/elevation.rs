//! What an explanation says of elevated actions: which rule lets the agent, or what rules there are.

use http::Method;
use serde_json::json;
use tollgate_core::policy::{ElevatedRule, Elevation, Tenant};

use super::Walk;
use super::words::list;
use crate::authorize::Permit;

impl Walk<'_> {
    /// Nothing, if the action is not elevated.
    pub(super) fn tell_elevation(&mut self, permit: &Permit<'_>, method: &Method) {
        let (agent, route) = (&permit.caller.agent, &permit.route);
        let Elevation::Granted(leave) = permit.tenant.elevation(agent, route, method) else {
            return;
        };
        let decision = format!("an elevated action, which agent {agent} may use");
        let number = number(&permit.tenant, leave);
        let by = rule(&permit.tenant, leave);
        self.tell(
            "elevation",
            decision,
            Some(by),
            json!({ "elevated": number }),
        );
    }

    /// Which elevated actions the caller's tenant lets anybody use.
    pub(super) fn elevated_rules(&self) -> Option<String> {
        let caller = self.caller.as_ref()?;
        let tenant = self.view.live.policy.tenants.get(&caller.tenant)?;
        let rules = tenant.elevated.iter();
        let rules: Vec<String> = rules.map(|of| rule(tenant, of)).collect();
        Some(if rules.is_empty() {
            format!("tenant {} has no [[elevated]]", tenant.id)
        } else {
            format!("none of these lets it: {}", rules.join("; "))
        })
    }
}

fn number(tenant: &Tenant, rule: &ElevatedRule) -> usize {
    let mut rules = tenant.elevated.iter();
    let at = rules.position(|of| std::ptr::eq(of, rule));
    at.map_or(0, |at| at.saturating_add(1))
}

/// What lets agents use elevated actions, by its place in the tenant's file.
fn rule(tenant: &Tenant, rule: &ElevatedRule) -> String {
    let mut text = format!(
        "tenant {}, [[elevated]] {}: provider {}",
        tenant.id,
        number(tenant, rule),
        rule.provider
    );
    for (what, names) in [
        ("methods", list(&rule.methods)),
        ("paths", list(&rule.paths)),
        ("agents", list(&rule.agents)),
    ] {
        if !names.is_empty() {
            text.push_str(&format!(", {what} {names}"));
        }
    }
    text
}
