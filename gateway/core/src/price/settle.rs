//! What a finished call is settled at.
//!
//! Reported usage is priced by the model and terms that the answer names, else by the request's.
//! Where usage is missing, or something was used that has no price, the settlement is an estimate
//! and says so: never zero for a model that costs anything, and above the worst case only where
//! what was reported is.

use super::PriceBook;
use super::bound::{bounds_output, is_annotated};
use super::rates::{Cost, Rates, round_half_even, round_up};
use super::units::Unit;
use crate::call::{Ask, Input, Terms};
use crate::money::PicoUsd;
use crate::policy::Operation;
use crate::record::UsageSource;
use crate::time::Timestamp;
use crate::usage::{Metered, Reading, Usage};

/// Bytes of text per token, for estimates (never for bounds). Checked against o200k on English
/// text and code, which it overestimates by 8 %.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens of speech per character, for estimates: 1,250 tokens a minute at 900 characters of
/// English a minute are 1.4; other languages have fewer characters a minute.
const SPEECH_TOKENS_PER_CHARACTER: u64 = 2;

/// What a finished call is settled at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The counts, over all models involved.
    pub usage: Usage,
    /// What is settled.
    pub cost: PicoUsd,
    /// [`UsageSource::Exact`] or [`UsageSource::Estimated`].
    pub source: UsageSource,
    /// What the counts cost at the prices known, where there are any.
    pub computed: Option<PicoUsd>,
    /// What the provider says it cost.
    pub reported: Option<PicoUsd>,
}

/// What the calls of one model come to.
#[derive(Clone, Copy)]
struct Part {
    usage: Usage,
    cost: PicoUsd,
    source: UsageSource,
}

impl PriceBook {
    /// What a finished call is settled at, or `None` if neither the model that answered nor the
    /// one asked for has a price. Not to be called for an answer with a status other than 2xx,
    /// which costs nothing.
    ///
    /// Usage of other models is added at their own prices, each as one call: what is added up
    /// beforehand may reach a context tier that none of its calls did. What OpenRouter and xAI report is what
    /// they bill, and wins over what was computed.
    #[must_use]
    pub fn settle(
        &self,
        provider: &str,
        ask: &Ask,
        reading: &Reading,
        at: Timestamp,
        default_max_output: u64,
    ) -> Option<Settlement> {
        let asked = self.rates(provider, ask.model.as_str(), at);
        self.settle_at(
            provider,
            asked.as_ref(),
            ask,
            reading,
            at,
            default_max_output,
        )
    }

    /// The same, where the rates of the model asked for are known: those that the call was
    /// reserved at, which also hold for names that only a policy's aliases explain.
    #[must_use]
    pub fn settle_at(
        &self,
        provider: &str,
        asked: Option<&Rates>,
        ask: &Ask,
        reading: &Reading,
        at: Timestamp,
        default_max_output: u64,
    ) -> Option<Settlement> {
        let answered = reading
            .response_model
            .as_deref()
            .filter(|model| *model != ask.model.as_str())
            .and_then(|model| self.rates(provider, model, at));
        let own = own_usage(reading);
        let own = match choose(ask.operation, asked, answered.as_ref()) {
            // A batch is the sum of its lines, each with a model of its own.
            _ if is_batch(ask.operation) && own == Usage::default() => Some(Part {
                usage: own,
                cost: PicoUsd::ZERO,
                source: source(reading),
            }),
            rates => rates.map(|rates| rates.part(ask, reading, default_max_output)),
        };
        let known = [asked, answered.as_ref()];
        let computed = own.and_then(|own| self.with_others(provider, own, known, ask, reading, at));
        prefer_reported(provider, computed, reading)
    }

    /// Adds what other models used, each at its own prices. One without a price costs what it
    /// would cost with the dearest of the models that have one.
    fn with_others(
        &self,
        provider: &str,
        own: Part,
        known: [Option<&Rates>; 2],
        ask: &Ask,
        reading: &Reading,
        at: Timestamp,
    ) -> Option<Part> {
        if reading.elsewhere.is_empty() {
            return Some(own);
        }
        let mut terms = reading.terms.clone();
        terms.processing = terms.processing.or_else(|| ask.terms.processing.clone());
        let others: Vec<_> = reading
            .elsewhere
            .iter()
            .map(|(model, _)| self.rates(provider, model, at))
            .collect();
        let mut sum = own;
        for ((_, usage), rates) in reading.elsewhere.iter().zip(&others) {
            let exact = rates
                .as_ref()
                .map(|rates| rates.cost(usage, &terms, false))
                .filter(|cost| cost.whole);
            let cost = match exact {
                Some(Cost { sum, .. }) => round_half_even(sum),
                None => {
                    sum.source = UsageSource::Estimated;
                    let known = known.into_iter().flatten();
                    known
                        .chain(others.iter().flatten())
                        .map(|rates| rates.cost(usage, &terms, false))
                        .filter(|cost| cost.whole)
                        .map(|cost| round_up(cost.sum))
                        .max()?
                }
            };
            sum.cost = sum.cost.saturating_add(cost);
            sum.usage = sum.usage.plus(usage);
        }
        Some(sum)
    }
}

