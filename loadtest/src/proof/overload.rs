//! Several times the load that the gateway can serve, with its guard and without.
//!
//! One greedy tenant sends four fifths of the calls, the others share the rest, which alone would
//! be served easily. With the guard, calls that are admitted stay quick, the others are turned
//! away at once, and the tenants that ask for little hardly notice.

use std::time::Duration;

use anyhow::Context as _;

use super::crowd::{self, Seen, Shot, percentile};
use super::estate::{Estate, Halves, Provider, Serving};
use super::{Common, Findings};

/// Calls of the greedy tenant among ten.
const GREEDY_OF_TEN: usize = 8;

/// A call that nobody else's load delays.
const TURNED_AWAY: u16 = 503;

/// How much load.
#[derive(Debug, Clone)]
pub struct OverloadConfig {
    /// What every scenario needs.
    pub common: Common,
    /// Offered load, in hundredths of what the gateway can serve.
    pub percent: u64,
    /// How long it lasts.
    pub time: Duration,
    /// Connections that it comes over.
    pub connections: usize,
    /// Tenants, the greedy one among them.
    pub tenants: usize,
    /// How long the provider takes.
    pub answer: Duration,
    /// The gateway's `lag_ms`.
    pub lag_ms: u64,
}

/// What callers saw, and what it took.
struct Run {
    rate: f64,
    seen: Vec<Seen>,
    start_kib: u64,
    peak_kib: u64,
    turned_away: u64,
    reached: u64,
    cpu_micros: u64,
}

/// Runs the scenario.
///
/// # Errors
/// If something could not be started or measured.
pub async fn overload(config: &OverloadConfig) -> anyhow::Result<Findings> {
    crate::children::raise_file_limit();
    let halves = Halves::of_machine()?;
    let mut found = Findings::default();
    let guard = format!("\n[limits]\nlag_ms = {}\n", config.lag_ms);
    let none = "\n[limits]\nlag_ms = 0\ncalls_in_flight = 10000000\n";
    let with = run(config, halves.as_ref(), &guard).await?;
    let without = run(config, halves.as_ref(), none).await?;
    found.note(
        "processors_apart",
        "gateway and load on processors of their own",
        halves.is_some(),
    );
    found.note(
        "offered_percent",
        "offered load, in hundredths of what it can serve",
        config.percent,
    );
    tell(&mut found, "guarded", &with);
    tell(&mut found, "unguarded", &without);
    judge(&mut found, config, &with, &without);
    Ok(found)
}

async fn run(
    config: &OverloadConfig,
    halves: Option<&Halves>,
    settings: &str,
) -> anyhow::Result<Run> {
    let provider = Provider::start(config.answer)?;
    let estate = Estate::write(&config.common, &provider, config.tenants, settings)?;
    let serving = match halves {
        Some(halves) => halves.for_gateway(|| estate.serve())??,
        None => estate.serve()?,
    };
    let shots = shots(&serving, config.tenants).await?;
    let first = shots.first().context("no tenant")?;
    // Enough to keep it busy while most wait for the provider, and not so many that the guard would
    // have a say in what can be served.
    let warm = Duration::from_secs(3);
    let calls = crowd::saturate(serving.addr, 1_000, warm, first).await?;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = calls as f64 / warm.as_secs_f64() * config.percent as f64 / 100.0;
    let before = serving.running.cpu()?;
    let memory = serving.running.memory_kib().context("no memory figure")?;
    let mut number = 0;
    let seen = crowd::offer(serving.addr, config.connections, rate, config.time, || {
        number += 1;
        let modest =
            1 + (number / 10 * (10 - GREEDY_OF_TEN) + number % 10) % (shots.len() - 1).max(1);
        let of = if number % 10 < GREEDY_OF_TEN {
            0
        } else {
            modest
        };
        shots.get(of).unwrap_or(first).clone()
    })
    .await?;
    let (_, peak_kib) = serving.running.memory_kib().context("no memory figure")?;
    Ok(Run {
        rate,
        start_kib: memory.0,
        peak_kib,
        turned_away: serving
            .metric("tollgate_rejections_total", "overloaded")
            .await?,
        reached: serving
            .metric("tollgate_calls_total", "completed")
            .await?
            .saturating_sub(calls),
        cpu_micros: serving.running.cpu()?.since(before).total(),
        seen,
    })
}

async fn shots(serving: &Serving, tenants: usize) -> anyhow::Result<Vec<Shot>> {
    let mut shots = Vec::new();
    for number in 0..tenants {
        shots.push(serving.mint(number, "overload").await?);
    }
    Ok(shots)
}

