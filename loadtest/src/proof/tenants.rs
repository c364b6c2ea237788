//! Ten thousand tenants and a hundred thousand live tokens, beside a gateway with ten.
//!
//! Both gateways run at once, and the load changes between them every few seconds, so that what
//! the machine does otherwise falls on both. What a tenant or a token takes is the difference in
//! memory by their number.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::task::JoinSet;

use super::caller::Caller;
use super::crowd::{self, Seen, Shot, percentile};
use super::estate::{Estate, Provider, Serving, shot};
use super::{Common, Findings};

/// Callers that mint at once.
const MINTERS: usize = 32;

/// Connections of the calls.
const CONNECTIONS: usize = 64;

/// Calls a second: far from what one core serves, so that waiting is not what is measured.
const RATE: f64 = 2_000.0;

/// How long a reload may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many, and how long.
#[derive(Debug, Clone)]
pub struct TenantsConfig {
    /// What every scenario needs.
    pub common: Common,
    /// Tenants of the large gateway.
    pub tenants: usize,
    /// Tenants of the small one.
    pub few: usize,
    /// Live tokens of the large gateway.
    pub tokens: usize,
    /// Rounds, each with either gateway.
    pub rounds: usize,
    /// How long each load lasts.
    pub time: Duration,
}

/// Runs the scenario.
///
/// # Errors
/// If something could not be started or measured.
pub async fn tenants(config: &TenantsConfig) -> anyhow::Result<Findings> {
    crate::children::raise_file_limit();
    let mut found = Findings::default();
    let provider = Provider::start(Duration::ZERO)?;
    let small = Estate::write(&config.common, &provider, config.few, "")?;
    let large = Estate::write(&config.common, &provider, config.tenants, "")?;
    let few = small.serve()?;
    let many = large.serve()?;
    let (few_kib, many_kib) = (resident(&few)?, resident(&many)?);
    found.note(
        "tenants",
        "tenants of the large gateway",
        config.tenants as u64,
    );
    found.note(
        "few_start_ms",
        "start to ready, few tenants",
        millis(few.took),
    );
    found.note("start_ms", "start to ready, all tenants", millis(many.took));
    found.note("few_memory_kib", "memory after it, few tenants", few_kib);
    found.note("memory_kib", "memory after it, all tenants", many_kib);
    let more = (config.tenants.saturating_sub(config.few)).max(1) as u64;
    let each = many_kib.saturating_sub(few_kib) * 1024 / more;
    found.note("bytes_per_tenant", "the difference, by tenant", each);

    let before = resident(&many)?;
    let start = Instant::now();
    let shots = mint(&many, config.tenants, config.tokens).await?;
    let took = start.elapsed();
    found.note("tokens", "live tokens", shots.len() as u64);
    found.note("mint_ms", "time to mint them", millis(took));
    let each = (resident(&many)?.saturating_sub(before)) * 1024 / (shots.len().max(1) as u64);
    found.note("bytes_per_token", "memory more, by token", each);
    let few_shots = mint(&few, config.few, config.few).await?;

    calls(&mut found, config, (&few, &few_shots), (&many, &shots)).await?;
    found.note(
        "memory_after_calls_kib",
        "memory after the calls",
        resident(&many)?,
    );
    let few_reload = reload(&mut found, "few_", config, &small, (&few, &few_shots)).await?;
    let many_reload = reload(&mut found, "", config, &large, (&many, &shots)).await?;
    found.must(many_reload < Duration::from_secs(5), || {
        format!(
            "a changed file takes {many_reload:?} to be in force, {few_reload:?} with few tenants"
        )
    });
    drop(many);
    let again = large.serve()?;
    found.note(
        "restart_ms",
        "start to ready with all tokens on the table",
        millis(again.took),
    );
    Ok(found)
}

/// Tokens for all tenants in turn, each with a call.
async fn mint(serving: &Serving, tenants: usize, tokens: usize) -> anyhow::Result<Vec<Shot>> {
    let mut minters = JoinSet::new();
    let admin = serving.admin;
    for minter in 0..MINTERS {
        let asked: Vec<_> = (minter..tokens)
            .step_by(MINTERS)
            .map(|number| {
                let of = number % tenants;
                (
                    of,
                    serving.mint_request(of, &format!("task-{}", number / tenants)),
                )
            })
            .collect();
        minters.spawn(async move {
            let mut caller = Caller::default();
            let mut shots = Vec::with_capacity(asked.len());
            for (of, call) in asked {
                let (status, text) = caller.kept_text(admin, &call).await?;
                ensure!(status.is_success(), "mint: {status} {text}");
                shots.push(shot(&serde_json::from_str(&text)?, of)?);
            }
            anyhow::Ok(shots)
        });
    }
    let mut shots = Vec::with_capacity(tokens);
    while let Some(minted) = minters.join_next().await {
        shots.append(&mut minted??);
    }
    Ok(shots)
}

