//! What model calls cost.
//!
//! A [`PriceBook`] is made of the embedded catalogue (genai-prices, MIT, see `prices/`), our
//! corrections to it and, if there is one, the operator's file, each winning over the one before.
//! It finds a model's [`Rates`] at a time; those bound a call before it is made and price it
//! afterwards. It does not know budgets, and it never guesses: a model it does not know has no
//! rates, which is not the same as costing nothing.

mod bound;
mod catalogue;
mod decimal;
mod embedded;
mod list;
mod matching;
mod overlay;
mod rates;
mod rerate;
mod settle;
mod terms;
mod units;

use std::sync::Arc;

use foldhash::HashMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use bound::MOST;
pub use embedded::CATALOGUE_AS_OF;
pub use list::{Change, Listed, ListedPrice, ListedVariant};
pub use rates::Rates;
pub use rerate::Rerated;
pub use settle::Settlement;

use crate::shared_str::SharedStr;
use crate::time::Timestamp;
use overlay::{Alias, Author};

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
    #[error("a price holds from a date, between two times of day, on some weekdays, not: {0}")]
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
/// # use tollgate_core::{call::Terms, policy::Operation, price::PriceBook, usage::Usage};
/// let book = PriceBook::embedded()?;
/// let at = "2026-11-20T12:00:00Z".parse()?;
/// let rates = book.rates("openai", "gpt-4.1", at).expect("a known model");
/// let usage = Usage { input_tokens: 2_348, cached_input_tokens: 2_048, output_tokens: 311, ..Usage::default() };
/// // 300 at $2, 2,048 cached at $0.50 and 311 out at $8 per million.
/// assert_eq!(rates.exact(&usage, &Terms::default()).to_string(), "0.004112");
/// assert!(book.rates("openai", "no-such-model", at).is_none(), "unknown is not free");
///
/// let whisper = book.rates("openai", "whisper-1", at).expect("a known model");
/// assert!(whisper.covers(Operation::Transcriptions));
/// assert!(!whisper.covers(Operation::ChatCompletions), "it has a price per hour, not per token");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PriceBook {
    catalogue: catalogue::Catalogue,
    indexes: HashMap<String, matching::Index>,
    /// By provider and the lower-case name that stands for another.
    aliases: HashMap<String, HashMap<String, String>>,
    max_output_tokens: HashMap<String, HashMap<String, u64>>,
    version: SharedStr,
    exported: Option<Timestamp>,
}

/// What a catalogue says of itself.
#[derive(Deserialize, Default)]
struct About {
    exported: Option<String>,
}

impl About {
    /// The day it was exported, if it says.
    fn exported(json: &str) -> Option<Timestamp> {
        let about: Self = serde_json::from_str(json).unwrap_or_default();
        format!("{}T00:00:00Z", about.exported?).parse().ok()
    }
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
        Self::assemble(&embedded::catalogue()?, Author::Project)
    }

    /// The prices of another catalogue in the shape of genai-prices, below our corrections. Those
    /// that speak of models it does not list are left out.
    ///
    /// # Errors
    /// [`PriceError`] says what is wrong with the catalogue.
    pub fn from_catalogue(json: &str) -> Result<Self, PriceError> {
        Self::assemble(json, Author::ProjectElsewhere)
    }

    fn assemble(json: &str, author: Author) -> Result<Self, PriceError> {
        let max_output: MaxOutputFile = serde_json::from_str(embedded::MAX_OUTPUT_TOKENS)?;
        let mut book = Self {
            catalogue: catalogue::parse(json)?,
            indexes: HashMap::default(),
            aliases: HashMap::default(),
            max_output_tokens: max_output.providers,
            version: version(&[json, embedded::MAX_OUTPUT_TOKENS]).into(),
            exported: About::exported(json),
        };
        book.apply(embedded::OVERLAY, author)?;
        Ok(book)
    }

    /// These prices with an operator's file on top. It has the shape of `prices/price_overlay.json`
    /// and wins over everything before it.
    ///
    /// # Errors
    /// [`PriceError`] says what is wrong with the file.
    pub fn with_file(mut self, text: &str) -> Result<Self, PriceError> {
        self.apply(text, Author::Operator)?;
        Ok(self)
    }

    fn apply(&mut self, text: &str, author: Author) -> Result<(), PriceError> {
        let aliases = overlay::apply(&mut self.catalogue, text, author)?;
        self.version = version(&[&self.version, text]).into();
        self.indexes.clear();
        for (id, provider) in &self.catalogue {
            let index = matching::Index::new(&provider.models)?;
            self.indexes.insert(id.clone(), index);
        }
        for alias in aliases {
            self.add_alias(alias)?;
        }
        Ok(())
    }

    fn add_alias(&mut self, alias: Alias) -> Result<(), PriceError> {
        if self.look_up(&alias.provider, &alias.priced_as).is_none() {
            return Err(PriceError::BadOverride(format!(
                "no model {}/{}",
                alias.provider, alias.priced_as
            )));
        }
        let aliases = self.aliases.entry(alias.provider).or_default();
        aliases.insert(alias.model.to_lowercase(), alias.priced_as);
        Ok(())
    }

    /// The day its catalogue was exported, where it says so.
    #[must_use]
    pub const fn exported(&self) -> Option<Timestamp> {
        self.exported
    }

    /// A hash over everything the prices were made from. The same version always prices the same.
    #[must_use]
    pub const fn version(&self) -> &SharedStr {
        &self.version
    }

    /// The prices of a model at a time, or `None` if there are none. Whether they say what an
    /// operation costs is for [`Rates::covers`] to tell.
    ///
    /// `provider` is its name in the catalogue. Where a provider resells others' models, theirs
    /// are looked up too.
    #[must_use]
    pub fn rates(&self, provider: &str, model: &str, at: Timestamp) -> Option<Rates> {
        let aliases = self.aliases.get(provider).filter(|map| !map.is_empty());
        let alias = aliases.and_then(|aliases| aliases.get(&*matching::lower(model)));
        let found = self.look_up(provider, alias.map_or(model, String::as_str))?;
        let now = at.civil();
        let standard = found.entry.standard(now)?;
        let resold = found.seller != provider;
        Some(Rates {
            model: Arc::clone(found.entry),
            standard,
            variants: if resold {
                0
            } else {
                found.entry.variants_at(now)
            },
            resold,
            max_output_tokens: found.max_output_tokens,
        })
    }

    fn look_up<'a>(&'a self, provider: &'a str, model: &str) -> Option<Found<'a>> {
        let name = matching::lower(model);
        let other_names = || matching::other_names(&name);
        let (seller, entry) = self.find(provider, &name).or_else(|| {
            other_names()
                .into_iter()
                .find_map(|name| self.find(provider, &name))
        })?;
        let ceilings = self.max_output_tokens.get(seller);
        let ceiling = ceilings.and_then(|ceilings| {
            ceilings
                .get(&*name)
                .or_else(|| ceilings.get(&entry.id))
                .copied()
        });
        Some(Found {
            seller,
            entry,
            max_output_tokens: entry.max_output_tokens.or(ceiling),
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
}

/// What a name means.
struct Found<'a> {
    /// The provider that lists the entry.
    seller: &'a str,
    entry: &'a Arc<catalogue::ModelPrices>,
    max_output_tokens: Option<u64>,
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
