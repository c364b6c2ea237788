//! Which shares of which caps have been noticed, and which notices are still to be sent.
//!
//! A notice is first kept in the database, which tells whether it is new, and then put into the
//! journal, from which it reaches the tenant's partition. Worst case: a crash right in between
//! keeps it from the partition; it is still sent.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tollgate_core::budget::StoreError;
use tollgate_core::ids::RecordId;
use tollgate_core::notice::{Notice, NoticeBook};

use super::db::{Db, DbError};
use super::journal::Journal;
use super::journal::entry::Written;
use rusqlite::params;

/// Their table.
pub(super) const TABLES: &str = "
CREATE TABLE notices (
    key TEXT NOT NULL, percent INTEGER NOT NULL, limit_pico TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, body TEXT NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (key, percent, limit_pico)) WITHOUT ROWID;
CREATE INDEX unsent_notices ON notices (at) WHERE sent = 0;
";
/// Notices are forgotten after this many microseconds: 93 days, longer than any window but a
/// task's, whose counter is forgotten at about that age, too.
const KEPT_MICROS: i64 = 93 * 86_400_000_000;
/// Notices handed out for sending at a time.
const AT_ONCE: u32 = 100;

/// The notices of one data directory.
pub struct Notices {
    db: Arc<Mutex<Db>>,
    journal: Arc<Journal>,
}

impl Notices {
    pub(crate) fn new(db: Arc<Mutex<Db>>, journal: Arc<Journal>) -> Self {
        Self { db, journal }
    }

    /// Runs `work` where waiting for the disk holds up no call.
    async fn with_db<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Db) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let db = Arc::clone(&self.db);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut db.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let failed = |cause| StoreError {
            operation,
            store: "notice",
            cause,
        };
        match done.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(Box::new(error))),
            Err(error) => Err(failed(Box::new(error))),
        }
    }
}

#[async_trait]
impl NoticeBook for Notices {
    async fn keep(&self, notice: &Notice) -> Result<bool, StoreError> {
        let kept = notice.clone();
        let is_new = self
            .with_db("keep a notice", move |db| db.keep_notice(&kept))
            .await?;
        if is_new {
            self.journal.append_later(&Written::Notice(notice), true);
        }
        Ok(is_new)
    }

    async fn unsent(&self) -> Result<Vec<Notice>, StoreError> {
        self.with_db("find unsent notices", |db| db.unsent_notices())
            .await
    }

    async fn sent(&self, id: RecordId) -> Result<(), StoreError> {
        self.with_db("mark a notice as sent", move |db| db.notice_sent(id))
            .await
    }
}

impl Db {
    /// Whether the notice is new.
    fn keep_notice(&self, notice: &Notice) -> Result<bool, DbError> {
        let at = notice.at.as_micros();
        let body = serde_json::to_string(notice).map_err(|_e| DbError::Malformed("notice"))?;
        self.connection().execute(
            "DELETE FROM notices WHERE at < ?1",
            [at.saturating_sub(KEPT_MICROS)],
        )?;
        let added = self.connection().execute(
            "INSERT OR IGNORE INTO notices (key, percent, limit_pico, id, at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                notice.key.to_string(),
                notice.percent,
                notice.limit.as_pico().to_string(),
                notice.id.to_string(),
                at,
                body
            ],
        )?;
        Ok(added > 0)
    }

    fn unsent_notices(&self) -> Result<Vec<Notice>, DbError> {
        let mut statement = self
            .connection()
            .prepare("SELECT body FROM notices WHERE sent = 0 ORDER BY at LIMIT ?1")?;
        let rows = statement.query_map([AT_ONCE], |row| row.get::<_, String>(0))?;
        rows.map(|body| serde_json::from_str(&body?).map_err(|_e| DbError::Malformed("notice")))
            .collect()
    }

    fn notice_sent(&self, id: RecordId) -> Result<(), DbError> {
        self.connection().execute(
            "UPDATE notices SET sent = 1 WHERE id = ?1",
            [id.to_string()],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::budget::{Balance, BudgetKey};
    use tollgate_core::money::PicoUsd;
    use tollgate_testkit::contract::{now, record_id};

    use tollgate_archive::records::Scope;
    use tollgate_archive::shelf::LocalShelf;

    use crate::embedded::Embedded;
    use crate::embedded::tests::{config, segment};

    fn notice(n: u32, key: &str, percent: u8, limit: i128) -> Notice {
        let key: BudgetKey = key.parse().expect("a key");
        let balance = Balance::default();
        Notice::new(
            record_id(n),
            now(),
            key,
            percent,
            PicoUsd::new(limit),
            balance,
        )
    }

    fn open(dir: &std::path::Path) -> Embedded {
        Embedded::open(&config(dir), now()).expect("the stores open")
    }

    #[tokio::test]
    async fn a_share_is_noticed_once_per_window_and_limit_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let day = "acme/tenant/day:2026-11-18";
        let stores = open(dir.path());
        let book = &stores.notices;
        assert!(book.keep(&notice(1, day, 80, 100)).await.expect("kept"));
        assert!(!book.keep(&notice(2, day, 80, 100)).await.expect("known"));
        assert!(book.keep(&notice(3, day, 100, 100)).await.expect("kept"));
        assert!(book.keep(&notice(4, day, 80, 500)).await.expect("kept"));
        let tomorrow = "acme/tenant/day:2026-11-19";
        assert!(
            book.keep(&notice(5, tomorrow, 80, 100))
                .await
                .expect("kept")
        );
        book.sent(record_id(3)).await.expect("marked");
        stores.close().expect("at rest");

        let stores = open(dir.path());
        let book = &stores.notices;
        assert!(!book.keep(&notice(6, day, 80, 100)).await.expect("known"));
        let unsent = book.unsent().await.expect("read");
        let ids: Vec<RecordId> = unsent.iter().map(|notice| notice.id).collect();
        assert_eq!(ids, [1, 4, 5].map(record_id));
    }

    #[tokio::test]
    async fn a_notice_stands_in_its_tenants_partition_and_is_no_call() {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = open(dir.path());
        let one = notice(1, "acme/tenant/day:2026-11-18", 80, 100);
        stores.notices.keep(&one).await.expect("kept");
        stores.close().expect("at rest");
        let line =
            std::fs::read_to_string(dir.path().join(segment("acme", 1))).expect("the partition");
        assert!(line.contains("cap_share_reached"), "{line}");
        assert!(line.contains("\"tollgate.cap.share_percent\":80"), "{line}");
        let scope = Scope {
            partitions: vec!["acme".parse().expect("a partition")],
            ..Scope::default()
        };
        let mut calls = 0;
        let read = scope.records(&LocalShelf::new(dir.path()), &mut |_record| calls += 1);
        read.expect("readable");
        assert_eq!(calls, 0, "reports count calls only");
    }
}
