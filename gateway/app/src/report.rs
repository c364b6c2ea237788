//! `tollgate report`: what has been spent on what, and who was refused why, from the records.
//!
//! Reads the partitions of the tenants asked for and no others; needs no running gateway. What
//! has happened in the last tenth of a second may still be on its way into the records. Rows are
//! written as they come, so a report may be larger than memory.

mod asked;
mod page;

use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use tollgate_admin::reports::{CostAnswer, CostQuestion};
use tollgate_archive::records::Unread;
use tollgate_archive::shelf::{LocalShelf, Shelf};
use tollgate_archive::tally::Table;
use tollgate_core::audit::ROOT;
use tollgate_core::report::{self, Form, Printer};

use crate::config::Settings;
use crate::live::Live;
use crate::{clock, output, store};

pub(crate) use asked::{Asked, Texts, Unanswered};
pub(crate) use page::Page;

/// How much text is collected before it is written, in bytes.
const PIECE: usize = 64 << 10;

/// The admin API answers with as many rows at most; its JSON stays below a few MiB.
const MOST_ROWS: usize = 10_000;

/// More threads read no faster: by then the disk is what is waited for.
const MOST_THREADS: usize = 8;

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
    /// A table of GitHub's Markdown
    Markdown,
    /// One page that needs nothing else, with charts
    Html,
}

/// The order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// The dearest first
    Cost,
    /// The most calls first
    Calls,
    /// The most refusals first
    Refusals,
    /// Those that were refused the most money first
    Asked,
    /// The most tokens first
    Tokens,
    /// By what they are grouped by
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct Command {
    /// Only this tenant; otherwise all
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Who was refused, by which rule, and how much was asked, instead of what calls cost
    #[arg(long)]
    refusals: bool,
    /// What to group by, separated by commas: tenant, agent, task, model, provider, tool,
    /// operation, credential, outcome, hour, day, month, prices; code, reason, limit of refusals
    /// [default: tenant,model; with --refusals: tenant,agent,reason,limit]
    #[arg(long, value_name = "NAMES")]
    by: Option<String>,
    /// Only what meets this: NAME=PATTERN or NAME!=PATTERN, where * stands for anything. Several
    /// for one name are alternatives, those for different names must all hold
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Only agents of this name: the same as --where agent=…
    #[arg(long, value_name = "PATTERN")]
    agent: Vec<String>,
    /// Only tasks of this name
    #[arg(long, value_name = "PATTERN")]
    task: Vec<String>,
    /// Only models of this name
    #[arg(long, value_name = "PATTERN")]
    model: Vec<String>,
    /// Only providers of this name
    #[arg(long, value_name = "PATTERN")]
    provider: Vec<String>,
    /// Only calls since this UTC month, date or time, such as 2026-11, 2026-11-23 or
    /// 2026-11-23T08:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only calls before this UTC month, date or time; a month or date counts whole
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only this many rows; the others are summed into one
    #[arg(long, value_name = "ROWS")]
    top: Option<usize>,
    /// The order of rows [default: cost; with --refusals: refusals]
    #[arg(long, value_enum)]
    sort: Option<Sort>,
    /// What it looks like
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print JSON: the same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Read the records below this directory, an export or a copy, instead of the gateway's own
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
    /// Read the records in the object store that [records.store] of the settings names
    #[arg(long, conflicts_with = "records")]
    from_store: bool,
    #[command(flatten)]
    pub(crate) live: Live,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// If the question cannot be understood or the records not be read.
    pub(crate) fn run(&self, settings: &Settings) -> anyhow::Result<()> {
        let asked = self.asked()?;
        let (shelf, source) = self.shelf(settings)?;
        let form = match self.format {
            _ if self.json => Form::Json,
            Format::Json => Form::Json,
            Format::Table => Form::Table,
            Format::Csv => Form::Csv,
            Format::Markdown => Form::Markdown,
            Format::Html => {
                let page = Page::of(&asked, &*shelf, source, clock::now(), threads());
                let page = page.context("there is no report")?;
                return output::data(&page.html());
            }
        };
        let table = asked.table(&*shelf, threads());
        write(&table.context("there is no report")?, form)
    }

    /// Where the records are read, and what the page says of that.
    fn shelf(&self, settings: &Settings) -> anyhow::Result<(Box<dyn Shelf>, String)> {
        if self.from_store {
            return store::shelf(settings);
        }
        let dir = self.records.as_ref().unwrap_or(&settings.data_dir);
        let root = dir.join(ROOT);
        if self.records.is_some() {
            ensure!(root.is_dir(), "{} is no directory", root.display());
        }
        Ok((Box::new(LocalShelf::new(dir)), root.display().to_string()))
    }

    fn asked(&self) -> Result<Asked, Unanswered> {
        let by_name = [
            ("agent", &self.agent),
            ("task", &self.task),
            ("model", &self.model),
            ("provider", &self.provider),
        ];
        let named = by_name.into_iter().flat_map(|(name, patterns)| {
            patterns
                .iter()
                .map(move |pattern| format!("{name}={pattern}"))
        });
        Asked::from_texts(&Texts {
            tenant: self.tenant.as_deref(),
            by: self.by.as_deref(),
            from: self.from.as_deref(),
            to: self.to.as_deref(),
            top: self.top,
            sort: self.sort,
            refusals: self.refusals,
            conditions: self.conditions.iter().cloned().chain(named).collect(),
        })
    }
}

