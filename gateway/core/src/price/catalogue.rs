//! The price catalogue as data: providers, models, dated prices and variants.
//!
//! Reads the shape of genai-prices. A model priced in a unit that is not known here has no prices
//! at all: what such a model bills could not be counted in full, and unpriced is not free.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use jiff::civil::{Date, DateTime};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::PriceError;
use super::decimal::{Factor, Price};
use super::matching::Match;
use super::terms::{RawConstraint, Validity, When};
use super::units::Unit;

/// Prices by unit. Partial in a variant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prices {
    prices: Vec<(Unit, Tiered)>,
    /// For each unit, how many prices stand before its own and that one; zero if it has none.
    places: [u8; Unit::COUNT],
    /// The same of the price that a unit is charged at.
    charged: [u8; Unit::COUNT],
}

impl Prices {
    /// The first price of a unit counts.
    fn new(prices: Vec<(Unit, Tiered)>) -> Self {
        let mut places = [0; Unit::COUNT];
        for (place, (unit, _)) in (1..).zip(&prices) {
            if let Some(first @ 0) = places.get_mut(*unit as usize) {
                *first = place;
            }
        }
        let mut charged = places;
        for unit in Unit::all() {
            let place_of = |unit: &Unit| places.get(*unit as usize).filter(|place| **place > 0);
            let place = unit.chain().iter().find_map(place_of);
            if let (Some(charged), Some(place)) = (charged.get_mut(unit as usize), place) {
                *charged = *place;
            }
        }
        Self {
            prices,
            places,
            charged,
        }
    }

    pub(super) fn get(&self, unit: Unit) -> Option<&Tiered> {
        self.at(self.places.get(unit as usize)?)
    }

    /// The price that a unit is charged at: the first that there is of its chain.
    pub(super) fn charged(&self, unit: Unit) -> Option<&Tiered> {
        self.at(self.charged.get(unit as usize)?)
    }

    fn at(&self, place: &u8) -> Option<&Tiered> {
        let before = usize::from(place.checked_sub(1)?);
        self.prices.get(before).map(|(_, price)| price)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prices.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Unit, Tiered)> {
        self.prices.iter()
    }

    /// No charge for anything, but for this much per call.
    pub(super) fn per_call(price: Price) -> Self {
        let roots = Unit::ROOTS.iter().map(|&unit| {
            let base = if unit == Unit::Request {
                price
            } else {
                Price(0)
            };
            (unit, Tiered::flat(base))
        });
        Self::new(roots.collect())
    }

    fn without_tiers(&self) -> Self {
        let flat = |(unit, price): &(Unit, Tiered)| (*unit, Tiered::flat(price.base));
        Self::new(self.prices.iter().map(flat).collect())
    }
}

/// A price that may depend on how many tokens go in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tiered {
    pub(super) base: Price,
    /// Ascending: above so many input tokens, every token of the call costs this instead.
    pub(super) tiers: Vec<(u64, Price)>,
}

impl Tiered {
    const fn flat(base: Price) -> Self {
        Self {
            base,
            tiers: Vec::new(),
        }
    }

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
}

/// Other prices under certain terms.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub(super) when: When,
    pub(super) validity: Validity,
    pub(super) prices: Prices,
}

/// A factor on all token prices under certain terms.
#[derive(Debug, Clone)]
pub(super) struct Multiplier {
    pub(super) when: When,
    pub(super) factor: Factor,
}

/// The most variants one model may have: as many as there are bits in a set of them.
const MAX_VARIANTS: usize = 64;

/// One entry of the catalogue.
#[derive(Debug, Clone)]
pub(super) struct ModelPrices {
    pub(super) id: String,
    pub(super) condition: Match,
    /// The most tokens that fit in, where it is known.
    pub(super) context_window: Option<u64>,
    /// The most tokens that come out, where a file of corrections states it.
    pub(super) max_output_tokens: Option<u64>,
    /// Audio shorter than this is billed as this long.
    pub(super) least_audio_ms: u64,
    /// Whether an operator set these prices for this very name.
    pub(super) by_operator: bool,
    /// The last that holds counts; if none does, the first. Empty if the model has no prices.
    pub(super) dated: Vec<(Validity, Prices)>,
    /// For each unit, the first that holds counts.
    pub(super) variants: Vec<Variant>,
    pub(super) multipliers: Vec<Multiplier>,
}

