//! What one model costs at one time, under the terms of a call.
//!
//! All sums are integers: counts times prices times a factor in millionths, divided once. A unit
//! without a price of its own is charged as a more general one; where there is none either, the
//! cost says that it is not whole, and nobody may take it for the price of the call.

use std::sync::Arc;

use super::catalogue::{ModelPrices, Prices, Tiered, bit};
use super::decimal::{Factor, Price};
use super::units::{Line, Unit, token_lines};
use crate::call::Terms;
use crate::money::PicoUsd;
use crate::policy::Operation;
use crate::usage::Usage;

/// Fee for a web search where the model has no price for it: 35 US dollars per thousand, the
/// dearest known, which Google charges for grounding.
const WEB_SEARCH: Price = Price(35 * PICO_PER_CALL_OF_A_DOLLAR_PER_THOUSAND);
/// Fee for a file search where the model has no price for it: 2.5 US dollars per thousand.
const FILE_SEARCH: Price = Price(5 * PICO_PER_CALL_OF_A_DOLLAR_PER_THOUSAND / 2);
/// A thousandth of a US dollar, in units of [`Price`].
const PICO_PER_CALL_OF_A_DOLLAR_PER_THOUSAND: i128 = Price::SCALE * 1_000_000_000;
/// Sums are in pico-US-dollars divided by this: the scales of prices and of factors.
pub(super) const SCALE: i128 = Price::SCALE * Factor::ONE.0;

/// The prices of one model at one time.
#[derive(Debug, Clone)]
pub struct Rates {
    pub(super) model: Arc<ModelPrices>,
    /// Which of the model's dated prices hold.
    pub(super) standard: usize,
    /// Which of its variants may hold. None where a reseller sells it, whose terms are others.
    pub(super) variants: u64,
    pub(super) resold: bool,
    pub(super) max_output_tokens: Option<u64>,
}

/// The prices under certain terms.
#[derive(Clone, Copy)]
pub(super) struct Card<'a> {
    model: &'a ModelPrices,
    standard: Option<&'a Prices>,
    variants: u64,
    factor: Factor,
}

