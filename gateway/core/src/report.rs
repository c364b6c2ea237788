//! Folds records into a table: what was called, what it cost, by whom.
//!
//! One record at a time goes in, so a report takes memory for its rows only. What one tenant's
//! report shows depends on the records given and on nothing else: whoever reads records decides
//! whose. Worst case: grouping by task makes a row for every task.

mod print;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::money::PicoUsd;
use crate::record::{Outcome, Record, UsageSource};
use crate::time::{Timestamp, Window};

pub use print::{csv, json, table};

/// Something to group by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The tenant.
    Tenant,
    /// The agent.
    Agent,
    /// The task.
    Task,
    /// The model the client named.
    Model,
    /// The provider or tool.
    Provider,
    /// How it ended.
    Outcome,
    /// The UTC day it began on.
    Day,
    /// The UTC month it began in.
    Month,
}

const DIMENSIONS: [(Dimension, &str); 8] = [
    (Dimension::Tenant, "tenant"),
    (Dimension::Agent, "agent"),
    (Dimension::Task, "task"),
    (Dimension::Model, "model"),
    (Dimension::Provider, "provider"),
    (Dimension::Outcome, "outcome"),
    (Dimension::Day, "day"),
    (Dimension::Month, "month"),
];

/// Why a text is not a [`Dimension`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a report is grouped by tenant, agent, task, model, provider, outcome, day or month, not {0:?}"
)]
pub struct InvalidDimension(String);

impl FromStr for Dimension {
    type Err = InvalidDimension;

    fn from_str(text: &str) -> Result<Self, InvalidDimension> {
        let found = DIMENSIONS.iter().find(|(_, name)| *name == text);
        found
            .map(|(dimension, _)| *dimension)
            .ok_or_else(|| InvalidDimension(text.to_owned()))
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = DIMENSIONS.iter().find(|(dimension, _)| dimension == self);
        f.write_str(found.map_or("", |(_, name)| name))
    }
}

impl Dimension {
    fn value(self, record: &Record) -> String {
        let subject = &record.subject;
        let or_none = |value: Option<&str>| value.unwrap_or("-").to_owned();
        match self {
            Self::Tenant => subject.tenant.to_string(),
            Self::Agent => subject.agent.to_string(),
            Self::Task => subject.task.to_string(),
            Self::Model => or_none(subject.request_model.as_ref().map(|m| m.as_str())),
            Self::Provider => or_none(subject.provider.as_ref().map(|p| p.as_str())),
            Self::Outcome => record.ending.outcome.as_str().to_owned(),
            Self::Day => bare(Window::day(subject.started_at)),
            Self::Month => bare(Window::month(subject.started_at)),
        }
    }
}

/// `2026-11-23` or `2026-11`: the window without the word in front.
fn bare(window: Window) -> String {
    let text = window.to_string();
    text.split_once(':')
        .map_or(text.clone(), |(_, date)| date.to_owned())
}

/// In which order rows stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// The dearest first.
    #[default]
    Cost,
    /// The most calls first.
    Calls,
    /// By what they are grouped by, ascending.
    Key,
}

/// What a report is about.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// What rows are grouped by, in this order; one row of everything if empty.
    pub by: Vec<Dimension>,
    /// Only calls that began then or later.
    pub from: Option<Timestamp>,
    /// Only calls that began before.
    pub to: Option<Timestamp>,
    /// In which order.
    pub order: Order,
    /// At most so many rows.
    pub top: Option<usize>,
}

/// The sums of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Sums {
    /// Calls that were made.
    pub calls: u64,
    /// Calls that were not: refused, or failed in the gateway.
    pub refusals: u64,
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Tokens out, reasoning included.
    pub output_tokens: u64,
    /// What they cost.
    pub cost_usd: PicoUsd,
    /// How many of the calls are counted by estimate, since the provider's figures did not come.
    pub estimated: u64,
}

impl Sums {
    fn add(&mut self, record: &Record) {
        let ending = &record.ending;
        let made = !matches!(ending.outcome, Outcome::Refused | Outcome::Failed);
        let estimated = matches!(
            ending.usage_source,
            UsageSource::Estimated | UsageSource::Interrupted
        );
        let usage = ending.usage.unwrap_or_default();
        self.merge(&Self {
            calls: u64::from(made),
            refusals: u64::from(!made),
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_usd: ending.cost,
            estimated: u64::from(estimated),
        });
    }

    fn merge(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.refusals = self.refusals.saturating_add(other.refusals);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_usd = self.cost_usd.saturating_add(other.cost_usd);
        self.estimated = self.estimated.saturating_add(other.estimated);
    }
}

/// One group and its sums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The group: one value for each dimension asked for.
    pub key: Vec<String>,
    /// Its sums.
    pub sums: Sums,
}

/// A finished table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// What the rows are grouped by.
    pub by: Vec<Dimension>,
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
    /// How many rows there are beyond these.
    pub left_out: usize,
    /// The sums of all rows, those left out included.
    pub total: Sums,
}

/// A table in the making.
#[derive(Clone, Debug)]
pub struct Tally {
    query: Query,
    rows: BTreeMap<Vec<String>, Sums>,
}

impl Tally {
    /// An empty table for `query`.
    #[must_use]
    pub const fn new(query: Query) -> Self {
        Self {
            query,
            rows: BTreeMap::new(),
        }
    }

    /// Adds a record, unless it lies outside the time asked for.
    pub fn add(&mut self, record: &Record) {
        let at = record.subject.started_at;
        let asked =
            self.query.from.is_none_or(|from| at >= from) && self.query.to.is_none_or(|to| at < to);
        if asked {
            let by = self.query.by.iter();
            let key = by.map(|dimension| dimension.value(record)).collect();
            self.rows.entry(key).or_default().add(record);
        }
    }

    /// The table.
    #[must_use]
    pub fn finish(self) -> Report {
        let mut total = Sums::default();
        let mut rows: Vec<Row> = self
            .rows
            .into_iter()
            .map(|(key, sums)| {
                total.merge(&sums);
                Row { key, sums }
            })
            .collect();
        // Stable, so that rows alike stay in the order of their keys.
        match self.query.order {
            Order::Cost => rows.sort_by_key(|row| Reverse(row.sums.cost_usd)),
            Order::Calls => rows.sort_by_key(|row| Reverse(row.sums.calls)),
            Order::Key => {}
        }
        let kept = self.query.top.unwrap_or(usize::MAX);
        let left_out = rows.len().saturating_sub(kept);
        rows.truncate(kept);
        Report {
            by: self.query.by,
            rows,
            left_out,
            total,
        }
    }
}

#[cfg(test)]
mod tests;
