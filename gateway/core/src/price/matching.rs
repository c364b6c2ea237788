//! Which entry of the catalogue a model name means.
//!
//! Entries are tried in file order and the first that matches wins, as the catalogue is written
//! for. Names are compared in lower case.

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::HashMap;
use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;

use super::PriceError;
use super::catalogue::ModelPrices;

/// A condition on a model name, as the catalogue writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Match {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(String),
    Or(Vec<Match>),
    And(Vec<Match>),
}

/// A [`Match`] made ready.
#[derive(Debug)]
enum Matcher {
    Equals(String),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Regex(Regex),
    /// Does not match: stands for a pattern of the form `^(?!...)`.
    NoRegex(Regex),
    Or(Vec<Matcher>),
    And(Vec<Matcher>),
}

impl Matcher {
    fn new(condition: &Match) -> Result<Self, PriceError> {
        let all = |conditions: &[Match]| -> Result<Vec<Self>, PriceError> {
            conditions.iter().map(Self::new).collect()
        };
        Ok(match condition {
            Match::Equals(text) => Self::Equals(text.to_lowercase()),
            Match::StartsWith(text) => Self::StartsWith(text.to_lowercase()),
            Match::EndsWith(text) => Self::EndsWith(text.to_lowercase()),
            Match::Contains(text) => Self::Contains(text.to_lowercase()),
            Match::Regex(pattern) => {
                let denied = pattern
                    .strip_prefix("^(?!")
                    .and_then(|rest| rest.strip_suffix(')'));
                match denied {
                    Some(denied) => Self::NoRegex(regex(&format!("^(?:{denied})"))?),
                    None => Self::Regex(regex(pattern)?),
                }
            }
            Match::Or(conditions) => Self::Or(all(conditions)?),
            Match::And(conditions) => Self::And(all(conditions)?),
        })
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Equals(text) => name == text,
            Self::StartsWith(text) => name.starts_with(text.as_str()),
            Self::EndsWith(text) => name.ends_with(text.as_str()),
            Self::Contains(text) => name.contains(text.as_str()),
            Self::Regex(regex) => regex.is_match(name),
            Self::NoRegex(regex) => !regex.is_match(name),
            Self::Or(any) => any.iter().any(|matcher| matcher.fits(name)),
            Self::And(all) => all.iter().all(|matcher| matcher.fits(name)),
        }
    }
}

/// Compiled at every start, hardly ever asked: an engine that is quick to make is the quick one. Its
/// classes are ASCII, which suffices for model names.
fn regex(pattern: &str) -> Result<Regex, PriceError> {
    RegexBuilder::new(pattern)
        .size_limit(1 << 16)
        .build()
        .map_err(|_bad: regex_lite::Error| PriceError::BadMatch(pattern.to_owned()))
}

/// Whether `condition` holds for `name`.
pub(super) fn fits(condition: &Match, name: &str) -> Result<bool, PriceError> {
    Ok(Matcher::new(condition)?.fits(&name.to_lowercase()))
}

/// The entries of one provider, found by name.
#[derive(Debug, Default)]
pub(super) struct Index {
    models: Vec<Arc<ModelPrices>>,
    /// What each plain name means, earlier conditions of other kinds included.
    exact: HashMap<String, usize>,
    /// Conditions other than a plain name, in file order.
    loose: Vec<(usize, Matcher)>,
}

impl Index {
    pub(super) fn new(models: &[Arc<ModelPrices>]) -> Result<Self, PriceError> {
        let mut index = Self {
            models: models.to_vec(),
            ..Self::default()
        };
        for (position, model) in models.iter().enumerate() {
            let alternatives = match &model.condition {
                Match::Or(alternatives) => alternatives.as_slice(),
                other => std::slice::from_ref(other),
            };
            for condition in alternatives {
                if let Match::Equals(name) = condition {
                    let name = name.to_lowercase();
                    if !index.exact.contains_key(&name) {
                        // Only earlier conditions are there yet.
                        let means = index.first_loose(&name).unwrap_or(position);
                        index.exact.insert(name, means);
                    }
                } else {
                    index.loose.push((position, Matcher::new(condition)?));
                }
            }
        }
        Ok(index)
    }

    /// The entry for `name`, which is in lower case.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<ModelPrices>> {
        let exact = self.exact.get(name).copied();
        let position = exact.or_else(|| self.first_loose(name))?;
        self.models.get(position)
    }

    fn first_loose(&self, name: &str) -> Option<usize> {
        let mut loose = self.loose.iter();
        loose
            .find(|(_, matcher)| matcher.fits(name))
            .map(|(position, _)| *position)
    }
}

