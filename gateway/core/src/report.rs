//! Folds records into a table: what was called, what it cost, by whom; who was refused, and why.
//!
//! One entry at a time goes in, and a [`Query`] says whether it counts and in which row. What one
//! tenant's report shows depends on the records given and on nothing else: whoever reads records
//! decides whose. Worst case: grouping by task makes a row for every task.

mod dimension;
mod entry;
mod filter;
mod print;
mod ranking;
mod sums;

use crate::time::Timestamp;

pub use dimension::{Dimension, InvalidDimension};
pub use entry::{Counts, Entry, NotAnEntry};
pub use filter::{Condition, Filter, InvalidCondition, Pattern};
pub use print::{Form, Printer, json, print, shown};
pub use ranking::{Order, Ranked, Ranking};
pub use sums::{Sums, share};

/// What is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Topic {
    /// What calls cost; refusals are counted beside them.
    #[default]
    Costs,
    /// Who was refused, by which rule, and how much was asked.
    Refusals,
}

/// What a report is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// What is asked about.
    pub topic: Topic,
    /// What rows are grouped by, in this order; one row of everything if empty.
    pub by: Vec<Dimension>,
    /// Which records count.
    pub filter: Filter,
    /// Only calls that began then or later.
    pub from: Option<Timestamp>,
    /// Only calls that began before.
    pub to: Option<Timestamp>,
    /// In which order.
    pub order: Order,
    /// At most so many rows.
    pub top: Option<usize>,
}

/// What stands between the values of a key. It sorts before everything, so keys sort as their
/// values do.
const BETWEEN: char = '\0';

impl Query {
    /// What of a record a query asks for before it looks at anything else. Made once, since
    /// comparing times as text is much cheaper than reading them.
    #[must_use]
    pub fn period(&self) -> Period {
        let text = |time: Timestamp| time.to_string();
        Period {
            from: self.from.map(text),
            to: self.to.map(text),
        }
    }

    /// Whether an entry counts, its time aside.
    #[must_use]
    pub fn takes(&self, entry: &Entry<'_>) -> bool {
        (self.topic == Topic::Costs || entry.is_refusal()) && self.filter.takes(entry)
    }

    /// Writes the key of the row that an entry belongs to.
    pub fn write_key(&self, entry: &Entry<'_>, key: &mut String) {
        key.clear();
        for (place, dimension) in self.by.iter().enumerate() {
            if place > 0 {
                key.push(BETWEEN);
            }
            let value = dimension.value(entry);
            if value.contains(BETWEEN) {
                key.push_str(&value.replace(BETWEEN, "\u{fffd}"));
            } else {
                key.push_str(&value);
            }
        }
    }
}

/// A stretch of time, as text in the form that entries have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Period {
    from: Option<String>,
    to: Option<String>,
}

impl Period {
    /// Whether an entry began in it.
    #[must_use]
    pub fn takes(&self, entry: &Entry<'_>) -> bool {
        let at = &*entry.started_at;
        self.from.as_deref().is_none_or(|from| at >= from)
            && self.to.as_deref().is_none_or(|to| at < to)
    }
}

/// One group and its sums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The values of the group, as [`Query::write_key`] writes them.
    pub key: Box<str>,
    /// Its sums.
    pub sums: Sums,
}

impl Row {
    /// The values, one for each dimension; empty where there is none.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.key.split(BETWEEN)
    }
}

/// What is said of all rows together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// What the report is about.
    pub topic: Topic,
    /// What the rows are grouped by.
    pub by: Vec<Dimension>,
    /// How many groups there are beyond those that have a row.
    pub left_out: u64,
    /// The sums of these.
    pub other: Sums,
    /// The sums of everything.
    pub total: Sums,
}

/// A finished table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// All rows together.
    pub summary: Summary,
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
}

#[cfg(test)]
mod tests;
