//! Corrections to the catalogue: ours, and the operator's.
//!
//! An entry with prices becomes the first that is tried for its model; it replaces all of that
//! model's prices, variants included. An entry without them amends what is there. Later files win
//! over earlier ones. An amendment that amends nothing is an error, since a typing mistake in a
//! price file would otherwise pass in silence; so is a unit that is not known.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::PriceError;
use super::catalogue::{Catalogue, ModelPrices, Multiplier, Prices, ProviderPrices, read_dated};
use super::decimal::Factor;
use super::matching::{Match, fits};
use super::terms::{Validity, When, read_date};
use super::units::Unit;

/// Whose corrections a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// Ours, made for the catalogue that they are compiled in with.
    Project,
    /// Ours, applied to another catalogue, which may not list every model they speak of.
    ProjectElsewhere,
    /// The operator's, whose prices are what was agreed on.
    Operator,
}

/// Another name for a model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alias {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) priced_as: String,
    #[serde(default, rename = "why")]
    _why: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile<'a> {
    format: u64,
    #[serde(default, rename = "note")]
    _note: Option<String>,
    #[serde(borrow, default)]
    overrides: Vec<RawOverride<'a>>,
    #[serde(default)]
    aliases: Vec<Alias>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOverride<'a> {
    provider: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default, rename = "match")]
    condition: Option<Match>,
    #[serde(borrow, default)]
    prices: Option<&'a RawValue>,
    /// No charge for anything but this much per call; zero marks a model free.
    #[serde(borrow, default)]
    price_per_call: Option<&'a RawValue>,
    #[serde(default)]
    same_as: Option<SameAs>,
    #[serde(default)]
    from_date: Option<String>,
    #[serde(default)]
    drop_tiers: bool,
    #[serde(borrow, default)]
    multiplier: Option<RawMultiplier<'a>>,
    #[serde(default)]
    context_window: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    least_audio_seconds: Option<u64>,
    #[serde(default, rename = "why")]
    _why: Option<String>,
}

impl RawOverride<'_> {
    fn named(&self) -> String {
        let model = self.model.as_deref().unwrap_or("(match)");
        format!("{}/{model}", self.provider)
    }
}

/// Another entry whose prices are taken, for deployments with names of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SameAs {
    provider: String,
    model: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMultiplier<'a> {
    when: BTreeMap<String, String>,
    #[serde(borrow)]
    token_prices: &'a RawValue,
}

/// Applies a file of corrections and returns its aliases.
pub(super) fn apply(
    catalogue: &mut Catalogue,
    text: &str,
    author: Author,
) -> Result<Vec<Alias>, PriceError> {
    let file: RawFile<'_> = serde_json::from_str(text)?;
    if file.format != 1 {
        return Err(PriceError::BadOverride("only format 1 is known".to_owned()));
    }
    for raw in file.overrides {
        let sources = [
            raw.prices.is_some(),
            raw.price_per_call.is_some(),
            raw.same_as.is_some(),
        ];
        match sources.iter().filter(|given| **given).count() {
            0 => {
                if !amend(catalogue, &raw)? && author != Author::ProjectElsewhere {
                    let named = raw.named();
                    return Err(PriceError::BadOverride(format!("no model {named}")));
                }
            }
            1 => put_first(catalogue, &raw, author)?,
            _ => {
                return Err(PriceError::BadOverride(format!(
                    "{}: one of prices, price_per_call and same_as, not several",
                    raw.named()
                )));
            }
        }
    }
    Ok(file.aliases)
}

/// Adds an entry before all others of its provider, which need not exist yet.
fn put_first(
    catalogue: &mut Catalogue,
    raw: &RawOverride<'_>,
    author: Author,
) -> Result<(), PriceError> {
    let mut entry = match &raw.same_as {
        Some(same) => ModelPrices {
            id: raw.model.clone().unwrap_or_else(|| "(match)".to_owned()),
            condition: condition(raw)?,
            ..find(catalogue, &same.provider, &same.model)?
                .ok_or_else(|| {
                    PriceError::BadOverride(format!("no model {}/{}", same.provider, same.model))
                })?
                .as_ref()
                .clone()
        },
        None => base_entry(catalogue, raw)?,
    };
    entry.by_operator = author == Author::Operator;
    refine(&mut entry, raw)?;
    let provider: &mut ProviderPrices = catalogue.entry(raw.provider.clone()).or_default();
    provider.models.insert(0, Arc::new(entry));
    Ok(())
}

