//! One tenant in full, for programs and for people. It reads no file; no secret ever comes here.

use std::collections::BTreeMap;

use serde_json::Value;
use tollgate_core::policy::Tenant;

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

/// Everything about a tenant. `secrets` says which names have a value, and its version.
pub(super) fn describe(tenant: &Tenant, secrets: &BTreeMap<String, u32>) -> Value {
    let mut described = tollgate_admin::tenants::describe(tenant);
    let credentials = described["credentials"].as_array_mut();
    for credential in credentials.into_iter().flatten() {
        let name = credential["name"].as_str().unwrap_or_default();
        credential["version"] = secrets.get(name).copied().into();
    }
    described
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

pub(super) fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

fn dash() -> String {
    "-".to_owned()
}

pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => dash(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn list(value: &Value, empty: &str) -> String {
    match value.as_array() {
        Some(items) if !items.is_empty() => items.iter().map(word).collect::<Vec<_>>().join(", "),
        _ => empty.to_owned(),
    }
}
