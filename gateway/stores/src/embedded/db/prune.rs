//! What nothing will ask for again goes once a day.
//!
//! A counter goes when it is found to be over on two days: a clock that once runs ahead and is put
//! back must not give a tenant its money a second time after the next start. Worst case: a clock
//! that stays ahead for two days.

use rusqlite::{Transaction, params};
use tollgate_core::budget::BudgetKey;
use tollgate_core::time::Timestamp;

use super::{Db, DbError, deferred};

/// The day on which a counter was first found to be over.
pub(super) const COLUMN: &str = "ALTER TABLE counters ADD COLUMN over_since INTEGER;";

const DAY_MICROS: i64 = 86_400_000_000;

impl Db {
    /// Deletes counters: windows that ended two days before `now`, task totals
    /// untouched for ninety.
    pub(crate) fn prune(&mut self, now: Timestamp) -> Result<(), DbError> {
        let transaction = self.connection.transaction()?;
        prune_counters(&transaction, now)?;
        deferred::prune(&transaction, now)?;
        transaction.commit()?;
        Ok(())
    }
}

fn prune_counters(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), DbError> {
    let today = now.as_micros().div_euclid(DAY_MICROS);
    let mut statement = transaction.prepare(
        "SELECT key, touched_at, over_since FROM counters
         WHERE touched_at < ?1 OR over_since IS NOT NULL",
    )?;
    let rows = statement.query_map([days_before(now, 2)], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    let rows: Vec<(String, i64, Option<i64>)> = rows.collect::<Result<_, _>>()?;
    for (text, touched_at, over_since) in rows {
        let key: BudgetKey = text.parse().map_err(|_e| DbError::Malformed("counter"))?;
        let over = match key.window.resets_at() {
            Some(end) => end.as_micros().max(touched_at) < days_before(now, 2),
            None => touched_at < days_before(now, 90),
        };
        match over_since {
            Some(day) if over && day != today => {
                transaction.execute("DELETE FROM counters WHERE key = ?1", [text])?;
            }
            Some(_) if over => {}
            _ => {
                transaction.execute(
                    "UPDATE counters SET over_since = ?2 WHERE key = ?1",
                    params![text, over.then_some(today)],
                )?;
            }
        }
    }
    Ok(())
}

fn days_before(now: Timestamp, days: i64) -> i64 {
    now.as_micros()
        .saturating_sub(days.saturating_mul(DAY_MICROS))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tollgate_core::money::PicoUsd;

    use super::super::{Checkpoint, End, Handover, HashMap, Layout, Style};
    use super::*;
    use crate::embedded::chain::Sealed;
    use crate::embedded::outbox::{Bound, Waiting};

    const KEYS: [&str; 3] = [
        "acme/tenant/day:2026-11-18",
        "acme/tenant/month:2026-11",
        "acme/task=t/total",
    ];

    fn spend(db: &mut Db, at: &str) {
        let settled: HashMap<String, PicoUsd> = KEYS
            .iter()
            .map(|key| ((*key).to_owned(), PicoUsd::new(5)))
            .collect();
        db.checkpoint(&Checkpoint {
            position: End::default(),
            style: &Style {
                replica: "r1".parse().expect("a replica"),
                layout: Layout::Segments,
                segment_bytes: 1,
            },
            settled: &settled,
            latest: time(at),
            now: time(at),
            heads: Vec::new(),
            segments: Vec::new(),
            parked: Vec::new(),
            unparked: &[],
            deferred: &HashMap::default(),
            handover: Handover {
                sealed: &Sealed::default(),
                locked: &[],
                destinations: &[],
                waiting: &Waiting::new(Bound::default()),
            },
        })
        .expect("writable");
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn left(db: &Db) -> Vec<String> {
        let counters = db.counters().expect("readable");
        counters.iter().map(|(key, _)| key.to_string()).collect()
    }

    fn open(dir: &Path) -> Db {
        Db::open(&dir.join("state.db")).expect("a database")
    }

    #[test]
    fn a_clock_that_runs_ahead_and_is_put_back_forgets_no_counter() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut db = open(dir.path());
        spend(&mut db, "2026-11-18T12:00:00Z");
        for now in ["2031-01-01T00:00:00Z", "2026-11-18T13:00:00Z"] {
            db.prune(time(now)).expect("pruned");
            assert_eq!(left(&db).len(), KEYS.len(), "{now}");
        }
        // Once more, and found again after a start.
        db.prune(time("2031-01-02T00:00:00Z")).expect("pruned");
        assert_eq!(left(&db).len(), KEYS.len());
    }

    #[test]
    fn what_is_over_on_two_days_is_forgotten_and_what_is_not_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut db = open(dir.path());
        spend(&mut db, "2026-11-18T12:00:00Z");
        let mut found = Vec::new();
        for now in [
            "2026-11-22T00:00:00Z",
            "2026-11-22T01:00:00Z",
            "2026-11-23T00:00:00Z",
            "2026-12-04T00:00:00Z",
            "2026-12-05T00:00:00Z",
            "2027-03-01T00:00:00Z",
            "2027-03-02T00:00:00Z",
        ] {
            db.prune(time(now)).expect("pruned");
            found.push(left(&db).len());
        }
        assert_eq!(found, [3, 3, 2, 2, 1, 1, 0]);
    }
}
