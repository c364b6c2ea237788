//! A report as text: a table for people, CSV for spreadsheets, JSON for programs, Markdown for
//! pages.
//!
//! Rows come one at a time, so that there may be more of them than memory. Names of models and the
//! like come from clients: no cell can become a formula, a link, a line break or an escape
//! sequence of a terminal. Worst case: a name that is nothing but such characters is hard to read.

mod cells;

use serde_json::{Map, Value};

use super::{Report, Row, Summary, Topic};
pub use cells::shown;
use cells::{Column, columns, csv_text, markdown_text};

/// What a printed report looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// Aligned columns with a line of totals.
    #[default]
    Table,
    /// RFC 4180, without totals: a spreadsheet would add them up once more.
    Csv,
    /// One object: `topic`, `by`, `rows`, `left_out`, `other`, `total`. Money is decimal text.
    Json,
    /// A table of GitHub's Markdown, with a line of totals.
    Markdown,
}

/// What stands for a value that is not there.
const ABSENT: &str = "-";

/// How the groups that have no row of their own are called.
const OTHER: &str = "(other)";

/// Writes a report, piece by piece: `begin`, each `row`, `end`.
pub struct Printer<'s> {
    form: Form,
    summary: &'s Summary,
    columns: &'static [Column],
    widths: Vec<usize>,
    rows: u64,
}

impl<'s> Printer<'s> {
    /// Prints what `summary` sums up.
    #[must_use]
    pub fn new(form: Form, summary: &'s Summary) -> Self {
        let columns = columns(summary.topic, form);
        let mut printer = Self {
            form,
            summary,
            columns,
            widths: Vec::new(),
            rows: 0,
        };
        if printer.measures() {
            let head = printer.head();
            printer.widen(&head);
            for line in printer.foot() {
                printer.widen(&line);
            }
        }
        printer
    }

    /// Whether [`Printer::measure`] must have seen every row before the first is written.
    #[must_use]
    pub fn measures(&self) -> bool {
        self.form == Form::Table
    }

    /// Sees how wide a row is.
    pub fn measure(&mut self, row: &Row) {
        let cells = self.cells(row);
        self.widen(&cells);
    }

    /// What comes before the rows.
    pub fn begin(&mut self, to: &mut String) {
        let head = self.head();
        match self.form {
            Form::Table => self.line(&head, to),
            Form::Csv => self.comma(&head, to),
            Form::Markdown => {
                self.bar(&head, to);
                let groups = self.summary.by.len();
                let rules = (0..head.len()).map(|n| if n < groups { "---" } else { "---:" });
                self.bar(&rules.map(str::to_owned).collect::<Vec<_>>(), to);
            }
            Form::Json => {
                let (topic, by) = (topic(self.summary), by(self.summary));
                to.push_str(&format!(
                    "{{\n  \"topic\": {topic},\n  \"by\": {by},\n  \"rows\": ["
                ));
            }
        }
    }

    /// One row.
    pub fn row(&mut self, row: &Row, to: &mut String) {
        match self.form {
            Form::Table => self.line(&self.cells(row), to),
            Form::Csv => self.comma(&self.cells(row), to),
            Form::Markdown => self.bar(&self.cells(row), to),
            Form::Json => {
                let before = if self.rows > 0 { "," } else { "" };
                let row = Value::Object(row_members(self.summary, row));
                to.push_str(&format!("{before}\n    {row}"));
            }
        }
        self.rows = self.rows.saturating_add(1);
    }

    /// What comes after the rows.
    pub fn end(&mut self, to: &mut String) {
        match self.form {
            Form::Table => {
                for line in self.foot() {
                    self.line(&line, to);
                }
            }
            Form::Markdown => {
                for line in self.foot() {
                    self.bar(&line, to);
                }
            }
            Form::Csv if self.summary.left_out > 0 => {
                let mut cells = self.label(&csv_text(OTHER), &csv_text(""));
                cells.extend(self.figures(&self.summary.other));
                self.comma(&cells, to);
            }
            Form::Csv => {}
            Form::Json => {
                let members = tail(self.summary);
                let close = if self.rows > 0 { "\n  ]" } else { "]" };
                to.push_str(close);
                for (name, value) in members {
                    to.push_str(&format!(",\n  \"{name}\": {value}"));
                }
                to.push_str("\n}\n");
            }
        }
    }

    fn head(&self) -> Vec<String> {
        let by = self.summary.by.iter().map(ToString::to_string);
        by.chain(self.columns.iter().map(|column| column.name.to_owned()))
            .collect()
    }

