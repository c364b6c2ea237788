//! Brings what is finished here to the object store, and takes note of what has arrived.
//!
//! ```text
//! outbox → read → written in the wanted form → put under a free name → arrived
//! ```
//! At least once, under names that make the second time harmless: a name that is taken is looked
//! at, and if the same lines lie there, they have arrived. Several parcels go at once; memory and
//! processors are shared out beforehand. A checkpoint goes once what it vouches for has arrived, so
//! that whoever checks a copy in the midst of it misses nothing that is signed. Knows no calls and holds none up: a store that is down
//! costs lag. Worst case: a crash between arrival and note of it sends a parcel once more; if the
//! form was changed in between, its records lie there in both.

mod delivery;
mod patience;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_core::audit::{Destination, Form, Item, Name, Outbox, Parcel, Partition};
use tollgate_core::policy::Retention;
use tollgate_core::time::Timestamp;
use tracing::{error, warn};

use crate::shelf::LocalShelf;
use crate::store::Store;
use delivery::Delivery;
use patience::Patience;

/// How many parcels are asked for at a time, beyond those that are set aside.
const LOOK: usize = 256;
/// How long nothing waits before it is looked again.
const POLL: Duration = Duration::from_millis(250);

/// What the courier needs.
pub struct CourierConfig {
    /// What waits.
    pub outbox: Arc<dyn Outbox>,
    /// Where it lies.
    pub shelf: LocalShelf,
    /// Where it goes.
    pub store: Store,
    /// In which form segments go there.
    pub form: Form,
    /// How firmly a partition's objects are to be held there, as of now.
    pub retention: Arc<dyn Fn(&Partition) -> Retention + Send + Sync>,
    /// What time it is.
    pub clock: fn() -> Timestamp,
    /// How long what waits at the end may take.
    pub drain: Duration,
}

/// What the courier has done since the start.
#[derive(Debug, Default)]
pub struct Tally {
    shipped: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    conflicts: AtomicU64,
}

impl Tally {
    /// Parcels that have arrived.
    #[must_use]
    pub fn shipped(&self) -> u64 {
        self.shipped.load(Ordering::Relaxed)
    }

    /// Their bytes, in the form they were put.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Attempts that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Names that something else had already.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }
}

/// Brings parcels to the store until it is told to stop.
pub struct Courier {
    outbox: Arc<dyn Outbox>,
    delivery: Arc<Delivery>,
    drain: Duration,
    patience: Patience,
    /// Found waiting, not yet sent.
    queue: VecDeque<Parcel>,
    under_way: JoinSet<(Parcel, Result<(), delivery::Failure>)>,
    names: HashSet<Name>,
    /// Checkpoints that have been passed over, since records before them still wait.
    held: usize,
    /// When it is worth looking at the outbox again.
    look_at: Instant,
}

impl Courier {
    /// A courier that has not set out.
    #[must_use]
    pub fn new(config: CourierConfig) -> Self {
        let CourierConfig {
            outbox,
            shelf,
            store,
            form,
            retention,
            clock,
            drain,
        } = config;
        Self {
            outbox,
            delivery: Arc::new(Delivery::new(shelf, store, form, retention, clock)),
            drain,
            patience: Patience::default(),
            queue: VecDeque::new(),
            under_way: JoinSet::new(),
            names: HashSet::new(),
            held: 0,
            look_at: Instant::now(),
        }
    }