/// Calls to either gateway in turn: of few tenants, and of all in an order without a pattern.
async fn calls(
    found: &mut Findings,
    config: &TenantsConfig,
    few: (&Serving, &[Shot]),
    many: (&Serving, &[Shot]),
) -> anyhow::Result<()> {
    let mut seen = [Vec::new(), Vec::new()];
    for (place, gateway) in [few, many].into_iter().enumerate() {
        // A first look at each token costs one check of its signature; that is no steady state.
        let warm = load(gateway, config.time).await?;
        seen[place].reserve(warm.len() * config.rounds);
    }
    for round in 0..config.rounds {
        let mut order = [(0, few), (1, many)];
        order.rotate_left(round % 2);
        for (place, gateway) in order {
            seen[place].append(&mut load(gateway, config.time).await?);
        }
    }
    for (name, seen) in ["few_", ""].into_iter().zip(&seen) {
        let all = latencies(seen);
        found.note(&format!("{name}calls"), "calls made", all.len() as u64);
        found.note(
            &format!("{name}p50_us"),
            "their latency",
            percentile(&all, 50.0),
        );
        found.note(&format!("{name}p99_us"), "", percentile(&all, 99.0));
        let strange = seen.iter().filter(|seen| seen.status != 200).count();
        found.must_be_zero(
            &format!("{name}strange"),
            "answers but 200",
            strange as i128,
        );
    }
    let p50 = |seen: &[Seen]| f64::from(percentile(&latencies(seen), 50.0));
    let (bare, all) = (p50(&seen[0]), p50(&seen[1]));
    found.must(all < bare * 1.5 + 100.0, || {
        format!("calls take {all} us with all tenants, {bare} us with few")
    });
    Ok(())
}

async fn load((serving, shots): (&Serving, &[Shot]), time: Duration) -> anyhow::Result<Vec<Seen>> {
    // A stride without a common divisor visits all of them, neighbours far apart.
    let stride = 7_919;
    let mut place = 0;
    let next = || {
        place = (place + stride) % shots.len();
        shots[place].clone()
    };
    crowd::offer(serving.addr, CONNECTIONS, RATE, time, next).await
}

/// Changes one tenant's file under load; how long until it is in force.
async fn reload(
    found: &mut Findings,
    name: &str,
    config: &TenantsConfig,
    estate: &Estate,
    gateway: (&Serving, &[Shot]),
) -> anyhow::Result<Duration> {
    let (serving, _) = gateway;
    let adopted = "tollgate_policy_reloads_total{result=\"adopted\"}";
    let cpu = serving.running.cpu()?;
    let quiet = load(gateway, config.time).await?;
    let quiet_cpu = serving.running.cpu()?.since(cpu).total();
    let before = serving.metric(adopted, "").await?;
    let changing = async {
        let (mut times, mut changes) = (Duration::ZERO, 0_u32);
        let start = Instant::now();
        while start.elapsed() < config.time {
            changes += 1;
            estate.write_tenant(0, &format!("{}", 1_000_000 + changes))?;
            let changed = Instant::now();
            while serving.metric(adopted, "").await? < before + u64::from(changes) {
                if changed.elapsed() > PATIENCE {
                    bail!("a changed file is not taken over");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            times += changed.elapsed();
        }
        anyhow::Ok((times / changes, changes))
    };
    let cpu = serving.running.cpu()?;
    let (during, changed) = tokio::join!(load(gateway, config.time), changing);
    let (took, changes) = changed.context("changing a file")?;
    let busy_cpu = serving.running.cpu()?.since(cpu).total();
    let during = during?;
    let note = |found: &mut Findings, what: &str, meaning: &str, value: u64| {
        found.note(&format!("{name}{what}"), meaning, value);
    };
    note(
        found,
        "reload_ms",
        "a changed file to its being in force, on average",
        millis(took),
    );
    let each = busy_cpu.saturating_sub(quiet_cpu) / u64::from(changes);
    note(found, "reload_cpu_us", "processor time of that", each);
    let p99 = |seen: &[Seen]| u64::from(percentile(&latencies(seen), 99.0));
    note(
        found,
        "quiet_p99_us",
        "latency of calls while nothing changes",
        p99(&quiet),
    );
    note(
        found,
        "reloading_p99_us",
        "and while files change all the time",
        p99(&during),
    );
    Ok(took)
}

fn latencies(seen: &[Seen]) -> Vec<u32> {
    let mut micros: Vec<u32> = seen.iter().map(|seen| seen.micros).collect();
    micros.sort_unstable();
    micros
}

fn resident(serving: &Serving) -> anyhow::Result<u64> {
    Ok(serving.running.memory_kib().context("no memory figure")?.0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
