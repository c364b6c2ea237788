//! What records can be grouped and filtered by.
//!
//! A value is text, and empty where a record has none. Worst case: none.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::Entry;

/// What the operation of a tool's call is named.
const TOOL: &str = "execute_tool";

/// Something to group or filter by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// The tenant.
    Tenant,
    /// The agent.
    Agent,
    /// The task.
    Task,
    /// The model the client named.
    Model,
    /// The provider or tool.
    Provider,
    /// The tool, for calls of tools.
    Tool,
    /// What kind of call: `chat`, `embeddings`, `execute_tool`, ...
    Operation,
    /// The credential, by name.
    Credential,
    /// How it ended.
    Outcome,
    /// The UTC hour it began in.
    Hour,
    /// The UTC day it began on.
    Day,
    /// The UTC month it began in.
    Month,
    /// The prices in force.
    Prices,
    /// The code of a refusal.
    Code,
    /// The rule behind the code.
    Reason,
    /// The cap or limit that refused.
    Limit,
}

impl Dimension {
    /// All there are, each with its name.
    pub const ALL: [(Self, &str); 16] = [
        (Self::Tenant, "tenant"),
        (Self::Agent, "agent"),
        (Self::Task, "task"),
        (Self::Model, "model"),
        (Self::Provider, "provider"),
        (Self::Tool, "tool"),
        (Self::Operation, "operation"),
        (Self::Credential, "credential"),
        (Self::Outcome, "outcome"),
        (Self::Hour, "hour"),
        (Self::Day, "day"),
        (Self::Month, "month"),
        (Self::Prices, "prices"),
        (Self::Code, "code"),
        (Self::Reason, "reason"),
        (Self::Limit, "limit"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(dimension, _)| *dimension == self);
        found.map_or("", |(_, name)| name)
    }

    /// Whether its values are stretches of time.
    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(self, Self::Hour | Self::Day | Self::Month)
    }

    /// Reads names separated by commas.
    ///
    /// # Errors
    /// [`InvalidDimension`] with the first that is none.
    pub fn list(names: &str) -> Result<Vec<Self>, InvalidDimension> {
        let names = names.split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(str::parse)
            .collect()
    }

    /// The value of an entry; empty if it has none.
    #[must_use]
    pub fn value<'e>(self, entry: &'e Entry<'_>) -> Cow<'e, str> {
        let start = |length| entry.started_at.get(..length).unwrap_or_default();
        Cow::Borrowed(match self {
            Self::Tenant => &entry.tenant,
            Self::Agent => &entry.agent,
            Self::Task => &entry.task,
            Self::Model => &entry.model,
            Self::Provider => &entry.provider,
            Self::Tool if entry.operation == TOOL => &entry.provider,
            Self::Tool => "",
            Self::Operation => &entry.operation,
            Self::Credential => &entry.credential,
            Self::Outcome => entry.outcome.as_str(),
            Self::Hour => return Cow::Owned(format!("{}:00Z", start("2026-11-23T07".len()))),
            Self::Day => start("2026-11-23".len()),
            Self::Month => start("2026-11".len()),
            Self::Prices => &entry.prices,
            Self::Code => &entry.code,
            Self::Reason => &entry.reason,
            Self::Limit => &entry.limit,
        })
    }
}

/// Why a text is not a [`Dimension`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDimension(String);

impl fmt::Display for InvalidDimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Dimension::ALL.iter().map(|(_, name)| *name).collect();
        write!(f, "{:?} is none of {}", self.0, names.join(", "))
    }
}

impl std::error::Error for InvalidDimension {}

impl FromStr for Dimension {
    type Err = InvalidDimension;

    fn from_str(text: &str) -> Result<Self, InvalidDimension> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found
            .map(|(dimension, _)| *dimension)
            .ok_or_else(|| InvalidDimension(text.to_owned()))
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
