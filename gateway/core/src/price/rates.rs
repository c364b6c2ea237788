//! What one model costs at one time: the worst case before a call, the exact cost after it.
//!
//! All sums are integers: counts times prices per million units times a factor in millionths,
//! divided once. A unit without a price of its own is charged as the more general one (cached as
//! plain input, audio as text), never as free.
//!
//! Worst case: a catalogue that understates a price or a context window makes the bound too low by
//! as much. The cost settled is still the exact one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalogue::{ModelPrices, Prices, Unit};
use super::decimal::{Factor, Price};
use crate::call::{Ask, CacheWrite, Input, Terms};
use crate::money::PicoUsd;
use crate::policy::Operation;
use crate::time::Timestamp;
use crate::usage::{Metered, Reading, Usage};

/// Tokens that providers add to the prompt when tools are defined, at most. Anthropic states up to
/// 735 for tool use with computer use and 499 to 700 for its own editor and shell tools.
const TOOL_PROMPT_TOKENS: u64 = 2_048;
/// Context window assumed where the catalogue knows none: the largest in common use.
const UNKNOWN_CONTEXT_TOKENS: u64 = 1_000_000;
/// Input assumed where the provider may loop. Real answers with server tools report the sum of
/// all internal calls, up to 494,549 tokens on a model with a window of 200,000.
const LOOP_INPUT_TOKENS: u64 = 1_000_000;
/// Bytes of text per token, for estimates (never for bounds). Checked against o200k on English
/// text and code, which it overestimates by 8 %.
const BYTES_PER_TOKEN: u64 = 4;
/// Fee for a web search where the model has no price for it: 25 US dollars per thousand, the
/// dearest that OpenAI charges.
const WEB_SEARCH: Price = Price(25_000_000_000_000_000);
/// Fee for a file search where the model has no price for it: 2.5 US dollars per thousand.
const FILE_SEARCH: Price = Price(2_500_000_000_000_000);
/// Sums are in pico-US-dollars divided by this: prices are per million, factors in millionths.
const SCALE: i128 = 1_000_000_000_000;
/// The most one call is taken to cost: 9.2 million US dollars, the range of 64 bits.
pub const MOST: PicoUsd = PicoUsd::new(i64::MAX as i128);
/// The largest count that any JSON reader takes (2⁵³).
const MAX_COUNT: u64 = 1 << 53;

/// The prices of one model at one time.
#[derive(Debug, Clone)]
pub struct Rates {
    pub(super) model: Arc<ModelPrices>,
    pub(super) at: Timestamp,
    /// Variants are the listing provider's own terms; a reseller has others.
    pub(super) resold: bool,
    pub(super) max_output_tokens: Option<u64>,
}

/// The dearest price of each kind that a request can reach.
struct Dearest {
    input: Price,
    output: Price,
    fees: i128,
}

impl Rates {
    /// The catalogue's name for the model.
    #[must_use]
    pub fn priced_as(&self) -> &str {
        &self.model.id
    }

    /// The most tokens the model gives out in one answer, where that is known.
    #[must_use]
    pub const fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// The most this request can cost, rounded up.
    ///
    /// Input is bounded by the body's bytes, or by the context window where [`Input`] says that
    /// bytes do not bound it; it is charged at the dearest input price that can apply (cache
    /// writes, audio, context tier, service tier). Output is bounded by the request's own limit,
    /// else by the model's, else by `default_max_output` tokens; times the choices asked for.
    /// At most [`MOST`], so that absurd bounds stay sums that every store can hold.
    #[must_use]
    pub fn worst_case(&self, ask: &Ask, default_max_output: u64) -> PicoUsd {
        let input = self.input_bound(ask);
        let dearest = self.dearest(ask, input);
        let output = self.output_bound(ask, default_max_output);
        round_up(dearest.cost(input, output)).min(MOST)
    }

    /// The largest bound on output tokens, per choice, with which the request costs at most
    /// `available`; `None` if not even one token fits, or output is not what it costs.
    #[must_use]
    pub fn largest_output_bound(&self, ask: &Ask, available: PicoUsd) -> Option<u64> {
        if ask.max_output_tokens == Some(0) {
            return None;
        }
        let input = self.input_bound(ask);
        let dearest = self.dearest(ask, input);
        let left = available
            .as_pico()
            .saturating_mul(SCALE)
            .checked_sub(dearest.cost(input, 0))?;
        if left < 0 {
            return None;
        }
        let tokens = left
            .checked_div(dearest.output.0)
            .map_or(MAX_COUNT, |tokens| {
                u64::try_from(tokens).unwrap_or(MAX_COUNT)
            });
        let per_choice = tokens.checked_div(ask.choices)?;
        let bound = per_choice.checked_sub(predicted(ask))?.min(MAX_COUNT);
        (bound > 0).then_some(bound)
    }

    /// What `usage` costs under `terms`, rounded half to even.
    #[must_use]
    pub fn exact(&self, usage: &Usage, terms: &Terms) -> PicoUsd {
        round_half_even(self.cost(usage, terms))
    }

