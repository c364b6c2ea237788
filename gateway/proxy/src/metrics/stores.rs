//! How long the stores take and how often they fail, by what was asked of them.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use tokio::time::Instant;
use tollgate_core::budget::StoreError;
use tollgate_core::identity::Caller;
use tollgate_core::latency::STEPS_MICROS;
use tollgate_core::registry::{Liveness, Registered, Revocation, TokenRegistry};
use tollgate_core::time::Timestamp;

use super::revocations::Revocations;

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Money and pace for a call.
    Reserve,
    /// To keep an intent.
    Intend,
    /// A secret.
    Fetch,
    /// Whether a token that is new here is live.
    LookUp,
    /// To put a token on the table.
    Register,
    /// To take tokens off it.
    Revoke,
}

impl Asked {
    const ALL: [Self; 6] = [
        Self::Reserve,
        Self::Intend,
        Self::Fetch,
        Self::LookUp,
        Self::Register,
        Self::Revoke,
    ];

    /// The store, and what is asked of it.
    const fn labels(self) -> [&'static str; 2] {
        match self {
            Self::Reserve => ["ledger", "reserve"],
            Self::Intend => ["journal", "intend"],
            Self::Fetch => ["vault", "fetch"],
            Self::LookUp => ["registry", "look_up"],
            Self::Register => ["registry", "register"],
            Self::Revoke => ["registry", "revoke"],
        }
    }
}

/// The figures, in the order of [`Asked`].
pub(crate) struct StoreTimes([(Histogram, IntCounter); 6]);

impl StoreTimes {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = ["store", "operation"];
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of ten seconds at most"
        )]
        let steps = STEPS_MICROS.map(|micros| micros as f64 / 1e6);
        let waits = HistogramOpts::new(
            "tollgate_store_seconds",
            "Time that stores took, by store and what was asked of it.",
        );
        let waits = HistogramVec::new(waits.buckets(steps.to_vec()), &labels)?;
        let errors = Opts::new(
            "tollgate_store_errors_total",
            "Failures of stores, by store and what was asked of it.",
        );
        let errors = IntCounterVec::new(errors, &labels)?;
        registry.register(Box::new(waits.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        Ok(Self(Asked::ALL.map(|asked| {
            let labels = asked.labels();
            (
                waits.with_label_values(&labels),
                errors.with_label_values(&labels),
            )
        })))
    }

    /// Waits for a store, and counts.
    pub(crate) async fn timed<T, E>(
        &self,
        asked: Asked,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (answer, wait) = waited(answer).await;
        self.took(asked, wait, answer.is_err());
        answer
    }

    /// Counts that a store took so long.
    pub(crate) fn took(&self, asked: Asked, wait: Duration, failed: bool) {
        let Some((waits, errors)) = self.0.get(asked as usize) else {
            return;
        };
        waits.observe(wait.as_secs_f64());
        if failed {
            errors.inc();
        }
    }
}

/// Waits for `answer`, and says how long that took: no time, if it was there at once. Most answers are,
/// and to look at the clock takes longer than they do.
pub(crate) async fn waited<F: Future>(answer: F) -> (F::Output, Duration) {
    let mut answer = pin!(answer);
    let mut since = None;
    let answer = poll_fn(|cx| {
        let polled = answer.as_mut().poll(cx);
        if polled.is_pending() {
            since.get_or_insert_with(Instant::now);
        }
        polled
    })
    .await;
    let wait = since.map_or(Duration::ZERO, |since| since.elapsed());
    (answer, wait)
}

/// A table of tokens, with figures of what is asked of it beside the calls, and of revocations.
pub(crate) struct Measured {
    pub(crate) registry: Arc<dyn TokenRegistry>,
    pub(crate) times: Arc<StoreTimes>,
    pub(crate) revocations: Arc<Revocations>,
}

#[async_trait]
impl TokenRegistry for Measured {
    fn liveness(&self, caller: &Caller) -> Result<Liveness, StoreError> {
        self.registry.liveness(caller)
    }

    async fn look_up(&self, caller: &Caller) -> Result<Liveness, StoreError> {
        let answer = self.registry.look_up(caller);
        self.times.timed(Asked::LookUp, answer).await
    }

    async fn register(
        &self,
        caller: &Caller,
        rests_on: Option<Timestamp>,
    ) -> Result<Registered, StoreError> {
        let answer = self.registry.register(caller, rests_on);
        self.times.timed(Asked::Register, answer).await
    }

    async fn revoke(&self, what: &Revocation, now: Timestamp) -> Result<usize, StoreError> {
        self.revocations.made(what, now);
        let answer = self.registry.revoke(what, now);
        self.times.timed(Asked::Revoke, answer).await
    }
}
