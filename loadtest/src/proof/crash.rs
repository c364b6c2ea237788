//! `kill -9` at random moments under load, again and again: no record lost, none twice, no money
//! stuck.
//!
//! Every call bears a label that reaches both the provider and its record. In the end each call the
//! provider saw must have exactly one record, tokens that were metered must be those the provider
//! billed, and the counters must be the sum of the records. Right after every restart nothing may
//! be reserved any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use super::caller::{Call, Caller};
use super::chance::Chance;
use super::money::{pico, usd};
use super::rig::{Rig, Tenant};
use super::{Common, Findings};
use crate::mock::SeenRequest;

const TENANTS: [&str; 2] = ["acme", "globex"];

/// How often, under how much.
#[derive(Debug, Clone)]
pub struct CrashConfig {
    /// Program and chance.
    pub common: Common,
    /// How often the gateway is killed.
    pub kills: u64,
    /// Callers at once.
    pub callers: u64,
}

/// What the records say of one label.
#[derive(Debug, Default)]
struct Recorded {
    records: u64,
    exact_tokens: Option<(u64, u64)>,
}

/// Runs the scenario.
///
/// # Errors
/// If it could not be carried out; a promise that does not hold is in the findings.
pub async fn crash(config: &CrashConfig) -> anyhow::Result<Findings> {
    let rig = Rig::start(&config.common, &TENANTS.map(Tenant::roomy)).await?;
    let rig = Arc::new(RwLock::new(rig));
    let mut chance = Chance::of(config.common.seed, u64::MAX);
    let (mut leaked, mut slowest) = (0, Duration::ZERO);
    for round in 0..config.kills {
        let over = Arc::new(AtomicBool::new(false));
        let callers = callers(config, round, &rig, &over).await?;
        tokio::time::sleep(Duration::from_millis(chance.between(20, 400))).await;
        {
            // The callers ask for the address only; the lock waits for none of their calls.
            let mut rig = rig.write().await;
            rig.kill()?;
            over.store(true, Ordering::Relaxed);
            let start = Instant::now();
            rig.restart()?;
            slowest = slowest.max(start.elapsed());
        }
        end(callers).await?;
        let rig = rig.read().await;
        for tenant in TENANTS {
            let counters = rig.counters(tenant).await?;
            leaked += counters
                .iter()
                .map(|counter| counter.reserved)
                .sum::<i128>();
        }
    }
    let mut rig = Arc::into_inner(rig)
        .context("a caller is left")?
        .into_inner();
    judge(config, &mut rig, leaked, slowest).await
}

type Callers = JoinSet<anyhow::Result<()>>;

async fn callers(
    config: &CrashConfig,
    round: u64,
    rig: &Arc<RwLock<Rig>>,
    over: &Arc<AtomicBool>,
) -> anyhow::Result<Callers> {
    let mut tokens = Vec::new();
    let rig = rig.read().await;
    let addr = rig.addr;
    for tenant in TENANTS {
        tokens.push(rig.mint(tenant, "agent").await?);
    }
    drop(rig);
    let mut callers = JoinSet::new();
    for number in 0..config.callers {
        let token = tokens
            .get(usize::try_from(number)? % tokens.len())
            .context("no token")?
            .clone();
        let mut chance = Chance::of(config.common.seed, round << 32 | number);
        let over = Arc::clone(over);
        callers.spawn(async move {
            let mut caller = Caller::default();
            let mut serial = 0;
            while !over.load(Ordering::Relaxed) {
                let label = format!("call-{round}-{number}-{serial}");
                serial += 1;
                // The kill cuts calls off; what became of them is what the records must tell.
                let _cut = caller.call(addr, &call(&token, label, &mut chance)).await;
            }
            Ok(())
        });
    }
    Ok(callers)
}

