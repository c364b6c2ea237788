//! A provider's own export of what was used, against our records: per key, UTC day and model.
//!
//! Folds records one at a time, so memory is for days, keys and models only, then compares and
//! explains. What a record says counts as we counted it: a call belongs to the day it began on. Where a
//! provider may count otherwise, the difference that this can make is computed, and a difference
//! within it is explained; anything else is left over and named. Knows no files.
//!
//! Worst case: usage outside the gateway is hidden by explanations that leave room for it. So each
//! says how much room it leaves, and an estimate leaves no more than was reserved for its call.

mod amounts;
mod compare;
mod csv;
mod export;
mod print;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Serialize;

use crate::ids::{HandleName, ProviderName, TenantId};
use crate::money::PicoUsd;
use crate::record::{Outcome, Record, UsageSource};
use crate::usage::Usage;

pub use compare::{Compared, Finding, Reconciliation, Tolerance, Verdict, compare};
pub use export::{Export, ExportFault, Exporter, read};
pub use print::{json, table};

/// Tokens, requests and money.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Requests.
    pub requests: i128,
    /// Tokens in, cached ones included.
    pub input_tokens: i128,
    /// Of these, read from a cache.
    pub cached_tokens: i128,
    /// Tokens out.
    pub output_tokens: i128,
    /// What it cost.
    pub cost_usd: PicoUsd,
}

impl Counts {
    fn of(requests: i128, usage: &Usage, cost_usd: PicoUsd) -> Self {
        Self {
            requests,
            input_tokens: usage.input_tokens.into(),
            cached_tokens: usage.cached_input_tokens.into(),
            output_tokens: usage.output_tokens.into(),
            cost_usd,
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_usd = self.cost_usd.saturating_add(other.cost_usd);
    }
}

/// Some of the calls of a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Part {
    calls: u64,
    counts: Counts,
    /// What was reserved for them.
    reserved: PicoUsd,
}

impl Part {
    fn add(&mut self, counts: &Counts, reserved: PicoUsd) {
        self.calls = self.calls.saturating_add(1);
        self.counts.add(counts);
        self.reserved = self.reserved.saturating_add(reserved);
    }

    fn merge(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.counts.add(&other.counts);
        self.reserved = self.reserved.saturating_add(other.reserved);
    }
}

/// What we have on record of one key, day and model.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Ours {
    all: Counts,
    /// Calls whose usage is an estimate, or unknown since the gateway died.
    estimated: Part,
    /// Those of them of which no token is counted.
    uncounted: u64,
    /// Work that is made later: charged when it starts, corrected when its results are fetched.
    deferred: Part,
    /// Calls that began on this day and ended on a later one.
    out: Part,
    /// Calls that ended on this day and began on an earlier one; not among `all`.
    into: Part,
    /// What the provider's own answers said that calls cost.
    reported: Part,
    /// What models are called in our records.
    names: BTreeSet<String>,
    /// The prices they were charged by.
    prices: BTreeSet<String>,
}

impl Ours {
    fn merge(&mut self, other: &Self) {
        self.all.add(&other.all);
        self.uncounted = self.uncounted.saturating_add(other.uncounted);
        for (own, others) in [
            (&mut self.estimated, &other.estimated),
            (&mut self.deferred, &other.deferred),
            (&mut self.out, &other.out),
            (&mut self.into, &other.into),
            (&mut self.reported, &other.reported),
        ] {
            own.merge(others);
        }
        self.names.extend(other.names.iter().cloned());
        self.prices.extend(other.prices.iter().cloned());
    }
}

/// Whose calls a provider's key was used for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys(BTreeMap<(TenantId, HandleName), String>);

/// A credential that stands for two keys of the provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tenant}/{credential} cannot be two keys of one provider")]
pub struct TwoKeys {
    tenant: TenantId,
    credential: HandleName,
}

impl Keys {
    /// Says that a tenant's credential is this key of the provider.
    ///
    /// # Errors
    /// [`TwoKeys`] if it is another one already.
    pub fn add(
        &mut self,
        key: &str,
        tenant: TenantId,
        credential: HandleName,
    ) -> Result<(), TwoKeys> {
        let known = self.0.entry((tenant.clone(), credential.clone()));
        if known.or_insert_with(|| key.to_owned()) == key {
            Ok(())
        } else {
            Err(TwoKeys { tenant, credential })
        }
    }

    /// Every tenant that uses a key.
    #[must_use]
    pub fn tenants(&self) -> BTreeSet<TenantId> {
        self.0.keys().map(|(tenant, _)| tenant.clone()).collect()
    }

    fn names(&self) -> BTreeSet<&str> {
        self.0.values().map(String::as_str).collect()
    }
}

/// One key, one UTC day, one model by the name that all its versions share.
type Place = (String, Date, String);

/// Our side, in the making.
#[derive(Debug)]
pub struct Records {
    provider: ProviderName,
    keys: Keys,
    places: BTreeMap<Place, Ours>,
    /// Calls of the same tenants on credentials that are no key of the export.
    elsewhere: BTreeMap<(Date, String), BTreeMap<String, Part>>,
}

