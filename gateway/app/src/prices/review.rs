//! Whether a new catalogue may come into force: no price in use vanishes or moves too far.
//!
//! In use is what has been called in the last 31 days, as the records tell. Each unit is compared
//! by what a small, fixed amount of it costs in both books, in whole numbers.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tollgate_archive::records::{self, Scope};
use tollgate_archive::shelf::LocalShelf;
use tollgate_core::call::Terms;
use tollgate_core::money::PicoUsd;
use tollgate_core::price::{PriceBook, Rates};
use tollgate_core::time::Timestamp;
use tollgate_core::usage::Usage;

use crate::config::Settings;

/// How far back a call makes a price one that is in use.
const IN_USE: Duration = Duration::from_secs(31 * 86_400);
/// How many times as much, or as little, is taken for a mistake.
const TOO_FAR: i128 = 5;
/// How much of each unit is compared: below every context tier, above every rounding.
const AMOUNT: u64 = 10_000;

/// A price in use that would vanish or move too far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Objection {
    provider: String,
    model: String,
    /// What of.
    unit: &'static str,
    /// What 10,000 of it cost, in US dollars.
    before: PicoUsd,
    /// The same afterwards; `None` if the model has no price any more.
    after: Option<PicoUsd>,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            provider,
            model,
            unit,
            before,
            after,
        } = self;
        match after {
            None => write!(f, "{provider} {model}: has no price any more"),
            Some(after) => write!(
                f,
                "{provider} {model}: {AMOUNT} {unit} cost {before} USD and would cost {after} USD"
            ),
        }
    }
}

/// Everything that speaks against `after` in place of `before`.
///
/// # Errors
/// If the records cannot be read.
pub(crate) fn objections(
    settings: &Settings,
    before: &PriceBook,
    after: &PriceBook,
    now: Timestamp,
) -> anyhow::Result<Vec<Objection>> {
    let mut objections = Vec::new();
    for (provider, model) in in_use(settings, now)? {
        let Some(old) = before.rates(&provider, &model, now) else {
            continue;
        };
        let new = after.rates(&provider, &model, now);
        objections.extend(compare(&provider, &model, &old, new.as_ref()));
    }
    Ok(objections)
}

/// Providers and models that have been called and priced lately.
fn in_use(settings: &Settings, now: Timestamp) -> anyhow::Result<BTreeSet<(String, String)>> {
    let shelf = LocalShelf::new(&settings.data_dir);
    let scope = Scope {
        partitions: records::tenants(&shelf)?,
        from: Some(now.minus(IN_USE)),
        to: None,
    };
    let mut used = BTreeSet::new();
    scope.records(&shelf, &mut |record| {
        let Some(provider) = record.subject.price_provider else {
            return;
        };
        let asked = record.subject.request_model.map(|model| model.to_string());
        for model in asked.into_iter().chain(record.ending.response_model) {
            used.insert((provider.to_string(), model));
        }
    })?;
    Ok(used)
}

fn compare(provider: &str, model: &str, old: &Rates, new: Option<&Rates>) -> Vec<Objection> {
    let objection = |unit, before, after| Objection {
        provider: provider.to_owned(),
        model: model.to_owned(),
        unit,
        before,
        after,
    };
    let Some(new) = new else {
        return vec![objection("input tokens", cost(old, input()), None)];
    };
    units()
        .into_iter()
        .filter_map(|(unit, usage)| {
            let (before, after) = (cost(old, usage), cost(new, usage));
            moves_too_far(before, after).then(|| objection(unit, before, Some(after)))
        })
        .collect()
}

fn cost(rates: &Rates, usage: Usage) -> PicoUsd {
    rates.exact(&usage, &Terms::default())
}

fn moves_too_far(before: PicoUsd, after: PicoUsd) -> bool {
    let (before, after) = (before.as_pico(), after.as_pico());
    before.saturating_mul(TOO_FAR) < after || after.saturating_mul(TOO_FAR) < before
}

fn input() -> Usage {
    Usage {
        input_tokens: AMOUNT,
        ..Usage::default()
    }
}

/// [`AMOUNT`] of each unit, by the unit's name.
#[rustfmt::skip]
fn units() -> [(&'static str, Usage); 15] {
    let (nothing, input) = (Usage::default(), input());
    let output = Usage { output_tokens: AMOUNT, ..nothing };
    [
        ("input tokens", input),
        ("cached input tokens", Usage { cached_input_tokens: AMOUNT, ..input }),
        ("cache write tokens", Usage { cache_write_tokens: AMOUNT, ..input }),
        ("cache write tokens (1 h)", Usage { cache_write_1h_tokens: AMOUNT, ..input }),
        ("input audio tokens", Usage { input_audio_tokens: AMOUNT, ..input }),
        ("input image tokens", Usage { input_image_tokens: AMOUNT, ..input }),
        ("output tokens", output),
        ("reasoning tokens", Usage { reasoning_tokens: AMOUNT, ..output }),
        ("output audio tokens", Usage { output_audio_tokens: AMOUNT, ..output }),
        ("output image tokens", Usage { output_image_tokens: AMOUNT, ..output }),
        ("web searches", Usage { web_searches: AMOUNT, ..nothing }),
        ("search units", Usage { search_units: AMOUNT, ..nothing }),
        ("pages", Usage { pages: AMOUNT, ..nothing }),
        ("milliseconds of audio", Usage { audio_ms: AMOUNT, ..nothing }),
        ("characters", Usage { characters: AMOUNT, ..nothing }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_five_times_as_much_or_as_little_is_too_far_and_so_is_free() {
        let moves = |before, after| moves_too_far(PicoUsd::new(before), PicoUsd::new(after));
        assert!(!moves(10, 50) && moves(10, 51));
        assert!(!moves(50, 10) && moves(51, 10));
        assert!(moves(10, 0) && moves(0, 10) && !moves(0, 0));
    }
}
