//! Metrics of what is neither on the call path nor the operator's: reloads and stores.
//!
//! Stores count for themselves; their figures are carried over when metrics are read.

mod caps;
mod process;
pub(super) mod waits;

use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tollgate_admin::exposition::Refresh;
use tollgate_admin::probes::Readiness;
use tollgate_core::audit::{Destination, Outbox};
use tollgate_core::price::PriceBook;
use tollgate_core::time::Timestamp;
use tollgate_proxy::gateway::Gateway;
use tollgate_stores::embedded::Embedded;

use super::fleet::FleetFigures;
use super::readiness::Ready;
use super::wiring::Wired;
use crate::clock;
use crate::permissions::Ledger;
use crate::reload::Reloaded;
use caps::CapFigures;

/// What came of changes to files that are watched.
pub(super) struct Reloads {
    results: IntCounterVec,
    last_good: IntGauge,
}

impl Reloads {
    /// # Errors
    /// If metrics of these names exist.
    pub(super) fn of_policies(registry: &Registry) -> prometheus::Result<Self> {
        let results = Opts::new(
            "tollgate_policy_reloads_total",
            "Changes to the policy files, by result: adopted, or kept (mistakes; the last good policy stays).",
        );
        let in_step = Opts::new(
            "tollgate_policy_in_step",
            "1 while the policy in force is what the files say, 0 while they hold mistakes.",
        );
        Self::register(registry, results, in_step)
    }

    /// # Errors
    /// If metrics of these names exist.
    pub(super) fn of_prices(registry: &Registry) -> prometheus::Result<Self> {
        let results = Opts::new(
            "tollgate_price_reloads_total",
            "Changes to the price files, by result: adopted, or kept (mistakes; the last good prices stay).",
        );
        let in_step = Opts::new(
            "tollgate_prices_in_step",
            "1 while the prices in force are what the files say, 0 while they hold mistakes.",
        );
        Self::register(registry, results, in_step)
    }

    fn register(registry: &Registry, results: Opts, in_step: Opts) -> prometheus::Result<Self> {
        let results = IntCounterVec::new(results, &["result"])?;
        let last_good = IntGauge::with_opts(in_step)?;
        registry.register(Box::new(results.clone()))?;
        registry.register(Box::new(last_good.clone()))?;
        for result in ["adopted", "kept"] {
            results.with_label_values(&[result]).reset();
        }
        last_good.set(1);
        Ok(Self { results, last_good })
    }

    /// Puts a new policy in force, and counts; or hands it back, because what it changes of
    /// elevated permissions cannot be recorded.
    pub(super) fn apply(
        &self,
        gateway: &Gateway,
        permissions: &mut Ledger,
        reloaded: Reloaded,
    ) -> Result<(), Reloaded> {
        let (result, in_step) = match reloaded {
            Reloaded::Adopted(policy) => {
                if let Err(error) = permissions.adopt(&policy, clock::now()) {
                    let error = format!("{error:#}");
                    tracing::error!(error, "permissions cannot be recorded; the policy waits");
                    self.last_good.set(0);
                    return Err(Reloaded::Adopted(policy));
                }
                gateway.metrics.know(&policy);
                gateway.live.replace_policy(policy);
                ("adopted", 1)
            }
            Reloaded::Kept(_mistakes) => ("kept", 0),
        };
        self.count(result, in_step);
        Ok(())
    }

    /// Puts new prices in force, and counts.
    pub(super) fn apply_prices(&self, gateway: &Gateway, read: anyhow::Result<PriceBook>) {
        match read {
            Ok(book) => {
                tracing::info!(version = &**book.version(), "prices reloaded");
                gateway.live.replace_prices(Arc::new(book));
                self.count("adopted", 1);
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "price files cannot be used; the last good prices stay in force"
                );
                self.count("kept", 0);
            }
        }
    }

    fn count(&self, result: &str, in_step: i64) {
        self.results.with_label_values(&[result]).inc();
        self.last_good.set(in_step);
    }
}

/// Figures of the stores and the call path that are read, not counted, here.
struct Carried {
    ready: IntGauge,
    behind: IntGauge,
    connections: IntGauge,
    priced: IntGauge,
    written: IntCounter,
    lost: IntCounter,
    strangers: IntCounter,
    sealed: IntCounter,
    signed: IntCounter,
    outbox: OutboxFigures,
}

/// What waits to be handed over, by destination.
struct OutboxFigures {
    parcels: IntGaugeVec,
    bytes: IntGaugeVec,
    seconds: IntGaugeVec,
}

/// A counter of that name, registered.
///
/// # Errors
/// If there is one already.
pub(super) fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

