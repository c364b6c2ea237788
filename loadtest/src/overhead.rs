//! What a gateway costs: CPU per call beside nginx, in the same run, on the same mock.
//!
//! In every round each target serves the same closed loop of callers for the same time; the order
//! rotates from round to round. CPU is what the kernel booked to the target's own processes, user and
//! system, over the calls they finished meanwhile. The ratio to nginx is formed within the run, because
//! absolute figures move with the machine. If asked for, delays, start-up and memory follow.
//!
//! It knows the gateway as a program with a command line, and everybody else by a file that says how to
//! start it (`peer.rs`). One answer that is not right ends the run, unless it is that of a peer which
//! writes answers anew: the run goes on without it. It is bounded: rounds × seconds × targets × modes.

mod answer;
mod choice;
mod client;
mod cost;
mod figures;
mod footprint;
mod pace;
mod peer;
mod phase;
mod profile;
mod summary;
mod syscalls;
mod table;
mod target;
mod tollgate;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::children::raise_file_limit;
use choice::Choice;
pub use cost::{CostConfig, run as cost};
use figures::{EVERYTHING_ON, Figures, Footprint, Profile, Sample};
use phase::{Mode, Stage};
use target::{DIRECT, Entry, Lengths, Target};

/// What to measure, and how long.
#[derive(Debug, Clone)]
pub struct Config {
    /// Names of what is measured, or `all`.
    pub targets: Vec<String>,
    /// The directory of peers.
    pub peers: PathBuf,
    /// Where peers are installed.
    pub installed: PathBuf,
    /// The gateway's program.
    pub gateway: PathBuf,
    /// nginx' program, if not the usual one.
    pub nginx: Option<PathBuf>,
    /// Where the temporary directory is made, if not in the usual place.
    pub dir: Option<PathBuf>,
    /// Whether that directory stays, with the gateway's data and the profiles in it.
    pub keep: bool,
    /// File for what the gateway says on stderr.
    pub gateway_log: Option<PathBuf>,
    /// Rounds; the median is taken over them.
    pub rounds: usize,
    /// Measured time of each target in each round.
    pub time: Duration,
    /// Callers, each on a connection of its own, for plain calls.
    pub connections: usize,
    /// The same for streams.
    pub stream_connections: usize,
    /// Body of each request.
    pub request_bytes: usize,
    /// Body of each plain answer.
    pub answer_bytes: usize,
    /// Events of each stream.
    pub events: usize,
    /// The mock's pause between two events.
    pub event_pause: Duration,
    /// Whether to measure delays, start-up and memory too.
    pub full: bool,
    /// Streams that are open when memory is looked at; 0 leaves that out.
    pub open_streams: usize,
    /// Whether to count instructions, allocations and system calls too.
    pub profile: bool,
    /// The ratio that is still good enough.
    pub bar: f64,
}

impl Config {
    fn setting(&self) -> Value {
        json!({
            "rounds": self.rounds, "seconds": self.time.as_secs_f64(), "connections": self.connections,
            "stream_connections": self.stream_connections, "request_bytes": self.request_bytes,
            "answer_bytes": self.answer_bytes, "events": self.events,
            "event_pause_ms": self.event_pause.as_secs_f64() * 1000.0,
            "cores": processors(), "full": self.full,
        })
    }
}

/// Processors of the machine.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The programs of one run.
struct Bench<'a> {
    stage: Stage<'a>,
    dir: TempDir,
    choice: Choice,
    targets: Vec<Target>,
    samples: Vec<Sample>,
    not_measured: BTreeMap<String, String>,
    json: bool,
}

