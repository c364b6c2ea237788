//! Giving out task tokens: the one way a token comes to life, whoever asked for it.
//!
//! A token is given out only once the registry has it for good, and only for a tenant and an
//! agent that the policy in force lets in. Who may ask for which tenant is decided before. Worst
//! case: a tenant that is disabled between the check and the answer has a token that no call
//! accepts.

use std::sync::Arc;

use crate::budget::StoreError;
use crate::identity::{Caller, Mint, MintError, TokenRequest};
use crate::ids::TokenId;
use crate::policy::Policy;
use crate::registry::{Registered, TokenRegistry};
use crate::time::Timestamp;

/// Makes task tokens and puts them on the table of live ones.
pub struct TokenDesk {
    /// Signs.
    pub mint: Mint,
    /// Where live tokens are kept.
    pub registry: Arc<dyn TokenRegistry>,
}

/// Why no token was given out.
#[derive(Debug, thiserror::Error)]
pub enum NotIssued {
    /// The tenant is not configured here.
    #[error("no policy file defines this tenant")]
    UnknownTenant,
    /// The tenant is locked out.
    #[error("this tenant is disabled by policy")]
    DisabledTenant,
    /// The agent is locked out.
    #[error("this agent is disabled by policy")]
    DisabledAgent,
    /// The task is over.
    #[error("this task is complete")]
    TaskComplete,
    /// Agent or tenant were revoked after the credential was issued that the token would rest on.
    #[error("the credential was issued before its agent or tenant was revoked")]
    Revoked,
    /// It would live too long, or the key does not sign.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The registry could not be written, or the id it was to have is taken.
    #[error(transparent)]
    Registry(#[from] StoreError),
}

/// Two tokens with one id: the source of ids is broken.
#[derive(Debug, thiserror::Error)]
#[error("another token has this id")]
struct IdTaken;

impl TokenDesk {
    /// Makes a token.
    ///
    /// `rests_on` is when the credential was issued that it is exchanged for, if there is one;
    /// `id` must never have been used before.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn issue(
        &self,
        policy: &Policy,
        wanted: TokenRequest,
        rests_on: Option<Timestamp>,
        now: Timestamp,
        id: TokenId,
    ) -> Result<(String, Caller), NotIssued> {
        let tenant = policy
            .tenants
            .get(&wanted.tenant)
            .ok_or(NotIssued::UnknownTenant)?;
        if !tenant.enabled {
            return Err(NotIssued::DisabledTenant);
        }
        if tenant.disabled_agents.contains(&wanted.agent) {
            return Err(NotIssued::DisabledAgent);
        }
        let (token, caller) = self.mint.issue(wanted, now, id)?;
        match self.registry.register(&caller, rests_on).await? {
            Registered::Live => Ok((token, caller)),
            Registered::TaskComplete => Err(NotIssued::TaskComplete),
            Registered::Revoked => Err(NotIssued::Revoked),
            Registered::IdTaken => Err(NotIssued::Registry(StoreError {
                operation: "register a token",
                store: "registry",
                cause: Box::new(IdTaken),
            })),
        }
    }
}
