//! Points and verdicts as a table, as JSON and as a plot.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::dimension::Dimension;
use super::fit::{self, Verdict};
use super::measure::Point;
use crate::plot::{Axis, Plot, Scale, Series, Unit};

/// The table of one dimension as Markdown, and below it what each figure does.
pub(super) fn table(dimension: Dimension, points: &[Point], verdicts: &[Verdict]) -> String {
    let mut text = format!("### {dimension}: {}\n\n", dimension.meaning());
    text += &row(HEADS.map(str::to_owned));
    text += &row(HEADS.map(|head| "-".repeat(head.len())));
    for point in points {
        let mib = |kib: u64| format!("{:.1}", float(kib) / 1024.0);
        let count = |figure: Option<f64>| figure.map_or(String::new(), |it| format!("{it:.0}"));
        text += &row([
            point.size.to_string(),
            count(point.instructions),
            count(point.cold_instructions),
            mib(point.start_kib),
            mib(point.after_kib),
            mib(point.peak_kib),
            format!("{:.1}", point.cpu_us),
            format!("{:.1}", point.ready_ms),
            format!("{:.1}", point.first_answer_ms),
        ]);
    }
    text.push('\n');
    for (name, of) in FIGURES {
        let figures = series(points, of);
        if let (Some(each), Some(exponent)) = (fit::each(&figures), fit::exponent(&figures)) {
            // Writing to a String cannot fail.
            let _written = writeln!(
                text,
                "- {name}: {each:.4} for one more, exponent {exponent:.2}"
            );
        }
    }
    for verdict in verdicts {
        let _written = writeln!(text, "- {}", verdict.sentence());
    }
    text
}

const HEADS: [&str; 9] = [
    "      size",
    "instructions",
    "with a cold token",
    "MiB at the start",
    "MiB after",
    "MiB at most",
    "CPU us",
    "ready ms",
    "first answer ms",
];

fn row(cells: [String; HEADS.len()]) -> String {
    let cells = cells.iter().zip(HEADS);
    let padded = cells.map(|(cell, head)| format!(" {cell:>width$} |", width = head.len()));
    format!("|{}\n", padded.collect::<String>())
}

type Figure = (&'static str, fn(&Point) -> Option<f64>);

const FIGURES: [Figure; 4] = [
    ("instructions", |point| point.instructions),
    ("KiB at the start", |point| Some(float(point.start_kib))),
    ("KiB at most", |point| Some(float(point.peak_kib))),
    ("ms to the first answer", |point| {
        Some(point.first_answer_ms)
    }),
];

fn series(points: &[Point], of: fn(&Point) -> Option<f64>) -> Vec<(f64, f64)> {
    let all = points.iter();
    all.filter_map(|point| Some((float(point.size), of(point)?)))
        .collect()
}

/// One point as a line.
pub(super) fn point(dimension: Dimension, point: &Point) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(point)?;
    let object = value.as_object_mut().context("a point is an object")?;
    object.insert("dimension".to_owned(), dimension.name().into());
    Ok(value)
}

/// One verdict as a line.
pub(super) fn verdict(dimension: Dimension, verdict: &Verdict) -> Value {
    json!({
        "dimension": dimension.name(),
        "figure": verdict.figure,
        "expected": format!("{:?}", verdict.expected),
        "seen": verdict.seen,
        "exponent": verdict.exponent,
        "held": verdict.held(),
    })
}

/// How many times each figure is what it is at the least size, beside what a straight line from
/// nothing would be.
pub(super) fn plot(dimension: Dimension, points: &[Point]) -> String {
    let mut lines: Vec<Series> = FIGURES
        .into_iter()
        .map(|(name, of)| Series::new(name, relative(&series(points, of))))
        .filter(|line| !line.points.is_empty())
        .collect();
    let sizes = points
        .iter()
        .map(|point| (float(point.size), float(point.size)));
    lines.push(Series::new("in proportion", relative(&sizes.collect::<Vec<_>>())).dashed());
    let plot = Plot {
        title: format!("Growth with {}", dimension.meaning()),
        x: Axis::new(dimension.name(), Scale::Log, Unit::Count),
        y: Axis::new("times what it is at the least", Scale::Log, Unit::Count),
        series: lines,
    };
    plot.svg()
}

fn relative(figures: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let first = figures.first().map_or(1.0, |first| first.1);
    let all = figures.iter();
    all.map(|(size, figure)| (*size, figure / first)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "sizes stay far below 2^52")]
pub(super) const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_wide_as_their_heads() {
        let head = row(HEADS.map(str::to_owned));
        let least = row(HEADS.map(|_| "1".to_owned()));
        assert_eq!(head.len(), least.len());
        assert_eq!(least.matches('|').count(), HEADS.len() + 1);
    }

    #[test]
    fn figures_are_drawn_relative_to_the_first() {
        let drawn = relative(&[(10.0, 4.0), (100.0, 6.0)]);
        assert_eq!(drawn, [(10.0, 1.0), (100.0, 1.5)]);
    }
}
