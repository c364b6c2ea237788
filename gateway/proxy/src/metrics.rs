//! Counters of the call path. No label ever takes a client's word: codes and outcomes are fixed
//! sets, providers and tenants are the policy's, and models the price catalogue's.
//!
//! On a call's path a count is an addition or two, without a lock: whatever has labels was looked
//! up before. What tells of single tenants is in a registry of its own, since not everybody who may
//! read the rest may read that.

mod by_word;
mod calls;
mod codes;
mod gen_ai;
mod revocations;
mod security;
mod stores;
mod tenants;
mod times;

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::Instant;
use tollgate_core::budget::Hold;
use tollgate_core::identity::Caller;
use tollgate_core::ids::{ProviderName, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Policy;
use tollgate_core::record::Ending;
use tollgate_core::registry::{Revocation, TokenRegistry};
use tollgate_core::time::Timestamp;

use crate::pressure::Pressed;
use by_word::ByWord;
use calls::{Calls, gauge};
use gen_ai::GenAi;
use revocations::Revocations;
use security::Security;
use stores::{Measured, StoreTimes};
use times::Times;

pub(crate) use gen_ai::Kind;
pub(crate) use security::{Elevated, Where};
pub(crate) use stores::{Asked, waited};
pub(crate) use tenants::UnderWay;
pub use tenants::{OTHERS, Tenants};
pub(crate) use times::Timing;

/// What came of a request for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenExchange {
    /// A foreign token was exchanged.
    Exchanged,
    /// A task token was renewed.
    Renewed,
    /// A deliberate no.
    Refused,
    /// The gateway could not.
    Failed,
}

impl TokenExchange {
    const ALL: [Self; 4] = [Self::Exchanged, Self::Renewed, Self::Refused, Self::Failed];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Exchanged => "exchanged",
            Self::Renewed => "renewed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What came of a request for a statement of a caller's own usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementResult {
    /// It was given.
    Answered,
    /// A deliberate no.
    Refused,
    /// The gateway could not.
    Failed,
}

