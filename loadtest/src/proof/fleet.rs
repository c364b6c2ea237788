//! Three replicas behind a balancer over a real Redis: no cap passed, no record lost, while
//! replicas are killed, primaries fail over, one replica is cut off, and Redis is slow.
//!
//! A thousand callers of a handful of tenants with small caps call through haproxy. Each phase has
//! a fault and tenants of its own, whose caps are reached while it lasts. In the end the records
//! of all replicas are the books: their sum per tenant must not pass its cap, and every call that
//! the provider saw must have a record. Then the same calls are made with and without slices taken
//! beforehand, against the same Redis.

mod replicas;
mod servers;
mod steady;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::caller::{Call, Caller};
use super::chance::Chance;
use super::crash::label;
use super::money::{pico, usd};
use super::{Common, Findings};
use replicas::{CUT, CUT_GROUP, REPLICAS, Replicas};
use servers::{Form, Servers};

/// Tenants of each phase.
const TENANTS: usize = 4;
/// How long a replica is cut off.
const CUT_FOR: Duration = Duration::from_secs(20);
/// How often something is killed.
const KILL_EVERY: Duration = Duration::from_secs(5);
/// What a tenant may spend whose cap is not to be reached.
const ROOMY: &str = "1000000";
/// How much of what.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// Program and chance.
    pub common: Common,
    /// Callers at once.
    pub callers: u64,
    /// How long each phase lasts.
    pub phase: Duration,
    /// The cap of each tenant in US dollars.
    pub cap_usd: String,
    /// One form of Redis only.
    pub only: Option<String>,
}

/// What goes wrong in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    ReplicasKilled,
    PrimariesKilled,
    CutOff,
    Slow,
}

impl Fault {
    const ALL: [Self; 5] = [
        Self::None,
        Self::ReplicasKilled,
        Self::PrimariesKilled,
        Self::CutOff,
        Self::Slow,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::None => "calm",
            Self::ReplicasKilled => "replicas-killed",
            Self::PrimariesKilled => "primaries-killed",
            Self::CutOff => "cut-off",
            Self::Slow => "slow",
        }
    }

    fn tenants(self) -> Vec<String> {
        (0..TENANTS)
            .map(|n| format!("{}-{n}", self.name()))
            .collect()
    }
}

/// What callers have seen in a phase.
#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    over_cap: AtomicU64,
    ledger: AtomicU64,
    other: AtomicU64,
    broken: AtomicU64,
    slowest_refusal_ms: AtomicU64,
}

/// Runs this program again in a network namespace of its own, where fixed ports are free and
/// packets can be dropped without anybody else noticing; whether it held.
///
/// # Errors
/// If that cannot be had.
pub fn in_a_namespace() -> anyhow::Result<bool> {
    let again = std::env::current_exe()?;
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(again)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .status()
        .context("starting unshare")?;
    Ok(status.success())
}

/// Runs the scenario for each form of Redis.
///
/// # Errors
/// If it could not be carried out; a promise that does not hold is in the findings.
pub async fn fleet(config: &FleetConfig) -> anyhow::Result<Vec<(&'static str, Findings)>> {
    crate::children::raise_file_limit();
    run("ip", &["link", "set", "lo", "up"])?;
    let mut all = Vec::new();
    for form in Form::ALL {
        if config
            .only
            .as_deref()
            .is_none_or(|only| only == form.name())
        {
            all.push((form.name(), over(config, form).await?));
        }
    }
    ensure!(!all.is_empty(), "--only is cluster or sentinel");
    Ok(all)
}

async fn over(config: &FleetConfig, form: Form) -> anyhow::Result<Findings> {
    let mut replicas = Replicas::new(&config.common).await?;
    let mut servers = Servers::start(form, &replicas.path(""))?;
    let caps = Fault::ALL.into_iter().flat_map(Fault::tenants);
    let mut tenants: Vec<_> = caps.map(|id| (id, config.cap_usd.clone())).collect();
    tenants.push(("steady".to_owned(), ROOMY.to_owned()));
    replicas.write_policies(&tenants, &servers.settings())?;
    for replica in 0..REPLICAS {
        replicas.start(replica)?;
    }
    replicas.balance()?;
    replicas.ready().await?;
    replicas.balanced().await?;
    let mut found = Findings::default();
    let mut replicas = Some(replicas);
    for fault in Fault::ALL {
        let shared = Arc::new(tokio::sync::RwLock::new(
            replicas.take().context("a phase has kept the replicas")?,
        ));
        phase(config, fault, &shared, &mut servers, &mut found).await?;
        let back = Arc::into_inner(shared).context("a caller is left")?;
        replicas = Some(back.into_inner());
    }
    let mut replicas = replicas.context("no replicas")?;
    steady::compare(config, &mut replicas, &servers, &mut found).await?;
    replicas.stop()?;
    judge(config, &replicas, &mut found)?;
    Ok(found)
}

