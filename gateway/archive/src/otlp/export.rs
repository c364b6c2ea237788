//! Takes what waits for the collector, hands it over, and takes note that it has arrived.
//!
//! One request at a time, in the order of the outbox. What fails is repeated, with pauses that grow
//! to a minute or are those the collector asks for. Records that it calls invalid three times are
//! sent in halves, down to the one that is, which is left out. At its end it hands over what waits as
//! long as the collector takes it. Worst case: a kill repeats what was under way, [`PARCELS`] at most.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_core::audit::{Destination, Item, Name, Outbox, Parcel};
use tollgate_core::time::Timestamp;
use tracing::{error, info, warn};

use super::batch::{Batch, Entry, request};
use super::convert::convert;
use super::leave::Leave;
use super::reply::Reply;
use super::wire::{Signal, UnusableRoots, Wire};
use super::{Collector, Figures};
use crate::lines::Lines;
use crate::shelf::Shelf;

/// How often an outbox that was empty is looked into.
const IDLE: Duration = Duration::from_secs(1);
/// The most parcels that are asked for at once.
const PARCELS: usize = 256;
/// The first pause, and the longest that is made without being asked for.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often records are sent that the collector calls invalid, before they are divided.
const BAD_TRIES: u32 = 3;
/// The same where something broke and it is not said what: some six minutes.
const UNCLEAR_TRIES: u32 = 12;

/// What an exporter needs.
pub struct ExporterConfig {
    /// What waits.
    pub outbox: Arc<dyn Outbox>,
    /// Where it lies.
    pub shelf: Arc<dyn Shelf>,
    /// Where it goes.
    pub collector: Collector,
    /// This program's version.
    pub version: &'static str,
    /// What time it is.
    pub clock: fn() -> Timestamp,
    /// How long what waits at the end may take.
    pub drain: Duration,
}

/// Hands records to a collector.
pub struct Exporter {
    outbox: Arc<dyn Outbox>,
    shelf: Arc<dyn Shelf>,
    wire: Wire,
    figures: Arc<Figures>,
    version: &'static str,
    clock: fn() -> Timestamp,
    drain: Duration,
    failing: bool,
}

/// What became of some records.
enum Sent {
    /// They are dealt with.
    Settled,
    /// They are called invalid.
    Bad(String),
    /// The gateway ends.
    Stopped,
}

impl Exporter {
    /// One that has not begun.
    ///
    /// # Errors
    /// If TLS is spoken and there is no authority to trust.
    pub fn new(config: ExporterConfig) -> Result<Self, UnusableRoots> {
        let ExporterConfig {
            outbox,
            shelf,
            collector,
            version,
            clock,
            drain,
        } = config;
        Ok(Self {
            outbox,
            shelf,
            wire: Wire::new(Signal::Logs, collector)?,
            figures: Arc::default(),
            version,
            clock,
            drain,
            failing: false,
        })
    }

    /// What has become of records so far.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Goes on until `stop` says true; then until nothing waits, something fails, or the time to
    /// drain is over. What is left goes after the next start. Blocks its thread on files and the
    /// outbox, so it needs one of its own.
    pub async fn run(mut self, stop: watch::Receiver<bool>) {
        let mut leave = Leave::new(stop, self.drain);
        loop {
            let stopping = leave.is_asked();
            let waiting = self.outbox.waiting(Destination::Collector, PARCELS);
            let moved = match waiting {
                Ok(parcels) if parcels.is_empty() => false,
                Ok(parcels) => self.round(&parcels, &mut leave).await,
                Err(cause) => {
                    warn!(error = told(&cause), "the outbox cannot be read");
                    false
                }
            };
            if !moved {
                if stopping {
                    return;
                }
                leave.rest(IDLE).await;
            }
        }
    }

