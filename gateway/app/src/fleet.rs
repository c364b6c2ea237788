//! `tollgate fleet`: who belongs to the fleet, and going on without a replica that is gone for good.
//!
//! Asks Redis itself, so it also works while no gateway runs. Decides nothing.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_stores::redis::{self, Member};

use crate::config::{FleetSettings, Settings};
use crate::output;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum FleetCommand {
    /// The replicas, how long each has been silent, and whom the fleet waits for
    List(List),
    /// Go on without a replica that will never come back
    ///
    /// What it has spent in the windows that run and not said yet is not counted any more.
    Forget(Forget),
}

/// How to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whom to forget.
#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Its name, as `tollgate fleet list` shows it
    member: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl FleetCommand {
    /// Does it.
    ///
    /// # Errors
    /// If there is no fleet, Redis does not answer, or there is no such replica.
    pub(crate) fn run(&self, settings: &Settings) -> anyhow::Result<()> {
        let fleet = settings.fleet.as_ref();
        let fleet = fleet.context("gateway.toml has no [fleet]")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        match self {
            Self::List(List { json }) => {
                let members = runtime.block_on(members(fleet))?;
                show(&members, *json)
            }
            Self::Forget(Forget { member, json }) => {
                let members = runtime.block_on(members(fleet))?;
                let found = members.iter().find(|known| known.name == *member);
                let found = found.with_context(|| format!("nobody here is called {member}"))?;
                let lease = fleet.lease.as_secs();
                if found.silent_seconds.is_some_and(|seconds| seconds < lease) {
                    bail!("{member} lives: it was heard of less than {lease} s ago");
                }
                let redis = fleet.redis()?;
                runtime.block_on(redis::remove(&redis, member))?;
                if *json {
                    return output::json(&json!({ "forgotten": member }));
                }
                output::say(&format!("the fleet goes on without {member}"));
                Ok(())
            }
        }
    }
}

async fn members(fleet: &FleetSettings) -> anyhow::Result<Vec<Member>> {
    Ok(redis::list(&fleet.redis()?).await?)
}

fn show(members: &[Member], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let all: Vec<Value> = members.iter().map(described).collect();
        return output::json(&all);
    }
    let heading = ["REPLICA", "SILENT", "WAITED FOR", "SPOKEN FOR BY", "POLICY"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for member in members {
        let silent = member.silent_seconds;
        rows.push(vec![
            member.name.clone(),
            silent.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds} s")),
            if member.waited_for { "yes" } else { "no" }.to_owned(),
            member.heir.clone().unwrap_or_else(|| "-".to_owned()),
            // Enough of it to see whether all have the same.
            member
                .policy
                .as_deref()
                .map_or("-", |policy| policy.get(..12).unwrap_or(policy))
                .to_owned(),
        ]);
    }
    output::data(&output::table(&rows))
}

fn described(member: &Member) -> Value {
    json!({
        "replica": member.name,
        "silent_seconds": member.silent_seconds,
        "waited_for": member.waited_for,
        "spoken_for_by": member.heir,
        "policy": member.policy,
    })
}
