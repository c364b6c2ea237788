//! Elevated actions: which calls are, and which agents may make them.
//!
//! A provider's file marks endpoints, a tenant's file marks more by `[[elevated]]`, and only such a
//! table of the tenant gives leave. Marks are wide and leave is narrow: a path that a server might
//! take for a marked one counts as marked, and leave is given to the very bytes. So whatever is
//! unclear is refused. Knows methods and paths, no bodies: a tool that is named in a body alone,
//! as in MCP, is elevated by its endpoint or not at all. Worst case: as with
//! [`PathPattern::resembles`].

use http::Method;

use super::{NamePattern, PathPattern, Tenant};
use crate::ids::{AgentId, ProviderName};
use crate::route::Route;

/// One `[[elevated]]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElevatedRule {
    /// The provider.
    pub provider: ProviderName,
    /// Which methods; empty means every one.
    pub methods: Vec<Method>,
    /// Which paths; empty means every endpoint of the provider.
    pub paths: Vec<PathPattern>,
    /// Who may; never empty.
    pub agents: Vec<NamePattern>,
}

/// Whether a call is an elevated action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elevation<'t> {
    /// It is none.
    Plain,
    /// It is, and this rule lets the agent.
    Granted(&'t ElevatedRule),
    /// It is, and no rule lets the agent.
    NotGranted,
}

impl Elevation<'_> {
    /// Whether the call is an elevated action, allowed or not.
    #[must_use]
    pub const fn is_elevated(self) -> bool {
        !matches!(self, Self::Plain)
    }
}

impl ElevatedRule {
    fn takes(&self, provider: &ProviderName, method: &Method) -> bool {
        self.provider == *provider && (self.methods.is_empty() || self.methods.contains(method))
    }

    fn marks(&self, provider: &ProviderName, method: &Method, path: &str) -> bool {
        self.takes(provider, method)
            && (self.paths.is_empty() || self.paths.iter().any(|marked| marked.resembles(path)))
    }

    fn lets(&self, agent: &AgentId, provider: &ProviderName, method: &Method, path: &str) -> bool {
        self.takes(provider, method)
            && (self.paths.is_empty() || self.paths.iter().any(|leave| leave.matches(path)))
            && self.agents.iter().any(|of| of.matches(agent.as_str()))
    }
}

impl Tenant {
    /// Whether a call of `agent` is an elevated action, and whether it may make it.
    #[must_use]
    pub fn elevation(&self, agent: &AgentId, route: &Route<'_>, method: &Method) -> Elevation<'_> {
        let (provider, path) = (&route.provider.name, route.path);
        let marked = route.endpoint.elevated
            || (self.elevated.iter()).any(|rule| rule.marks(provider, method, path))
            || (route.provider.endpoints.elevated().iter())
                .any(|endpoint| endpoint.methods.contains(method) && endpoint.path.resembles(path));
        if !marked {
            return Elevation::Plain;
        }
        let mut rules = self.elevated.iter();
        rules
            .find(|rule| rule.lets(agent, provider, method, path))
            .map_or(Elevation::NotGranted, Elevation::Granted)
    }
}

#[cfg(test)]
mod tests;
