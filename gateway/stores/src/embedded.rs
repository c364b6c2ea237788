//! Everything a single gateway keeps, in one directory of its own.
//!
//! The journal is written on a call's path; behind it, threads make records of it and settle the
//! money in a database (`journal` → `shipper` → `chain`, `record_segment`, `db`). Counters and tokens
//! are answered from memory. Worst case, a kill: outcomes of the last 5 ms are lost and their
//! calls are settled at what was reserved for them. Worst case, a power cut: see [`Fsync`].

mod admin_log;
mod budgets;
mod chain;
mod db;
mod deferred;
mod events;
mod handover;
mod journal;
mod notices;
mod outbox;
mod rates;
mod record_segment;
mod records;
mod recovery;
mod registry;
mod sealed_files;
mod shipper;
mod workers;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tollgate_core::audit::{AuditKey, Destination};
use tollgate_core::budget::{BudgetKey, Hold};
use tollgate_core::ids::ReplicaId;
use tollgate_core::latency::Waits;
use tollgate_core::money::PicoUsd;
use tollgate_core::time::Timestamp;

pub use admin_log::AdminActions;
pub use budgets::Budgets;
pub use chain::Layout;
pub use db::{DbError, examine, heads};
pub use deferred::Deferred;
pub use events::Events;
pub use handover::{Inherited, Ledgers, Settled, Switch, Told};
pub use journal::Fsync;
pub use notices::Notices;
pub use outbox::{Bound, WhenFull};
pub use rates::{Rates, RatesTaken};
pub use records::Records;
pub use registry::Registry;

use chain::{Sealing, Style, Which};
use db::Db;
use outbox::{Outbox, Waiting};
use recovery::{Onward, RecoverError, Recovered, Unended};
use registry::RegistryError;
use workers::{Shared, Workers};

/// Where and how.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The directory, made if it does not exist.
    pub data_dir: PathBuf,
    /// When the journal is forced to the disk.
    pub fsync: Fsync,
    /// How records are laid out.
    pub layout: Layout,
    /// Whose chains are written: unique among the gateways whose records meet somewhere.
    pub replica: ReplicaId,
    /// What the heads of chains are signed with.
    pub key: Arc<AuditKey>,
    /// How long a record lies in an open segment at most.
    pub segment_age: Duration,
    /// How long a segment becomes.
    pub segment_bytes: u64,
    /// Who gets what is sealed, each with what tells it from another of its kind: a new one gets
    /// everything that was sealed so far.
    pub destinations: Vec<(Destination, String)>,
    /// How much may wait for the object store.
    pub bound: Bound,
    /// What time it is, for the threads behind the journal.
    pub clock: fn() -> Timestamp,
}

impl EmbeddedConfig {
    /// The defaults: a sync every 50 ms; many records to a segment, sealed after a minute or with
    /// 64 MiB, so that copying one away takes seconds; nobody who gets them.
    #[must_use]
    pub fn new(
        data_dir: impl Into<PathBuf>,
        replica: ReplicaId,
        key: Arc<AuditKey>,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            fsync: Fsync::Interval(Duration::from_millis(50)),
            layout: Layout::default(),
            replica,
            key,
            segment_age: Duration::from_secs(60),
            segment_bytes: 64 << 20,
            destinations: Vec::new(),
            bound: Bound::default(),
            clock,
        }
    }
}

