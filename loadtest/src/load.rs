//! Load for any target that speaks OpenAI's or Anthropic's language, and what came of it.
//!
//! In an open loop calls come at a fixed rate, whatever comes back; their latency counts from when they
//! were due, so that a target which stalls is charged with every call that came meanwhile. In a
//! closed loop each connection calls again as soon as it is answered, which finds out what the
//! target can do. Several rates are steps, which find the one it no longer holds.
//!
//! It knows no gateway, and nothing of what answers say but their end and their usage. It leaves this
//! machine only where its user claims leave to do so, and is bounded in time.

mod answer;
mod args;
mod dialect;
mod drive;
mod line;
mod machine;
mod mix;
mod outcome;
mod pace;
mod page;
mod results;
mod table;
mod tally;
mod target;
mod timer;

use std::fs;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::sync::watch;

pub use args::LoadArgs;

use drive::{Job, Stop};
use machine::Machine;
use mix::Mix;
use results::{Held, Step};
use tally::Tally;
use target::Target;

/// Time for the threads to start before the first call is due.
const HEAD_START: Duration = Duration::from_millis(50);
/// Stretches over time, about, that a run is shown in.
const MOST_BINS: f64 = 300.0;
/// Numbers there are for the calls of one step: more than fit into its time.
const CALLS_OF_A_STEP: u64 = 1 << 40;
/// Threads, unless told otherwise: more are of no use to what they could load.
const MOST_THREADS: usize = 8;

/// What to do.
struct Plan<'a> {
    args: &'a LoadArgs,
    target: Arc<Target>,
    mix: Arc<Mix>,
    threads: usize,
    machine: Machine,
}

/// All that is told of a run.
struct Told<'a> {
    args: &'a LoadArgs,
    origin: &'a str,
    keys: usize,
    threads: usize,
    machine: &'a Machine,
    /// The command that repeats it, without what is secret in it.
    command: String,
    began: String,
    was_interrupted: bool,
    steps: Vec<Step>,
    held: Held,
}

/// Loads the target, and prints: tables on stderr; with `--json`, one object on stdout.
///
/// True if the target held the (first) load with the p99 that was asked for; without one, if any call was
/// answered rightly.
///
/// # Errors
/// If the settings are of no use, the target may not be loaded, or results cannot be written.
pub fn run(args: &LoadArgs) -> anyhow::Result<bool> {
    let plan = Plan::read(args)?;
    crate::children::raise_file_limit();
    let began = jiff::Timestamp::now()
        .strftime("%Y-%m-%d %H:%M:%S UTC")
        .to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (steps, was_interrupted) = runtime.block_on(plan.steps())?;
    let told = Told {
        args,
        origin: &plan.target.origin,
        keys: plan.mix.keys,
        threads: plan.threads,
        machine: &plan.machine,
        command: args::without_secrets(std::env::args()),
        began,
        was_interrupted,
        held: results::held(&steps, args.p99_ms.map(|millis| millis / 1e3)),
        steps,
    };
    writeln!(io::stderr(), "{}", told.table())?;
    if let Some(path) = &args.html {
        fs::write(path, told.page()).with_context(|| format!("writing {}", path.display()))?;
    }
    if args.json {
        writeln!(io::stdout(), "{}", told.to_json())?;
    }
    Ok(if args.p99_ms.is_some() {
        told.held.steps > 0
    } else {
        told.steps.iter().any(|step| step.right() > 0)
    })
}

