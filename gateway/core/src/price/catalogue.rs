//! The price catalogue as data: providers, models, dated prices and variants.
//!
//! Reads the shape of genai-prices. Units that none of the metered operations can use (pages,
//! pixels, hours of audio) are left out; a model without a price per input token keeps its place
//! but has no prices, so that it is unpriced rather than free.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::civil::{Date, Time};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::PriceError;
use super::decimal::{Factor, Price};
use super::matching::Match;
use crate::time::Timestamp;

/// What is counted and priced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Input,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    InputAudio,
    CachedAudio,
    Output,
    Reasoning,
    OutputAudio,
    WebSearch,
    FileSearch,
    Request,
}

/// Prices by unit. Partial in a variant.
pub(super) type Prices = BTreeMap<Unit, Tiered>;

/// A price that may depend on how many tokens go in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tiered {
    base: Price,
    /// Ascending: above so many input tokens, every token of the call costs this instead.
    tiers: Vec<(u64, Price)>,
}

impl Tiered {
    /// The price for a call with so many input tokens.
    pub(super) fn at(&self, input_tokens: u64) -> Price {
        self.tiers
            .iter()
            .rev()
            .find(|(start, _)| input_tokens > *start)
            .map_or(self.base, |&(_, price)| price)
    }

    /// The highest price for a call with at most so many input tokens.
    pub(super) fn dearest(&self, input_tokens: u64) -> Price {
        self.tiers
            .iter()
            .filter(|(start, _)| input_tokens > *start)
            .map(|&(_, price)| price)
            .fold(self.base, Price::max)
    }

    fn flat(&self) -> Self {
        Self {
            base: self.base,
            tiers: Vec::new(),
        }
    }
}

/// When a price holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    Always,
    From(Date),
    /// Each day from one time to the other (UTC), which may lie past midnight.
    Daily(Time, Time),
}

impl Validity {
    fn covers(self, at: Timestamp) -> bool {
        let now = at.civil();
        match self {
            Self::Always => true,
            Self::From(date) => now.date() >= date,
            Self::Daily(start, end) if end < start => now.time() >= start || now.time() < end,
            Self::Daily(start, end) => start <= now.time() && now.time() < end,
        }
    }
}

/// Other prices under certain terms.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    /// Terms that must all hold, such as `service_tier` = `flex`.
    pub(super) when: BTreeMap<String, String>,
    validity: Validity,
    prices: Prices,
}

/// A factor on all token prices under certain terms.
#[derive(Debug, Clone)]
pub(super) struct Multiplier {
    pub(super) when: BTreeMap<String, String>,
    pub(super) factor: Factor,
}

/// One entry of the catalogue.
#[derive(Debug, Clone)]
pub(super) struct ModelPrices {
    pub(super) id: String,
    pub(super) condition: Match,
    /// The most tokens that fit in, where it is known.
    pub(super) context_window: Option<u64>,
    /// The most tokens that come out, where an operator has stated it.
    pub(super) max_output_tokens: Option<u64>,
    /// The last that holds counts; if none does, the first. Empty if the model has no price per
    /// token.
    pub(super) dated: Vec<(Validity, Prices)>,
    /// For each unit, the first that holds counts.
    pub(super) variants: Vec<Variant>,
    pub(super) multipliers: Vec<Multiplier>,
}

impl ModelPrices {
    /// The prices at a time, without variants.
    pub(super) fn standard(&self, at: Timestamp) -> Option<&Prices> {
        self.dated
            .iter()
            .rev()
            .find(|(validity, _)| validity.covers(at))
            .or(self.dated.first())
            .map(|(_, prices)| prices)
    }

    /// The prices at a time under terms, of which `holds` tells.
    pub(super) fn under(
        &self,
        at: Timestamp,
        holds: impl Fn(&BTreeMap<String, String>) -> bool,
    ) -> Prices {
        let mut prices = Prices::new();
        for variant in &self.variants {
            if variant.validity.covers(at) && holds(&variant.when) {
                for (unit, price) in &variant.prices {
                    prices.entry(*unit).or_insert_with(|| price.clone());
                }
            }
        }
        for (unit, price) in self.standard(at).into_iter().flatten() {
            prices.entry(*unit).or_insert_with(|| price.clone());
        }
        prices
    }

