//! Hold + usage -> the actual cost, once, on every way a call can end.
//!
//! A [`Settlement`] that is dropped without being closed settles itself: before the intent was
//! written it gives everything back; after it, it charges an estimate, since the provider may
//! have produced something. It is never silently forgotten and never settled twice.

use std::sync::Arc;

use tollgate_core::budget::{Hold, StoreError};
use tollgate_core::call::Ask;
use tollgate_core::ids::ModelName;
use tollgate_core::money::PicoUsd;
use tollgate_core::price::{PriceBook, Rates};
use tollgate_core::rate::Pass;
use tollgate_core::record::{Ending, Intent, Outcome, Subject, UsageSource};
use tollgate_core::time::Timestamp;
use tollgate_core::usage::{Metered, Reading, Usage};

use crate::gateway::Gateway;
use crate::record::log_ending;
use crate::respond::Verdict;

/// What a call is charged by.
pub(crate) enum Tariff {
    /// Tokens at catalogue prices.
    Metered(Box<Metering>),
    /// Tokens are counted, but there is no price and no cap.
    Unmetered(Box<Ask>),
    /// A fixed price, due when the upstream answers with success.
    PerCall(PicoUsd),
    /// A tool call without a price.
    Unpriced,
    /// An endpoint that is known to cost nothing.
    Free,
}

/// What pricing a model call takes, before it and after it.
pub(crate) struct Metering {
    pub(crate) ask: Ask,
    pub(crate) rates: Rates,
    pub(crate) prices: Arc<PriceBook>,
    /// The provider's name in the catalogue.
    pub(crate) catalogue: String,
    /// When the call was priced; prices depend on date and time of day.
    pub(crate) at: Timestamp,
    pub(crate) default_max_output: u64,
}

/// The price of an answer and what it rests on.
type Charge = (PicoUsd, Option<Usage>, UsageSource);

/// What is charged for what cost nothing.
const NOTHING: Charge = (PicoUsd::ZERO, None, UsageSource::None);

impl Tariff {
    /// The most the call can cost.
    pub(crate) fn worst_case(&self) -> PicoUsd {
        match self {
            Self::Metered(call) => call.rates.worst_case(&call.ask, call.default_max_output),
            Self::PerCall(price) => *price,
            Self::Unmetered(_) | Self::Unpriced | Self::Free => PicoUsd::ZERO,
        }
    }

    /// The largest output bound, in tokens, with which the call would fit into `left`.
    pub(crate) fn largest_output(&self, left: PicoUsd) -> Option<u64> {
        match self {
            Self::Metered(call) => call.rates.largest_output_bound(&call.ask, left),
            _ => None,
        }
    }

    /// What was asked, where the body says.
    pub(crate) fn ask(&self) -> Option<&Ask> {
        match self {
            Self::Metered(call) => Some(&call.ask),
            Self::Unmetered(ask) => Some(ask),
            Self::PerCall(_) | Self::Unpriced | Self::Free => None,
        }
    }

    /// The model asked for.
    pub(crate) fn model(&self) -> Option<&ModelName> {
        self.ask().map(|ask| &ask.model)
    }

    /// The tokens the call is expected to take, for limits on tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.ask().map_or(0, |ask| {
            let output = ask
                .max_output_tokens
                .unwrap_or(0)
                .saturating_mul(ask.choices);
            ask.body_bytes.div_ceil(4).saturating_add(output)
        })
    }

    /// The price of a successful answer.
    fn charge(&self, reading: &Reading) -> Charge {
        match self {
            Self::Metered(call) => call.charge(reading),
            Self::PerCall(price) => (*price, None, UsageSource::None),
            Self::Unmetered(_) => {
                let source = match reading.metered {
                    Metered::Exact(_) => UsageSource::Exact,
                    Metered::Partial(_) => UsageSource::Estimated,
                    Metered::Unknown => UsageSource::None,
                };
                (PicoUsd::ZERO, reading.total(), source)
            }
            Self::Unpriced | Self::Free => NOTHING,
        }
    }
}

impl Metering {
    fn charge(&self, reading: &Reading) -> Charge {
        let Self {
            ask,
            prices,
            catalogue,
            at,
            default_max_output,
            ..
        } = self;
        match prices.settle(catalogue, ask, reading, *at, *default_max_output) {
            Some(settled) => (settled.cost, Some(settled.usage), settled.source),
            // The call was priced before it was made, so this is out of reach; were it not, the
            // worst case is what the hold stands for.
            None => {
                let worst = self.rates.worst_case(ask, *default_max_output);
                (worst, reading.total(), UsageSource::Estimated)
            }
        }
    }
}

