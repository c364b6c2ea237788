//! What is sealed and still to be handed over, in the database.
//!
//! Parcels enter in the transaction that seals them (`db/sealed.rs`) and leave when they are said
//! to have arrived. Reading and leaving go over a connection of their own, so that neither waits
//! for the shipper's lock. How much waits is counted in memory, exactly, from commit to commit.
//! Worst case, a power cut: what has arrived in the last moments is handed over again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tollgate_core::audit::{Behind, Destination, Name, Parcel};
use tollgate_core::budget::StoreError;
use tollgate_core::time::Timestamp;

use super::db::{Db, DbError, unsigned};
use super::{OpenError, sealed_files};

/// What to do while more waits for the object store than is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenFull {
    /// Calls are refused: what they do could not be kept for long.
    #[default]
    Refuse,
    /// Calls go on, until the disk is full.
    Admit,
}

/// How much may wait for the object store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// In bytes.
    pub max_waiting: u64,
    /// And beyond that?
    pub when_full: WhenFull,
}

impl Default for Bound {
    fn default() -> Self {
        Self {
            max_waiting: 10 << 30,
            when_full: WhenFull::Refuse,
        }
    }
}

/// Calls go again once this share of the bound is free: else they would be let in and refused in
/// turn with every parcel.
const FREE_AGAIN: u64 = 10;

/// How much waits for each destination.
pub(crate) struct Waiting {
    bound: Bound,
    amounts: Mutex<[Amount; Destination::ALL.len()]>,
    /// For whoever asks on a call's path.
    full: AtomicBool,
}

/// Parcels and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) parcels: u64,
    pub(crate) bytes: u64,
}

impl Waiting {
    pub(crate) fn new(bound: Bound) -> Self {
        Self {
            bound,
            amounts: Mutex::default(),
            full: AtomicBool::new(false),
        }
    }

    /// Whether calls are to be refused.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// How much waits.
    pub(crate) fn amount(&self, to: Destination) -> Amount {
        self.lock()[place(to)]
    }

    /// Takes note of parcels that are about to be in the database: whoever counts afterwards may
    /// be late, since they can have arrived by then.
    pub(crate) fn enter(&self, to: Destination, more: Amount) {
        let mut amounts = self.lock();
        let amount = &mut amounts[place(to)];
        amount.parcels += more.parcels;
        amount.bytes += more.bytes;
        self.judge(to, amount.bytes);
    }

    /// Takes note of parcels that no longer are in the database, or never came there.
    pub(crate) fn leave(&self, to: Destination, fewer: Amount) {
        let mut amounts = self.lock();
        let amount = &mut amounts[place(to)];
        amount.parcels = amount.parcels.saturating_sub(fewer.parcels);
        amount.bytes = amount.bytes.saturating_sub(fewer.bytes);
        self.judge(to, amount.bytes);
    }