/// Measures, and prints: the table on stderr; on stdout, with `json`, one line for each sample and the summary
/// last. Tells whether the ratio is within the bar.
///
/// # Errors
/// If a program does not start or any answer is wrong.
pub fn run(config: &Config, json: bool) -> anyhow::Result<bool> {
    ensure!(
        config.rounds > 0 && config.rounds <= 100,
        "between 1 and 100 rounds, please"
    );
    ensure!(
        config.time > Duration::ZERO && config.time <= Duration::from_secs(60),
        "at most 60 seconds each, please"
    );
    raise_file_limit();
    let mut bench = Bench::start(config, json)?;
    for round in 0..config.rounds {
        for mode in Mode::COST {
            bench.round(round, mode)?;
        }
        for mode in Mode::DELAY.into_iter().filter(|_| config.full) {
            bench.round(round, mode)?;
        }
    }
    let figures = bench.finish()?;
    let summary = summary::summary(&figures, &config.setting(), config.bar);
    writeln!(io::stderr(), "{}", table::table(&figures))?;
    if json {
        writeln!(io::stdout(), "{summary}")?;
    }
    Ok(figures
        .ratio(EVERYTHING_ON, Mode::Plain)
        .0
        .is_some_and(|ratio| ratio <= config.bar))
}

impl<'a> Bench<'a> {
    fn start(config: &'a Config, json: bool) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let choice = Choice::of(config)?;
        let dir = directory(config)?;
        let (mock, mock_addr) = target::mock(config, config.event_pause)?;
        let direct = Entry::Direct.prepare(config, dir.path(), mock_addr)?;
        let lengths = Lengths::learn(&direct, config, &runtime)?;
        let mut bench = Self {
            stage: Stage {
                config,
                runtime,
                mock,
                lengths,
            },
            dir,
            not_measured: choice.lacking.clone(),
            choice,
            targets: Vec::new(),
            samples: Vec::new(),
            json,
        };
        for entry in bench.choice.entries.clone() {
            writeln!(io::stderr(), "starting {} …", entry.name())?;
            let dir = bench.dir.path().join(entry.name());
            let prepared = entry.prepare(config, &dir, mock_addr)?;
            let started = prepared.start().and_then(|mut target| {
                bench.try_out(&mut target)?;
                Ok(target)
            });
            match started {
                Ok(target) => bench.targets.push(target),
                Err(wrong) if entry.may_fail() => bench.give_up(entry.name(), &wrong)?,
                Err(wrong) => return Err(wrong.context(format!("starting {}", entry.name()))),
            }
        }
        Ok(bench)
    }

    /// Waits until a target answers, and sees that it streams.
    fn try_out(&self, target: &mut Target) -> anyhow::Result<()> {
        let Stage {
            config,
            runtime,
            lengths,
            ..
        } = &self.stage;
        let token = target.prepared.token("try")?;
        let aim = target.aim(Mode::Plain, &token, config, *lengths);
        if let Some(running) = &mut target.running {
            target::until_answered(runtime, running, &aim)?;
        }
        let aim = target.aim(Mode::Stream, &token, config, *lengths);
        runtime.block_on(client::probe(&aim)).context("a stream")?;
        Ok(())
    }

    fn give_up(&mut self, name: &str, wrong: &anyhow::Error) -> anyhow::Result<()> {
        writeln!(io::stderr(), "{name} is given up: {wrong:#}")?;
        self.not_measured
            .insert(name.to_owned(), format!("{wrong:#}"));
        self.targets.retain(|target| target.name() != name);
        self.samples.retain(|sample| sample.target != name);
        Ok(())
    }

    /// Each target in a mode, once.
    fn round(&mut self, round: usize, mode: Mode) -> anyhow::Result<()> {
        let names: Vec<String> = self.targets.iter().map(|t| t.name().to_owned()).collect();
        for turn in 0..names.len() {
            let Some(name) = names.get((turn + round) % names.len()) else {
                continue;
            };
            let Some(target) = self.targets.iter().find(|target| target.name() == name) else {
                continue;
            };
            let measured = match mode {
                Mode::Half if name == DIRECT => continue,
                Mode::Half => self.at_half(round, target),
                _ => self.stage.measure(round, target, mode, None),
            };
            match measured {
                Ok(sample) => self.keep(sample)?,
                Err(wrong) if target.prepared.entry.may_fail() => self.give_up(name, &wrong)?,
                Err(wrong) => {
                    return Err(wrong.context(format!("{name} {} round {round}", mode.name())));
                }
            }
        }
        Ok(())
    }

