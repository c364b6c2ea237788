//! Whether a new catalogue may come into force: no price in use vanishes or moves too far.
//!
//! In use is what has been called in the last 31 days, as the records tell. Each unit is compared
//! by what a small, fixed amount of it costs in both books, in whole numbers.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tollgate_core::call::Terms;
use tollgate_core::money::PicoUsd;
use tollgate_core::price::{PriceBook, Rates};
use tollgate_core::time::Timestamp;
use tollgate_core::usage::Usage;
use tollgate_stores::embedded::Audit;

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
    let audit = Audit::of(&settings.data_dir);
    let mut used = BTreeSet::new();
    for tenant in audit.tenants()? {
        for record in audit.records(&tenant, Some(now.minus(IN_USE)), None)? {
            let record = record?;
            let Some(provider) = record.subject.price_provider else {
                continue;
            };
            let asked = record.subject.request_model.map(|model| model.to_string());
            for model in asked.into_iter().chain(record.ending.response_model) {
                used.insert((provider.clone(), model));
            }
        }
    }
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
        return vec![objection("input tokens", cost(old, INPUT), None)];
    };
    UNITS
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

const NOTHING: Usage = Usage {
    input_tokens: 0,
    cached_input_tokens: 0,
    cache_write_tokens: 0,
    cache_write_1h_tokens: 0,
    output_tokens: 0,
    reasoning_tokens: 0,
    input_audio_tokens: 0,
    cached_audio_tokens: 0,
    output_audio_tokens: 0,
    input_image_tokens: 0,
    cached_image_tokens: 0,
    output_image_tokens: 0,
    input_video_tokens: 0,
    tool_input_tokens: 0,
    web_searches: 0,
    file_searches: 0,
    search_units: 0,
    pages: 0,
    audio_ms: 0,
    characters: 0,
};
const INPUT: Usage = Usage {
    input_tokens: AMOUNT,
    ..NOTHING
};
const OUTPUT: Usage = Usage {
    output_tokens: AMOUNT,
    ..NOTHING
};
#[rustfmt::skip]
const UNITS: [(&str, Usage); 15] = [
    ("input tokens", INPUT),
    ("cached input tokens", Usage { cached_input_tokens: AMOUNT, ..INPUT }),
    ("cache write tokens", Usage { cache_write_tokens: AMOUNT, ..INPUT }),
    ("cache write tokens (1 h)", Usage { cache_write_1h_tokens: AMOUNT, ..INPUT }),
    ("input audio tokens", Usage { input_audio_tokens: AMOUNT, ..INPUT }),
    ("input image tokens", Usage { input_image_tokens: AMOUNT, ..INPUT }),
    ("output tokens", OUTPUT),
    ("reasoning tokens", Usage { reasoning_tokens: AMOUNT, ..OUTPUT }),
    ("output audio tokens", Usage { output_audio_tokens: AMOUNT, ..OUTPUT }),
    ("output image tokens", Usage { output_image_tokens: AMOUNT, ..OUTPUT }),
    ("web searches", Usage { web_searches: AMOUNT, ..NOTHING }),
    ("search units", Usage { search_units: AMOUNT, ..NOTHING }),
    ("pages", Usage { pages: AMOUNT, ..NOTHING }),
    ("milliseconds of audio", Usage { audio_ms: AMOUNT, ..NOTHING }),
    ("characters", Usage { characters: AMOUNT, ..NOTHING }),
];

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
