//! How long the parts of a call take: the gateway's own, and the upstream's.
//!
//! The gateway's own time is what a call would not take without it: from the request's head to its
//! going out, less the wait for the client's body; from the head of the answer to handing it on;
//! and from the last byte of the answer to the end of the settlement. Passing the pieces of an
//! answer on is not in it. Worst case: a thread that is taken away in between counts as ours.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, Registry};
use tokio::time::Instant;

/// Waits in seconds, from what a small call costs to a gateway that hangs.
const OVERHEAD: [f64; 15] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002_5, 0.005, 0.01,
    0.025, 0.1, 0.5, 2.5,
];
const FIRST_BYTE: [f64; 12] = [
    0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];
const UPSTREAM: [f64; 13] = [
    0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
];
/// From a revocation to the end of a call: within a second on each replica, five are promised.
const ENDINGS: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 60.0];

/// A call's clock. Runs from the request's head on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    began: Instant,
    /// Spent waiting for the client.
    waited: Duration,
    own: Duration,
    sent: Option<Instant>,
    answered: Option<Instant>,
}

impl Timing {
    /// From now on.
    pub(crate) fn start() -> Self {
        Self {
            began: Instant::now(),
            waited: Duration::ZERO,
            own: Duration::ZERO,
            sent: None,
            answered: None,
        }
    }

    /// So much of it was a wait for the client.
    pub(crate) fn waited(&mut self, wait: Duration) {
        self.waited = self.waited.saturating_add(wait);
    }

    /// The request goes out.
    pub(crate) fn sends(&mut self) {
        let now = Instant::now();
        self.own = now.duration_since(self.began).saturating_sub(self.waited);
        self.sent = Some(now);
    }

    /// The head of the answer is here.
    pub(crate) fn answered(&mut self) {
        self.answered = Some(Instant::now());
    }

    /// The head of the answer is handed on `now`.
    pub(crate) fn hands_on(&mut self, now: Instant) {
        if let Some(answered) = self.answered {
            self.own = self.own.saturating_add(now.duration_since(answered));
        }
    }

    /// From the request's head to `now`.
    pub(crate) fn whole(&self, now: Instant) -> Duration {
        now.duration_since(self.began)
    }
}

/// The histograms.
pub(crate) struct Times {
    overhead: Histogram,
    upstream: Histogram,
    first_byte: Histogram,
    revoked: Histogram,
}

impl Times {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            overhead: histogram(
                registry,
                "tollgate_overhead_seconds",
                "Time that the gateway itself adds to a call that reaches an upstream.",
                &OVERHEAD,
            )?,
            upstream: histogram(
                registry,
                "tollgate_upstream_seconds",
                "Time from handing a request to the upstream's connection to the end of its answer.",
                &UPSTREAM,
            )?,
            first_byte: histogram(
                registry,
                "tollgate_upstream_first_byte_seconds",
                "Time from admission to the first byte of the upstream's answer.",
                &FIRST_BYTE,
            )?,
            revoked: histogram(
                registry,
                "tollgate_revocation_delay_seconds",
                "Time from a revocation to the end of each call under way that it ended.",
                &ENDINGS,
            )?,
        })
    }

    /// A call has ended: its last byte came at `ended`, and it is settled now.
    pub(crate) fn ended(&self, timing: &Timing, ended: Instant) {
        let Some(sent) = timing.sent else { return };
        let own = timing.own.saturating_add(ended.elapsed());
        self.overhead.observe(own.as_secs_f64());
        let upstream = ended.duration_since(sent);
        self.upstream.observe(upstream.as_secs_f64());
    }

    pub(crate) fn first_byte(&self, micros: u64) {
        let wait = Duration::from_micros(micros);
        self.first_byte.observe(wait.as_secs_f64());
    }

    pub(crate) fn revoked(&self, delay: Duration) {
        self.revoked.observe(delay.as_secs_f64());
    }
}

/// A histogram of that name, registered.
pub(crate) fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let histogram = Histogram::with_opts(opts)?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn own_time_leaves_out_the_client_and_the_upstream() {
        let registry = Registry::new();
        let times = Times::register(&registry).unwrap();
        let pass = |millis| tokio::time::advance(Duration::from_millis(millis));
        let mut timing = Timing::start();
        pass(70).await; // of which the client took its time with the body:
        timing.waited(Duration::from_millis(50));
        timing.sends();
        pass(400).await;
        timing.answered();
        pass(3).await;
        timing.hands_on(Instant::now());
        pass(1_000).await;
        let ended = Instant::now();
        pass(2).await;
        times.ended(&timing, ended);
        assert!((times.overhead.get_sample_sum() - 0.025).abs() < 1e-9);
        assert!((times.upstream.get_sample_sum() - 1.403).abs() < 1e-9);
    }
}
