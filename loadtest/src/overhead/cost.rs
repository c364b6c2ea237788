//! Guards what a whole call costs: counts it at a gateway with everything on, and compares with what
//! was agreed on.
//!
//! Calls come one after the other on one connection, so few that a gateway which is not optimised takes
//! seconds for them under a tracer. Its instructions are no figure to publish, but what becomes dearer
//! there becomes dearer in a release; allocations and system calls are about those of one. Instructions
//! and allocations are those of the threads that serve calls, so that counts are the same on a busy
//! machine. It knows nothing of what a gateway does. Worst case: on a machine so busy that events of a stream catch up with
//! one another, streams are counted as a little cheaper than they are.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tollgate_baseline::{Baseline, Figures, Tolerance};

use super::answer::Expected;
use super::client::{Aim, Line};
use super::syscalls::Syscalls;
use super::target::{self, Entry, Lengths, Prepared};
use super::tollgate::Variant;
use super::{Config, directory};
use crate::callgrind::Counter;

/// What is counted, in the baseline's words.
const KIND: &str = "call";
/// Events of each stream. Every one takes the pause, so there are few.
const EVENTS: usize = 14;
/// So long that a gateway under a tracer on a busy machine has passed an event on before the next one
/// comes: two that come at once cost less than two that do not.
const PAUSE: Duration = Duration::from_millis(25);
/// Between two calls. So long that what is written down behind a call has been before the next one: how
/// many calls share that work would depend on how quick the machine is.
const APART: Duration = Duration::from_millis(300);

const INSTRUCTIONS: &str = "instructions";
const ALLOCATIONS: &str = "allocations";

/// What to count, and what to compare it with.
#[derive(Debug, Clone)]
pub struct CostConfig {
    /// The gateway's program.
    pub gateway: PathBuf,
    /// File for what the gateway says on stderr.
    pub gateway_log: Option<PathBuf>,
    /// Where what was agreed on stands.
    pub baseline: PathBuf,
    /// Whether to write it instead.
    pub renew: bool,
}

/// A kind of call.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    streamed: bool,
    /// Calls before any is counted, which fill pools and caches.
    warm_up: u64,
    /// Calls that are counted.
    calls: u64,
}

const CASES: [Case; 2] = [
    Case {
        name: "plain",
        streamed: false,
        warm_up: 10,
        calls: 24,
    },
    Case {
        name: "stream",
        streamed: true,
        warm_up: 3,
        calls: 10,
    },
];

/// Counts, prints a table, and compares; or makes what was counted the baseline. Tells whether nothing has
/// become dearer than was agreed on.
///
/// # Errors
/// If a tool is lacking, an answer is wrong or there is no baseline.
pub fn run(config: &CostConfig) -> anyhow::Result<bool> {
    let now = Baseline::of(KIND, count(config)?);
    if config.renew {
        now.write(&config.baseline)?;
        return Ok(true);
    }
    let agreed = Baseline::read(KIND, &config.baseline)?;
    let comparison = now.against(&agreed, tolerance);
    io::stdout().write_all(comparison.text.as_bytes())?;
    Ok(comparison.holds)
}

/// How much dearer a figure may become: several times what two runs differ by.
fn tolerance(figure: &str) -> Option<Tolerance> {
    let (percent, count) = match figure {
        INSTRUCTIONS => (5.0, 0.0),
        ALLOCATIONS => (2.0, 1.0),
        // What is written at intervals comes in between, the more often the longer a stream takes.
        "pwrite64" | "fsync" | "fdatasync" => (75.0, 0.8),
        // Less than one more for each call.
        _ => (5.0, 0.5),
    };
    Some(Tolerance { percent, count })
}

/// Both tools at once: they take about a processor each.
fn count(config: &CostConfig) -> anyhow::Result<BTreeMap<String, Figures>> {
    let config = config.of_overhead();
    let directory = directory(&config)?;
    let (_mock, mock) = target::mock(&config, PAUSE)?;
    let direct = Entry::Direct.prepare(&config, directory.path(), mock)?;
    let stage = Stage {
        lengths: Lengths::learn(&direct, &config, &runtime()?)?,
        config,
        mock,
        dir: directory.path(),
    };
    let [callgrind, strace] = std::thread::scope(|scope| {
        let callgrind = scope.spawn(|| stage.under_callgrind().context("under valgrind"));
        let strace = scope.spawn(|| stage.under_strace().context("under strace"));
        [callgrind, strace].map(|tool| tool.join().map_err(|_panic| anyhow!("counting panicked")))
    });
    let mut all: BTreeMap<String, Figures> = BTreeMap::new();
    for (case, figures) in callgrind??.into_iter().chain(strace??) {
        all.entry(case.name.to_owned()).or_default().extend(figures);
    }
    Ok(all)
}