async fn phase(
    config: &FleetConfig,
    fault: Fault,
    replicas: &Arc<tokio::sync::RwLock<Replicas>>,
    servers: &mut Servers,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let tokens = replicas.read().await.tokens(&fault.tenants()).await?;
    let tokens: Vec<_> = tokens.into_values().collect();
    let seen = Arc::new(Seen::default());
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for number in 0..config.callers {
        let place = usize::try_from(number)? % tokens.len();
        let token = tokens.get(place).context("no token")?.clone();
        let chance = Chance::of(config.common.seed, number);
        let prefix = format!("{}-{number}", fault.name());
        callers.spawn(call_on(
            token,
            prefix,
            chance,
            Arc::clone(&seen),
            Arc::clone(&over),
        ));
    }
    strike(config, fault, replicas, servers).await?;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    replicas.read().await.ready().await?;
    let answered = seen.answered.load(Ordering::Relaxed);
    found.must(answered > 0, || {
        format!("no call was answered: {}", fault.name())
    });
    let name = fault.name().replace('-', "_");
    for (what, meaning, count) in [
        ("answered", "calls answered by the provider", &seen.answered),
        ("refused_at_cap", "calls refused by a cap", &seen.over_cap),
        (
            "refused_store",
            "calls refused because the store was away",
            &seen.ledger,
        ),
        (
            "refused_otherwise",
            "calls answered otherwise, such as by the balancer",
            &seen.other,
        ),
        ("cut", "calls that were cut", &seen.broken),
        (
            "slowest_refusal_ms",
            "the slowest answer that refused",
            &seen.slowest_refusal_ms,
        ),
    ] {
        let count = count.load(Ordering::Relaxed);
        found.note(&format!("{name}_{what}"), meaning, count);
    }
    Ok(())
}

/// Does to the fleet what the phase is about, for as long as it lasts.
async fn strike(
    config: &FleetConfig,
    fault: Fault,
    replicas: &Arc<tokio::sync::RwLock<Replicas>>,
    servers: &mut Servers,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut turn = 0;
    match fault {
        Fault::None => tokio::time::sleep(config.phase).await,
        Fault::ReplicasKilled => {
            while start.elapsed() < config.phase {
                tokio::time::sleep(KILL_EVERY / 2).await;
                replicas.write().await.kill(turn % REPLICAS)?;
                tokio::time::sleep(KILL_EVERY / 2).await;
                replicas.write().await.start(turn % REPLICAS)?;
                turn += 1;
            }
        }
        Fault::PrimariesKilled => {
            while start.elapsed() < config.phase {
                tokio::time::sleep(KILL_EVERY / 5).await;
                let primaries = servers.primaries();
                let primary = primaries.get(turn % primaries.len().max(1));
                servers.kill(*primary.context("there is no primary")?)?;
                // Long enough for another to take over.
                tokio::time::sleep(KILL_EVERY).await;
                for place in servers.down() {
                    servers.restart(place)?;
                }
                turn += 1;
            }
            tokio::time::sleep(KILL_EVERY).await;
        }
        Fault::CutOff => {
            tokio::time::sleep(KILL_EVERY / 2).await;
            cut(true)?;
            tokio::time::sleep(CUT_FOR).await;
            cut(false)?;
            tokio::time::sleep(KILL_EVERY / 2).await;
        }
        Fault::Slow => {
            let mut chance = Chance::of(config.common.seed, 7);
            while start.elapsed() < config.phase {
                // Stopped and let go on: answers take 50 to 2,000 ms longer.
                let slow = if chance.percent(10) {
                    2_000
                } else {
                    chance.between(50, 400)
                };
                servers.freeze(true)?;
                tokio::time::sleep(Duration::from_millis(slow)).await;
                servers.freeze(false)?;
                tokio::time::sleep(Duration::from_millis(chance.between(50, 400))).await;
            }
        }
    }
    Ok(())
}

/// Drops everything between one replica and Redis, without a word to either.
fn cut(off: bool) -> anyhow::Result<()> {
    let group = CUT_GROUP.to_string();
    let change = if off { "-A" } else { "-D" };
    let _ = CUT;
    run(
        "iptables",
        &[
            change,
            "OUTPUT",
            "-p",
            "tcp",
            "--dport",
            Servers::ports(),
            "-m",
            "owner",
            "--gid-owner",
            &group,
            "-j",
            "DROP",
        ],
    )
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program).args(arguments).status();
    let status = status.with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{program} {} failed", arguments.join(" "));
    Ok(())
}