    /// Takes context tiers away from a date on; from ever, without one.
    pub(super) fn drop_tiers(&mut self, from: Option<Date>) {
        let flat = |prices: &Prices| -> Prices {
            prices
                .iter()
                .map(|(unit, price)| (*unit, price.flat()))
                .collect()
        };
        match (from, self.dated.last()) {
            (Some(date), Some((_, prices))) => {
                let entry = (Validity::From(date), flat(prices));
                self.dated.push(entry);
            }
            _ => {
                for (_, prices) in &mut self.dated {
                    *prices = flat(prices);
                }
            }
        }
        for variant in &mut self.variants {
            variant.prices = flat(&variant.prices);
        }
    }
}

/// One provider's part of the catalogue.
#[derive(Debug, Clone, Default)]
pub(super) struct ProviderPrices {
    pub(super) models: Vec<Arc<ModelPrices>>,
    /// Providers whose models this one resells, tried in order.
    pub(super) fallbacks: Vec<String>,
}

/// The catalogue: providers by id.
pub(super) type Catalogue = HashMap<String, ProviderPrices>;

#[derive(Deserialize)]
struct RawCatalogue<'a> {
    #[serde(borrow)]
    providers: Vec<RawProvider<'a>>,
}

#[derive(Deserialize)]
struct RawProvider<'a> {
    id: String,
    #[serde(default)]
    fallback_model_providers: Vec<String>,
    #[serde(borrow)]
    models: Vec<RawModel<'a>>,
}

#[derive(Deserialize)]
struct RawModel<'a> {
    id: String,
    #[serde(rename = "match")]
    condition: Match,
    #[serde(default)]
    context_window: Option<u64>,
    #[serde(borrow)]
    prices: &'a RawValue,
    #[serde(borrow, default)]
    price_variants: Vec<RawVariant<'a>>,
}

#[derive(Deserialize)]
struct RawVariant<'a> {
    when: BTreeMap<String, String>,
    #[serde(borrow, default)]
    constraint: Option<RawConstraint<'a>>,
    #[serde(borrow)]
    prices: &'a RawValue,
}

#[derive(Deserialize)]
struct RawDated<'a> {
    #[serde(borrow, default)]
    constraint: Option<RawConstraint<'a>>,
    #[serde(borrow)]
    prices: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConstraint<'a> {
    #[serde(borrow)]
    start_date: Option<&'a str>,
    #[serde(borrow)]
    start_time: Option<&'a str>,
    #[serde(borrow)]
    end_time: Option<&'a str>,
}

#[derive(Deserialize)]
struct RawTiered<'a> {
    #[serde(borrow)]
    base: &'a RawValue,
    #[serde(borrow)]
    tiers: Vec<RawTier<'a>>,
}

#[derive(Deserialize)]
struct RawTier<'a> {
    start: u64,
    #[serde(borrow)]
    price: &'a RawValue,
}

/// Reads a catalogue.
pub(super) fn parse(text: &str) -> Result<Catalogue, PriceError> {
    let raw: RawCatalogue<'_> = serde_json::from_str(text)?;
    let mut catalogue = Catalogue::new();
    for provider in raw.providers {
        let mut models = Vec::with_capacity(provider.models.len());
        for model in provider.models {
            models.push(Arc::new(read_model(model)?));
        }
        let prices = ProviderPrices {
            models,
            fallbacks: provider.fallback_model_providers,
        };
        catalogue.insert(provider.id, prices);
    }
    Ok(catalogue)
}

fn read_model(raw: RawModel<'_>) -> Result<ModelPrices, PriceError> {
    let mut dated = read_dated(raw.prices.get())?;
    let priced = |(_, prices): &(Validity, Prices)| prices.contains_key(&Unit::Input);
    if !dated.iter().all(priced) {
        dated.clear();
    }
    let mut variants = Vec::with_capacity(raw.price_variants.len());
    for variant in raw.price_variants {
        variants.push(Variant {
            when: variant.when,
            validity: validity(variant.constraint)?,
            prices: read_prices(variant.prices.get())?,
        });
    }
    Ok(ModelPrices {
        id: raw.id,
        condition: raw.condition,
        context_window: raw.context_window,
        max_output_tokens: None,
        dated,
        variants,
        multipliers: Vec::new(),
    })
}