impl ModelPrices {
    /// The position of the prices at an instant, without variants; `None` if there are none.
    pub(super) fn standard(&self, now: DateTime) -> Option<usize> {
        let holds = |(validity, _): &(Validity, Prices)| validity.covers(now);
        let position = self.dated.iter().rposition(holds).unwrap_or(0);
        let (_, prices) = self.dated.get(position)?;
        (!prices.is_empty()).then_some(position)
    }

    /// The variants that may hold at an instant, as a set of bits.
    pub(super) fn variants_at(&self, now: DateTime) -> u64 {
        let positions = (0_u32..).zip(&self.variants);
        positions
            .filter(|(_, variant)| variant.validity.covers(now))
            .fold(0, |set, (position, _)| set | bit(position))
    }

    /// Takes context tiers away from a date on; from ever, without one.
    pub(super) fn drop_tiers(&mut self, from: Option<Date>) {
        match (from, self.dated.last()) {
            (Some(date), Some((_, prices))) => {
                let entry = (Validity::from(date), prices.without_tiers());
                self.dated.push(entry);
            }
            _ => {
                for (_, prices) in &mut self.dated {
                    *prices = prices.without_tiers();
                }
            }
        }
        for variant in &mut self.variants {
            variant.prices = variant.prices.without_tiers();
        }
    }
}

/// The set that holds one variant.
pub(super) fn bit(position: u32) -> u64 {
    1_u64.checked_shl(position).unwrap_or(0)
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

/// Reads a catalogue: an object with a list of providers, or that list alone.
pub(super) fn parse(text: &str) -> Result<Catalogue, PriceError> {
    let providers = if text.trim_ascii_start().starts_with('[') {
        serde_json::from_str(text)?
    } else {
        serde_json::from_str::<RawCatalogue<'_>>(text)?.providers
    };
    let mut catalogue = Catalogue::default();
    for provider in providers {
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
    if raw.price_variants.len() > MAX_VARIANTS {
        return Err(PriceError::BadShape(format!(
            "{} has more than {MAX_VARIANTS} variants",
            raw.id
        )));
    }
    let mut countable = true;
    let mut dated = read_dated(raw.prices.get(), &mut countable)?;
    let mut variants = Vec::with_capacity(raw.price_variants.len());
    for variant in raw.price_variants {
        variants.push(Variant {
            when: When::new(variant.when),
            validity: read_constraint(variant.constraint)?,
            prices: read_prices(variant.prices.get(), &mut countable)?,
        });
    }
    if !countable {
        dated.clear();
    }
    Ok(ModelPrices {
        id: raw.id,
        condition: raw.condition,
        context_window: raw.context_window,
        max_output_tokens: None,
        least_audio_ms: 0,
        by_operator: false,
        dated,
        variants,
        multipliers: Vec::new(),
    })
}

/// Reads prices, or a list of prices with constraints. `countable` turns false if one of them is
/// in a unit that is not known here.
pub(super) fn read_dated(
    json: &str,
    countable: &mut bool,
) -> Result<Vec<(Validity, Prices)>, PriceError> {
    if !json.starts_with('[') {
        return Ok(vec![(Validity::default(), read_prices(json, countable)?)]);
    }
    let raw: Vec<RawDated<'_>> = serde_json::from_str(json)?;
    let mut dated = Vec::with_capacity(raw.len());
    for entry in raw {
        let prices = read_prices(entry.prices.get(), countable)?;
        dated.push((read_constraint(entry.constraint)?, prices));
    }
    Ok(dated)
}

fn read_constraint(raw: Option<RawConstraint<'_>>) -> Result<Validity, PriceError> {
    raw.map_or(Ok(Validity::default()), RawConstraint::read)
}

fn read_prices(json: &str, countable: &mut bool) -> Result<Prices, PriceError> {
    let raw: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json)?;
    let mut prices = Vec::with_capacity(raw.len());
    for (key, value) in raw {
        match Unit::of_key(&key) {
            Some(unit) => prices.push((unit, read_tiered(value.get(), unit)?)),
            None => *countable = false,
        }
    }
    Ok(Prices::new(prices))
}

fn read_tiered(json: &str, unit: Unit) -> Result<Tiered, PriceError> {
    if !json.starts_with('{') {
        return Ok(Tiered::flat(unit.read(json)?));
    }
    let raw: RawTiered<'_> = serde_json::from_str(json)?;
    let mut tiers = Vec::with_capacity(raw.tiers.len());
    for tier in raw.tiers {
        tiers.push((tier.start, unit.read(tier.price.get())?));
    }
    tiers.sort_by_key(|&(start, _)| start);
    Ok(Tiered {
        base: unit.read(raw.base.get())?,
        tiers,
    })
}
