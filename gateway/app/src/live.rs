//! `tollgate report --live`: how caps stand in a running gateway, and when they will be reached.
//!
//! Asks the admin API and prints; every look is one line in the operators' records. Knows no
//! more than the answer says. Worst case: a gateway that goes away while it is watched ends the
//! watching.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use tollgate_core::ids::TenantId;
use tollgate_core::time::Timestamp;

use crate::operator::Operator;
use crate::output;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Puts the cursor of a terminal at its beginning and clears what is there (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// How live figures are asked for.
#[derive(Debug, Args)]
pub(crate) struct Live {
    /// How caps and limits stand in the running gateway, how fast money goes, and when a cap will
    /// be reached at that pace
    #[arg(long, conflicts_with_all = ["by", "from", "to", "top", "sort", "format", "refusals", "conditions", "records"])]
    pub(crate) live: bool,
    /// Look again every second, on a terminal
    #[arg(long, requires = "live", conflicts_with = "json")]
    watch: bool,
    /// The gateway's admin API, if it does not run on this data directory
    #[arg(long, value_name = "URL", requires = "live")]
    pub(crate) admin: Option<String>,
}

impl Live {
    /// Does it.
    ///
    /// # Errors
    /// If the gateway cannot be reached or says no.
    pub(crate) fn run(
        &self,
        operator: &Operator,
        tenant: Option<&str>,
        json: bool,
    ) -> anyhow::Result<()> {
        let path = match tenant {
            // An id needs no escaping.
            Some(tenant) => format!("/v1/live?tenant={}", tenant.parse::<TenantId>()?),
            None => "/v1/live".to_owned(),
        };
        if !self.watch {
            let figures = operator.get(&path)?;
            return if json {
                output::json(&figures)
            } else {
                output::data(&table(&figures)?)
            };
        }
        if !std::io::stdout().is_terminal() {
            bail!("--watch draws on a terminal, and standard output is none");
        }
        loop {
            let figures = table(&operator.get(&path)?)?;
            output::data(&format!("{CLEAR}{figures}"))?;
            std::thread::sleep(EVERY);
        }
    }
}

/// The answer for people.
fn table(figures: &Value) -> anyhow::Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let since = seconds(&figures["watched_since"]);
    let mut out = format!(
        "{}  {} calls in flight  rates since {since}\n\n",
        seconds(&figures["at"]),
        figures["calls_in_flight"],
    );
    let tenants = figures["tenants"].as_array();
    let tenants = tenants.context("the gateway's answer has no tenants")?;
    let of = |name: &str| -> Vec<&Value> {
        let lists = tenants.iter().filter_map(|tenant| tenant[name].as_array());
        lists.flatten().collect()
    };
    let head = [
        "CAP",
        "LIMIT",
        "SETTLED",
        "RESERVED",
        "REMAINING",
        "USD/H 5MIN",
        "USD/H 1H",
        "REACHED",
        "RESETS",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for cap in of("caps") {
        let (fast, slow) = (&cap["burn"]["last_5_minutes"], &cap["burn"]["last_hour"]);
        rows.push(vec![
            text(&cap["key"]),
            text(&cap["limit_usd"]),
            text(&cap["settled_usd"]),
            text(&cap["reserved_usd"]),
            text(&cap["remaining_usd"]),
            cents(&fast["usd_per_hour"]),
            cents(&slow["usd_per_hour"]),
            reached(fast),
            seconds(&cap["resets_at"]),
        ]);
    }
    out.push_str(&output::table(&rows));
    let limits = of("limits");
    if !limits.is_empty() {
        let mut rows = vec![["LIMIT", "SIZE", "LEFT"].map(str::to_owned).to_vec()];
        for limit in limits {
            let numbers = [&limit["limit"], &limit["left"]].map(ToString::to_string);
            rows.push([vec![text(&limit["key"])], numbers.to_vec()].concat());
        }
        out.push('\n');
        out.push_str(&output::table(&rows));
    }
    for (count, what) in [
        (
            left_out(tenants),
            "tasks of these tenants are active and not shown",
        ),
        (
            figures["tenants_left_out"].as_u64(),
            "more tenants are not shown",
        ),
    ] {
        if let Some(count @ 1..) = count {
            out.push_str(&format!("({count} {what})\n"));
        }
    }
    Ok(out)
}

fn left_out(tenants: &[Value]) -> Option<u64> {
    let tasks = tenants
        .iter()
        .filter_map(|of| of["tasks_left_out"].as_u64());
    Some(tasks.sum())
}

/// What the pace of the last five minutes leads to.
fn reached(forecast: &Value) -> String {
    match forecast["reaches_limit"].as_str() {
        Some("at") => seconds(&forecast["reaches_limit_at"]),
        Some("reached") => "reached".to_owned(),
        Some("not_before_reset") => "not before reset".to_owned(),
        _ => "-".to_owned(),
    }
}

/// A time without its fractions of a second.
fn seconds(time: &Value) -> String {
    let parsed: Option<Timestamp> = time.as_str().and_then(|text| text.parse().ok());
    parsed.map_or("-".to_owned(), |time| {
        let text = Timestamp::from_seconds(time.as_seconds()).to_string();
        text.replace(".000000Z", "Z")
    })
}

/// A pace, cut after the fourth decimal place: it is never as exact as money is.
fn cents(pace: &Value) -> String {
    let text = pace.as_str().unwrap_or("-");
    match text.split_once('.') {
        Some((whole, part)) if part.len() > 4 => {
            format!("{whole}.{}", part.get(..4).unwrap_or(part))
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_says_how_each_cap_stands_and_where_the_pace_leads() {
        let forecast = |reach: &str, at: Option<&str>| json!({"usd_per_hour": "1.2345678", "reaches_limit": reach, "reaches_limit_at": at});
        let fast = forecast("at", Some("2026-11-23T13:00:00.250000Z"));
        let figures = json!({
            "at": "2026-11-23T12:00:00.000000Z", "watched_since": "2026-11-23T08:00:00.5Z",
            "calls_in_flight": 3, "tenants_left_out": 0,
            "tenants": [{"tenant": "acme", "tasks_left_out": 2,
                "caps": [{"key": "acme/tenant/day:2026-11-23", "limit_usd": "5",
                    "settled_usd": "3", "reserved_usd": "0.5", "remaining_usd": "1.5",
                    "resets_at": "2026-11-24T00:00:00.000000Z",
                    "burn": {"last_5_minutes": fast, "last_hour": forecast("never", None)}}],
                "limits": [{"key": "acme/tenant/concurrent_requests", "limit": 9, "left": 7}]}],
        });
        let expected = "\
2026-11-23T12:00:00Z  3 calls in flight  rates since 2026-11-23T08:00:00Z

CAP                         LIMIT  SETTLED  RESERVED  REMAINING  USD/H 5MIN  USD/H 1H  REACHED               RESETS
acme/tenant/day:2026-11-23  5      3        0.5       1.5        1.2345      1.2345    2026-11-23T13:00:00Z  2026-11-24T00:00:00Z

LIMIT                            SIZE  LEFT
acme/tenant/concurrent_requests  9     7
(2 tasks of these tenants are active and not shown)
";
        assert_eq!(table(&figures).expect("a table"), expected);
        assert!(table(&json!({})).is_err());
    }
}
