//! The commands that run several gateways at once.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tollgate_loadtest::proof::{self, FleetConfig, UpgradeConfig};

use super::{CommonArgs, exit, on_threads, tell_all};

#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Callers at once.
    #[arg(long, default_value_t = 1_000)]
    callers: u64,
    /// Seconds of each phase but the one in which a replica is cut off, which has 20.
    #[arg(long, default_value_t = 15)]
    phase_seconds: u64,
    /// The cap of the day of each tenant, in US dollars.
    #[arg(long, default_value = "0.05")]
    cap_usd: String,
    /// One form of Redis only: cluster or sentinel.
    #[arg(long)]
    only: Option<String>,
    /// Already in a network namespace of its own.
    #[arg(long, hide = true)]
    inside: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpgradeArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Streams that are open at any time.
    #[arg(long, default_value_t = 2_000)]
    streams: u64,
    /// Callers of plain calls on connections that they keep.
    #[arg(long, default_value_t = 32)]
    callers: u64,
    /// Hand-overs, one after the other.
    #[arg(long, default_value_t = 3)]
    hand_overs: u64,
    /// Gateways behind the balancer, restarted one after the other; 0 leaves that out.
    #[arg(long, default_value_t = 3)]
    gateways: u64,
    /// The program of haproxy.
    #[arg(long, default_value = "/usr/sbin/haproxy")]
    haproxy: PathBuf,
}

pub(crate) fn fleet(args: FleetArgs) -> anyhow::Result<ExitCode> {
    if !args.inside {
        return Ok(exit(proof::in_a_namespace()?));
    }
    let (common, json) = args.common.split();
    let config = FleetConfig {
        common,
        callers: args.callers,
        phase: Duration::from_secs(args.phase_seconds),
        cap_usd: args.cap_usd,
        only: args.only,
    };
    let all = on_threads(proof::fleet(&config))?;
    let mut objects = serde_json::Map::new();
    let mut held = true;
    for (form, found) in &all {
        writeln!(io::stderr(), "fleet over redis {form}\n{}", found.table())?;
        held &= found.hold();
        objects.insert((*form).to_owned(), found.to_json());
    }
    for name in ["overshoot_pico_usd", "lost_records"] {
        let sum: i64 = all.iter().map(|(_, found)| found.figure(name)).sum();
        objects.insert(name.to_owned(), sum.into());
    }
    objects.insert("held".to_owned(), held.into());
    if json {
        writeln!(io::stdout(), "{}", serde_json::Value::Object(objects))?;
    }
    Ok(exit(held))
}

pub(crate) fn upgrade(args: UpgradeArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let config = UpgradeConfig {
        common,
        streams: args.streams,
        callers: args.callers,
        hand_overs: args.hand_overs,
        gateways: args.gateways,
        haproxy: args.haproxy,
    };
    let all = on_threads(proof::upgrade(&config))?;
    tell_all("upgrade", &all, &proof::UPGRADE_BOUNDS, json)
}
