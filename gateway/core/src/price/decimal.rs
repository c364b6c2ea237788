//! Prices as integers, read from decimal text and never through a float.

use super::PriceError;

/// Pico-US-dollars per million units (tokens or calls).
///
/// Twelve decimal places hold every hand-kept price exactly. Some imported ones carry the noise of
/// a float (`0.13999999999999999`); they are rounded to the nearest, which takes the noise away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Price(pub(super) i128);

/// A factor on prices, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Factor(pub(super) i128);

impl Factor {
    /// No change.
    pub(super) const ONE: Self = Self(1_000_000);
}

/// The most digits before the point: a trillion US dollars is no price.
const MAX_WHOLE_DIGITS: usize = 12;

impl Price {
    /// Reads US dollars per million units. JSON numbers and strings are taken alike, as text.
    pub(super) fn per_million(json: &str) -> Result<Self, PriceError> {
        decimal(json, 12).map(Self)
    }

    /// Reads US dollars per thousand units.
    pub(super) fn per_thousand(json: &str) -> Result<Self, PriceError> {
        let Self(price) = Self::per_million(json)?;
        Ok(Self(price.saturating_mul(1_000)))
    }
}

impl Factor {
    /// Reads a plain factor such as `1.1`.
    pub(super) fn read(json: &str) -> Result<Self, PriceError> {
        decimal(json, 6).map(Self)
    }
}

/// A non-negative decimal scaled by 10 to the `places`, rounded to the nearest.
fn decimal(json: &str, places: usize) -> Result<i128, PriceError> {
    let bad = || PriceError::BadPrice(json.chars().take(40).collect());
    let text = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(json);
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() > MAX_WHOLE_DIGITS {
        return Err(bad());
    }
    let kept: String = part.chars().take(places).collect();
    let scaled: i128 = format!("{whole}{kept:0<places$}")
        .parse()
        .map_err(|_overflow: std::num::ParseIntError| bad())?;
    let up = part
        .as_bytes()
        .get(places)
        .is_some_and(|&next| next >= b'5');
    Ok(scaled.saturating_add(i128::from(up)))
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
        ] {
            assert_eq!(Price::per_million(text), Ok(Price(expected)), "{text}");
        }
        assert_eq!(
            Price::per_thousand("\"10\""),
            Ok(Price(10_000_000_000_000_000))
        );
        assert_eq!(Factor::read("\"1.1\""), Ok(Factor(1_100_000)));
    }

    #[test]
    fn anything_else_is_no_price() {
        for bad in [
            "",
            "\"\"",
            "-1",
            "1e-5",
            "1.",
            ".5",
            "\"1",
            "null",
            "9999999999999",
        ] {
            assert!(Price::per_million(bad).is_err(), "{bad}");
        }
    }
}
