//! Copying what is finished to the object store, if the settings name one.
//!
//! Decides nothing but how firmly a partition is held: as its tenant's policy says, and as the
//! settings say for whatever belongs to no tenant that policy knows. Worst case: the process ends
//! within [`DRAIN`] with things left that wait for the next start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use prometheus::Registry;
use tollgate_archive::courier::{Courier, CourierConfig, Tally};
use tollgate_archive::shelf::LocalShelf;
use tollgate_archive::store::{Store, StoreConfig};
use tollgate_core::audit::{Destination, Partition};
use tollgate_core::policy::Retention;
use tollgate_proxy::gateway::Gateway;

use super::onward::{self, Running, follow};
use super::wiring::Wired;
use crate::clock;
use crate::config::{self, Settings, StoreSettings};

/// How long what waits at the end may take. A store that answers takes hundreds of objects in
/// that time; one that does not is given up at once.
const DRAIN: Duration = Duration::from_secs(10);

/// Another place has had no records.
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
    onward::spawn("courier", |stopped| courier.run(stopped)).map(Some)
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

fn register(registry: &Registry, tally: &Arc<Tally>) -> prometheus::Result<()> {
    let count = |named, read| follow(registry, tally, named, read);
    count(
        (
            "tollgate_records_shipped_total",
            "Segments, records and checkpoints that have arrived in the record store.",
        ),
        Tally::shipped,
    )?;
    count(
        (
            "tollgate_records_shipped_bytes_total",
            "Their bytes, as they were put.",
        ),
        Tally::bytes,
    )?;
    count(
        (
            "tollgate_record_store_failures_total",
            "Attempts to put something into the record store that failed.",
        ),
        Tally::failures,
    )?;
    count(
        (
            "tollgate_record_store_conflicts_total",
            "Names in the record store that had other bytes already.",
        ),
        Tally::conflicts,
    )
}