impl<'a> Card<'a> {
    fn price(&self, unit: Unit) -> Option<&'a Tiered> {
        let mut rest = self.variants;
        while rest != 0 {
            let position = rest.trailing_zeros();
            rest &= !bit(position);
            let variant = self.model.variants.get(usize::try_from(position).ok()?);
            if let Some(price) = variant.and_then(|variant| variant.prices.get(unit)) {
                return Some(price);
            }
        }
        self.standard?.get(unit)
    }

    /// Whether what this operation bills has a price.
    fn covers(&self, operation: Operation) -> bool {
        let text = self.has(Unit::Input) && self.has(Unit::Output);
        match operation {
            Operation::ChatCompletions
            | Operation::Completions
            | Operation::Responses
            | Operation::ResponseStatus
            | Operation::Messages
            | Operation::GenerateContent
            | Operation::Converse
            | Operation::CohereChat
            | Operation::OllamaChat => text,
            Operation::Embeddings
            | Operation::EmbedContent
            | Operation::CohereEmbed
            | Operation::OllamaEmbed
            | Operation::InvokeModel => self.has(Unit::Input),
            Operation::ImageGenerations | Operation::ImageEdits => {
                self.has(Unit::Input) && self.charged(Unit::OutputImage).is_some()
            }
            Operation::Transcriptions => text || self.charged(Unit::InputAudioHours).is_some(),
            Operation::Speech => text || self.has(Unit::Characters),
            Operation::Ocr => self.has(Unit::Pages),
            Operation::Rerank => self.has(Unit::Rerank) || self.has(Unit::Input),
            // Each line of a batch is a call of its own kind.
            Operation::BatchInput
            | Operation::Batch
            | Operation::BatchStatus
            | Operation::BatchOutput
            | Operation::MessageBatch
            | Operation::MessageBatchResults
            | Operation::Free
            | Operation::OauthToken
            | Operation::Tool => true,
        }
    }

    pub(super) fn has(&self, unit: Unit) -> bool {
        self.price(unit).is_some()
    }

    /// What a unit is charged at, if anything.
    pub(super) fn charged(&self, unit: Unit) -> Option<&'a Tiered> {
        if self.variants == 0 {
            return self.standard?.charged(unit);
        }
        unit.chain().iter().find_map(|&unit| self.price(unit))
    }

    /// The dearest price that tokens counted in any of `units` can be charged at, times the factor.
    pub(super) fn dearest(&self, units: &[Unit], input_tokens: u64) -> i128 {
        let prices = units.iter().filter_map(|&unit| self.charged(unit));
        let price = prices.map(|price| price.dearest(input_tokens)).max();
        let price = price.unwrap_or(Price(0));
        price.0.saturating_mul(self.factor.0)
    }

    /// The cost of what is not a token, in the unit of sums.
    pub(super) fn others(&self, usage: &Usage, least_audio_ms: u64, annotated: bool) -> i128 {
        let audio_ms = match usage.audio_ms {
            0 => 0,
            audio_ms => audio_ms.max(least_audio_ms),
        };
        let pages = if annotated {
            Unit::AnnotatedPages
        } else {
            Unit::Pages
        };
        let lines: [(Unit, u64, Price); 7] = [
            (Unit::InputAudioHours, audio_ms, Price(0)),
            (Unit::Characters, usage.characters, Price(0)),
            (pages, usage.pages, Price(0)),
            (Unit::Rerank, usage.search_units, Price(0)),
            (Unit::WebSearch, usage.web_searches, WEB_SEARCH),
            (Unit::FileSearch, usage.file_searches, FILE_SEARCH),
            (Unit::Request, 1, Price(0)),
        ];
        let sum = lines.iter().fold(0_i128, |sum, &(unit, count, otherwise)| {
            if count == 0 {
                return sum;
            }
            let price = self.charged(unit);
            // Such units have no context tiers.
            let price = price.map_or(otherwise, |price| price.dearest(u64::MAX));
            sum.saturating_add(i128::from(count).saturating_mul(price.0))
        });
        sum.saturating_mul(Factor::ONE.0)
    }
}

/// A cost before rounding, and whether everything that was used has a price.
pub(super) struct Cost {
    /// In the unit of sums.
    pub(super) sum: i128,
    pub(super) whole: bool,
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

    /// Whether what this operation bills has a price. Otherwise the model is not priced for it:
    /// a model priced by the hour of audio says nothing about what a chat with it costs.
    #[must_use]
    pub fn covers(&self, operation: Operation) -> bool {
        // Other prices only come on top, and mostly the standard ones say enough.
        let standard = Card {
            model: &self.model,
            standard: self.standard_prices(),
            variants: 0,
            factor: Factor::ONE,
        };
        standard.covers(operation) || self.card(&Terms::default()).covers(operation)
    }

    /// What `usage` costs under `terms`, rounded half to even. What was used and has no price is
    /// left out; see [`Rates::exact_if_priced`].
    #[must_use]
    pub fn exact(&self, usage: &Usage, terms: &Terms) -> PicoUsd {
        round_half_even(self.cost(usage, terms, false).sum)
    }

    /// The same, or `None` if something was used that has no price.
    #[must_use]
    pub fn exact_if_priced(&self, usage: &Usage, terms: &Terms) -> Option<PicoUsd> {
        let cost = self.cost(usage, terms, false);
        cost.whole.then(|| round_half_even(cost.sum))
    }

