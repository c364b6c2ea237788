//! Compares figures with those agreed on: a table, and a verdict.
//!
//! Judges what has become dearer by more than its tolerance, and mentions what has become cheaper by
//! as much: a baseline that is too high guards nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::{Baseline, Figures};

/// By how much a figure may be above the baseline: whichever of the two is more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// In hundredths of the baseline.
    pub percent: f64,
    /// In what is counted, for figures that are small.
    pub count: f64,
}

impl Tolerance {
    fn of(self, agreed: f64) -> f64 {
        (agreed * self.percent / 100.0).max(self.count)
    }
}

/// How figures compare with a baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// A table and what follows from it.
    pub text: String,
    /// Whether nothing has become dearer by more than the tolerance.
    pub holds: bool,
}

/// What lies beyond its tolerance.
#[derive(Default)]
struct Beyond {
    dearer: Vec<String>,
    cheaper: Vec<String>,
}

impl Baseline {
    /// Compares these figures with those agreed on. What has no tolerance is shown and not judged.
    pub fn against(
        &self,
        agreed: &Self,
        tolerance: impl Fn(&str) -> Option<Tolerance>,
    ) -> Comparison {
        let mut text = format!(
            "{:<20} {:<14} {:>12} {:>12} {:>8} {:>12}\n",
            self.kind, "figure", "now", "baseline", "%", "at most"
        );
        let mut beyond = Beyond::default();
        let names: BTreeSet<&String> = self.all.keys().chain(agreed.all.keys()).collect();
        for name in names {
            match (self.all.get(name), agreed.all.get(name)) {
                (Some(now), Some(before)) => {
                    compare(&mut text, &mut beyond, name, [now, before], &tolerance);
                }
                (now, _) => {
                    for (figure, count) in now.into_iter().flatten() {
                        row(&mut text, name, figure, *count, None, None);
                    }
                    beyond.dearer.push(name.clone());
                }
            }
        }
        let comparable = self.made_by == agreed.made_by;
        text.push_str(&verdict(self, agreed, &beyond));
        Comparison {
            text,
            holds: !comparable || beyond.dearer.is_empty(),
        }
    }
}

fn compare(
    text: &mut String,
    beyond: &mut Beyond,
    name: &str,
    [now, before]: [&Figures; 2],
    tolerance: impl Fn(&str) -> Option<Tolerance>,
) {
    let figures: BTreeSet<&String> = now.keys().chain(before.keys()).collect();
    for figure in figures {
        let count = |of: &Figures| of.get(figure).copied().unwrap_or(0.0);
        let (now, before) = (count(now), count(before));
        let within = tolerance(figure).map(|tolerance| tolerance.of(before));
        row(
            text,
            name,
            figure,
            now,
            Some(before),
            within.map(|within| before + within),
        );
        let Some(within) = within else { continue };
        if now > before + within {
            beyond.dearer.push(format!("{name} ({figure})"));
        } else if now < before - within {
            beyond.cheaper.push(format!("{name} ({figure})"));
        }
    }
}

fn row(
    text: &mut String,
    name: &str,
    figure: &str,
    now: f64,
    before: Option<f64>,
    most: Option<f64>,
) {
    let shown = |count: Option<f64>| count.map_or_else(|| "-".to_owned(), tenths);
    let change = before.filter(|before| *before > 0.0);
    let change = change.map(|before| format!("{:+.1}", (now - before) * 100.0 / before));
    // Writing to a String cannot fail.
    let _written = writeln!(
        text,
        "{name:<20} {figure:<14} {:>12} {:>12} {:>8} {:>12}",
        shown(Some(now)),
        shown(before),
        change.as_deref().unwrap_or("-"),
        shown(most),
    );
}

/// A count with a tenth, if it is not whole.
fn tenths(count: f64) -> String {
    ((count * 10.0).round() / 10.0).to_string()
}

fn verdict(now: &Baseline, agreed: &Baseline, beyond: &Beyond) -> String {
    if now.made_by != agreed.made_by {
        let (this, that) = (&now.made_by, &agreed.made_by);
        return format!(
            "not comparable: the baseline is of {} on {}, this is {} on {}\n",
            that.rustc, that.architecture, this.rustc, this.architecture
        );
    }
    let mut said = if beyond.dearer.is_empty() {
        "nothing has become dearer\n".to_owned()
    } else {
        format!(
            "dearer, or not in the baseline: {}. If that is worth it: make renew-cost\n",
            beyond.dearer.join(", ")
        )
    };
    if !beyond.cheaper.is_empty() {
        // Writing to a String cannot fail.
        let _written = writeln!(
            said,
            "cheaper: {}. That it may stay so: make renew-cost",
            beyond.cheaper.join(", ")
        );
    }
    said
}