/// What is settled, given what was computed and what the provider says.
fn prefer_reported(
    provider: &str,
    computed: Option<Part>,
    reading: &Reading,
) -> Option<Settlement> {
    let reported = reading.reported_cost;
    let billed = reported.filter(|_| bills_as_reported(provider));
    let part = match (computed, billed) {
        (None, None) => return None,
        (None, Some(cost)) => Part {
            usage: reading.total().unwrap_or_default(),
            cost,
            source: source(reading),
        },
        // With a key of the tenant's own the model is billed elsewhere: a report of nothing says
        // nothing about it.
        (Some(part), None | Some(PicoUsd::ZERO)) => part,
        (Some(part), Some(cost)) if part.source == UsageSource::Exact => Part { cost, ..part },
        (Some(part), Some(cost)) => Part {
            cost: cost.max(part.cost),
            ..part
        },
    };
    Some(Settlement {
        usage: part.usage,
        cost: part.cost,
        source: part.source,
        computed: computed.map(|part| part.cost),
        reported,
    })
}

/// Whether what a provider reports as a call's cost is what it bills for it.
pub(super) fn bills_as_reported(provider: &str) -> bool {
    matches!(provider, "openrouter" | "x-ai")
}

const fn is_batch(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::BatchOutput | Operation::MessageBatchResults
    )
}

const fn source(reading: &Reading) -> UsageSource {
    match reading.metered {
        Metered::Exact(_) => UsageSource::Exact,
        Metered::Partial(_) | Metered::Unknown => UsageSource::Estimated,
    }
}

fn own_usage(reading: &Reading) -> Usage {
    match reading.metered {
        Metered::Exact(usage) | Metered::Partial(usage) => usage,
        Metered::Unknown => Usage::default(),
    }
}

/// Whose prices an answer is charged at: those of the model it names, if it names one that has
/// prices for such a call, else those of the model asked for.
///
/// Amazon's answers repeat the maker's name for a model, while the price is that of the profile
/// asked for; and an operator's price for the very name asked for is what was agreed on.
fn choose<'a>(
    operation: Operation,
    asked: Option<&'a Rates>,
    answered: Option<&'a Rates>,
) -> Option<&'a Rates> {
    let covers = |rates: &&Rates| rates.covers(operation);
    let (asked, answered) = (asked.filter(covers), answered.filter(covers));
    let by_operator = |rates: &Option<&Rates>| rates.is_some_and(|rates| rates.model.by_operator);
    let asked_wins = matches!(operation, Operation::Converse | Operation::InvokeModel)
        || (by_operator(&asked) && !by_operator(&answered));
    if asked_wins {
        asked.or(answered)
    } else {
        answered.or(asked)
    }
}

impl Rates {
    /// What the call's own model comes to.
    fn part(&self, ask: &Ask, reading: &Reading, default_max_output: u64) -> Part {
        let stated = match reading.metered {
            Metered::Exact(usage) => Some(usage),
            Metered::Partial(_) | Metered::Unknown => None,
        };
        let usage = if ask.operation == Operation::Speech && self.charges_characters() {
            // The answer is sound and states nothing; the request says what is billed.
            Some(Usage {
                characters: own_usage(reading).characters.max(ask.most.characters),
                ..stated.unwrap_or_default()
            })
        } else {
            stated
        };
        if let Some(mut usage) = usage.filter(|usage| says_enough(ask.operation, usage)) {
            if ask.operation == Operation::ChatCompletions {
                // Search models search once a call and do not report it. What else may search
                // reports it, or the cost; the most that it may is no measure of what it did.
                usage.web_searches = usage.web_searches.max(ask.most.web_searches.min(1));
            }
            let cost = self.cost_of(&self.billed(ask.operation, usage), ask, reading);
            if cost.whole {
                return Part {
                    usage,
                    cost: round_half_even(cost.sum),
                    source: UsageSource::Exact,
                };
            }
        }
        let (usage, cost) = self.estimate(ask, reading, default_max_output);
        Part {
            usage,
            cost,
            source: UsageSource::Estimated,
        }
    }

