//! Work whose usage a later call states: bounded before it is started, followed up by its answers.
//!
//! Before contact, [`Work`] says what an upload or the start of a batch can cost. Afterwards a
//! [`Watch`] reads what passes: the id under which the charge is remembered, the file a batch's
//! results are in, and the results themselves, which correct the charge once. An answer that names
//! an id is held back until the id has been kept, so that no client can use what the gateway has
//! not understood. It does not settle: `settle` does.
//!
//! Worst case: an answer that names an id and is longer than [`MAX_HELD_BYTES`] is relayed unread,
//! and its work stays charged at its bound.

mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use http::request::Parts;
use tollgate_core::call::batch::{
    BatchFile, read_batch_input, read_batch_start, read_message_batch,
};
use tollgate_core::call::{Ask, Request, Terms};
use tollgate_core::deferred::{BatchBound, Charge, DeferredCharges, Kind, Known, RemoteId};
use tollgate_core::ids::ModelName;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::{Caps, Operation};
use tollgate_core::price::PriceBook;
use tollgate_core::refusal::Refusal;
use tollgate_core::shared_str::SharedStr;
use tollgate_core::time::Timestamp;

use crate::authorize::Permit;
use crate::gateway::Gateway;
use crate::live::Snapshot;
use crate::record::Draft;
use crate::settle::Tariff;

pub(crate) use watch::{Stated, Watch};

/// What a request readies or starts that is not made within it.
pub(crate) enum Work {
    /// A file is uploaded; a batch can run over it if it holds calls.
    Upload(Option<Vec<Ask>>),
    /// A batch is started over this file.
    Batch(String),
    /// A batch is started whose calls stand in the request.
    MessageBatch(Vec<Ask>),
}

/// What such work is charged by.
pub(crate) struct Advance {
    /// What its answer gives the id of.
    begins: Kind,
    bound: BatchBound,
    /// How many results there will be, where the request says so.
    lines: u64,
    catalogue: Option<SharedStr>,
}

impl Work {
    /// Reads what a request asks for; `None` if it is a call of another kind.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] if it cannot be understood, [`Refusal::ModelDenied`] if one of its
    /// calls is for a model that its caller may not use.
    pub(crate) fn read(
        permit: &Permit<'_>,
        head: &Parts,
        request: &Request<'_>,
    ) -> Result<Option<Self>, Refusal> {
        let mut work = match permit.route.endpoint.operation {
            Operation::BatchInput => match read_batch_input(request.content_type, request.body)? {
                BatchFile::Batch(asks) => Self::Upload(Some(asks)),
                BatchFile::NotABatch => Self::Upload(None),
            },
            Operation::Batch => Self::Batch(read_batch_start(request.body)?),
            Operation::MessageBatch => Self::MessageBatch(read_message_batch(request.body)?),
            _ => return Ok(None),
        };
        // What the head asks for, it asks for every call of the batch.
        if let Self::MessageBatch(asks) = &mut work {
            for ask in asks {
                ask.read_head(&head.headers, head.uri.query())?;
            }
        }
        if let Self::Upload(Some(asks)) | Self::MessageBatch(asks) = &work {
            refuse_models(permit, asks.iter().map(|ask| &ask.model))?;
        }
        Ok(Some(work))
    }

    /// What the work is charged by.
    ///
    /// # Errors
    /// [`Refusal::BatchNotBounded`] for a batch over an unknown file, where it matters which models
    /// it uses; [`Refusal::ModelDenied`].
    pub(crate) fn tariff(
        self,
        deferred: &dyn DeferredCharges,
        live: &Snapshot,
        permit: &Permit<'_>,
        now: Timestamp,
    ) -> Result<Tariff, Refusal> {
        let lines = match &self {
            Self::MessageBatch(asks) => u64::try_from(asks.len()).unwrap_or(u64::MAX),
            Self::Upload(_) | Self::Batch(_) => 0,
        };
        let (begins, bound) = match self {
            Self::Upload(None) => return Ok(Tariff::Free),
            Self::Upload(Some(asks)) => (Kind::File, bound(live, permit, &asks, now)),
            Self::MessageBatch(asks) => (Kind::Batch, bound(live, permit, &asks, now)),
            Self::Batch(file) => (
                Kind::Batch,
                known_bound(deferred, live, permit, &file, now)?,
            ),
        };
        Ok(Tariff::Deferred(Box::new(Advance {
            begins,
            bound,
            lines,
            catalogue: permit.route.provider.prices.clone(),
        })))
    }
}

