//! What is drawn of a load: latency by percentile and over time, throughput, and how rates compare.

use crate::load::results::Step;
use crate::load::table::named;
use crate::load::tally::{Bin, Times};
use crate::plot::{Axis, Plot, Scale, Series, Unit};

/// The pictures of one step.
pub(super) fn of_step(step: &Step) -> Vec<String> {
    let mut plots = vec![percentiles(step), throughput(step)];
    plots.push(over_time(step, "Whole answer over time", |bin| &bin.whole));
    plots.push(over_time(step, "First byte over time", |bin| {
        &bin.first_byte
    }));
    plots
}

/// The pictures of several steps together.
pub(super) fn of_steps(steps: &[Step]) -> Vec<String> {
    let rate = |step: &Step| step.rate.unwrap_or(0.0);
    let latency = [(50.0, "p50"), (99.0, "p99"), (99.9, "p99.9")].map(|(percentile, name)| {
        let points = steps
            .iter()
            .filter_map(|step| Some((rate(step), step.tally.whole.at(percentile)?)));
        Series::new(name, points.collect())
    });
    let offered = steps.iter().map(|step| (rate(step), rate(step)));
    let right = steps.iter().map(|step| (rate(step), step.throughput()));
    let failed = steps
        .iter()
        .map(|step| (rate(step), rate(step) * step.failed_percent() / 100.0));
    let x = || Axis::new("calls offered a second", Scale::Linear, Unit::Count);
    let latency = Plot {
        title: "Latency by load".to_owned(),
        x: x(),
        y: Axis::new("whole answer", Scale::Log, Unit::Seconds),
        series: latency.to_vec(),
    };
    let answers = Plot {
        title: "Answers by load".to_owned(),
        x: x(),
        y: Axis::new("a second", Scale::Linear, Unit::Count),
        series: vec![
            Series::new("right answers", right.collect()),
            Series::new("offered", offered.collect()).dashed(),
            Series::new("failed", failed.collect()),
        ],
    };
    vec![latency.svg(), answers.svg()]
}

fn percentiles(step: &Step) -> String {
    let series = named(step)
        .into_iter()
        .map(|(name, times)| Series::new(name.trim_start(), times.curve()));
    Plot {
        title: "Latency by percentile".to_owned(),
        x: Axis::new("percentile", Scale::Nines, Unit::Percent),
        y: Axis::new("latency", Scale::Log, Unit::Seconds),
        series: series.collect(),
    }
    .svg()
}

fn over_time(step: &Step, title: &str, times: impl Fn(&Bin) -> &Times) -> String {
    let series = [(50.0, "p50"), (99.0, "p99")].map(|(percentile, name)| {
        let points = bins(step).map(|(middle, _, bin)| {
            // A second without an answer leaves a gap.
            (middle, times(bin).at(percentile).unwrap_or(f64::NAN))
        });
        Series::new(name, points.collect())
    });
    Plot {
        title: title.to_owned(),
        x: seconds(),
        y: Axis::new("latency", Scale::Log, Unit::Seconds),
        series: series.to_vec(),
    }
    .svg()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn throughput(step: &Step) -> String {
    let right = bins(step).map(|(middle, width, bin)| (middle, bin.right as f64 / width));
    let failed = bins(step).map(|(middle, width, bin)| (middle, bin.failed as f64 / width));
    let mut series = vec![
        Series::new("right answers", right.collect()),
        Series::new("failed", failed.collect()),
    ];
    if let Some(rate) = step.rate {
        series.push(Series::new("offered", vec![(0.0, rate), (step.seconds, rate)]).dashed());
    }
    Plot {
        title: "Answers and failures over time".to_owned(),
        x: seconds(),
        y: Axis::new("a second", Scale::Linear, Unit::Count),
        series,
    }
    .svg()
}

/// The stretches that were measured: their middle, their width in seconds, and what happened in them.
fn bins(step: &Step) -> impl Iterator<Item = (f64, f64, &Bin)> {
    let bins = step.tally.bins.iter().zip(0_u32..);
    bins.filter_map(|(bin, number)| {
        let start = f64::from(number) * step.bin_seconds;
        let width = (step.seconds - start).min(step.bin_seconds);
        // What is left of a second at the end tells nothing of a rate.
        let tells = width > step.bin_seconds / 2.0 || (number == 0 && width > 0.0);
        tells.then_some((start + width / 2.0, width, bin))
    })
}

fn seconds() -> Axis {
    Axis::new("seconds", Scale::Linear, Unit::Count)
}
