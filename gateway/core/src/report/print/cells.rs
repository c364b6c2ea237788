//! Single cells: which figures there are, and how text is kept from meaning something.
//!
//! Worst case: a character that no one has thought of; then it is shown as it is.

use std::borrow::Cow;

use super::Form;
use crate::report::{Sums, Topic, share};
use crate::time::Timestamp;

/// A figure of a row.
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Whether it is a number in JSON; otherwise text.
    pub(super) counts: bool,
    /// Of a row's sums and those of everything.
    pub(super) text: fn(&Sums, &Sums) -> Option<String>,
}

const fn count(name: &'static str, text: fn(&Sums, &Sums) -> Option<String>) -> Column {
    Column {
        name,
        counts: true,
        text,
    }
}

const fn text(name: &'static str, text: fn(&Sums, &Sums) -> Option<String>) -> Column {
    Column {
        name,
        counts: false,
        text,
    }
}

/// The last is not in tables, which are wide enough without it.
static COSTS: [Column; 9] = [
    count("calls", |sums, _| Some(sums.calls.to_string())),
    count("refusals", |sums, _| Some(sums.refusals.to_string())),
    count("input_tokens", |sums, _| {
        Some(sums.input_tokens.to_string())
    }),
    count("cached_tokens", |sums, _| {
        Some(sums.cached_input_tokens.to_string())
    }),
    count("output_tokens", |sums, _| {
        Some(sums.output_tokens.to_string())
    }),
    text("cost_usd", |sums, _| Some(sums.cost.to_string())),
    text("share_percent", |sums, all| {
        share(sums.cost.as_pico(), all.cost.as_pico())
    }),
    count("estimated", |sums, _| Some(sums.estimated.to_string())),
    text("estimated_usd", |sums, _| {
        Some(sums.estimated_cost.to_string())
    }),
];

static REFUSALS: [Column; 5] = [
    count("refusals", |sums, _| Some(sums.refusals.to_string())),
    text("share_percent", |sums, all| {
        share(sums.refusals.into(), all.refusals.into())
    }),
    text("asked_usd", |sums, _| Some(sums.asked.to_string())),
    text("first_at", |sums, _| sums.first.map(seconds)),
    text("last_at", |sums, _| sums.last.map(seconds)),
];

pub(super) fn columns(topic: Topic, form: Form) -> &'static [Column] {
    match (topic, form, &COSTS) {
        (Topic::Refusals, _, _) => &REFUSALS,
        (Topic::Costs, Form::Table | Form::Markdown, [shown @ .., _]) => shown,
        (Topic::Costs, _, all) => all,
    }
}

/// A time to the second: what a person looks for.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_seconds(time.as_seconds())
        .to_string()
        .replace(".000000", "")
}

/// Text without anything that a terminal or a page would obey instead of showing it: control
/// characters, and marks that turn the direction of writing or are not seen. They appear as
/// `\u{1b}`.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut seen = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            seen.extend(c.escape_unicode());
        } else {
            seen.push(c);
        }
    }
    Cow::Owned(seen)
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A quoted cell that no spreadsheet takes for a formula, and that stays on its line.
///
/// Source: OWASP, "CSV Injection": cells that begin with one of these are prefixed with a quote,
/// and every cell is quoted, so that no separator in it begins another.
pub(super) fn csv_text(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let guard = if formula { "'" } else { "" };
    format!("\"{guard}{}\"", shown(text).replace('"', "\"\""))
}

/// Text in a cell of a table of GitHub's Markdown. What could begin markup, a link or another
/// cell is escaped, and so is what makes an address a link by itself.
pub(super) fn markdown_text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let address = c == '.' && (safe.ends_with("www") || safe.ends_with("WWW"));
        if address || "\\`*_{}[]<>()#+!|~&:@$".contains(c) {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}
