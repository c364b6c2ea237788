//! A million mixed calls: report, records and counters say the same to the last pico-US-dollar.
//!
//! Plain and streamed calls of two dialects, embeddings and fixed-price tools of several tenants,
//! agents and models, with random usage. In the end the gateway's own report is compared with the
//! sum of the records read from the disk, row by row, and with the counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::caller::{Call, Caller};
use super::chance::Chance;
use super::money::{pico, usd};
use super::rig::{Rig, Tenant};
use super::{Common, Findings};

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
const AGENTS: [&str; 2] = ["reader", "writer"];
/// Calls after which the mock forgets what it has seen, to keep its memory bounded.
const FORGET_EVERY: u64 = 10_000;
/// Tokens live five minutes; callers get new ones before.
const RENEW_AFTER: Duration = Duration::from_secs(200);

/// How much.
#[derive(Debug, Clone)]
pub struct DriftConfig {
    /// Program and chance.
    pub common: Common,
    /// Calls altogether.
    pub calls: u64,
    /// Callers at once.
    pub callers: u64,
}

/// What stands in one row: calls and cost.
type Row = (u64, i128);

/// Runs the scenario.
///
/// # Errors
/// If it could not be carried out; a promise that does not hold is in the findings.
pub async fn drift(config: &DriftConfig) -> anyhow::Result<Findings> {
    let rig = Arc::new(Rig::start(&config.common, &TENANTS.map(Tenant::roomy)).await?);
    let start = Instant::now();
    let made = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for number in 0..config.callers {
        let chance = Chance::of(config.common.seed, number);
        callers.spawn(caller(
            Arc::clone(&rig),
            Arc::clone(&made),
            config.calls,
            chance,
        ));
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let took = start.elapsed();
    let mut counted = 0;
    for tenant in TENANTS {
        let counters = rig.settled(tenant).await?;
        counted += counters.first().context("no daily counter")?.settled;
    }
    let mut rig = Arc::into_inner(rig).context("a caller is left")?;
    rig.stop()?;
    let records = from_records(&rig)?;
    let report = from_report(&rig.report("tenant,agent,model,provider")?)?;
    let made = made.load(Ordering::Relaxed);
    let mut found = Findings::default();
    found.note("calls", "calls made and answered", made);
    found.note("seconds", "it took", took.as_secs());
    compare(&records, &report, counted, made, &mut found)?;
    Ok(found)
}

type Rows = BTreeMap<Vec<String>, Row>;

fn compare(
    records: &Rows,
    report: &Rows,
    counted: i128,
    made: u64,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let sum = |rows: &Rows| -> Row {
        rows.values()
            .fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1))
    };
    let (recorded, reported) = (sum(records), sum(report));
    let unequal = records
        .iter()
        .filter(|(row, value)| report.get(*row) != Some(value));
    let unknown = report.keys().filter(|row| !records.contains_key(*row));
    let differing = unequal.count() + unknown.count();
    found.note(
        "rows",
        "of the report: tenant, agent, model, provider",
        report.len(),
    );
    found.must_be_zero(
        "missing_records",
        "calls without a record",
        i128::from(made) - i128::from(recorded.0),
    );
    found.must_be_zero(
        "differing_rows",
        "rows that are not the sum of their records",
        i128::try_from(differing)?,
    );
    found.must_be_zero(
        "report_drift_pico_usd",
        "report less the sum of the records",
        reported.1 - recorded.1,
    );
    found.must_be_zero(
        "counter_drift_pico_usd",
        "counters less the sum of the records",
        counted - recorded.1,
    );
    found.note("total_usd", "the sum", usd(recorded.1));
    Ok(())
}

async fn caller(
    rig: Arc<Rig>,
    made: Arc<AtomicU64>,
    calls: u64,
    mut chance: Chance,
) -> anyhow::Result<()> {
    let mut caller = Caller::default();
    let tenant = chance.pick(&TENANTS).context("no tenant")?;
    let agent = chance.pick(&AGENTS).context("no agent")?;
    let mut token = rig.mint(tenant, agent).await?;
    let mut minted = Instant::now();
    loop {
        let number = made.fetch_add(1, Ordering::Relaxed);
        if number >= calls {
            made.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        if number % FORGET_EVERY == FORGET_EVERY - 1 {
            rig.mock.forget();
        }
        if minted.elapsed() > RENEW_AFTER {
            token = rig.mint(tenant, agent).await?;
            minted = Instant::now();
        }
        let answer = caller.call(rig.addr, &call(&token, &mut chance)).await?;
        ensure!(
            answer.status.is_success() && !answer.broken,
            "a call was answered with {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.error)
        );
    }
}

fn call(token: &str, chance: &mut Chance) -> Call {
    let words = format!(
        "mock-usage-{}-{}",
        chance.between(1, 5_000),
        chance.between(1, 900)
    );
    let streams = chance.percent(40);
    let message = json!([{"role": "user", "content": "hello"}]);
    let (path, body) = match chance.between(0, 9) {
        0..=4 => {
            let model = chance.pick(&["gpt-4o-mini", "gpt-4.1", "gpt-5-nano"]);
            (
                "/openai/v1/chat/completions",
                json!({"model": model, "max_completion_tokens": 1_000, "stream": streams,
                    "user": words, "messages": message}),
            )
        }
        5..=7 => (
            "/anthropic/v1/messages",
            json!({"model": "claude-haiku-4-5", "max_tokens": 1_000, "stream": streams,
                "metadata": {"user_id": words}, "messages": message}),
        ),
        8 => (
            "/openai/v1/embeddings",
            json!({"model": "text-embedding-3-small", "input": "hello", "user": words}),
        ),
        _ => ("/tool/tool", json!({})),
    };
    Call {
        method: "POST",
        path: path.to_owned(),
        token: token.to_owned(),
        label: "proof".to_owned(),
        body: body.to_string(),
        hangs_up: false,
    }
}

/// The rows of the report, from the records themselves.
fn from_records(rig: &Rig) -> anyhow::Result<Rows> {
    const COLUMNS: [&str; 4] = [
        "tenant.id",
        "gen_ai.agent.id",
        "gen_ai.request.model",
        "gen_ai.provider.name",
    ];
    let mut rows: Rows = BTreeMap::new();
    for tenant in TENANTS {
        rig.each_record(tenant, |record| {
            let field = |name: &str| record.get(name).and_then(Value::as_str);
            let row = COLUMNS.map(|name| field(name).unwrap_or("-").to_owned());
            let entry = rows.entry(row.to_vec()).or_default();
            entry.0 += 1;
            entry.1 += pico(field("tollgate.cost_usd").context("a record without cost")?)?;
            Ok(())
        })?;
    }
    Ok(rows)
}

/// The rows of the report as the gateway prints it.
fn from_report(report: &Value) -> anyhow::Result<Rows> {
    let rows = report.get("rows").and_then(Value::as_array);
    let mut read = BTreeMap::new();
    for row in rows.context("the report has no rows")? {
        let name = |field: &str| {
            let text = row.get(field).and_then(Value::as_str);
            text.unwrap_or("-").to_owned()
        };
        let key = ["tenant", "agent", "model", "provider"].map(name);
        let calls = row.get("calls").and_then(Value::as_u64);
        let cost = row.get("cost_usd").and_then(Value::as_str);
        let value = (
            calls.context("a row without calls")?,
            pico(cost.context("a row without cost")?)?,
        );
        read.insert(key.to_vec(), value);
    }
    Ok(read)
}
