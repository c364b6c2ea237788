//! Who of a tenant may use which elevated actions, and since when, for programs and for people.
//!
//! What is allowed is what the files say; since when, what the gateway has adopted. It reads no
//! file itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tollgate_core::policy::permissions::{
    Adopted, Permission, TenantPermissions, digest, permissions,
};
use tollgate_core::policy::{ElevatedRule, Endpoint, NamePattern, Policy, Tenant};
use tollgate_core::time::Timestamp;

use super::show::{list, row, word};
use crate::output;

/// Every agent that the policy names, with its elevated permissions.
pub(super) fn describe(policy: &Policy, tenant: &Tenant, adopted: Option<&Adopted>) -> Value {
    let held = permissions(policy, tenant);
    let known = adopted.and_then(|adopted| adopted.tenants.get(&tenant.id));
    let sha256 = digest(&held);
    let same = known.filter(|known| known.permissions_sha256 == sha256);
    let agents = agents(policy, tenant);
    let agents = agents.iter().map(|agent| {
        let theirs = held
            .iter()
            .filter(|permission| covers(&permission.agent, agent));
        let theirs = theirs.map(|permission| described(permission, since(known, permission)));
        json!({
            "agent": agent,
            "enabled": !tenant.disabled_agents.contains(agent.as_str()),
            "elevated": theirs.collect::<Vec<_>>(),
        })
    });
    json!({
        "tenant": tenant.id,
        "enabled": tenant.enabled,
        "policy": policy.version,
        "policy_in_force": adopted.map(|adopted| &adopted.policy),
        "adopted": adopted.is_some_and(|adopted| adopted.policy == policy.version),
        "permissions_sha256": sha256,
        "since": same.map(|same| same.since),
        "since_policy": same.map(|same| &same.policy),
        "agents": agents.collect::<Vec<_>>(),
        "for_nobody": for_nobody(policy, tenant),
    })
}

fn since(known: Option<&TenantPermissions>, permission: &Permission) -> Option<Timestamp> {
    let mut held = known?.permissions.iter();
    let held = held.find(|held| held.permission == *permission)?;
    Some(held.since)
}

fn described(permission: &Permission, since: Option<Timestamp>) -> Value {
    json!({
        "provider": permission.provider,
        "server": permission.server,
        "methods": permission.methods,
        "paths": permission.paths,
        "granted_to": permission.agent,
        "since": since,
    })
}

/// The agents that the policy names, as it writes them.
fn agents(policy: &Policy, tenant: &Tenant) -> BTreeSet<String> {
    let listed = tenant.agents.keys().map(ToString::to_string);
    let holders = policy.certificates.values();
    let holders = holders.filter(|holder| holder.tenant == tenant.id);
    let patterns = (tenant.grants.iter().flat_map(|grant| &grant.agents))
        .chain(tenant.elevated.iter().flat_map(|rule| &rule.agents))
        .chain(tenant.credentials.values().flat_map(|key| &key.agents))
        .map(NamePattern::to_string);
    listed
        .chain(holders.map(|holder| holder.agent.to_string()))
        .chain(patterns)
        .collect()
}

/// Whether every agent that fits `agent` fits `pattern` too.
fn covers(pattern: &str, agent: &str) -> bool {
    match (pattern.strip_suffix('*'), agent.strip_suffix('*')) {
        (Some(broad), Some(narrow)) => narrow.starts_with(broad),
        (Some(broad), None) => agent.starts_with(broad),
        (None, _) => pattern == agent,
    }
}

