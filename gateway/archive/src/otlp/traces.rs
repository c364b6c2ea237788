//! Spans to a collector, as far as it takes them.
//!
//! ```text
//! a call ends → queue (bounded) → spans → batch → collector (wire) → reply
//! ```
//! Spans are for looking at, records are what counts: nothing is kept on disk, a queue that is full
//! drops what comes, and a batch that the collector does not take after [`TRIES`] is dropped. All of
//! it is counted. Worst case: a collector that is away costs every span, the memory of
//! [`QUEUED_CALLS`], and nothing of any call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tollgate_core::trace::{CallSpans, SpanSink};
use tracing::{info, warn};

use super::Collector;
use super::leave::Leave;
use super::proto::{ExportTraces, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span};
use super::reply::Reply;
use super::semconv::{SCHEMA_URL, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION};
use super::spans::spans;
use super::wire::{Signal, UnusableRoots, Wire};

/// Calls whose spans wait at most, at some 2 KiB each.
const QUEUED_CALLS: usize = 4_096;
/// Calls whose spans go in one request at most.
const BATCH_CALLS: usize = 256;
/// How long spans are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How often a batch is tried, over some eight seconds.
const TRIES: u32 = 5;
/// The first pause, and the longest, also when the collector asks for more.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const SERVICE: &str = "tollgate";

/// What has become of spans so far.
#[derive(Debug, Default)]
pub struct SpanFigures {
    exported: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
}

impl SpanFigures {
    /// Spans that the collector has taken.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans that it has not, and will not get.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Requests that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// Where calls leave their spans.
pub struct SpanQueue {
    queue: mpsc::Sender<CallSpans>,
    figures: Arc<SpanFigures>,
}

impl SpanSink for SpanQueue {
    fn take(&self, spans: CallSpans) {
        if let Err(untaken) = self.queue.try_send(spans) {
            let (mpsc::error::TrySendError::Full(spans) | mpsc::error::TrySendError::Closed(spans)) =
                untaken;
            let dropped = 1 + u64::from(spans.at.contacted_at.is_some());
            self.figures.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
    }
}

/// What an exporter of spans needs.
pub struct SpanExporterConfig {
    /// Where they go.
    pub collector: Collector,
    /// This program's version.
    pub version: &'static str,
    /// Who writes them.
    pub replica: String,
    /// What is said of all of them besides; wins over what is said anyhow.
    pub attributes: Vec<(String, String)>,
    /// How long what waits at the end may take.
    pub drain: Duration,
}

/// Hands spans to a collector.
pub struct SpanExporter {
    waiting: mpsc::Receiver<CallSpans>,
    wire: Wire,
    figures: Arc<SpanFigures>,
    version: &'static str,
    resource: Resource,
    drain: Duration,
    failing: bool,
}

impl SpanExporter {
    /// One that has not begun, and the queue that it empties.
    ///
    /// # Errors
    /// If TLS is spoken and there is no authority to trust.
    pub fn new(config: SpanExporterConfig) -> Result<(Self, Arc<SpanQueue>), UnusableRoots> {
        let SpanExporterConfig {
            collector,
            version,
            replica,
            attributes,
            drain,
        } = config;
        let (queue, waiting) = mpsc::channel(QUEUED_CALLS);
        let figures = Arc::<SpanFigures>::default();
        let exporter = Self {
            waiting,
            wire: Wire::new(Signal::Traces, collector)?,
            figures: Arc::clone(&figures),
            version,
            resource: resource(version, &replica, attributes),
            drain,
            failing: false,
        };
        Ok((exporter, Arc::new(SpanQueue { queue, figures })))
    }

    /// What has become of spans so far.
    #[must_use]
    pub fn figures(&self) -> Arc<SpanFigures> {
        Arc::clone(&self.figures)
    }

    /// Goes on until `stop` says true; then hands over what waits, unless the collector fails or the
    /// time to drain is over.
    pub async fn run(mut self, stop: watch::Receiver<bool>) {
        let mut leave = Leave::new(stop, self.drain);
        loop {
            let stopping = leave.is_asked();
            if !stopping && self.waiting.len() < BATCH_CALLS {
                leave.rest(GATHER).await;
            }
            let mut calls = Vec::new();
            while calls.len() < BATCH_CALLS
                && let Ok(call) = self.waiting.try_recv()
            {
                calls.push(call);
            }
            if !calls.is_empty() {
                self.deliver(calls.iter().flat_map(spans).collect(), &mut leave)
                    .await;
            } else if stopping {
                return;
            }
        }
    }

    async fn deliver(&mut self, spans: Vec<Span>, leave: &mut Leave) {
        let count = spans.len() as u64;
        let taken = self.try_to(&self.request(spans), count, leave).await;
        let taken = taken.min(count);
        self.figures.exported.fetch_add(taken, Ordering::Relaxed);
        let dropped = count - taken;
        self.figures.dropped.fetch_add(dropped, Ordering::Relaxed);
    }

    /// How many of the spans the collector has taken.
    async fn try_to(&mut self, request: &ExportTraces, count: u64, leave: &mut Leave) -> u64 {
        let mut pause = PAUSE;
        for tried in 1..=TRIES {
            let reply = tokio::select! {
                reply = self.wire.send(request) => reply,
                () = leave.over(self.failing) => return 0,
            };
            let (why, after) = match reply {
                Reply::Taken { rejected, said } => {
                    self.taken(rejected, &said);
                    return count.saturating_sub(rejected);
                }
                Reply::Bad { why } => {
                    warn!(%why, spans = count, "the collector refuses spans, which are left out");
                    return 0;
                }
                Reply::Later { why, after } => (why, after),
                Reply::Unclear { why } => (why, None),
            };
            self.figures.failures.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut self.failing, true) {
                warn!(%why, "the collector does not take spans; what it does not take in time is dropped");
            }
            if tried == TRIES {
                return 0;
            }
            leave.rest(after.unwrap_or(pause).min(LONGEST_PAUSE)).await;
            if leave.is_asked() {
                return 0;
            }
            pause = pause.saturating_mul(2);
        }
        0
    }

    fn taken(&mut self, rejected: u64, said: &str) {
        if rejected > 0 {
            warn!(rejected, said, "the collector refuses some spans");
        }
        if std::mem::take(&mut self.failing) {
            info!("the collector takes spans again");
        }
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraces {
        let scope = Scope {
            name: SERVICE.to_owned(),
            version: self.version.to_owned(),
        };
        ExportTraces {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                    schema_url: SCHEMA_URL.to_owned(),
                }],
                schema_url: SCHEMA_URL.to_owned(),
            }],
        }
    }
}

fn resource(version: &str, replica: &str, attributes: Vec<(String, String)>) -> Resource {
    let mut all = vec![
        (SERVICE_NAME.to_owned(), SERVICE.to_owned()),
        (SERVICE_VERSION.to_owned(), version.to_owned()),
        (SERVICE_INSTANCE_ID.to_owned(), replica.to_owned()),
    ];
    all.retain(|(name, _)| !attributes.iter().any(|(given, _)| given == name));
    all.extend(attributes);
    let all = all.into_iter();
    Resource {
        attributes: all
            .map(|(name, value)| KeyValue::text(&name, value))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
