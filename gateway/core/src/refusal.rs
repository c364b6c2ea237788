//! Every deliberate no, each with a stable code.
//!
//! `code` is what clients, metrics and dashboards see; renaming one is a breaking change.
//! `reason` is finer and goes to the record only, so that a caller learns nothing from it.

use std::borrow::Cow;
use std::time::Duration;

use crate::budget::{Balance, BudgetKey};
use crate::identity::TokenFault;
use crate::ids::ModelName;
use crate::json::JsonFault;
use crate::money::PicoUsd;
use crate::rate::RateKey;
use crate::time::Timestamp;

/// Why a call is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token, or one that does not hold.
    #[error("the task token is missing or not valid: {0}")]
    Unauthenticated(#[from] TokenFault),
    /// The path leads to no route of this gateway, or to none this caller may use.
    #[error("{what} is not allowed for this caller")]
    NotAllowed {
        /// `route`, `method`, `provider`, `agent`, `host`: what the rule was about.
        what: &'static str,
    },
    /// An elevated action that no rule of the tenant lets this agent use.
    #[error("this is an elevated action, and it is not granted to this agent")]
    ElevatedNotGranted,
    /// The model is not on the tenant's list.
    #[error("the model {0} is not allowed for this caller")]
    ModelDenied(ModelName),
    /// The provider's account is shared with other tenants, and this would reach what it keeps.
    #[error("this key is shared: what the provider keeps for its account cannot be used with it")]
    SharedAccount,
    /// A credential that is unknown, another tenant's, not granted, or not bound to this place.
    /// Deliberately one and the same answer for all of them.
    #[error("no such credential for this request")]
    CredentialDenied {
        /// For the record only.
        reason: &'static str,
    },
    /// More than one handle where one credential goes.
    #[error("a credential handle may stand in one place only")]
    HandleRepeated,
    /// Something that looks like a handle but is not one, where a handle is expected.
    #[error("malformed credential handle: {hint}")]
    BadHandle {
        /// What to write instead.
        hint: Cow<'static, str>,
    },
    /// There is no price for this, and the tenant has a cap.
    #[error("there is no price for {what}, and this tenant has a spend cap")]
    NotPriced {
        /// The model or endpoint.
        what: String,
    },
    /// A batch over a file that has not passed through this gateway, or whose calls cannot be
    /// priced, where it matters what it costs or which models it uses.
    #[error(
        "what this batch may cost is not known: upload its input through this gateway, with models that have a price"
    )]
    BatchNotBounded,
    /// Too many requests or tokens for now, or too many requests at once.
    #[error("the limit {key} is reached; retry in {} s", .retry_after.as_millis().div_ceil(1_000))]
    RateLimited {
        /// Which limit.
        key: RateKey,
        /// When the next one may come.
        retry_after: Duration,
    },
    /// A cap has been reached: nothing more fits before the reset.
    #[error("the spend cap {key} of {limit} USD is reached: {} USD spent, {} USD reserved", .balance.settled, .balance.reserved)]
    CapReached {
        /// Which counter.
        key: BudgetKey,
        /// Its limit.
        limit: PicoUsd,
        /// What it holds.
        balance: Balance,
        /// When it starts from zero.
        resets_at: Option<Timestamp>,
    },
    /// There is room under the cap, but not for the worst case of this call.
    #[error("this call may cost up to {asked} USD, more than the spend cap {key} of {limit} USD has left: {} USD spent, {} USD reserved", .balance.settled, .balance.reserved)]
    ExceedsHeadroom {
        /// Which counter.
        key: BudgetKey,
        /// Its limit.
        limit: PicoUsd,
        /// What it holds.
        balance: Balance,
        /// When it starts from zero.
        resets_at: Option<Timestamp>,
        /// The worst case of this call.
        asked: PicoUsd,
        /// The largest output bound, in tokens, with which the call would fit.
        fitting_output_tokens: Option<u64>,
    },
    /// The request cannot be understood, or could be understood in two ways.
    #[error("{detail}")]
    Malformed {
        /// A code of its own, such as `invalid_json`.
        code: &'static str,
        /// What is wrong, safe to show.
        detail: &'static str,
    },
    /// The body is longer than this gateway takes.
    #[error("the request body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: u64,
    },
}

impl From<JsonFault> for Refusal {
    fn from(fault: JsonFault) -> Self {
        let (code, detail) = match fault {
            JsonFault::NotAnObject => ("invalid_json", "the request body is not a JSON object"),
            JsonFault::DuplicateField => (
                "duplicate_field",
                "a field of the request body occurs twice",
            ),
            JsonFault::TooManyFields => ("invalid_field", "the request body has too many fields"),
        };
        Self::Malformed { code, detail }
    }
}

impl Refusal {
    /// The stable code for clients, metrics and dashboards.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated(_) => "invalid_api_key",
            Self::NotAllowed { .. }
            | Self::ElevatedNotGranted
            | Self::ModelDenied(_)
            | Self::SharedAccount => "not_allowed",
            Self::CredentialDenied { .. } => "credential_denied",
            Self::HandleRepeated => "handle_repeated",
            Self::BadHandle { .. } => "bad_handle",
            Self::NotPriced { .. } => "model_not_priced",
            Self::BatchNotBounded => "batch_not_bounded",
            Self::RateLimited { .. } => "rate_limit_exceeded",
            Self::CapReached { .. } => "spend_limit_exceeded",
            Self::ExceedsHeadroom { .. } => "request_exceeds_headroom",
            Self::Malformed { code, .. } => code,
            Self::BodyTooLarge { .. } => "body_too_large",
        }
    }

    /// The rule that decided, for the record.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unauthenticated(fault) => fault.reason(),
            Self::NotAllowed { what } => what,
            Self::ElevatedNotGranted => "elevated_not_granted",
            Self::ModelDenied(_) => "model",
            Self::SharedAccount => "shared_account",
            Self::CredentialDenied { reason } => reason,
            Self::RateLimited { key, .. } => key.counted.as_str(),
            _ => self.code(),
        }
    }

    /// The largest output bound, in tokens, with which the call would fit under its caps.
    #[must_use]
    pub const fn fitting_output_tokens(&self) -> Option<u64> {
        match self {
            Self::ExceedsHeadroom {
                fitting_output_tokens,
                ..
            } => *fitting_output_tokens,
            _ => None,
        }
    }

    /// The cap or limit that refused, for the record.
    #[must_use]
    pub fn limit(&self) -> Option<String> {
        match self {
            Self::RateLimited { key, .. } => Some(key.to_string()),
            Self::CapReached { key, .. } | Self::ExceedsHeadroom { key, .. } => {
                Some(key.to_string())
            }
            _ => None,
        }
    }
}
