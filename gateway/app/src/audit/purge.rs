//! `tollgate audit purge`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use tollgate_core::ids::TenantId;

use crate::config::{Settings, Vars};
use crate::operator::Operator;
use crate::output;

/// The gateway gives up answering after a minute; it goes on purging.
const PATIENCE: Duration = Duration::from_secs(65);

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// Only this tenant's records; otherwise those of all tenants whose policy says for how long
    /// records are kept
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Say what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The gateway's admin API, if not the one that runs on the data directory
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Purge {
    pub(super) fn run(&self, settings: &Settings, vars: &dyn Vars) -> anyhow::Result<ExitCode> {
        let operator = Operator::find(self.admin.as_deref(), settings, vars)?;
        let mut question = json!({ "dry_run": self.dry_run });
        if let Some(tenant) = &self.tenant {
            question["tenant"] = json!(tenant);
        }
        let purged = operator
            .within(PATIENCE)
            .post("/v1/audit/purge", &question)?;
        let tenants = purged["tenants"].as_array();
        let tenants = tenants.context("the gateway's answer has no tenants")?;
        if self.json {
            output::json(&purged)?;
        } else {
            output::data(&output::table(&rows(tenants)))?;
        }
        for tenant in tenants {
            if let Some(error) = tenant["error"].as_str() {
                output::say(&format!("{}: {error}", text(&tenant["tenant"])));
            }
        }
        let failed = tenants.iter().any(|tenant| tenant["error"].is_string());
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn rows(tenants: &[Value]) -> Vec<Vec<String>> {
    let head = [
        "TENANT",
        "BEFORE",
        "RECORDS",
        "FILES",
        "BYTES",
        "WAITING FILES",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(tenants.iter().map(|tenant| {
        let names = [
            "tenant",
            "before",
            "records",
            "files",
            "bytes",
            "waiting_files",
        ];
        names.map(|name| text(&tenant[name])).to_vec()
    }));
    rows
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