    /// The cost of usage under the terms of the answer, else of the request. A tier that the
    /// answer does not confirm may not have been served, so it makes nothing cheaper.
    fn cost_of(&self, usage: &Usage, ask: &Ask, reading: &Reading) -> Cost {
        let annotated = is_annotated(ask);
        let asked = self.cost(usage, &reading.terms.or(&ask.terms), annotated);
        if reading.terms.service_tier.is_some() || ask.terms.service_tier.is_none() {
            return asked;
        }
        let without = Terms {
            service_tier: None,
            ..reading.terms.or(&ask.terms)
        };
        let standard = self.cost(usage, &without, annotated);
        if standard.sum > asked.sum {
            standard
        } else {
            asked
        }
    }

    fn charges_characters(&self) -> bool {
        self.card(&Terms::default()).has(Unit::Characters)
    }

    /// The usage that is charged for: image models that do not break their output down are taken
    /// to put out nothing but images.
    fn billed(&self, operation: Operation, usage: Usage) -> Usage {
        let draws = matches!(
            operation,
            Operation::ImageGenerations | Operation::ImageEdits
        );
        if draws && usage.output_image_tokens == 0 {
            return Usage {
                output_image_tokens: usage.output_tokens,
                ..usage
            };
        }
        usage
    }

    /// Usage and cost of an answer whose final usage did not come: what it reported, completed
    /// from the bytes of the request and of the generated text. Not zero unless the model is free,
    /// and not above [`Rates::worst_case`], which it is for whatever is not text, unless what was
    /// reported costs more.
    #[must_use]
    pub fn estimate(
        &self,
        ask: &Ask,
        reading: &Reading,
        default_max_output: u64,
    ) -> (Usage, PicoUsd) {
        let worst = self.worst_case(ask, default_max_output);
        let usage = self.complete(ask, reading, default_max_output);
        let is_text = bounds_output(ask.operation)
            || matches!(
                ask.operation,
                Operation::Embeddings
                    | Operation::EmbedContent
                    | Operation::CohereEmbed
                    | Operation::OllamaEmbed
                    | Operation::Speech
            );
        // What the provider has stated is billed, also where the bound was too low.
        let stated = round_up(self.cost_of(&own_usage(reading), ask, reading).sum);
        let cost = self.cost_of(&usage, ask, reading);
        if ask.deferred || !is_text || !cost.whole {
            return (usage, worst.max(stated));
        }
        let cost = round_up(cost.sum);
        (usage, cost.max(PicoUsd::new(1)).min(worst).max(stated))
    }

    fn complete(&self, ask: &Ask, reading: &Reading, default: u64) -> Usage {
        let mut usage = own_usage(reading);
        if usage.input_tokens == 0 && self.input_bound(ask) > 0 {
            let seen = tokens_of(ask.body_bytes);
            usage.input_tokens = match ask.input {
                Input::Bounded if ask.pictures == 0 => seen,
                // Most of it is out of sight; a quarter of the bound stands for it.
                _ => seen.max(tokens_of(self.input_bound(ask))),
            };
        }
        let ceiling = self.output_bound(ask, default);
        if ceiling > 0 {
            let seen = match ask.operation {
                Operation::Speech => ask
                    .most
                    .characters
                    .saturating_mul(SPEECH_TOKENS_PER_CHARACTER),
                _ => tokens_of(reading.output_bytes),
            };
            let ceiling = ceiling.max(usage.output_tokens);
            usage.output_tokens = usage.output_tokens.max(seen.max(1)).min(ceiling);
        }
        // Searches may not have been made; what is heard, read or ranked is billed in any case.
        usage.max(&Usage {
            web_searches: 0,
            file_searches: 0,
            ..ask.most
        })
    }
}

/// Whether usage that claims to be final can be. What is billed by its length or number has one.
fn says_enough(operation: Operation, usage: &Usage) -> bool {
    match operation {
        Operation::Transcriptions | Operation::Speech | Operation::Ocr | Operation::Rerank => {
            *usage != Usage::default()
        }
        _ => true,
    }
}

fn tokens_of(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}
