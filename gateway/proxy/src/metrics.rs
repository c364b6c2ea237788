//! Counters of the call path. No label ever takes a client's word: codes and outcomes are fixed
//! sets.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tollgate_core::record::Ending;

use crate::pressure::Pressed;

/// Where in an answer something stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    Header,
    Body,
}

impl Where {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
        }
    }
}

/// What came of a request for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenExchange {
    /// A foreign token was exchanged.
    Exchanged,
    /// A task token was renewed.
    Renewed,
    /// A deliberate no.
    Refused,
    /// The gateway could not.
    Failed,
}

impl TokenExchange {
    const ALL: [Self; 4] = [Self::Exchanged, Self::Renewed, Self::Refused, Self::Failed];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Exchanged => "exchanged",
            Self::Renewed => "renewed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What came of a request for a statement of a caller's own usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementResult {
    /// It was given.
    Answered,
    /// A deliberate no.
    Refused,
    /// The gateway could not.
    Failed,
}

impl StatementResult {
    const ALL: [Self; 3] = [Self::Answered, Self::Refused, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The proxy's metrics.
pub struct Metrics {
    statements: IntCounterVec,
    scrub_hits: IntCounterVec,
    calls: IntCounterVec,
    rejections: IntCounterVec,
    overloads: IntCounterVec,
    lag: IntGauge,
    usage: IntCounterVec,
    first_byte: Histogram,
    spend_nano_usd: IntCounter,
    in_flight: IntGauge,
    notices: IntCounterVec,
    webhooks: IntCounterVec,
    above_reservation: IntCounter,
    exchanges: IntCounterVec,
    key_fetches: IntCounterVec,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by = |label: &str, name: &str, help: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let first_byte = Histogram::with_opts(
            HistogramOpts::new(
                "tollgate_upstream_first_byte_seconds",
                "Time from admission to the first byte of the upstream's answer.",
            )
            .buckets(vec![
                0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
            ]),
        )?;
        let spend_nano_usd = IntCounter::new(
            "tollgate_spend_nano_usd_total",
            "Settled cost of all tenants, in 10^-9 US dollars, each call rounded down.",
        )?;
        registry.register(Box::new(first_byte.clone()))?;
        registry.register(Box::new(spend_nano_usd.clone()))?;
        let (exchanges, key_fetches) = exchanges(registry)?;
        Ok(Self {
            statements: statements(registry)?,
            exchanges,
            key_fetches,
            scrub_hits: scrub_hits(registry)?,
            calls: by(
                "outcome",
                "tollgate_calls_total",
                "Calls that reached an upstream, by outcome.",
            )?,
            rejections: by(
                "code",
                "tollgate_rejections_total",
                "Answers the gateway itself gave, by code.",
            )?,
            overloads: overloads(registry)?,
            lag: gauge(
                registry,
                "tollgate_calls_lag_microseconds",
                "How long what is ready to go on waits for a thread of the calls, as measured last.",
            )?,
            usage: by(
                "source",
                "tollgate_usage_total",
                "Settled calls by where their usage came from.",
            )?,
            notices: by(
                "percent",
                "tollgate_cap_notices_total",
                "Shares of spend caps that were passed, by share in percent.",
            )?,
            first_byte,
            spend_nano_usd,
            in_flight: gauge(
                registry,
                "tollgate_calls_in_flight",
                "Calls and drains under way when the metrics were read.",
            )?,
            webhooks: by_result(
                registry,
                "tollgate_webhook_deliveries_total",
                "Attempts to send a notice, by result: taken or failed.",
                &["taken", "failed"],
            )?,
            above_reservation: above_reservation(registry)?,
        })
    }

    /// Takes over what is under way now; called before the metrics are read.
    pub fn set_in_flight(&self, count: usize) {
        self.in_flight.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Takes over the lag; called before the metrics are read.
    pub fn set_lag(&self, lag: Duration) {
        let micros = i64::try_from(lag.as_micros()).unwrap_or(i64::MAX);
        self.lag.set(micros);
    }

    pub(crate) fn overloaded(&self, by: Pressed) {
        self.overloads.with_label_values(&[by.as_str()]).inc();
    }

    pub(crate) fn scrubbed(&self, place: Where, hits: u64) {
        if hits > 0 {
            let counter = self.scrub_hits.with_label_values(&[place.as_str()]);
            counter.inc_by(hits);
        }
    }

    pub(crate) fn above_reservation(&self) {
        self.above_reservation.inc();
    }

    pub(crate) fn noticed(&self, percent: u8) {
        let percent = percent.to_string();
        self.notices.with_label_values(&[percent.as_str()]).inc();
    }

    pub(crate) fn webhook(&self, taken: bool) {
        let result = if taken { "taken" } else { "failed" };
        self.webhooks.with_label_values(&[result]).inc();
    }

    pub(crate) fn exchanged(&self, result: TokenExchange) {
        let counter = self.exchanges.with_label_values(&[result.as_str()]);
        counter.inc();
    }

    pub(crate) fn stated(&self, result: StatementResult) {
        let counter = self.statements.with_label_values(&[result.as_str()]);
        counter.inc();
    }

    pub(crate) fn fetched_keys(&self, good: bool) {
        let result = if good { "read" } else { "failed" };
        self.key_fetches.with_label_values(&[result]).inc();
    }

    pub(crate) fn rejected(&self, code: &str) {
        self.rejections.with_label_values(&[code]).inc();
    }

    pub(crate) fn settled(&self, ending: &Ending) {
        self.calls
            .with_label_values(&[ending.outcome.as_str()])
            .inc();
        self.usage
            .with_label_values(&[ending.usage_source.as_str()])
            .inc();
        if let Some(micros) = ending.first_byte_us {
            self.first_byte
                .observe(Duration::from_micros(micros).as_secs_f64());
        }
        let nano = ending.cost.as_pico().max(0) / 1_000;
        self.spend_nano_usd
            .inc_by(u64::try_from(nano).unwrap_or(u64::MAX));
    }
}

/// The counter of secrets found, with all of its labels: that there were none is worth knowing.
fn scrub_hits(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let name = "tollgate_scrub_hits_total";
    let help =
        "Secrets taken out of answers of upstreams that sent them back, by where they stood.";
    let hits = IntCounterVec::new(Opts::new(name, help), &["where"])?;
    for place in [Where::Header, Where::Body] {
        hits.with_label_values(&[place.as_str()]).reset();
    }
    registry.register(Box::new(hits.clone()))?;
    Ok(hits)
}

/// The counter of calls turned away for lack of room, with all of its labels.
fn overloads(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let name = "tollgate_overloads_total";
    let help = "Calls turned away because the gateway had no room, by the bound that was reached.";
    let overloads = IntCounterVec::new(Opts::new(name, help), &["bound"])?;
    for pressed in Pressed::ALL {
        overloads.with_label_values(&[pressed.as_str()]).reset();
    }
    registry.register(Box::new(overloads.clone()))?;
    Ok(overloads)
}

/// The counters of token exchanges and of what they need, with all of their labels.
fn exchanges(registry: &Registry) -> Result<(IntCounterVec, IntCounterVec), prometheus::Error> {
    let exchanges = by_result(
        registry,
        "tollgate_token_exchanges_total",
        "Requests for task tokens by result: exchanged, renewed, refused or failed.",
        &TokenExchange::ALL.map(TokenExchange::as_str),
    )?;
    let key_fetches = by_result(
        registry,
        "tollgate_issuer_key_fetches_total",
        "Reads of the key sets of foreign issuers by result: read or failed.",
        &["read", "failed"],
    )?;
    Ok((exchanges, key_fetches))
}

/// The counter of statements of usage.
fn statements(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    by_result(
        registry,
        "tollgate_usage_statements_total",
        "Requests of callers for their own usage by result: answered, refused or failed.",
        &StatementResult::ALL.map(StatementResult::as_str),
    )
}

fn above_reservation(registry: &Registry) -> Result<IntCounter, prometheus::Error> {
    let name = "tollgate_settled_above_reservation_total";
    let help =
        "Calls that cost more than their worst case: a price or a bound is wrong. Alert on any.";
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// A counter by result, with all of its labels.
fn by_result(
    registry: &Registry,
    name: &str,
    help: &str,
    results: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), &["result"])?;
    for result in results {
        counters.with_label_values(&[result]).reset();
    }
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}
