//! `tollgate tenant`: shows what the policy files say about tenants.
//!
//! Reads the files, not the running gateway, and of the vault only which secrets there are.

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_core::ids::TenantId;
use tollgate_core::policy::{self, Mistake, NamePattern, Policy, Tenant};
use tollgate_core::rate::RateLimit;
use tollgate_stores::vault::{AgeVault, VersionState};

use crate::config::{Settings, files};
use crate::output;

/// What to show of tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// All tenants with their caps
    List(List),
    /// One tenant: caps, limits, what it may call and which keys it has
    Show(Show),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The tenant's id
    tenant: TenantId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl TenantCommand {
    /// Does it.
    ///
    /// # Errors
    /// If the policy files hold mistakes, or there is no such tenant.
    pub(crate) fn run(&self, settings: &Settings) -> anyhow::Result<()> {
        let policy = policy(settings)?;
        match self {
            Self::List(List { json }) => list(&policy, *json),
            Self::Show(Show { tenant, json }) => {
                let unknown = || anyhow!("no policy file defines a tenant {tenant}");
                let known = policy.tenants.get(tenant).with_context(unknown)?;
                let shown = describe(known, &secrets(settings, tenant)?);
                if *json {
                    output::json(&shown)
                } else {
                    output::data(&text(&shown))
                }
            }
        }
    }
}

/// The policy that the files say, without putting it in force.
///
/// # Errors
/// All mistakes in them.
pub(crate) fn policy(settings: &Settings) -> anyhow::Result<Policy> {
    let read = files::read(&settings.policies_dir);
    read.and_then(|files| policy::parse(&files.policy))
        .map_err(|mistakes| listed(&mistakes))
}

/// All mistakes as one error, a line each.
pub(crate) fn listed(mistakes: &[Mistake]) -> anyhow::Error {
    let lines: Vec<String> = mistakes.iter().map(|m| format!("\n  {m}")).collect();
    anyhow!("the files hold mistakes:{}", lines.concat())
}

