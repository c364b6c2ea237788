//! The commands that measure what the gateway costs: beside others, and beside what was agreed on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tollgate_loadtest::overhead;

use super::exit;

#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct OverheadArgs {
    /// What is measured, besides the mock itself: nginx, haproxy, tollgate, tollgate-bare, tollgate-redis, any
    /// directory of --peers, or all.
    #[arg(long, value_delimiter = ',', default_value = "direct,nginx,tollgate")]
    targets: Vec<String>,
    /// Directory with a directory for each peer, and a peer.toml in it.
    #[arg(long, default_value = "loadtest/peers")]
    peers: PathBuf,
    /// Where `make bench-peers` has installed peers.
    #[arg(long, default_value = "target/bench")]
    installed: PathBuf,
    /// The gateway's program.
    #[arg(long, default_value = "target/release/tollgate")]
    gateway: PathBuf,
    /// The program of nginx, if it is not to be looked for.
    #[arg(long)]
    nginx: Option<PathBuf>,
    /// Where to make the temporary directory; the gateway's data lie in it.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Leave that directory behind, with the gateway's data and callgrind's profiles.
    #[arg(long)]
    keep: bool,
    /// File for what the gateway says on stderr.
    #[arg(long)]
    gateway_log: Option<PathBuf>,
    /// Rounds, each with every target.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each target in each round, for plain calls and again for streams.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Connections with plain calls.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Connections with streams.
    #[arg(long, default_value_t = 32)]
    stream_connections: usize,
    /// Events of each stream.
    #[arg(long, default_value_t = 54)]
    events: usize,
    /// The mock's pause between two events, in milliseconds.
    #[arg(long, default_value_t = 1)]
    event_pause_ms: u64,
    /// Measure delays, start-up and memory as well.
    #[arg(long)]
    full: bool,
    /// Open streams with --full when memory is looked at; 0 leaves that out.
    #[arg(long, default_value_t = 2_000)]
    open_streams: usize,
    /// Do not count instructions, allocations and system calls.
    #[arg(long)]
    no_profile: bool,
    /// The ratio of CPU to nginx that is still good enough.
    #[arg(long, default_value_t = 1.8)]
    bar: f64,
    /// Exit with 1 if the ratio is above the bar.
    #[arg(long)]
    enforce: bool,
    /// Print every sample as a line of JSON, and the summary as the last one.
    #[arg(long)]
    json: bool,
}

pub(crate) fn overhead(args: OverheadArgs) -> anyhow::Result<ExitCode> {
    let config = overhead::Config {
        targets: args.targets,
        peers: args.peers,
        installed: args.installed,
        gateway: args.gateway,
        nginx: args.nginx,
        dir: args.dir,
        keep: args.keep,
        gateway_log: args.gateway_log,
        rounds: args.rounds,
        time: Duration::try_from_secs_f64(args.seconds)?,
        connections: args.connections,
        stream_connections: args.stream_connections,
        request_bytes: 2048,
        answer_bytes: 1024,
        events: args.events,
        event_pause: Duration::from_millis(args.event_pause_ms),
        full: args.full,
        open_streams: args.open_streams,
        profile: !args.no_profile,
        bar: args.bar,
    };
    let within_bar = overhead::run(&config, args.json)?;
    Ok(if args.enforce && !within_bar {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// The gateway's program.
    #[arg(long, default_value = "target/debug/tollgate")]
    gateway: PathBuf,
    /// File for what the gateway says on stderr.
    #[arg(long)]
    gateway_log: Option<PathBuf>,
    /// File with what was agreed on.
    #[arg(long, default_value = "loadtest/baseline.toml")]
    baseline: PathBuf,
    /// Make what a call costs now what is agreed on.
    #[arg(long)]
    renew: bool,
}

pub(crate) fn cost(args: CostArgs) -> anyhow::Result<ExitCode> {
    let config = overhead::CostConfig {
        gateway: args.gateway,
        gateway_log: args.gateway_log,
        baseline: args.baseline,
        renew: args.renew,
    };
    Ok(exit(overhead::cost(&config)?))
}
