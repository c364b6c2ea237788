//! Corrections to the catalogue: ours, and the operator's.
//!
//! An entry with `prices` becomes the first that is tried for its model; it replaces all of that
//! model's prices, variants included. An entry without them amends what is there. Later files win
//! over earlier ones. An amendment that amends nothing is an error, since a typing mistake in a
//! price file would otherwise pass in silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::PriceError;
use super::catalogue::{
    Catalogue, ModelPrices, Multiplier, ProviderPrices, Unit, Validity, read_date, read_dated,
};
use super::decimal::Factor;
use super::matching::{Index, Match, fits};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile<'a> {
    format: u64,
    #[serde(default, rename = "note")]
    _note: Option<String>,
    #[serde(borrow)]
    overrides: Vec<RawOverride<'a>>,
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
    #[serde(default, rename = "why")]
    _why: Option<String>,
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

/// Applies a file of corrections.
pub(super) fn apply(catalogue: &mut Catalogue, text: &str) -> Result<(), PriceError> {
    let file: RawFile<'_> = serde_json::from_str(text)?;
    if file.format != 1 {
        return Err(PriceError::BadOverride("only format 1 is known".to_owned()));
    }
    for raw in file.overrides {
        if raw.prices.is_some() || raw.same_as.is_some() {
            put_first(catalogue, raw)?;
        } else {
            amend(catalogue, &raw)?;
        }
    }
    Ok(())
}

/// Adds an entry before all others of its provider, which need not exist yet.
fn put_first(catalogue: &mut Catalogue, raw: RawOverride<'_>) -> Result<(), PriceError> {
    let named = raw.model.clone().unwrap_or_else(|| "(match)".to_owned());
    let mut entry = match (&raw.prices, &raw.same_as) {
        (Some(_), None) => base_entry(catalogue, &raw)?,
        (None, Some(same)) => ModelPrices {
            id: named.clone(),
            condition: condition(&raw)?,
            ..find(catalogue, &same.provider, &same.model)?
                .ok_or_else(|| {
                    PriceError::BadOverride(format!("no model {}/{}", same.provider, same.model))
                })?
                .as_ref()
                .clone()
        },
        _ => {
            return Err(PriceError::BadOverride(format!(
                "{}/{named}: prices or same_as, not both",
                raw.provider
            )));
        }
    };
    refine(&mut entry, &raw)?;
    let provider: &mut ProviderPrices = catalogue.entry(raw.provider).or_default();
    provider.models.insert(0, Arc::new(entry));
    Ok(())
}

/// An entry with the override's prices and what is known of the model otherwise.
fn base_entry(catalogue: &Catalogue, raw: &RawOverride<'_>) -> Result<ModelPrices, PriceError> {
    let mut dated = read_dated(raw.prices.map_or("{}", RawValue::get))?;
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
    if let (Some(date), [(Validity::Always, prices)]) = (&raw.from_date, dated.as_slice()) {
        let from = (Validity::From(read_date(date)?), prices.clone());
        let before = known.as_ref().map(|known| known.dated.clone());
        dated = before.unwrap_or_default();
        dated.push(from);
    }
    if !dated
        .iter()
        .all(|(_, prices)| prices.contains_key(&Unit::Input))
    {
        dated.clear();
    }
    Ok(ModelPrices {
        id: raw.model.clone().unwrap_or_else(|| "(match)".to_owned()),
        condition,
        context_window: known.as_ref().and_then(|known| known.context_window),
        max_output_tokens: known.as_ref().and_then(|known| known.max_output_tokens),
        dated,
        variants: Vec::new(),
        multipliers: Vec::new(),
    })
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

/// Changes the entries whose id is the override's model or fits its condition.
fn amend(catalogue: &mut Catalogue, raw: &RawOverride<'_>) -> Result<(), PriceError> {
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
    if amended {
        Ok(())
    } else {
        let model = raw.model.as_deref().unwrap_or("(match)");
        Err(PriceError::BadOverride(format!(
            "no model {}/{model}",
            raw.provider
        )))
    }
}

fn refine(entry: &mut ModelPrices, raw: &RawOverride<'_>) -> Result<(), PriceError> {
    if raw.drop_tiers {
        entry.drop_tiers(raw.from_date.as_deref().map(read_date).transpose()?);
    }
    if let Some(multiplier) = &raw.multiplier {
        entry.multipliers.push(Multiplier {
            when: multiplier.when.clone(),
            factor: Factor::read(multiplier.token_prices.get())?,
        });
    }
    entry.context_window = raw.context_window.or(entry.context_window);
    entry.max_output_tokens = raw.max_output_tokens.or(entry.max_output_tokens);
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
    let index = Index::new(&provider.models)?;
    Ok(index.find(&model.to_lowercase()).cloned())
}
