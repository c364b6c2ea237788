//! Spoils what an answer says about its usage, in any dialect.
//!
//! It finds usage by the names of its fields, wherever they stand, so that no dialect knows of it.

use serde_json::{Value, json};

use super::frames::Event;

/// Stands for a number that JSON cannot write, until the text is made.
const NAN: &str = "@NaN@";

/// The fields, at any depth, that state usage.
const USAGE_FIELDS: [&str; 13] = [
    "usage",
    "usageMetadata",
    "usage_info",
    "x_groq",
    "meta",
    "amazon-bedrock-invocationMetrics",
    "prompt_eval_count",
    "eval_count",
    "prompt_token_count",
    "generation_token_count",
    "inputTextTokenCount",
    "tokenCount",
    "statistics",
];

/// What is wrong with the usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It is not there.
    Absent,
    /// Each count is below zero.
    Negative,
    /// Each count is the bare word `NaN`, which makes the whole no JSON.
    NotANumber,
    /// Each count is 2⁶³.
    Huge,
    /// Each count is text.
    Text,
    /// Each count has a half.
    Fraction,
    /// There is `null` where it should be.
    Null,
    /// It stands in the second event of a stream, and not where it belongs.
    Misplaced,
}

impl Lie {
    /// The lie that a steering word names.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "no-usage" => Self::Absent,
            "usage-negative" => Self::Negative,
            "usage-nan" => Self::NotANumber,
            "usage-huge" => Self::Huge,
            "usage-text" => Self::Text,
            "usage-fraction" => Self::Fraction,
            "usage-null" => Self::Null,
            "usage-misplaced" => Self::Misplaced,
            _ => return None,
        })
    }

    /// Spoils one JSON value.
    pub(crate) fn spoil(self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if matches!(self, Self::Absent | Self::Misplaced) {
                    fields.retain(|name, _| !USAGE_FIELDS.contains(&name.as_str()));
                }
                for (name, value) in fields {
                    if USAGE_FIELDS.contains(&name.as_str()) {
                        self.spoil_counts(value);
                    } else {
                        self.spoil(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.spoil(item)),
            _ => {}
        }
    }

    /// Spoils the events of a stream.
    pub(crate) fn spoil_events(self, events: &mut [Event]) {
        let mut stated = None;
        for event in events.iter_mut() {
            if let Event::Named(_, body) = event {
                stated = find(body).or(stated);
                self.spoil(body);
            }
        }
        if self == Self::Misplaced
            && let (Some((name, usage)), Some(Event::Named(_, body))) = (stated, events.get_mut(1))
        {
            body[name] = usage;
        }
    }

    fn spoil_counts(self, value: &mut Value) {
        match value {
            _ if self == Self::Null => *value = Value::Null,
            Value::Object(fields) => fields.values_mut().for_each(|v| self.spoil_counts(v)),
            Value::Array(items) => items.iter_mut().for_each(|v| self.spoil_counts(v)),
            Value::Number(number) => {
                let count = number.as_f64().unwrap_or_default();
                *value = match self {
                    Self::Negative => json!(-number.as_i64().unwrap_or(1)),
                    Self::NotANumber => json!(NAN),
                    Self::Huge => json!(1_u64 << 63),
                    Self::Text => json!(number.to_string()),
                    Self::Fraction => json!(count + 0.5),
                    Self::Absent | Self::Null | Self::Misplaced => return,
                };
            }
            _ => {}
        }
    }
}

/// The usage that stands in a value, and under which name.
fn find(value: &Value) -> Option<(String, Value)> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .find(|(name, value)| USAGE_FIELDS.contains(&name.as_str()) && !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .or_else(|| fields.values().find_map(find)),
        Value::Array(items) => items.iter().find_map(find),
        _ => None,
    }
}

/// A value as it goes out, lies included.
pub(crate) fn text(value: &Value) -> String {
    let text = value.to_string();
    if text.contains(NAN) {
        text.replace(&format!("\"{NAN}\""), "NaN")
    } else {
        text
    }
}
