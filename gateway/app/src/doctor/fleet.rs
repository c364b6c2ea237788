//! What replicas share in Redis: whether it answers, keeps what it is told, and who is there.

use std::time::Duration;

use tollgate_stores::redis::{Health, Member};

use super::finding::{Area, Finding};

const AREA: Area = Area("fleet");

/// A visit is on the path of some calls.
const SLOW: Duration = Duration::from_millis(20);
/// Hours after which a replica that is silent is not merely restarting.
const SILENT_SECONDS: u64 = 3_600;

pub(super) fn judge(health: &Health, members: &[Member]) -> Vec<Finding> {
    let mut found = Vec::new();
    let Health {
        latency, version, ..
    } = health;
    let millis = latency.as_millis();
    found.push(if *latency > SLOW {
        AREA.warning(
            format!("{version} answers after {millis} ms"),
            "put it nearer: calls wait for it whenever a slice of a cap is used up",
        )
    } else {
        AREA.ok(format!("{version} answers after {millis} ms"))
    });
    if !health.appends {
        found.push(AREA.warning(
            "Redis keeps no append-only file: after a restart it has forgotten",
            "set `appendonly yes`; replicas state their claims again after it, and calls wait for all of them meanwhile",
        ));
    }
    if !health.saved {
        found.push(AREA.problem(
            "Redis could not write its last snapshot",
            "see its log: its disk is full, mostly",
        ));
    }
    let policies: std::collections::BTreeSet<&str> = members
        .iter()
        .filter(|it| {
            it.silent_seconds
                .is_some_and(|silent| silent < SILENT_SECONDS)
        })
        .filter_map(|it| it.policy.as_deref())
        .collect();
    if policies.len() > 1 {
        found.push(AREA.warning(
            format!("replicas have {} different policies in force", policies.len()),
            "`tollgate fleet list` shows whose; give all of them the same files, or wait until all have reloaded",
        ));
    }
    for Member {
        name,
        silent_seconds,
        waited_for,
        ..
    } in members
    {
        if *waited_for {
            found.push(AREA.problem(
                format!(
                    "the fleet waits for {name}: calls that need a new slice of a cap are refused"
                ),
                format!("start it again, or if it is gone for good: tollgate fleet forget {name}"),
            ));
        } else if silent_seconds.is_some_and(|silent| silent > SILENT_SECONDS) {
            found.push(AREA.warning(
                format!("nothing was heard of {name} for more than an hour; what it held counts as spent"),
                format!("start it again, or if it is gone for good: tollgate fleet forget {name}"),
            ));
        }
    }
    found.push(AREA.ok(format!("{} replicas belong to it", members.len())));
    found
}

/// That Redis cannot be asked.
pub(super) fn away(why: &str) -> Finding {
    AREA.problem(
        format!("Redis cannot be used: {why}"),
        "while it is away calls are refused with 503 ledger_unavailable; see docs/fleet.md",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_redis_that_forgets_and_replicas_that_are_missed_are_told() {
        let health = |appends, saved, millis| Health {
            time: "2026-11-23T12:00:00Z".parse().unwrap(),
            latency: Duration::from_millis(millis),
            version: "Valkey 8.0.1".to_owned(),
            appends,
            saved,
        };
        let member = |name: &str, silent, waited_for, policy: &str| Member {
            name: name.to_owned(),
            silent_seconds: silent,
            heir: None,
            waited_for,
            policy: Some(policy.to_owned()),
        };
        let bad = |health: &Health, members: &[Member]| {
            let found = judge(health, members).into_iter();
            let bad = found.filter(|found| found.level != Level::Ok);
            bad.map(|found| (found.level, found.what))
                .collect::<Vec<_>>()
        };
        let two = [
            member("a", Some(0), false, "p1"),
            member("b", Some(1), false, "p1"),
        ];
        assert!(bad(&health(true, true, 1), &two).is_empty());
        assert_eq!(bad(&health(false, false, 50), &two).len(), 3);
        let torn = [
            member("a", Some(0), false, "p1"),
            member("b", Some(1), false, "p2"),
            member("c", None, true, "p1"),
            member("d", Some(9_999), false, "p0"),
        ];
        let told = bad(&health(true, true, 1), &torn);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].1.contains("2 different policies"), "{told:?}");
        assert_eq!(told[1].0, Level::Problem);
        assert!(told[2].1.contains("nothing was heard of d"), "{told:?}");
    }
}
