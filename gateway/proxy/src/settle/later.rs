//! What is charged in advance, and corrected by a later call: once, in the same counters.
//!
//! Worst case: a charge that cannot be kept under its id is never corrected, and stands.

use std::sync::Arc;

use tollgate_core::deferred::{Charge, Known, RemoteId};
use tollgate_core::money::PicoUsd;
use tollgate_core::record::{Ending, Outcome, UsageSource};
use tollgate_core::usage::Reading;

use super::{Settlement, Stage};
use crate::deferred::Stated;

impl Settlement {
    /// The work of this call goes by `id` from now on; what is held for it is charged, to be
    /// corrected when its usage is stated.
    pub(crate) fn begun(&mut self, id: RemoteId, charge: Charge) {
        let charge = Known::Charge(Charge {
            keys: self.hold.keys.to_vec(),
            amount: self.hold.amount,
            ..charge
        });
        let now = (self.gw.clock)();
        match self.gw.stores.deferred.remember(&id, &charge, now) {
            Ok(()) => self.begun = Some(id),
            Err(error) => {
                tracing::error!(%error, id = id.as_str(), "deferred work stays charged as it is");
            }
        }
    }

    /// Ends a call whose answer states what the work behind `charge` has used. What it costs is the
    /// difference, and goes where the charge went.
    pub(crate) fn correct(
        mut self: Box<Self>,
        outcome: Outcome,
        Stated {
            id,
            charge,
            correction,
        }: Stated,
    ) {
        let (only, elsewhere) = match &correction.models[..] {
            [(only, _)] => (Some(only.clone()), Vec::new()),
            _ => (None, correction.models),
        };
        let ending = Ending {
            response_model: only,
            usage_source: correction.source,
            usage: Some(correction.usage),
            elsewhere,
            terms: charge.terms.clone(),
            cost: correction.cost,
            adjusts: Some(charge.record),
            ..self.ending(outcome)
        };
        if !self.gw.stores.deferred.correct(&id, self.hold.id, &ending) {
            // Another call has corrected it in the meantime.
            return self.close(outcome, &Reading::nothing());
        }
        if ending.cost > PicoUsd::ZERO && charge.amount > PicoUsd::ZERO {
            let (id, cost) = (id.as_str(), ending.cost.to_string());
            tracing::warn!(
                id,
                cost,
                "deferred work has used more than was charged for it"
            );
        }
        let gw = Arc::clone(&self.gw);
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        gw.stores.budgets.settle(&self.hold, PicoUsd::ZERO);
        gw.stores
            .budgets
            .correct(&charge.keys, ending.cost, ending.ended_at);
        gw.caps.settled(charge.keys.into(), ending.cost);
        self.leave(Some(0));
        self.tell(stage, ending);
    }

    /// Concludes a call that has begun work and stated all the same what it used: nothing is left
    /// to correct. If a later call has corrected its charge already, the charge is its cost.
    pub(super) fn settles_itself(&self, ending: &mut Ending) -> bool {
        let Some(id) = self.begun.as_ref() else {
            return false;
        };
        if ending.usage_source == UsageSource::Exact {
            if self.gw.stores.deferred.correct(id, self.hold.id, ending) {
                return true;
            }
            ending.usage_source = UsageSource::Estimated;
        }
        ending.cost = self.hold.amount;
        false
    }
}