impl StatementResult {
    const ALL: [Self; 3] = [Self::Answered, Self::Refused, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The proxy's metrics.
pub struct Metrics {
    /// Of each tenant.
    pub tenants: Tenants,
    pub(crate) stores: Arc<StoreTimes>,
    pub(crate) security: Security,
    calls: Calls,
    times: Times,
    gen_ai: GenAi,
    revocations: Arc<Revocations>,
    statements: ByWord,
    exchanges: ByWord,
    key_fetches: ByWord,
    notices: IntCounterVec,
    webhooks: ByWord,
    in_flight: IntGauge,
    lag: IntGauge,
}

impl Metrics {
    /// Makes the metrics and registers them: those of `places` tenants with `of_tenants`, all others
    /// with `registry`.
    ///
    /// # Errors
    /// If a metric of the same name is registered already.
    pub fn new(
        registry: &Registry,
        of_tenants: &Registry,
        places: usize,
    ) -> Result<Self, prometheus::Error> {
        let by_result = |name: &str, help: &str, words: &[&'static str]| {
            ByWord::register(registry, (name, help), "result", words.iter().copied())
        };
        Ok(Self {
            tenants: Tenants::register(of_tenants, places)?,
            stores: Arc::new(StoreTimes::register(registry)?),
            security: Security::register(registry)?,
            calls: Calls::register(registry)?,
            times: Times::register(registry)?,
            gen_ai: GenAi::register(registry)?,
            revocations: Arc::new(Revocations::register(registry)?),
            statements: by_result(
                "tollgate_usage_statements_total",
                "Requests of callers for their own usage by result: answered, refused or failed.",
                &StatementResult::ALL.map(StatementResult::as_str),
            )?,
            exchanges: by_result(
                "tollgate_token_exchanges_total",
                "Requests for task tokens by result: exchanged, renewed, refused or failed.",
                &TokenExchange::ALL.map(TokenExchange::as_str),
            )?,
            key_fetches: by_result(
                "tollgate_issuer_key_fetches_total",
                "Reads of the key sets of foreign issuers by result: read or failed.",
                &["read", "failed"],
            )?,
            notices: notices(registry)?,
            webhooks: by_result(
                "tollgate_webhook_deliveries_total",
                "Attempts to send a notice, by result: taken or failed.",
                &["taken", "failed"],
            )?,
            in_flight: gauge(
                registry,
                "tollgate_calls_in_flight",
                "Calls and drains under way when the metrics were read.",
            )?,
            lag: gauge(
                registry,
                "tollgate_calls_lag_microseconds",
                "How long what is ready to go on waits for a thread of the calls, as measured last.",
            )?,
        })
    }

    /// This policy is in force now: its tenants and providers are counted from the start.
    pub fn know(&self, policy: &Policy) {
        self.tenants.know(policy.tenants.keys());
        self.gen_ai.know(policy.providers.keys());
    }

    /// The same table of tokens, with figures of what is asked of it.
    pub fn measured(&self, registry: Arc<dyn TokenRegistry>) -> Arc<dyn TokenRegistry> {
        Arc::new(Measured {
            registry,
            times: Arc::clone(&self.stores),
            revocations: Arc::clone(&self.revocations),
        })
    }

    /// Another replica has revoked something.
    pub fn heard_of(&self) -> impl Fn(&Revocation, Timestamp) + Send + Sync + 'static {
        let revocations = Arc::clone(&self.revocations);
        move |what, at| revocations.heard(what, at)
    }

    /// Takes over what is under way now; called before the metrics are read.
    pub fn set_in_flight(&self, count: usize) {
        self.in_flight.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Takes over the lag; called before the metrics are read.
    pub fn set_lag(&self, lag: Duration) {
        let micros = i64::try_from(lag.as_micros()).unwrap_or(i64::MAX);
        self.lag.set(micros);
    }

    pub(crate) fn overloaded(&self, by: Pressed) {
        self.calls.overloads.inc(by.as_str());
    }

    /// A call has cost so much more than its worst case.
    pub(crate) fn above_reservation(&self, by: PicoUsd) {
        self.calls.above_reservation.inc();
        let nano = u64::try_from(by.as_pico()).unwrap_or(0).div_ceil(1_000);
        self.calls.overshoot_nano_usd.inc_by(nano);
    }

    /// A call was made without a price.
    pub(crate) fn unpriced(&self) {
        self.calls.unpriced.inc();
    }

    pub(crate) fn noticed(&self, percent: u8) {
        let percent = percent.to_string();
        self.notices.with_label_values(&[percent.as_str()]).inc();
    }

    pub(crate) fn webhook(&self, taken: bool) {
        self.webhooks.inc(if taken { "taken" } else { "failed" });
    }

    pub(crate) fn exchanged(&self, result: TokenExchange) {
        self.exchanges.inc(result.as_str());
    }

    pub(crate) fn stated(&self, result: StatementResult) {
        self.statements.inc(result.as_str());
    }

    pub(crate) fn fetched_keys(&self, good: bool) {
        self.key_fetches.inc(if good { "read" } else { "failed" });
    }

    /// The gateway itself has answered, to a caller of this tenant if it is known.
    pub(crate) fn rejected(&self, code: &str, tenant: Option<&TenantId>) {
        self.calls.rejections.inc(code);
        if let Some(tenant) = tenant {
            self.tenants.of(tenant).refused(code);
        }
    }

    /// A call holds money until this is dropped.
    pub(crate) fn holds(&self, hold: &Hold) -> UnderWay {
        let tenant = hold.keys.first().map(|key| &key.tenant);
        UnderWay::call(self.tenants.of_some(tenant), &self.calls.reservations)
    }

    /// The answer of a call is a stream until this is dropped.
    pub(crate) fn streams(&self, call: &UnderWay) -> UnderWay {
        UnderWay::stream(Arc::clone(call.figures()), &self.calls.streams)
    }

    /// An upstream has answered.
    pub(crate) fn answered(&self, provider: &ProviderName, status: u16) {
        self.gen_ai.answered(provider, status);
    }

    /// A call is settled.
    pub(crate) fn settled(&self, call: &UnderWay, ending: &Ending) {
        let nano = self.calls.ended(ending);
        call.figures().ended(ending, nano);
        if let Some(micros) = ending.first_byte_us {
            self.times.first_byte(micros);
        }
    }

    /// How long it took, now that it is; `model` if it was a call of one.
    pub(crate) fn took(
        &self,
        timing: &Timing,
        ended: Instant,
        model: Option<Kind<'_>>,
        ending: &Ending,
    ) {
        self.times.ended(timing, ended);
        if let Some(kind) = model {
            self.gen_ai
                .ended(kind, timing.whole(ended), ending.usage.as_ref());
        }
    }

    /// A call under way has ended because its caller was cut off.
    pub(crate) fn cut_off(&self, caller: &Caller, now: Timestamp) {
        if let Some(delay) = self.revocations.since(caller, now) {
            self.times.revoked(delay);
        }
    }
}

/// Shares of caps. That a cap was reached is there from the start.
fn notices(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let name = "tollgate_cap_notices_total";
    let help = "Shares of spend caps that were passed, by share in percent.";
    let notices = IntCounterVec::new(Opts::new(name, help), &["percent"])?;
    notices.with_label_values(&["100"]).reset();
    registry.register(Box::new(notices.clone()))?;
    Ok(notices)
}
