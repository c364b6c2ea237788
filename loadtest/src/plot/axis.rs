//! Axes: where a value stands, which values get a tick, and how a tick reads.
//!
//! It knows no pixels: a place is a share of the axis, from 0 to 1.

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart. Zero is always on it.
    Linear,
    /// Equal ratios are equally far apart. Only values above zero are on it.
    Log,
    /// Percentiles from 0 to below 100: each further nine is equally far from the one before.
    Nines,
}

/// How values read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain number: `250`, `10 k`, `1.5 M`.
    Count,
    /// Seconds, read as µs, ms or s.
    Seconds,
    /// Bytes, read as kB, MB or GB of a thousand each.
    Bytes,
    /// Per cent.
    Percent,
}

/// One axis. Its range is that of the values on it.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What is measured along it.
    pub label: String,
    /// How values become places.
    pub scale: Scale,
    /// How values read.
    pub unit: Unit,
}

/// An axis whose range is known.
#[derive(Debug, Clone)]
pub(super) struct Ruler {
    scale: Scale,
    unit: Unit,
    /// The ends, as the scale sees them.
    low: f64,
    high: f64,
    pub(super) ticks: Vec<f64>,
}

/// Ticks that a linear axis has, about.
const TICKS: f64 = 5.0;
/// Ticks that fit on a logarithmic axis.
const MOST_TICKS: usize = 9;

impl Scale {
    /// The value on an axis of equal steps; nothing if it cannot be on it.
    fn see(self, value: f64) -> Option<f64> {
        match self {
            Self::Linear => value.is_finite().then_some(value),
            Self::Log => (value.is_finite() && value > 0.0).then(|| value.log10()),
            Self::Nines => (0.0..100.0)
                .contains(&value)
                .then(|| 2.0 - (100.0 - value).log10()),
        }
    }
}

impl Axis {
    /// An axis.
    pub fn new(label: impl Into<String>, scale: Scale, unit: Unit) -> Self {
        let label = label.into();
        Self { label, scale, unit }
    }

    /// The axis that has room for these values. Without any it goes from 0 or 1 to somewhere.
    pub(super) fn ruler(&self, values: impl Iterator<Item = f64>) -> Ruler {
        let drawable = values.filter(|value| self.scale.see(*value).is_some());
        let ends = drawable.fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| {
                (low.min(value), high.max(value))
            }))
        });
        let (low, high, ticks) = match self.scale {
            Scale::Linear => linear(ends.unwrap_or((0.0, 1.0))),
            Scale::Log => logarithmic(ends.unwrap_or((1.0, 10.0))),
            Scale::Nines => nines(ends.map_or(90.0, |ends| ends.1)),
        };
        let see = |value| self.scale.see(value).unwrap_or(0.0);
        Ruler {
            scale: self.scale,
            unit: self.unit,
            low: see(low),
            high: see(high),
            ticks,
        }
    }
}

impl Ruler {
    /// The value's share of the axis, from 0 to 1; nothing if it is not on it.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let seen = self.scale.see(value)?;
        Some((seen - self.low) / (self.high - self.low))
    }

    /// How the value reads.
    pub(super) fn words(&self, value: f64) -> String {
        match (self.unit, self.scale) {
            (Unit::Percent, Scale::Nines) => format!("{} %", trimmed(value, 5)),
            (unit, _) => unit.words(value),
        }
    }
}