    /// Usage and cost of an answer whose final usage did not come: what it reported, completed
    /// from the bytes of the request and of the generated text. Not zero unless the model is free,
    /// and not above [`Rates::worst_case`].
    #[must_use]
    pub fn estimate(
        &self,
        ask: &Ask,
        reading: &Reading,
        default_max_output: u64,
    ) -> (Usage, PicoUsd) {
        let reported = match reading.metered {
            Metered::Exact(usage) | Metered::Partial(usage) => usage,
            Metered::Unknown => Usage::default(),
        };
        let worst = self.worst_case(ask, default_max_output);
        let usage = self.complete(ask, reported, reading.output_bytes, default_max_output);
        if ask.deferred {
            return (usage, worst);
        }
        let cost = round_up(self.cost(&usage, &reading.terms.or(&ask.terms)));
        (usage, cost.max(PicoUsd::new(1)).min(worst))
    }

    fn complete(&self, ask: &Ask, reported: Usage, output_bytes: u64, default: u64) -> Usage {
        let mut usage = reported;
        if usage.input_tokens == 0 {
            let seen = tokens_of(ask.body_bytes);
            usage.input_tokens = match ask.input {
                Input::Bounded => seen,
                // Most of it is out of sight; a quarter of the bound stands for it.
                Input::Referenced | Input::Looping => seen.max(tokens_of(self.input_bound(ask))),
            };
        }
        if ask.max_output_tokens != Some(0) {
            let ceiling = self.output_bound(ask, default).max(usage.output_tokens);
            let seen = tokens_of(output_bytes).max(1);
            usage.output_tokens = usage.output_tokens.max(seen).min(ceiling);
        }
        usage
    }

    /// The most tokens that can go in.
    fn input_bound(&self, ask: &Ask) -> u64 {
        let window = self.model.context_window.unwrap_or(UNKNOWN_CONTEXT_TOKENS);
        match ask.input {
            Input::Bounded if ask.tools => ask.body_bytes.saturating_add(TOOL_PROMPT_TOKENS),
            Input::Bounded => ask.body_bytes,
            Input::Referenced => window,
            Input::Looping => window.max(LOOP_INPUT_TOKENS),
        }
    }

    /// The most tokens that can come out, over all choices.
    fn output_bound(&self, ask: &Ask, default_max_output: u64) -> u64 {
        ask.max_output_tokens
            .or(self.max_output_tokens)
            .or(self.model.context_window)
            .unwrap_or(default_max_output)
            .saturating_add(predicted(ask))
            .saturating_mul(ask.choices)
    }

    fn dearest(&self, ask: &Ask, input_tokens: u64) -> Dearest {
        let mut dearest = Dearest {
            input: Price(0),
            output: Price(0),
            fees: 0,
        };
        for terms in self.reachable_terms(&ask.terms) {
            let prices = self.prices(&terms);
            let factor = self.factor(&terms);
            let most = |units: &[Unit]| {
                let prices = units.iter().filter_map(|unit| prices.get(unit));
                let price = prices.map(|price| price.dearest(input_tokens)).max();
                Price(price.unwrap_or(Price(0)).0.saturating_mul(factor.0))
            };
            dearest.input = dearest.input.max(most(input_units(ask)));
            let output = if prices.contains_key(&Unit::Output) {
                most(&OUTPUT_UNITS)
            } else {
                most(&[Unit::Input])
            };
            dearest.output = dearest.output.max(output);
            dearest.fees =
                dearest
                    .fees
                    .max(self.fees(&prices, ask.most.web_searches, ask.most.file_searches));
        }
        dearest
    }

    /// The terms under which the provider may serve the request: those asked for and the standard
    /// ones; every service tier if it may choose.
    fn reachable_terms(&self, asked: &Terms) -> Vec<Terms> {
        let mut reachable = vec![Terms::default(), asked.clone()];
        if asked.service_tier.as_deref() == Some("auto") {
            let tiers = self.model.variants.iter();
            for tier in tiers.filter_map(|variant| variant.when.get("service_tier")) {
                reachable.push(Terms {
                    service_tier: Some(tier.clone()),
                    ..asked.clone()
                });
            }
        }
        reachable
    }

    fn prices(&self, terms: &Terms) -> Prices {
        self.model
            .under(self.at, |when| !self.resold && holds(when, terms))
    }

    fn factor(&self, terms: &Terms) -> Factor {
        let multipliers = self.model.multipliers.iter();
        multipliers
            .filter(|multiplier| !self.resold && holds(&multiplier.when, terms))
            .map(|multiplier| multiplier.factor)
            .next()
            .unwrap_or(Factor::ONE)
    }

    /// Fees per call, in the unit of sums.
    fn fees(&self, prices: &Prices, web_searches: u64, file_searches: u64) -> i128 {
        let fee = |unit, otherwise: Price| prices.get(&unit).map_or(otherwise, |price| price.at(0));
        let lines = [
            (1, fee(Unit::Request, Price(0))),
            (web_searches, fee(Unit::WebSearch, WEB_SEARCH)),
            (file_searches, fee(Unit::FileSearch, FILE_SEARCH)),
        ];
        sum(&lines).saturating_mul(Factor::ONE.0)
    }

