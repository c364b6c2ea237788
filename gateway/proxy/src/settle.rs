//! Hold + usage -> the actual cost, once, on every way a call can end.
//!
//! A [`Settlement`] that is dropped without being closed settles itself: before the intent was
//! written it gives everything back; after it, it charges an estimate, since the provider may
//! have produced something. It is never silently forgotten and never settled twice.

mod later;
mod told;

use std::sync::Arc;

use tokio::time::Instant;
use tollgate_core::budget::{Hold, StoreError};
use tollgate_core::call::{Ask, Terms};
use tollgate_core::deferred::RemoteId;
use tollgate_core::ids::ModelName;
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Unreported;
use tollgate_core::price::{PriceBook, Rates};
use tollgate_core::rate::Pass;
use tollgate_core::record::{Ending, Intent, Outcome, Subject, UsageSource};
use tollgate_core::shared_str::SharedStr;
use tollgate_core::time::Timestamp;
use tollgate_core::trace::CallTrace;
use tollgate_core::usage::{Metered, Reading, Usage};

use crate::deferred::Advance;
use crate::gateway::Gateway;
use crate::happenings::Shown;
use crate::metrics::{Asked, Elevated, Timing, UnderWay};
use crate::pressure::Place;
use crate::respond::Verdict;

/// What a call is charged by.
pub(crate) enum Tariff {
    /// Tokens at catalogue prices.
    Metered(Box<Metering>),
    /// Tokens are counted, but there is no price and no cap.
    Unmetered(Box<Ask>),
    /// A tool call at a fixed price, due when the upstream answers with success.
    PerCall(PicoUsd),
    /// Work that is made later, charged at its bound from the start.
    Deferred(Box<Advance>),
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
    pub(crate) catalogue: SharedStr,
    /// When the call was priced; prices depend on date and time of day.
    pub(crate) at: Timestamp,
    pub(crate) default_max_output: u64,
    /// What the client called the model, where the policy says which one that is.
    pub(crate) alias: Option<ModelName>,
    /// What is charged where the answer does not say what was used.
    pub(crate) unreported: Unreported,
}

/// The price of an answer and what it rests on.
struct Charge {
    cost: PicoUsd,
    usage: Option<Usage>,
    source: UsageSource,
    /// The tokens used, for limits on tokens; `None` if nobody knows.
    tokens: Option<u64>,
}

impl Charge {
    /// What is charged for what was not done.
    const NOTHING: Self = Self {
        cost: PicoUsd::ZERO,
        usage: None,
        source: UsageSource::None,
        tokens: Some(0),
    };

    fn new(cost: PicoUsd, usage: Option<Usage>, source: UsageSource) -> Self {
        Self {
            cost,
            usage,
            source,
            tokens: usage.map(|usage| usage.input_tokens.saturating_add(usage.output_tokens)),
        }
    }
}

impl Tariff {
    /// The most the call can cost.
    pub(crate) fn worst_case(&self) -> PicoUsd {
        match self {
            Self::Metered(call) => call.rates.worst_case(&call.ask, call.default_max_output),
            Self::PerCall(price) => *price,
            Self::Deferred(work) => work.worst_case(),
            Self::Unmetered(_) | Self::Unpriced | Self::Free => PicoUsd::ZERO,
        }
    }

    /// The largest output bound, in tokens, with which the call would fit into `left`, also after
    /// the bytes of naming it have been added to the request.
    pub(crate) fn largest_output(&self, left: PicoUsd) -> Option<u64> {
        match self {
            Self::Metered(call) => call.rates.largest_output_bound(&call.ask, left),
            _ => None,
        }
    }

    /// The most tokens the model gives in one answer, where that is known.
    pub(crate) fn most_output(&self) -> Option<u64> {
        match self {
            Self::Metered(call) => call.rates.max_output_tokens(),
            _ => None,
        }
    }

    /// What was asked, where the body says.
    pub(crate) fn ask(&self) -> Option<&Ask> {
        match self {
            Self::Metered(call) => Some(&call.ask),
            Self::Unmetered(ask) => Some(ask),
            Self::PerCall(_) | Self::Deferred(_) | Self::Unpriced | Self::Free => None,
        }
    }

    pub(crate) fn ask_mut(&mut self) -> Option<&mut Ask> {
        match self {
            Self::Metered(call) => Some(&mut call.ask),
            Self::Unmetered(ask) => Some(ask),
            Self::PerCall(_) | Self::Deferred(_) | Self::Unpriced | Self::Free => None,
        }
    }

