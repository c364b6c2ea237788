//! Work whose usage is stated by a later call: batches and background responses.
//!
//! Such work is charged at its worst case when it is started, and corrected once, when the results
//! that state its usage pass whole. What must be known in between is kept under the provider's own
//! ids, per tenant: [`RemoteId`] → [`Known`]. This module says what is kept and what a
//! [`Correction`] comes to; it does not know where an answer comes from.
//!
//! Worst case: results that nobody fetches leave the work charged at its bound.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::budget::{BudgetKey, StoreError};
use crate::call::Terms;
use crate::ids::{ModelName, ProviderName, RecordId, TenantId};
use crate::money::PicoUsd;
use crate::price::PriceBook;
use crate::record::{Ending, UsageSource};
use crate::route::decode;
use crate::shared_str::SharedStr;
use crate::time::Timestamp;
use crate::usage::{Metered, Reading, Usage};

/// How long anything is remembered. OpenAI keeps batch files and background responses for 30 days,
/// Anthropic results for 29; twice that leaves room for a batch that is started late.
pub const KEPT_FOR: Duration = Duration::from_secs(60 * 86_400);
/// How much is remembered per tenant; then the oldest goes, and stays charged as it is.
pub const KEPT_PER_TENANT: usize = 20_000;

/// Longer ids are not kept. Providers' own are below 100 bytes.
const MAX_ID_BYTES: usize = 256;
/// Models told apart in one record; the rest is summed up under [`OTHERS`].
const MAX_MODELS: usize = 32;
/// The name that usage of further models is summed up under.
const OTHERS: &str = "others";

/// What a provider's id names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file: the input of a batch or its output.
    File,
    /// A batch.
    Batch,
    /// A response made in the background.
    Response,
}

/// A provider's id for something, as one tenant knows it. The same id of another tenant is another
/// thing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct RemoteId {
    /// Whose.
    pub tenant: TenantId,
    /// At which provider.
    pub provider: ProviderName,
    /// What it names.
    pub kind: Kind,
    id: String,
}

impl RemoteId {
    /// `None` if `id` is empty or longer than any provider's.
    #[must_use]
    pub fn new(tenant: &TenantId, provider: &ProviderName, kind: Kind, id: &str) -> Option<Self> {
        ((1..=MAX_ID_BYTES).contains(&id.len())).then(|| Self {
            tenant: tenant.clone(),
            provider: provider.clone(),
            kind,
            id: id.to_owned(),
        })
    }

    /// The id that `path` names, escaped or not, in the segment behind `collection`.
    #[must_use]
    pub fn in_path(
        tenant: &TenantId,
        provider: &ProviderName,
        kind: Kind,
        path: &str,
        collection: &str,
    ) -> Option<Self> {
        let mut segments = path.split('/');
        segments.find(|segment| *segment == collection)?;
        let id = String::from_utf8(decode(segments.next()?)).ok()?;
        Self::new(tenant, provider, kind, &id)
    }

    /// The id as the provider writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }
}

/// What is kept under a [`RemoteId`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// A file that a batch can run over.
    Input(BatchBound),
    /// Work under way, charged in advance.
    Charge(Charge),
    /// The file with the results of a batch.
    Results {
        /// The batch.
        batch: String,
        /// How many results it holds at least.
        lines: u64,
    },
}

/// What a batch can cost at most.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BatchBound {
    /// The sum over all its calls; `None` if one of them cannot be priced.
    pub amount: Option<PicoUsd>,
    /// The models asked for, each once.
    pub models: Vec<ModelName>,
    /// The names those models are priced by.
    pub priced_as: Vec<String>,
    /// The version of the prices used.
    pub prices: String,
}

/// A charge made in advance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Charge {
    /// The record of the call that started the work.
    pub record: RecordId,
    /// The counters it was charged to, and its correction goes to.
    pub keys: Vec<BudgetKey>,
    /// How much.
    pub amount: PicoUsd,
    /// The provider's name in the price catalogue, where its models have prices.
    pub catalogue: Option<SharedStr>,
    /// The model asked for, where there is one only.
    pub model: Option<ModelName>,
    /// What the client calls its models, where the policy says which ones they are: such a name in
    /// an answer says no more than the client did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<(ModelName, ModelName)>,
    /// How many results there will be at least, where that is known.
    pub lines: u64,
    /// The terms asked for.
    pub terms: Terms,
    /// When the work was started, which is when its prices held.
    pub at: Timestamp,
}

