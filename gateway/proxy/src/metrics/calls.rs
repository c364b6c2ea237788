//! What becomes of calls: outcomes, refusals, usage and money, of all tenants together.

use prometheus::{IntCounter, IntGauge, Registry};
use tollgate_core::record::{Ending, Outcome, UsageSource};

use super::by_word::ByWord;
use super::codes::CODES;
use crate::pressure::Pressed;

/// Outcomes of calls that reached an upstream, in the order of their counters.
pub(super) const OUTCOMES: [Outcome; 5] = [
    Outcome::Completed,
    Outcome::ClientGone,
    Outcome::UpstreamFailed,
    Outcome::Revoked,
    Outcome::Interrupted,
];

const SOURCES: [UsageSource; 4] = [
    UsageSource::Exact,
    UsageSource::Estimated,
    UsageSource::Interrupted,
    UsageSource::None,
];

/// The counters.
pub(super) struct Calls {
    outcomes: ByWord,
    pub(super) rejections: ByWord,
    pub(super) overloads: ByWord,
    sources: ByWord,
    spend_nano_usd: IntCounter,
    pub(super) unpriced: IntCounter,
    pub(super) above_reservation: IntCounter,
    pub(super) overshoot_nano_usd: IntCounter,
    pub(super) reservations: IntGauge,
    pub(super) streams: IntGauge,
}

impl Calls {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by = |label: &str, told: (&str, &str), words: &[&'static str]| {
            ByWord::register(registry, told, label, words.iter().copied())
        };
        let outcomes = (
            "tollgate_calls_total",
            "Calls that reached an upstream, by outcome.",
        );
        let rejections = (
            "tollgate_rejections_total",
            "Answers the gateway itself gave, by code.",
        );
        let overloads = (
            "tollgate_overloads_total",
            "Calls turned away because the gateway had no room, by the bound that was reached.",
        );
        let sources = (
            "tollgate_usage_total",
            "Settled calls by where their usage came from.",
        );
        Ok(Self {
            outcomes: by("outcome", outcomes, &OUTCOMES.map(Outcome::as_str))?,
            rejections: by("code", rejections, &CODES)?,
            overloads: by("bound", overloads, &Pressed::ALL.map(Pressed::as_str))?,
            sources: by("source", sources, &SOURCES.map(UsageSource::as_str))?,
            spend_nano_usd: counter(
                registry,
                "tollgate_spend_nano_usd_total",
                "Settled cost of all tenants, in 10^-9 US dollars, each call rounded down.",
            )?,
            unpriced: counter(
                registry,
                "tollgate_unpriced_calls_total",
                "Calls that were made without a price, which only tenants without a cap can make.",
            )?,
            above_reservation: counter(
                registry,
                "tollgate_settled_above_reservation_total",
                "Calls that cost more than their worst case: a price or a bound is wrong. Alert on any.",
            )?,
            overshoot_nano_usd: counter(
                registry,
                "tollgate_overshoot_nano_usd_total",
                "By how much calls cost more than their worst case, in 10^-9 US dollars. Alert on any.",
            )?,
            reservations: gauge(
                registry,
                "tollgate_reservations_in_flight",
                "Reservations that are not settled yet.",
            )?,
            streams: gauge(
                registry,
                "tollgate_open_streams",
                "Streams whose answer is being relayed.",
            )?,
        })
    }

    /// Counts a call that has ended; what it cost, in 10⁻⁹ USD.
    pub(super) fn ended(&self, ending: &Ending) -> u64 {
        self.outcomes.inc(ending.outcome.as_str());
        self.sources.inc(ending.usage_source.as_str());
        let nano = ending.cost.as_pico().max(0) / 1_000;
        let nano = u64::try_from(nano).unwrap_or(u64::MAX);
        self.spend_nano_usd.inc_by(nano);
        nano
    }
}

/// A counter of that name, registered.
pub(super) fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

/// As [`counter`], for a gauge.
pub(super) fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}