    /// A target at half of the rate that it answered in this round, and the mock at the same.
    fn at_half(&self, round: usize, target: &Target) -> anyhow::Result<Sample> {
        let saturated = self.samples.iter().find(|sample| {
            sample.round == round && sample.mode == Mode::Plain && sample.target == target.name()
        });
        let rate = saturated.context("its rate is not known")?.rps / 2.0;
        let direct = self.targets.iter().find(|target| target.name() == DIRECT);
        let direct = match direct {
            Some(direct) => Some(self.stage.measure(round, direct, Mode::Half, Some(rate))?),
            None => None,
        };
        let sample = self.stage.measure(round, target, Mode::Half, Some(rate))?;
        Ok(Sample {
            offered_rps: Some(figures::rounded(rate)),
            direct: direct.map(|direct| direct.latency()),
            ..sample
        })
    }

    fn keep(&mut self, sample: Sample) -> anyhow::Result<()> {
        writeln!(
            io::stderr(),
            "round {}: {:<18} {:<6} {:>7.1} µs/call {:>7.0} calls/s",
            sample.round,
            sample.target,
            sample.mode.name(),
            sample.cpu_us,
            sample.rps
        )?;
        if self.json {
            writeln!(io::stdout(), "{}", serde_json::to_string(&sample)?)?;
        }
        self.samples.push(sample);
        Ok(())
    }

    /// Ends what was compared, then measures what needs the machine for itself.
    fn finish(mut self) -> anyhow::Result<Figures> {
        let config = self.stage.config;
        let mock = self.targets.iter().find(|target| target.name() == DIRECT);
        let mock = mock.context("no mock")?.addr;
        let memory_kib = self.targets.iter().filter_map(|target| {
            let memory = target.running.as_ref()?.memory_kib()?;
            Some((target.name().to_owned(), memory))
        });
        let memory_kib = memory_kib.collect();
        let targets = self.targets.drain(..);
        let measured: Vec<Entry> = targets.map(|t| t.prepared.entry.clone()).collect();
        let described = |entry| self.choice.describe(entry, config);
        Ok(Figures {
            targets: measured.iter().map(described).collect(),
            memory_kib,
            footprints: self.footprints(&measured)?,
            profiles: self.profiles(&measured, mock)?,
            samples: self.samples,
            not_measured: self.not_measured,
            processors: processors(),
        })
    }

    fn footprints(&mut self, measured: &[Entry]) -> anyhow::Result<BTreeMap<String, Footprint>> {
        let mut found = BTreeMap::new();
        let Stage {
            config,
            runtime,
            lengths,
            ..
        } = &self.stage;
        let started = measured.iter().filter(|entry| entry.name() != DIRECT);
        for entry in started.filter(|_| config.full) {
            let name = entry.name();
            writeln!(io::stderr(), "footprint of {name} …")?;
            let dir = self.dir.path().join(format!("{name}-footprint"));
            match footprint::measure(entry, config, runtime, &dir, *lengths) {
                Ok(footprint) => {
                    found.insert(name.to_owned(), footprint);
                }
                Err(wrong) => {
                    let what = format!("{name}, footprint");
                    self.not_measured.insert(what, format!("{wrong:#}"));
                }
            }
        }
        Ok(found)
    }

    fn profiles(
        &self,
        measured: &[Entry],
        mock: SocketAddr,
    ) -> anyhow::Result<BTreeMap<String, Profile>> {
        let mut found = BTreeMap::new();
        let Stage {
            config,
            runtime,
            lengths,
            ..
        } = &self.stage;
        for entry in measured.iter().filter(|_| config.profile) {
            let Entry::Tollgate(variant) = entry else {
                continue;
            };
            let name = variant.name();
            writeln!(
                io::stderr(),
                "counting instructions, allocations and system calls of {name} …"
            )?;
            let dir = self.dir.path().join(format!("{name}-profile"));
            let profile = profile::measure(*variant, config, runtime, &dir, mock, lengths.plain)?;
            found.insert(name.to_owned(), profile);
        }
        Ok(found)
    }
}

/// A directory for everything, removed with its owner.
fn directory(config: &Config) -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix("tollgate-overhead-")
        .disable_cleanup(config.keep);
    let directory = match &config.dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    };
    directory.context("making a directory")
}
