//! Who is calling: task tokens and what it takes to believe one.
//!
//! A token is a JWT in one exact form. [`find_token`] says where it stands in a request,
//! [`verify`] turns it into a [`Caller`], [`Mint`] makes new ones, [`strip`] keeps it from going
//! any further. Whether a token is still live is the registry's business, not decided here.
//!
//! Worst case: a stolen token is good until its `exp`, at most [`MAX_LIFETIME_SECONDS`] after
//! its `iat`, unless the registry ends it earlier. `exp` is taken without any leeway; only `iat`
//! and `nbf` may lie in the future, by the key set's clock skew.

mod certificate;
mod external;
mod keys;
mod mint;
mod presented;
mod strict;
mod verify;

#[cfg(test)]
mod tests;

pub use certificate::{
    CertificateDigest, ClientCertificate, InvalidDigest, InvalidSubjectName, SubjectName,
};
pub use external::{
    Expected, External, ExternalFault, InvalidJwks, Jwks, MAX_EXTERNAL_BYTES, MAX_KEYS, Verified,
};
pub use keys::{DEFAULT_CLOCK_SKEW, InvalidKey, KeySet, SigningAlgorithm, TrustedKey};
pub use mint::{Mint, MintError, TokenRequest, new_private_key};
pub use presented::{
    Presented, TOKEN_HEADER, TokenPlace, find_token, is_stripped, is_token, strip, strips_parameter,
};
pub use verify::{MAX_TOKEN_BYTES, verify};

use crate::ids::{AgentId, TaskId, TenantId, TokenId};
use crate::time::Timestamp;

/// The longest life a task token may have, in seconds. Longer ones are refused even when their
/// signature is good, so that a leaked token is worth little.
pub const MAX_LIFETIME_SECONDS: i64 = 300;

/// An authenticated identity. [`verify`] and the mint make one; so does the call path for a client
/// certificate that policy maps to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The tenant that everything this caller does belongs to.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// The task.
    pub task: TaskId,
    /// The token's id.
    pub token: TokenId,
    /// When the token was issued.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The client certificate it must come with, if it is bound to one (RFC 8705).
    pub certificate: Option<CertificateDigest>,
}

impl Caller {
    /// Whether the token behind this caller has not ended. For callers kept from an earlier
    /// [`verify`]: of everything checked there, this alone can change with time.
    ///
    /// # Errors
    /// [`TokenFault::Expired`] from the very second of `exp` on.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), TokenFault> {
        if now < self.expires_at {
            Ok(())
        } else {
            Err(TokenFault::Expired)
        }
    }
}

/// What is wrong with a token. Callers all see the same 401; the record keeps the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// There is none where SDKs put a key.
    #[error("no task token")]
    Missing,
    /// More than one, or in a form that can be read in two ways.
    #[error("ambiguous task token")]
    Ambiguous,
    /// Not a JWT of the accepted form.
    #[error("not a task token")]
    Malformed,
    /// The signature, key or algorithm is not one of ours.
    #[error("signature not accepted")]
    Signature,
    /// A claim is missing or of the wrong kind, or issuer or audience are others.
    #[error("claims not accepted")]
    Claims,
    /// It lives longer than tokens may.
    #[error("lifetime over 300 s")]
    Lifetime,
    /// It has ended.
    #[error("expired")]
    Expired,
    /// It is from the future.
    #[error("not yet valid")]
    NotYetValid,
    /// The registry does not know it.
    #[error("not registered")]
    Unregistered,
    /// It, its task, its agent or its tenant has been revoked.
    #[error("revoked")]
    Revoked,
    /// Its tenant is not configured here.
    #[error("tenant not configured")]
    UnknownTenant,
    /// Its agent is disabled by policy.
    #[error("agent disabled")]
    DisabledAgent,
    /// It is bound to a client certificate, and came with another or none.
    #[error("bound to another client certificate")]
    Binding,
    /// The client certificate names no agent, or more than one.
    #[error("client certificate names no agent")]
    Certificate,
    /// The client certificate has ended since the connection was made.
    #[error("client certificate expired")]
    CertificateExpired,
}

impl TokenFault {
    /// The rule that decided, for the record.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Ambiguous => "token_ambiguous",
            Self::Malformed => "token_malformed",
            Self::Signature => "token_signature",
            Self::Claims => "token_claims",
            Self::Lifetime => "token_lifetime",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::Unregistered => "token_unregistered",
            Self::Revoked => "token_revoked",
            Self::UnknownTenant => "tenant_unknown",
            Self::DisabledAgent => "agent_disabled",
            Self::Binding => "token_binding",
            Self::Certificate => "certificate_unmapped",
            Self::CertificateExpired => "certificate_expired",
        }
    }
}
