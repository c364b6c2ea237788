//! The command that lets work grow.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tollgate_loadtest::growth::{self, Config, Dimension};

use super::{CommonArgs, exit, on_threads};

#[derive(Debug, Args)]
pub(crate) struct GrowthArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// What is made to grow, with commas between: tenants, tokens, request-bytes, answer-bytes, events,
    /// streams, models, agents, endpoints, providers, model-limits; otherwise one after the other.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Dimension>,
    /// Leave out sizes below this one.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    least: u64,
    /// Leave out sizes beyond this one.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    most: u64,
    /// Seconds of calls in which CPU is measured, at each size.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Plain calls whose instructions are counted at each size, fewer where they are large; 0 counts none.
    #[arg(long, default_value_t = 1_000)]
    calls: u64,
    /// Directory for a plot of each dimension, as SVG.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

pub(crate) fn growth(args: GrowthArgs) -> anyhow::Result<ExitCode> {
    let (common, json) = args.common.split();
    let dimensions = if args.only.is_empty() {
        Dimension::ALL.to_vec()
    } else {
        args.only
    };
    let config = Config {
        common,
        dimensions,
        least: args.least,
        most: args.most,
        time: Duration::from_secs(args.seconds),
        calls: args.calls,
        plots: args.plots,
    };
    Ok(exit(on_threads(growth::run(&config, json))?))
}
