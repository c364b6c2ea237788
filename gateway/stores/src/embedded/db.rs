//! The SQLite database behind the journal: what is settled, and how far the journal is applied.
//!
//! Money, chain heads, partition lengths and the journal position change in one transaction, so a
//! crash at any point counts nothing twice. Every commit waits for the disk (`synchronous=FULL`);
//! there is about one a second, plus one per batch of token changes. Nothing here is on a call's
//! path. Worst case: a disk that takes nothing keeps the journal growing until it takes again.

mod chains;
mod deferred;
mod examine;
mod prune;
mod sealed;
mod tokens;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tollgate_core::audit::{Day, Partition};
use tollgate_core::budget::BudgetKey;
use tollgate_core::deferred::RemoteId;
use tollgate_core::identity::Caller;
use tollgate_core::ids::{AgentId, TaskId, TenantId, TokenId};
use tollgate_core::money::PicoUsd;
use tollgate_core::registry::{Registered, Revocation};
use tollgate_core::time::Timestamp;

use super::chain::{Layout, Style};
use super::journal::entry::End;

pub use chains::heads;
pub(crate) use chains::{Head, SegmentEnd};
pub(crate) use deferred::DeferredRow;
pub use examine::examine;
pub(crate) use sealed::Handover;

/// The database's file in the data directory.
pub(crate) const FILE: &str = "state.db";

/// Each brings the tables from the version of its index to the next.
const STEPS: &[&str] = &[
    FIRST_TABLES,
    super::notices::TABLES,
    deferred::TABLE,
    prune::COLUMN,
    tokens::CUT_OFFS,
    chains::TABLES,
    sealed::TABLES,
];

const FIRST_TABLES: &str = "
CREATE TABLE tokens (
    tenant TEXT NOT NULL, token TEXT NOT NULL, agent TEXT NOT NULL, task TEXT NOT NULL,
    issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, token)) WITHOUT ROWID;
CREATE INDEX tokens_by_end ON tokens (expires_at);
CREATE TABLE finished_tasks (
    tenant TEXT NOT NULL, task TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (tenant, task)) WITHOUT ROWID;
