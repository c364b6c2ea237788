//! Joins a fleet as the settings say, and shows how it goes there.
//!
//! Worst case: a password file that cannot be read keeps the gateway from starting.

use std::sync::Arc;

use anyhow::Context;
use prometheus::{Gauge, IntCounter, IntGauge, Registry};
use tollgate_core::ids::ReplicaId;
use tollgate_stores::embedded::Embedded;
use tollgate_stores::redis::{Fleet, FleetConfig};

use super::figures::{advance, counter, gauge, waits};
use crate::clock;
use crate::config::Settings;

/// Joins the fleet that the settings name, if they do.
///
/// # Errors
/// If the settings or the data directory cannot be used. Redis itself may be away.
pub(super) fn join(
    settings: &Settings,
    replica: &ReplicaId,
    embedded: &Embedded,
) -> anyhow::Result<Option<Fleet>> {
    let Some(fleet) = &settings.fleet else {
        return Ok(None);
    };
    let config = FleetConfig {
        redis: fleet.redis()?,
        replica: replica.clone(),
        leases: fleet.leases,
        lease: fleet.lease,
        data_dir: settings.data_dir.clone(),
        clock: clock::now,
    };
    let fleet = Fleet::join(&config, embedded).context("[fleet]")?;
    tracing::info!(member = fleet.member(), "joining the fleet");
    Ok(Some(fleet))
}

/// Figures of a gateway's part in its fleet, brought up to date when metrics are read.
pub(super) struct FleetFigures {
    open: IntGauge,
    members: IntGauge,
    taken_here: IntCounter,
    taken_there: IntCounter,
    news_age: Gauge,
    failures: IntCounter,
}

impl FleetFigures {
    /// # Errors
    /// If metrics of these names exist.
    pub(super) fn register(registry: &Registry, fleet: &Arc<Fleet>) -> prometheus::Result<Self> {
        let visits = Arc::downgrade(fleet);
        waits::register(
            registry,
            "tollgate_fleet_visit_seconds",
            "Time of round trips to the shared store for money and pace, for any number of calls each.",
            move || visits.upgrade().map(|fleet| fleet.stats().visits),
        )?;
        let counter = |name, help| counter(registry, name, help);
        let gauge = |name, help| gauge(registry, name, help);
        Ok(Self {
            open: gauge(
                "tollgate_fleet_open",
                "1 while the fleet's counters may be taken from, 0 while they may not.",
            )?,
            members: gauge(
                "tollgate_fleet_replicas",
                "Replicas that were heard of in the last 5 seconds.",
            )?,
            taken_here: counter(
                "tollgate_fleet_local_admissions_total",
                "Calls admitted or refused without asking the shared store.",
            )?,
            taken_there: counter(
                "tollgate_fleet_shared_admissions_total",
                "Calls that waited for the shared store.",
            )?,
            news_age: {
                let name = "tollgate_fleet_news_age_seconds";
                let help = "Age of the last word of the shared store; beyond 1, calls are refused.";
                let gauge = Gauge::new(name, help)?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            failures: counter(
                "tollgate_fleet_visit_failures_total",
                "Round trips that failed or took too long.",
            )?,
        })
    }

    pub(super) fn refresh(&self, fleet: &Fleet) {
        let state = fleet.state();
        let alive = state.members.iter().filter(|(_, silent)| *silent < 5);
        self.open.set(i64::from(state.open));
        self.members
            .set(i64::try_from(alive.count()).unwrap_or(i64::MAX));
        let stats = fleet.stats();
        advance(&self.taken_here, stats.taken_here);
        advance(&self.taken_there, stats.taken_there);
        // Never heard of is as bad as it gets.
        let age = fleet
            .news_age()
            .map_or(f64::INFINITY, |age| age.as_secs_f64());
        self.news_age.set(age);
        advance(&self.failures, stats.failures);
    }
}