    /// Hands over some parcels; false if none has arrived or the rest has to wait.
    async fn round(&mut self, parcels: &[Parcel], leave: &mut Leave) -> bool {
        let mut batch = Batch::default();
        let mut finished = Vec::new();
        for parcel in parcels {
            match self.parcel(&parcel.name, &mut batch, leave).await {
                Ok(true) => finished.push(parcel.name.clone()),
                Ok(false) => return false,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    error!(name = %parcel.name, "it is gone before the collector had it");
                    finished.push(parcel.name.clone());
                }
                Err(cause) => {
                    warn!(name = %parcel.name, error = told(&cause), "it cannot be read");
                }
            }
        }
        if finished.is_empty() || !self.deliver(batch.take(), leave).await {
            return false;
        }
        let noted = self.outbox.arrived(Destination::Collector, &finished);
        noted
            .inspect_err(|cause| warn!(error = told(cause), "what has arrived goes once more"))
            .is_ok()
    }

    /// Adds the records of a parcel to `batch`, handing it over whenever it is full; false if the
    /// gateway ends.
    async fn parcel(
        &mut self,
        name: &Name,
        batch: &mut Batch,
        leave: &mut Leave,
    ) -> io::Result<bool> {
        if matches!(name.item, Item::Checkpoint { .. }) {
            return Ok(true);
        }
        let failed = |error: crate::shelf::ShelfError| error.cause;
        let mut lines = Lines::open(&*self.shelf, name).map_err(failed)?;
        let of_tenant = name.partition.tenant().is_some();
        while let Some((number, line)) = lines.next_line().map_err(failed)? {
            let Some(converted) = convert(line, of_tenant, (self.clock)()) else {
                self.figures.rejected.fetch_add(1, Ordering::Relaxed);
                error!(%name, number, "a line is no record and is left out");
                continue;
            };
            let entry = Entry {
                partition: name.partition.clone(),
                replica: converted.replica,
                record: converted.record,
            };
            batch.add(entry, line.len());
            if batch.is_full() && !self.deliver(batch.take(), leave).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands over records until they are dealt with; false if the gateway ends first.
    async fn deliver(&mut self, records: Vec<Entry>, leave: &mut Leave) -> bool {
        let mut parts = vec![(records, BAD_TRIES)];
        while let Some((mut part, bad_tries)) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.send(&part, bad_tries, leave).await {
                Sent::Settled => {}
                Sent::Stopped => return false,
                Sent::Bad(why) if part.len() == 1 => {
                    self.figures.rejected.fetch_add(1, Ordering::Relaxed);
                    error!(%why, "the collector refuses a record, which is left out");
                }
                Sent::Bad(_) => {
                    let later = part.split_off(part.len() / 2);
                    parts.extend([(later, 1), (part, 1)]);
                }
            }
        }
        true
    }

    /// `bad_tries`: how often before what is called invalid is believed to be.
    async fn send(&mut self, records: &[Entry], bad_tries: u32, leave: &mut Leave) -> Sent {
        let request = request(records, self.version);
        let mut tries: u32 = 0;
        let mut pause = PAUSE;
        loop {
            let reply = tokio::select! {
                reply = self.wire.send(&request) => reply,
                () = leave.over(self.failing) => return Sent::Stopped,
            };
            tries = tries.saturating_add(1);
            let (why, after) = match reply {
                Reply::Taken { rejected, said } => {
                    self.taken(records.len() as u64, rejected, &said);
                    return Sent::Settled;
                }
                Reply::Bad { why } if tries >= bad_tries => return Sent::Bad(why),
                Reply::Unclear { why } if tries >= UNCLEAR_TRIES => return Sent::Bad(why),
                Reply::Bad { why } | Reply::Unclear { why } => (why, None),
                Reply::Later { why, after } => (why, after),
            };
            self.figures.failures.fetch_add(1, Ordering::Relaxed);
            self.failing = true;
            let wait = after.unwrap_or_else(|| spread(pause));
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            warn!(%why, wait_ms, records = records.len(), "the collector did not take records");
            leave.rest(wait).await;
            if leave.is_asked() {
                return Sent::Stopped;
            }
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    fn taken(&mut self, sent: u64, rejected: u64, said: &str) {
        let exported = sent.saturating_sub(rejected);
        self.figures.exported.fetch_add(exported, Ordering::Relaxed);
        if rejected > 0 {
            self.figures
                .rejected
                .fetch_add(rejected.min(sent), Ordering::Relaxed);
            error!(
                rejected,
                said, "the collector refuses some records, which are left out"
            );
        } else if !said.is_empty() {
            warn!(said, "the collector takes records and has something to say");
        }
        if std::mem::take(&mut self.failing) {
            info!("the collector takes records again");
        }
    }
}

/// Between three and five quarters, so that gateways do not come back all at once.
fn spread(pause: Duration) -> Duration {
    let of_512 = u32::try_from(RandomState::new().hash_one(0_u8) % 512).unwrap_or(0);
    (pause / 4 * 3).saturating_add(pause / 1024 * of_512)
}

fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told.push_str(": ");
        told.push_str(&cause.to_string());
        source = cause.source();
    }
    told
}

#[cfg(test)]
mod tests;