    fn foot(&self) -> Vec<Vec<String>> {
        let mut lines = Vec::new();
        let summary = self.summary;
        if summary.left_out > 0 {
            let name = format!("({} other)", summary.left_out);
            let mut cells = self.label(&name, "");
            cells.extend(self.figures(&summary.other));
            lines.push(cells);
        }
        if !summary.by.is_empty() {
            let mut cells = self.label("total", "");
            cells.extend(self.figures(&summary.total));
            lines.push(cells);
        }
        lines
    }

    /// One text in the first place of a group, another in the rest.
    fn label(&self, first: &str, rest: &str) -> Vec<String> {
        let places = 0..self.summary.by.len();
        places
            .map(|place| if place == 0 { first } else { rest }.to_owned())
            .collect()
    }

    fn figures<'a>(&'a self, sums: &'a super::Sums) -> impl Iterator<Item = String> + use<'a> {
        let total = &self.summary.total;
        self.columns.iter().map(move |column| {
            let absent = if self.form == Form::Csv { "" } else { ABSENT };
            (column.text)(sums, total).unwrap_or_else(|| absent.to_owned())
        })
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let values = row.values().take(self.summary.by.len());
        let value = |value: &str| match self.form {
            Form::Csv => csv_text(value),
            _ if value.is_empty() => ABSENT.to_owned(),
            Form::Markdown => markdown_text(&shown(value)),
            Form::Table | Form::Json => shown(value).into_owned(),
        };
        let mut cells: Vec<String> = values.map(value).collect();
        cells.extend(self.figures(&row.sums));
        cells
    }

    fn widen(&mut self, cells: &[String]) {
        self.widths.resize(self.widths.len().max(cells.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }

    fn line(&self, cells: &[String], to: &mut String) {
        let groups = self.summary.by.len();
        let cells = cells.iter().zip(&self.widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| {
            if column < groups {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        to.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        to.push('\n');
    }

    fn comma(&self, cells: &[String], to: &mut String) {
        to.push_str(&cells.join(","));
        to.push_str("\r\n");
    }

    fn bar(&self, cells: &[String], to: &mut String) {
        to.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

/// A whole report as text.
#[must_use]
pub fn print(report: &Report, form: Form) -> String {
    let mut printer = Printer::new(form, &report.summary);
    let mut text = String::new();
    if printer.measures() {
        report.rows.iter().for_each(|row| printer.measure(row));
    }
    printer.begin(&mut text);
    for row in &report.rows {
        printer.row(row, &mut text);
    }
    printer.end(&mut text);
    text
}

/// A whole report as a value.
#[must_use]
pub fn json(report: &Report) -> Value {
    let summary = &report.summary;
    let rows = report.rows.iter();
    let rows = rows.map(|row| Value::Object(row_members(summary, row)));
    let mut members = Map::new();
    members.insert("topic".to_owned(), topic(summary));
    members.insert("by".to_owned(), by(summary));
    members.insert("rows".to_owned(), rows.collect());
    members.extend(tail(summary).map(|(name, value)| (name.to_owned(), value)));
    Value::Object(members)
}

fn topic(summary: &Summary) -> Value {
    Value::from(match summary.topic {
        Topic::Costs => "costs",
        Topic::Refusals => "refusals",
    })
}

fn by(summary: &Summary) -> Value {
    summary
        .by
        .iter()
        .map(|dimension| dimension.name())
        .collect()
}

fn tail(summary: &Summary) -> [(&'static str, Value); 3] {
    let sums = |sums| Value::Object(figures(summary, sums));
    let other = match summary.left_out {
        0 => Value::Null,
        _ => sums(&summary.other),
    };
    [
        ("left_out", Value::from(summary.left_out)),
        ("other", other),
        ("total", sums(&summary.total)),
    ]
}

fn row_members(summary: &Summary, row: &Row) -> Map<String, Value> {
    let mut members = figures(summary, &row.sums);
    let value = |value: &str| match value {
        "" => Value::Null,
        value => Value::from(value),
    };
    let values = summary.by.iter().zip(row.values());
    members.extend(values.map(|(dimension, text)| (dimension.to_string(), value(text))));
    members
}

fn figures(summary: &Summary, sums: &super::Sums) -> Map<String, Value> {
    let columns = columns(summary.topic, Form::Json).iter();
    let figures = columns.map(|column| {
        let value = match (column.text)(sums, &summary.total) {
            None => Value::Null,
            Some(text) if column.counts => text.parse::<u64>().map_or(Value::Null, Value::from),
            Some(text) => Value::from(text),
        };
        (column.name.to_owned(), value)
    });
    figures.collect()
}
