//! Points in time and the UTC windows caps are counted in. Nothing here reads a clock.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A time from whole seconds since the epoch.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// A time from microseconds since the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This time moved back.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.as_micros().saturating_sub(micros))
    }

    /// This time moved forward.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// The UTC calendar date.
    #[must_use]
    pub fn date(self) -> jiff::civil::Date {
        self.civil().date()
    }

    /// The UTC date and time of day.
    #[must_use]
    pub fn civil(self) -> jiff::civil::DateTime {
        jiff::tz::Offset::UTC.to_datetime(self.to_jiff())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.to_jiff())
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Written in one piece: a serializer escapes each piece of a `Display` by itself.
        let mut text = ArrayString::<40>::new();
        write!(text, "{self}").map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The stretch of time a cap counts over. It is part of the counter's key, so nothing ever has to
/// be reset: a new day is a new counter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Window {
    /// One UTC day.
    Day(jiff::civil::Date),
    /// One UTC month, kept as its first day.
    Month(jiff::civil::Date),
    /// No end: a task's lifetime.
    Total,
}

impl Window {
    /// The UTC day that `now` lies in.
    #[must_use]
    pub fn day(now: Timestamp) -> Self {
        Self::Day(now.date())
    }

    /// The UTC month that `now` lies in.
    #[must_use]
    pub fn month(now: Timestamp) -> Self {
        Self::Month(now.date().first_of_month())
    }

    /// When this window ends and its successor starts from zero; `None` if it never does.
    #[must_use]
    pub fn resets_at(self) -> Option<Timestamp> {
        let next = match self {
            Self::Day(day) => day.tomorrow(),
            Self::Month(first) => first.last_of_month().tomorrow(),
            Self::Total => return None,
        };
        let midnight = next.ok()?.at(0, 0, 0, 0);
        let start = jiff::tz::Offset::UTC.to_timestamp(midnight).ok()?;
        Some(Timestamp::from_micros(start.as_microsecond()))
    }
}

/// `day:2026-11-23`, `month:2026-11` or `total`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => write!(f, "day:{day}"),
            Self::Month(first) => write!(f, "month:{:04}-{:02}", first.year(), first.month()),
            Self::Total => f.write_str("total"),
        }
    }
}

/// Why a text is not a [`Window`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a window is \"day:YYYY-MM-DD\", \"month:YYYY-MM\" or \"total\"")]
pub struct InvalidWindow;

impl FromStr for Window {
    type Err = InvalidWindow;

    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        let date = |text: &str| text.parse().map_err(|_bad_date: jiff::Error| InvalidWindow);
        match text.split_once(':') {
            Some(("day", day)) => Ok(Self::Day(date(day)?)),
            Some(("month", month)) => Ok(Self::Month(date(&format!("{month}-01"))?)),
            None if text == "total" => Ok(Self::Total),
            _ => Err(InvalidWindow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a test time")
    }

    #[test]
    fn windows_are_utc_and_end_where_the_next_one_starts() {
        let now = at("2028-02-29T23:59:59.999999Z");
        assert_eq!(Window::day(now).to_string(), "day:2028-02-29");
        assert_eq!(
            Window::day(now).resets_at(),
            Some(at("2028-03-01T00:00:00Z"))
        );
        assert_eq!(Window::month(now).to_string(), "month:2028-02");
        assert_eq!(
            Window::month(now).resets_at(),
            Some(at("2028-03-01T00:00:00Z"))
        );
        assert_eq!(Window::Total.resets_at(), None);
    }

    #[test]
    fn windows_and_times_read_back_what_they_print() {
        let now = at("2026-11-23T07:08:09.000123Z");
        assert_eq!(now.to_string(), "2026-11-23T07:08:09.000123Z");
        for window in [Window::day(now), Window::month(now), Window::Total] {
            assert_eq!(window.to_string().parse(), Ok(window));
        }
        assert_eq!("week:1".parse::<Window>(), Err(InvalidWindow));
    }
}
