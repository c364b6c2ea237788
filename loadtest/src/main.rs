//! `loadtest`: runs the mock provider, measures what the gateway costs.
//!
//! Data goes to stdout, talk to stderr. Everything stays on loopback unless told otherwise.

mod growing;
mod many;
mod measure;
mod provider;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tollgate_loadtest::load::{self, LoadArgs};
use tollgate_loadtest::proof::{
    self, Common, CrashConfig, DriftConfig, Findings, OverloadConfig, OvershootConfig,
    RecordsConfig, RevokeConfig, TenantsConfig, What,
};
use tollgate_loadtest::report::{self, ReportArgs};

/// Load tools for Tollgate.
#[derive(Debug, Parser)]
#[command(name = "loadtest")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the mock provider until interrupted; prints one line of JSON once it listens.
    Mock(provider::MockArgs),
    /// Load any target that speaks OpenAI's or Anthropic's language, and measure latency and throughput.
    ///
    /// Prints tables on stderr. Exit code 1 if no call was answered, or if the p99 of --p99-ms was not held.
    Load(Box<LoadArgs>),
    /// Measure what the gateway costs per call, beside nginx and others in the same run.
    ///
    /// Prints a table on stderr. Exit code 1 if an answer was wrong or, with --enforce, if the ratio is above the bar.
    Overhead(measure::OverheadArgs),
    /// Count instructions, allocations and system calls of a plain call and a stream, and compare with a baseline.
    ///
    /// Prints a table. Exit code 1 if something has become dearer by more than its tolerance.
    Cost(measure::CostArgs),
    /// Show that a cap is never passed, and never locked before it is used up.
    ///
    /// Prints a table for each kind of fault on stderr. Exit code 1 if a promise did not hold.
    Overshoot(OvershootArgs),
    /// Show that `kill -9` loses no record, counts none twice and leaves no money reserved.
    ///
    /// Prints a table on stderr. Exit code 1 if a promise did not hold.
    Crash(CrashArgs),
    /// Show that report, records and counters are equal to the last pico-US-dollar.
    ///
    /// Prints a table on stderr. Exit code 1 if a promise did not hold.
    Drift(DriftArgs),
    /// Show that neither `kill -9` nor an object store that is away loses, doubles or misplaces a record.
    ///
    /// Prints a table on stderr. Exit code 1 if a promise did not hold.
    Records(RecordsArgs),
    /// Show that a revocation refuses calls within 1 s, ends open streams within 5 s, and nothing else.
    ///
    /// Prints a table for each kind on stderr. Exit code 1 if a promise did not hold.
    Revoke(RevokeArgs),
    /// Show that a fleet over Redis keeps every cap and every record, whatever is killed or cut off.
    ///
    /// Needs root (it runs in a network namespace of its own), haproxy, redis-server, redis-sentinel and redis-cli.
    /// Prints a table for each form of Redis on stderr. Exit code 1 if a promise did not hold.
    Fleet(many::FleetArgs),
    /// Show that neither a hand-over to a new process nor a rolling restart behind a balancer fails a call.
    ///
    /// Prints a table for each way on stderr. Exit code 1 if a promise did not hold.
    Upgrade(many::UpgradeArgs),
    /// Show that calls that are admitted stay quick, and modest tenants served, whatever is offered.
    ///
    /// Prints a table on stderr. Exit code 1 if a promise did not hold.
    Overload(OverloadArgs),
    /// Show what ten thousand tenants and a hundred thousand tokens take, beside a few.
    ///
    /// Prints a table on stderr. Exit code 1 if a promise did not hold.
    Tenants(TenantsArgs),
    /// Show what a call, memory and a start take as tenants, tokens, bytes, events, streams and rules grow.
    ///
    /// Prints a table of each on stderr. Exit code 1 if something grows faster than it must.
    Growth(growing::GrowthArgs),
    /// Show what reports over many records cost in time and memory, and that their sums are right.
    ///
    /// Prints a table on stderr. Exit code 1 if a sum was wrong.
    Report(ReportArgs),
}