impl Run {
    /// Latencies of the calls with this status, sorted, in microseconds.
    fn latencies(&self, status: u16, of: impl Fn(usize) -> bool) -> Vec<u32> {
        let wanted = |seen: &&Seen| seen.status == status && of(seen.of);
        let mut micros: Vec<u32> = self.seen.iter().filter(wanted).map(|s| s.micros).collect();
        micros.sort_unstable();
        micros
    }

    fn admitted_p99(&self) -> u32 {
        percentile(&self.latencies(200, |_| true), 99.0)
    }

    fn other(&self) -> usize {
        let strange = |seen: &&Seen| !matches!(seen.status, 200 | TURNED_AWAY);
        self.seen.iter().filter(strange).count()
    }

    /// Calls of the tenants that ask for little: all, and those turned away.
    fn modest(&self) -> (usize, usize) {
        let modest = self.seen.iter().filter(|seen| seen.of > 0);
        let away = modest.clone().filter(|seen| seen.status == TURNED_AWAY);
        (modest.count(), away.count())
    }
}

fn tell(found: &mut Findings, name: &str, run: &Run) {
    let mut note = |what: &str, meaning: &str, value: u64| {
        found.note(&format!("{name}_{what}"), meaning, value);
    };
    let micros = |run: &Run, status, percent| -> u64 {
        percentile(&run.latencies(status, |_| true), percent).into()
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate"
    )]
    note("offered_per_second", "calls offered", run.rate as u64);
    note("sent", "calls sent", run.seen.len() as u64);
    note(
        "admitted",
        "of them answered 200",
        run.latencies(200, |_| true).len() as u64,
    );
    note(
        "turned_away",
        "answered 503",
        run.latencies(TURNED_AWAY, |_| true).len() as u64,
    );
    note(
        "other",
        "answered otherwise, or not at all",
        run.other() as u64,
    );
    note(
        "admitted_p50_us",
        "latency of those admitted",
        micros(run, 200, 50.0),
    );
    note("admitted_p99_us", "", micros(run, 200, 99.0));
    note(
        "turned_away_p50_us",
        "latency of those turned away",
        micros(run, TURNED_AWAY, 50.0),
    );
    note("turned_away_p99_us", "", micros(run, TURNED_AWAY, 99.0));
    let (modest, away) = run.modest();
    note(
        "modest_sent",
        "calls of tenants that ask for little",
        modest as u64,
    );
    note("modest_turned_away", "of them answered 503", away as u64);
    let p99 = percentile(&run.latencies(200, |of| of > 0), 99.0);
    note("modest_p99_us", "latency of those admitted", p99.into());
    note("memory_kib", "the gateway's memory before", run.start_kib);
    note("peak_memory_kib", "its greatest", run.peak_kib);
    note("cpu_us", "the gateway's processor time", run.cpu_micros);
}

fn judge(found: &mut Findings, config: &OverloadConfig, with: &Run, without: &Run) {
    let away = with.latencies(TURNED_AWAY, |_| true);
    found.must(!away.is_empty(), || "nothing was turned away".to_owned());
    found.must_be_zero(
        "guarded_strange",
        "answers but 200 and 503 with the guard",
        with.other() as i128,
    );
    let untold = i128::from(with.turned_away) - away.len() as i128;
    found.must_be_zero("guarded_uncounted", "503 seen less 503 counted", untold);
    let through = i128::from(with.reached) - with.latencies(200, |_| true).len() as i128;
    found.must_be_zero(
        "guarded_reached",
        "calls settled less answers 200: what is turned away reaches nobody",
        through,
    );
    let (p99, bare) = (with.admitted_p99(), without.admitted_p99());
    found.must(p99 < bare / 3, || {
        format!("admitted calls take {p99} us with the guard, {bare} us without")
    });
    let bound = 1_000 * (10 * config.lag_ms.max(10));
    let slowest = percentile(&away, 99.0);
    found.must(u64::from(slowest) < bound, || {
        format!("turning away takes {slowest} us")
    });
    let (modest, refused) = with.modest();
    found.must(refused * 10 <= modest, || {
        format!("{refused} of {modest} calls of modest tenants are turned away")
    });
    let (grown, bare) = (
        with.peak_kib.saturating_sub(with.start_kib),
        without.peak_kib.saturating_sub(without.start_kib),
    );
    found.must(grown <= bare.max(64 * 1024), || {
        format!("memory grows by {grown} KiB with the guard, by {bare} KiB without")
    });
}