    /// The cost in the unit of sums.
    fn cost(&self, usage: &Usage, terms: &Terms) -> i128 {
        let usage = usage.consistent();
        let prices = self.prices(terms);
        let tokens = sum(&token_lines(&usage, &prices)).saturating_mul(self.factor(terms).0);
        tokens.saturating_add(self.fees(&prices, usage.web_searches, usage.file_searches))
    }
}

impl Dearest {
    /// The cost in the unit of sums.
    fn cost(&self, input_tokens: u64, output_tokens: u64) -> i128 {
        let tokens = sum(&[(input_tokens, self.input), (output_tokens, self.output)]);
        tokens.saturating_add(self.fees)
    }
}

const OUTPUT_UNITS: [Unit; 3] = [Unit::Output, Unit::Reasoning, Unit::OutputAudio];

/// What input tokens of a request may be charged as. OpenAI writes caches of itself; Anthropic
/// only where it is asked to.
fn input_units(ask: &Ask) -> &'static [Unit] {
    const ALL: [Unit; 6] = [
        Unit::Input,
        Unit::CacheRead,
        Unit::InputAudio,
        Unit::CachedAudio,
        Unit::CacheWrite,
        Unit::CacheWrite1h,
    ];
    let count = match (ask.operation, ask.cache_write) {
        (Operation::Messages, CacheWrite::Unasked) => 4,
        (_, CacheWrite::OneHour) => 6,
        _ => 5,
    };
    ALL.get(..count).unwrap_or(&ALL)
}

/// Tokens of predicted output that may be rejected and still billed, per choice.
fn predicted(ask: &Ask) -> u64 {
    if ask.prediction { ask.body_bytes } else { 0 }
}

fn tokens_of(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// Whether every term a variant names is as it says.
fn holds(when: &BTreeMap<String, String>, terms: &Terms) -> bool {
    when.iter().all(|(term, value)| {
        let stated = match term.as_str() {
            "service_tier" => &terms.service_tier,
            "speed" => &terms.speed,
            "inference_geo" => &terms.inference_geo,
            "processing" => &terms.processing,
            _ => return false,
        };
        stated.as_ref() == Some(value)
    })
}

/// Token counts that exclude one another, each with its price.
fn token_lines(usage: &Usage, prices: &Prices) -> [(u64, Price); 9] {
    let first = |units: &[Unit]| {
        let price = units.iter().find_map(|unit| prices.get(unit));
        price.map_or(Price(0), |price| price.at(usage.input_tokens))
    };
    let cached_text = usage
        .cached_input_tokens
        .saturating_sub(usage.cached_audio_tokens);
    let fresh_audio = usage
        .input_audio_tokens
        .saturating_sub(usage.cached_audio_tokens);
    let plain = usage
        .input_tokens
        .saturating_sub(usage.cached_input_tokens)
        .saturating_sub(usage.cache_write_tokens)
        .saturating_sub(usage.cache_write_1h_tokens)
        .saturating_sub(fresh_audio);
    // Reasoning is priced apart by few models only, none of which speaks.
    let reasoning = usage.reasoning_tokens;
    let spoken = usage
        .output_audio_tokens
        .min(usage.output_tokens.saturating_sub(reasoning));
    let written = usage
        .output_tokens
        .saturating_sub(reasoning)
        .saturating_sub(spoken);
    [
        (plain, first(&[Unit::Input])),
        (cached_text, first(&[Unit::CacheRead, Unit::Input])),
        (
            usage.cached_audio_tokens,
            first(&[
                Unit::CachedAudio,
                Unit::InputAudio,
                Unit::CacheRead,
                Unit::Input,
            ]),
        ),
        (fresh_audio, first(&[Unit::InputAudio, Unit::Input])),
        (
            usage.cache_write_tokens,
            first(&[Unit::CacheWrite, Unit::Input]),
        ),
        (
            usage.cache_write_1h_tokens,
            first(&[Unit::CacheWrite1h, Unit::CacheWrite, Unit::Input]),
        ),
        (written, first(&[Unit::Output, Unit::Input])),
        (
            reasoning,
            first(&[Unit::Reasoning, Unit::Output, Unit::Input]),
        ),
        (
            spoken,
            first(&[Unit::OutputAudio, Unit::Output, Unit::Input]),
        ),
    ]
}

fn sum(lines: &[(u64, Price)]) -> i128 {
    lines.iter().fold(0_i128, |sum, &(count, price)| {
        sum.saturating_add(i128::from(count).saturating_mul(price.0))
    })
}

fn round_up(sum: i128) -> PicoUsd {
    let whole = sum.div_euclid(SCALE);
    let rest = sum.rem_euclid(SCALE);
    PicoUsd::new(whole.saturating_add(i128::from(rest > 0)))
}

fn round_half_even(sum: i128) -> PicoUsd {
    const HALF: i128 = SCALE / 2;
    let whole = sum.div_euclid(SCALE);
    let rest = sum.rem_euclid(SCALE);
    let up = rest > HALF || (rest == HALF && whole.rem_euclid(2) == 1);
    PicoUsd::new(whole.saturating_add(i128::from(up)))
}