/// Reads prices, or a list of prices with constraints.
pub(super) fn read_dated(json: &str) -> Result<Vec<(Validity, Prices)>, PriceError> {
    if !json.starts_with('[') {
        return Ok(vec![(Validity::Always, read_prices(json)?)]);
    }
    let raw: Vec<RawDated<'_>> = serde_json::from_str(json)?;
    raw.into_iter()
        .map(|entry| {
            Ok((
                validity(entry.constraint)?,
                read_prices(entry.prices.get())?,
            ))
        })
        .collect()
}

fn read_prices(json: &str) -> Result<Prices, PriceError> {
    let raw: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json)?;
    let mut prices = Prices::new();
    for (key, value) in raw {
        if let Some((unit, read)) = unit(&key) {
            prices.insert(unit, read_tiered(value.get(), read)?);
        }
    }
    Ok(prices)
}

type ReadPrice = fn(&str) -> Result<Price, PriceError>;

/// The unit behind a price key, and how its price is written.
fn unit(key: &str) -> Option<(Unit, ReadPrice)> {
    let unit = match key {
        "input_mtok" => Unit::Input,
        "cache_read_mtok" => Unit::CacheRead,
        "cache_write_mtok" => Unit::CacheWrite,
        "cache_write_1h_mtok" => Unit::CacheWrite1h,
        "input_audio_mtok" => Unit::InputAudio,
        "cache_audio_read_mtok" => Unit::CachedAudio,
        "output_mtok" => Unit::Output,
        "output_reasoning_mtok" => Unit::Reasoning,
        "output_audio_mtok" => Unit::OutputAudio,
        "web_searches_kcount" => Unit::WebSearch,
        "storage_searches_kcount" => Unit::FileSearch,
        "requests_kcount" => Unit::Request,
        _ => return None,
    };
    let read: ReadPrice = if key.ends_with("_kcount") {
        Price::per_thousand
    } else {
        Price::per_million
    };
    Some((unit, read))
}

fn read_tiered(json: &str, read: ReadPrice) -> Result<Tiered, PriceError> {
    if !json.starts_with('{') {
        return Ok(Tiered {
            base: read(json)?,
            tiers: Vec::new(),
        });
    }
    let raw: RawTiered<'_> = serde_json::from_str(json)?;
    let mut tiers = Vec::with_capacity(raw.tiers.len());
    for tier in raw.tiers {
        tiers.push((tier.start, read(tier.price.get())?));
    }
    tiers.sort_by_key(|&(start, _)| start);
    Ok(Tiered {
        base: read(raw.base.get())?,
        tiers,
    })
}

fn validity(raw: Option<RawConstraint<'_>>) -> Result<Validity, PriceError> {
    let time = |text: &str| {
        text.strip_suffix("+00:00")
            .or(text.strip_suffix('Z'))
            .unwrap_or(text)
            .parse::<Time>()
            .map_err(|_bad: jiff::Error| PriceError::BadConstraint(text.to_owned()))
    };
    match raw {
        None => Ok(Validity::Always),
        Some(RawConstraint {
            start_date: Some(date),
            start_time: None,
            end_time: None,
        }) => Ok(Validity::From(read_date(date)?)),
        Some(RawConstraint {
            start_date: None,
            start_time: Some(start),
            end_time: Some(end),
        }) => Ok(Validity::Daily(time(start)?, time(end)?)),
        Some(_) => Err(PriceError::BadConstraint(
            "neither a start date nor a start and an end time".to_owned(),
        )),
    }
}

/// Reads a calendar date.
pub(super) fn read_date(text: &str) -> Result<Date, PriceError> {
    text.parse()
        .map_err(|_bad: jiff::Error| PriceError::BadConstraint(text.to_owned()))
}
