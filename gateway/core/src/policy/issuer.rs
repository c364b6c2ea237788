//! Issuers of foreign tokens, and whose tenant and agent their tokens speak for.
//!
//! A mapping names conditions on verified claims and says what they give. Exactly one mapping of
//! an issuer must fit a token; with none or two there is no answer. Knows neither signatures nor
//! requests. Worst case: a mapping that takes the tenant from a claim lets whoever sets that claim
//! at the issuer choose among all tenants.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde_json::Value;

use super::Upstream;
use crate::identity::Expected;
use crate::ids::{AgentId, TaskId, TenantId};

/// An issuer whose tokens can be exchanged for task tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its name here, for logs.
    pub name: String,
    /// What its tokens must be.
    pub expected: Expected,
    /// Where its keys are.
    pub keys: KeySource,
    /// Whose its tokens are.
    pub mappings: Vec<Mapping>,
}

/// Where an issuer's key set is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// An address, asked again every few minutes.
    Url {
        /// Where; its base path is the whole path.
        at: Upstream,
        /// A file with a token to ask with, read for each request. Kubernetes wants one.
        bearer_token_file: Option<PathBuf>,
    },
}

/// Whose a token is, if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The conditions.
    pub when: Vec<(Pointer, ClaimPattern)>,
    /// Whose.
    pub tenant: Named<TenantId>,
    /// Which agent.
    pub agent: Named<AgentId>,
    /// What for. `None`: the request names it.
    pub task: Option<Named<TaskId>>,
    /// Whether the request may name the task.
    pub task_may_be_requested: bool,
}

/// An id, written down or taken from a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named<T> {
    /// This one.
    Literal(T),
    /// The text at `claim`, without the prefix that it must have.
    Claim {
        /// Where.
        claim: Pointer,
        /// What must stand before the id; may be empty.
        prefix: String,
    },
}

/// Tenant, agent and task that a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The tenant.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// The task.
    pub task: TaskId,
}

/// Why a verified token stands for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapFault {
    /// No mapping fits.
    #[error("no mapping fits the claims")]
    Unmapped,
    /// More than one fits.
    #[error("more than one mapping fits the claims")]
    Ambiguous,
    /// A claim that names tenant, agent or task is missing, or no valid id.
    #[error("a claim is no valid id")]
    InvalidId,
    /// The request names a task and must not.
    #[error("the task may not be requested")]
    TaskNotYours,
    /// Nobody names the task.
    #[error("the request must name a task")]
    TaskMissing,
}

impl MapFault {
    /// The rule that decided, for the record.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unmapped => "subject_unmapped",
            Self::Ambiguous => "subject_ambiguous",
            Self::InvalidId => "subject_id_invalid",
            Self::TaskNotYours => "task_not_requestable",
            Self::TaskMissing => "task_missing",
        }
    }
}

impl Issuer {
    /// Whose a token with these verified claims is.
    ///
    /// # Errors
    /// [`MapFault`]
    pub fn map(&self, claims: &Value, requested: Option<&TaskId>) -> Result<Mapped, MapFault> {
        let mut fitting = self.mappings.iter().filter(|mapping| mapping.fits(claims));
        let mapping = fitting.next().ok_or(MapFault::Unmapped)?;
        if fitting.next().is_some() {
            return Err(MapFault::Ambiguous);
        }
        Ok(Mapped {
            tenant: mapping.tenant.read(claims)?,
            agent: mapping.agent.read(claims)?,
            task: mapping.task(claims, requested)?,
        })
    }
}

impl Mapping {
    fn fits(&self, claims: &Value) -> bool {
        let mut conditions = self.when.iter();
        conditions.all(|(claim, pattern)| claim.in_(claims).is_some_and(|at| pattern.fits(at)))
    }

    fn task(&self, claims: &Value, requested: Option<&TaskId>) -> Result<TaskId, MapFault> {
        match (requested, &self.task) {
            (Some(task), _) if self.task_may_be_requested => Ok(task.clone()),
            (Some(_), _) => Err(MapFault::TaskNotYours),
            (None, Some(task)) => task.read(claims),
            (None, None) => Err(MapFault::TaskMissing),
        }
    }
}

impl<T: FromStr + Clone> Named<T> {
    fn read(&self, claims: &Value) -> Result<T, MapFault> {
        match self {
            Self::Literal(id) => Ok(id.clone()),
            Self::Claim { claim, prefix } => claim
                .in_(claims)
                .and_then(Value::as_str)
                .and_then(|text| text.strip_prefix(prefix.as_str()))
                .and_then(|text| text.parse().ok())
                .ok_or(MapFault::InvalidId),
        }
    }
}

/// A place in the claims: an RFC 6901 JSON pointer, not the empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(String);

/// Not such a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a place in the claims is written /name or /name/name, with ~1 for a slash and ~0 for a tilde in a name"
)]
pub struct InvalidPointer;

impl FromStr for Pointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, InvalidPointer> {
        let escapes_are_whole = text
            .split('~')
            .skip(1)
            .all(|rest| rest.starts_with(['0', '1']));
        if text.starts_with('/') && text.len() > 1 && escapes_are_whole {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPointer)
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pointer {
    fn in_<'c>(&self, claims: &'c Value) -> Option<&'c Value> {
        claims.pointer(&self.0)
    }
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimPattern {
    /// Exactly this text.
    Text(String),
    /// A text that begins so.
    Prefix(String),
    /// Exactly this truth value.
    Boolean(bool),
    /// Exactly this whole number.
    Integer(u64),
}

impl ClaimPattern {
    fn fits(&self, claim: &Value) -> bool {
        match self {
            Self::Text(text) => claim == text,
            Self::Prefix(prefix) => claim.as_str().is_some_and(|text| text.starts_with(prefix)),
            Self::Boolean(value) => claim == value,
            Self::Integer(number) => claim.as_u64() == Some(*number),
        }
    }
}
