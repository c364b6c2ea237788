//! Points in time and the UTC windows caps are counted in. Nothing here reads a clock.

use std::fmt::{self, Write as _};
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

use crate::digits::padded;

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

    /// `2026-11-23T07:08:09.000123Z`, on the stack.
    #[must_use]
    pub fn text(self) -> impl Deref<Target = str> {
        let mut text = ArrayString::<40>::new();
        let civil = self.civil();
        let [h1, h2] = padded(part(civil.hour()));
        let [m1, m2] = padded(part(civil.minute()));
        let [s1, s2] = padded(part(civil.second()));
        let micros = civil.subsec_nanosecond().unsigned_abs() / 1_000;
        let [u1, u2, u3, u4, u5, u6] = padded(micros.into());
        let plain = date_digits(civil.date()).and_then(|date| {
            let [y1, y2, y3, y4, _, o1, o2, _, d1, d2] = date;
            let all = [
                y1, y2, y3, y4, b'-', o1, o2, b'-', d1, d2, b'T', h1, h2, b':', m1, m2, b':', s1,
                s2, b'.', u1, u2, u3, u4, u5, u6, b'Z',
            ];
            text.try_push_str(str::from_utf8(&all).ok()?).ok()
        });
        if plain.is_none() {
            // The longest time there is fits.
            let _written = write!(text, "{:.6}", self.to_jiff());
        }
        text
    }
}

/// `2026-11-23`; nothing for a year below zero, which is written in another way.
fn date_digits(date: jiff::civil::Date) -> Option<[u8; 10]> {
    let [y1, y2, y3, y4] = padded(u64::try_from(date.year()).ok()?);
    let [m1, m2] = padded(part(date.month()));
    let [d1, d2] = padded(part(date.day()));
    Some([y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2])
}

/// A part of a date or time, which is never below zero.
fn part(of_time: i8) -> u64 {
    u64::try_from(of_time).unwrap_or(0)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
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
        serializer.serialize_str(&self.text())
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
            Self::Day(day) => match date_digits(*day) {
                Some(digits) => {
                    f.write_str("day:")?;
                    f.write_str(str::from_utf8(&digits).unwrap_or_default())
                }
                None => write!(f, "day:{day}"),
            },
            Self::Month(first) => match date_digits(*first) {
                Some([month @ .., _, _, _]) => {
                    f.write_str("month:")?;
                    f.write_str(str::from_utf8(&month).unwrap_or_default())
                }
                None => write!(f, "month:{:04}-{:02}", first.year(), first.month()),
            },
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

    proptest::proptest! {
        #[test]
        fn times_and_windows_are_printed_as_jiff_prints_them(
            micros in proptest::prop_oneof![
                proptest::prelude::any::<i64>(),
                -377_705_116_800_000_000_i64..253_402_207_200_000_000,
                0_i64..4_000_000_000_000_000,
            ],
        ) {
            let at = Timestamp::from_micros(micros);
            // A time that no calendar has is printed as the epoch's, in all its parts.
            let known = jiff::Timestamp::from_microsecond(micros);
            let jiff = known.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            let printed = format!("{jiff:.6}");
            proptest::prop_assert_eq!(at.to_string(), printed);
            let date = at.date();
            let windows = [Window::day(at), Window::month(at)].map(|window| window.to_string());
            let month = format!("month:{:04}-{:02}", date.year(), date.month());
            proptest::prop_assert_eq!(windows, [format!("day:{date}"), month]);
        }
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

    /// The last moment of a window and the first of the next are in different windows, and the old
    /// one ends exactly there, at every kind of border a calendar has.
    #[test]
    fn case_81_one_window_ends_where_the_next_begins_at_every_border() {
        for (last, first, new_month) in [
            ("2026-11-23", "2026-11-24", false),
            ("2026-11-30", "2026-12-01", true),
            ("2026-12-31", "2027-01-01", true),
            ("2027-02-28", "2027-03-01", true),
            ("2028-02-28", "2028-02-29", false),
            ("2028-02-29", "2028-03-01", true),
            ("2100-02-28", "2100-03-01", true),
        ] {
            let before = at(&format!("{last}T23:59:59.999999Z"));
            let after = at(&format!("{first}T00:00:00Z"));
            assert_eq!(after.since(before).as_micros(), 1, "{last}");
            assert_ne!(Window::day(before), Window::day(after), "{last}");
            assert_eq!(Window::day(before).resets_at(), Some(after), "{last}");
            let months = [before, after].map(Window::month);
            assert_eq!(months[0] != months[1], new_month, "{last}");
            let resets = months[0].resets_at();
            assert_eq!(resets == Some(after), new_month, "{last}: {resets:?}");
            // A clock that steps back is in the old windows again: they have no other state.
            assert_eq!(Window::day(before).to_string(), format!("day:{last}"));
        }
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