    /// The names the model is priced by: the one looked up and the one found.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let priced = match self {
            Self::Metered(call) => Some(call.rates.priced_as()),
            _ => None,
        };
        let asked = self.ask().map(|ask| ask.model.as_str());
        let deferred = match self {
            Self::Deferred(work) => Some(work.names()),
            _ => None,
        };
        asked
            .into_iter()
            .chain(priced)
            .chain(deferred.into_iter().flatten())
    }

    /// The tokens the call is expected to take, for limits on tokens. Without a bound, that is the
    /// model's, or `default_output` if it gives less.
    pub(crate) fn expected_tokens(&self, default_output: u64) -> u64 {
        let output = self.most_output().unwrap_or(u64::MAX).min(default_output);
        self.ask().map_or(0, |ask| ask.expected_tokens(output))
    }

    /// The price of a successful answer.
    fn charge(&self, reading: &Reading) -> Charge {
        match self {
            Self::Metered(call) => call.charge(reading),
            Self::PerCall(price) => Charge {
                cost: *price,
                ..Charge::NOTHING
            },
            Self::Deferred(work) if work.starts_work() => Charge {
                cost: work.worst_case(),
                source: UsageSource::Estimated,
                ..Charge::NOTHING
            },
            Self::Unmetered(_) => {
                let source = match reading.metered {
                    Metered::Exact(_) => UsageSource::Exact,
                    Metered::Partial(_) => UsageSource::Estimated,
                    Metered::Unknown => UsageSource::None,
                };
                Charge::new(PicoUsd::ZERO, reading.total(), source)
            }
            Self::Deferred(_) | Self::Unpriced | Self::Free => Charge::NOTHING,
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
        let asked = Some(&self.rates);
        // An upstream that knows the model by the client's name for it says nothing new.
        let echoed =
            reading.response_model.as_deref() == self.alias.as_ref().map(ModelName::as_str);
        let renamed = (echoed && self.alias.is_some()).then(|| Reading {
            response_model: None,
            ..reading.clone()
        });
        let reading = renamed.as_ref().unwrap_or(reading);
        match prices.settle_at(catalogue, asked, ask, reading, *at, *default_max_output) {
            Some(settled) => Charge::new(settled.cost, Some(settled.usage), settled.source),
            // The call was priced before it was made, so this is out of reach; were it not, the
            // worst case is what the hold stands for.
            None => {
                let worst = self.rates.worst_case(ask, *default_max_output);
                Charge::new(worst, reading.total(), UsageSource::Estimated)
            }
        }
    }
}

/// How far a call has come.
enum Stage {
    /// Money is held; nothing is written, nothing has left.
    Held,
    /// The intent is durable; bytes may have left.
    Intended(Arc<Subject>),
    /// Settled.
    Closed,
}

/// An open hold and what is needed to settle it.
pub(crate) struct Settlement {
    gw: Arc<Gateway>,
    hold: Hold,
    pass: Option<Pass>,
    /// Held for as long as the call is under way.
    _place: Option<Place>,
    /// Where those who watch see it under way.
    shown: Option<Shown>,
    tariff: Tariff,
    stage: Stage,
    status: Option<u16>,
    first_byte_us: Option<u64>,
    clamped: Option<u64>,
    /// What the charge made here is kept under, since a later call corrects it.
    begun: Option<RemoteId>,
    scrubbed: bool,
    trace: Option<CallTrace>,
    /// Counts the call for as long as it is under way.
    under_way: UnderWay,
    stream: Option<UnderWay>,
    timing: Option<Timing>,
    ended: Option<Instant>,
}

impl Settlement {
    /// Boxed, since it changes hands often and is large.
    pub(crate) fn open(gw: Arc<Gateway>, hold: Hold, tariff: Tariff) -> Box<Self> {
        let under_way = gw.metrics.holds(&hold);
        Box::new(Self {
            gw,
            hold,
            pass: None,
            _place: None,
            shown: None,
            tariff,
            stage: Stage::Held,
            status: None,
            first_byte_us: None,
            clamped: None,
            begun: None,
            scrubbed: false,
            trace: None,
            under_way,
            stream: None,
            timing: None,
            ended: None,
        })
    }

    /// The upstream is turned to now, in a span that stands there.
    pub(crate) fn traced(&mut self, trace: CallTrace) {
        let contacted_at = Some((self.gw.clock)());
        self.trace = Some(CallTrace {
            contacted_at,
            ..trace
        });
    }

    /// The secret of the call came back in its answer, and was taken out.
    pub(crate) const fn scrubbed(&mut self) {
        self.scrubbed = true;
    }

    /// The id of the call's record.
    pub(crate) const fn id(&self) -> RecordId {
        self.hold.id
    }

    /// The request's output bound was lowered to so many tokens.
    pub(crate) const fn clamped(&mut self, tokens: u64) {
        self.clamped = Some(tokens);
    }

    /// The output bound that the gateway wrote into the request, if it did.
    pub(crate) const fn clamped_to(&self) -> Option<u64> {
        self.clamped
    }

    /// The call was admitted by its rate limits with this pass.
    pub(crate) fn paced(&mut self, pass: Pass) {
        self.pass = Some(pass);
    }

    /// The call takes this place until it is settled.
    pub(crate) fn occupies(&mut self, place: Place) {
        self._place = Some(place);
    }

    pub(crate) const fn tariff(&self) -> &Tariff {
        &self.tariff
    }