/// The answer to a question that was put to the admin API, with at most [`MOST_ROWS`] rows. Reads
/// on one thread: beside it calls go on.
///
/// # Errors
/// If the question cannot be understood or the records not be read.
pub(crate) fn answer(
    question: &CostQuestion,
    shelf: &LocalShelf,
) -> Result<CostAnswer, Unanswered> {
    let wrong = |why: String| Unanswered::Question(why);
    let format = question.format.as_deref().unwrap_or("json");
    let format = Format::from_str(format, false)
        .map_err(|_none| wrong("a report is json, csv, markdown, table or html".to_owned()))?;
    let sort = question
        .sort
        .as_deref()
        .map(|sort| Sort::from_str(sort, false));
    let sort = sort.transpose().map_err(|_none| {
        wrong("rows are sorted by cost, calls, refusals, asked, tokens or name".to_owned())
    })?;
    let asked = Asked::from_texts(&Texts {
        tenant: question.tenant.as_deref(),
        by: question.by.as_deref(),
        from: question.from.as_deref(),
        to: question.to.as_deref(),
        top: question.top,
        sort,
        refusals: question.refusals,
        conditions: question.conditions.clone(),
    })?;
    if format == Format::Html {
        let page = Page::of(
            &asked,
            shelf,
            "the gateway's records".to_owned(),
            clock::now(),
            1,
        )?;
        let kind = "text/html; charset=utf-8";
        let text = page.html();
        return Ok(CostAnswer::Text { kind, text });
    }
    let table = asked.at_most(MOST_ROWS).table(shelf, 1)?;
    let report = table.into_report().map_err(Unread::Temporary)?;
    let (kind, form) = match format {
        Format::Csv => ("text/csv; charset=utf-8; header=present", Form::Csv),
        Format::Markdown => ("text/markdown; charset=utf-8", Form::Markdown),
        Format::Table => ("text/plain; charset=utf-8", Form::Table),
        Format::Json | Format::Html => return Ok(CostAnswer::Json(report::json(&report))),
    };
    let text = report::print(&report, form);
    Ok(CostAnswer::Text { kind, text })
}

/// As many as read faster than fewer.
fn threads() -> usize {
    available_parallelism()
        .map_or(1, NonZero::get)
        .min(MOST_THREADS)
}

/// Writes a table to standard output, row by row.
fn write(table: &Table, form: Form) -> anyhow::Result<()> {
    let mut printer = Printer::new(form, &table.summary);
    if printer.measures() {
        table.each(&mut |row| {
            printer.measure(row);
            Ok(())
        })?;
    }
    let mut text = String::new();
    printer.begin(&mut text);
    table.each(&mut |row| {
        printer.row(row, &mut text);
        if text.len() >= PIECE {
            output::data(&text).map_err(io::Error::other)?;
            text.clear();
        }
        Ok(())
    })?;
    printer.end(&mut text);
    output::data(&text)
}
