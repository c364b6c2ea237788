//! The table of deferred work: what is kept of it, under the provider's ids.

use foldhash::HashMap;

use rusqlite::{Transaction, params};
use tollgate_core::deferred::{KEPT_FOR, Known, RemoteId};
use tollgate_core::time::Timestamp;

use super::{Db, DbError};

pub(super) const TABLE: &str = "
CREATE TABLE deferred (
    id TEXT PRIMARY KEY, at INTEGER NOT NULL, known BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX deferred_by_time ON deferred (at);
";

/// Something known, as its line in the journal has it.
pub(crate) struct DeferredRow {
    /// Since when, in microseconds.
    pub(crate) at: i64,
    /// JSON of a [`Known`].
    pub(crate) known: Box<[u8]>,
}

impl Db {
    /// Everything known, oldest first.
    pub(crate) fn deferred(&self) -> Result<Vec<(RemoteId, Timestamp, Known)>, DbError> {
        let mut statement = self
            .connection
            .prepare("SELECT id, at, known FROM deferred ORDER BY at, id")?;
        let rows = statement.query_map([], |row| {
            let (id, at): (String, i64) = (row.get(0)?, row.get(1)?);
            Ok((id, at, row.get::<_, Vec<u8>>(2)?))
        })?;
        rows.map(|row| {
            let bad = |_e: serde_json::Error| DbError::Malformed("deferred charge");
            let (id, at, known) = row?;
            let id = serde_json::from_str(&id).map_err(bad)?;
            let known = serde_json::from_slice(&known).map_err(bad)?;
            Ok((id, Timestamp::from_micros(at), known))
        })
        .collect()
    }
}

pub(super) fn keep(
    transaction: &Transaction<'_>,
    changes: &HashMap<RemoteId, Option<DeferredRow>>,
) -> Result<(), DbError> {
    for (id, row) in changes {
        let id = serde_json::to_string(id).map_err(|_e| DbError::Malformed("deferred charge"))?;
        match row {
            Some(DeferredRow { at, known }) => transaction.execute(
                "INSERT OR REPLACE INTO deferred VALUES (?1, ?2, ?3)",
                params![id, at, known],
            )?,
            None => transaction.execute("DELETE FROM deferred WHERE id = ?1", [id])?,
        };
    }
    Ok(())
}

pub(super) fn prune(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), DbError> {
    let micros = i64::try_from(KEPT_FOR.as_micros()).unwrap_or(i64::MAX);
    transaction.execute(
        "DELETE FROM deferred WHERE at < ?1",
        [now.as_micros().saturating_sub(micros)],
    )?;
    Ok(())
}