/// A name in lower case, as entries are found by.
pub(super) fn lower(name: &str) -> Cow<'_, str> {
    if name
        .bytes()
        .all(|b| b.is_ascii() && !b.is_ascii_uppercase())
    {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.to_lowercase())
    }
}

/// Where Amazon routes a call to: the part of an inference profile's name before the model's. A
/// region's price is never above the one that the bare name has.
const GEOGRAPHIES: [&str; 7] = ["global.", "us.", "eu.", "apac.", "jp.", "au.", "ca."];

/// What else a name that means nothing may mean: the same with dates dashed, the model at the end
/// of an Amazon resource name, the model behind an inference profile. More special ones first.
pub(super) fn other_names(name: &str) -> Vec<String> {
    let mut names: Vec<String> = with_dashed_dates(name).into_iter().collect();
    let mut model = name;
    if let Some(resource) = name.strip_prefix("arn:aws") {
        // Profiles and models of the account's own have names that say nothing of their model.
        let known = ["foundation-model/", "inference-profile/"].iter();
        let mut known = known.filter_map(|kind| resource.split_once(kind));
        let Some((_, id)) = known.find(|(before, _)| before.ends_with(':')) else {
            return names;
        };
        names.push(id.to_owned());
        model = id;
    }
    let bare = GEOGRAPHIES.iter().find_map(|geo| model.strip_prefix(geo));
    names.extend(bare.map(str::to_owned));
    names
}

/// `gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: some clients write dates compactly. `None` if the
/// name has no such date.
fn with_dashed_dates(name: &str) -> Option<String> {
    let mut dashed = String::with_capacity(name.len().saturating_add(2));
    let mut changed = false;
    for (i, part) in name.split('-').enumerate() {
        if i > 0 {
            dashed.push('-');
        }
        let (date, rest) = part.split_at_checked(8).unwrap_or((part, ""));
        let is_date = i > 0
            && date.starts_with("20")
            && date.len() == 8
            && date.bytes().all(|b| b.is_ascii_digit())
            && (rest.is_empty() || rest.starts_with(':'));
        match (is_date, date.get(..4), date.get(4..6), date.get(6..)) {
            (true, Some(year), Some(month), Some(day))
                if format!("{year}-{month}-{day}")
                    .parse::<jiff::civil::Date>()
                    .is_ok() =>
            {
                dashed.push_str(&format!("{year}-{month}-{day}{rest}"));
                changed = true;
            }
            _ => dashed.push_str(part),
        }
    }
    changed.then_some(dashed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(condition: &str, name: &str) -> bool {
        let condition: Match = serde_json::from_str(condition).expect("a condition");
        fits(&condition, name).expect("a valid condition")
    }

    #[test]
    fn every_kind_of_condition_matches_as_written() {
        assert!(matches(r#"{"equals":"GPT-4"}"#, "gpt-4"));
        assert!(!matches(r#"{"equals":"gpt-4"}"#, "gpt-4o"));
        assert!(matches(
            r#"{"and":[{"starts_with":"a"},{"ends_with":":free"}]}"#,
            "ab:free"
        ));
        assert!(matches(
            r#"{"or":[{"contains":"x"},{"equals":"y"}]}"#,
            "axb"
        ));
        assert!(matches(r#"{"regex":"^m-\\d{8}$"}"#, "m-20260101"));
        assert!(!matches(r#"{"regex":"^m-\\d{8}$"}"#, "m-2026"));
        let no_speech = r#"{"regex":"^(?!.*-[tT][tT][sS](?:$|-))"}"#;
        assert!(matches(no_speech, "gemini-3"));
        assert!(!matches(no_speech, "gemini-3-tts"));
        assert!(fits(&Match::Regex("(".to_owned()), "x").is_err());
    }

    #[test]
    fn compact_dates_are_dashed() {
        assert_eq!(
            with_dashed_dates("gpt-5.2-20251211").as_deref(),
            Some("gpt-5.2-2025-12-11")
        );
        assert_eq!(
            with_dashed_dates("m-20251211:x").as_deref(),
            Some("m-2025-12-11:x")
        );
        for unchanged in [
            "gpt-5",
            "m-20251311",
            "m-202512111",
            "20251211",
            "m-2025-12-11",
        ] {
            assert_eq!(with_dashed_dates(unchanged), None, "{unchanged}");
        }
    }
}
