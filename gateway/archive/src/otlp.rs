//! Records to an OpenTelemetry collector, as logs over OTLP; and, as far as it takes them, spans of
//! calls (`traces`).
//!
//! ```text
//! outbox → lines (../lines) → records (convert) → batch → collector (wire) → reply → outbox
//! ```
//! A segment or object is said to have arrived when the collector has answered for every record in
//! it, so each record is handed over at least once, and more often only around a crash or an
//! answer that was lost: `tollgate.record.id` tells. Whatever the collector does, calls go on; it
//! costs lag. Worst case: a record that the collector calls invalid again and again is counted,
//! logged and left out; it stays in its partition.

mod batch;
mod convert;
mod export;
mod leave;
mod proto;
mod reply;
mod semconv;
mod spans;
mod traces;
mod wire;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tollgate_core::policy::Upstream;

pub use export::{Exporter, ExporterConfig};
pub use semconv::{NAMES, SCHEMA_URL};
pub use traces::{SpanExporter, SpanExporterConfig, SpanFigures, SpanQueue};
pub use wire::{Roots, UnusableRoots};

/// How one speaks to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// gRPC.
    #[default]
    Grpc,
    /// Protobuf over HTTP/1.1.
    Http,
}

/// Where logs go.
#[derive(Clone)]
pub struct Collector {
    /// Its origin. Over HTTP, `base_path` is the whole path; gRPC has one of its own.
    pub server: Upstream,
    /// How one speaks to it.
    pub protocol: Protocol,
    /// What each request carries besides; the values are secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long one request may take, connecting included.
    pub timeout: Duration,
}

impl Collector {
    /// The authorities in its `ca_file`, or the system's.
    ///
    /// # Errors
    /// If there are none to be had.
    pub fn roots(&self) -> Result<Roots, UnusableRoots> {
        Roots::read(self.server.ca_file.as_deref().map(Path::new))
    }
}

/// What has become of records so far.
#[derive(Debug, Default)]
pub struct Figures {
    exported: AtomicU64,
    rejected: AtomicU64,
    failures: AtomicU64,
}

impl Figures {
    /// Records that the collector has taken.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Records that it has refused for good.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Requests that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