impl Advance {
    /// The most the work can cost that this call starts; an upload starts none.
    pub(crate) fn worst_case(&self) -> PicoUsd {
        match self.begins {
            Kind::File => PicoUsd::ZERO,
            Kind::Batch | Kind::Response => self.bound.amount.unwrap_or(PicoUsd::ZERO),
        }
    }

    /// The models asked for.
    pub(crate) fn models(&self) -> &[ModelName] {
        &self.bound.models
    }

    /// Every name that limits on models may know the models by.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let asked = self.bound.models.iter().map(ModelName::as_str);
        asked.chain(self.bound.priced_as.iter().map(String::as_str))
    }

    /// Whether it starts work of which nobody knows what it can cost.
    pub(crate) fn is_unbounded(&self) -> bool {
        self.begins != Kind::File && self.bound.amount.is_none()
    }

    /// Whether money is due for it at all.
    pub(crate) fn starts_work(&self) -> bool {
        self.begins != Kind::File
    }

    /// The provider's name in the price catalogue.
    pub(crate) fn catalogue(&self) -> Option<&SharedStr> {
        self.catalogue.as_ref()
    }
}

fn refuse_models<'m>(
    permit: &Permit<'_>,
    models: impl Iterator<Item = &'m ModelName>,
) -> Result<(), Refusal> {
    let (agent, provider) = (&permit.caller.agent, &permit.route.provider.name);
    let mut last = None;
    for model in models {
        // Most batches are of one model.
        if last == Some(model) {
            continue;
        }
        last = Some(model);
        let path = permit.route.path;
        if !permit.tenant.allows_model(agent, provider, path, model) {
            return Err(Refusal::ModelDenied(model.clone()));
        }
    }
    Ok(())
}

/// What a batch of `asks` can cost.
fn bound(live: &Snapshot, permit: &Permit<'_>, asks: &[Ask], now: Timestamp) -> BatchBound {
    let provider = &permit.route.provider;
    let default_max_output = permit.tenant.default_max_output_tokens;
    let mut rates = HashMap::new();
    let (mut models, mut priced_as) = (Vec::new(), Vec::new());
    let mut amount = Some(PicoUsd::ZERO);
    for ask in asks {
        let rates = rates.entry(&ask.model).or_insert_with(|| {
            models.push(ask.model.clone());
            let name = provider.aliases.get(&ask.model).unwrap_or(&ask.model);
            priced_as.push(name.to_string());
            let catalogue = provider.prices.as_deref()?;
            let rates = live.prices.rates(catalogue, name.as_str(), now)?;
            priced_as.push(rates.priced_as().to_owned());
            Some(rates)
        });
        let most = rates
            .as_ref()
            .map(|rates| rates.worst_case(ask, default_max_output));
        amount = amount.zip(most).map(|(sum, most)| sum.saturating_add(most));
    }
    BatchBound {
        amount,
        models,
        priced_as,
        prices: live.prices.version().to_string(),
    }
}

/// What is known of a file that a batch runs over.
fn known_bound(
    deferred: &dyn DeferredCharges,
    live: &Snapshot,
    permit: &Permit<'_>,
    file: &str,
    now: Timestamp,
) -> Result<BatchBound, Refusal> {
    let (tenant, provider) = (&permit.tenant, &permit.route.provider.name);
    let id = RemoteId::new(&tenant.id, provider, Kind::File, file);
    if let Some(Known::Input(mut bound)) = id.and_then(|id| deferred.recall(&id, now)) {
        refuse_models(permit, bound.models.iter())?;
        // Other prices are in force than those it was bounded by.
        if *bound.prices != **live.prices.version() {
            bound.amount = None;
        }
        return Ok(bound);
    }
    // Whoever may use every model may use whichever are in the file.
    let free_to_choose = tenant.grants.iter().any(|grant| {
        let path = permit.route.path;
        grant.provider == *provider
            && grant.models.is_empty()
            && grant.agents.cover(permit.caller.agent.as_str())
            && (grant.paths.is_empty() || grant.paths.iter().any(|pattern| pattern.matches(path)))
    });
    let model_capped = tenant
        .models
        .iter()
        .any(|(_, limits)| limits.caps != Caps::default());
    if !free_to_choose || model_capped {
        return Err(Refusal::BatchNotBounded);
    }
    Ok(BatchBound {
        amount: None,
        models: Vec::new(),
        priced_as: Vec::new(),
        prices: live.prices.version().to_string(),
    })
}

