//! The side of the gateway for those who run and audit it: minting and ending task tokens,
//! balances, reports, probes and metrics, on a listener of its own.
//!
//! Handlers are thin: they read a request, begin a deed, call the core or a store trait, and
//! print. Who may do what is decided in `access`, and what is done is on record before it is
//! done. Anybody who reaches the listener may read the probes, the description of the API, the
//! files of the console and, unless the settings say otherwise, metrics that name no tenant; hence
//! it listens on loopback by default. Knows nothing of policies' files, stores' insides or the call
//! path. Worst case of a leaked operator credential: tokens for any tenant
//! until it is removed; secrets never pass through here.

mod access;
pub mod audit_key;
mod browser;
pub mod budgets;
mod console;
pub mod credentials;
mod events;
pub mod explain;
pub mod exposition;
mod form;
mod introspection;
pub mod live;
pub mod log;
mod openapi;
pub mod probes;
mod problem;
pub mod purge;
pub mod reports;
pub mod server;
pub mod tenants;
pub mod tokens;
mod whoami;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use credentials::CredentialSource;
use tollgate_core::admin_log::AdminLog;
use tollgate_core::budget::BudgetStore;
use tollgate_core::happening::Happenings;
use tollgate_core::identity::KeySet;
use tollgate_core::issue::TokenDesk;
use tollgate_core::policy::Policy;
use tollgate_core::time::Timestamp;

/// Source of the current time, so that tests can hold it still.
pub type Clock = fn() -> Timestamp;

/// Gives the policy now in force.
pub type CurrentPolicy = Arc<dyn Fn() -> Arc<Policy> + Send + Sync>;

/// Everything the handlers call.
pub struct Admin {
    /// Who may ask.
    pub credentials: Arc<dyn CredentialSource>,
    /// Where it is kept who asked for what.
    pub log: Arc<dyn AdminLog>,
    /// Gives out task tokens.
    pub desk: Arc<TokenDesk>,
    /// Whose signatures are believed.
    pub keys: KeySet,
    /// Where money is counted.
    pub budgets: Arc<dyn BudgetStore>,
    /// What has been spent on what.
    pub reports: Arc<dyn reports::CostReports>,
    /// What a running gateway knows of the moment.
    pub live: Arc<dyn live::LiveFigures>,
    /// What its calls show to those who watch.
    pub happenings: Arc<dyn Happenings>,
    /// How much is said in the log.
    pub log_levels: Arc<dyn log::LogLevels>,
    /// What would become of a call.
    pub explainer: Arc<dyn explain::Explainer>,
    /// Takes away records whose time is over.
    pub purge: Arc<dyn purge::Purge>,
    /// What signs the records.
    pub signer: audit_key::Signer,
    /// What the gateway still lacks.
    pub readiness: Arc<dyn probes::Readiness>,
    /// Names in public DNS that browsers may call this listener by.
    pub names: BTreeSet<String>,
    /// What is measured of the whole process.
    pub exposition: exposition::Exposition,
    /// What is counted here.
    pub figures: Arc<exposition::AdminFigures>,
    /// Tenants and their caps.
    pub policy: CurrentPolicy,
    /// The time.
    pub clock: Clock,
}
