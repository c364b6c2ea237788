//! The table of live task tokens. A valid signature alone opens nothing: the token must also be
//! on this table and not revoked.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::budget::StoreError;
use crate::identity::Caller;
use crate::ids::{AgentId, TaskId, TenantId, TokenId};
use crate::time::Timestamp;

/// What the registry knows about a token now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Minted here and not revoked.
    Live,
    /// It, its task, its agent or its tenant has been revoked, or its task is complete.
    Revoked,
    /// Never registered, or expired long enough ago to be forgotten.
    Unknown,
}

/// What became of a token that was to be put on the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registered {
    /// It is live.
    Live,
    /// It is not on the table, because its task is complete.
    TaskComplete,
    /// It is not on the table: another token has its id.
    IdTaken,
    /// It is not on the table, because its agent or tenant has been revoked since the credential
    /// was issued that it rests on.
    Revoked,
}

/// What to revoke.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Revocation {
    /// One token.
    Token {
        /// Its tenant.
        tenant: TenantId,
        /// Its id.
        token: TokenId,
    },
    /// Every token of a task, now and later: the task is over.
    Task {
        /// Its tenant.
        tenant: TenantId,
        /// The task.
        task: TaskId,
    },
    /// Every token an agent holds now, and every credential issued before now that it could
    /// exchange for another. Tokens minted afterwards are good.
    Agent {
        /// Its tenant.
        tenant: TenantId,
        /// The agent.
        agent: AgentId,
    },
    /// Every token a tenant holds now, and every credential issued before now that could be
    /// exchanged for another. Tokens minted afterwards are good.
    Tenant {
        /// The tenant.
        tenant: TenantId,
    },
}

/// Where live tokens are kept. Both changes are durable when they return, and survive a crash.
#[async_trait]
pub trait TokenRegistry: Send + Sync {
    /// Whether the caller's token is live. Called on every call and, for open streams, every
    /// second; answers from memory.
    ///
    /// # Errors
    /// If the registry cannot be read. The call is then refused.
    fn liveness(&self, caller: &Caller) -> Result<Liveness, StoreError>;

    /// As [`liveness`](Self::liveness), asked of the table itself where the answer from memory is
    /// [`Liveness::Unknown`]: another replica may just have registered the token.
    async fn look_up(&self, caller: &Caller) -> Result<Liveness, StoreError> {
        self.liveness(caller)
    }

    /// Puts a token on the table.
    ///
    /// `rests_on` is when the credential was issued that the token was exchanged for: a
    /// revocation of its agent or tenant ends what was issued before it, whoever issued it.
    async fn register(
        &self,
        caller: &Caller,
        rests_on: Option<Timestamp>,
    ) -> Result<Registered, StoreError>;

    /// Takes tokens off the table; returns how many live ones that ended.
    async fn revoke(&self, what: &Revocation, now: Timestamp) -> Result<usize, StoreError>;
}
