//! What a tenant may call: leave is given by a list, and whatever no list names is refused.
//!
//! Compares bytes, as patterns do. Whether an action is elevated is decided elsewhere. Worst
//! case: a path in an unusual spelling is refused.

use std::collections::HashMap;
use std::ops::Deref;

use super::{NamePattern, Names, PathPattern, Tenant};
use crate::ids::{AgentId, ModelName, ProviderName};

/// Up to so many grants, a look at each is the quicker way and takes no memory.
const FEW: usize = 16;

/// Leave to call a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The provider.
    pub provider: ProviderName,
    /// Which models; empty means every one.
    pub models: Names,
    /// Which agents; empty means every one.
    pub agents: Names,
    /// Which paths; empty means every endpoint of the provider.
    pub paths: Vec<PathPattern>,
}

impl Grant {
    fn lets(&self, agent: &AgentId, provider: &ProviderName, path: &str) -> bool {
        self.provider == *provider
            && self.agents.cover(agent.as_str())
            && (self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path)))
    }
}

/// A tenant's grants in the order of their file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    all: Vec<Grant>,
    /// Of a long list, where the grants for a provider stand.
    index: Option<HashMap<ProviderName, Places>>,
}

/// Where the grants for one provider stand, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Places {
    /// Those that name their agents, by each name.
    of_agents: HashMap<Box<str>, Vec<usize>>,
    /// All others.
    others: Vec<usize>,
}

impl Grants {
    /// The first grant that lets `agent` call `provider` at `path` and holds `more`.
    fn first(
        &self,
        agent: &AgentId,
        provider: &ProviderName,
        path: &str,
        more: impl Fn(&Grant) -> bool,
    ) -> Option<&Grant> {
        let fits = |grant: &Grant| grant.lets(agent, provider, path) && more(grant);
        let Some(index) = &self.index else {
            return self.all.iter().find(|grant| fits(grant));
        };
        let places = index.get(provider)?;
        let named = places.of_agents.get(agent.as_str());
        let lists = [named.map_or(&[][..], Vec::as_slice), &places.others];
        let first = |list: &[usize]| {
            let mut list = list.iter().copied();
            list.find(|place| self.all.get(*place).is_some_and(fits))
        };
        let place = lists.into_iter().filter_map(first).min()?;
        self.all.get(place)
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(all: I) -> Self {
        let all: Vec<Grant> = all.into_iter().collect();
        let index = (all.len() > FEW).then(|| index(&all));
        Self { all, index }
    }
}

fn index(grants: &[Grant]) -> HashMap<ProviderName, Places> {
    let mut index: HashMap<ProviderName, Places> = HashMap::new();
    for (place, grant) in grants.iter().enumerate() {
        let places = index.entry(grant.provider.clone()).or_default();
        let open = |pattern: &NamePattern| pattern.parts().1;
        if grant.agents.is_empty() || grant.agents.iter().any(open) {
            places.others.push(place);
            continue;
        }
        for agent in &grant.agents {
            let (name, _) = agent.parts();
            places.of_agents.entry(name.into()).or_default().push(place);
        }
    }
    index
}

impl Deref for Grants {
    type Target = [Grant];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<'g> IntoIterator for &'g Grants {
    type Item = &'g Grant;
    type IntoIter = std::slice::Iter<'g, Grant>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

impl Tenant {
    /// The grant that lets `agent` call `provider` at `path` (and with `model`, if there is one).
    #[must_use]
    pub fn grant(&self, agent: &AgentId, provider: &ProviderName, path: &str) -> Option<&Grant> {
        self.grants.first(agent, provider, path, |_any| true)
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
        let covers = |grant: &Grant| grant.models.cover(model.as_str());
        self.grants.first(agent, provider, path, covers)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant() -> impl Strategy<Value = Grant> {
        let names = || proptest::collection::vec("[ab]{1,2}|[ab]?\\*", 0..3);
        ("[pq]", names(), names(), any::<bool>()).prop_map(|(provider, models, agents, all)| {
            let patterns = |texts: Vec<String>| -> Vec<NamePattern> {
                texts.iter().filter_map(|text| text.parse().ok()).collect()
            };
            let path = "/v1/x".parse().expect("a pattern");
            Grant {
                provider: provider.parse().expect("a name"),
                models: patterns(models).into(),
                agents: patterns(agents).into(),
                paths: if all { Vec::new() } else { vec![path] },
            }
        })
    }

    proptest! {
        #[test]
        fn a_long_list_gives_leave_by_the_same_grant_as_a_look_at_each(
            all in proptest::collection::vec(grant(), 0..3 * FEW),
            (agent, provider, model) in ("[ab]{1,2}", "[pq]", "[ab]{1,2}"),
            path in "/v1/[xy]",
        ) {
            let agent: AgentId = agent.parse().expect("an agent");
            let provider: ProviderName = provider.parse().expect("a provider");
            let grants: Grants = all.into_iter().collect();
            let covers = |grant: &Grant| grant.models.cover(&model);
            let fits = |grant: &&Grant| grant.lets(&agent, &provider, &path) && covers(grant);
            prop_assert_eq!(
                grants.first(&agent, &provider, &path, covers),
                grants.iter().find(fits)
            );
        }
    }
}
