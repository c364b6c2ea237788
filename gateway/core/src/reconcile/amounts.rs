//! Numbers as exports write them: money as decimal text or JSON numbers, counts as `59200.0`.
//!
//! Nothing becomes a float on its way. Digits beyond 10⁻¹² US dollars are rounded off: exports carry
//! the noise of somebody else's floats (`0.8958740000000001`).

use crate::money::PicoUsd;

/// The longest number read.
const LONGEST: usize = 40;

/// Money, given in units of which 10 to the `shift` are a US dollar: 0 for dollars, 2 for cents.
pub(super) fn money(text: &str, shift: u32) -> Option<PicoUsd> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent: i32 = exponent
        .strip_prefix('+')
        .unwrap_or(exponent)
        .parse()
        .ok()?;
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let decimal = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !decimal(whole) || !decimal(part) || text.len() > LONGEST {
        return None;
    }
    let value: i128 = format!("{whole}{part}").parse().ok()?;
    // 10^-12 dollars in one of the last digit.
    let places = i32::try_from(part.len()).ok()?;
    let shift = i32::try_from(shift).ok()?;
    let power = 12_i32
        .checked_sub(shift)?
        .checked_add(exponent)?
        .checked_sub(places)?;
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    let pico = if power >= 0 {
        value.checked_mul(factor)?
    } else {
        // To the nearest.
        value
            .checked_add(factor.checked_div(2)?)?
            .checked_div(factor)?
    };
    Some(PicoUsd::new(if negative {
        pico.checked_neg()?
    } else {
        pico
    }))
}

/// A whole number, also where it is written with a point and zeros.
pub(super) fn count(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let whole_only = !part.is_empty() && part.bytes().all(|b| b == b'0');
    let digits = !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit());
    if whole_only && digits && whole.len() <= 18 {
        whole.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_to_the_last_digit_and_noise_is_rounded_off() {
        let read = |text, shift| money(text, shift).map(|usd| usd.to_string());
        for (text, shift, usd) in [
            ("0.06", 0, "0.06"),
            ("0.8958740000000001", 0, "0.895874"),
            ("6e-2", 0, "0.06"),
            ("1.5E-7", 0, "0.00000015"),
            ("12", 0, "12"),
            ("-0.5", 0, "-0.5"),
            ("123.78912", 2, "1.2378912"),
            ("1e3", 2, "10"),
        ] {
            assert_eq!(read(text, shift).as_deref(), Some(usd), "{text}");
        }
        for bad in ["", "-", ".5", "1,000.00", "$1", "1e99", "NaN", "0x1"] {
            assert_eq!(money(bad, 0), None, "{bad}");
        }
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(count("59200.0"), Some(59_200));
        assert_eq!(count("0"), Some(0));
        for bad in ["", "1.5", "-1", "1e3", "1."] {
            assert_eq!(count(bad), None, "{bad}");
        }
    }
}
