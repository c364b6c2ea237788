//! What is added up for a row, and shares of it.
//!
//! Integers only. Worst case: a count beyond its type stays at the largest value.

use crate::money::PicoUsd;
use crate::record::UsageSource;
use crate::time::Timestamp;

use super::Entry;

/// The sums of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Calls that were made.
    pub calls: u64,
    /// Calls that were not: refused, or failed in the gateway.
    pub refusals: u64,
    /// Tokens in, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_input_tokens: u64,
    /// Tokens out, reasoning included.
    pub output_tokens: u64,
    /// What the calls cost.
    pub cost: PicoUsd,
    /// How many of the calls are counted by estimate, since the provider's figures did not come.
    pub estimated: u64,
    /// Of the cost, that of these.
    pub estimated_cost: PicoUsd,
    /// What the refused calls could have cost at worst, as far as that was known.
    pub asked: PicoUsd,
    /// When the first refusal came.
    pub first: Option<Timestamp>,
    /// When the last refusal came.
    pub last: Option<Timestamp>,
}

impl Sums {
    /// Those of one entry.
    #[must_use]
    pub fn of(entry: &Entry<'_>) -> Self {
        if entry.is_refusal() {
            let at = entry.at();
            return Self {
                refusals: 1,
                cost: entry.cost,
                asked: entry.reserved,
                first: at,
                last: at,
                ..Self::default()
            };
        }
        let estimated = matches!(
            entry.usage_source,
            UsageSource::Estimated | UsageSource::Interrupted
        );
        Self {
            calls: 1,
            input_tokens: entry.usage.input_tokens,
            cached_input_tokens: entry.usage.cached_input_tokens,
            output_tokens: entry.usage.output_tokens,
            cost: entry.cost,
            estimated: u64::from(estimated),
            estimated_cost: if estimated { entry.cost } else { PicoUsd::ZERO },
            ..Self::default()
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.refusals = self.refusals.saturating_add(other.refusals);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self
            .cached_input_tokens
            .saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost = self.cost.saturating_add(other.cost);
        self.estimated = self.estimated.saturating_add(other.estimated);
        self.estimated_cost = self.estimated_cost.saturating_add(other.estimated_cost);
        self.asked = self.asked.saturating_add(other.asked);
        self.first = self.first.into_iter().chain(other.first).min();
        self.last = self.last.max(other.last);
    }
}

/// `part` of `whole` in percent with one decimal, rounded half up: `48.2`. Nothing if there is no
/// whole to have a part of.
#[must_use]
pub fn share(part: i128, whole: i128) -> Option<String> {
    if whole <= 0 {
        return None;
    }
    let scaled = part.unsigned_abs().checked_mul(2_000)?;
    let rounded = scaled.checked_add(whole.unsigned_abs())?;
    let tenths = rounded.checked_div(whole.unsigned_abs().checked_mul(2)?)?;
    let sign = if part < 0 && tenths > 0 { "-" } else { "" };
    let (percent, tenth) = (tenths.checked_div(10)?, tenths.checked_rem(10)?);
    Some(format!("{sign}{percent}.{tenth}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_half_up_to_a_tenth_of_a_percent() {
        for (part, whole, text) in [
            (1, 3, Some("33.3")),
            (2, 3, Some("66.7")),
            (1, 2_000, Some("0.1")),
            (1, 2_001, Some("0.0")),
            (-1, 2, Some("-50.0")),
            (-1, 1_000_000, Some("0.0")),
            (5, 5, Some("100.0")),
            (1, 0, None),
            (1, -1, None),
        ] {
            assert_eq!(share(part, whole).as_deref(), text, "{part}/{whole}");
        }
    }
}