impl<'a> Plan<'a> {
    fn read(args: &'a LoadArgs) -> anyhow::Result<Self> {
        let hour = 3600.0;
        ensure!(
            args.seconds > 0.0 && args.seconds <= hour,
            "--seconds is above 0, and at most 3600"
        );
        ensure!(
            (0.0..=hour).contains(&args.warm_up_seconds()),
            "--warm-up is at most 3600"
        );
        ensure!(
            args.timeout > 0.0 && args.timeout <= hour,
            "--timeout is above 0, and at most 3600"
        );
        ensure!(
            (1..=100_000).contains(&args.connections),
            "--connections is between 1 and 100000"
        );
        ensure!(args.rate.len() <= 50, "at most 50 steps, please");
        let possible = |rate: &f64| *rate > 0.0 && *rate <= 1_000_000.0;
        ensure!(
            args.rate.iter().all(possible),
            "a --rate is above 0, and at most 1000000"
        );
        let mut keys = args.key.clone();
        if let Some(path) = &args.keys {
            let file =
                fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            keys.extend(
                file.lines()
                    .map(str::trim)
                    .filter(|line| !line.is_empty())
                    .map(str::to_owned),
            );
        }
        let machine = Machine::this();
        let usual = machine.processors.min(MOST_THREADS);
        let threads = args.threads.unwrap_or(usual).clamp(1, args.connections);
        let target = Target::read(&args.target, args.i_may_load_this_host, args.ca.as_deref())?;
        Ok(Self {
            args,
            mix: Arc::new(Mix::read(args, &target, &keys)?),
            target: Arc::new(target),
            threads,
            machine,
        })
    }

    /// Every step, and whether an interruption ended them early.
    async fn steps(&self) -> anyhow::Result<(Vec<Step>, bool)> {
        let (stop, stopped) = watch::channel(None);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.send_replace(Some(Instant::now()));
            }
            // The sender stays, for as long as anybody listens.
            stop.closed().await;
        });
        let rates = if self.args.rate.is_empty() {
            vec![None]
        } else {
            self.args.rate.iter().copied().map(Some).collect()
        };
        let mut steps = Vec::new();
        for (rate, number) in rates.into_iter().zip(0..) {
            // No prompt is sent twice.
            let step = self
                .step(rate, number * CALLS_OF_A_STEP, stopped.clone())
                .await?;
            steps.push(step);
            if stopped.borrow().is_some() {
                return Ok((steps, true));
            }
        }
        Ok((steps, false))
    }

    fn job(&self, rate: Option<f64>, first: u64) -> Job {
        let args = self.args;
        let start = Instant::now() + HEAD_START;
        let from = start + Duration::from_secs_f64(args.warm_up_seconds());
        Job {
            target: Arc::clone(&self.target),
            mix: Arc::clone(&self.mix),
            rate,
            poisson: args.poisson.then_some(args.seed),
            threads: self.threads,
            connections: args.connections,
            start,
            from,
            until: from + Duration::from_secs_f64(args.seconds),
            most_calls: args.calls.unwrap_or(u64::MAX),
            timeout: Duration::from_secs_f64(args.timeout),
            bin: Duration::from_secs_f64((args.seconds / MOST_BINS).ceil()),
            first,
            made: AtomicU64::new(0),
        }
    }

    /// One load.
    async fn step(&self, rate: Option<f64>, first: u64, stop: Stop) -> anyhow::Result<Step> {
        let job = Arc::new(self.job(rate, first));
        let mut all = std::pin::pin!(on_threads(&job, &stop));
        let mut ended = None;
        // What the load generator takes is measured over the same time as what it sees.
        let mut cpu = [[Duration::ZERO; 2]; 2];
        for (cpu, moment) in cpu.iter_mut().zip([job.from, job.until]) {
            if ended.is_none() {
                tokio::select! {
                    done = &mut all => ended = Some(done?),
                    () = tokio::time::sleep_until(moment.into()) => {}
                }
            }
            *cpu = [machine::cpu_time(), machine::machine_time()];
        }
        let (tally, end) = match ended {
            Some(ended) => ended,
            None => all.await?,
        };
        let end = stop
            .borrow()
            .map_or(end, |stopped| end.min(stopped))
            .min(job.until);
        let seconds = end.saturating_duration_since(job.from).as_secs_f64();
        let [before, after] = cpu;
        let took = |of: usize| {
            let took = after[of].saturating_sub(before[of]).as_secs_f64();
            if seconds > 0.0 { took / seconds } else { 0.0 }
        };
        #[expect(clippy::cast_precision_loss, reason = "a few processors")]
        let cpu_most = self.threads.min(self.machine.processors) as f64;
        Ok(Step {
            rate,
            seconds,
            bin_seconds: job.bin.as_secs_f64(),
            cpu: took(0),
            machine_cpu: took(1),
            cpu_most,
            tally,
        })
    }
}