/// What the results of deferred work come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Correction {
    /// What was used, less what was charged. Negative: money is given back.
    pub cost: PicoUsd,
    /// The counts over all models.
    pub usage: Usage,
    /// The counts per model.
    pub models: Vec<(String, Usage)>,
    /// [`UsageSource::Estimated`] if not every result could be read.
    pub source: UsageSource,
}

/// Adds up what deferred work has used, answer by answer.
#[derive(Debug)]
pub struct Tally {
    charge: Charge,
    prices: Arc<PriceBook>,
    cost: PicoUsd,
    usage: Usage,
    models: BTreeMap<String, Usage>,
    unread: bool,
}

impl Tally {
    /// Nothing used yet of what was charged.
    #[must_use]
    pub fn new(charge: Charge, prices: Arc<PriceBook>) -> Self {
        Self {
            charge,
            prices,
            cost: PicoUsd::ZERO,
            usage: Usage::default(),
            models: BTreeMap::new(),
            unread: false,
        }
    }

    /// The charge it corrects.
    #[must_use]
    pub const fn charge(&self) -> &Charge {
        &self.charge
    }

    /// Adds the answer to one call. Each is priced by itself: a price may depend on how long the
    /// input of one call is.
    pub fn add(&mut self, reading: &Reading) {
        let Metered::Exact(own) = &reading.metered else {
            self.unread = true;
            return;
        };
        self.add_usage(reading.response_model.as_deref(), own, &reading.terms);
        for (model, usage) in &reading.elsewhere {
            self.add_usage(Some(model), usage, &reading.terms);
        }
    }

    /// Notes a result that could not be read.
    pub fn add_unread(&mut self) {
        self.unread = true;
    }

    fn add_usage(&mut self, answered: Option<&str>, usage: &Usage, stated: &Terms) {
        let Charge { model, aliases, .. } = &self.charge;
        let asked = model.as_ref().map(ModelName::as_str);
        let alias = aliases
            .iter()
            .find(|(name, _)| Some(name.as_str()) == answered);
        let answered = alias.map_or(answered, |(_, model)| Some(model.as_str()));
        if let Some(catalogue) = &self.charge.catalogue {
            let rates = [answered, asked]
                .into_iter()
                .flatten()
                .find_map(|model| self.prices.rates(catalogue, model, self.charge.at));
            // Deferred work is priced as what it is, whatever its lines repeat of it.
            let terms = Terms {
                processing: self.charge.terms.processing.clone(),
                ..stated.or(&self.charge.terms)
            };
            match rates.and_then(|rates| rates.exact_if_priced(usage, &terms)) {
                Some(cost) => self.cost = self.cost.saturating_add(cost),
                None => self.unread = true,
            }
        }
        self.usage = self.usage.plus(usage);
        let name = answered.or(asked).unwrap_or(OTHERS);
        let known = self.models.contains_key(name);
        let name = if known || self.models.len() < MAX_MODELS {
            name
        } else {
            OTHERS
        };
        let sum = self.models.entry(name.to_owned()).or_default();
        *sum = sum.plus(usage);
    }

    /// What it comes to, once every result has passed. If some could not be read, nothing of what
    /// was charged is given back.
    #[must_use]
    pub fn finish(self) -> Correction {
        let (used, source) = if self.unread {
            (self.cost.max(self.charge.amount), UsageSource::Estimated)
        } else {
            (self.cost, UsageSource::Exact)
        };
        Correction {
            cost: used.saturating_sub(self.charge.amount),
            usage: self.usage,
            models: self.models.into_iter().collect(),
            source,
        }
    }
}

/// Where what is known of deferred work is kept.
///
/// No method waits: each is called while an answer passes. A store that is elsewhere answers from
/// a copy and must claim a charge there before it corrects it.
pub trait DeferredCharges: Send + Sync {
    /// Keeps `known` in the place of what was known before. When this returns `Ok`, killing the
    /// process no longer loses it.
    ///
    /// # Errors
    /// If it cannot be kept: the work then stays charged as it is.
    fn remember(&self, id: &RemoteId, known: &Known, now: Timestamp) -> Result<(), StoreError>;

    /// What is known, unless it is older than [`KEPT_FOR`].
    fn recall(&self, id: &RemoteId, now: Timestamp) -> Option<Known>;

    /// Concludes the call `record` with `ending`, whose cost goes to the counters of the charge
    /// kept under `id`, and forgets the charge; both or, after a crash, neither.
    ///
    /// False, and nothing is done, if it is not kept any more: another call has corrected it, or
    /// another charge is kept in its place. The charge meant is that of the record which `ending`
    /// adjusts, or of `record` itself.
    fn correct(&self, id: &RemoteId, record: RecordId, ending: &Ending) -> bool;
}

#[cfg(test)]
mod tests;