/// An entry with the override's prices and what is known of the model otherwise.
fn base_entry(catalogue: &Catalogue, raw: &RawOverride<'_>) -> Result<ModelPrices, PriceError> {
    let mut dated = read_new_prices(raw)?;
    let known = match &raw.model {
        Some(model) => find(catalogue, &raw.provider, model)?,
        None => None,
    };
    let same_id = known
        .as_ref()
        .filter(|known| raw.model.as_deref() == Some(known.id.as_str()));
    let condition = match (&raw.condition, same_id) {
        (None, Some(known)) => known.condition.clone(),
        _ => condition(raw)?,
    };
    if let Some(date) = &raw.from_date {
        let [(validity, prices)] = dated.as_slice() else {
            return Err(PriceError::BadOverride(format!(
                "{}: from_date or a list of prices, not both",
                raw.named()
            )));
        };
        debug_assert!(validity.is_always());
        let from = (Validity::from(read_date(date)?), prices.clone());
        let before = known.as_ref().map(|known| known.dated.clone());
        // A model that is new at that date has no price before it.
        dated = before.unwrap_or_else(|| vec![(Validity::default(), Prices::default())]);
        dated.push(from);
    }
    let known = known.as_ref();
    Ok(ModelPrices {
        id: raw.model.clone().unwrap_or_else(|| "(match)".to_owned()),
        condition,
        context_window: known.and_then(|known| known.context_window),
        max_output_tokens: known.and_then(|known| known.max_output_tokens),
        least_audio_ms: known.map_or(0, |known| known.least_audio_ms),
        by_operator: false,
        dated,
        variants: Vec::new(),
        multipliers: Vec::new(),
    })
}

fn read_new_prices(raw: &RawOverride<'_>) -> Result<Vec<(Validity, Prices)>, PriceError> {
    if let Some(price) = raw.price_per_call {
        let thousand = Unit::Request.read(price.get())?.0.saturating_mul(1_000);
        let price = super::decimal::Price(thousand);
        return Ok(vec![(Validity::default(), Prices::per_call(price))]);
    }
    let mut countable = true;
    let dated = read_dated(raw.prices.map_or("{}", RawValue::get), &mut countable)?;
    if countable {
        Ok(dated)
    } else {
        Err(PriceError::BadOverride(format!(
            "{} has a price in an unknown unit",
            raw.named()
        )))
    }
}

fn condition(raw: &RawOverride<'_>) -> Result<Match, PriceError> {
    match (&raw.condition, &raw.model) {
        (Some(condition), _) => Ok(condition.clone()),
        (None, Some(model)) => Ok(Match::Equals(model.clone())),
        (None, None) => Err(PriceError::BadOverride(format!(
            "an entry for {} names neither a model nor a match",
            raw.provider
        ))),
    }
}

/// Changes the entries whose id is the override's model or fits its condition, and says whether
/// there are any.
fn amend(catalogue: &mut Catalogue, raw: &RawOverride<'_>) -> Result<bool, PriceError> {
    let condition = condition(raw)?;
    let mut amended = false;
    if let Some(provider) = catalogue.get_mut(&raw.provider) {
        for model in &mut provider.models {
            if fits(&condition, &model.id)? {
                refine(Arc::make_mut(model), raw)?;
                amended = true;
            }
        }
    }
    Ok(amended)
}

fn refine(entry: &mut ModelPrices, raw: &RawOverride<'_>) -> Result<(), PriceError> {
    if raw.drop_tiers {
        entry.drop_tiers(raw.from_date.as_deref().map(read_date).transpose()?);
    }
    if let Some(multiplier) = &raw.multiplier {
        entry.multipliers.push(Multiplier {
            when: When::new(multiplier.when.clone()),
            factor: Factor::read(multiplier.token_prices.get())?,
        });
    }
    entry.context_window = raw.context_window.or(entry.context_window);
    entry.max_output_tokens = raw.max_output_tokens.or(entry.max_output_tokens);
    if let Some(seconds) = raw.least_audio_seconds {
        entry.least_audio_ms = seconds.saturating_mul(1_000);
    }
    Ok(())
}

/// The entry that a model name means at this point.
fn find(
    catalogue: &Catalogue,
    provider: &str,
    model: &str,
) -> Result<Option<Arc<ModelPrices>>, PriceError> {
    let Some(provider) = catalogue.get(provider) else {
        return Ok(None);
    };
    // An index of all of them takes longer than one search.
    let name = model.to_lowercase();
    for entry in &provider.models {
        if fits(&entry.condition, &name)? {
            return Ok(Some(Arc::clone(entry)));
        }
    }
    Ok(None)
}
