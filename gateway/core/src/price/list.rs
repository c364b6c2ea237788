//! Prices as people read them: what there is, and how two books differ.
//!
//! Every figure is the exact decimal text that the price was or could have been written as.

use std::collections::BTreeMap;

use serde::Serialize;

use super::PriceBook;
use super::catalogue::{ModelPrices, Prices};
use super::decimal::{Price, text};
use super::units::Unit;
use crate::time::Timestamp;

/// By how many times a price may move before it is taken for a mistake.
const SUSPICIOUS_FACTOR: i128 = 5;

/// A model and what it costs at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The provider's name in the catalogue.
    pub provider: String,
    /// The catalogue's name for the model.
    pub model: String,
    /// The most tokens that go in, where it is known.
    pub context_window: Option<u64>,
    /// The most tokens that come out, where it is known.
    pub max_output_tokens: Option<u64>,
    /// The date from which these prices hold, where they have one.
    pub valid_from: Option<String>,
    /// The standard prices. Empty if the model has none.
    pub prices: Vec<ListedPrice>,
    /// What is different under certain terms.
    pub variants: Vec<ListedVariant>,
}

/// The price of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedPrice {
    /// The catalogue's name for it, such as `input_mtok`.
    pub unit: &'static str,
    /// US dollars.
    pub usd: String,
    /// US dollars for calls with more input tokens than this.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<(u64, String)>,
}

/// Prices under certain terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedVariant {
    /// Terms that must all hold, such as `service_tier` = `flex`.
    pub when: BTreeMap<String, String>,
    /// The prices that differ.
    pub prices: Vec<ListedPrice>,
}

/// A price that is not the same in two books.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The provider's name in the catalogue.
    pub provider: String,
    /// The catalogue's name for the model.
    pub model: String,
    /// The unit, with the terms and the context tier that the price is for, if any.
    pub unit: String,
    /// US dollars before; `None` if there was no price.
    pub before: Option<String>,
    /// US dollars after; `None` if there is no price any more.
    pub after: Option<String>,
    /// Whether it moved to more than five times as much, or to less than a fifth, or to or from
    /// nothing.
    pub suspicious: bool,
}

impl Change {
    /// Whether there is no price any more.
    #[must_use]
    pub fn vanished(&self) -> bool {
        self.after.is_none()
    }
}

impl PriceBook {
    /// Every model with its prices at a time, by provider and name. An entry that an earlier one
    /// of the same name hides is left out.
    #[must_use]
    pub fn list(&self, at: Timestamp) -> Vec<Listed> {
        let mut listed = BTreeMap::new();
        for (provider, entries) in &self.catalogue {
            let ceilings = self.max_output_tokens.get(provider);
            for model in &entries.models {
                let ceiling = ceilings.and_then(|ceilings| ceilings.get(&model.id).copied());
                listed
                    .entry((provider, &model.id))
                    .or_insert_with(|| list_model(provider, model, ceiling, at));
            }
        }
        listed.into_values().collect()
    }

    /// What `newer` prices otherwise than this book at a time.
    #[must_use]
    pub fn changes(&self, newer: &Self, at: Timestamp) -> Vec<Change> {
        let (before, after) = (self.flat(at), newer.flat(at));
        let mut keys: Vec<_> = before.keys().chain(after.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let changes = keys.into_iter().filter_map(|key| {
            let (old, new) = (before.get(key), after.get(key));
            if old == new {
                return None;
            }
            let (provider, model, unit) = key.clone();
            Some(Change {
                provider,
                model,
                unit,
                before: old.map(|&pico| text(pico)),
                after: new.map(|&pico| text(pico)),
                suspicious: old
                    .zip(new)
                    .is_some_and(|(&old, &new)| is_suspicious(old, new)),
            })
        });
        changes.collect()
    }

    /// Every price in pico-US-dollars by provider, model and what it is for.
    fn flat(&self, at: Timestamp) -> BTreeMap<(String, String, String), i128> {
        let now = at.civil();
        let mut flat = BTreeMap::new();
        for (provider, entries) in &self.catalogue {
            let mut seen = std::collections::HashSet::new();
            for model in entries.models.iter().filter(|model| seen.insert(&model.id)) {
                let mut add = |terms: &str, prices: &Prices| {
                    for (unit, price) in prices.iter() {
                        let mut put = |tier: String, price: Price| {
                            let what = format!("{}{tier}{terms}", unit.key());
                            flat.entry((provider.clone(), model.id.clone(), what))
                                .or_insert(unit.written(price));
                        };
                        put(String::new(), price.base);
                        for (start, price) in &price.tiers {
                            put(format!(" above {start}"), *price);
                        }
                    }
                };
                if let Some((_, prices)) = model.standard(now).and_then(|at| model.dated.get(at)) {
                    add("", prices);
                }
                for variant in &model.variants {
                    if variant.validity.covers(now) {
                        let terms = variant.when.text.iter();
                        let terms: Vec<_> = terms.map(|(k, v)| format!("{k}={v}")).collect();
                        add(&format!(" with {}", terms.join(", ")), &variant.prices);
                    }
                }
            }
        }
        flat
    }
}

fn is_suspicious(old: i128, new: i128) -> bool {
    let (low, high) = (old.min(new), old.max(new));
    low.saturating_mul(SUSPICIOUS_FACTOR) < high
}

fn list_model(provider: &str, model: &ModelPrices, ceiling: Option<u64>, at: Timestamp) -> Listed {
    let now = at.civil();
    let standard = model.standard(now).and_then(|at| model.dated.get(at));
    let variants = model.variants.iter();
    Listed {
        provider: provider.to_owned(),
        model: model.id.clone(),
        context_window: model.context_window,
        max_output_tokens: model.max_output_tokens.or(ceiling),
        valid_from: standard
            .and_then(|(validity, _)| validity.from)
            .map(|date| date.to_string()),
        prices: standard.map_or_else(Vec::new, |(_, prices)| list_prices(prices)),
        variants: variants
            .filter(|variant| variant.validity.covers(now) && !variant.prices.is_empty())
            .map(|variant| ListedVariant {
                when: variant.when.text.clone(),
                prices: list_prices(&variant.prices),
            })
            .collect(),
    }
}

fn list_prices(prices: &Prices) -> Vec<ListedPrice> {
    let written = |unit: Unit, price: Price| text(unit.written(price));
    prices
        .iter()
        .map(|(unit, price)| ListedPrice {
            unit: unit.key(),
            usd: written(*unit, price.base),
            tiers: price
                .tiers
                .iter()
                .map(|&(start, price)| (start, written(*unit, price)))
                .collect(),
        })
        .collect()
}
