//! Whether the clock can be believed: tokens, windows of caps and records go by it.

use std::path::Path;
use std::time::Duration;

use tollgate_core::time::Timestamp;

use super::finding::{Area, Finding};

const AREA: Area = Area("clock");

/// What the clock is compared with.
pub(super) struct Facts {
    /// What it says.
    pub(super) now: Timestamp,
    /// When anything in the data directory was last written, by the clock of then.
    pub(super) written: Option<Timestamp>,
    /// What Redis says, at the same moment.
    pub(super) redis: Option<Timestamp>,
    /// How far clocks may disagree.
    pub(super) skew: Duration,
}

/// A file that is from later than now by less has been written meanwhile.
const SLACK: Duration = Duration::from_secs(2);

/// No release of this program is older.
const FIRST: &str = "2025-01-01T00:00:00Z";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Facts {
        now,
        written,
        redis,
        skew,
    } = facts;
    let mut found = Vec::new();
    let set = "synchronise the system's clock (systemd-timesyncd, chrony)";
    if FIRST.parse().is_ok_and(|first: Timestamp| *now < first) {
        found.push(AREA.problem(format!("it is {now} by the clock, which cannot be"), set));
    }
    if let Some(written) = written.filter(|written| *written > now.plus(SLACK)) {
        let ahead = written.since(*now).as_secs();
        let advice = format!(
            "{set}; caps of days that are over would be spent anew, and tokens made then are from the future"
        );
        found.push(AREA.problem(
            format!("files of the data directory were written {ahead} s after now: the clock has been put back"),
            advice,
        ));
    }
    if let Some(redis) = redis {
        let apart = now.since(*redis).max(redis.since(*now));
        if apart > *skew + SLACK {
            let seconds = apart.as_secs();
            found.push(AREA.problem(
                format!("the clocks of this machine and of Redis are {seconds} s apart"),
                set,
            ));
        } else {
            found.push(AREA.ok("agrees with that of Redis"));
        }
    }
    if found.is_empty() {
        found.push(AREA.ok(format!("{now}, and nothing was written after it")));
    }
    found
}

/// When the newest file directly in the directory or its journal was written.
pub(super) fn written(data: &Path) -> Option<Timestamp> {
    let times = [data.to_owned(), data.join("journal")]
        .into_iter()
        .flat_map(|dir| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.metadata().ok()?.modified().ok())
        });
    let since = times.max()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_micros(
        i64::try_from(since.as_micros()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_clock_that_was_put_back_or_differs_is_a_problem() {
        let now = at("2026-11-23T12:00:00Z");
        let facts = |now, written: Option<&str>, redis: Option<&str>| Facts {
            now,
            written: written.map(at),
            redis: redis.map(at),
            skew: Duration::from_secs(5),
        };
        for (facts, level, says) in [
            (facts(now, None, None), Level::Ok, "2026-11-23"),
            (
                facts(now, Some("2026-11-23T12:00:01Z"), None),
                Level::Ok,
                "nothing was written",
            ),
            (
                facts(now, Some("2026-11-23T12:01:00Z"), None),
                Level::Problem,
                "60 s after now",
            ),
            (
                facts(now, None, Some("2026-11-23T11:59:55Z")),
                Level::Ok,
                "agrees",
            ),
            (
                facts(now, None, Some("2026-11-23T12:00:30Z")),
                Level::Problem,
                "30 s apart",
            ),
            (
                facts(now, None, Some("2026-11-23T11:59:00Z")),
                Level::Problem,
                "60 s apart",
            ),
            (
                facts(at("1970-01-01T00:00:00Z"), None, None),
                Level::Problem,
                "cannot be",
            ),
        ] {
            let found = judge(&facts);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].level, level, "{found:?}");
            assert!(found[0].what.contains(says), "{found:?}");
        }
    }
}
