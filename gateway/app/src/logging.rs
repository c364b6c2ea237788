//! Where log lines go and what they look like.
//!
//! Lines go to standard error, one JSON object each unless asked otherwise. `TOLLGATE_LOG` takes
//! a level or `tracing`'s directives; what cannot be read counts as `info`, so that a typing
//! mistake never silences the log. What is said can be changed while the process runs (`levels`).
//! What libraries write to the `log` crate arrives here as well.

mod calls;
mod json;
#[cfg(test)]
mod kept;
mod levels;
mod lines;
mod readable;

pub(crate) use levels::Levels;

use std::io::IsTerminal;
use std::sync::Arc;

use clap::ValueEnum;
use tollgate_core::record::CallLog;
use tollgate_proxy::call_log::CallEvents;
use tracing_subscriber::fmt::{FormatEvent, FormatFields, SubscriberBuilder};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::config::Vars;
use calls::CallLines;
use lines::{Flush, Lines};

/// What a log line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For reading at a terminal.
    Pretty,
}

/// A log that has been started.
pub(crate) struct Log {
    /// How much is said.
    pub(crate) levels: Arc<Levels>,
    /// Where calls' lines go.
    pub(crate) calls: Arc<dyn CallLog>,
    /// Writes what still waits when it is dropped.
    _flush: Flush,
}

/// Starts logging.
///
/// # Errors
/// If there is no thread to write with.
pub(crate) fn start(format: LogFormat, vars: &dyn Vars) -> std::io::Result<Log> {
    let asked = vars.var("TOLLGATE_LOG");
    let asked = asked.as_deref().unwrap_or("info");
    let parsed = levels::lenient(asked);
    let understood = parsed.is_some();
    let filter = parsed.unwrap_or_else(levels::usual);
    let in_force = if understood { asked } else { "info" };
    let terminal = std::io::stderr().is_terminal();
    let (no_color, term) = (vars.var("NO_COLOR"), vars.var("TERM"));
    let coloured = readable::in_colour(terminal, no_color.as_deref(), term.as_deref());
    let (lines, flush) = Lines::start(std::io::stderr())?;
    let calls: Arc<dyn CallLog> = match format {
        LogFormat::Json => Arc::new(CallLines(lines.clone())),
        LogFormat::Pretty => Arc::new(CallEvents),
    };
    let builder = fmt().with_env_filter(filter).with_writer(lines);
    let levels = match format {
        LogFormat::Json => {
            let json = builder.json().flatten_event(true);
            in_charge(json.map_event_format(json::Flat), in_force)
        }
        LogFormat::Pretty => {
            let plain = builder.with_ansi(false);
            let readable = readable::Readable { coloured };
            in_charge(plain.event_format(readable), in_force)
        }
    };
    let levels = levels.map_err(std::io::Error::other)?;
    if !understood {
        tracing::warn!(asked, "TOLLGATE_LOG cannot be read; logging at info");
    }
    Ok(Log {
        levels: Arc::new(levels),
        calls,
        _flush: flush,
    })
}

/// Lets it say what is said from now on, and keeps hold of how much.
fn in_charge<N, E>(
    builder: SubscriberBuilder<N, E, EnvFilter, Lines>,
    in_force: &str,
) -> Result<Levels, TryInitError>
where
    N: for<'writer> FormatFields<'writer> + Send + Sync + 'static,
    E: FormatEvent<Registry, N> + Send + Sync + 'static,
{
    let builder = builder.with_filter_reloading();
    let handle = builder.reload_handle();
    builder.finish().try_init()?;
    let put_in_force = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    Ok(Levels::new(in_force, Box::new(put_in_force)))
}
