//! One target measured once in one mode: a load for a while, and what the kernel booked meanwhile.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future;
use serde::Serialize;
use tokio::time::Instant;

use super::Config;
use super::client::{self, Aim, Tally, Times};
use super::figures::{Percentiles, Sample, rounded};
use super::pace;
use super::target::{Lengths, Target};
use crate::children::{Cpu, Running};

/// Streams at once where it is measured how long events are under way: so few that nothing is busy.
const CALM_STREAMS: usize = 4;

/// How a target is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// Plain calls, as many as it answers.
    Plain,
    /// Streams, as many as it answers.
    Stream,
    /// Plain calls at half the rate that it answers.
    Half,
    /// Plain calls, one after the other on one connection.
    One,
    /// A few streams, to see how long their events are under way.
    Events,
}

impl Mode {
    /// What costs are measured in.
    pub(super) const COST: [Self; 2] = [Self::Plain, Self::Stream];
    /// What delays are measured in.
    pub(super) const DELAY: [Self; 3] = [Self::Half, Self::One, Self::Events];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stream => "stream",
            Self::Half => "half",
            Self::One => "one",
            Self::Events => "events",
        }
    }

    pub(super) const fn is_streamed(self) -> bool {
        matches!(self, Self::Stream | Self::Events)
    }

    const fn connections(self, config: &Config) -> usize {
        match self {
            Self::Plain | Self::Half => config.connections,
            Self::Stream => config.stream_connections,
            Self::One => 1,
            Self::Events => CALM_STREAMS,
        }
    }

    const fn is_calm(self) -> bool {
        matches!(self, Self::One | Self::Events)
    }
}

/// What all phases of a run share.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) config: &'a Config,
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) mock: Running,
    pub(super) lengths: Lengths,
}

/// How much each has used up to a moment.
#[derive(Debug)]
struct Reading {
    at: Instant,
    calls: u64,
    target: Cpu,
    mock: Cpu,
    load: Cpu,
    store: Option<Cpu>,
}

impl Stage<'_> {
    /// Measures a target, at a fixed rate if one is given and as fast as it answers otherwise.
    pub(super) fn measure(
        &self,
        round: usize,
        target: &Target,
        mode: Mode,
        rate: Option<f64>,
    ) -> anyhow::Result<Sample> {
        let token = target
            .prepared
            .token(&format!("round-{round}-{}", mode.name()))?;
        let aim = target.aim(mode, &token, self.config, self.lengths);
        let connections = target.connections(mode.connections(self.config));
        // What is measured one by one needs no long time.
        let time = if mode.is_calm() {
            self.config.time / 2
        } else {
            self.config.time
        };
        // A fifth of the time, unmeasured, fills pools and caches.
        let warm_up = time / 5;
        let watch = async |tally: &Tally| {
            tokio::time::sleep(warm_up).await;
            tally.take_times();
            let before = self.read(target, tally)?;
            tokio::time::sleep(time).await;
            // Whoever is slower than that is waited for.
            while tally.calls() == before.calls {
                tokio::time::sleep(time / 10).await;
            }
            let after = self.read(target, tally)?;
            Ok((before, after, tally.take_times()))
        };
        let (before, after, times) = match rate {
            None => self
                .runtime
                .block_on(client::with_load(&aim, connections, watch))?,
            Some(rate) => {
                let total = warm_up + time;
                self.runtime
                    .block_on(at_rate(&aim, connections, rate, total, watch))?
            }
        };
        Ok(sample(round, target.name(), mode, [before, after], times))
    }

    fn read(&self, target: &Target, tally: &Tally) -> anyhow::Result<Reading> {
        let mock = self.mock.cpu()?;
        Ok(Reading {
            at: Instant::now(),
            calls: tally.calls(),
            target: match &target.running {
                Some(running) => running.cpu()?,
                None => mock,
            },
            mock,
            load: Cpu::own()?,
            store: match &target.prepared.tollgate {
                Some(tollgate) => tollgate.store_cpu()?,
                None => None,
            },
        })
    }
}

/// Runs a load at a fixed rate beside somebody who watches it.
async fn at_rate<T>(
    aim: &Aim,
    connections: usize,
    rate: f64,
    time: Duration,
    watch: impl AsyncFnOnce(&Tally) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let tally = Rc::new(Tally::default());
    let paced = pace::load(aim, connections, rate, time, &tally);
    let ((), seen) = client::within_patience(future::try_join(paced, watch(&tally)))
        .await
        .with_context(|| format!("at {rate:.0} calls a second"))?;
    Ok(seen)
}

fn sample(round: usize, target: &str, mode: Mode, ends: [Reading; 2], times: Times) -> Sample {
    let [before, after] = ends;
    let seconds = (after.at - before.at).as_secs_f64();
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and microseconds of a run stay far below 2^52"
    )]
    let number = |count: u64| count as f64;
    let calls = after.calls - before.calls;
    let per_call = |micros: u64| rounded(number(micros) / number(calls));
    let cores = |used: Cpu| rounded(number(used.total()) / (seconds * 1_000_000.0));
    let target_used = after.target.since(before.target);
    let (mock, load) = (after.mock.since(before.mock), after.load.since(before.load));
    let store = after.store.zip(before.store);
    let of = |micros: Vec<u32>| Percentiles::of(micros);
    let latency = of(times.calls).unwrap_or_default();
    Sample {
        round,
        target: target.to_owned(),
        mode,
        calls,
        seconds: rounded(seconds),
        rps: rounded(number(calls) / seconds),
        cpu_us: per_call(target_used.total()),
        cpu_user_us: per_call(target_used.user),
        cpu_system_us: per_call(target_used.system),
        store_cpu_us: store.map(|(after, before)| per_call(after.since(before).total())),
        mock_cpu_us: per_call(mock.total()),
        target_cores: cores(target_used),
        mock_cores: cores(mock),
        load_cores: cores(load),
        p50_ms: latency.p50_ms,
        p99_ms: latency.p99_ms,
        p999_ms: latency.p999_ms,
        first_event: mode.is_streamed().then(|| of(times.firsts)).flatten(),
        event_delay: mode.is_streamed().then(|| of(times.events)).flatten(),
        offered_rps: None,
        direct: None,
    }
}
