//! Stretches of time side by side, and what falls into each.
//!
//! Hours for up to two days, days for up to thirteen months, months beyond. A stretch without
//! records has its place all the same. Worst case: records with times thousands of years apart
//! make a chart of its first [`MOST_BINS`] stretches.

use std::collections::{BTreeMap, HashMap};
use std::io;

use tollgate_archive::records::Scope;
use tollgate_archive::shelf::{Found, Shelf};
use tollgate_archive::tally::Table;
use tollgate_core::audit::Day;
use tollgate_core::report::{Dimension, Report, Sums};
use tollgate_core::time::{Timestamp, Window};

use crate::report::Unanswered;

/// More stretches than these are not drawn.
const MOST_BINS: usize = 1_200;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// Stretches of time, ascending and without gaps, as a report names them.
#[derive(Debug)]
pub(super) struct Bins {
    pub(super) dimension: Dimension,
    pub(super) names: Vec<String>,
    /// Where the time asked for begins and ends, if that was said.
    asked: (Option<Timestamp>, Option<Timestamp>),
}

impl Bins {
    /// Chooses how long the stretches are, from what is asked and from the names of the files.
    pub(super) fn of(scope: &Scope, shelf: &dyn Shelf, now: Timestamp) -> Result<Self, Unanswered> {
        let mut ends: Option<(Day, Day)> = None;
        for partition in &scope.partitions {
            let seen = shelf.each(partition, scope.days(), &mut |found| {
                if let Found::Ours { name, .. } = found
                    && let Some(day) = name.day()
                {
                    let (first, last) = ends.unwrap_or((day, day));
                    ends = Some((first.min(day), last.max(day)));
                }
                Ok(())
            });
            seen.map_err(tollgate_archive::records::Unread::from)?;
        }
        let start = |day: Day| format!("{day}T00:00:00Z").parse::<Timestamp>().ok();
        let found = ends.and_then(|(first, last)| Some((start(first)?, start(last)?)));
        let first = scope.from.or(found.map(|(first, _)| first)).unwrap_or(now);
        let after = |last: Timestamp| last.plus(std::time::Duration::from_secs(DAY));
        let last = scope
            .to
            .or(found.map(|(_, last)| after(last)))
            .unwrap_or(now);
        let days = last.min(after(now)).since(first).as_secs() / DAY;
        let dimension = match days {
            0..=2 => Dimension::Hour,
            3..=400 => Dimension::Day,
            _ => Dimension::Month,
        };
        Ok(Self {
            dimension,
            names: Vec::new(),
            asked: (scope.from, scope.to.map(|to| to.min(now))),
        })
    }

    /// Lays out the stretches from the first that is asked for or has a record to the last.
    pub(super) fn cover(&mut self, totals: &BTreeMap<String, Sums>) {
        let (Some((first, _)), Some((last, _))) =
            (totals.first_key_value(), totals.last_key_value())
        else {
            return;
        };
        let name = |at: Timestamp| self.name(at);
        let from = self
            .asked
            .0
            .map(name)
            .into_iter()
            .chain([first.clone()])
            .min();
        let before = |to: Timestamp| self.name(to.minus(std::time::Duration::from_micros(1)));
        let to = self
            .asked
            .1
            .map(before)
            .into_iter()
            .chain([last.clone()])
            .max();
        let (Some(from), Some(to)) = (from, to) else {
            return;
        };
        let mut at = self.start(&from);
        let mut names = Vec::new();
        while let Some(start) = at
            && names.len() < MOST_BINS
        {
            let name = self.name(start);
            if name > to {
                break;
            }
            names.push(name);
            at = self.next(start);
        }
        self.names = names;
    }

    /// The first and the last.
    pub(super) fn ends(&self) -> Option<(String, String)> {
        Some((self.names.first()?.clone(), self.names.last()?.clone()))
    }

    fn name(&self, at: Timestamp) -> String {
        let text = at.to_string();
        match self.dimension {
            Dimension::Month => text[..7].to_owned(),
            Dimension::Hour => format!("{}:00Z", &text[..13]),
            _ => text[..10].to_owned(),
        }
    }

    fn start(&self, name: &str) -> Option<Timestamp> {
        let text = match self.dimension {
            Dimension::Month => format!("{name}-01T00:00:00Z"),
            Dimension::Hour => format!("{}:00:00Z", name.get(..13)?),
            _ => format!("{name}T00:00:00Z"),
        };
        text.parse().ok()
    }

    fn next(&self, start: Timestamp) -> Option<Timestamp> {
        let after = |seconds| start.plus(std::time::Duration::from_secs(seconds));
        match self.dimension {
            Dimension::Month => Window::month(start).resets_at(),
            Dimension::Hour => Some(after(HOUR)),
            _ => Some(after(DAY)),
        }
    }
}

/// Values of one thing, one for each stretch.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) values: Vec<i128>,
}

/// Things whose values are stacked.
#[derive(Debug, Default)]
pub(super) struct Trend(pub(super) Vec<Series>);

impl Trend {
    /// What the dearest groups cost, and all others together.
    pub(super) fn of_cost(bins: &Bins, largest: &Report, by_bin: &Table) -> io::Result<Self> {
        let places: HashMap<&str, usize> = places(bins);
        let known: HashMap<&str, usize> = largest
            .rows
            .iter()
            .enumerate()
            .map(|(place, row)| (&*row.key, place))
            .collect();
        let mut series: Vec<Series> = largest
            .rows
            .iter()
            .map(|row| row.key.to_string())
            .chain(["other".to_owned()])
            .map(|name| Series {
                name,
                values: vec![0; bins.names.len()],
            })
            .collect();
        by_bin.each(&mut |row| {
            let (bin, group) = row.key.split_once('\0').unwrap_or((&row.key, ""));
            let of = known.get(group).copied().unwrap_or(largest.rows.len());
            if let Some(place) = places.get(bin) {
                series[of].values[*place] += row.sums.cost.as_pico();
            }
            Ok(())
        })?;
        if largest.summary.left_out == 0 {
            series.pop();
        }
        Ok(Self(series))
    }

    /// Tokens in, of a cache and not, and out.
    pub(super) fn of_tokens(bins: &Bins, totals: &BTreeMap<String, Sums>) -> Self {
        let series = |name: &str, count: fn(&Sums) -> u64| Series {
            name: name.to_owned(),
            values: bins
                .names
                .iter()
                .map(|bin| totals.get(bin).map_or(0, |sums| count(sums).into()))
                .collect(),
        };
        Self(vec![
            series("input", |sums| {
                sums.input_tokens.saturating_sub(sums.cached_input_tokens)
            }),
            series("cached input", |sums| sums.cached_input_tokens),
            series("output", |sums| sums.output_tokens),
        ])
    }

    /// Whether there is nothing to draw.
    pub(super) fn is_empty(&self) -> bool {
        let mut values = self.0.iter().flat_map(|series| &series.values);
        values.all(|value| *value <= 0)
    }
}

fn places(bins: &Bins) -> HashMap<&str, usize> {
    let names = bins.names.iter().enumerate();
    names.map(|(place, name)| (name.as_str(), place)).collect()
}
