//! When a price holds: dates, times of day, weekdays, and the terms of a call.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime, Time, Weekday};
use serde::Deserialize;

use super::PriceError;
use crate::call::Terms;

/// When a price holds. Every part that is given must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Validity {
    /// From this UTC date on.
    pub(super) from: Option<Date>,
    /// Each day from one time to the other (UTC), which may lie past midnight.
    daily: Option<(Time, Time)>,
    /// On these UTC weekdays, one bit each from Monday; none means all.
    weekdays: u8,
}

impl Validity {
    /// From a date on.
    pub(super) fn from(date: Date) -> Self {
        Self {
            from: Some(date),
            ..Self::default()
        }
    }

    /// Whether it always holds.
    pub(super) fn is_always(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it holds at an instant.
    pub(super) fn covers(&self, now: DateTime) -> bool {
        let dated = self.from.is_none_or(|date| now.date() >= date);
        let timed = self.daily.is_none_or(|(start, end)| {
            let (after, before) = (now.time() >= start, now.time() < end);
            if end < start {
                after || before
            } else {
                after && before
            }
        });
        dated && timed && (self.weekdays == 0 || self.weekdays & bit(now.weekday()) != 0)
    }
}

/// A constraint as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConstraint<'a> {
    #[serde(borrow, default)]
    start_date: Option<&'a str>,
    #[serde(borrow, default)]
    start_time: Option<&'a str>,
    #[serde(borrow, default)]
    end_time: Option<&'a str>,
    #[serde(borrow, default)]
    weekdays: Vec<&'a str>,
}

impl RawConstraint<'_> {
    pub(super) fn read(self) -> Result<Validity, PriceError> {
        let daily = match (self.start_time, self.end_time) {
            (None, None) => None,
            (Some(start), Some(end)) => Some((time(start)?, time(end)?)),
            _ => {
                return Err(PriceError::BadConstraint(
                    "a start time without an end time, or the other way round".to_owned(),
                ));
            }
        };
        let mut weekdays = 0;
        for name in self.weekdays {
            weekdays |= bit(weekday(name)?);
        }
        let validity = Validity {
            from: self.start_date.map(read_date).transpose()?,
            daily,
            weekdays,
        };
        if validity.is_always() {
            return Err(PriceError::BadConstraint("an empty constraint".to_owned()));
        }
        Ok(validity)
    }
}

/// Reads a calendar date.
pub(super) fn read_date(text: &str) -> Result<Date, PriceError> {
    text.parse()
        .map_err(|_bad: jiff::Error| PriceError::BadConstraint(text.to_owned()))
}

fn time(text: &str) -> Result<Time, PriceError> {
    text.strip_suffix("+00:00")
        .or(text.strip_suffix('Z'))
        .unwrap_or(text)
        .parse::<Time>()
        .map_err(|_bad: jiff::Error| PriceError::BadConstraint(text.to_owned()))
}

fn weekday(name: &str) -> Result<Weekday, PriceError> {
    Ok(match name {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return Err(PriceError::BadConstraint(name.to_owned())),
    })
}

const fn bit(day: Weekday) -> u8 {
    match day {
        Weekday::Monday => 1,
        Weekday::Tuesday => 1 << 1,
        Weekday::Wednesday => 1 << 2,
        Weekday::Thursday => 1 << 3,
        Weekday::Friday => 1 << 4,
        Weekday::Saturday => 1 << 5,
        Weekday::Sunday => 1 << 6,
    }
}

/// A term of service that a price depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Term {
    ServiceTier,
    Speed,
    InferenceGeo,
    Processing,
    /// One that neither requests nor answers are read for, such as a reseller's route: it never
    /// holds when an answer is priced, and may always hold before a call is made.
    Unstated,
}

/// Terms that must all hold, such as `service_tier` = `flex`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    terms: Vec<(Term, String)>,
    /// As written.
    pub(super) text: BTreeMap<String, String>,
}

impl When {
    pub(super) fn new(text: BTreeMap<String, String>) -> Self {
        let terms = text.iter().map(|(name, value)| {
            let term = match name.as_str() {
                "service_tier" => Term::ServiceTier,
                "speed" => Term::Speed,
                "inference_geo" => Term::InferenceGeo,
                "processing" => Term::Processing,
                _ => Term::Unstated,
            };
            (term, value.clone())
        });
        Self {
            terms: terms.collect(),
            text,
        }
    }

    /// Whether every term is as it says.
    pub(super) fn holds(&self, terms: &Terms) -> bool {
        self.terms.iter().all(|(term, value)| term.is(terms, value))
    }

    /// Whether every term is as it says, or one that nobody states.
    pub(super) fn may_hold(&self, terms: &Terms) -> bool {
        self.terms
            .iter()
            .all(|(term, value)| *term == Term::Unstated || term.is(terms, value))
    }

    /// The service tier it is for.
    pub(super) fn service_tier(&self) -> Option<&str> {
        let mut terms = self.terms.iter();
        terms
            .find(|(term, _)| *term == Term::ServiceTier)
            .map(|(_, value)| value.as_str())
    }
}

impl Term {
    fn is(self, terms: &Terms, value: &str) -> bool {
        let same = |stated: &Option<String>| {
            stated
                .as_ref()
                .is_some_and(|stated| stated.eq_ignore_ascii_case(value))
        };
        match self {
            Self::ServiceTier => same(&terms.service_tier),
            Self::Speed => same(&terms.speed),
            Self::InferenceGeo => same(&terms.inference_geo),
            // Anthropic names batches as a service tier.
            Self::Processing => {
                same(&terms.processing) || (value == "batch" && same(&terms.service_tier))
            }
            Self::Unstated => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(json: &str) -> Validity {
        let raw: RawConstraint<'_> = serde_json::from_str(json).expect("a constraint");
        raw.read().expect("a sound one")
    }

    fn covers(json: &str, now: &str) -> bool {
        validity(json).covers(now.parse().expect("a time"))
    }

    #[test]
    fn dates_times_and_weekdays_must_all_fit() {
        let peak = r#"{"start_date":"2026-08-23","start_time":"01:00:00Z","end_time":"04:00:00Z",
            "weekdays":["mon","tue","wed","thu","fri"]}"#;
        assert!(covers(peak, "2026-11-20T01:00:00"), "a Friday");
        assert!(!covers(peak, "2026-11-20T04:00:00"), "the end is outside");
        assert!(!covers(peak, "2026-11-21T01:00:00"), "a Saturday");
        assert!(!covers(peak, "2026-08-21T01:00:00"), "before the date");
        let night = r#"{"start_time":"22:00:00","end_time":"02:00:00+00:00"}"#;
        assert!(covers(night, "2026-11-20T23:00:00"));
        assert!(covers(night, "2026-11-20T01:59:59"));
        assert!(!covers(night, "2026-11-20T12:00:00"));
    }

    #[test]
    fn half_a_constraint_is_refused() {
        for bad in [
            r#"{"start_time":"01:00:00"}"#,
            r#"{"weekdays":["monday"]}"#,
            r#"{"start_date":"2026-13-01"}"#,
            "{}",
        ] {
            let raw: RawConstraint<'_> = serde_json::from_str(bad).expect("of the right shape");
            assert!(raw.read().is_err(), "{bad}");
        }
    }
}
