//! What the gateway costs: CPU per call beside nginx, in the same run, on the same mock.
//!
//! In every round each target (the mock directly, nginx as a plain reverse proxy, the gateway with
//! everything on) serves the same closed loop of callers for the same time; the order rotates from
//! round to round. CPU is what the kernel booked to the target's own processes, user and system,
//! over the calls they finished meanwhile. The ratio to nginx is formed within the run, because
//! absolute figures move with the machine.
//!
//! It knows the gateway as a program with a command line, nothing of its insides. One answer that is
//! not right ends the run. It is bounded: rounds × seconds × targets × modes.

mod client;
mod figures;
mod profile;
mod site;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::children::{Cpu, Running};
use client::{Aim, Expected};
use figures::{Figures, PerCall, Sample, rounded};
use site::{Gateway, Site};

/// What to measure, and how long.
#[derive(Debug, Clone)]
pub struct Config {
    /// The gateway's program.
    pub gateway: PathBuf,
    /// nginx' program.
    pub nginx: PathBuf,
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
    /// The mock's pause before each event.
    pub event_pause: Duration,
    /// Whether to count instructions, allocations and system calls too.
    pub profile: bool,
    /// The ratio that is still good enough.
    pub bar: f64,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Target {
    Direct,
    Nginx,
    Tollgate,
}

impl Target {
    const ALL: [Self; 3] = [Self::Direct, Self::Nginx, Self::Tollgate];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Tollgate => "tollgate",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Direct => "(mock)",
            Self::Nginx | Self::Tollgate => self.name(),
        }
    }
}

/// How answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Plain,
    Stream,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Plain, Self::Stream];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Stream => "stream",
        }
    }
}

impl Config {
    /// One chat completion, head and body.
    fn request(&self, addr: SocketAddr, token: &str, mode: Mode) -> Bytes {
        let stream = match mode {
            Mode::Plain => "",
            // The mock looks for it at the front.
            Mode::Stream => r#""stream":true,"stream_options":{"include_usage":true},"#,
        };
        let start = format!(
            r#"{{{stream}"model":"gpt-4o-mini","max_tokens":256,"messages":[{{"role":"user","content":""#
        );
        let end = r#""}]}"#;
        let text_bytes = self.request_bytes.saturating_sub(start.len() + end.len());
        let text: String = "Tell me about toll gates. "
            .chars()
            .cycle()
            .take(text_bytes)
            .collect();
        let length = start.len() + text.len() + end.len();
        Bytes::from(format!(
            "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\naccept: application/json\r\nuser-agent: loadtest\r\n\
             content-length: {length}\r\n\r\n{start}{text}{end}"
        ))
    }

    fn setting(&self) -> Value {
        json!({
            "rounds": self.rounds, "seconds": self.time.as_secs_f64(), "connections": self.connections,
            "stream_connections": self.stream_connections, "request_bytes": self.request_bytes,
            "answer_bytes": self.answer_bytes, "events": self.events,
            "event_pause_ms": self.event_pause.as_secs_f64() * 1000.0,
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
        })
    }
}

/// The programs of one run.
struct Bench<'a> {
    config: &'a Config,
    site: Site,
    runtime: tokio::runtime::Runtime,
    mock: (Running, SocketAddr),
    nginx: (Running, SocketAddr),
    gateway: Gateway,
    expected_plain: Expected,
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
        config.time <= Duration::from_secs(60),
        "at most 60 seconds each, please"
    );
    let mut bench = Bench::start(config)?;
    let mut samples = Vec::new();
    for round in 0..config.rounds {
        for sample in bench.round(round)? {
            if json {
                writeln!(io::stdout(), "{}", serde_json::to_string(&sample)?)?;
            }
            samples.push(sample);
        }
    }
    let figures = bench.finish(samples)?;
    let summary = figures.summary(&config.setting(), config.bar);
    writeln!(io::stderr(), "{}", figures.table())?;
    if json {
        writeln!(io::stdout(), "{summary}")?;
    }
    Ok(figures
        .ratio(Mode::Plain)
        .0
        .is_some_and(|ratio| ratio <= config.bar))
}

impl<'a> Bench<'a> {
    fn start(config: &'a Config) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let site = Site::new(config)?;
        let mock = site.mock(config)?;
        let nginx = site.nginx(config, mock.1)?;
        site.write_policies(config, mock.1)?;
        let gateway = site.gateway(config, &[])?;
        let request = config.request(mock.1, "none", Mode::Plain);
        let aim = Aim {
            addr: mock.1,
            request,
            expected: Expected::Anything,
        };
        let length = runtime
            .block_on(client::probe(&aim))
            .context("asking the mock")?;
        Ok(Self {
            config,
            site,
            runtime,
            mock,
            nginx,
            gateway,
            expected_plain: Expected::Bytes(length),
        })
    }

