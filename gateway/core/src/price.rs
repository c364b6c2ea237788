//! What model calls cost.
//!
//! A [`PriceBook`] is made of the embedded catalogue (genai-prices, MIT, see `prices/`), our
//! corrections to it and, if there is one, the operator's file, each winning over the one before.
//! It finds a model's [`Rates`] at a time; those bound a call before it is made and price it
//! afterwards. It does not know budgets, and it never guesses: a model it does not know has no
//! rates, which is not the same as costing nothing.

mod catalogue;
mod decimal;
mod matching;
mod overlay;
mod rates;

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use rates::{MOST, Rates};

use crate::call::Ask;
use crate::money::PicoUsd;
use crate::policy::Operation;
use crate::record::UsageSource;
use crate::time::Timestamp;
use crate::usage::{Metered, Reading, Usage};

const CATALOGUE: &str = include_str!("../prices/genai-prices-0.2.3.json");
const OVERLAY: &str = include_str!("../prices/price_overlay.json");
const MAX_OUTPUT_TOKENS: &str = include_str!("../prices/max_output_tokens.json");

/// Why a price file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not JSON, or not of the expected shape.
    #[error("the price file does not have the expected shape: {0}")]
    BadShape(String),
    /// A price that is not a plain non-negative decimal.
    #[error("{0} is not a price; write a decimal such as \"0.25\"")]
    BadPrice(String),
    /// A condition on model names that is not a valid pattern.
    #[error("{0:?} is not a usable pattern for model names")]
    BadMatch(String),
    /// A date or time that cannot be read.
    #[error("a price holds from a date or between two times of day, not: {0}")]
    BadConstraint(String),
    /// An override that says nothing, contradicts itself or applies to no model.
    #[error("a price override cannot be applied: {0}")]
    BadOverride(String),
}

impl From<serde_json::Error> for PriceError {
    fn from(error: serde_json::Error) -> Self {
        Self::BadShape(error.to_string())
    }
}

/// Every price there is.
///
/// ```
/// # use tollgate_core::{call::Terms, price::PriceBook, usage::Usage};
/// let book = PriceBook::embedded()?;
/// let at = "2026-11-20T12:00:00Z".parse()?;
/// let rates = book.rates("openai", "gpt-4.1", at).expect("a known model");
/// let usage = Usage { input_tokens: 2_348, cached_input_tokens: 2_048, output_tokens: 311, ..Usage::default() };
/// // 300 at $2, 2,048 cached at $0.50 and 311 out at $8 per million.
/// assert_eq!(rates.exact(&usage, &Terms::default()).to_string(), "0.004112");
/// assert!(book.rates("openai", "no-such-model", at).is_none(), "unknown is not free");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PriceBook {
    catalogue: catalogue::Catalogue,
    indexes: HashMap<String, matching::Index>,
    max_output_tokens: HashMap<String, HashMap<String, u64>>,
    version: String,
}

/// What a finished call is settled at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The counts, over all models involved.
    pub usage: Usage,
    /// What they cost.
    pub cost: PicoUsd,
    /// [`UsageSource::Exact`] or [`UsageSource::Estimated`].
    pub source: UsageSource,
}

#[derive(Deserialize)]
struct MaxOutputFile {
    providers: HashMap<String, HashMap<String, u64>>,
}

impl PriceBook {
    /// The prices this version was built with.
    ///
    /// # Errors
    /// [`PriceError`], never in a build whose tests pass.
    pub fn embedded() -> Result<Self, PriceError> {
        let mut catalogue = catalogue::parse(CATALOGUE)?;
        overlay::apply(&mut catalogue, OVERLAY)?;
        let max_output: MaxOutputFile = serde_json::from_str(MAX_OUTPUT_TOKENS)?;
        let mut book = Self {
            catalogue,
            indexes: HashMap::new(),
            max_output_tokens: max_output.providers,
            version: String::new(),
        };
        book.version = version(&[CATALOGUE, OVERLAY, MAX_OUTPUT_TOKENS]);
        book.index()?;
        Ok(book)
    }

