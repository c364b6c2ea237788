//! Integer money. One unit is 10⁻¹² US dollars, fine enough for every token price per token.

use std::fmt::{self, Write as _};
use std::ops::Deref;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Serialize};

use crate::digits::padded;

/// Pico-US-dollars. Arithmetic is checked or saturating by name; there are no operators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct PicoUsd(i128);

/// Pico-US-dollars in one US dollar.
pub const PICO_PER_USD: i128 = PICO_PER_USD_SMALL as i128;

const PICO_PER_USD_SMALL: u64 = 1_000_000_000_000;

impl PicoUsd {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// An amount from its count of pico-US-dollars.
    #[must_use]
    pub const fn new(pico: i128) -> Self {
        Self(pico)
    }

    /// The count of pico-US-dollars.
    #[must_use]
    pub const fn as_pico(self) -> i128 {
        self.0
    }

    /// The sum, or `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The sum, at most the largest amount.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least the smallest amount.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl PicoUsd {
    /// Decimal US dollars without trailing zeros, on the stack: `0.0035748`, `25`, `-1.5`.
    #[must_use]
    pub fn text(self) -> impl Deref<Target = str> {
        let magnitude = self.0.unsigned_abs();
        let (whole, part) = match u64::try_from(magnitude) {
            // Anything below eighteen million dollars: a division in one instruction.
            Ok(small) => (
                u128::from(small / PICO_PER_USD_SMALL),
                small % PICO_PER_USD_SMALL,
            ),
            Err(_large) => {
                let per_usd = u128::from(PICO_PER_USD_SMALL);
                let part = magnitude.checked_rem(per_usd).unwrap_or(0);
                let whole = magnitude.checked_div(per_usd).unwrap_or(0);
                (whole, u64::try_from(part).unwrap_or(0))
            }
        };
        // Sign, 27 digits, point and 12 digits always fit.
        let mut text = ArrayString::<64>::new();
        if self.0 < 0 {
            text.push('-');
        }
        if whole == 0 {
            text.push('0');
        } else {
            let _written = write!(text, "{whole}");
        }
        if part > 0 {
            let digits = padded::<12>(part);
            let zeros = digits.iter().rev().take_while(|digit| **digit == b'0');
            let significant = digits.len().saturating_sub(zeros.count());
            let digits = digits.get(..significant).unwrap_or_default();
            text.push('.');
            text.push_str(str::from_utf8(digits).unwrap_or_default());
        }
        text
    }
}

impl fmt::Display for PicoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an amount of money is decimal US dollars with at most 12 places, such as \"25\" or \"0.50\""
)]
pub struct InvalidMoney;

impl FromStr for PicoUsd {
    type Err = InvalidMoney;

    fn from_str(text: &str) -> Result<Self, InvalidMoney> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
        let decimal = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !decimal(whole) || !decimal(part) || part.len() > 12 || whole.len() > 20 {
            return Err(InvalidMoney);
        }
        let pico: i128 = format!("{whole}{part:0<12}")
            .parse()
            .map_err(|_overflow: std::num::ParseIntError| InvalidMoney)?;
        Ok(Self(if negative {
            pico.saturating_neg()
        } else {
            pico
        }))
    }
}

impl Serialize for PicoUsd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for PicoUsd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_back_what_they_print() {
        for (pico, text) in [
            (0, "0"),
            (1, "0.000000000001"),
            (3_574_800_000, "0.0035748"),
            (-1_500_000_000_000, "-1.5"),
            (25 * PICO_PER_USD, "25"),
            (u64::MAX as i128 + 1, "18446744.073709551616"),
            (i128::MAX, "170141183460469231731687303.715884105727"),
            (i128::MIN + 1, "-170141183460469231731687303.715884105727"),
        ] {
            assert_eq!(PicoUsd::new(pico).to_string(), text);
            if pico.unsigned_abs() < 1 << 100 {
                assert_eq!(text.parse(), Ok(PicoUsd::new(pico)));
            }
        }
        assert_eq!("0.50".parse(), Ok(PicoUsd::new(500_000_000_000)));
    }

    #[test]
    fn anything_but_a_plain_decimal_is_no_amount() {
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "1e3",
            "+1",
            "--1",
            "1,0",
            "0.0000000000001",
            "NaN",
            "１",
        ] {
            assert_eq!(bad.parse::<PicoUsd>(), Err(InvalidMoney), "{bad:?}");
        }
    }
}
