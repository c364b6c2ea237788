//! The tables of chains: the last link of each, and the segments they go on in.
//!
//! A chain belongs to a partition and a replica. Decides nothing about files. Worst case: tables
//! from before chains belonged to replicas are refused, and left as they are.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};
use tollgate_core::audit::{Day, Form, Item, Name, Partition, ROOT};
use tollgate_core::ids::ReplicaId;

use super::{Checkpoint, Db, DbError, FILE, signed, unsigned};

/// The version of the tables that is the first to know replicas.
const WITH_REPLICAS: i64 = 6;

/// No chain of the older kind is there when this is run.
pub(super) const TABLES: &str = "
DROP TABLE chains;
DROP TABLE partitions;
CREATE TABLE chains (
    partition TEXT NOT NULL, replica TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (partition, replica)) WITHOUT ROWID;
CREATE TABLE segments (
    partition TEXT NOT NULL, replica TEXT NOT NULL, day TEXT NOT NULL,
    first INTEGER NOT NULL, copy INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (partition, replica, day)) WITHOUT ROWID;
ALTER TABLE position ADD COLUMN replica TEXT;
";

/// The last link of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) hash: String,
}

/// The segment of a day that is being written, and how long it is for certain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentEnd {
    pub(crate) first: u64,
    pub(crate) copy: u32,
    pub(crate) length: u64,
}

impl SegmentEnd {
    /// A segment of nothing yet.
    pub(crate) const fn at(first: u64) -> Self {
        Self {
            first,
            copy: 0,
            length: 0,
        }
    }

    /// What the segment is called.
    pub(crate) fn name(&self, partition: &Partition, replica: &ReplicaId, day: Day) -> Name {
        let item = Item::Segment {
            day,
            replica: replica.clone(),
            first: self.first,
            form: Form::JsonLines,
        };
        Name {
            copy: self.copy,
            ..Name::new(partition.clone(), item)
        }
    }

    /// What is kept of a segment that is called so.
    pub(crate) const fn of(name: &Name, length: u64) -> Option<Self> {
        match &name.item {
            Item::Segment { first, .. } => Some(Self {
                first: *first,
                copy: name.copy,
                length,
            }),
            Item::Object { .. } | Item::Checkpoint { .. } => None,
        }
    }
}

impl Db {
    pub(crate) fn head(
        &self,
        partition: &Partition,
        replica: &ReplicaId,
    ) -> Result<Option<Head>, DbError> {
        let row = self
            .connection
            .query_row(
                "SELECT seq, hash FROM chains WHERE partition = ?1 AND replica = ?2",
                [partition.as_str(), replica.as_str()],
                |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)),
            )
            .optional()?;
        row.map(|(seq, hash)| {
            let seq = unsigned(seq, "chain")?;
            Ok(Head { seq, hash })
        })
        .transpose()
    }

    pub(crate) fn segment(
        &self,
        partition: &Partition,
        replica: &ReplicaId,
        day: Day,
    ) -> Result<Option<SegmentEnd>, DbError> {
        let row = self
            .connection
            .query_row(
                "SELECT first, copy, length FROM segments
                 WHERE partition = ?1 AND replica = ?2 AND day = ?3",
                [partition.as_str(), replica.as_str(), &day.to_string()],
                |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, i64>(2)?)),
            )
            .optional()?;
        row.map(|(first, copy, length)| {
            Ok(SegmentEnd {
                first: unsigned(first, "segment")?,
                copy,
                length: unsigned(length, "segment")?,
            })
        })
        .transpose()
    }
}

/// The last link of every chain in a data directory, as the last commit has it: partition,
/// replica, number and hash. Reads, and works while a gateway runs.
///
/// # Errors
/// If there is no database or it cannot be read.
pub fn heads(data_dir: &Path) -> Result<Vec<(Partition, ReplicaId, u64, String)>, DbError> {
    let path = data_dir.join(FILE);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let mut statement = connection
        .prepare("SELECT partition, replica, seq, hash FROM chains ORDER BY partition, replica")?;
    let rows = statement.query_map([], |row| {
        let names: (String, String) = (row.get(0)?, row.get(1)?);
        Ok((names, row.get::<_, i64>(2)?, row.get(3)?))
    })?;
    rows.map(|row| {
        let ((partition, replica), seq, hash) = row?;
        let partition = partition.parse();
        let replica = replica.parse();
        Ok((
            partition.map_err(|_e| DbError::Malformed("partition"))?,
            replica.map_err(|_e| DbError::Malformed("replica"))?,
            unsigned(seq, "chain")?,
            hash,
        ))
    })
    .collect()
}

pub(super) fn keep(
    transaction: &Transaction<'_>,
    change: &Checkpoint<'_>,
) -> Result<(), rusqlite::Error> {
    let replica = change.style.replica.as_str();
    for (partition, head) in &change.heads {
        transaction.execute(
            "INSERT INTO chains (partition, replica, seq, hash, unsigned_since)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET seq = excluded.seq, hash = excluded.hash,
                 unsigned_since = coalesce(unsigned_since, excluded.unsigned_since)",
            params![
                partition.as_str(),
                replica,
                signed(head.seq),
                head.hash,
                change.now.as_micros()
            ],
        )?;
    }
    for (partition, day, end) in &change.segments {
        transaction.execute(
            "INSERT OR REPLACE INTO segments VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                partition.as_str(),
                replica,
                day.to_string(),
                signed(end.first),
                end.copy,
                signed(end.length)
            ],
        )?;
    }
    Ok(())
}

/// Refuses a directory whose chains were written before they belonged to replicas: going on in
/// them would leave partitions that nobody can check.
pub(super) fn refuse_older(path: &Path) -> Result<(), DbError> {
    if !path.exists() {
        return Ok(());
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if !(1..WITH_REPLICAS).contains(&version) {
        return Ok(());
    }
    let chains: i64 = connection.query_row("SELECT count(*) FROM chains", [], |row| row.get(0))?;
    // A run that was killed within its first second has written files and committed nothing.
    let audit = path.with_file_name(ROOT);
    let partitions = fs::read_dir(audit).map_or(0, Iterator::count);
    if chains > 0 || partitions > 0 {
        return Err(DbError::ChainsWithoutReplica);
    }
    Ok(())
}
