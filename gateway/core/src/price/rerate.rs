//! What a recorded call would have cost under these prices.
//!
//! A record names the counts, the models, the terms and the time, which is all that its cost
//! follows from. Where it does not, the cost stays as it is, with the reason: nothing is guessed.

use super::PriceBook;
use super::settle::bills_as_reported;
use crate::ids::ModelName;
use crate::money::PicoUsd;
use crate::record::Record;
use crate::usage::Usage;

/// What comes of pricing a record again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rerated {
    /// Its counts at these prices.
    Cost(PicoUsd),
    /// Its cost does not follow from its counts, for this reason.
    Kept(&'static str),
}

impl PriceBook {
    /// Prices a record again, at the time of its call. `alias` is the catalogue's name for the
    /// model the client named, where it has another one.
    #[must_use]
    pub fn rerate(&self, record: &Record, alias: Option<&ModelName>) -> Rerated {
        let (subject, ending) = (&record.subject, &record.ending);
        let Some(provider) = subject.price_provider.as_deref() else {
            return Rerated::Kept("not priced by usage");
        };
        let Some(usage) = ending.usage else {
            return Rerated::Kept("no usage");
        };
        if ending.adjusts.is_some() {
            return Rerated::Kept("a correction");
        }
        if ending.reported_cost.is_some() && bills_as_reported(provider) {
            return Rerated::Kept("billed by the provider's own figure");
        }
        let at = subject.started_at;
        let rates = |model: &str| self.rates(provider, model, at);
        let asked = alias.or(subject.request_model.as_ref());
        let answered = ending.response_model.as_deref().and_then(rates);
        let Some(own) = answered.or_else(|| asked.and_then(|model| rates(model.as_str()))) else {
            return Rerated::Kept("no price");
        };
        let mut rest = usage;
        let mut cost = PicoUsd::ZERO;
        for (model, part) in &ending.elsewhere {
            let Some(rates) = rates(model) else {
                return Rerated::Kept("no price");
            };
            let Some(part_cost) = rates.exact_if_priced(part, &ending.terms) else {
                return Rerated::Kept("no price");
            };
            rest = rest.minus(part);
            cost = cost.saturating_add(part_cost);
        }
        if rest != Usage::default() || ending.elsewhere.is_empty() {
            let Some(own_cost) = own.exact_if_priced(&rest, &ending.terms) else {
                return Rerated::Kept("no price");
            };
            cost = cost.saturating_add(own_cost);
        }
        Rerated::Cost(cost)
    }
}
