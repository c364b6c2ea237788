//! Reads one TOML value as a finished type, or says in words what is expected instead.
//!
//! A reader's message goes on from the key's name: "must be ...", "is ..., but ...".

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::de::DeValue;

use crate::money::PicoUsd;

/// What a reading function makes of one value: the finished type, or what is wrong with it.
pub type Read<T> = Result<T, String>;

/// Reads any text.
///
/// # Errors
/// What is expected, if the value is not a string.
pub fn text(value: &DeValue<'_>) -> Read<String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("must be a text in quotes, not {}", described(value)))
}

/// Reads `true` or `false`.
///
/// # Errors
/// What is expected, if the value is neither.
pub fn boolean(value: &DeValue<'_>) -> Read<bool> {
    value
        .as_bool()
        .ok_or_else(|| format!("must be true or false, not {}", described(value)))
}

/// Reads a whole number within `range`.
///
/// # Errors
/// The range, if the value is not in it or no integer.
pub fn integer(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Read<u64> {
    move |value| {
        value
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                format!(
                    "must be a whole number from {} to {}, not {}",
                    range.start(),
                    range.end(),
                    described(value)
                )
            })
    }
}

/// Reads an amount of money: text, so that no decimal is ever rounded on the way.
///
/// # Errors
/// The right form, if the value is a number, negative, or no amount.
pub fn money(value: &DeValue<'_>) -> Read<PicoUsd> {
    if value.is_integer() || value.is_float() {
        let digits = described(value);
        return Err(format!(
            "is an amount of money and must stand in quotes: \"{digits}\""
        ));
    }
    let text = text(value)?;
    match text.parse::<PicoUsd>() {
        Ok(amount) if amount >= PicoUsd::ZERO => Ok(amount),
        Ok(_) => Err(format!(
            "must not be negative, but is \"{}\"; \"0\" blocks, and leaving the key out means unlimited",
            shown(&text)
        )),
        Err(wrong) => Err(format!("is \"{}\", but {wrong}", shown(&text))),
    }
}

/// Reads a text that is a finished type.
///
/// # Errors
/// What the type says of itself, if the text does not fit.
pub fn parsed<T>(value: &DeValue<'_>) -> Read<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = text(value)?;
    text.parse()
        .map_err(|wrong: T::Err| format!("is \"{}\", but {wrong}", shown(&text)))
}

/// Reads one of a fixed set of words.
///
/// # Errors
/// The set, and the nearest word of it, if the value is none of them.
pub fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Read<T> {
    move |value| {
        let text = text(value)?;
        words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let hint = suggestion(&text, known.iter().copied());
                format!(
                    "must be one of {}, not \"{}\"{hint}",
                    known.join(", "),
                    shown(&text)
                )
            })
    }
}

/// `; did you mean ...?` for the known name nearest to `name`, or nothing if none is near.
pub fn suggestion<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    known
        .map(|candidate| {
            let begun = name.len() >= 3 && candidate.starts_with(name);
            let steps = if begun { 1 } else { distance(name, candidate) };
            (steps, candidate)
        })
        .filter(|(steps, candidate)| *steps <= candidate.len().div_ceil(3))
        .min()
        .map_or_else(String::new, |(_, nearest)| {
            format!("; did you mean `{nearest}`?")
        })
}

/// A text from a file, fit for one line of a terminal.
#[must_use]
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut line: String = text
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// A value for a message. Texts are not shown: where one stands that should not, it may be a key
/// that was pasted into the wrong place.
pub(super) fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Edits (insert, delete, replace) between two names. Long names count as far apart, which keeps
/// the work small whatever the file holds.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut previous: Vec<usize> = (0..=b.chars().count()).collect();
    for (row, from) in a.chars().enumerate() {
        let mut left = row.saturating_add(1);
        let mut current = vec![left];
        for (to, pair) in b.chars().zip(previous.windows(2)) {
            let (diagonal, above) = match pair {
                [diagonal, above] => (*diagonal, *above),
                _ => (usize::MAX, usize::MAX),
            };
            let replaced = diagonal.saturating_add(usize::from(from != to));
            left = replaced
                .min(above.saturating_add(1))
                .min(left.saturating_add(1));
            current.push(left);
        }
        previous = current;
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_edits() {
        for (a, b, steps) in [
            ("", "", 0),
            ("", "abc", 3),
            ("daily_usd", "daily_usd", 0),
            ("dayly_usd", "daily_usd", 1),
            ("provder", "provider", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), steps, "{a:?} {b:?}");
        }
    }
}
