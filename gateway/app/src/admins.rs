//! `tollgate admin`: who may use the admin API.
//!
//! Works on the file of credentials, beside a running gateway or without one; what it changes
//! holds from the gateway's next request on. A credential is printed when it is made and never
//! again: only its hash is kept. Worst case: whoever removes the last operator has to add one
//! here, on the machine.

pub(crate) mod file;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tollgate_admin::credentials::{Credential, CredentialDigest, Role, text_of};
use tollgate_core::ids::{AdminName, TenantId};

use crate::config::Settings;
use crate::data_dir::{DataDir, random};
use crate::{clock, output};
use file::AdminFile;

/// The longest life that can be asked for, in days: a hundred years.
const MAX_DAYS: u32 = 36_525;

/// What to do with admin credentials.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Make a credential and print it; it is shown this once
    Add(Add),
    /// All credentials: names, roles, tenants and ends, never the credentials themselves
    List(List),
    /// Take a credential away; the running gateway refuses it at once
    Remove(Remove),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Everything
    Operator,
    /// Reads what concerns some tenants
    Auditor,
    /// Makes and ends task tokens of some tenants
    Minter,
    /// Reads the metrics, those of all tenants among them
    Metrics,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Who will hold it
    #[arg(long)]
    name: AdminName,
    /// What it opens
    #[arg(long, value_enum)]
    role: RoleName,
    /// A tenant it is for; may be given several times. Not with operators and metrics
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<TenantId>,
    /// How long it opens anything, in days; without it, until it is removed
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS)))]
    ttl_days: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Whose
    #[arg(long)]
    name: AdminName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl AdminCommand {
    /// Does it.
    ///
    /// # Errors
    /// If the file cannot be read or written, or the name is taken or unknown.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        match self {
            Self::Add(add) => add.run(settings),
            Self::List(List { json }) => list(settings, json),
            Self::Remove(Remove { name, json }) => remove(settings, &name, json),
        }
    }
}

impl Add {
    fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let tenants: BTreeSet<TenantId> = self.tenants.into_iter().collect();
        let role = match (self.role, tenants.is_empty()) {
            (RoleName::Operator, true) => Role::Operator,
            (RoleName::Metrics, true) => Role::Metrics,
            (RoleName::Operator, false) => {
                bail!("an operator is for every tenant; leave --tenant out")
            }
            (RoleName::Metrics, false) => {
                bail!("metrics are of every tenant; leave --tenant out")
            }
            (_, true) => bail!("say whom it is for: --tenant, once for each"),
            (RoleName::Auditor, false) => Role::Auditor(tenants),
            (RoleName::Minter, false) => Role::Minter(tenants),
        };
        let now = clock::now();
        let life = self
            .ttl_days
            .map(|days| Duration::from_secs(u64::from(days) * 86_400));
        let text = text_of(&random()?);
        let added = Credential {
            name: self.name,
            role,
            digest: CredentialDigest::of(&text),
            created_at: now,
            expires_at: life.map(|life| now.plus(life)),
        };
        let mut shown = described(&added);
        let data = DataDir::prepare(settings.keys_dir())?;
        let file = AdminFile::of(&data);
        file.prepare(&data, now)?;
        file.change(|all| Ok(all.add(added)?))?;
        if self.json {
            shown["credential"] = text.into();
            return output::json(&shown);
        }
        output::say("this credential is shown once; send it as Authorization: Bearer …");
        output::data(&format!("{text}\n"))
    }
}

fn list(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let all = AdminFile::of(&DataDir::at(settings.keys_dir())).read()?;
    if as_json {
        let all: Vec<Value> = all.all().iter().map(described).collect();
        return output::json(&all);
    }
    let heading = ["NAME", "ROLE", "TENANTS", "CREATED", "EXPIRES"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for one in all.all() {
        let tenants = one.role.tenants().map_or_else(
            || "all".to_owned(),
            |tenants| {
                let ids: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
                ids.join(", ")
            },
        );
        let expires = one
            .expires_at
            .map_or_else(|| "-".to_owned(), |end| end.to_string());
        rows.push(vec![
            one.name.to_string(),
            one.role.as_str().to_owned(),
            tenants,
            one.created_at.to_string(),
            expires,
        ]);
    }
    output::data(&output::table(&rows))
}

fn remove(settings: &Settings, name: &AdminName, as_json: bool) -> anyhow::Result<()> {
    let file = AdminFile::of(&DataDir::at(settings.keys_dir()));
    let operators = file.change(|all| {
        if !all.remove(name) {
            bail!("nobody here is called {name}");
        }
        let operators = all.all().iter().filter(|one| one.role == Role::Operator);
        Ok(operators.count())
    });
    let operators = operators.context("nothing was removed")?;
    if as_json {
        return output::json(&json!({ "removed": name }));
    }
    output::say(&format!("{name} is let in no longer"));
    if operators == 0 {
        output::say("there is no operator left; `tollgate admin add --role operator` makes one");
    }
    Ok(())
}

fn described(one: &Credential) -> Value {
    json!({
        "name": one.name,
        "role": one.role.as_str(),
        "tenants": one.role.tenants(),
        "created_at": one.created_at,
        "expires_at": one.expires_at,
    })
}
