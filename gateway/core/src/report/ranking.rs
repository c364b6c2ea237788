//! The order of rows, and the first of them.
//!
//! Takes rows one at a time and keeps those asked for. What falls out is summed, so totals stay
//! whole. Worst case: without a number asked for, all rows are kept.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{Dimension, Report, Row, Summary, Sums, Topic};

/// In which order rows stand. Rows alike in it stand in the order of their keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// The dearest first.
    #[default]
    Cost,
    /// The most calls first.
    Calls,
    /// The most refusals first.
    Refusals,
    /// Those that asked for the most money and did not get it first.
    Asked,
    /// The most tokens first, in and out.
    Tokens,
    /// By what they are grouped by, ascending.
    Key,
}

impl Order {
    /// How two rows stand to each other.
    #[must_use]
    pub fn compare(self, one: &Row, other: &Row) -> Ordering {
        let (a, b) = (&one.sums, &other.sums);
        let tokens = |sums: &Sums| sums.input_tokens.saturating_add(sums.output_tokens);
        let ordering = match self {
            Self::Cost => b.cost.cmp(&a.cost),
            Self::Calls => b.calls.cmp(&a.calls),
            Self::Refusals => b.refusals.cmp(&a.refusals),
            Self::Asked => b.asked.cmp(&a.asked),
            Self::Tokens => tokens(b).cmp(&tokens(a)),
            Self::Key => Ordering::Equal,
        };
        ordering.then_with(|| one.key.cmp(&other.key))
    }
}

/// A row that knows in which order it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ranked {
    /// The order.
    pub order: Order,
    /// The row.
    pub row: Row,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(&self.row, &other.row)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The first rows of many.
#[derive(Debug)]
pub struct Ranking {
    order: Order,
    top: usize,
    kept: BinaryHeap<Ranked>,
    groups: u64,
    total: Sums,
    other: Sums,
}

impl Ranking {
    /// Keeps the first `top`, or all.
    #[must_use]
    pub fn new(order: Order, top: Option<usize>) -> Self {
        Self {
            order,
            top: top.unwrap_or(usize::MAX),
            kept: BinaryHeap::new(),
            groups: 0,
            total: Sums::default(),
            other: Sums::default(),
        }
    }

    /// Takes a row. No two have the same key.
    pub fn push(&mut self, row: Row) {
        self.groups = self.groups.saturating_add(1);
        self.total.add(&row.sums);
        let order = self.order;
        self.kept.push(Ranked { order, row });
        if self.kept.len() > self.top
            && let Some(last) = self.kept.pop()
        {
            self.other.add(&last.row.sums);
        }
    }

    /// The table.
    #[must_use]
    pub fn finish(self, topic: Topic, by: Vec<Dimension>) -> Report {
        let kept = u64::try_from(self.kept.len()).unwrap_or(u64::MAX);
        let rows = self.kept.into_sorted_vec().into_iter();
        Report {
            rows: rows.map(|ranked| ranked.row).collect(),
            summary: Summary {
                topic,
                by,
                left_out: self.groups.saturating_sub(kept),
                other: self.other,
                total: self.total,
            },
        }
    }
}