/// Endpoints that are elevated of themselves, that the tenant may call, and that no rule lets any
/// agent use.
fn for_nobody(policy: &Policy, tenant: &Tenant) -> Vec<Value> {
    let granted: BTreeSet<_> = tenant.grants.iter().map(|grant| &grant.provider).collect();
    let mut found = Vec::new();
    for provider in granted
        .iter()
        .filter_map(|name| policy.providers.get(*name))
    {
        for endpoint in provider.endpoints.iter().filter(|it| it.elevated) {
            let mut rules = tenant.elevated.iter();
            if !rules.any(|rule| rule.provider == provider.name && reaches(rule, endpoint)) {
                let methods: Vec<&str> = endpoint.methods.iter().map(AsRef::as_ref).collect();
                found.push(json!({
                    "provider": provider.name,
                    "methods": methods,
                    "path": endpoint.path.to_string(),
                }));
            }
        }
    }
    found
}

fn reaches(rule: &ElevatedRule, endpoint: &Endpoint) -> bool {
    let method =
        rule.methods.is_empty() || rule.methods.iter().any(|it| endpoint.methods.contains(it));
    method && (rule.paths.is_empty() || rule.paths.iter().any(|it| it.overlaps(&endpoint.path)))
}

/// The description for people.
pub(super) fn text(shown: &Value) -> String {
    let state = if shown["enabled"] == true {
        "enabled"
    } else {
        "disabled"
    };
    let in_force = match (&shown["adopted"], &shown["policy_in_force"]) {
        (Value::Bool(true), _) => "yes".to_owned(),
        (_, Value::Null) => "not adopted yet: no gateway has run on this data directory".to_owned(),
        (_, other) => format!("not adopted yet: the gateway has {} in force", word(other)),
    };
    let since = match &shown["since"] {
        Value::Null => "not adopted yet".to_owned(),
        since => format!(
            "{}, under policy {}",
            word(since),
            word(&shown["since_policy"])
        ),
    };
    let mut facts = vec![
        row(&["tenant", &word(&shown["tenant"])]),
        row(&["state", state]),
        row(&["policy", &word(&shown["policy"])]),
        row(&["in force", &in_force]),
        row(&["permissions", &word(&shown["permissions_sha256"])]),
        row(&["unchanged since", &since]),
    ];
    for endpoint in shown["for_nobody"].as_array().into_iter().flatten() {
        let [provider, path] = ["provider", "path"].map(|key| word(&endpoint[key]));
        let methods = list(&endpoint["methods"], "all");
        facts.push(row(&[
            "elevated, for nobody",
            &format!("{provider}: {methods} {path}"),
        ]));
    }
    let mut table = vec![row(&[
        "AGENT",
        "MAY USE",
        "AT",
        "METHODS",
        "PATHS",
        "GRANTED TO",
        "SINCE",
    ])];
    for agent in shown["agents"].as_array().into_iter().flatten() {
        let name = match agent["enabled"] == true {
            true => word(&agent["agent"]),
            false => format!("{} (locked out)", word(&agent["agent"])),
        };
        let theirs = agent["elevated"].as_array().into_iter().flatten();
        let mut lines: Vec<Vec<String>> = theirs.map(|of| line(&name, of)).collect();
        if lines.is_empty() {
            lines.push(row(&[&name, "nothing elevated"]));
        }
        table.append(&mut lines);
    }
    format!("{}\n{}", output::table(&facts), output::table(&table))
}

fn line(agent: &str, permission: &Value) -> Vec<String> {
    let [provider, server, granted_to] =
        ["provider", "server", "granted_to"].map(|key| word(&permission[key]));
    let [methods, paths] = ["methods", "paths"].map(|key| list(&permission[key], "all"));
    let since = match &permission["since"] {
        Value::Null => "not adopted yet".to_owned(),
        since => word(since),
    };
    let agent = agent.to_owned();
    vec![agent, provider, server, methods, paths, granted_to, since]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_is_at_least_as_narrow() {
        for (pattern, agent, covered) in [
            ("*", "bot", true),
            ("*", "b*", true),
            ("release-*", "release-eu", true),
            ("release-*", "release-e*", true),
            ("release-*", "rel*", false),
            ("bot", "bot", true),
            ("bot", "bot*", false),
            ("bot", "bots", false),
        ] {
            assert_eq!(covers(pattern, agent), covered, "{pattern} {agent}");
        }
    }
}