async fn end(mut callers: Callers) -> anyhow::Result<()> {
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

fn call(token: &str, label: String, chance: &mut Chance) -> Call {
    let most = chance.between(10, 500);
    let words = format!(
        "mock-usage-{}-{} mock-chunks-{} mock-chunk-delay-{}",
        chance.between(1, 40),
        chance.between(1, most),
        chance.between(1, 20),
        chance.between(0, 3),
    );
    let (path, body) = if chance.percent(70) {
        (
            "/openai/v1/chat/completions",
            json!({"model": "gpt-4o-mini", "max_completion_tokens": most, "user": words,
                "stream": chance.percent(60), "messages": [{"role": "user", "content": "hello there"}]}),
        )
    } else {
        (
            "/anthropic/v1/messages",
            json!({"model": "claude-haiku-4-5", "max_tokens": most, "metadata": {"user_id": words},
                "stream": chance.percent(60), "messages": [{"role": "user", "content": "hello there"}]}),
        )
    };
    Call {
        method: "POST",
        path: path.to_owned(),
        token: token.to_owned(),
        label,
        body: body.to_string(),
        hangs_up: chance.percent(5),
    }
}

async fn judge(
    config: &CrashConfig,
    rig: &mut Rig,
    leaked: i128,
    slowest: Duration,
) -> anyhow::Result<Findings> {
    let mut counted = 0;
    for tenant in TENANTS {
        let day = rig.settled(tenant).await?;
        counted += day.first().context("no daily counter")?.settled;
    }
    rig.stop()?;
    let books = Books::read(rig)?;
    let seen = rig.mock.seen();
    let (lost, differing) = books.compare(&seen)?;
    let mut found = Findings::default();
    found.note(
        "kills",
        "times the gateway was killed with SIGKILL",
        config.kills,
    );
    found.note(
        "calls_at_provider",
        "calls that the provider saw",
        seen.len(),
    );
    books.note(&mut found)?;
    found.must_be_zero(
        "lost_records",
        "calls at the provider without a record",
        lost,
    );
    found.must_be_zero(
        "leaked_reservation_pico_usd",
        "reserved right after restarts",
        leaked,
    );
    found.must_be_zero(
        "wrong_usage",
        "exact records whose tokens the provider did not bill",
        differing,
    );
    found.must_be_zero(
        "ledger_difference_pico_usd",
        "counters less the sum of the records",
        counted - books.sum,
    );
    found.note("settled_usd", "what the counters hold", usd(counted));
    found.note(
        "slowest_restart_ms",
        "from start to ready, recovery included",
        u64::try_from(slowest.as_millis())?,
    );
    Ok(found)
}

/// What the records of all tenants say.
#[derive(Default)]
struct Books {
    by_label: HashMap<String, Recorded>,
    sum: i128,
    interrupted: u64,
    estimated: u64,
}

impl Books {
    fn read(rig: &Rig) -> anyhow::Result<Self> {
        let mut books = Self::default();
        for tenant in TENANTS {
            rig.each_record(tenant, |record| books.take(record))?;
        }
        Ok(books)
    }

    fn take(&mut self, record: &Value) -> anyhow::Result<()> {
        let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
        let (outcome, source) = (field("tollgate.outcome"), field("tollgate.usage.source"));
        if matches!(outcome, "refused" | "failed") {
            return Ok(());
        }
        self.sum += pico(field("tollgate.cost_usd"))?;
        self.interrupted += u64::from(outcome == "interrupted");
        self.estimated += u64::from(source == "estimated");
        let entry = self.by_label.entry(label(record)?).or_default();
        entry.records += 1;
        if source == "exact" {
            entry.exact_tokens = tokens(record);
        }
        Ok(())
    }

    /// Calls the provider saw and no record tells of; exact records it billed otherwise.
    fn compare(&self, seen: &[SeenRequest]) -> anyhow::Result<(i128, i128)> {
        let (mut lost, mut differing) = (0, 0);
        for call in seen {
            let label = call.header("x-user-id").context("a call without label")?;
            let Some(recorded) = self.by_label.get(&label) else {
                lost += 1;
                continue;
            };
            if let Some(exact) = recorded.exact_tokens {
                let billed = call.billed.map(|billed| (billed.input, billed.output));
                differing += i128::from(billed != Some(exact));
            }
        }
        Ok((lost, differing))
    }

    fn note(&self, found: &mut Findings) -> anyhow::Result<()> {
        found.note(
            "interrupted",
            "of them, cut by a kill and settled at their reservation",
            self.interrupted,
        );
        found.note(
            "estimated",
            "of them, settled at an estimate after a hang-up",
            self.estimated,
        );
        let twice = self.by_label.values().filter(|seen| seen.records > 1);
        found.must_be_zero(
            "double_counted",
            "calls with more than one record",
            i128::try_from(twice.count())?,
        );
        Ok(())
    }
}

/// The label as the record keeps it, among what the client claims.
pub(super) fn label(record: &Value) -> anyhow::Result<String> {
    let claims = record.get("tollgate.untrusted").and_then(Value::as_array);
    let label = claims.into_iter().flatten().find_map(|claim| {
        let label = claim.as_str()?.strip_prefix("x-user-id: ")?;
        Some(label.to_owned())
    });
    label.with_context(|| format!("a record without label: {record}"))
}

pub(super) fn tokens(record: &Value) -> Option<(u64, u64)> {
    let usage = record.get("tollgate.usage")?;
    let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
    Some((count("input_tokens"), count("output_tokens")))
}
