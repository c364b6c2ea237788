//! One tenant in full, for programs and for people. It reads no file; no secret ever comes here.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::{Value, json};
use tollgate_core::policy::{NamePattern, ScopeLimits, Tenant, Unreported};
use tollgate_core::rate::Limits;

use super::summary;
use crate::output;

/// The columns of money and pace: what they are called, and where they stand.
const COLUMNS: [(&str, &str); 8] = [
    ("DAILY USD", "/daily_usd"),
    ("MONTHLY USD", "/monthly_usd"),
    ("TASK USD", "/task_usd"),
    ("CALLS/MIN", "/limits/requests_per_minute"),
    ("BURST", "/limits/burst"),
    ("TOKENS/MIN", "/limits/tokens_per_minute"),
    ("BURST", "/limits/token_burst"),
    ("AT ONCE", "/limits/concurrent_requests"),
];

/// Limits on pace; what is not limited is null.
pub(super) fn limits(limits: &Limits) -> Value {
    json!({
        "requests_per_minute": limits.requests.map(|rate| rate.per_minute),
        "burst": limits.requests.map(|rate| rate.burst),
        "tokens_per_minute": limits.tokens.map(|rate| rate.per_minute),
        "token_burst": limits.tokens.map(|rate| rate.burst),
        "concurrent_requests": limits.concurrent,
    })
}

/// Everything about a tenant. `secrets` says which names have a value.
pub(super) fn describe(tenant: &Tenant, secrets: &BTreeMap<String, u32>) -> Value {
    let names = |patterns: &[NamePattern]| texts(patterns);
    let grants = tenant.grants.iter().map(|grant| {
        json!({
            "provider": grant.provider,
            "models": names(&grant.models),
            "agents": names(&grant.agents),
            "paths": texts(&grant.paths),
        })
    });
    let credentials = tenant.credentials.values().map(|credential| {
        json!({
            "name": credential.name,
            "provider": credential.provider,
            "default": credential.is_default,
            "agents": names(&credential.agents),
            "version": secrets.get(credential.name.as_str()),
        })
    });
    let part = |what: &str, name: String, of: &ScopeLimits| {
        json!({
            what: name,
            "daily_usd": of.caps.daily,
            "monthly_usd": of.caps.monthly,
            "limits": limits(&of.limits),
        })
    };
    let agents = tenant.agents.iter();
    let agents = agents.map(|(agent, of)| part("agent", agent.to_string(), of));
    let models = tenant.models.iter();
    let models = models.map(|(model, of)| part("model", model.to_string(), of));
    let clamp = tenant
        .clamp
        .map(|clamp| json!({ "max_output_tokens": clamp.max_output_tokens }));
    let mut described = summary(tenant);
    described["default_max_output_tokens"] = tenant.default_max_output_tokens.into();
    described["clamp"] = clamp.into();
    described["unreported_usage"] = match tenant.unreported {
        Unreported::Estimate => "estimate",
        Unreported::Reservation => "reservation",
    }
    .into();
    described["notify_percent"] = tenant.notify_percent.clone().into();
    described["allow"] = grants.collect();
    described["credentials"] = credentials.collect();
    described["agents"] = agents.collect();
    described["models"] = models.collect();
    described
}

fn texts<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// The description for people.
pub(super) fn text(shown: &Value) -> String {
    let tables = [facts(shown), scopes(shown), grants(shown), keys(shown)];
    let filled = tables.iter().filter(|table| table.len() > 1);
    let parts: Vec<String> = filled.map(|table| output::table(table)).collect();
    parts.join("\n")
}

fn facts(shown: &Value) -> Vec<Vec<String>> {
    let enabled = shown["enabled"] == true;
    let state = if enabled { "enabled" } else { "disabled" };
    let shares = list(&shown["notify_percent"], "none");
    let clamp = match &shown["clamp"] {
        Value::Null => "off: a call that does not fit is refused".to_owned(),
        clamp => match &clamp["max_output_tokens"] {
            Value::Null => "to what still fits under the caps".to_owned(),
            ceiling => format!("to {ceiling} tokens, or to what still fits under the caps"),
        },
    };
    vec![
        row(&["tenant", &word(&shown["tenant"])]),
        row(&["state", state]),
        row(&["notice at percent of a cap", &shares]),
        row(&[
            "output bound assumed",
            &word(&shown["default_max_output_tokens"]),
        ]),
        row(&["output bounds are lowered", &clamp]),
    ]
}

/// Caps and limits of the tenant and its parts.
fn scopes(shown: &Value) -> Vec<Vec<String>> {
    let line = |name: String, of: &Value| {
        let cells = COLUMNS
            .iter()
            .map(|(_, at)| of.pointer(at).map_or_else(dash, word));
        std::iter::once(name).chain(cells).collect::<Vec<_>>()
    };
    let headings = COLUMNS.iter().map(|(heading, _)| (*heading).to_owned());
    let mut table = vec![
        std::iter::once("CAPS AND LIMITS".to_owned())
            .chain(headings)
            .collect(),
    ];
    table.push(line("tenant".to_owned(), shown));
    for (kind, parts) in [("agent", &shown["agents"]), ("model", &shown["models"])] {
        let parts = parts.as_array().into_iter().flatten();
        table.extend(parts.map(|part| line(format!("{kind} {}", word(&part[kind])), part)));
    }
    table
}

fn grants(shown: &Value) -> Vec<Vec<String>> {
    let mut table = vec![row(&["MAY CALL", "MODELS", "AGENTS", "PATHS"])];
    for grant in shown["allow"].as_array().into_iter().flatten() {
        let [models, agents, paths] =
            ["models", "agents", "paths"].map(|key| list(&grant[key], "all"));
        table.push(vec![word(&grant["provider"]), models, agents, paths]);
    }
    table
}

fn keys(shown: &Value) -> Vec<Vec<String>> {
    let mut table = vec![row(&["KEY", "PROVIDER", "DEFAULT", "AGENTS", "SECRET"])];
    for key in shown["credentials"].as_array().into_iter().flatten() {
        let default = if key["default"] == true { "yes" } else { "no" };
        let secret = match key["version"].as_u64() {
            Some(version) => format!("version {version}"),
            None => "missing".to_owned(),
        };
        table.push(vec![
            word(&key["name"]),
            word(&key["provider"]),
            default.to_owned(),
            list(&key["agents"], "all"),
            secret,
        ]);
    }
    table
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

fn dash() -> String {
    "-".to_owned()
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => dash(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value, empty: &str) -> String {
    match value.as_array() {
        Some(items) if !items.is_empty() => items.iter().map(word).collect::<Vec<_>>().join(", "),
        _ => empty.to_owned(),
    }
}
