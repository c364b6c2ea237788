//! A report as text: a table for people, CSV for spreadsheets, JSON for programs.
//!
//! Names of models and the like come from clients, so no cell can become a formula, a line break
//! or an escape sequence of a terminal. Worst case: a name with control characters is shown with
//! `\u{fffd}` in their places.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Report, Sums};

const COLUMNS: [&str; 6] = [
    "calls",
    "refusals",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "estimated",
];

fn figures(sums: &Sums) -> [String; 6] {
    [
        sums.calls.to_string(),
        sums.refusals.to_string(),
        sums.input_tokens.to_string(),
        sums.output_tokens.to_string(),
        sums.cost_usd.to_string(),
        sums.estimated.to_string(),
    ]
}

/// Aligned columns with a line of totals.
#[must_use]
pub fn table(report: &Report) -> String {
    let groups = report.by.len();
    let names = report.by.iter().map(ToString::to_string);
    let head: Vec<String> = names.chain(COLUMNS.map(str::to_owned)).collect();
    let mut lines = vec![head];
    for row in &report.rows {
        let key = row.key.iter().map(|text| printable(text));
        lines.push(key.chain(figures(&row.sums)).collect());
    }
    if groups > 0 {
        let total = (0..groups).map(|n| if n == 0 { "total" } else { "" }.to_owned());
        lines.push(total.chain(figures(&report.total)).collect());
    }
    let columns = groups.saturating_add(COLUMNS.len());
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| {
            if column < groups {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    if report.left_out > 0 {
        text.push_str(&format!("({} more rows)\n", report.left_out));
    }
    text
}

fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// RFC 4180, without the line of totals: a spreadsheet would add it up once more.
#[must_use]
pub fn csv(report: &Report) -> String {
    let names = report.by.iter().map(ToString::to_string);
    let head: Vec<String> = names.chain(COLUMNS.map(str::to_owned)).collect();
    let mut text = head.join(",");
    text.push_str("\r\n");
    for row in &report.rows {
        let key = row.key.iter().map(|cell| csv_text(cell));
        let cells: Vec<String> = key.chain(figures(&row.sums)).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// A quoted cell that no spreadsheet takes for a formula.
///
/// Source: OWASP, "CSV Injection": cells that begin with one of these are prefixed with a quote.
fn csv_text(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    // "-" alone is how an absent value is shown.
    let guard = if formula && text != "-" { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

/// One object: `by`, `rows`, `left_out`, `total`. Money is a decimal string, exact.
#[must_use]
pub fn json(report: &Report) -> Value {
    let object = |sums: &Sums| match to_value(sums) {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    let rows = report.rows.iter().map(|row| {
        let keys = report.by.iter().zip(&row.key);
        let mut members: Map<String, Value> = keys
            .map(|(dimension, value)| (dimension.to_string(), Value::from(value.as_str())))
            .collect();
        members.extend(object(&row.sums));
        Value::Object(members)
    });
    let members = [
        ("by", to_value(&report.by)),
        ("rows", rows.collect()),
        ("left_out", Value::from(report.left_out)),
        ("total", Value::Object(object(&report.total))),
    ];
    let members = members.map(|(name, value)| (name.to_owned(), value));
    Value::Object(members.into_iter().collect())
}

/// The values here are numbers and strings, which always have a form in JSON.
fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