    /// With the amounts locked, so that the last change has the last word.
    fn judge(&self, to: Destination, bytes: u64) {
        let Bound {
            max_waiting: most,
            when_full,
        } = self.bound;
        if to != Destination::ObjectStore || when_full == WhenFull::Admit {
            return;
        }
        if bytes > most {
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::error!(bytes, most, "too much waits for the object store; no calls");
            }
        } else if bytes <= most - most / FREE_AGAIN && self.full.swap(false, Ordering::Relaxed) {
            tracing::info!(bytes, "calls go again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, [Amount; Destination::ALL.len()]> {
        self.amounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn place(to: Destination) -> usize {
    match to {
        Destination::ObjectStore => 0,
        Destination::Collector => 1,
    }
}

/// The outbox of one data directory.
pub(crate) struct Outbox {
    connection: Mutex<Connection>,
    waiting: Arc<Waiting>,
}

impl Outbox {
    /// Over a connection of its own to the database at `path`, which has its tables.
    pub(crate) fn open(path: &Path, waiting: Arc<Waiting>) -> Result<Self, DbError> {
        let mut connection = Connection::open(path)?;
        // What has arrived and is forgotten in a power cut arrives again.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_transaction_behavior(TransactionBehavior::Immediate);
        Ok(Self {
            connection: Mutex::new(connection),
            waiting,
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting_parcels(&self, to: Destination, limit: usize) -> Result<Vec<Parcel>, DbError> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT name, bytes, since FROM outbox WHERE destination = ?1 ORDER BY id LIMIT ?2",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![to.as_str(), limit], |row| {
            let (bytes, since): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok((row.get::<_, String>(0)?, bytes, since))
        })?;
        rows.map(|row| {
            let (name, bytes, since) = row?;
            Ok(Parcel {
                name: name.parse().map_err(|_e| DbError::Malformed("parcel"))?,
                bytes: unsigned(bytes, "parcel")?,
                since: Timestamp::from_micros(since),
            })
        })
        .collect()
    }

    fn forget(&self, to: Destination, names: &[Name]) -> Result<(), DbError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        let mut left = Amount::default();
        {
            let mut statement = transaction.prepare(
                "DELETE FROM outbox WHERE name = ?1 AND destination = ?2 RETURNING bytes",
            )?;
            for name in names {
                let bytes: Option<i64> = statement
                    .query_row([&name.to_string(), to.as_str()], |row| row.get(0))
                    .optional()?;
                if let Some(bytes) = bytes {
                    left.parcels += 1;
                    left.bytes += unsigned(bytes, "parcel")?;
                }
            }
        }
        transaction.commit()?;
        self.waiting.leave(to, left);
        Ok(())
    }

    fn oldest(&self, to: Destination) -> Result<Option<Timestamp>, DbError> {
        let connection = self.connection();
        let since: Option<i64> = connection
            .prepare("SELECT since FROM outbox WHERE destination = ?1 ORDER BY id LIMIT 1")?
            .query_row([to.as_str()], |row| row.get(0))
            .optional()?;
        Ok(since.map(Timestamp::from_micros))
    }

    fn holds(&self, name: &Name) -> Result<bool, DbError> {
        let connection = self.connection();
        let found = connection
            .prepare("SELECT 1 FROM outbox WHERE name = ?1")?
            .exists([name.to_string()])?;
        Ok(found)
    }
}

impl tollgate_core::audit::Outbox for Outbox {
    fn waiting(&self, to: Destination, limit: usize) -> Result<Vec<Parcel>, StoreError> {
        self.waiting_parcels(to, limit)
            .map_err(|error| failed("read parcels", error))
    }

    fn arrived(&self, to: Destination, names: &[Name]) -> Result<(), StoreError> {
        self.forget(to, names)
            .map_err(|error| failed("take parcels out", error))
    }

    fn behind(&self, to: Destination) -> Result<Behind, StoreError> {
        let oldest = self.oldest(to);
        let oldest = oldest.map_err(|error| failed("find the oldest parcel", error))?;
        let Amount { parcels, bytes } = self.waiting.amount(to);
        Ok(Behind {
            parcels,
            bytes,
            oldest,
        })
    }

    fn waits(&self, name: &Name) -> Result<bool, StoreError> {
        self.holds(name)
            .map_err(|error| failed("look for a parcel", error))
    }
}

/// Throws away what is for nobody any more; returns who of `configured` has got parcels before.
pub(crate) fn keep_known(
    db: &mut Db,
    configured: &[(Destination, String)],
) -> Result<Vec<Destination>, DbError> {
    let mut known = Vec::new();
    for to in Destination::ALL {
        let identity = db.identity(to)?;
        let same = configured
            .iter()
            .any(|(configured, now)| *configured == to && Some(now) == identity.as_ref());
        if same {
            known.push(to);
        } else {
            db.forget_destination(to)?;
        }
    }
    Ok(known)
}

/// Puts everything that is sealed into the outbox of each destination that has not had any.
/// Begun once more if it is interrupted.
pub(crate) fn fill_new(
    data_dir: &Path,
    db: &mut Db,
    configured: &[(Destination, String)],
    waiting: &Waiting,
    now: Timestamp,
) -> Result<(), OpenError> {
    for (to, identity) in configured {
        if db.identity(*to)?.is_some() {
            continue;
        }
        sealed_files::each_batch(data_dir, |parcels| {
            db.put_into_outbox(*to, parcels, now)
                .map_err(OpenError::from)
        })?;
        db.know_destination(*to, identity)?;
        let amount = db.amount(*to)?;
        tracing::info!(
            destination = to.as_str(),
            parcels = amount.parcels,
            "a new destination"
        );
        waiting.enter(*to, amount);
    }
    Ok(())
}

fn failed(operation: &'static str, error: DbError) -> StoreError {
    StoreError {
        operation,
        store: "outbox",
        cause: Box::new(error),
    }
}