impl Unit {
    /// How the value reads, to three digits.
    pub fn words(self, value: f64) -> String {
        let steps: &[(f64, &str)] = match self {
            Self::Count if value.abs() < 10_000.0 => &[(1.0, "")],
            Self::Count => &[(1e9, " G"), (1e6, " M"), (1e3, " k")],
            Self::Seconds => &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs")],
            Self::Bytes => &[(1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")],
            Self::Percent => &[(1.0, " %")],
        };
        if value == 0.0 {
            return "0".to_owned();
        }
        // What rounds up to the next unit is written in it.
        let fits = |(size, _): &&(f64, &str)| value.abs() >= size * 0.9995;
        let (size, name) = steps
            .iter()
            .find(fits)
            .or(steps.last())
            .unwrap_or(&(1.0, ""));
        format!("{}{name}", significant(value / size))
    }
}

/// Three digits, or all that stand before the point.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    trimmed(value, decimals)
}

fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// 1, 2 and 5 of each power of ten, upwards.
fn ladder() -> impl DoubleEndedIterator<Item = f64> {
    (-15..=18).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

type Range = (f64, f64, Vec<f64>);

fn linear((least, most): (f64, f64)) -> Range {
    let (least, most) = (least.min(0.0), most.max(0.0));
    let most = if most > least { most } else { 1.0 };
    let span = most - least;
    let step = ladder().find(|step| step * TICKS >= span * 0.999_999);
    let step = step.unwrap_or(span);
    let low = (least / step).floor();
    let high = ((most / step - 1e-9).ceil()).max(low + 1.0);
    let ticks = (0..100).map(|tick| low + f64::from(tick));
    let ticks = ticks
        .take_while(|tick| *tick <= high)
        .map(|tick| tick * step);
    (low * step, high * step, ticks.collect())
}

fn logarithmic((least, most): (f64, f64)) -> Range {
    let near = 1.000_001;
    let low = ladder().rev().find(|rung| *rung <= least * near);
    let low = low.unwrap_or(least);
    let high = ladder().find(|rung| rung * near >= most && *rung > low * near);
    let high = high.unwrap_or(most);
    let on_axis = |rung: &f64| *rung >= low / near && *rung <= high * near;
    let rungs: Vec<f64> = ladder().filter(on_axis).collect();
    if rungs.len() <= MOST_TICKS {
        return (low, high, rungs);
    }
    let powers: Vec<f64> = (-15..=18)
        .map(|power| 10_f64.powi(power))
        .filter(on_axis)
        .collect();
    let every = powers.len().div_ceil(MOST_TICKS);
    (low, high, powers.into_iter().step_by(every).collect())
}

fn nines(most: f64) -> Range {
    let high = most.max(90.0);
    let further = (1..=9).map(|nine| 100.0 - 10_f64.powi(2 - nine));
    let ticks = [0.0, 50.0].into_iter().chain(further);
    (0.0, high, ticks.filter(|tick| *tick <= high).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(scale: Scale, values: &[f64]) -> Vec<String> {
        let unit = if scale == Scale::Nines {
            Unit::Percent
        } else {
            Unit::Count
        };
        let ruler = Axis::new("", scale, unit).ruler(values.iter().copied());
        ruler.ticks.iter().map(|tick| ruler.words(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_reach_around_the_values() {
        for (scale, values, expected) in [
            (Scale::Linear, &[3.0, 9.5][..], "0 2 4 6 8 10"),
            (Scale::Linear, &[0.0, 1.0], "0 0.2 0.4 0.6 0.8 1"),
            (
                Scale::Linear,
                &[-3.0, 40_000.0],
                "-10 k 0 10 k 20 k 30 k 40 k",
            ),
            (Scale::Linear, &[0.0, 0.0], "0 0.2 0.4 0.6 0.8 1"),
            (Scale::Linear, &[], "0 0.2 0.4 0.6 0.8 1"),
            (Scale::Log, &[3.0, 70.0], "2 5 10 20 50 100"),
            (
                Scale::Log,
                &[10.0, 10_000_000.0],
                "10 100 1000 10 k 100 k 1 M 10 M",
            ),
            (Scale::Log, &[1.0, 1.0], "1 2"),
            (Scale::Log, &[0.0, -1.0], "1 2 5 10"),
            (Scale::Nines, &[10.0, 99.95], "0 % 50 % 90 % 99 % 99.9 %"),
            (Scale::Nines, &[50.0], "0 % 50 % 90 %"),
        ] {
            assert_eq!(
                ticks(scale, values).join(" "),
                expected,
                "{scale:?} {values:?}"
            );
        }
    }

    #[test]
    fn each_further_nine_is_equally_far_and_a_hundred_is_nowhere() {
        let ruler = Axis::new("", Scale::Nines, Unit::Percent).ruler([0.0, 99.9].into_iter());
        let place = |value| ruler.place(value).map(|place| (place * 1000.0).round());
        assert_eq!(place(90.0), Some(333.0));
        assert_eq!(place(99.0), Some(667.0));
        assert_eq!(place(99.9), Some(1000.0));
        assert_eq!(place(100.0), None);
    }

    #[test]
    fn values_read_in_the_unit_that_fits() {
        for (unit, value, expected) in [
            (Unit::Seconds, 0.000_012_34, "12.3 µs"),
            (Unit::Seconds, 0.25, "250 ms"),
            (Unit::Seconds, 0.999_99, "1 s"),
            (Unit::Seconds, 3.0, "3 s"),
            (Unit::Bytes, 16_000_000.0, "16 MB"),
            (Unit::Bytes, 3.0, "3 B"),
            (Unit::Count, 1_500_000.0, "1.5 M"),
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 1234.0, "1234"),
            (Unit::Percent, 12.5, "12.5 %"),
        ] {
            assert_eq!(unit.words(value), expected);
        }
    }
}