CREATE TABLE counters (
    key TEXT PRIMARY KEY, settled TEXT NOT NULL, touched_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE chains (
    tenant TEXT PRIMARY KEY, seq INTEGER NOT NULL, hash TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE partitions (
    tenant TEXT NOT NULL, day TEXT NOT NULL, file INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)) WITHOUT ROWID;
CREATE TABLE open_intents (
    id TEXT PRIMARY KEY, line BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE position (
    only INTEGER PRIMARY KEY CHECK (only = 1), segment INTEGER NOT NULL, length INTEGER NOT NULL,
    layout TEXT NOT NULL);
";

/// The database is not usable.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite says no.
    #[error("the database refused an operation")]
    Sqlite(#[from] rusqlite::Error),
    /// It could not be created.
    #[error("the database file could not be created")]
    Create(#[source] std::io::Error),
    /// Written by another version of this program.
    #[error("the database has version {0} of its tables; this program knows {known}", known = STEPS.len())]
    Version(i64),
    /// Written by a version that knew no replicas.
    #[error(
        "it was written by an older version, whose records this one cannot continue; \
         keep it for its records, and start with a new data directory"
    )]
    ChainsWithoutReplica,
    /// A value this program never writes.
    #[error("the database holds a malformed {0}")]
    Malformed(&'static str),
}

/// How far the journal is applied.
pub(crate) struct Position {
    pub(crate) end: End,
    /// Whose chains were written so far, and how.
    pub(crate) style: Option<Style>,
}

/// Everything that changes with the journal position.
pub(crate) struct Checkpoint<'a> {
    pub(crate) position: End,
    pub(crate) style: &'a Style,
    pub(crate) settled: &'a HashMap<String, PicoUsd>,
    /// When the last call ended.
    pub(crate) latest: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) heads: Vec<(&'a Partition, Head)>,
    pub(crate) segments: Vec<(&'a Partition, Day, SegmentEnd)>,
    /// Intents, by id, whose lines are kept here from now on.
    pub(crate) parked: Vec<(String, &'a [u8])>,
    /// Those whose lines need no longer be.
    pub(crate) unparked: &'a [String],
    /// What is known of deferred work, or no longer.
    pub(crate) deferred: &'a HashMap<RemoteId, Option<DeferredRow>>,
    /// What is sealed, and for whom.
    pub(crate) handover: Handover<'a>,
}

/// A change to the table of tokens.
#[derive(Clone, Debug)]
pub(crate) enum TokenChange {
    /// A token, and when the credential was issued that it rests on.
    Register(Caller, Option<Timestamp>),
    Revoke(Revocation, Timestamp),
}

/// What a [`TokenChange`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TokenChanged {
    Registered(Registered),
    Revoked(usize),
}

/// A row of the table of tokens.
pub(crate) struct TokenRow {
    pub(crate) caller: Caller,
    pub(crate) revoked: bool,
}

/// The open database.
pub(crate) struct Db {
    connection: Connection,
}

impl Db {
    pub(crate) fn open(path: &Path) -> Result<Self, DbError> {
        chains::refuse_older(path)?;
        // SQLite gives its side files the mode of the main one.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(DbError::Create)?;
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        // The outbox writes too, over its own connection. A transaction that began by reading
        // could not go on to write behind it; one that means to write waits at its beginning.
        connection.set_transaction_behavior(TransactionBehavior::Immediate);
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let done = usize::try_from(version).map_err(|_negative| DbError::Version(version))?;
        let missing = STEPS.get(done..).ok_or(DbError::Version(version))?;
        if !missing.is_empty() {
            let transaction = connection.transaction()?;
            for step in missing {
                transaction.execute_batch(step)?;
            }
            transaction.pragma_update(None, "user_version", signed(STEPS.len() as u64))?;
            transaction.commit()?;
        }
        Ok(Self { connection })
    }

    /// The connection, for the modules that own other tables.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How far the journal is applied.
    pub(crate) fn position(&self) -> Result<Option<Position>, DbError> {
        let row = self
            .connection
            .query_row(
                "SELECT segment, length, layout, replica, segment_bytes FROM position",
                [],
                |row| {
                    let end: (i64, i64) = (row.get(0)?, row.get(1)?);
                    let layout: String = row.get(2)?;
                    let style: (Option<String>, Option<i64>) = (row.get(3)?, row.get(4)?);
                    Ok((end, layout, style))
                },
            )
            .optional()?;
        row.map(|((segment, length), layout, style)| {
            let end = End {
                segment: unsigned(segment, "position")?,
                length: unsigned(length, "position")?,
            };
            let layout = Layout::parse(&layout).ok_or(DbError::Malformed("layout"))?;
            let style = match style {
                (Some(replica), Some(segment_bytes)) => Some(Style {
                    replica: replica
                        .parse()
                        .map_err(|_e| DbError::Malformed("replica"))?,
                    layout,
                    segment_bytes: unsigned(segment_bytes, "position")?,
                }),
                _ => None,
            };
            Ok(Position { end, style })
        })
        .transpose()
    }

    pub(crate) fn counters(&self) -> Result<Vec<(BudgetKey, PicoUsd)>, DbError> {
        let mut statement = self
            .connection
            .prepare("SELECT key, settled FROM counters")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        rows.map(|row| {
            let (key, settled) = row?;
            let key = key.parse().map_err(|_e| DbError::Malformed("counter"))?;
            Ok((key, pico(&settled)?))
        })
        .collect()
    }

    /// The parked intents: their ids and lines.
    pub(crate) fn open_intents(&self) -> Result<Vec<(String, Vec<u8>)>, DbError> {
        let mut statement = self
            .connection
            .prepare("SELECT id, line FROM open_intents")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn checkpoint(&mut self, change: &Checkpoint<'_>) -> Result<(), DbError> {
        let transaction = self.connection.transaction()?;
        for (key, cost) in change.settled {
            let before: Option<String> = transaction
                .query_row(
                    "SELECT settled FROM counters WHERE key = ?1",
                    [key],
                    |row| row.get(0),
                )
                .optional()?;
            let before = before.as_deref().map_or(Ok(PicoUsd::ZERO), pico)?;
            let settled = before.saturating_add(*cost).as_pico().to_string();
            transaction.execute(
                "INSERT OR REPLACE INTO counters (key, settled, touched_at) VALUES (?1, ?2, ?3)",
                params![key, settled, change.latest.as_micros()],
            )?;
        }
        chains::keep(&transaction, change)?;
        for id in change.unparked {
            transaction.execute("DELETE FROM open_intents WHERE id = ?1", [id])?;
        }
        for (id, line) in &change.parked {
            transaction.execute(
                "INSERT OR REPLACE INTO open_intents VALUES (?1, ?2)",
                params![id, line],
            )?;
        }
        deferred::keep(&transaction, change.deferred)?;
        transaction.execute(
            "INSERT OR REPLACE INTO position VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            params![
                signed(change.position.segment),
                signed(change.position.length),
                change.style.layout.as_str(),
                change.style.replica.as_str(),
                signed(change.style.segment_bytes)
            ],
        )?;
        let waiting = change.handover.waiting;
        let entered = sealed::keep(&transaction, change)?;
        for (to, amount) in &entered {
            waiting.enter(*to, *amount);
        }
        let committed = transaction.commit();
        if committed.is_err() {
            for (to, amount) in &entered {
                waiting.leave(*to, *amount);
            }
        }
        Ok(committed?)
    }

    pub(crate) fn tokens(&self) -> Result<Vec<TokenRow>, DbError> {
        let mut statement = self.connection.prepare(
            "SELECT tenant, token, agent, task, issued_at, expires_at, revoked FROM tokens",
        )?;
        let rows = statement.query_map([], |row| {
            let names: [String; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            let times: [i64; 2] = [row.get(4)?, row.get(5)?];
            Ok((names, times, row.get(6)?))
        })?;
        rows.map(|row| {
            let ([tenant, token, agent, task], [issued_at, expires_at], revoked) = row?;
            let bad = |_e| DbError::Malformed("token");
            let caller = Caller {
                tenant: tenant.parse::<TenantId>().map_err(bad)?,
                agent: agent.parse::<AgentId>().map_err(bad)?,
                task: task.parse::<TaskId>().map_err(bad)?,
                token: token.parse::<TokenId>().map_err(bad)?,
                issued_at: Timestamp::from_micros(issued_at),
                expires_at: Timestamp::from_micros(expires_at),
                // The signed token says it, and nothing is asked of the table.
                certificate: None,
            };
            Ok(TokenRow { caller, revoked })
        })
        .collect()
    }

    /// Applies all changes in their order, or none.
    pub(crate) fn change_tokens(
        &mut self,
        changes: &[TokenChange],
    ) -> Result<Vec<TokenChanged>, DbError> {
        let transaction = self.connection.transaction()?;
        let done = changes
            .iter()
            .map(|change| match change {
                TokenChange::Register(caller, rests_on) => {
                    tokens::register(&transaction, caller, *rests_on).map(TokenChanged::Registered)
                }
                TokenChange::Revoke(what, now) => {
                    tokens::revoke(&transaction, what, *now).map(TokenChanged::Revoked)
                }
            })
            .collect::<Result<_, _>>()?;
        transaction.commit()?;
        Ok(done)
    }

    /// Deletes the tokens that ended before `end`.
    pub(crate) fn forget_tokens(&self, end: Timestamp) -> Result<(), DbError> {
        self.connection.execute(
            "DELETE FROM tokens WHERE expires_at < ?1",
            [end.as_micros()],
        )?;
        Ok(())
    }
}

fn pico(text: &str) -> Result<PicoUsd, DbError> {
    let pico = text.parse().map_err(|_e| DbError::Malformed("amount"))?;
    Ok(PicoUsd::new(pico))
}

pub(super) fn unsigned(value: i64, what: &'static str) -> Result<u64, DbError> {
    u64::try_from(value).map_err(|_negative| DbError::Malformed(what))
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
