//! What those who watch a gateway are shown of its calls: which are under way, and, as it happens,
//! which were refused and how others ended.
//!
//! Nothing of this is kept; the records are. Whoever watches sees what concerns the tenants it is
//! for, and cannot tell how much there is of others'. Worst case: somebody who reads slowly
//! misses some, and is told how many.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::ids::{AgentId, ModelName, ProviderName, RecordId, TaskId, TenantId, TokenId};
use crate::money::PicoUsd;
use crate::record::Outcome;
use crate::time::Timestamp;

/// Whose affairs somebody may watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Those of all tenants and of strangers.
    Operators,
    /// Those of these tenants.
    Tenants(BTreeSet<TenantId>),
}

impl Audience {
    /// Whether it sees what this tenant does; without one, what a stranger does.
    #[must_use]
    pub fn sees(&self, tenant: Option<&TenantId>) -> bool {
        match (self, tenant) {
            (Self::Operators, _) => true,
            (Self::Tenants(tenants), Some(tenant)) => tenants.contains(tenant),
            (Self::Tenants(_), None) => false,
        }
    }
}

/// A call that was let through and has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenCall {
    /// Its record's id.
    pub id: RecordId,
    /// When its head had been read.
    pub started_at: Timestamp,
    /// Whose it is.
    pub tenant: TenantId,
    /// Which agent's.
    pub agent: AgentId,
    /// For which task.
    pub task: TaskId,
    /// By which token.
    pub token: TokenId,
    /// Where it goes.
    pub provider: Option<ProviderName>,
    /// The model that was asked for.
    pub model: Option<ModelName>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// What it can cost at worst, which is held for it.
    pub reserved_usd: PicoUsd,
    /// The status of the answer, once there is one.
    pub status: Option<u16>,
    /// Bytes of the answer that have come so far.
    pub answer_bytes: u64,
}

/// Calls under way, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OpenCalls {
    /// Those that are shown.
    pub calls: Vec<OpenCall>,
    /// How many more there are.
    pub left_out: usize,
}

/// A request that went no further than the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TurnedAway {
    /// Its record's id.
    pub id: RecordId,
    /// When its head had been read.
    pub at: Timestamp,
    /// `refused`, or `failed` where the gateway could not decide.
    pub outcome: Outcome,
    /// The status of the answer.
    pub status: u16,
    /// The code in the answer.
    pub code: String,
    /// The rule behind it.
    pub reason: String,
    /// The cap or limit that refused.
    pub limit: Option<String>,
    /// Whose request it was. Absent for strangers, like whatever else a stranger only claims.
    pub tenant: Option<TenantId>,
    /// Which agent's.
    pub agent: Option<AgentId>,
    /// For which task.
    pub task: Option<TaskId>,
    /// Where it would have gone.
    pub provider: Option<ProviderName>,
    /// The model that was asked for: any text.
    pub model: Option<ModelName>,
    /// The method.
    pub method: Option<String>,
    /// The path without its query: any text.
    pub path: Option<String>,
    /// The address of a stranger.
    pub client: Option<String>,
}

/// How a call that was let through has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallEnd {
    /// Its record's id.
    pub id: RecordId,
    /// When.
    pub at: Timestamp,
    /// Whose it was.
    pub tenant: TenantId,
    /// Which agent's.
    pub agent: AgentId,
    /// For which task.
    pub task: TaskId,
    /// Where it went.
    pub provider: Option<ProviderName>,
    /// The model that was asked for.
    pub model: Option<ModelName>,
    /// In which way.
    pub outcome: Outcome,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The code of a failure.
    pub code: Option<String>,
    /// What it cost.
    pub cost_usd: PicoUsd,
    /// Tokens in, where they are counted.
    pub input_tokens: Option<u64>,
    /// Tokens out, where they are counted.
    pub output_tokens: Option<u64>,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// Somebody was turned away.
    TurnedAway(Box<TurnedAway>),
    /// A call has ended that took long, or otherwise than well.
    Ended(Box<CallEnd>),
}

/// What has happened since somebody last looked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// In the order in which it happened.
    pub happenings: Vec<Happening>,
    /// How many older ones were dropped because nobody had looked.
    pub missed: u64,
}

/// What can be watched.
pub trait Happenings: Send + Sync {
    /// The calls under way that `audience` sees, the oldest first, `most` of them at most.
    fn open_calls(&self, audience: &Audience, most: usize) -> OpenCalls;

    /// Keeps what `audience` sees from now on, until the answer is dropped. `None` if as many are
    /// watching as may.
    fn follow(&self, audience: Audience) -> Option<Box<dyn Following>>;
}

/// Somebody's place among those who watch.
pub trait Following: Send {
    /// Takes what has happened. `None` once the place was given to somebody else, because nobody
    /// had looked for long.
    fn take(&mut self) -> Option<News>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_for_operators_alone_and_tenants_for_those_they_are_named_to() {
        let id = |text: &str| text.parse::<TenantId>().expect("an id");
        let (acme, globex) = (id("acme"), id("globex"));
        let own = Audience::Tenants([acme.clone()].into());
        let seen = [Some(&acme), Some(&globex), None];
        assert_eq!(seen.map(|of| own.sees(of)), [true, false, false]);
        assert_eq!(seen.map(|of| Audience::Operators.sees(of)), [true; 3]);
    }
}
