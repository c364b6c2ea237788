//! The gateway: everything a call needs, wired once at start and shared by all calls.

use std::sync::Arc;

use tollgate_core::admission::Admission;
use tollgate_core::budget::BudgetStore;
use tollgate_core::deferred::DeferredCharges;
use tollgate_core::issue::TokenDesk;
use tollgate_core::rate::RateStore;
use tollgate_core::record::{CallLog, RecordLog};
use tollgate_core::registry::TokenRegistry;
use tollgate_core::time::Timestamp;
use tollgate_core::vault::Vault;

use crate::authenticate::Standings;
use crate::collect::MemoryBudget;
use crate::engine::EngineConfig;
use crate::happenings::Scene;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::notices::CapMarks;
use crate::oauth::TokenExchanges;
use crate::obtain::Obtainer;
use crate::pool::Upstreams;
use crate::pressure::Pressure;
use crate::reserve::Accounts;
use crate::sealed::SealedTokens;
use crate::statement::Statements;
use crate::traces::Traces;
use crate::tracker::Tracker;

/// Where durable state lives.
pub struct Stores {
    /// Money and pace, taken together.
    pub admission: Arc<dyn Admission>,
    /// Money.
    pub budgets: Arc<dyn BudgetStore>,
    /// Request rates.
    pub rates: Arc<dyn RateStore>,
    /// Live task tokens.
    pub registry: Arc<dyn TokenRegistry>,
    /// Records.
    pub records: Arc<dyn RecordLog>,
    /// Deferred work.
    pub deferred: Arc<dyn DeferredCharges>,
    /// Secrets.
    pub vault: Arc<dyn Vault>,
}

/// Bounds on what one call may take.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// The longest body that is read whole before it is judged.
    pub inspected_body_bytes: u64,
    /// The longest body that is streamed through.
    pub streamed_body_bytes: u64,
    /// How long an inspected body may take to arrive.
    pub body_deadline: std::time::Duration,
    /// Time between two pieces of a streamed body.
    pub upload_idle: std::time::Duration,
}

/// Source of the current time. One per process, so that tests can hold it still.
pub type Clock = fn() -> Timestamp;

/// Everything a call needs.
pub struct Gateway {
    /// Policy, prices and keys now in force.
    pub live: Live,
    /// Durable state.
    pub stores: Stores,
    /// Connections to providers.
    pub upstreams: Upstreams,
    /// Callers by certificate, as the registry knows them.
    pub standings: Standings,
    /// Access tokens.
    pub obtainer: Obtainer,
    /// Tokens that are kept from agents.
    pub sealed: SealedTokens,
    /// Bounds on what one call may take.
    pub limits: CallLimits,
    /// Bounds of the connections on both legs.
    pub engine: Arc<EngineConfig>,
    /// Who finds room when calls are many.
    pub pressure: Pressure,
    /// How much memory all buffered bodies together may take.
    pub memory: MemoryBudget,
    /// Counters.
    pub metrics: Metrics,
    /// Where spans of calls go, if anywhere.
    pub traces: Option<Traces>,
    /// What calls that count alike have to keep.
    pub accounts: Accounts,
    /// Whose caps are to be looked at for notices.
    pub caps: CapMarks,
    /// Where calls' log lines go.
    pub call_log: Arc<dyn CallLog>,
    /// What those who watch are shown.
    pub scene: Arc<Scene>,
    /// Calls and drains in flight.
    pub tracker: Tracker,
    /// Gives out task tokens.
    pub desk: Arc<TokenDesk>,
    /// Where tokens are exchanged and renewed.
    pub token_exchanges: TokenExchanges,
    /// Where callers ask for their own figures.
    pub statements: Statements,
    /// The time.
    pub clock: Clock,
}
