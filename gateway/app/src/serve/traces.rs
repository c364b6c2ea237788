//! Spans of calls to an OpenTelemetry collector, if the settings name one.
//!
//! Decides nothing: which calls have spans is the proxy's to say by the settings, what becomes of
//! them the exporter's. Worst case: the collector takes nothing, and spans are lost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus::Registry;
use tollgate_archive::otlp::{SpanExporter, SpanExporterConfig, SpanFigures};
use tollgate_proxy::traces::Traces;

use super::collector::collector;
use super::onward::{self, Running, follow};
use crate::config::Settings;

/// How long what waits at the end may take. A collector that fails is given up at once.
const DRAIN: Duration = Duration::from_secs(5);

/// What calls leave their spans with, and who takes them from there; nobody if the settings name no
/// collector.
///
/// # Errors
/// If its headers or authorities cannot be used, or metrics of these names exist.
pub(super) fn open(
    settings: &Settings,
    replica: &str,
    registry: &Registry,
) -> anyhow::Result<(Option<Traces>, Option<SpanExporter>)> {
    let Some(to) = &settings.traces else {
        return Ok((None, None));
    };
    let made = SpanExporter::new(SpanExporterConfig {
        collector: collector(&to.collector).context("[traces]")?,
        version: env!("CARGO_PKG_VERSION"),
        replica: replica.to_owned(),
        attributes: to.attributes.clone(),
        drain: DRAIN,
    });
    let (exporter, queue) =
        made.with_context(|| format!("[traces] {}", to.collector.endpoint()))?;
    register(registry, &exporter.figures())?;
    let traces = Traces {
        sampling: to.sampling,
        sink: queue,
    };
    Ok((Some(traces), Some(exporter)))
}

/// Starts the exporter, if there is one.
///
/// # Errors
/// If there is no thread to be had.
pub(super) fn start(exporter: Option<SpanExporter>) -> anyhow::Result<Option<Running>> {
    let start = |exporter: SpanExporter| onward::spawn("spans", |stopped| exporter.run(stopped));
    exporter.map(start).transpose()
}

fn register(registry: &Registry, figures: &Arc<SpanFigures>) -> prometheus::Result<()> {
    let count = |named, read| follow(registry, figures, named, read);
    count(
        (
            "tollgate_spans_exported_total",
            "Spans of calls that the collector has taken.",
        ),
        SpanFigures::exported,
    )?;
    count(
        (
            "tollgate_spans_dropped_total",
            "Spans that were dropped: too many waited, or the collector did not take them.",
        ),
        SpanFigures::dropped,
    )?;
    count(
        (
            "tollgate_span_export_failures_total",
            "Requests to the collector of spans that failed.",
        ),
        SpanFigures::failures,
    )
}
