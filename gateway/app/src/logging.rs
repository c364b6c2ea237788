//! Where log lines go and what they look like.
//!
//! Lines go to standard error, one JSON object each unless asked otherwise. `TOLLGATE_LOG` takes
//! a level or `tracing`'s directives; what cannot be read counts as `info`, so that a typing
//! mistake never silences the log. What libraries write to the `log` crate arrives here as well.

mod json;
mod lines;

pub(crate) use lines::Flush;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::config::Vars;

/// What a log line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For reading at a terminal.
    Pretty,
}

/// Libraries that talk about their own insides at `info`.
const CHATTY: [&str; 4] = ["pingora_core=warn", "hyper=warn", "h2=warn", "rustls=warn"];

/// Starts logging. What still waits is written when the answer is dropped.
///
/// # Errors
/// If there is no thread to write with.
pub(crate) fn start(format: LogFormat, vars: &dyn Vars) -> std::io::Result<Flush> {
    let asked = vars.var("TOLLGATE_LOG");
    let asked = asked.as_deref().unwrap_or("info");
    let parsed = EnvFilter::try_new(asked);
    let understood = parsed.is_ok();
    let mut filter = parsed.unwrap_or_else(|_unreadable| EnvFilter::new("info"));
    if !asked.contains('=') {
        for directive in CHATTY.iter().filter_map(|text| text.parse().ok()) {
            filter = filter.add_directive(directive);
        }
    }
    let (lines, flush) = lines::Lines::start(std::io::stderr())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines);
    let started = match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .map_event_format(json::Flat)
            .try_init(),
        LogFormat::Pretty => lines.with_ansi(false).try_init(),
    };
    if started.is_ok() && !understood {
        tracing::warn!(asked, "TOLLGATE_LOG cannot be read; logging at info");
    }
    Ok(flush)
}