/// What the scenarios about money share.
#[derive(Debug, Args)]
struct CommonArgs {
    /// The gateway's program.
    #[arg(long, default_value = "target/release/tollgate")]
    gateway: PathBuf,
    /// Where chance begins; the same number makes the same calls.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File for what the gateway says on stderr.
    #[arg(long)]
    gateway_log: Option<PathBuf>,
    /// Print JSON on stdout, one object per scenario.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct OvershootArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Callers at once.
    #[arg(long, default_value_t = 1_000)]
    callers: u64,
    /// Calls of each.
    #[arg(long, default_value_t = 5)]
    calls: u64,
    /// The cap of the day, in US dollars.
    #[arg(long, default_value = "0.50")]
    cap_usd: String,
}

#[derive(Debug, Args)]
struct CrashArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How often the gateway is killed.
    #[arg(long, default_value_t = 50)]
    kills: u64,
    /// Callers at once.
    #[arg(long, default_value_t = 64)]
    callers: u64,
}

#[derive(Debug, Args)]
struct DriftArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Calls altogether.
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
    /// Callers at once.
    #[arg(long, default_value_t = 64)]
    callers: u64,
}

#[derive(Debug, Args)]
struct RecordsArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Calls altogether.
    #[arg(long, default_value_t = 200_000)]
    calls: u64,
    /// Tenants.
    #[arg(long, default_value_t = 50)]
    tenants: u64,
    /// Callers at once.
    #[arg(long, default_value_t = 64)]
    callers: u64,
    /// Seconds between two kills, on average.
    #[arg(long, default_value_t = 3)]
    kill_seconds: u64,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Open streams, of four tenants.
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// What is revoked: tenant, agent, task or token; otherwise one after the other.
    #[arg(long)]
    what: Option<What>,
}

#[derive(Debug, Args)]
struct OverloadArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Offered load, in hundredths of what the gateway can serve.
    #[arg(long, default_value_t = 125)]
    percent: u64,
    /// Seconds that it lasts.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Connections that it comes over.
    #[arg(long, default_value_t = 9_000)]
    connections: usize,
    /// Tenants, one of them greedy.
    #[arg(long, default_value_t = 10)]
    tenants: usize,
    /// What the provider takes for an answer, in milliseconds.
    #[arg(long, default_value_t = 50)]
    answer_ms: u64,
    /// The gateway's `lag_ms`.
    #[arg(long, default_value_t = 100)]
    lag_ms: u64,
}

#[derive(Debug, Args)]
struct TenantsArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Tenants.
    #[arg(long, default_value_t = 10_000)]
    tenants: usize,
    /// Tenants of the gateway beside it.
    #[arg(long, default_value_t = 10)]
    few: usize,
    /// Live tokens.
    #[arg(long, default_value_t = 100_000)]
    tokens: usize,
    /// Rounds of calls, each to either gateway.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Mock(args) => provider::run(args),
        Command::Load(args) => load::run(&args).map(exit),
        Command::Overhead(args) => measure::overhead(args),
        Command::Cost(args) => measure::cost(args),
        Command::Overshoot(args) => overshoot(args),
        Command::Crash(args) => crash(args),
        Command::Drift(args) => drift(args),
        Command::Records(args) => records(args),
        Command::Revoke(args) => revoke(args),
        Command::Fleet(args) => many::fleet(args),
        Command::Upgrade(args) => many::upgrade(args),
        Command::Overload(args) => overload(args),
        Command::Tenants(args) => tenants(args),
        Command::Growth(args) => growing::growth(args),
        Command::Report(args) => report::run(&args).map(exit),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl CommonArgs {
    fn split(self) -> (Common, bool) {
        let common = Common {
            gateway: self.gateway,
            seed: self.seed,
            gateway_log: self.gateway_log,
        };
        (common, self.json)
    }
}

