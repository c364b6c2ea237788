//! How fast a figure grows with a size, and whether that is no faster than it must be.
//!
//! Pure arithmetic on pairs of size and figure. It knows exponents: doubling the size multiplies a
//! figure by two to the power of its exponent, so a straight line has one at most, whatever it
//! begins at. Worst case: a figure that grows fast only beyond the last size looks as if it were flat.

/// How a figure may grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Expected {
    /// Not with the size at all: the figure at any size is at most so many times the smallest one.
    Constant {
        /// How many times.
        times: f64,
    },
    /// In proportion: the exponent between any two neighbouring sizes is at most this.
    Linear {
        /// The exponent.
        exponent: f64,
    },
    /// At most so much at any size.
    AtMost {
        /// How much.
        bound: f64,
    },
}

/// What was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// The figure's name.
    pub(super) figure: &'static str,
    pub(super) expected: Expected,
    /// What is compared with the expectation: times, exponent or the figure itself.
    pub(super) seen: f64,
    /// The exponent over all sizes, by least squares.
    pub(super) exponent: Option<f64>,
}

impl Verdict {
    /// Judges `points`, pairs of size and figure with sizes ascending. None if there are too few to judge.
    pub(super) fn of(
        figure: &'static str,
        expected: Expected,
        points: &[(f64, f64)],
    ) -> Option<Self> {
        let seen = match expected {
            Expected::Constant { .. } => times(points),
            Expected::Linear { .. } => steepest(points),
            Expected::AtMost { .. } => points.iter().map(|point| point.1).reduce(f64::max),
        }?;
        Some(Self {
            figure,
            expected,
            seen,
            exponent: exponent(points),
        })
    }

    pub(super) fn held(&self) -> bool {
        match self.expected {
            Expected::Constant { times } => self.seen <= times,
            Expected::Linear { exponent } => self.seen <= exponent,
            Expected::AtMost { bound } => self.seen <= bound,
        }
    }

    /// In words.
    pub(super) fn sentence(&self) -> String {
        let (figure, seen) = (self.figure, self.seen);
        let held = if self.held() { "" } else { "NOT HELD: " };
        match self.expected {
            Expected::Constant { times } => format!(
                "{held}{figure}: at most {seen:.2} times the least size's, and {times} is the bound"
            ),
            Expected::Linear { exponent } => {
                format!(
                    "{held}{figure}: exponent {seen:.2} at its steepest, and {exponent} is the bound"
                )
            }
            Expected::AtMost { bound } => {
                format!("{held}{figure}: {seen:.0} at most, and {bound} is the bound")
            }
        }
    }
}

/// The greatest figure over that of the least size.
fn times(points: &[(f64, f64)]) -> Option<f64> {
    let (first, rest) = points.split_first()?;
    let greatest = rest.iter().map(|point| point.1).reduce(f64::max)?;
    (first.1 > 0.0).then(|| greatest / first.1)
}

/// The greatest exponent between two neighbouring sizes.
fn steepest(points: &[(f64, f64)]) -> Option<f64> {
    let pairs = points.windows(2);
    pairs.filter_map(exponent).reduce(f64::max)
}

/// The slope of the line through the points' logarithms, by least squares.
pub(super) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logarithms: Vec<(f64, f64)> = points
        .iter()
        .filter(|(size, figure)| *size > 0.0 && *figure > 0.0)
        .map(|(size, figure)| (size.ln(), figure.ln()))
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful of points")]
    let count = logarithms.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logarithms.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = logarithms.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = logarithms
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    (spread > 0.0).then(|| together / spread)
}

/// What one more of the size adds: the slope of the straight line through the points.
pub(super) fn each(points: &[(f64, f64)]) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    (last.0 > first.0).then(|| (last.1 - first.1) / (last.0 - first.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [f64; 4] = [10.0, 100.0, 1_000.0, 10_000.0];

    fn points(figure: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        SIZES.iter().map(|size| (*size, figure(*size))).collect()
    }

    fn held(expected: Expected, figure: impl Fn(f64) -> f64) -> bool {
        Verdict::of("x", expected, &points(figure)).unwrap().held()
    }

    #[test]
    fn what_stays_or_grows_as_a_logarithm_is_constant_and_a_line_is_not() {
        let constant = Expected::Constant { times: 1.5 };
        assert!(held(constant, |_| 350_000.0));
        assert!(held(constant, |size| 350_000.0 + 300.0 * size.log2()));
        assert!(!held(constant, |size| 350_000.0 + 30.0 * size));
    }

    #[test]
    fn a_line_is_linear_wherever_it_begins_and_a_square_is_not() {
        let linear = Expected::Linear { exponent: 1.15 };
        assert!(held(linear, |size| 7.0 * size));
        assert!(held(linear, |size| 1e6 + 7.0 * size));
        assert!(!held(linear, |size| 1e6 + size * size));
    }

    #[test]
    fn a_bound_is_kept_at_every_size() {
        assert!(held(Expected::AtMost { bound: 100.0 }, |_| 100.0));
        assert!(!held(Expected::AtMost { bound: 100.0 }, |size| size / 99.0));
    }

    #[test]
    fn exponents_are_those_of_powers() {
        let square = exponent(&points(|size| 3.0 * size * size)).unwrap();
        assert!((square - 2.0).abs() < 1e-9, "{square}");
        let flat = exponent(&points(|_| 5.0)).unwrap();
        assert!(flat.abs() < 1e-9, "{flat}");
        assert_eq!(each(&points(|size| 40.0 + 2.5 * size)), Some(2.5));
    }

    #[test]
    fn one_point_is_not_judged() {
        assert_eq!(
            Verdict::of("x", Expected::Constant { times: 1.5 }, &[(10.0, 1.0)]),
            None
        );
        assert_eq!(exponent(&[(10.0, 1.0)]), None);
    }
}