    /// What it has done.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.delivery.tally)
    }

    /// Goes on until `stop` says true; then until nothing waits, something fails, or the time to
    /// drain is over. What is left goes after the next start.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut until: Option<Instant> = None;
        loop {
            let stopping = until.is_some() || *stop.borrow();
            if stopping && until.is_none() {
                until = Some(Instant::now() + self.drain);
                self.look_at = Instant::now();
            }
            self.set_out().await;
            let idle = self.under_way.is_empty();
            let over = |until: Instant| {
                Instant::now() >= until || idle && (self.queue.is_empty() || self.patience.waits())
            };
            if until.is_some_and(over) {
                return;
            }
            let wake = self.wake_at().min(until.unwrap_or(self.wake_at()));
            tokio::select! {
                Some(done) = self.under_way.join_next() => self.back(done).await,
                changed = stop.changed(), if until.is_none() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// When something is to be done although nothing comes back.
    fn wake_at(&self) -> Instant {
        let resume = self.patience.resume_at();
        if self.queue.is_empty() {
            return self.look_at.max(resume);
        }
        // Something waits here for a place, which only a return makes free, or for the store.
        if resume > Instant::now() {
            resume
        } else {
            Instant::now() + POLL
        }
    }

    /// Sends as many as may go now.
    async fn set_out(&mut self) {
        let now = Instant::now();
        if self.queue.is_empty() && now >= self.look_at {
            self.look().await;
        }
        while self.under_way.len() < self.patience.at_once(now) {
            let Some(parcel) = self.queue.pop_front() else {
                return;
            };
            if self.patience.is_aside(&parcel.name, now) || !self.names.insert(parcel.name.clone())
            {
                continue;
            }
            let delivery = Arc::clone(&self.delivery);
            self.under_way.spawn(async move {
                let delivered = delivery.deliver(&parcel).await;
                (parcel, delivered)
            });
        }
    }

    /// Looks at what waits.
    async fn look(&mut self) {
        let now = Instant::now();
        let limit = LOOK + self.patience.aside() + self.names.len() + self.held;
        let outbox = Arc::clone(&self.outbox);
        let waiting = move || outbox.waiting(Destination::ObjectStore, limit);
        match tokio::task::spawn_blocking(waiting).await {
            Ok(Ok(waiting)) => {
                self.patience.forget(&waiting, limit);
                let all = waiting.len();
                let waiting = without_early_checkpoints(waiting);
                self.held = all - waiting.len();
                let fresh = waiting.into_iter().filter(|parcel| {
                    !self.names.contains(&parcel.name) && !self.patience.is_aside(&parcel.name, now)
                });
                self.queue.extend(fresh.take(LOOK));
            }
            Ok(Err(error)) => error!(error = chain(&error), "what is to be shipped is not known"),
            Err(_the_runtime_ends) => {}
        }
        if self.queue.is_empty() {
            self.look_at = now + POLL;
        }
    }

    /// Takes note of what has come back, and of all that has come back meanwhile.
    async fn back(&mut self, first: Done) {
        let mut done = vec![first];
        while let Some(more) = self.under_way.try_join_next() {
            done.push(more);
        }
        let mut arrived = Vec::new();
        for done in done {
            let Ok((parcel, delivered)) = done else {
                // A panic in the midst of one: which, nobody says any more.
                error!("a delivery ended in a panic");
                self.patience.failed(None, false, Instant::now());
                self.names.clear();
                continue;
            };
            self.names.remove(&parcel.name);
            match delivered {
                Ok(()) => {
                    self.patience.arrived(&parcel.name);
                    arrived.push(parcel.name);
                }
                Err(failure) => self.failed(parcel, &failure),
            }
        }
        if arrived.is_empty() {
            return;
        }
        if self.held > 0 {
            self.look_at = Instant::now();
        }
        let outbox = Arc::clone(&self.outbox);
        let note = move || outbox.arrived(Destination::ObjectStore, &arrived);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(note).await {
            warn!(
                error = chain(&error),
                "what has arrived could not be noted; it goes once more"
            );
        }
    }

    fn failed(&mut self, parcel: Parcel, failure: &delivery::Failure) {
        self.delivery.tally.failures.fetch_add(1, Ordering::Relaxed);
        let name = parcel.name.to_string();
        let is_its_own = failure.is_the_parcels_own();
        if is_its_own {
            error!(name, error = chain(failure), "records cannot be shipped");
        } else {
            warn!(
                name,
                error = chain(failure),
                "the record store cannot be reached"
            );
        }
        let now = Instant::now();
        self.patience.failed(Some(parcel.name), is_its_own, now);
        // What waits is in order again once it is looked at anew.
        self.queue.clear();
    }
}

/// Of parcels in the order they have come to wait in: without checkpoints behind records of the
/// same partition.
fn without_early_checkpoints(mut waiting: Vec<Parcel>) -> Vec<Parcel> {
    let mut behind: HashSet<Partition> = HashSet::new();
    waiting.retain(|Parcel { name, .. }| match name.item {
        Item::Checkpoint { .. } => !behind.contains(&name.partition),
        Item::Segment { .. } | Item::Object { .. } => {
            behind.insert(name.partition.clone());
            true
        }
    });
    waiting
}

type Done = Result<(Parcel, Result<(), delivery::Failure>), tokio::task::JoinError>;

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(behind) = cause {
        text.push_str(": ");
        text.push_str(&behind.to_string());
        cause = behind.source();
    }
    text
}

#[cfg(test)]
mod tests;