fn list(policy: &Policy, as_json: bool) -> anyhow::Result<()> {
    let mut tenants: Vec<&Tenant> = policy.tenants.values().map(AsRef::as_ref).collect();
    tenants.sort_by(|a, b| a.id.cmp(&b.id));
    if as_json {
        let all: Vec<Value> = tenants.iter().map(|tenant| summary(tenant)).collect();
        return output::json(&all);
    }
    let heading = [
        "TENANT",
        "STATE",
        "DAILY USD",
        "MONTHLY USD",
        "TASK USD",
        "CALLS/MIN",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for tenant in tenants {
        let state = if tenant.enabled {
            "enabled"
        } else {
            "disabled"
        };
        rows.push(vec![
            tenant.id.to_string(),
            state.to_owned(),
            or_dash(tenant.caps.daily),
            or_dash(tenant.caps.monthly),
            or_dash(tenant.task_cap),
            or_dash(tenant.limits.requests.map(|rate| rate.per_minute)),
        ]);
    }
    output::data(&output::table(&rows))
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn summary(tenant: &Tenant) -> Value {
    json!({
        "tenant": tenant.id,
        "enabled": tenant.enabled,
        "daily_usd": tenant.caps.daily,
        "monthly_usd": tenant.caps.monthly,
        "task_usd": tenant.task_cap,
        "rate": tenant.limits.requests.map(rate),
    })
}

fn rate(limit: RateLimit) -> Value {
    json!({ "requests_per_minute": limit.per_minute, "burst": limit.burst })
}

/// Everything about a tenant, for programs. `secrets` says which names have a value.
fn describe(tenant: &Tenant, secrets: &BTreeMap<String, u32>) -> Value {
    let names = |patterns: &[NamePattern]| texts(patterns);
    let grants: Vec<Value> = tenant
        .grants
        .iter()
        .map(|grant| {
            json!({
                "provider": grant.provider,
                "models": names(&grant.models),
                "agents": names(&grant.agents),
                "paths": texts(&grant.paths),
            })
        })
        .collect();
    let credentials: Vec<Value> = tenant
        .credentials
        .values()
        .map(|credential| {
            json!({
                "name": credential.name,
                "provider": credential.provider,
                "default": credential.is_default,
                "agents": names(&credential.agents),
                "version": secrets.get(credential.name.as_str()),
            })
        })
        .collect();
    let agents: Vec<Value> = tenant
        .agents
        .iter()
        .map(|(agent, limits)| {
            json!({
                "agent": agent,
                "daily_usd": limits.caps.daily,
                "monthly_usd": limits.caps.monthly,
                "rate": limits.limits.requests.map(rate),
            })
        })
        .collect();
    let mut described = summary(tenant);
    described["default_max_output_tokens"] = tenant.default_max_output_tokens.into();
    described["allow"] = grants.into();
    described["credentials"] = credentials.into();
    described["agents"] = agents.into();
    described
}

fn texts<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// The current version of each secret that has one.
fn secrets(settings: &Settings, tenant: &TenantId) -> anyhow::Result<BTreeMap<String, u32>> {
    if !settings.data_dir.is_dir() {
        return Ok(BTreeMap::new());
    }
    let vault = AgeVault::open(&settings.data_dir)?;
    let mut current = BTreeMap::new();
    for secret in vault.list(tenant)? {
        let mut versions = secret.versions.iter();
        let in_use = versions.find(|version| version.state == VersionState::Current);
        if let Some(version) = in_use {
            current.insert(secret.name.to_string(), version.version);
        }
    }
    Ok(current)
}

/// The description for people.
fn text(shown: &Value) -> String {
    let word = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let any = |value: &Value| match value.as_array() {
        Some(items) if !items.is_empty() => items.iter().map(word).collect::<Vec<_>>().join(", "),
        _ => "all".to_owned(),
    };
    let empty = Vec::new();
    let of = |key: &str| shown[key].as_array().unwrap_or(&empty).iter();
    let row = |cells: &[&str]| {
        cells
            .iter()
            .map(|&cell| cell.to_owned())
            .collect::<Vec<_>>()
    };
    let mut facts = vec![row(&["tenant", &word(&shown["tenant"])])];
    let state = if shown["enabled"] == true {
        "enabled"
    } else {
        "disabled"
    };
    facts.push(row(&["state", state]));
    for (label, key) in [
        ("daily cap, USD", "daily_usd"),
        ("monthly cap, USD", "monthly_usd"),
        ("cap of a task, USD", "task_usd"),
    ] {
        facts.push(row(&[label, &word(&shown[key])]));
    }
    let per_minute = &shown["rate"]["requests_per_minute"];
    facts.push(row(&["calls a minute", &word(per_minute)]));
    let mut grants = vec![row(&["MAY CALL", "MODELS", "AGENTS", "PATHS"])];
    for grant in of("allow") {
        let lists = ["models", "agents", "paths"].map(|key| any(&grant[key]));
        grants.push(row(&[
            &word(&grant["provider"]),
            &lists[0],
            &lists[1],
            &lists[2],
        ]));
    }
    let mut keys = vec![row(&["KEY", "PROVIDER", "DEFAULT", "AGENTS", "SECRET"])];
    for key in of("credentials") {
        let default = if key["default"] == true { "yes" } else { "no" };
        let secret = match key["version"].as_u64() {
            Some(version) => format!("version {version}"),
            None => "missing".to_owned(),
        };
        let (name, provider) = (word(&key["name"]), word(&key["provider"]));
        keys.push(row(&[
            &name,
            &provider,
            default,
            &any(&key["agents"]),
            &secret,
        ]));
    }
    let mut agents = vec![row(&["AGENT", "DAILY USD", "MONTHLY USD", "CALLS/MIN"])];
    for agent in of("agents") {
        let rate = word(&agent["rate"]["requests_per_minute"]);
        let caps = ["agent", "daily_usd", "monthly_usd"].map(|key| word(&agent[key]));
        agents.push(row(&[&caps[0], &caps[1], &caps[2], &rate]));
    }
    let tables = [facts, grants, keys, agents];
    let filled = tables.iter().filter(|table| table.len() > 1);
    let parts: Vec<String> = filled.map(|table| output::table(table)).collect();
    parts.join("\n")
}
