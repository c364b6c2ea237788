//! `tollgate log`: how much a running gateway says in its log.
//!
//! Asks the admin API, where it is recorded who did. Worst case: the gateway is silenced, which ends
//! by itself only if a time was given, or with the process.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::operator::Operator;
use crate::output;

/// What can be done with the log of a running gateway.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show how much is said, or say more or less from now on, without a restart
    Level(Level),
}

/// Of which level.
#[derive(Debug, Args)]
pub(crate) struct Level {
    /// off, error, warn, info, debug or trace; or directives such as `info,tollgate_proxy=debug`
    #[arg(value_name = "LEVEL|DIRECTIVES")]
    level: Option<String>,
    /// Go back to what the gateway was started with after this time, such as 30s, 10m or 2h; else
    /// it stays until the gateway ends
    #[arg(long = "for", value_name = "TIME", requires = "level", value_parser = time)]
    lasts: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The gateway's admin API, if it does not run on this data directory
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

/// A whole number of seconds, minutes or hours.
fn time(text: &str) -> Result<Duration, String> {
    const FORM: &str = "a time is a whole number with s, m or h behind it, such as 10m";
    let unit = text.chars().next_back().unwrap_or_default();
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(FORM.to_owned()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = number.parse().map_err(|_no_number| FORM.to_owned())?;
    let lasts = number.checked_mul(seconds).filter(|lasts| *lasts > 0);
    lasts
        .map(Duration::from_secs)
        .ok_or_else(|| FORM.to_owned())
}

impl LogCommand {
    /// Does it.
    ///
    /// # Errors
    /// If the gateway cannot be reached or says no.
    pub(crate) fn run(
        self,
        find: impl Fn(Option<&str>) -> anyhow::Result<Operator>,
    ) -> anyhow::Result<()> {
        let Self::Level(asked) = self;
        let operator = find(asked.admin.as_deref())?;
        let standing = match &asked.level {
            None => operator.get("/v1/log")?,
            Some(level) => {
                let mut body = json!({ "level": level });
                if let Some(lasts) = asked.lasts {
                    body["for_seconds"] = lasts.as_secs().into();
                }
                operator.put("/v1/log", &body)?
            }
        };
        if asked.json {
            return output::json(&standing);
        }
        output::data(&told(&standing))
    }
}

fn told(standing: &Value) -> String {
    let text = |name: &str| standing[name].as_str().unwrap_or("-");
    let (level, started_with) = (text("level"), text("started_with"));
    match standing["until"].as_str() {
        Some(until) => format!("{level} until {until}, then {started_with} again\n"),
        None if level == started_with => format!("{level}\n"),
        None => format!("{level} until the gateway ends; it was started with {started_with}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_whole_number_of_a_unit() {
        for (text, seconds) in [("30s", 30), ("10m", 600), ("2h", 7_200)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "m",
            "10",
            "0m",
            "-1m",
            "1.5h",
            "1d",
            "10 m",
            "99999999999999999999s",
            "5124095576030432h",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_told_what_is_in_force_and_what_comes_then() {
        let standing = |level: &str, until: Option<&str>| {
            told(&json!({"level": level, "started_with": "info", "until": until}))
        };
        assert_eq!(standing("info", None), "info\n");
        assert_eq!(
            standing("debug", Some("2026-11-23T10:00:00Z")),
            "debug until 2026-11-23T10:00:00Z, then info again\n"
        );
        assert_eq!(
            standing("warn", None),
            "warn until the gateway ends; it was started with info\n"
        );
    }
}