/// How far a call has come.
enum Stage {
    /// Money is held; nothing is written, nothing has left.
    Held,
    /// The intent is durable; bytes may have left.
    Intended(Box<Subject>),
    /// Settled.
    Closed,
}

/// An open hold and what is needed to settle it.
pub(crate) struct Settlement {
    gw: Arc<Gateway>,
    hold: Hold,
    pass: Option<Pass>,
    tariff: Tariff,
    stage: Stage,
    status: Option<u16>,
    first_byte_us: Option<u64>,
}

impl Settlement {
    pub(crate) fn open(gw: Arc<Gateway>, hold: Hold, tariff: Tariff) -> Self {
        Self {
            gw,
            hold,
            pass: None,
            tariff,
            stage: Stage::Held,
            status: None,
            first_byte_us: None,
        }
    }

    /// The call was admitted by its rate limits with this pass.
    pub(crate) fn paced(&mut self, pass: Pass) {
        self.pass = Some(pass);
    }

    pub(crate) const fn tariff(&self) -> &Tariff {
        &self.tariff
    }

    /// Makes the intent durable: from here on the call has a record, come what may.
    pub(crate) async fn intend(&mut self, subject: Subject) -> Result<(), StoreError> {
        let intent = Intent {
            subject,
            hold: self.hold.clone(),
        };
        self.gw.stores.records.intend(&intent).await?;
        self.stage = Stage::Intended(Box::new(intent.subject));
        Ok(())
    }

    /// The upstream has answered with this status.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
        if let Stage::Intended(subject) = &self.stage {
            let waited = (self.gw.clock)().since(subject.started_at).as_micros();
            self.first_byte_us = u64::try_from(waited).ok();
        }
    }

    /// Ends the call at what its usage costs.
    pub(crate) fn close(mut self, outcome: Outcome, reading: &Reading) {
        let (cost, usage, usage_source) = self.charge(reading);
        let ending = Ending {
            usage_source,
            usage,
            cost,
            response_model: reading.response_model.clone(),
            ..self.ending(outcome)
        };
        self.finish(&ending);
    }

    /// Ends a call whose client gets the gateway's own answer, `verdict`, in place of the
    /// upstream's. If nothing was sent, nothing can be billed; otherwise it is charged an estimate.
    pub(crate) fn fail(mut self, outcome: Outcome, verdict: &Verdict, sent: bool) {
        let (cost, usage, usage_source) = if sent {
            self.charge(&Reading::nothing())
        } else {
            NOTHING
        };
        let ending = Ending {
            status: Some(verdict.status.as_u16()),
            code: Some(verdict.code.to_owned()),
            usage_source,
            usage,
            cost,
            ..self.ending(outcome)
        };
        self.finish(&ending);
    }

    /// The price of the answer. Providers bill none but a success, which an answer that has not
    /// come may still become.
    fn charge(&self, reading: &Reading) -> Charge {
        match self.status {
            Some(200..=299) | None => self.tariff.charge(reading),
            Some(_) => NOTHING,
        }
    }

    fn ending(&self, outcome: Outcome) -> Ending {
        Ending {
            status: self.status,
            first_byte_us: self.first_byte_us,
            ..Ending::new((self.gw.clock)(), outcome)
        }
    }

    /// Gives back what the rate limits lent.
    fn leave(&mut self, tokens: Option<u64>) {
        if let Some(pass) = self.pass.take() {
            self.gw.stores.rates.release(&pass, tokens);
        }
    }

    fn finish(&mut self, ending: &Ending) {
        // Closed first: were a store to panic, dropping this must not do it all again.
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        self.gw.stores.budgets.settle(&self.hold, ending.cost);
        if ending.cost > PicoUsd::ZERO {
            self.gw.caps.spent(&self.hold);
        }
        let tokens = ending
            .usage
            .map(|usage| usage.input_tokens.saturating_add(usage.output_tokens));
        self.leave(tokens);
        self.gw.stores.records.conclude(self.hold.id, ending);
        self.gw.metrics.settled(ending);
        if let Stage::Intended(subject) = stage {
            log_ending(&subject, ending);
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        match &self.stage {
            Stage::Closed => {}
            Stage::Held => {
                self.gw.stores.budgets.settle(&self.hold, PicoUsd::ZERO);
                self.leave(Some(0));
            }
            Stage::Intended(_) => {
                let (cost, usage, usage_source) = self.charge(&Reading::nothing());
                let ending = Ending {
                    cost,
                    usage,
                    usage_source,
                    ..self.ending(Outcome::Interrupted)
                };
                self.finish(&ending);
            }
        }
    }
}

#[cfg(test)]
mod tests;
