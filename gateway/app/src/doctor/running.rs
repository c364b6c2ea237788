//! The gateway that runs: whether it is ready, which version it is, and figures that should be 0.
//!
//! Reads what anybody who reaches the admin listener may read, and needs no credential.

use std::net::SocketAddr;

use serde_json::Value;

use super::finding::{Area, Finding};
use crate::probe;

const AREA: Area = Area("gateway");

/// What the gateway says of itself.
pub(super) struct Facts {
    pub(super) admin: SocketAddr,
    /// Whether it is ready, and what it says of that.
    pub(super) ready: (u16, Value),
    /// Its version.
    pub(super) version: String,
    /// Its metrics.
    pub(super) metrics: String,
}

/// Metrics that should be at 0, whether it is a problem if they are not, and what to do.
const ZEROES: [(&str, bool, &str); 8] = [
    (
        "tollgate_cap_overshoot_nano_usd",
        true,
        "more is settled than a cap allowed (docs/runbooks.md)",
    ),
    (
        "tollgate_settled_above_reservation_total",
        true,
        "a price or a bound is wrong: the log names the calls (docs/prices.md)",
    ),
    (
        "tollgate_records_lost_total",
        true,
        "the disk took nothing for a while; see why (docs/operations.md)",
    ),
    (
        "tollgate_record_store_conflicts_total",
        true,
        "somebody else writes to the prefix of the record store (docs/records.md)",
    ),
    (
        "tollgate_purge_failures_total",
        false,
        "the log says whose records could not be purged (docs/audit.md)",
    ),
    (
        "tollgate_otlp_rejected_total",
        false,
        "the log says why the collector refuses records (docs/otlp.md)",
    ),
    (
        "tollgate_spans_dropped_total",
        false,
        "the collector takes too little; lower `sample_ratio` (docs/traces.md)",
    ),
    (
        "tollgate_scrub_hits_total",
        false,
        "an upstream sends keys back; its records say which (`tollgate.secret_scrubbed`)",
    ),
];

/// Metrics that should be at 1.
const ONES: [(&str, &str); 2] = [
    (
        "tollgate_policy_in_step",
        "the policy files hold mistakes and the last good ones are in force: `tollgate check`",
    ),
    (
        "tollgate_prices_in_step",
        "the price files hold mistakes and the last good ones are in force: the log says which",
    ),
];

/// How long records may wait to be handed over.
const OLDEST_SECONDS: u64 = 600;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts {
        admin,
        ready: (status, said),
        version,
        metrics,
    } = facts;
    let mut found = Vec::new();
    if *status == 200 {
        found.push(AREA.ok(format!("runs and is ready; its admin API is at {admin}")));
    } else {
        let lacks = listed(&said["missing"]);
        found.push(AREA.problem(
            format!("runs and is not ready: {lacks}"),
            "draining and listener pass by themselves; ledger: the disk takes nothing; shared_store: Redis; records_backlog: the record store",
        ));
    }
    if said["degraded"].is_array() {
        found.push(AREA.problem(
            "nobody is let in to the admin API: keys/admins.json cannot be used",
            "see docs/admin.md; `tollgate admin list` says what is wrong with it",
        ));
    }
    let own = env!("CARGO_PKG_VERSION");
    if version != own {
        found.push(AREA.warning(
            format!("version {version} runs, and this is {own}"),
            "take over with `tollgate serve --upgrade`, or use that version's commands",
        ));
    }
    for (name, bad, advice) in ZEROES {
        let sum = sum(metrics, name);
        if sum > 0 {
            let what = format!("{name} is {sum}, and should be 0");
            found.push(if bad {
                AREA.problem(what, advice)
            } else {
                AREA.warning(what, advice)
            });
        }
    }
    for (name, advice) in ONES {
        if metrics.contains(&format!("\n{name} 0")) {
            found.push(AREA.problem(format!("{name} is 0"), advice));
        }
    }
    let oldest = "tollgate_outbox_oldest_seconds";
    if sum(metrics, oldest) > OLDEST_SECONDS {
        found.push(AREA.warning(
            "records have been waiting for more than ten minutes to be handed over",
            "the record store or the collector takes nothing; the log says why",
        ));
    }
    found
}