    /// Makes the intent durable: from here on the call has a record, come what may.
    pub(crate) async fn intend(&mut self, subject: Arc<Subject>) -> Result<(), StoreError> {
        let kept = self.gw.stores.records.intend(Intent {
            subject: &subject,
            hold: &self.hold,
        });
        self.gw.metrics.stores.timed(Asked::Intend, kept).await?;
        if subject.elevated {
            self.gw.metrics.security.elevated(Elevated::Made);
        }
        let stream = self.tariff.ask().is_some_and(|ask| ask.stream);
        let shown = Arc::clone(&subject);
        self.shown = Some(self.gw.scene.enters(shown, self.hold.amount, stream));
        self.stage = Stage::Intended(subject);
        Ok(())
    }

    /// The upstream has answered with this status.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
        if let Some(shown) = &self.shown {
            shown.answered(status);
        }
        if let Stage::Intended(subject) = &self.stage {
            let waited = (self.gw.clock)().since(subject.started_at).as_micros();
            self.first_byte_us = u64::try_from(waited).ok();
            if let Some(provider) = &subject.provider {
                self.gw.metrics.answered(provider, status);
            }
        }
        if let Some(timing) = &mut self.timing {
            timing.answered();
        }
    }

    /// So many bytes of the answer have come.
    pub(crate) fn passed(&self, bytes: usize) {
        if let Some(shown) = &self.shown {
            shown.passed(bytes);
        }
    }

    /// Ends the call at what its usage costs.
    pub(crate) fn close(mut self: Box<Self>, outcome: Outcome, reading: &Reading) {
        let charge = self.charge(reading);
        let asked = self.tariff.ask().map(|ask| &ask.terms);
        let ending = Ending {
            response_model: reading.response_model.clone(),
            elsewhere: reading.elsewhere.clone(),
            terms: asked.map_or_else(Terms::default, |asked| reading.terms.or(asked)),
            reported_cost: reading.reported_cost,
            ..self.ending(outcome)
        };
        self.finish(ending, charge);
    }

    /// Ends a call whose client gets the gateway's own answer, `verdict`, in place of the
    /// upstream's. If nothing was sent, nothing can be billed; otherwise it is charged an estimate.
    pub(crate) fn fail(mut self: Box<Self>, outcome: Outcome, verdict: &Verdict, sent: bool) {
        let charge = if sent {
            self.charge(&Reading::nothing())
        } else {
            Charge::NOTHING
        };
        let ending = Ending {
            status: Some(verdict.status.as_u16()),
            code: Some(verdict.code.to_owned()),
            ..self.ending(outcome)
        };
        self.finish(ending, charge);
    }

    /// The price of the answer. Providers bill none but a success, which an answer that has not
    /// come may still become.
    fn charge(&self, reading: &Reading) -> Charge {
        let charge = match self.status {
            Some(200..=299) | None => self.tariff.charge(reading),
            Some(_) => return Charge::NOTHING,
        };
        match &self.tariff {
            Tariff::Metered(call)
                if call.unreported == Unreported::Reservation
                    && charge.source == UsageSource::Estimated =>
            {
                Charge {
                    cost: charge.cost.max(self.hold.amount),
                    ..charge
                }
            }
            _ => charge,
        }
    }

    fn ending(&self, outcome: Outcome) -> Ending {
        Ending {
            status: self.status,
            first_byte_us: self.first_byte_us,
            secret_scrubbed: self.scrubbed,
            ..Ending::new((self.gw.clock)(), outcome)
        }
    }

    /// Gives back what the rate limits lent.
    fn leave(&mut self, tokens: Option<u64>) {
        if let Some(pass) = self.pass.take() {
            self.gw.stores.rates.release(&pass, tokens);
        }
    }

    fn finish(&mut self, mut ending: Ending, charge: Charge) {
        // Closed first: were a store to panic, dropping this must not do it all again.
        let stage = std::mem::replace(&mut self.stage, Stage::Closed);
        ending.cost = charge.cost;
        ending.usage = charge.usage;
        ending.usage_source = charge.source;
        let concluded = self.settles_itself(&mut ending);
        self.gw.stores.budgets.settle(&self.hold, ending.cost);
        if ending.cost > self.hold.amount {
            let by = ending.cost.saturating_sub(self.hold.amount);
            self.gw.metrics.above_reservation(by);
            tracing::warn!(
                request = %self.hold.id,
                reserved_usd = %self.hold.amount,
                cost_usd = %ending.cost,
                "a call cost more than its worst case: its price or its bound is wrong"
            );
        }
        // The hold is settled, and nobody asks for its counters again.
        let counters = std::mem::take(&mut self.hold.keys);
        self.gw.caps.settled(counters, ending.cost);
        self.leave(charge.tokens);
        if !concluded {
            self.gw.stores.records.conclude(self.hold.id, &ending);
        }
        self.tell(stage, ending);
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
                let charge = self.charge(&Reading::nothing());
                let ending = self.ending(Outcome::Interrupted);
                self.finish(ending, charge);
            }
        }
    }
}

#[cfg(test)]
mod tests;