/// What both tools need.
struct Stage<'a> {
    config: Config,
    mock: SocketAddr,
    lengths: Lengths,
    dir: &'a Path,
}

/// A gateway that runs under a tracer, and how it is asked.
struct Subject {
    pid: u32,
    plain: Aim,
    stream: Aim,
}

impl Stage<'_> {
    fn under_callgrind(&self) -> anyhow::Result<Vec<(Case, Figures)>> {
        let counter = Counter::new(self.dir.join("callgrind.out"));
        let mut counter = counter.context("valgrind is needed: apt-get install valgrind")?;
        self.traced("callgrind", &counter.tracer(), async |subject| {
            let mut all = Vec::new();
            for case in CASES {
                let calls = subject.call(case, case.calls);
                let (counted, _, ()) = counter.count(subject.pid, calls).await?;
                all.push((case, of_callgrind(counted.serving(), case.calls)));
            }
            Ok(all)
        })
    }

    fn under_strace(&self) -> anyhow::Result<Vec<(Case, Figures)>> {
        let syscalls = Syscalls::new(self.dir.join("strace.out"));
        self.traced("strace", &syscalls.tracer(), async |subject| {
            let mut all = Vec::new();
            for case in CASES {
                let before = syscalls.so_far()?;
                subject.call(case, case.calls).await?;
                let after = syscalls.so_far()?;
                all.push((case, of_strace(&before, &after, case.calls)));
            }
            Ok(all)
        })
    }

    /// Lets a gateway under a tracer be measured, once it is warm.
    fn traced<T>(
        &self,
        tool: &str,
        tracer: &[String],
        measure: impl AsyncFnOnce(&Subject) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let gateway = Entry::Tollgate(Variant::Embedded);
        let mut prepared = gateway.prepare(&self.config, &self.dir.join(tool), self.mock)?;
        let tollgate = prepared.tollgate.as_mut().context("no gateway")?;
        tollgate.prepare_traced(tool)?;
        let (mut running, addr) = tollgate.start(tracer)?;
        let measured = self
            .subject(&prepared, running.pid(), addr)
            .and_then(|subject| {
                runtime()?.block_on(async {
                    for case in CASES {
                        subject.call(case, case.warm_up).await?;
                    }
                    measure(&subject).await
                })
            });
        // In any case: strace that is killed leaves the gateway behind.
        let ended = running.end_traced("TERM");
        let measured = measured?;
        ended?;
        Ok(measured)
    }

    fn subject(&self, prepared: &Prepared, pid: u32, addr: SocketAddr) -> anyhow::Result<Subject> {
        let token = prepared.token("cost")?;
        let aim = |streamed, expected| prepared.aim(addr, &token, streamed, &self.config, expected);
        Ok(Subject {
            pid,
            plain: aim(false, Expected::Bytes(self.lengths.plain)),
            stream: aim(true, self.lengths.stream(&self.config)),
        })
    }
}

impl Subject {
    async fn call(&self, case: Case, calls: u64) -> anyhow::Result<()> {
        let aim = if case.streamed {
            &self.stream
        } else {
            &self.plain
        };
        let mut line = Line::connect(aim.addr).await?;
        for _ in 0..calls {
            line.call(aim).await?;
            tokio::time::sleep(APART).await;
        }
        Ok(())
    }
}

fn of_callgrind([instructions, allocations]: [u64; 2], calls: u64) -> Figures {
    Figures::from([
        (
            INSTRUCTIONS.to_owned(),
            per_call(0, instructions, calls).round(),
        ),
        (ALLOCATIONS.to_owned(), per_call(0, allocations, calls)),
    ])
}

fn of_strace(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, calls: u64) -> Figures {
    let each = after.iter().map(|(name, after)| {
        let before = before.get(name).copied().unwrap_or(0);
        (name.clone(), per_call(before, *after, calls))
    });
    // What happens less often is no call's own, such as opening the connection that all share.
    each.filter(|(_, each)| *each >= 0.25).collect()
}

/// To a hundredth.
fn per_call(less: u64, count: u64, calls: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    let (count, calls) = (count.saturating_sub(less) as f64, calls as f64);
    (count / calls * 100.0).round() / 100.0
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

impl CostConfig {
    /// The calls of `loadtest overhead`, but for shorter streams.
    fn of_overhead(&self) -> Config {
        Config {
            targets: Vec::new(),
            peers: PathBuf::new(),
            installed: PathBuf::new(),
            gateway: self.gateway.clone(),
            nginx: None,
            dir: None,
            keep: false,
            gateway_log: self.gateway_log.clone(),
            rounds: 1,
            time: Duration::ZERO,
            connections: 1,
            stream_connections: 1,
            request_bytes: 2_048,
            answer_bytes: 1_024,
            events: EVENTS,
            event_pause: PAUSE,
            full: false,
            open_streams: 0,
            profile: false,
            bar: 0.0,
        }
    }
}