impl Records {
    /// Nothing yet of what these keys were used for at `provider`.
    #[must_use]
    pub const fn new(provider: ProviderName, keys: Keys) -> Self {
        Self {
            provider,
            keys,
            places: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
        }
    }

    /// Adds a record. Those of other providers, of refusals and of what is no model's work are
    /// passed over.
    pub fn add(&mut self, record: &Record) {
        let (subject, ending) = (&record.subject, &record.ending);
        let made = !matches!(ending.outcome, Outcome::Refused | Outcome::Failed);
        let used = ending.usage_source != UsageSource::None || ending.cost != PicoUsd::ZERO;
        if !made || !used || subject.provider.as_ref() != Some(&self.provider) {
            return;
        }
        let Some(credential) = &subject.credential else {
            return;
        };
        let own = (subject.tenant.clone(), credential.clone());
        let Some(key) = self.keys.0.get(&own).cloned() else {
            let credential = format!("{}/{credential}", subject.tenant);
            for (model, counts) in shares(record) {
                let place = (subject.started_at.date(), common_name(&model));
                let others = self.elsewhere.entry(place).or_default();
                let part = others.entry(credential.clone()).or_default();
                part.add(&counts, PicoUsd::ZERO);
            }
            return;
        };
        let (began, ended) = (subject.started_at.date(), ending.ended_at.date());
        let reserved = subject.reserved.unwrap_or_default();
        let estimated = matches!(
            ending.usage_source,
            UsageSource::Estimated | UsageSource::Interrupted
        );
        let deferred =
            ending.adjusts.is_some() || subject.notes.iter().any(|note| note == "deferred");
        for (model, counts) in shares(record) {
            let common = common_name(&model);
            let ours = self.places.entry((key.clone(), began, common.clone()));
            let ours = ours.or_default();
            ours.all.add(&counts);
            ours.names.insert(model);
            ours.prices
                .extend(subject.price_version.as_deref().map(str::to_owned));
            if deferred {
                ours.deferred.add(&counts, reserved);
            } else if estimated {
                ours.estimated.add(&counts, reserved);
                let is_uncounted = counts.input_tokens == 0 && counts.output_tokens == 0;
                ours.uncounted = ours.uncounted.saturating_add(is_uncounted.into());
            }
            if let Some(cost_usd) = ending.reported_cost {
                let reported = Counts {
                    cost_usd,
                    ..Counts::default()
                };
                ours.reported.add(&reported, PicoUsd::ZERO);
            }
            if ended > began && !deferred {
                ours.out.add(&counts, PicoUsd::ZERO);
                let later = self.places.entry((key.clone(), ended, common));
                later.or_default().into.add(&counts, PicoUsd::ZERO);
            }
        }
    }
}

/// What one record says of each model it is about. The whole cost goes to the call's own model.
fn shares(record: &Record) -> Vec<(String, Counts)> {
    let ending = &record.ending;
    let asked = record.subject.request_model.as_ref();
    let own = ending
        .response_model
        .clone()
        .or_else(|| asked.map(ToString::to_string))
        .or_else(|| ending.elsewhere.first().map(|(model, _)| model.clone()))
        .unwrap_or_else(|| "-".to_owned());
    let mut rest = ending.usage.unwrap_or_default();
    let mut others = Vec::new();
    for (model, usage) in &ending.elsewhere {
        rest.input_tokens = rest.input_tokens.saturating_sub(usage.input_tokens);
        rest.output_tokens = rest.output_tokens.saturating_sub(usage.output_tokens);
        rest.cached_input_tokens = rest
            .cached_input_tokens
            .saturating_sub(usage.cached_input_tokens);
        others.push((model.clone(), Counts::of(0, usage, PicoUsd::ZERO)));
    }
    let mut shares = vec![(own, Counts::of(1, &rest, ending.cost))];
    shares.append(&mut others);
    shares
}

/// The name that all versions of a model share: without a date at its end, and as display names
/// are written out (`Claude Sonnet 4.5` is `claude-sonnet-4-5`).
fn common_name(model: &str) -> String {
    let plain: String = model
        .trim()
        .chars()
        .map(|c| match c {
            ' ' | '.' => '-',
            other => other.to_ascii_lowercase(),
        })
        .collect();
    let is_date = |tail: &str| {
        let digits: String = tail.chars().filter(|c| *c != '-').collect();
        let is_shaped = tail.len() == 8 || (tail.len() == 10 && tail.split('-').count() == 3);
        is_shaped && digits.len() == 8 && digits.starts_with("20") && digits.parse::<u32>().is_ok()
    };
    for length in [10, 8] {
        let cut = plain.len().saturating_sub(length);
        if let (Some(name), Some(tail)) = (plain.get(..cut), plain.get(cut..))
            && is_date(tail)
            && let Some(name) = name.strip_suffix(['-', '@'])
        {
            return name.to_owned();
        }
    }
    plain
}

#[cfg(test)]
mod tests;