/// Why the stores cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written to.
    #[error("the data directory {} cannot be used", .0.display())]
    DataDir(PathBuf, #[source] io::Error),
    /// Two gateways on one directory would undo each other's work.
    #[error("the data directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Database(#[from] DbError),
    /// The state left by the last run cannot be taken over.
    #[error("the state of the last run cannot be taken over")]
    Recovery(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is sealed cannot be looked through for a new destination.
    #[error("the partitions cannot be looked through")]
    Partitions(#[from] io::Error),
    /// The registry cannot be read.
    #[error("the registry cannot be opened")]
    Registry(#[from] RegistryError),
    /// A background thread cannot be started.
    #[error("a background thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The stores could not be brought to rest.
#[derive(Debug, thiserror::Error)]
#[error("the stores could not be flushed")]
pub struct FlushError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Figures for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EmbeddedStats {
    /// Journal bytes that are not yet on the disk.
    pub journal_behind_bytes: u64,
    /// Syncs of the journal since start, and how long they took.
    pub journal_syncs: Waits,
    /// Records made since start.
    pub records_written: u64,
    /// Segments that have become final since start.
    pub segments_sealed: u64,
    /// Heads of chains signed since start.
    pub checkpoints_signed: u64,
    /// Refusals that found no room while the disk took nothing.
    pub records_lost: u64,
    /// Strangers beyond the hundred a second that are recorded.
    pub strangers_unrecorded: u64,
}

/// The stores of one data directory, and the threads behind them.
///
/// Dropped without [`close`](Self::close), it leaves the directory as a crash would.
pub struct Embedded {
    /// Money.
    pub budgets: Arc<Budgets>,
    /// Request rates.
    pub rates: Arc<Rates>,
    /// Task tokens.
    pub registry: Arc<Registry>,
    /// Records.
    pub records: Arc<Records>,
    /// Shares of caps that have been noticed.
    pub notices: Arc<Notices>,
    /// Deferred work.
    pub deferred: Arc<Deferred>,
    /// What is done through the admin API.
    pub admin_actions: Arc<AdminActions>,
    /// What else happens to partitions.
    pub events: Arc<Events>,
    outbox: Arc<Outbox>,
    waiting: Arc<Waiting>,
    shared: Arc<Shared>,
    workers: Mutex<Workers>,
    db: Arc<Mutex<Db>>,
    interrupted: usize,
    /// What is held for calls that a predecessor is making.
    open: Vec<Hold>,
    /// Unlocked last, when it is dropped.
    lock: File,
}

impl Embedded {
    /// Opens the directory and settles what the last run left open. Blocks, for as long as
    /// reading back the last journal segments takes.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(config: &EmbeddedConfig, now: Timestamp) -> Result<Self, OpenError> {
        Self::open_with(config, Unended::Interrupt, now)
    }

    /// Opens a directory that a predecessor has let go of: the calls that it is still making stay
    /// open, and what they hold is held here.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn take_over(config: &EmbeddedConfig, now: Timestamp) -> Result<Self, OpenError> {
        Self::open_with(config, Unended::Keep, now)
    }

    fn open_with(
        config: &EmbeddedConfig,
        unended: Unended,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let dir = &config.data_dir;
        let lock = lock_dir(dir)?;
        let db = Arc::new(Mutex::new(Db::open(&dir.join(db::FILE))?));
        let waiting = Arc::new(Waiting::new(config.bound));
        let known = outbox::keep_known(&mut lock_db(&db), &config.destinations)?;
        for to in &known {
            waiting.enter(*to, lock_db(&db).amount(*to)?);
        }
        let Recovered {
            journal,
            mut shipper,
            interrupted,
            open,
        } = recovery::recover(dir, &db, config.onward(known, &waiting), unended, now)
            .map_err(|error: RecoverError| OpenError::Recovery(Box::new(error)))?;
        outbox::fill_new(dir, &mut lock_db(&db), &config.destinations, &waiting, now)?;
        shipper.set_destinations(config.destinations.iter().map(|(to, _)| *to).collect());
        let outbox = Arc::new(Outbox::open(&dir.join(db::FILE), waiting.clone())?);
        let (settled, known) = {
            let db = lock_db(&db);
            (db.counters()?, db.deferred()?)
        };
        let journal = Arc::new(journal);
        let deferred = Arc::new(Deferred::new(journal.clone(), known));
        let records = Arc::new(Records::new(journal.clone(), waiting.clone()));
        let notices = Arc::new(Notices::new(Arc::clone(&db), journal.clone()));
        let admin_actions = Arc::new(AdminActions::new(journal.clone()));
        let events = Arc::new(Events::new(journal.clone()));
        let registry = Arc::new(Registry::open(db.clone())?);
        let shared = Arc::new(Shared::new(journal, shipper, config.clock));
        let workers = Workers::start(&shared, config.fsync).map_err(OpenError::Thread)?;
        let budgets = Arc::new(Budgets::load(settled, now));
        for hold in &open {
            budgets.adopt(hold, now);
        }
        Ok(Self {
            budgets,
            rates: Arc::new(Rates::default()),
            registry,
            records,
            notices,
            deferred,
            admin_actions,
            events,
            outbox,
            waiting,
            shared,
            workers: Mutex::new(workers),
            db,
            interrupted,
            open,
            lock,
        })
    }

    /// How many calls of the last run were found without outcome.
    #[must_use]
    pub const fn interrupted(&self) -> usize {
        self.interrupted
    }

    /// Whether calls can be kept: the journal takes lines, the disk syncs, records are written.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.shared.healthy()
    }

    /// Brings everything that has been kept so far to the disk, records and settled money
    /// included. Blocks.
    ///
    /// # Errors
    /// If the disk takes it not. Nothing is lost; it is tried again in the background.
    pub fn flush(&self) -> Result<(), FlushError> {
        self.shared.flush(Which::Due).map_err(FlushError)
    }

    /// As [`flush`](Self::flush); and everything is sealed and signed up to here.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn seal(&self) -> Result<(), FlushError> {
        self.shared.flush(Which::All).map_err(FlushError)
    }

    /// What this gateway's calls have cost, per counter, as far as it is in the database: after
    /// [`open`](Self::open), all of it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn settled(&self) -> Result<Vec<(BudgetKey, PicoUsd)>, DbError> {
        lock_db(&self.db).counters()
    }

    /// What is sealed and waits to be handed over.
    #[must_use]
    pub fn outbox(&self) -> Arc<dyn tollgate_core::audit::Outbox> {
        self.outbox.clone()
    }

    /// Whether calls are refused because too much waits for the object store.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        self.waiting.is_full()
    }

    /// Flushes, seals every partition, and ends the threads.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); the threads are ended all the same.
    pub fn close(self) -> Result<(), FlushError> {
        self.registry.close();
        let flushed = self.shared.flush(Which::All).map_err(FlushError);
        self.stop_workers();
        flushed
    }

    /// Brings everything to the disk and lets go of the directory, for a successor that opens it
    /// with [`take_over`](Self::take_over). Nothing is sealed for it. Whoever still holds a store
    /// writes nothing more.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); the directory is let go of all the same.
    pub fn hand_over(&self) -> Result<(), FlushError> {
        self.registry.close();
        let flushed = self.shared.flush(Which::Due).map_err(FlushError);
        self.shared.journal.close();
        self.stop_workers();
        // Should this fail, the successor finds the directory in use and says so.
        drop(self.lock.unlock());
        flushed
    }

    fn stop_workers(&self) {
        let workers = self.workers.lock();
        let mut workers = workers.unwrap_or_else(PoisonError::into_inner);
        workers.stop(&self.shared);
    }

    /// The stores that a call uses.
    #[must_use]
    pub fn ledgers(&self) -> Ledgers {
        Ledgers {
            budgets: self.budgets.clone(),
            rates: self.rates.clone(),
            registry: self.registry.clone(),
            records: self.records.clone(),
            deferred: self.deferred.clone(),
        }
    }

    /// What is held for the calls that a predecessor is making.
    #[must_use]
    pub fn inherited(&self) -> &[Hold] {
        &self.open
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> EmbeddedStats {
        let counters = &self.shared.journal.counters;
        let counts = self.shared.counts();
        EmbeddedStats {
            journal_behind_bytes: self.shared.journal.behind(),
            journal_syncs: counters.sync_waits.so_far(),
            records_written: counts.records,
            segments_sealed: counts.segments_sealed,
            checkpoints_signed: counts.checkpoints_signed,
            records_lost: counters.lost.load(Ordering::Relaxed),
            strangers_unrecorded: self.records.unrecorded_strangers(),
        }
    }
}

impl EmbeddedConfig {
    fn onward(&self, destinations: Vec<Destination>, outbox: &Arc<Waiting>) -> Onward {
        Onward {
            style: Style {
                replica: self.replica.clone(),
                layout: self.layout,
                segment_bytes: self.segment_bytes,
            },
            sealing: Sealing {
                key: self.key.clone(),
                age: self.segment_age,
            },
            fsync: self.fsync,
            destinations,
            outbox: outbox.clone(),
        }
    }
}

fn lock_db(db: &Mutex<Db>) -> MutexGuard<'_, Db> {
    db.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.registry.close();
        self.stop_workers();
        // The lock also goes with the file; this only makes the order plain.
        drop(self.lock.unlock());
    }
}

fn lock_dir(dir: &std::path::Path) -> Result<File, OpenError> {
    let unusable = |error| OpenError::DataDir(dir.to_owned(), error);
    fs::create_dir_all(dir).map_err(unusable)?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

#[cfg(test)]
mod tests;
