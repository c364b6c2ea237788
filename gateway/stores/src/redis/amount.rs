//! Money as it goes to Redis and comes back: whole US-dollars and the pico-dollars beside them.
//!
//! Redis counts in Lua, whose numbers are doubles: integers are exact up to 2⁵³. A sum of
//! pico-dollars would pass that at 9,007 USD. In two parts nothing is lost up to 2⁵³ dollars, and
//! no single amount sent is more than [`MOST_USD`], so that no sum of a million of them gets near.

use tollgate_core::money::PicoUsd;

/// Pico-dollars in a dollar.
const WHOLE: i128 = 1_000_000_000_000;
/// The largest amount that is sent, in dollars; what is larger counts as this much. 2⁵³ is nine
/// million times as large.
const MOST_USD: i128 = 1_000_000_000;

/// `DOLLARS:PICO`, the second part never below zero: minus one pico-dollar is `-1:999999999999`.
pub(super) fn written(amount: PicoUsd) -> String {
    let most = MOST_USD.saturating_mul(WHOLE);
    let pico = amount.as_pico().clamp(most.saturating_neg(), most);
    format!("{}:{}", pico.div_euclid(WHOLE), pico.rem_euclid(WHOLE))
}

/// What [`written`] and the scripts write; `None` if it is anything else.
pub(super) fn read(text: &str) -> Option<PicoUsd> {
    let (dollars, pico) = text.split_once(':')?;
    let dollars: i128 = dollars.parse().ok()?;
    let pico: i128 = pico.parse().ok()?;
    let whole = dollars.checked_mul(WHOLE)?;
    (0..WHOLE)
        .contains(&pico)
        .then(|| whole.checked_add(pico).map(PicoUsd::new))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_come_back_as_they_went() {
        for pico in [
            0,
            1,
            -1,
            WHOLE - 1,
            WHOLE,
            -WHOLE,
            (1 << 53) - 1,
            (1 << 53) + 1,
            -(1 << 53) - 1,
            MOST_USD * WHOLE,
        ] {
            let amount = PicoUsd::new(pico);
            assert_eq!(read(&written(amount)), Some(amount), "{pico}");
        }
        assert_eq!(written(PicoUsd::new(-1)), "-1:999999999999");
    }

    #[test]
    fn what_is_too_large_counts_as_the_largest() {
        let most = PicoUsd::new(MOST_USD * WHOLE);
        assert_eq!(read(&written(PicoUsd::new(i128::MAX))), Some(most));
        assert_eq!(
            read(&written(PicoUsd::new(i128::MIN))),
            Some(PicoUsd::new(-MOST_USD * WHOLE))
        );
    }

    #[test]
    fn nothing_else_is_an_amount() {
        for text in [
            "",
            "1",
            "1:",
            ":1",
            "1:-1",
            "1:1000000000000",
            "1e3:0",
            "1:0:0",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
