//! The three threads behind the journal: one writes, one syncs, one ships.
//!
//! Each sleeps while there is nothing to do and keeps trying while the disk takes nothing. None
//! is on a call's path, except that an intent with `fsync = "always"` waits for the syncer. Worst
//! case: a thread that panics leaves the journal growing; `healthy` then says so.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tollgate_core::time::Timestamp;

use super::chain::{Counts, Which};
use super::journal::{Fsync, Journal};
use super::shipper::{ShipError, Shipper};

/// How long outcomes may wait in memory for an intent that carries them along.
const FLUSH_AFTER: Duration = Duration::from_millis(5);
/// How long to wait before trying again what the disk did not take.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How often settled money and chain heads are committed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// A checkpoint may take at most one part in this many of the shipper's time.
const CHECKPOINT_SHARE: u32 = 5;
/// The longest a thread sleeps without looking around.
const IDLE: Duration = Duration::from_secs(60);

/// What the threads and the stores share.
pub(crate) struct Shared {
    pub(crate) journal: Arc<Journal>,
    shipper: Mutex<Shipper>,
    shipping_ok: AtomicBool,
    /// What the shipper has counted by now.
    counts: Mutex<Counts>,
    clock: fn() -> Timestamp,
    stop: AtomicBool,
    /// For sleeping a fixed time, yet waking up at a stop.
    naps: (Mutex<()>, Condvar),
}

impl Shared {
    pub(crate) fn new(journal: Arc<Journal>, shipper: Shipper, clock: fn() -> Timestamp) -> Self {
        Self {
            journal,
            counts: Mutex::new(shipper.counts()),
            clock,
            shipper: Mutex::new(shipper),
            shipping_ok: AtomicBool::new(true),
            stop: AtomicBool::new(false),
            naps: (Mutex::new(()), Condvar::new()),
        }
    }

    pub(crate) fn healthy(&self) -> bool {
        self.journal.healthy() && self.shipping_ok.load(Ordering::Relaxed)
    }

    /// What has been counted since start.
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, shipper: &Shipper) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = shipper.counts();
    }

    pub(crate) fn flush(&self, which: Which) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.journal.flush()?;
        self.journal.sync()?;
        let mut shipper = self.shipper();
        shipper.ship(&self.journal)?;
        shipper.checkpoint(&self.journal, which, (self.clock)())?;
        self.count(&shipper);
        Ok(())
    }

    fn shipper(&self) -> MutexGuard<'_, Shipper> {
        self.shipper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn nap(&self, time: Duration) {
        let nap = self.naps.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.naps
                .1
                .wait_timeout_while(nap, time, |()| !self.stopped()),
        );
    }

    fn write_lines(&self) {
        while !self.stopped() {
            let idle = if self.journal.healthy() {
                IDLE
            } else {
                RETRY_AFTER
            };
            self.journal.wait_for_lines(&self.stop, idle);
            self.nap(FLUSH_AFTER);
            if self.stopped() {
                return;
            }
            let written = if self.journal.healthy() {
                self.journal.flush()
            } else {
                self.journal.probe()
            };
            if let Err(error) = written {
                tracing::error!(%error, "the journal cannot be written");
                self.nap(RETRY_AFTER);
            }
        }
    }

    fn sync(&self, pause: Duration) {
        while !self.stopped() {
            self.journal.wait_for_bytes(&self.stop, IDLE);
            self.nap(pause);
            if self.stopped() {
                return;
            }
            if let Err(error) = self.journal.sync() {
                tracing::error!(%error, "the journal cannot be synced");
                self.nap(RETRY_AFTER);
            }
        }
    }

    fn ship(&self) {
        let mut next_checkpoint = Instant::now() + CHECKPOINT_EVERY;
        while !self.stopped() {
            let (position, idle) = {
                let shipper = self.shipper();
                (shipper.position(), shipper.is_idle())
            };
            let until_checkpoint = next_checkpoint.saturating_duration_since(Instant::now());
            let at_most = if idle { IDLE } else { until_checkpoint };
            self.journal.wait_for_more(position, &self.stop, at_most);
            if self.stopped() {
                return;
            }
            let shipped = self.ship_once(&mut next_checkpoint);
            self.shipping_ok.store(shipped.is_ok(), Ordering::Relaxed);
            if let Err(error) = shipped {
                let cause = error.source().map(ToString::to_string);
                tracing::error!(%error, cause, "records cannot be written");
                self.nap(RETRY_AFTER);
            }
        }
    }

    fn ship_once(&self, next_checkpoint: &mut Instant) -> Result<(), ShipError> {
        let mut shipper = self.shipper();
        shipper.ship(&self.journal)?;
        self.count(&shipper);
        let start = Instant::now();
        if start >= *next_checkpoint {
            shipper.checkpoint(&self.journal, Which::Due, (self.clock)())?;
            self.count(&shipper);
            let pause = CHECKPOINT_EVERY.max(start.elapsed() * CHECKPOINT_SHARE);
            *next_checkpoint = Instant::now() + pause;
        }
        Ok(())
    }
}

/// The running threads.
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn start(shared: &Arc<Shared>, fsync: Fsync) -> io::Result<Self> {
        let pause = match fsync {
            Fsync::Interval(pause) => pause,
            Fsync::Always => Duration::ZERO,
        };
        let mut workers = Self {
            threads: Vec::new(),
        };
        workers.spawn("journal-write", shared, Shared::write_lines)?;
        workers.spawn("journal-sync", shared, move |shared| shared.sync(pause))?;
        workers.spawn("ship", shared, Shared::ship)?;
        Ok(workers)
    }

    fn spawn(
        &mut self,
        name: &str,
        shared: &Arc<Shared>,
        work: impl FnOnce(&Shared) + Send + 'static,
    ) -> io::Result<()> {
        let shared = shared.clone();
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&shared))?;
        self.threads.push(thread);
        Ok(())
    }

    pub(crate) fn stop(&mut self, shared: &Shared) {
        shared.stop.store(true, Ordering::Relaxed);
        shared.journal.wake_all();
        drop(shared.naps.0.lock().unwrap_or_else(PoisonError::into_inner));
        shared.naps.1.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the stores has panicked");
            }
        }
    }
}