fn overshoot(args: OvershootArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let config = OvershootConfig {
        common,
        callers: args.callers,
        calls: args.calls,
        cap_usd: args.cap_usd,
    };
    let all = on_threads(proof::overshoot(&config))?;
    let mut held = true;
    let mut objects = serde_json::Map::new();
    for (faults, found) in &all {
        writeln!(io::stderr(), "overshoot, {faults}\n{}", found.table())?;
        held &= found.hold();
        objects.insert((*faults).to_owned(), found.to_json());
    }
    // The figure that matters, where a program looks first: the worst of all runs.
    let worst = all
        .iter()
        .map(|(_, found)| found.figure("overshoot_pico_usd"));
    objects.insert(
        "overshoot_pico_usd".to_owned(),
        worst.max().unwrap_or(0).into(),
    );
    objects.insert("held".to_owned(), held.into());
    if json {
        writeln!(io::stdout(), "{}", serde_json::Value::Object(objects))?;
    }
    Ok(exit(held))
}

fn crash(args: CrashArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let config = CrashConfig {
        common,
        kills: args.kills,
        callers: args.callers,
    };
    tell("crash", &on_threads(proof::crash(&config))?, json)
}

fn drift(args: DriftArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let config = DriftConfig {
        common,
        calls: args.calls,
        callers: args.callers,
    };
    tell("drift", &on_threads(proof::drift(&config))?, json)
}

fn records(args: RecordsArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let config = RecordsConfig {
        common,
        calls: args.calls,
        tenants: args.tenants,
        callers: args.callers,
        kill_every: Duration::from_secs(args.kill_seconds),
    };
    tell("records", &on_threads(proof::records(&config))?, json)
}

fn revoke(args: RevokeArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let config = RevokeConfig {
        common,
        streams: args.streams,
        what: args.what.map_or(What::ALL.to_vec(), |what| vec![what]),
    };
    let all = on_threads(proof::revoke(&config))?;
    tell_all("revoke", &all, &proof::REVOKE_BOUNDS, json)
}

fn tell_all(
    name: &str,
    all: &[(impl std::fmt::Display, Findings)],
    bounds: &[&str],
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut objects = serde_json::Map::new();
    for (what, found) in all {
        writeln!(io::stderr(), "{name} {what}\n{}", found.table())?;
        objects.insert(what.to_string(), found.to_json());
    }
    // The figures that matter, where a program looks first: the worst of all runs.
    for name in bounds.iter().copied() {
        let worst = all.iter().map(|(_, found)| found.figure(name)).max();
        objects.insert(name.to_owned(), worst.unwrap_or(0).into());
    }
    let held = all.iter().all(|(_, found)| found.hold());
    objects.insert("held".to_owned(), held.into());
    if json {
        writeln!(io::stdout(), "{}", serde_json::Value::Object(objects))?;
    }
    Ok(exit(held))
}

fn overload(args: OverloadArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let config = OverloadConfig {
        common,
        percent: args.percent,
        time: Duration::from_secs(args.seconds),
        connections: args.connections,
        tenants: args.tenants,
        answer: Duration::from_millis(args.answer_ms),
        lag_ms: args.lag_ms,
    };
    tell("overload", &on_one_thread(proof::overload(&config))?, json)
}

fn tenants(args: TenantsArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let config = TenantsConfig {
        common,
        tenants: args.tenants,
        few: args.few,
        tokens: args.tokens,
        rounds: args.rounds,
        time: Duration::from_secs(args.seconds),
    };
    tell("tenants", &on_one_thread(proof::tenants(&config))?, json)
}

fn tell(name: &str, found: &Findings, json: bool) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "{name}\n{}", found.table())?;
    if json {
        writeln!(io::stdout(), "{}", found.to_json())?;
    }
    Ok(exit(found.hold()))
}

fn exit(held: bool) -> ExitCode {
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn on_threads<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
