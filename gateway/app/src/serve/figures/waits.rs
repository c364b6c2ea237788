//! Waits that stores count for themselves, as histograms.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};
use prometheus::{Opts, Registry};
use tollgate_core::latency::{STEPS_MICROS, Waits};

/// Registers a histogram of what `read` tells; nothing is shown while it tells nothing.
///
/// # Errors
/// If a metric of that name exists.
pub(in crate::serve) fn register(
    registry: &Registry,
    name: &str,
    help: &str,
    read: impl Fn() -> Option<Waits> + Send + Sync + 'static,
) -> prometheus::Result<()> {
    let described = prometheus::core::Describer::describe(&Opts::new(name, help))?;
    registry.register(Box::new(Followed { described, read }))
}

struct Followed<R> {
    described: Desc,
    read: R,
}

impl<R: Fn() -> Option<Waits> + Send + Sync> Collector for Followed<R> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.described]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(waits) = (self.read)() else {
            return Vec::new();
        };
        let mut metric = Metric::default();
        metric.set_histogram(histogram(&waits));
        let mut family = MetricFamily::default();
        family.set_name(self.described.fq_name.clone());
        family.set_help(self.described.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 microseconds are 285 years"
)]
fn histogram(waits: &Waits) -> Histogram {
    let mut below = 0;
    let buckets = STEPS_MICROS.iter().zip(waits.steps).map(|(micros, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*micros as f64 / 1e6);
        bucket.set_cumulative_count(below);
        bucket
    });
    let buckets: Vec<Bucket> = buckets.collect();
    let mut histogram = Histogram::default();
    // Counted by somebody who is not held up: the sum of all may lag behind the steps.
    histogram.set_sample_count(waits.all.max(below));
    histogram.set_sample_sum(waits.micros as f64 / 1e6);
    histogram.set_bucket(buckets);
    histogram
}