fn listed(names: &Value) -> String {
    let names = names.as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).collect();
    if names.is_empty() {
        return "it does not say why".to_owned();
    }
    names.join(", ")
}

/// A metric over all of its labels, rounded down.
fn sum(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with([' ', '{']) {
            return None;
        }
        let value = rest.rsplit(' ').next()?;
        value.split('.').next()?.parse::<u64>().ok()
    });
    values.fold(0, u64::saturating_add)
}

/// Asks it.
///
/// # Errors
/// If nobody answers.
pub(super) async fn look(admin: SocketAddr) -> anyhow::Result<Facts> {
    let (status, said) = get(admin, "/readyz").await?;
    let (_, description) = get(admin, "/openapi.json").await?;
    let (_, metrics) = get(admin, "/metrics").await?;
    let description: Value = serde_json::from_str(&description).unwrap_or_default();
    let version = description["info"]["version"].as_str();
    Ok(Facts {
        admin,
        ready: (status, serde_json::from_str(&said).unwrap_or_default()),
        version: version.unwrap_or("unknown").to_owned(),
        metrics,
    })
}

async fn get(admin: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let (status, body) = probe::get("gateway", admin, path).await?;
    Ok((status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

/// That none runs.
pub(super) fn absent(why: &str) -> Finding {
    AREA.warning(
        format!("does not run here: {why}"),
        "start it with `tollgate serve`; what follows is about what it would start with",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use serde_json::json;

    #[test]
    fn what_should_be_zero_is_told_by_name_and_what_is_not_ready_by_what_lacks() {
        let judged = |status, said: Value, version: &str, metrics: &str| {
            judge(&Facts {
                admin: "127.0.0.1:9090".parse().unwrap(),
                ready: (status, said),
                version: version.to_owned(),
                metrics: format!("# HELP\n{metrics}\n"),
            })
        };
        let own = env!("CARGO_PKG_VERSION");
        let fine = judged(
            200,
            json!({}),
            own,
            "tollgate_records_lost_total 0\ntollgate_policy_in_step 1",
        );
        assert_eq!(fine.len(), 1);
        assert_eq!(fine[0].level, Level::Ok);
        let unready = judged(
            503,
            json!({"missing": ["ledger"], "degraded": ["admin_credentials"]}),
            "9.9.9",
            "",
        );
        let whats: Vec<&str> = unready.iter().map(|found| &*found.what).collect();
        assert!(whats[0].ends_with("not ready: ledger"), "{whats:?}");
        assert!(whats[1].starts_with("nobody is let in"), "{whats:?}");
        assert!(whats[2].starts_with("version 9.9.9 runs"), "{whats:?}");
        let bad = judged(
            200,
            json!({}),
            own,
            "tollgate_records_lost_total 2\ntollgate_scrub_hits_total{where=\"body\"} 1\ntollgate_scrub_hits_total{where=\"header\"} 2\ntollgate_prices_in_step 0\ntollgate_outbox_oldest_seconds{destination=\"collector\"} 601",
        );
        let whats: Vec<(Level, &str)> = bad[1..]
            .iter()
            .map(|found| (found.level, &*found.what))
            .collect();
        assert_eq!(
            whats[0],
            (
                Level::Problem,
                "tollgate_records_lost_total is 2, and should be 0"
            )
        );
        assert_eq!(
            whats[1],
            (
                Level::Warning,
                "tollgate_scrub_hits_total is 3, and should be 0"
            )
        );
        assert_eq!(whats[2], (Level::Problem, "tollgate_prices_in_step is 0"));
        assert!(whats[3].1.contains("ten minutes"));
    }

    #[test]
    fn every_figure_that_is_looked_at_is_one_that_is_served() {
        let served = include_str!("../../../../docs/metrics.md");
        let zeroes = ZEROES.iter().map(|(name, ..)| name);
        for name in zeroes.chain(ONES.iter().map(|(name, _)| name)) {
            assert!(served.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
