//! An explanation for people: the steps as a numbered list, then the caps and limits.

use serde_json::Value;

use crate::output;

/// The columns of caps: what they are called, and where they stand.
const CAPS: [(&str, &str); 5] = [
    ("CAP", "cap"),
    ("LIMIT USD", "limit_usd"),
    ("SETTLED", "settled_usd"),
    ("RESERVED", "reserved_usd"),
    ("LEFT", "left_usd"),
];

/// The columns of limits on pace.
const LIMITS: [(&str, &str); 4] = [
    ("LIMIT", "limit"),
    ("PER MINUTE", "per_minute"),
    ("BURST", "burst"),
    ("AT ONCE", "at_once"),
];

/// The whole explanation. `is_live`: whether a gateway has given it.
pub(super) fn text(told: &Value, is_live: bool) -> String {
    let mut text = verdict(told);
    let steps = told["steps"].as_array().map_or(&[][..], Vec::as_slice);
    for (at, step) in steps.iter().enumerate() {
        let mark = if step["passed"] == true {
            ""
        } else {
            "REFUSED: "
        };
        text.push_str(&format!(
            "{:>2}. {:<10}  {mark}{}\n",
            at.saturating_add(1),
            word(&step["stage"]),
            word(&step["decision"])
        ));
        if let Some(by) = step["decided_by"].as_str() {
            text.push_str(&format!("{:16}by {by}\n", ""));
        }
        if let Some(hint) = step["hint"].as_str() {
            text.push_str(&format!("{:16}{hint}\n", ""));
        }
    }
    for (name, columns) in [("caps", &CAPS[..]), ("limits", &LIMITS[..])] {
        let rows = steps
            .iter()
            .filter_map(|step| step["facts"][name].as_array());
        let rows: Vec<&Value> = rows.flatten().collect();
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&table(columns, &rows));
        }
    }
    if !is_live {
        text.push_str("\nBy the files alone, as if nothing had been spent; --live asks the running gateway.\n");
    }
    text
}

fn verdict(told: &Value) -> String {
    let refusal = &told["refusal"];
    if refusal.is_null() {
        return "ALLOWED\n\n".to_owned();
    }
    let mut text = format!(
        "REFUSED with {} {}: {}\n",
        word(&refusal["status"]),
        word(&refusal["code"]),
        word(&refusal["message"])
    );
    text.push_str(&format!(
        "reason for the record: {}\n\n",
        word(&refusal["reason"])
    ));
    text
}

fn table(columns: &[(&str, &str)], rows: &[&Value]) -> String {
    let heading = columns.iter().map(|(title, _)| (*title).to_owned());
    let mut lines: Vec<Vec<String>> = vec![heading.collect()];
    for row in rows {
        lines.push(columns.iter().map(|(_, at)| word(&row[*at])).collect());
    }
    output::table(&lines)
}

/// A value without what could move a terminal's cursor.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect(),
        other => other.to_string(),
    }
}
