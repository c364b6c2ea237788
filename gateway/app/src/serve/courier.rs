//! Copying what is finished to the object store, if the settings name one.
//!
//! Has a thread of its own, so that calls never wait for it, and goes on after the last of them
//! until the stores have sealed what they hold. Decides nothing but how firmly a partition is held:
//! as its tenant's policy says, and as the settings say for whatever belongs to no tenant that
//! policy knows. Worst case: the process ends within [`DRAIN`] with things left that wait for the
//! next start.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry};
use tokio::sync::watch;
use tollgate_archive::courier::{Courier, CourierConfig, Tally};
use tollgate_archive::shelf::LocalShelf;
use tollgate_archive::store::{Store, StoreConfig};
use tollgate_core::audit::{Destination, Partition};
use tollgate_core::policy::Retention;
use tollgate_proxy::gateway::Gateway;
use tracing::error;

use super::figures::advance;
use super::wiring::Wired;
use crate::clock;
use crate::config::{self, Settings, StoreSettings};

/// How long what waits at the end may take. A store that answers takes hundreds of objects in
/// that time; one that does not is given up at once.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a file that is being read then may take.
const CUT: Duration = Duration::from_secs(1);

/// The courier, on a thread of its own.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Lets it take along what the stores have sealed at their end, and waits until it is done.
pub(super) fn finish(running: Option<Running>) {
    if let Some(Running { stop, thread }) = running {
        stop.send_replace(true);
        if thread.join().is_err() {
            error!("the courier ended in a panic");
        }
    }
}

/// Who the stores keep parcels for: another place has had none of them.
pub(super) fn destination(settings: &Settings) -> Option<(Destination, String)> {
    let StoreConfig {
        place, endpoint, ..
    } = &settings.store.as_ref()?.config;
    let identity = match endpoint {
        Some(endpoint) => format!("{place} at {endpoint}"),
        None => place.to_string(),
    };
    Some((Destination::ObjectStore, identity))
}

/// Starts a courier to the store that the settings name, if they name one.
///
/// # Errors
/// If the store cannot be set up, or metrics of these names exist.
pub(super) fn start(settings: &Settings, wired: &Wired) -> anyhow::Result<Option<Running>> {
    let Some(to) = &settings.store else {
        return Ok(None);
    };
    let store = Store::connect(&to.config, &config::store_variables());
    let store = store.with_context(|| format!("[records.store] {}", to.config.place))?;
    let courier = Courier::new(CourierConfig {
        outbox: wired.embedded.outbox(),
        shelf: LocalShelf::new(&settings.data_dir),
        store,
        form: to.form,
        retention: retention(to, &wired.gateway),
        clock: clock::now,
        drain: DRAIN,
    });
    register(&wired.registry, &courier.tally())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = watch::channel(false);
    let thread = std::thread::Builder::new().name("courier".to_owned());
    let thread = thread.spawn(move || {
        runtime.block_on(courier.run(stopped));
        runtime.shutdown_timeout(CUT);
    })?;
    Ok(Some(Running { stop, thread }))
}

fn retention(
    to: &StoreSettings,
    gateway: &Arc<Gateway>,
) -> Arc<dyn Fn(&Partition) -> Retention + Send + Sync> {
    let others = to.retention;
    // The courier outlasts the calls and must not keep their gateway alive; the policy that was
    // in force last goes on holding.
    let last = Mutex::new(Arc::clone(&gateway.live.snapshot().policy));
    let gateway = Arc::downgrade(gateway);
    Arc::new(move |partition| {
        let mut policy = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gateway) = gateway.upgrade() {
            *policy = Arc::clone(&gateway.live.snapshot().policy);
        }
        let tenant = partition
            .tenant()
            .and_then(|tenant| policy.tenants.get(tenant));
        tenant.map_or(others, |tenant| tenant.records)
    })
}

/// Registers what the courier counts. Stores and courier count for themselves, so the figures are
/// read when the metrics are.
fn register(registry: &Registry, tally: &Arc<Tally>) -> prometheus::Result<()> {
    let count = |name: &str, help: &str, read: fn(&Tally) -> u64| {
        let counted = Counted {
            counter: IntCounter::new(name, help)?,
            tally: Arc::clone(tally),
            read,
        };
        registry.register(Box::new(counted))
    };
    count(
        "tollgate_records_shipped_total",
        "Segments, records and checkpoints that have arrived in the record store.",
        Tally::shipped,
    )?;
    count(
        "tollgate_records_shipped_bytes_total",
        "Their bytes, as they were put.",
        Tally::bytes,
    )?;
    count(
        "tollgate_record_store_failures_total",
        "Attempts to put something into the record store that failed.",
        Tally::failures,
    )?;
    count(
        "tollgate_record_store_conflicts_total",
        "Names in the record store that had other bytes already.",
        Tally::conflicts,
    )
}

/// A counter that follows a figure of the courier's.
struct Counted {
    counter: IntCounter,
    tally: Arc<Tally>,
    read: fn(&Tally) -> u64,
}

impl Collector for Counted {
    fn desc(&self) -> Vec<&Desc> {
        self.counter.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        advance(&self.counter, (self.read)(&self.tally));
        self.counter.collect()
    }
}
