//! The tables of what is sealed: what is signed of each chain, and which parcels wait for whom.
//!
//! Decides nothing; the transaction is the checkpoint's. Worst case: a destination that takes
//! nothing has a row here for each of its parcels.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction, params};
use tollgate_core::audit::{Day, Destination, Item, Name, Partition};
use tollgate_core::ids::ReplicaId;
use tollgate_core::time::Timestamp;

use super::{Checkpoint, Db, DbError, SegmentEnd, signed, unsigned};
use crate::embedded::chain::Sealed;
use crate::embedded::outbox::{Amount, Waiting};

pub(super) const TABLES: &str = "
ALTER TABLE chains ADD COLUMN signed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chains ADD COLUMN unsigned_since INTEGER;
ALTER TABLE position ADD COLUMN segment_bytes INTEGER;
CREATE TABLE unlocked (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, destination TEXT NOT NULL, name TEXT NOT NULL,
    bytes INTEGER NOT NULL, since INTEGER NOT NULL, UNIQUE (name, destination));
CREATE INDEX outbox_in_order ON outbox (destination, id);
CREATE TABLE destinations (
    destination TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
";

/// What is sealed with a checkpoint of the database.
pub(crate) struct Handover<'a> {
    pub(crate) sealed: &'a Sealed,
    /// Segments that have been made read-only since the last one.
    pub(crate) locked: &'a [Name],
    /// Who gets the parcels.
    pub(crate) destinations: &'a [Destination],
    pub(crate) waiting: &'a Waiting,
}

impl Db {
    /// The chains of `replica` with records that are not signed, and since when they have any.
    pub(crate) fn unsigned_chains(
        &self,
        replica: &ReplicaId,
    ) -> Result<Vec<(String, Option<Timestamp>)>, DbError> {
        let mut statement = self.connection.prepare(
            "SELECT partition, unsigned_since FROM chains WHERE replica = ?1 AND seq > signed",
        )?;
        let rows = statement.query_map([replica.as_str()], |row| {
            let since: Option<i64> = row.get(1)?;
            Ok((row.get(0)?, since.map(Timestamp::from_micros)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The segments of a chain that are not sealed.
    pub(crate) fn open_segments(
        &self,
        partition: &Partition,
        replica: &ReplicaId,
    ) -> Result<BTreeMap<Day, SegmentEnd>, DbError> {
        let mut statement = self.connection.prepare(
            "SELECT day, first, copy, length FROM segments WHERE partition = ?1 AND replica = ?2",
        )?;
        let rows = statement.query_map([partition.as_str(), replica.as_str()], |row| {
            let numbers: (i64, u32, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get::<_, String>(0)?, numbers))
        })?;
        rows.map(|row| {
            let (day, (first, copy, length)) = row?;
            let day = day.parse().map_err(|_e| DbError::Malformed("day"))?;
            let end = SegmentEnd {
                first: unsigned(first, "segment")?,
                copy,
                length: unsigned(length, "segment")?,
            };
            Ok((day, end))
        })
        .collect()
    }

    /// Sealed segments that may not be read-only yet.
    pub(crate) fn unlocked(&self) -> Result<Vec<Name>, DbError> {
        let mut statement = self.connection.prepare("SELECT name FROM unlocked")?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|name| name?.parse().map_err(|_e| DbError::Malformed("segment")))
            .collect()
    }

    /// What tells the destination that got parcels so far from others of its kind.
    pub(crate) fn identity(&self, destination: Destination) -> Result<Option<String>, DbError> {
        let row = self.connection.query_row(
            "SELECT identity FROM destinations WHERE destination = ?1",
            [destination.as_str()],
            |row| row.get(0),
        );
        Ok(row.optional()?)
    }

    /// Nothing is for this destination any more.
    pub(crate) fn forget_destination(&mut self, destination: Destination) -> Result<(), DbError> {
        let transaction = self.connection.transaction()?;
        for table in ["outbox", "destinations"] {
            let sql = format!("DELETE FROM {table} WHERE destination = ?1");
            transaction.execute(&sql, [destination.as_str()])?;
        }
        Ok(transaction.commit()?)
    }

    /// Parcels that were sealed before there was this destination.
    pub(crate) fn put_into_outbox(
        &mut self,
        to: Destination,
        parcels: &[(Name, u64)],
        now: Timestamp,
    ) -> Result<(), DbError> {
        let transaction = self.connection.transaction()?;
        put(&transaction, to, parcels, now)?;
        Ok(transaction.commit()?)
    }

    /// From now on, this destination is known.
    pub(crate) fn know_destination(
        &self,
        destination: Destination,
        identity: &str,
    ) -> Result<(), DbError> {
        self.connection.execute(
            "INSERT OR REPLACE INTO destinations VALUES (?1, ?2)",
            [destination.as_str(), identity],
        )?;
        Ok(())
    }

    /// How much waits.
    pub(crate) fn amount(&self, to: Destination) -> Result<Amount, DbError> {
        let (parcels, bytes): (i64, i64) = self.connection.query_row(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM outbox WHERE destination = ?1",
            [to.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(Amount {
            parcels: unsigned(parcels, "outbox")?,
            bytes: unsigned(bytes, "outbox")?,
        })
    }
}

/// Behind the heads of chains and the ends of segments. Returns what has come to wait.
pub(super) fn keep(
    transaction: &Transaction<'_>,
    change: &Checkpoint<'_>,
) -> Result<Vec<(Destination, Amount)>, rusqlite::Error> {
    let Handover {
        sealed,
        locked,
        destinations,
        ..
    } = change.handover;
    let replica = change.style.replica.as_str();
    for (partition, seq) in &sealed.partitions {
        transaction
            .prepare("DELETE FROM segments WHERE partition = ?1 AND replica = ?2")?
            .execute([partition.as_str(), replica])?;
        transaction
            .prepare(
                "UPDATE chains SET signed = ?3, unsigned_since = NULL
                 WHERE partition = ?1 AND replica = ?2",
            )?
            .execute(params![partition.as_str(), replica, signed(*seq)])?;
    }
    for name in locked {
        transaction.execute("DELETE FROM unlocked WHERE name = ?1", [name.to_string()])?;
    }
    for name in sealed.segments() {
        transaction.execute(
            "INSERT OR IGNORE INTO unlocked VALUES (?1)",
            [name.to_string()],
        )?;
    }
    let entered = destinations.iter().map(|to| {
        let amount = put(transaction, *to, &sealed.parcels, change.now)?;
        Ok((*to, amount))
    });
    entered.collect()
}

/// Collectors take records and nothing else.
fn put(
    transaction: &Transaction<'_>,
    to: Destination,
    parcels: &[(Name, u64)],
    now: Timestamp,
) -> Result<Amount, rusqlite::Error> {
    let mut statement = transaction.prepare(
        "INSERT OR IGNORE INTO outbox (destination, name, bytes, since) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut put = Amount::default();
    for (name, bytes) in parcels {
        if to == Destination::Collector && matches!(name.item, Item::Checkpoint { .. }) {
            continue;
        }
        let row = params![
            to.as_str(),
            name.to_string(),
            signed(*bytes),
            now.as_micros()
        ];
        if statement.execute(row)? > 0 {
            put.parcels += 1;
            put.bytes += bytes;
        }
    }
    Ok(put)
}