async fn call_on(
    token: String,
    prefix: String,
    mut chance: Chance,
    seen: Arc<Seen>,
    over: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut caller = Caller::default();
    let mut serial = 0;
    while !over.load(Ordering::Relaxed) {
        let label = format!("{prefix}-{serial}");
        serial += 1;
        let call = chat(&token, label, &mut chance);
        let start = Instant::now();
        match caller.call(Replicas::addr(), &call).await {
            Err(_cut) => {
                seen.broken.fetch_add(1, Ordering::Relaxed);
                // Its connection has gone with the replica.
                caller = Caller::default();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(answer) => {
                let count = match (answer.status.as_u16(), answer.code()) {
                    _ if answer.broken && !call.hangs_up => &seen.broken,
                    (200, _) => &seen.answered,
                    (429, _) => &seen.over_cap,
                    (503, Some("ledger_unavailable" | "registry_unavailable")) => &seen.ledger,
                    _ => &seen.other,
                };
                count.fetch_add(1, Ordering::Relaxed);
                if answer.status.as_u16() != 200 {
                    let took = u64::try_from(start.elapsed().as_millis())?;
                    seen.slowest_refusal_ms.fetch_max(took, Ordering::Relaxed);
                    // As a client would that is told not to come back at once.
                    tokio::time::sleep(Duration::from_millis(chance.between(100, 500))).await;
                }
            }
        }
    }
    Ok(())
}

fn chat(token: &str, label: String, chance: &mut Chance) -> Call {
    let most = chance.between(10, 400);
    let words = format!(
        "mock-usage-{}-{} mock-delay-{}",
        chance.between(1, 40),
        chance.between(1, most),
        chance.between(100, 600),
    );
    let body = json!({"model": "gpt-4o-mini", "max_completion_tokens": most, "user": words,
        "stream": chance.percent(50), "messages": [{"role": "user", "content": "hello there"}]});
    Call {
        method: "POST",
        path: "/openai/v1/chat/completions".to_owned(),
        token: token.to_owned(),
        label,
        body: body.to_string(),
        hangs_up: chance.percent(3),
    }
}

/// Compares the records of all replicas with caps and with what the provider saw.
fn judge(config: &FleetConfig, replicas: &Replicas, found: &mut Findings) -> anyhow::Result<()> {
    let mut spent: HashMap<String, i128> = HashMap::new();
    let mut records: HashMap<String, u64> = HashMap::new();
    let mut interrupted = 0_u64;
    replicas.each_record(|record| {
        let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        if matches!(field("tollgate.outcome"), "refused" | "failed") {
            return Ok(());
        }
        interrupted += u64::from(field("tollgate.outcome") == "interrupted");
        let tenant = field("tenant.id").to_owned();
        *spent.entry(tenant).or_default() += pico(field("tollgate.cost_usd"))?;
        *records.entry(label(record)?).or_default() += 1;
        Ok(())
    })?;
    let cap = pico(&config.cap_usd)?;
    let seen = replicas.mock.seen();
    let mut lost = 0;
    for call in &seen {
        let label = call.header("x-user-id").context("a call without label")?;
        lost += i128::from(!records.contains_key(&label));
    }
    let twice = records.values().filter(|count| **count > 1).count();
    let mut overshoot = 0;
    for fault in Fault::ALL {
        let mut used = 0;
        for tenant in fault.tenants() {
            let spent = spent.get(&tenant).copied().unwrap_or(0);
            overshoot += (spent - cap).max(0);
            used += spent;
        }
        let all = cap.saturating_mul(i128::try_from(TENANTS)?).max(1);
        let name = format!("{}_used_percent", fault.name().replace('-', "_"));
        let percent = i64::try_from(used * 100 / all)?;
        // A cap that is not reached shows nothing.
        found.must(percent >= 50, || {
            format!("{name} is {percent}: more callers or a smaller cap")
        });
        found.note(&name, "of the caps of its tenants, what was spent", percent);
    }
    found.note(
        "calls_at_provider",
        "calls that the provider saw",
        seen.len(),
    );
    found.note("interrupted", "records of calls cut by a kill", interrupted);
    found.note("cap_usd", "the cap of each tenant", usd(cap));
    found.must_be_zero(
        "overshoot_pico_usd",
        "spent beyond the caps, by the records",
        overshoot,
    );
    found.must_be_zero(
        "lost_records",
        "calls at the provider without a record",
        lost,
    );
    found.must_be_zero(
        "double_counted",
        "calls with more than one record",
        i128::try_from(twice)?,
    );
    Ok(())
}
