//! Records to an OpenTelemetry collector, if the settings name one.
//!
//! Decides nothing: what goes there and how is the exporter's. Worst case: the collector takes
//! nothing, and what waits for it is read again at the next start.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus::Registry;
use tollgate_archive::otlp::{Collector, Exporter, ExporterConfig, Figures};
use tollgate_archive::shelf::LocalShelf;
use tollgate_core::audit::Destination;
use tollgate_core::policy::Mistake;

use super::onward::{self, Running, follow};
use super::wiring::Wired;
use crate::clock;
use crate::config::{OtlpSettings, Settings, headers};

/// How long what waits at the end may take. A collector that fails is given up at once.
const DRAIN: Duration = Duration::from_secs(5);

/// Another endpoint has had no records.
pub(super) fn destination(settings: &Settings) -> Option<(Destination, String)> {
    let to = settings.otlp.as_ref()?;
    Some((Destination::Collector, to.endpoint()))
}

/// Starts an exporter to the collector that the settings name, if they name one.
///
/// # Errors
/// If its headers or authorities cannot be used, or metrics of these names exist.
pub(super) fn start(settings: &Settings, wired: &Wired) -> anyhow::Result<Option<Running>> {
    let Some(to) = &settings.otlp else {
        return Ok(None);
    };
    let exporter = Exporter::new(ExporterConfig {
        outbox: wired.embedded.outbox(),
        shelf: Arc::new(LocalShelf::new(&settings.data_dir)),
        collector: collector(to).context("[records.otlp]")?,
        version: env!("CARGO_PKG_VERSION"),
        clock: clock::now,
        drain: DRAIN,
    });
    let exporter = exporter.with_context(|| format!("[records.otlp] {}", to.endpoint()))?;
    register(&wired.registry, &exporter.figures())?;
    onward::spawn("exporter", |stopped| exporter.run(stopped)).map(Some)
}

pub(super) fn collector(to: &OtlpSettings) -> anyhow::Result<Collector> {
    let headers = to.headers_file.as_deref().map(headers::read).transpose();
    let headers = headers.map_err(|mistakes| {
        let told: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        anyhow::anyhow!("headers_file: {}", told.join("; "))
    })?;
    Ok(Collector {
        server: to.server.clone(),
        protocol: to.protocol,
        headers: headers.unwrap_or_default(),
        timeout: to.timeout,
    })
}

fn register(registry: &Registry, figures: &Arc<Figures>) -> prometheus::Result<()> {
    let count = |named, read| follow(registry, figures, named, read);
    count(
        (
            "tollgate_otlp_records_total",
            "Records that the collector has taken.",
        ),
        Figures::exported,
    )?;
    count(
        (
            "tollgate_otlp_rejected_total",
            "Records that it has refused for good; they stay in their partitions.",
        ),
        Figures::rejected,
    )?;
    count(
        (
            "tollgate_otlp_failures_total",
            "Requests to it that failed and are repeated.",
        ),
        Figures::failures,
    )
}