/// The sums of all threads, and when the last of them ended.
async fn on_threads(job: &Arc<Job>, stop: &Stop) -> anyhow::Result<(Tally, Instant)> {
    let threads: Vec<_> = (0..job.threads)
        .map(|number| {
            let (job, stop) = (Arc::clone(job), stop.clone());
            tokio::task::spawn_blocking(move || drive::thread(&job, number, stop))
        })
        .collect();
    let mut tally = Tally::new(job.bin);
    for thread in threads {
        tally.merge(&thread.await??);
    }
    Ok((tally, Instant::now()))
}

impl Told<'_> {
    fn to_json(&self) -> Value {
        let settings = self.settings().into_iter();
        let settings = settings.map(|(name, value)| (name.to_owned(), Value::from(value)));
        json!({
            "target": self.origin,
            "began": self.began,
            "command": self.command,
            "settings": settings.collect::<serde_json::Map<_, _>>(),
            "machine": self.machine.to_json(),
            "interrupted": self.was_interrupted,
            "steps": self.steps.iter().map(Step::to_json).collect::<Vec<_>>(),
            "held_steps": self.held.steps,
            "broken_by": self.held.broken,
        })
    }

    /// What was set, in words.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let args = self.args;
        let dialects = args
            .dialect
            .iter()
            .map(|weighted| match args.dialect.len() {
                1 => weighted.dialect.name().to_owned(),
                _ => format!("{} ({})", weighted.dialect.name(), weighted.weight),
            });
        let sizes = args.prompt_bytes.0.iter().map(|(low, high)| {
            if low == high {
                low.to_string()
            } else {
                format!("{low} to {high}")
            }
        });
        let rates = args
            .rate
            .iter()
            .map(f64::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        let load = match (rates.as_str(), args.poisson) {
            ("", _) => "closed loop".to_owned(),
            (rates, false) => format!("open loop, {rates} calls a second, evenly"),
            (rates, true) => format!("open loop, {rates} calls a second, at random (Poisson)"),
        };
        let join = |words: Vec<String>| words.join(", ");
        let mut settings = vec![
            ("load", load),
            (
                "connections",
                format!("at most {}, on {} threads", args.connections, self.threads),
            ),
            (
                "measured",
                format!(
                    "{} s after {} s of warm-up",
                    args.seconds,
                    args.warm_up_seconds()
                ),
            ),
            ("languages", join(dialects.collect())),
            (
                "streams",
                format!("{} % of calls", args.stream_share * 100.0),
            ),
            ("prompts", format!("{} bytes", join(sizes.collect()))),
            ("answers", format!("at most {} tokens", args.max_tokens)),
            ("models", self.models()),
            ("keys", self.keys.to_string()),
            ("timeout", format!("{} s", args.timeout)),
            ("seed", args.seed.to_string()),
        ];
        if let Some(calls) = args.calls {
            settings.push(("calls", format!("at most {calls}")));
        }
        settings
    }

    fn models(&self) -> String {
        let args = self.args;
        let is_anthropic =
            |weighted: &args::Weighted| weighted.dialect == dialect::Dialect::Messages;
        let mut models = Vec::new();
        if !args.dialect.iter().all(is_anthropic) {
            models.push(args.model.as_str());
        }
        if args.dialect.iter().any(is_anthropic) {
            models.push(args.anthropic_model.as_str());
        }
        models.join(", ")
    }
}