    /// The cost of `usage`. `annotated` is whether its pages were asked for with annotations.
    pub(super) fn cost(&self, usage: &Usage, terms: &Terms, annotated: bool) -> Cost {
        let usage = usage.consistent();
        let card = self.card(terms);
        let mut unpriced_tokens = false;
        let tokens = token_lines(&usage, |unit| card.has(unit))
            .iter()
            .filter(|(_, count)| *count > 0)
            .fold(0_i128, |sum, &(unit, count): &Line| {
                let Some(price) = card.charged(unit) else {
                    unpriced_tokens = true;
                    return sum;
                };
                let price = price.at(usage.input_tokens);
                sum.saturating_add(i128::from(count).saturating_mul(price.0))
            });
        let others = card.others(&usage, self.model.least_audio_ms, annotated);
        // What one of these bills, the others only describe: a minute of audio is not billed
        // again by the tokens that stand for it, unless the model has a price for both.
        let tokens_used = usage.input_tokens > 0 || usage.output_tokens > 0;
        let kinds = [
            (usage.audio_ms, Unit::InputAudioHours),
            (usage.characters, Unit::Characters),
            (usage.pages, Unit::Pages),
            (usage.search_units, Unit::Rerank),
        ];
        let mut used = kinds.iter().filter(|(count, _)| *count > 0).peekable();
        let whole = if tokens_used {
            !unpriced_tokens
        } else {
            used.peek().is_none()
        } || used.any(|&(_, unit)| card.charged(unit).is_some());
        Cost {
            sum: tokens.saturating_mul(card.factor.0).saturating_add(others),
            whole,
        }
    }

    /// The prices under these terms.
    pub(super) fn card(&self, terms: &Terms) -> Card<'_> {
        self.card_where(terms, |_, variant| variant.holds(terms))
    }

    fn standard_prices(&self) -> Option<&Prices> {
        let (_, prices) = self.model.dated.get(self.standard)?;
        Some(prices)
    }

    fn card_where(
        &self,
        terms: &Terms,
        holds: impl Fn(u32, &super::terms::When) -> bool,
    ) -> Card<'_> {
        let mut variants = 0;
        if self.variants != 0 {
            for (position, variant) in (0_u32..).zip(&self.model.variants) {
                if self.variants & bit(position) != 0 && holds(position, &variant.when) {
                    variants |= bit(position);
                }
            }
        }
        let mut multipliers = self.model.multipliers.iter();
        let factor = multipliers
            .find(|multiplier| !self.resold && multiplier.when.holds(terms))
            .map_or(Factor::ONE, |multiplier| multiplier.factor);
        Card {
            model: &self.model,
            standard: self.standard_prices(),
            variants,
            factor,
        }
    }

    /// Calls `visit` with the prices under all terms that the provider may serve a request under:
    /// those asked for and the standard ones, every service tier if it may choose, and those that
    /// requests do not state.
    pub(super) fn each_reachable<'a>(&'a self, asked: &Terms, mut visit: impl FnMut(Card<'a>)) {
        visit(self.card(asked));
        if self.variants == 0 && self.model.multipliers.is_empty() {
            return;
        }
        // Whether a call is part of a batch is not the provider's choice.
        let standard = Terms {
            processing: asked.processing.clone(),
            ..Terms::default()
        };
        if *asked != standard {
            visit(self.card(&standard));
        }
        let may_choose = asked
            .service_tier
            .as_deref()
            .is_some_and(|tier| tier.eq_ignore_ascii_case("auto"));
        for (position, variant) in (0_u32..).zip(&self.model.variants) {
            if self.variants & bit(position) == 0 {
                continue;
            }
            if let (true, Some(tier)) = (may_choose, variant.when.service_tier()) {
                let terms = Terms {
                    service_tier: Some(tier.to_owned()),
                    ..asked.clone()
                };
                visit(self.card(&terms));
            } else if variant.when.may_hold(asked) && !variant.when.holds(asked) {
                visit(self.card_where(asked, |other, when| other == position || when.holds(asked)));
            }
        }
    }
}

pub(super) fn round_up(sum: i128) -> PicoUsd {
    let whole = sum.div_euclid(SCALE);
    let rest = sum.rem_euclid(SCALE);
    PicoUsd::new(whole.saturating_add(i128::from(rest > 0)))
}

pub(super) fn round_half_even(sum: i128) -> PicoUsd {
    const HALF: i128 = SCALE / 2;
    let whole = sum.div_euclid(SCALE);
    let rest = sum.rem_euclid(SCALE);
    let up = rest > HALF || (rest == HALF && whole.rem_euclid(2) == 1);
    PicoUsd::new(whole.saturating_add(i128::from(up)))
}
