//! Decimal US dollars as whole pico-US-dollars.

use anyhow::Context as _;

const PLACES: usize = 12;

/// Reads `-12.345`.
pub(super) fn pico(text: &str) -> anyhow::Result<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let read = || format!("{text:?} is no amount of money");
    anyhow::ensure!(!whole.is_empty() && part.len() <= PLACES, read());
    let padded = format!("{whole}{part:0<PLACES$}");
    let amount: i128 = padded.parse().with_context(read)?;
    Ok(sign * amount)
}

/// Writes it back.
pub(super) fn usd(pico: i128) -> String {
    let (whole, part) = (pico.abs() / 10_i128.pow(12), pico.abs() % 10_i128.pow(12));
    let sign = if pico < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{part:012}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_back_what_they_print() {
        for (text, amount) in [
            ("0", 0),
            ("0.000000000001", 1),
            ("-1.5", -1_500_000_000_000),
            ("25", 25_000_000_000_000),
        ] {
            assert_eq!(pico(text).unwrap(), amount);
            assert_eq!(usd(amount), text);
        }
        assert!(pico("1e3").is_err() && pico("0.0000000000001").is_err() && pico("").is_err());
    }
}
