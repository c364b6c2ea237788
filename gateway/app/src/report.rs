//! `tollgate report`: what has been spent on what, from the records on disk.
//!
//! Reads the partitions of the tenants asked for and no others; needs no running gateway. What
//! has happened in the last tenth of a second may still be on its way into the records.

use std::path::Path;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tollgate_core::ids::TenantId;
use tollgate_core::record::Record;
use tollgate_core::report::{self, Dimension, Order, Query, Report, Tally};
use tollgate_core::time::Timestamp;
use tollgate_stores::embedded::{Audit, ReadError};

use crate::config::Settings;
use crate::live::Live;
use crate::output;

/// What a report looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns with a line of totals
    #[default]
    Table,
    /// For spreadsheets; no totals
    Csv,
    /// For programs; money as exact decimal text
    Json,
}

/// The order of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// The dearest first
    #[default]
    Cost,
    /// The most calls first
    Calls,
    /// By what they are grouped by
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct Command {
    /// Only this tenant; otherwise all
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// What to group by, separated by commas: tenant, agent, task, model, provider, outcome, day,
    /// month
    #[arg(long, default_value = "tenant,model")]
    by: String,
    /// Only calls since this UTC date or time, such as 2026-11-23 or 2026-11-23T08:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only calls before this UTC date or time; a date counts whole
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only this many rows
    #[arg(long, value_name = "ROWS")]
    top: Option<usize>,
    /// The order of rows
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// What it looks like
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print JSON: the same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) live: Live,
}

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    tenant: Option<TenantId>,
    query: Query,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The question has a value that cannot be used.
    #[error("{0}")]
    Question(String),
    /// The records cannot be read.
    #[error("the records cannot be read")]
    Records(#[from] ReadError),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If the question cannot be understood or the records not be read.
    pub(crate) fn run(&self, settings: &Settings) -> anyhow::Result<()> {
        let mut asked = Asked::from_texts(
            self.tenant.as_deref(),
            Some(&self.by),
            self.from.as_deref(),
            self.to.as_deref(),
            self.top,
        )?;
        asked.query.order = match self.sort {
            Sort::Cost => Order::Cost,
            Sort::Calls => Order::Calls,
            Sort::Name => Order::Key,
        };
        let report = asked
            .answer(&settings.data_dir)
            .context("there is no report")?;
        match self.format {
            _ if self.json => output::json(&report::json(&report)),
            Format::Json => output::json(&report::json(&report)),
            Format::Csv => output::data(&report::csv(&report)),
            Format::Table => output::data(&report::table(&report)),
        }
    }
}

impl Asked {
    /// Reads a question from texts.
    ///
    /// # Errors
    /// [`Unanswered::Question`] with the first text that cannot be used.
    pub(crate) fn from_texts(
        tenant: Option<&str>,
        by: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
        top: Option<usize>,
    ) -> Result<Self, Unanswered> {
        let tenant = tenant.map(str::parse).transpose();
        let by = by.unwrap_or("tenant,model").split(',');
        let by = by.map(str::trim).filter(|name| !name.is_empty());
        let by: Result<Vec<Dimension>, _> = by.map(str::parse).collect();
        Ok(Self {
            tenant: tenant.map_err(|wrong| question(&wrong))?,
            query: Query {
                by: by.map_err(|wrong| question(&wrong))?,
                from: from.map(|text| moment(text, Edge::Start)).transpose()?,
                to: to.map(|text| moment(text, Edge::End)).transpose()?,
                order: Order::Cost,
                top,
            },
        })
    }

    /// Reads the records of the tenants asked for. Blocks on the disk.
    ///
    /// # Errors
    /// [`Unanswered::Records`].
    pub(crate) fn answer(self, data_dir: &Path) -> Result<Report, Unanswered> {
        let mut tally = Tally::new(self.query.clone());
        self.each(&Audit::of(data_dir), |record| tally.add(&record))?;
        Ok(tally.finish())
    }

    /// Shows every record asked for to `look`. Blocks on the disk.
    ///
    /// # Errors
    /// [`Unanswered::Records`].
    pub(crate) fn each(
        &self,
        audit: &Audit,
        mut look: impl FnMut(Record),
    ) -> Result<(), Unanswered> {
        let tenants = match &self.tenant {
            Some(tenant) => vec![tenant.clone()],
            None => audit.tenants()?,
        };
        for tenant in tenants {
            for record in audit.records(&tenant, self.query.from, self.query.to)? {
                look(record?);
            }
        }
        Ok(())
    }
}

fn question(wrong: &impl std::fmt::Display) -> Unanswered {
    Unanswered::Question(wrong.to_string())
}

/// Which end of a stretch of time a date stands for.
#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

/// A UTC time, or a UTC date: its first moment, or as an end, the moment after its last.
fn moment(text: &str, edge: Edge) -> Result<Timestamp, Unanswered> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let midnight: Timestamp = format!("{text}T00:00:00Z").parse().map_err(|_no_date| {
        Unanswered::Question(format!(
            "{text:?} is no UTC date or time, such as 2026-11-23 or 2026-11-23T08:00:00Z"
        ))
    })?;
    Ok(match edge {
        Edge::Start => midnight,
        Edge::End => midnight.plus(std::time::Duration::from_secs(24 * 60 * 60)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: &str, to: &str) -> Result<Query, Unanswered> {
        Asked::from_texts(None, Some("day, model"), Some(from), Some(to), None).map(|a| a.query)
    }

    #[test]
    fn a_date_counts_whole_at_either_end() {
        let query = asked("2026-11-23", "2026-11-23").expect("understood");
        assert_eq!(query.by, [Dimension::Day, Dimension::Model]);
        assert_eq!(query.from, "2026-11-23T00:00:00Z".parse().ok());
        assert_eq!(query.to, "2026-11-24T00:00:00Z".parse().ok());
        let query = asked("2026-11-23T08:00:00Z", "2026-11-23T09:00:00+01:00").expect("times");
        assert_eq!(query.from, query.to);
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        assert!(matches!(
            asked("yesterday", "2026-11-23"),
            Err(Unanswered::Question(_))
        ));
        let by = Asked::from_texts(None, Some("colour"), None, None, None);
        assert!(matches!(by, Err(Unanswered::Question(_))));
        let tenant = Asked::from_texts(Some("../b"), None, None, None, None);
        assert!(matches!(tenant, Err(Unanswered::Question(_))));
    }
}