/// As [`counter`], for a gauge.
pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// Registers the metrics that are kept elsewhere; what is returned brings them up to date.
///
/// # Errors
/// If metrics of these names exist.
pub(super) fn carry(wired: &Wired, ready: &Arc<Ready>) -> prometheus::Result<Refresh> {
    let registry = &wired.registry;
    process::register(registry, wired.embedded.interrupted())?;
    let syncs = Arc::downgrade(&wired.embedded);
    waits::register(
        registry,
        "tollgate_journal_sync_seconds",
        "Time that syncs of the journal took.",
        move || syncs.upgrade().map(|stores| stores.stats().journal_syncs),
    )?;
    let fleet = match &wired.fleet {
        Some(fleet) => Some((
            FleetFigures::register(registry, fleet)?,
            Arc::downgrade(fleet),
        )),
        None => None,
    };
    let carried = Carried::register(registry)?;
    let caps = CapFigures::register(registry, &wired.of_tenants, wired.fleet.is_some())?;
    let all = Arc::new((carried, fleet, caps));
    let (gateway, stores) = (
        Arc::downgrade(&wired.gateway),
        Arc::downgrade(&wired.embedded),
    );
    let ready = Arc::clone(ready);
    Ok(Arc::new(move || {
        let all = Arc::clone(&all);
        let (gateway, stores, ready) = (gateway.clone(), stores.clone(), Arc::clone(&ready));
        Box::pin(async move {
            let (carried, fleet, caps) = &*all;
            carried.ready.set(i64::from(ready.missing().is_empty()));
            carried.refresh(&gateway, &stores);
            if let Some((figures, fleet)) = fleet
                && let Some(fleet) = fleet.upgrade()
            {
                figures.refresh(&fleet);
            }
            if let Some(gateway) = gateway.upgrade() {
                let holders = gateway.metrics.tenants.show();
                caps.refresh(&gateway, &holders).await;
            }
        })
    }))
}

impl Carried {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| counter(registry, name, help);
        let gauge = |name, help| gauge(registry, name, help);
        Ok(Self {
            ready: gauge(
                "tollgate_ready",
                "1 while /readyz says that calls can be served, 0 while it does not.",
            )?,
            behind: gauge(
                "tollgate_journal_behind_bytes",
                "Journal bytes that are not on the disk yet.",
            )?,
            connections: gauge("tollgate_client_connections", "Connections of clients.")?,
            priced: gauge(
                "tollgate_prices_exported_timestamp_seconds",
                "When the price catalogue in force was exported, or 0 if it does not say.",
            )?,
            written: counter("tollgate_records_written_total", "Records written.")?,
            lost: counter(
                "tollgate_records_lost_total",
                "Records of refusals lost while the disk took nothing.",
            )?,
            strangers: counter(
                "tollgate_strangers_unrecorded_total",
                "Refusals of unknown callers beyond the hundred a second that are recorded.",
            )?,
            sealed: counter(
                "tollgate_segments_sealed_total",
                "Segments of records that have become final.",
            )?,
            signed: counter(
                "tollgate_checkpoints_signed_total",
                "Heads of chains of records that have been signed.",
            )?,
            outbox: OutboxFigures::register(registry)?,
        })
    }

    fn refresh(&self, gateway: &Weak<Gateway>, stores: &Weak<Embedded>) {
        if let Some(gateway) = gateway.upgrade() {
            gateway.metrics.set_in_flight(gateway.tracker.in_flight());
            gateway.metrics.set_lag(gateway.pressure.lag());
            let connections = gateway.tracker.connections();
            self.connections
                .set(i64::try_from(connections).unwrap_or(i64::MAX));
            let exported = gateway.live.snapshot().prices.exported();
            self.priced.set(exported.map_or(0, Timestamp::as_seconds));
        }
        let Some(stores) = stores.upgrade() else {
            return;
        };
        let stats = stores.stats();
        let behind = i64::try_from(stats.journal_behind_bytes);
        self.behind.set(behind.unwrap_or(i64::MAX));
        advance(&self.written, stats.records_written);
        advance(&self.lost, stats.records_lost);
        advance(&self.strangers, stats.strangers_unrecorded);
        advance(&self.sealed, stats.segments_sealed);
        advance(&self.signed, stats.checkpoints_signed);
        self.outbox.refresh(&*stores.outbox(), clock::now());
    }
}

impl OutboxFigures {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["destination"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            parcels: gauge(
                "tollgate_outbox_parcels",
                "Segments, records and checkpoints that wait to be handed over.",
            )?,
            bytes: gauge("tollgate_outbox_bytes", "How many bytes they are.")?,
            seconds: gauge(
                "tollgate_outbox_oldest_seconds",
                "How long the oldest of them has been waiting.",
            )?,
        })
    }

    fn refresh(&self, outbox: &dyn Outbox, now: Timestamp) {
        for to in Destination::ALL {
            let behind = match outbox.behind(to) {
                Ok(behind) => behind,
                Err(error) => {
                    // The figures stay as they are.
                    tracing::warn!(%error, "how much waits to be handed over cannot be told");
                    return;
                }
            };
            let label = [to.as_str()];
            let set = |gauge: &IntGaugeVec, value: u64| {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                gauge.with_label_values(&label).set(value);
            };
            let waited = behind
                .oldest
                .map_or(Duration::ZERO, |since| now.since(since));
            set(&self.parcels, behind.parcels);
            set(&self.bytes, behind.bytes);
            set(&self.seconds, waited.as_secs());
        }
    }
}

/// Moves a counter up to a figure that is counted elsewhere.
pub(super) fn advance(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
