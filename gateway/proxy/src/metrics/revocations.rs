//! Which revocations there were lately, to know how long calls under way outlived them.
//!
//! Worst case: more than [`KEPT`] in the life of a call; the delay of the oldest is not known
//! then, and not counted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::Registry;
use tollgate_core::identity::Caller;
use tollgate_core::registry::Revocation;
use tollgate_core::time::Timestamp;

use super::by_word::ByWord;

/// Revocations remembered.
const KEPT: usize = 1_024;

/// Counted where they were asked for; remembered wherever they were heard of.
pub(crate) struct Revocations {
    made: ByWord,
    lately: Mutex<VecDeque<(Timestamp, Revocation)>>,
}

const KINDS: [&str; 4] = ["token", "task", "agent", "tenant"];

const fn kind(what: &Revocation) -> &'static str {
    match what {
        Revocation::Token { .. } => "token",
        Revocation::Task { .. } => "task",
        Revocation::Agent { .. } => "agent",
        Revocation::Tenant { .. } => "tenant",
    }
}

impl Revocations {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let told = (
            "tollgate_revocations_total",
            "Revocations asked of this gateway, completed tasks among them, by what they end.",
        );
        Ok(Self {
            made: ByWord::register(registry, told, "kind", KINDS)?,
            lately: Mutex::default(),
        })
    }

    /// Somebody revokes something here.
    pub(crate) fn made(&self, what: &Revocation, at: Timestamp) {
        self.made.inc(kind(what));
        self.heard(what, at);
    }

    /// Something has been revoked, here or elsewhere.
    pub(crate) fn heard(&self, what: &Revocation, at: Timestamp) {
        let mut lately = self.lock();
        if lately.len() >= KEPT {
            lately.pop_front();
        }
        lately.push_back((at, what.clone()));
    }

    /// How long ago the first revocation was that ended the caller's token.
    pub(crate) fn since(&self, caller: &Caller, now: Timestamp) -> Option<Duration> {
        let ends = |what: &Revocation| match what {
            Revocation::Token { tenant, token } => {
                *tenant == caller.tenant && *token == caller.token
            }
            Revocation::Task { tenant, task } => *tenant == caller.tenant && *task == caller.task,
            Revocation::Agent { tenant, agent } => {
                *tenant == caller.tenant && *agent == caller.agent
            }
            Revocation::Tenant { tenant } => *tenant == caller.tenant,
        };
        let lately = self.lock();
        // What was issued after a revocation of its agent or tenant was not ended by it. Clocks of
        // two replicas may differ by a little; a task's end holds for all of its tokens.
        let mut ending = lately.iter().filter(|(at, what)| {
            let lives_on = matches!(what, Revocation::Agent { .. } | Revocation::Tenant { .. })
                && *at < caller.issued_at;
            ends(what) && !lives_on
        });
        ending.next().map(|(at, _)| now.since(*at))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Timestamp, Revocation)>> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