/// What an answer may tell of deferred work.
pub(crate) enum Later {
    /// Nothing.
    Nothing,
    /// The id of what has been begun.
    Begins(Kind, Box<Known>),
    /// How batches stand.
    States,
    /// What the work charged under an id has used.
    Results(Operation, Box<(RemoteId, Charge, Arc<PriceBook>)>),
}

/// What the answer to this call may tell.
pub(crate) fn later(
    gw: &Gateway,
    live: &Snapshot,
    permit: &Permit<'_>,
    tariff: &Tariff,
    draft: &mut Draft,
    now: Timestamp,
) -> Later {
    let known_as = &permit.route.provider.aliases;
    let charge = |catalogue: Option<SharedStr>, terms: Terms| Charge {
        record: draft.id,
        keys: Vec::new(),
        amount: PicoUsd::ZERO,
        catalogue,
        model: None,
        aliases: Vec::new(),
        lines: 0,
        terms,
        at: now,
    };
    let batch = || Terms {
        processing: Some("batch".to_owned()),
        ..Terms::default()
    };
    let operation = permit.route.endpoint.operation;
    let begins = match tariff {
        Tariff::Deferred(advance) if advance.begins == Kind::File => {
            let input = Known::Input(advance.bound.clone());
            return Later::Begins(Kind::File, Box::new(input));
        }
        Tariff::Deferred(advance) => {
            let models = advance.bound.models.iter();
            let charge = Charge {
                model: match &advance.bound.models[..] {
                    [only] => Some(known_as.get(only).unwrap_or(only).clone()),
                    _ => None,
                },
                aliases: models
                    .filter_map(|name| Some((name.clone(), known_as.get(name)?.clone())))
                    .collect(),
                lines: advance.lines,
                ..charge(advance.catalogue.clone(), batch())
            };
            Some((advance.begins, charge))
        }
        Tariff::Metered(call) if operation == Operation::Responses && call.ask.deferred => {
            let model = &call.ask.model;
            let alias = call.alias.iter().map(|name| (name.clone(), model.clone()));
            let charge = Charge {
                model: Some(model.clone()),
                aliases: alias.collect(),
                ..charge(Some(call.catalogue.clone()), call.ask.terms.clone())
            };
            Some((Kind::Response, charge))
        }
        _ => None,
    };
    if let Some((kind, charge)) = begins {
        draft.is_deferred();
        return Later::Begins(kind, Box::new(Known::Charge(charge)));
    }
    if operation == Operation::BatchStatus {
        return Later::States;
    }
    let Some((id, charge)) = charged(gw, permit, now) else {
        return Later::Nothing;
    };
    draft.corrects(charge.catalogue.as_ref(), live.prices.version());
    Later::Results(operation, Box::new((id, charge, Arc::clone(&live.prices))))
}

/// The charge that the results behind this path correct.
fn charged(gw: &Gateway, permit: &Permit<'_>, now: Timestamp) -> Option<(RemoteId, Charge)> {
    let (kind, collection) = match permit.route.endpoint.operation {
        Operation::BatchOutput => (Kind::File, "files"),
        Operation::MessageBatchResults => (Kind::Batch, "batches"),
        Operation::ResponseStatus => (Kind::Response, "responses"),
        _ => return None,
    };
    let (tenant, provider) = (&permit.tenant.id, &permit.route.provider.name);
    let id = RemoteId::in_path(tenant, provider, kind, permit.route.path, collection)?;
    match gw.stores.deferred.recall(&id, now)? {
        Known::Charge(charge) => Some((id, charge)),
        Known::Results { batch, lines } => {
            let id = RemoteId::new(tenant, provider, Kind::Batch, &batch)?;
            match gw.stores.deferred.recall(&id, now)? {
                Known::Charge(charge) => Some((id, Charge { lines, ..charge })),
                Known::Input(_) | Known::Results { .. } => None,
            }
        }
        Known::Input(_) => None,
    }
}
