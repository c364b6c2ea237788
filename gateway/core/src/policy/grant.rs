//! What a tenant may call: leave is given by a list, and whatever no list names is refused.
//!
//! Compares bytes, as patterns do. Whether an action is elevated is decided elsewhere. Worst
//! case: a path in an unusual spelling is refused.

use super::{NamePattern, PathPattern, Tenant};
use crate::ids::{AgentId, ModelName, ProviderName};

/// Leave to call a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The provider.
    pub provider: ProviderName,
    /// Which models; empty means every one.
    pub models: Vec<NamePattern>,
    /// Which agents; empty means every one.
    pub agents: Vec<NamePattern>,
    /// Which paths; empty means every endpoint of the provider.
    pub paths: Vec<PathPattern>,
}

impl Tenant {
    /// The grant that lets `agent` call `provider` at `path` (and with `model`, if there is one).
    #[must_use]
    pub fn grant(&self, agent: &AgentId, provider: &ProviderName, path: &str) -> Option<&Grant> {
        self.grants.iter().find(|grant| {
            grant.provider == *provider
                && covers(&grant.agents, agent.as_str())
                && (grant.paths.is_empty()
                    || grant.paths.iter().any(|pattern| pattern.matches(path)))
        })
    }

    /// The grant that lets `agent` use `model` of `provider` at `path`.
    #[must_use]
    pub fn grant_of_model(
        &self,
        agent: &AgentId,
        provider: &ProviderName,
        path: &str,
        model: &ModelName,
    ) -> Option<&Grant> {
        self.grants.iter().find(|grant| {
            grant.provider == *provider
                && covers(&grant.agents, agent.as_str())
                && (grant.paths.is_empty()
                    || grant.paths.iter().any(|pattern| pattern.matches(path)))
                && covers(&grant.models, model.as_str())
        })
    }

    /// Whether some grant lets `agent` use `model` of `provider` at `path`.
    #[must_use]
    pub fn allows_model(
        &self,
        agent: &AgentId,
        provider: &ProviderName,
        path: &str,
        model: &ModelName,
    ) -> bool {
        self.grant_of_model(agent, provider, path, model).is_some()
    }
}

/// Whether a list of patterns covers a name; an empty list covers every name.
#[must_use]
pub fn covers(patterns: &[NamePattern], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name))
}
