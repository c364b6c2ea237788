//! A reconciliation as text for people and as JSON for programs.

use serde_json::{Value, json};

use super::compare::{Compared, Reconciliation, Verdict};

const HEAD: [&str; 8] = [
    "DAY", "KEY", "MODEL", "REQUESTS", "INPUT", "CACHED", "OUTPUT", "COST USD",
];

/// A line for each place, provider's figures before ours where they differ, and what was found
/// below it; then what concerns all of it.
#[must_use]
pub fn table(all: &Reconciliation) -> String {
    let head = HEAD.iter().map(|name| (*name).to_owned());
    let mut rows: Vec<Vec<String>> = vec![head.chain(["".to_owned()]).collect()];
    rows.extend(all.places.iter().map(cells));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let padded = row.iter().enumerate().map(|(column, cell)| {
            let width = widths.get(column).copied().unwrap_or(0);
            format!("{cell:<width$}")
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
        let place = number
            .checked_sub(1)
            .and_then(|place| all.places.get(place));
        for finding in place.into_iter().flat_map(|place| &place.findings) {
            text.push_str(&format!("    {}: {}\n", finding.kind, finding.text));
        }
    }
    text.push('\n');
    for (key, tokens) in &all.unmapped {
        let key = printable(key);
        text.push_str(&format!(
            "{key} is mapped to no credential and not compared: {tokens} tokens\n"
        ));
    }
    for key in &all.unused {
        text.push_str(&format!("{} is not in the export\n", printable(key)));
    }
    if all.is_cut {
        text.push_str("the export's last page says that there are more: fetch them, too\n");
    }
    let count = |verdict| {
        let found = all.places.iter().filter(|place| place.verdict == verdict);
        found.count()
    };
    text.push_str(&format!(
        "{} places agree, {} differ and are explained, {} are not explained\n",
        count(Verdict::Agrees),
        count(Verdict::Explained),
        count(Verdict::Unexplained)
    ));
    text
}

fn cells(place: &Compared) -> Vec<String> {
    let (theirs, ours) = (&place.provider, &place.ours);
    let both = |shown: bool, theirs: String, ours: String| match shown {
        false => "-".to_owned(),
        true if theirs == ours => theirs,
        true => format!("{theirs} / {ours}"),
    };
    let tokens =
        |theirs: i128, ours: i128| both(!place.is_cost, theirs.to_string(), ours.to_string());
    let verdict = match place.verdict {
        Verdict::Agrees => "agrees",
        Verdict::Explained => "explained",
        Verdict::Unexplained => "NOT EXPLAINED",
    };
    vec![
        place.day.to_string(),
        printable(&place.key),
        printable(&place.model),
        // Not every export counts requests.
        both(
            !place.is_cost && theirs.requests != 0,
            theirs.requests.to_string(),
            ours.requests.to_string(),
        ),
        tokens(theirs.input_tokens, ours.input_tokens),
        tokens(theirs.cached_tokens, ours.cached_tokens),
        tokens(theirs.output_tokens, ours.output_tokens),
        both(
            place.is_cost,
            theirs.cost_usd.to_string(),
            ours.cost_usd.to_string(),
        ),
        verdict.to_owned(),
    ]
}

/// Names of keys and models come from a file; none of them moves the cursor.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// `agrees`, `places`, `unmapped`, `unused`, `is_cut`; money as exact decimal text.
#[must_use]
pub fn json(all: &Reconciliation) -> Value {
    let mut value = serde_json::to_value(all).unwrap_or(Value::Null);
    if let Some(members) = value.as_object_mut() {
        members.insert("agrees".to_owned(), json!(all.agrees()));
    }
    value
}
