//! A new binary takes the place of the old one under load, in both ways that there are: a hand-over of
//! one gateway to a new process, and a rolling restart of several behind a balancer. No call fails, no
//! stream is cut, no record is lost.
//!
//! Thousands of streams are open at any time, and callers go on calling on connections that they keep.
//! Every call bears a label that reaches both the provider and its record; in the end each call that the
//! provider saw must have exactly one record. What a client has to send again, because its connection
//! was closed between two calls, is counted apart.

mod fleet;
mod traffic;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::block_in_place;

use super::crash::label;
use super::rig::{Rig, Tenant};
use super::{Common, Findings};
use fleet::Fleet;
use traffic::Traffic;

/// The figures that matter, the worst of which is told first.
pub const UPGRADE_BOUNDS: [&str; 5] = [
    "failed_calls",
    "cut_streams",
    "lost_records",
    "double_records",
    "reconnects",
];

const TENANT: &str = "acme";

/// Between two changes, so that every one finds everything open.
const PAUSE: Duration = Duration::from_secs(3);

/// Streams are given as long to their end as they take, and then some.
const SETTINGS: &str = "unready_seconds = 3\ndrain_seconds = 60\n";

/// How much, how often.
#[derive(Debug, Clone)]
pub struct UpgradeConfig {
    /// Program and chance.
    pub common: Common,
    /// Streams that are open at any time.
    pub streams: u64,
    /// Callers of plain calls.
    pub callers: u64,
    /// Hand-overs, one after the other.
    pub hand_overs: u64,
    /// Gateways behind the balancer.
    pub gateways: u64,
    /// The balancer's program.
    pub haproxy: PathBuf,
}

/// Runs both scenarios, each on gateways of its own.
///
/// # Errors
/// If one could not be carried out; a promise that does not hold is in the findings.
pub async fn upgrade(config: &UpgradeConfig) -> anyhow::Result<Vec<(&'static str, Findings)>> {
    let mut all = Vec::new();
    if config.hand_overs > 0 {
        all.push(("hand_over", hand_over(config).await?));
    }
    if config.gateways > 0 {
        all.push(("rolling_restart", rolling(config).await?));
    }
    Ok(all)
}

async fn start(config: &UpgradeConfig) -> anyhow::Result<Rig> {
    Rig::start_with(&config.common, &[Tenant::roomy(TENANT)], SETTINGS, &[]).await
}

async fn hand_over(config: &UpgradeConfig) -> anyhow::Result<Findings> {
    let mut rig = start(config).await?;
    let token = rig.mint(TENANT, "agent").await?;
    let headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
    let traffic = Traffic::start(config, rig.addr, headers);
    let before = undisturbed(&traffic, config).await?;
    let (mut slowest, mut finished) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..config.hand_overs {
        tokio::time::sleep(PAUSE).await;
        let asked = Instant::now();
        let mut old = block_in_place(|| rig.upgrade())?;
        slowest = slowest.max(asked.elapsed());
        block_in_place(|| old.wait())?;
        finished = finished.max(asked.elapsed());
    }
    tokio::time::sleep(PAUSE).await;
    let mut found = Findings::default();
    waits(&mut found, before, traffic.longest_wait());
    found.note("hand_overs", "to a new process", config.hand_overs);
    found.note(
        "slowest_hand_over_ms",
        "from the start of the new process until it serves, one second of farewell included",
        millis(slowest),
    );
    found.note(
        "slowest_old_end_ms",
        "until the old one had finished its streams and was gone",
        millis(finished),
    );
    traffic.end(&mut found).await?;
    judge(&mut found, vec![rig]).await?;
    Ok(found)
}

async fn rolling(config: &UpgradeConfig) -> anyhow::Result<Findings> {
    let mut fleet = Fleet::start(config).await?;
    let traffic = Traffic::start(config, fleet.addr, fleet.headers.clone());
    let before = undisturbed(&traffic, config).await?;
    let mut slowest = Duration::ZERO;
    for rig in &mut fleet.rigs {
        tokio::time::sleep(PAUSE).await;
        let asked = Instant::now();
        block_in_place(|| rig.restart_in_place())?;
        slowest = slowest.max(asked.elapsed());
    }
    tokio::time::sleep(PAUSE).await;
    let mut found = Findings::default();
    waits(&mut found, before, traffic.longest_wait());
    found.note(
        "restarts",
        "by SIGTERM, one after the other",
        config.gateways,
    );
    found.note(
        "slowest_restart_ms",
        "from SIGTERM until the gateway is ready again, its streams finished in between",
        millis(slowest),
    );
    traffic.end(&mut found).await?;
    judge(&mut found, std::mem::take(&mut fleet.rigs)).await?;
    Ok(found)
}

/// Waits until everything is open; the longest that a plain call takes then while nothing is changed.
async fn undisturbed(traffic: &Traffic, config: &UpgradeConfig) -> anyhow::Result<u64> {
    traffic.is_full(config).await?;
    traffic.longest_wait();
    tokio::time::sleep(2 * PAUSE).await;
    Ok(traffic.longest_wait())
}

fn waits(found: &mut Findings, before: u64, during: u64) {
    found.note(
        "longest_wait_before_ms",
        "the longest that a plain call took while nothing was changed",
        before,
    );
    found.note(
        "longest_wait_ms",
        "the longest that a plain call took meanwhile",
        during,
    );
}

/// Compares what the providers saw with what the gateways have recorded.
async fn judge(found: &mut Findings, rigs: Vec<Rig>) -> anyhow::Result<()> {
    let (mut seen, mut lost, mut twice, mut inexact, mut reserved) = (0_usize, 0, 0, 0, 0);
    for mut rig in rigs {
        let counters = rig.settled(TENANT).await?;
        reserved += counters
            .iter()
            .map(|counter| counter.reserved)
            .sum::<i128>();
        block_in_place(|| rig.stop())?;
        let mut records: HashMap<String, i128> = HashMap::new();
        rig.each_record(TENANT, |record| {
            *records.entry(label(record)?).or_default() += 1;
            let source = record.get("tollgate.usage.source");
            inexact += i128::from(source.and_then(|source| source.as_str()) != Some("exact"));
            Ok(())
        })?;
        for call in rig.mock.seen() {
            seen += 1;
            let label = call.header("x-user-id").context("a call without label")?;
            lost += i128::from(!records.contains_key(&label));
        }
        twice += records.values().filter(|count| **count > 1).count();
    }
    found.note("calls_at_provider", "calls that the provider saw", seen);
    found.must_be_zero("lost_records", "of them, without a record", lost);
    found.must_be_zero(
        "double_records",
        "calls with more than one record",
        i128::try_from(twice)?,
    );
    found.must_be_zero(
        "inexact_records",
        "records whose usage is estimated or interrupted",
        inexact,
    );
    found.must_be_zero(
        "leaked_reservation_pico_usd",
        "still reserved in the end",
        reserved,
    );
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