    /// Each target in each mode, once.
    fn round(&mut self, round: usize) -> anyhow::Result<Vec<Sample>> {
        let token = self.site.mint(self.config, &format!("round-{round}"))?;
        let mut samples = Vec::new();
        for mode in Mode::ALL {
            for turn in 0..Target::ALL.len() {
                let Some(&target) = Target::ALL.get((turn + round) % Target::ALL.len()) else {
                    continue;
                };
                let sample = self.measure(round, target, mode, &token);
                let sample = sample
                    .with_context(|| format!("{} {} round {round}", target.name(), mode.name()))?;
                writeln!(
                    io::stderr(),
                    "round {round}: {:<8} {:<6} {:>7.1} µs/call {:>7.0} calls/s",
                    target.name(),
                    mode.name(),
                    sample.cpu_us,
                    sample.rps
                )?;
                samples.push(sample);
            }
        }
        Ok(samples)
    }

    fn measure(
        &self,
        round: usize,
        target: Target,
        mode: Mode,
        token: &str,
    ) -> anyhow::Result<Sample> {
        let (process, addr) = match target {
            Target::Direct => (&self.mock.0, self.mock.1),
            Target::Nginx => (&self.nginx.0, self.nginx.1),
            Target::Tollgate => (&self.gateway.process, self.gateway.addr),
        };
        let (connections, expected) = match mode {
            Mode::Plain => (self.config.connections, self.expected_plain),
            Mode::Stream => (
                self.config.stream_connections,
                Expected::Events(self.config.events),
            ),
        };
        let request = self.config.request(addr, token, mode);
        let aim = Aim {
            addr,
            request,
            expected,
        };
        // A fifth of the time, unmeasured, fills pools and caches.
        let warm_up = self.config.time / 5;
        self.runtime
            .block_on(client::with_load(&aim, connections, async |tally| {
                tokio::time::sleep(warm_up).await;
                tally.take_latencies();
                let (start, calls_before, cpu_before) =
                    (Instant::now(), tally.calls(), process.cpu()?);
                tokio::time::sleep(self.config.time).await;
                let (time, calls, cpu) = (
                    start.elapsed(),
                    tally.calls() - calls_before,
                    process.cpu()?.since(cpu_before),
                );
                ensure!(calls > 0, "no call was finished");
                Ok(sample(
                    round,
                    target,
                    mode,
                    time,
                    calls,
                    cpu,
                    &tally.take_latencies(),
                ))
            }))
    }

    /// Ends what was compared, counts what can be counted.
    fn finish(mut self, samples: Vec<Sample>) -> anyhow::Result<Figures> {
        let memory_kib = self.gateway.process.memory_kib();
        drop(self.gateway);
        let (user_instructions, allocations, syscalls) = if self.config.profile {
            writeln!(
                io::stderr(),
                "counting instructions, allocations and system calls …"
            )?;
            let (instructions, allocations) = profile::instructions_and_allocations(
                &mut self.site,
                self.config,
                &self.runtime,
                self.expected_plain,
            );
            let syscalls = profile::syscalls(
                &mut self.site,
                self.config,
                &self.runtime,
                self.expected_plain,
            );
            (instructions, allocations, syscalls)
        } else {
            let lacking = || PerCall::lacking("none", "not asked for");
            (lacking(), lacking(), lacking())
        };
        Ok(Figures {
            samples,
            memory_kib,
            user_instructions,
            allocations,
            syscalls,
        })
    }
}

fn sample(
    round: usize,
    target: Target,
    mode: Mode,
    time: Duration,
    calls: u64,
    cpu: Cpu,
    latencies: &[u32],
) -> Sample {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and microseconds of a run stay far below 2^52"
    )]
    let [calls_made, total, user, system] =
        [calls, cpu.total(), cpu.user, cpu.system].map(|count| count as f64);
    let percentile = |percent: usize| {
        let index = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        latencies
            .get(index)
            .map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
    };
    let seconds = time.as_secs_f64();
    Sample {
        round,
        target,
        mode,
        calls,
        seconds: rounded(seconds),
        rps: rounded(calls_made / seconds),
        cpu_us: rounded(total / calls_made),
        cpu_user_us: rounded(user / calls_made),
        cpu_system_us: rounded(system / calls_made),
        p50_ms: percentile(50),
        p99_ms: percentile(99),
    }
}
