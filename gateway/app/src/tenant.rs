//! `tollgate tenant`: shows what the policy files say about tenants.
//!
//! Reads the files, not the running gateway; of the vault only which secrets there are, and of
//! the data directory which permissions were adopted.

mod permissions;
mod show;

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde_json::Value;
use tollgate_admin::tenants::summary;
use tollgate_core::ids::TenantId;
use tollgate_core::policy::{self, Mistake, Policy, Tenant};
use tollgate_core::vault::VaultScope;
use tollgate_stores::vault::{AgeVault, VersionState};

use crate::config::{Settings, VaultSettings, files};
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
    /// Show instead which agents may use which elevated actions, and since when
    #[arg(long)]
    permissions: bool,
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
            Self::Show(asked) => asked.answer(settings, &policy),
        }
    }
}

impl Show {
    fn answer(&self, settings: &Settings, policy: &Policy) -> anyhow::Result<()> {
        let id = &self.tenant;
        let unknown = || anyhow!("no policy file defines a tenant {id}");
        let tenant = policy.tenants.get(id).with_context(unknown)?;
        let (shown, text): (Value, fn(&Value) -> String) = if self.permissions {
            let adopted = crate::permissions::adopted(&settings.data_dir)?;
            let shown = permissions::describe(policy, tenant, adopted.as_ref());
            (shown, permissions::text)
        } else {
            let shown = show::describe(tenant, &secrets(settings, id)?);
            (shown, show::text)
        };
        if self.json {
            output::json(&shown)
        } else {
            output::data(&text(&shown))
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

/// The current version of each secret that has one.
fn secrets(settings: &Settings, tenant: &TenantId) -> anyhow::Result<BTreeMap<String, u32>> {
    if settings.vault != VaultSettings::Age || !settings.keys_dir().is_dir() {
        return Ok(BTreeMap::new());
    }
    let vault = AgeVault::open(settings.keys_dir())?;
    let mut current = BTreeMap::new();
    for secret in vault.list(&VaultScope::Tenant(tenant.clone()))? {
        let mut versions = secret.versions.iter();
        let in_use = versions.find(|version| version.state == VersionState::Current);
        if let Some(version) = in_use {
            current.insert(secret.name.to_string(), version.version);
        }
    }
    Ok(current)
}