    /// These prices with an operator's file on top. It has the shape of `prices/price_overlay.json`
    /// and wins over everything before it.
    ///
    /// # Errors
    /// [`PriceError`] says what is wrong with the file.
    pub fn with_file(mut self, text: &str) -> Result<Self, PriceError> {
        overlay::apply(&mut self.catalogue, text)?;
        self.version = version(&[&self.version, text]);
        self.index()?;
        Ok(self)
    }

    /// A hash over everything the prices were made from. The same version always prices the same.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The prices of a model at a time, or `None` if there are none per token.
    ///
    /// `provider` is its name in the catalogue. Where a provider resells others' models, theirs
    /// are looked up too.
    #[must_use]
    pub fn rates(&self, provider: &str, model: &str, at: Timestamp) -> Option<Rates> {
        let name = model.to_lowercase();
        let (seller, entry) = self.find(provider, &name).or_else(|| {
            let dashed = matching::with_dashed_dates(&name)?;
            self.find(provider, &dashed)
        })?;
        entry.standard(at)?;
        let ceilings = self.max_output_tokens.get(seller);
        let ceiling = ceilings.and_then(|ceilings| {
            ceilings
                .get(&name)
                .or_else(|| ceilings.get(&entry.id))
                .copied()
        });
        Some(Rates {
            model: Arc::clone(entry),
            at,
            resold: seller != provider,
            max_output_tokens: entry.max_output_tokens.or(ceiling),
        })
    }

    /// What a finished call is settled at, or `None` if neither the model that answered nor the
    /// one asked for has a price.
    ///
    /// Reported usage is priced by the model and terms the answer names, else by the request's.
    /// Without final usage it is [`Rates::estimate`]d. Usage of other models is added at their own
    /// prices. Not to be called for an answer with a status other than 2xx, which costs nothing.
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
        let answered = reading
            .response_model
            .as_deref()
            .and_then(|model| self.rates(provider, model, at));
        let (mut usage, mut cost, source) = if let Metered::Exact(mut usage) = reading.metered {
            if ask.operation == Operation::ChatCompletions {
                // Search models search once a call and do not report it.
                usage.web_searches = usage.web_searches.max(ask.most.web_searches);
            }
            let rates = answered.as_ref().or(asked.as_ref())?;
            let cost = rates.exact(&usage, &reading.terms.or(&ask.terms));
            (usage, cost, UsageSource::Exact)
        } else {
            let rates = asked.as_ref().or(answered.as_ref())?;
            let (usage, cost) = rates.estimate(ask, reading, default_max_output);
            (usage, cost, UsageSource::Estimated)
        };
        for (model, extra) in &reading.elsewhere {
            let rates = self.rates(provider, model, at);
            let rates = rates.as_ref().or(answered.as_ref()).or(asked.as_ref())?;
            usage = usage.plus(extra);
            cost = cost.saturating_add(rates.exact(extra, &reading.terms));
        }
        Some(Settlement {
            usage,
            cost,
            source,
        })
    }

    /// The entry for a name and the provider that lists it.
    fn find<'a>(
        &'a self,
        provider: &'a str,
        name: &str,
    ) -> Option<(&'a str, &'a Arc<catalogue::ModelPrices>)> {
        if let Some(entry) = self.indexes.get(provider)?.find(name) {
            return Some((provider, entry));
        }
        let fallbacks = &self.catalogue.get(provider)?.fallbacks;
        fallbacks.iter().find_map(|fallback| {
            let entry = self.indexes.get(fallback)?.find(name)?;
            Some((fallback.as_str(), entry))
        })
    }

    fn index(&mut self) -> Result<(), PriceError> {
        self.indexes.clear();
        for (id, provider) in &self.catalogue {
            self.indexes
                .insert(id.clone(), matching::Index::new(&provider.models)?);
        }
        Ok(())
    }
}

/// Half of a SHA-256 over the parts and their lengths, in hexadecimal.
fn version(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
