//! What providers' exports say, in one form: JSON of their admin APIs, CSV of their dashboards.
//!
//! OpenAI: `GET /v1/organization/usage/{completions,embeddings,…}` and `/costs` (pages of buckets), and
//! the dashboard's CSV files, which have the same names as columns. Anthropic: `GET
//! /v1/organizations/usage_report/messages` and `/cost_report`, and the console's two CSV files.
//! What is used is stated per key, if the export was grouped by key; what it cost never is.
//! Anything that is not understood to its last count is an error with its place: half an export
//! would look like usage that nobody made.

mod anthropic;
mod openai;

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde_json::Value;

use super::amounts::{count, money};
use super::csv::Table;
use super::{Counts, common_name};
use crate::time::Timestamp;

/// Whose export it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exporter {
    /// OpenAI.
    OpenAi,
    /// Anthropic.
    Anthropic,
}

/// Why an export cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportFault {
    /// It is neither JSON nor a table.
    #[error("line {0}: this is neither JSON nor a table with named columns")]
    NoTable(usize),
    /// It is JSON of another kind.
    #[error("{0}: there should be {1}")]
    Shape(String, &'static str),
    /// A table of another kind.
    #[error("these are not the columns of a usage or cost export of this provider: {0} is missing")]
    Columns(&'static str),
    /// A cell or member that cannot be read.
    #[error("{0}: {1:?} is not {2}")]
    Value(String, String, &'static str),
}

/// What an export states of one key (or all of them), day and model (or all of them).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stated {
    pub(super) key: Option<String>,
    pub(super) day: Date,
    /// As the export names it.
    pub(super) model: Option<String>,
    pub(super) what: What,
    pub(super) counts: Counts,
}

/// Which of the counts are stated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum What {
    /// Tokens and requests.
    Usage,
    /// Tokens.
    Tokens,
    /// Money.
    Cost,
}

impl Stated {
    pub(super) fn common_model(&self) -> Option<String> {
        self.model.as_deref().map(common_name)
    }
}

/// Exports, read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Export {
    pub(super) stated: Vec<Stated>,
    /// Days that the export is about, also those on which nothing was used.
    pub(super) days: BTreeSet<Date>,
    /// Whether its last page says that there are more.
    pub(super) is_cut: bool,
}

impl Export {
    /// The first and the last day that it is about.
    #[must_use]
    pub fn days(&self) -> Option<(Date, Date)> {
        Some((*self.days.first()?, *self.days.last()?))
    }

    /// Leaves out the days before `from` and after `to`.
    pub fn restrict(&mut self, from: Option<Date>, to: Option<Date>) {
        let asked =
            |day: &Date| from.is_none_or(|from| *day >= from) && to.is_none_or(|to| *day <= to);
        self.days.retain(asked);
        self.stated.retain(|stated| asked(&stated.day));
    }
}

/// Reads one file into `export`.
///
/// # Errors
/// [`ExportFault`], with the place of what is wrong.
pub fn read(exporter: Exporter, text: &str, export: &mut Export) -> Result<(), ExportFault> {
    let plain = text.trim_start_matches('\u{feff}').trim_start();
    if plain.starts_with(['{', '[']) {
        let value: Value =
            serde_json::from_str(plain).map_err(|wrong| ExportFault::NoTable(wrong.line()))?;
        let pages = match &value {
            Value::Array(pages) => pages.iter().collect(),
            page => vec![page],
        };
        for (number, page) in pages.into_iter().enumerate() {
            self::page(
                exporter,
                page,
                &format!("page {}", number.saturating_add(1)),
                export,
            )?;
        }
        return Ok(());
    }
    let table = Table::read(text).map_err(ExportFault::NoTable)?;
    match exporter {
        Exporter::OpenAi => openai::table(&table, export),
        Exporter::Anthropic => anthropic::table(&table, export),
    }
}

fn page(
    exporter: Exporter,
    page: &Value,
    at: &str,
    export: &mut Export,
) -> Result<(), ExportFault> {
    let buckets = page["data"].as_array().ok_or_else(|| {
        ExportFault::Shape(at.to_owned(), "an object with `data`, a list of buckets")
    })?;
    export.is_cut = page["has_more"] == true;
    for (place, bucket) in buckets.iter().enumerate() {
        let at = format!("{at}, data[{place}]");
        let begin = match exporter {
            Exporter::OpenAi => bucket["start_time"].as_i64().map(Timestamp::from_seconds),
            Exporter::Anthropic => text(&bucket["starting_at"]).parse().ok(),
        };
        let day = begin.ok_or_else(|| {
            ExportFault::Shape(at.clone(), "`start_time` in seconds, or `starting_at`")
        })?;
        let day = day.date();
        export.days.insert(day);
        let results = bucket["results"].as_array();
        let results = results.ok_or_else(|| ExportFault::Shape(at.clone(), "`results`, a list"))?;
        for (place, result) in results.iter().enumerate() {
            let at = format!("{at}.results[{place}]");
            let stated = match exporter {
                Exporter::OpenAi => openai::result(result, day, &at)?,
                Exporter::Anthropic => anthropic::result(result, day, &at)?,
            };
            export.stated.push(stated);
        }
    }
    Ok(())
}

/// Of `parts`, the last are those read from a cache.
fn tokens(
    key: Option<String>,
    day: Date,
    model: Option<String>,
    parts: [i128; 4],
    output_tokens: i128,
) -> Stated {
    let [.., cached_tokens] = parts;
    let input = parts
        .iter()
        .fold(0_i128, |all, part| all.saturating_add(*part));
    Stated {
        key,
        day,
        model,
        what: What::Tokens,
        counts: Counts {
            input_tokens: input,
            cached_tokens,
            output_tokens,
            ..Counts::default()
        },
    }
}

fn check(table: &Table, columns: &[&'static str]) -> Result<(), ExportFault> {
    match columns.iter().find(|column| !table.has(column)) {
        Some(missing) => Err(ExportFault::Columns(missing)),
        None => Ok(()),
    }
}

/// Strings and numbers alike, as text; nothing for what is absent.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// A count; zero where the export leaves it out.
fn whole(text: &str, name: &str, at: &str) -> Result<i128, ExportFault> {
    if text.is_empty() {
        return Ok(0);
    }
    let at = || format!("{at}, {name}");
    count(text).ok_or_else(|| ExportFault::Value(at(), text.to_owned(), "a whole number"))
}

fn in_dollars(text: &str, currency: &str, shift: u32, at: &str) -> Result<Counts, ExportFault> {
    if !currency.eq_ignore_ascii_case("usd") {
        let (at, currency) = (at.to_owned(), currency.to_owned());
        return Err(ExportFault::Value(at, currency, "US dollars"));
    }
    let cost_usd = money(text, shift)
        .ok_or_else(|| ExportFault::Value(at.to_owned(), text.to_owned(), "an amount"))?;
    Ok(Counts {
        cost_usd,
        ..Counts::default()
    })
}
