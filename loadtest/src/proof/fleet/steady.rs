//! The same calls with slices and without, against the same Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use super::super::Findings;
use super::super::caller::{Call, Caller};
use super::FleetConfig;
use super::replicas::{REPLICAS, Replicas};
use super::servers::Servers;

/// Callers when calls per second are counted.
const STEADY_CALLERS: u64 = 64;

/// Calls per second with slices and without, and the share of calls that asked Redis nothing.
pub(super) async fn compare(
    config: &FleetConfig,
    replicas: &mut Replicas,
    servers: &Servers,
    found: &mut Findings,
) -> anyhow::Result<()> {
    for (name, leases) in [("with_leases", true), ("without_leases", false)] {
        replicas.stop()?;
        replicas.settings(&format!("{}leases = {leases}\n", servers.settings()))?;
        for replica in 0..REPLICAS {
            replicas.start(replica)?;
        }
        replicas.ready().await?;
        let token = replicas.tokens(&["steady".to_owned()]).await?;
        let token = token.into_values().next().context("no token")?;
        let calls = steady(config, &token, name).await?;
        let here = replicas
            .metric("tollgate_fleet_local_admissions_total ")
            .await?;
        let there = replicas
            .metric("tollgate_fleet_shared_admissions_total ")
            .await?;
        let visits = replicas
            .metric("tollgate_fleet_visit_seconds_count ")
            .await?;
        let per_second = calls * 1_000 / u64::try_from(config.phase.as_millis())?.max(1);
        found.note(
            &format!("{name}_calls_per_second"),
            "calls of 64 callers of one tenant",
            per_second,
        );
        found.note(
            &format!("{name}_local_percent"),
            "of all admissions, those that asked Redis nothing",
            here * 100 / (here + there).max(1),
        );
        found.note(
            &format!("{name}_visits_per_1000_calls"),
            "round trips to Redis for money and pace",
            visits * 1_000 / calls.max(1),
        );
    }
    Ok(())
}

async fn steady(config: &FleetConfig, token: &str, name: &str) -> anyhow::Result<u64> {
    let (over, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut callers = JoinSet::new();
    for number in 0..STEADY_CALLERS {
        let (over, done) = (Arc::clone(&over), Arc::clone(&done));
        let (token, name) = (token.to_owned(), name.to_owned());
        callers.spawn(async move {
            let (mut caller, mut serial) = (Caller::default(), 0);
            while !over.load(Ordering::Relaxed) {
                let body = json!({"model": "gpt-4o-mini", "max_completion_tokens": 50,
                    "user": "mock-usage-10-20", "messages": [{"role": "user", "content": "hello"}]});
                let call = Call {
                    method: "POST",
                    path: "/openai/v1/chat/completions".to_owned(),
                    token: token.clone(),
                    label: format!("{name}-{number}-{serial}"),
                    body: body.to_string(),
                    hangs_up: false,
                };
                serial += 1;
                let answer = caller.call(Replicas::addr(), &call).await;
                let answer = answer.context("a steady call")?;
                ensure!(answer.status == 200, "{} {:?}", answer.status, answer.code());
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    tokio::time::sleep(config.phase).await;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(done.load(Ordering::Relaxed))
}
