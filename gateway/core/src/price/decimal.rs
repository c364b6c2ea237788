//! Prices as integers, read from decimal text and never through a float.

use std::fmt::Write as _;

use super::PriceError;
use crate::money::PicoUsd;

/// What one of a unit costs, in pico-US-dollars divided by [`Price::SCALE`].
///
/// The scale makes prices per million, per thousand and per hour of milliseconds whole numbers, so
/// that lines of all kinds add up before anything is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Price(pub(super) i128);

impl Price {
    /// Divisible by a million (tokens, characters), by a thousand (calls, pages) and by the 3.6
    /// million milliseconds of an hour.
    pub(super) const SCALE: i128 = 36_000_000;
}

/// A factor on prices, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Factor(pub(super) i128);

impl Factor {
    /// No change.
    pub(super) const ONE: Self = Self(1_000_000);

    /// Reads a plain factor such as `1.1`.
    pub(super) fn read(json: &str) -> Result<Self, PriceError> {
        decimal(json, 6).map(Self)
    }
}

/// The most digits before the point: a trillion US dollars is no price.
const MAX_WHOLE_DIGITS: usize = 12;
/// The largest exponent read, either way. `1e-9` US dollars per million is nothing.
const MAX_EXPONENT: usize = 15;

/// Digits behind the point that are read; those after them round nothing.
const MAX_PART_DIGITS: usize = 24;

/// A non-negative decimal scaled by 10 to the `places`, rounded to the nearest. JSON numbers and
/// strings are taken alike, as text.
///
/// Twelve places hold every hand-kept price exactly. Some imported ones carry the noise of a float
/// (`0.13999999999999999`); rounding takes it away.
pub(super) fn decimal(json: &str, places: usize) -> Result<i128, PriceError> {
    let bad = || PriceError::BadPrice(json.chars().take(40).collect());
    let text = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(json);
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let (smaller, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, exponent.strip_prefix('+').unwrap_or(exponent)),
    };
    if !digits(whole) || !digits(part) || !digits(exponent) || whole.len() > MAX_WHOLE_DIGITS {
        return Err(bad());
    }
    let shift: usize = exponent
        .parse()
        .ok()
        .filter(|shift| *shift <= MAX_EXPONENT)
        .ok_or_else(bad)?;
    let part = part.get(..MAX_PART_DIGITS).unwrap_or(part);
    let digits = whole.bytes().chain(part.bytes());
    let mantissa = digits.fold(0_i128, |value, digit| {
        // At most 36 digits, so it stays below 10^36.
        value
            .saturating_mul(10)
            .saturating_add(i128::from(digit.saturating_sub(b'0')))
    });
    let (up, down) = if smaller {
        (places, part.len().saturating_add(shift))
    } else {
        (places.saturating_add(shift), part.len())
    };
    if let Some(more) = up.checked_sub(down) {
        let scale = power(more).ok_or_else(bad)?;
        return mantissa.checked_mul(scale).ok_or_else(bad);
    }
    let divisor = power(down.saturating_sub(up)).ok_or_else(bad)?;
    let half = divisor.checked_div(2).unwrap_or(0);
    let rounded = mantissa.saturating_add(half).checked_div(divisor);
    rounded.ok_or_else(bad)
}

/// Ten to this power.
fn power(exponent: usize) -> Option<i128> {
    let exponent = u32::try_from(exponent).ok()?;
    10_i128.checked_pow(exponent)
}

/// A price as it would be written: an exact decimal of US dollars.
pub(super) fn text(pico: i128) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _: std::fmt::Result = write!(text, "{}", PicoUsd::new(pico));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_and_noise_is_rounded_away() {
        for (text, expected) in [
            ("\"2\"", 2_000_000_000_000),
            ("0.02", 20_000_000_000),
            ("\"0.0011\"", 1_100_000_000),
            ("\"0.13999999999999999\"", 140_000_000_000),
            ("0.18000000000000002", 180_000_000_000),
            ("\"0\"", 0),
            ("5e-05", 50_000_000),
            ("1.25E-3", 1_250_000_000),
            ("1.5e1", 15_000_000_000_000),
            ("1.5e+2", 150_000_000_000_000),
            ("4.1400000000000003e-05", 41_400_000),
        ] {
            assert_eq!(decimal(text, 12), Ok(expected), "{text}");
        }
        assert_eq!(Factor::read("\"1.1\""), Ok(Factor(1_100_000)));
        assert_eq!(text(1_250_000_000), "0.00125");
    }

    #[test]
    fn anything_else_is_no_price() {
        for bad in [
            "",
            "\"\"",
            "-1",
            "1e",
            "1e-",
            "1e99",
            "1e-99",
            "e5",
            "1.",
            ".5",
            "\"1",
            "null",
            "9999999999999",
        ] {
            assert!(decimal(bad, 12).is_err(), "{bad}");
        }
    }
}
