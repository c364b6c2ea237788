//! A tenant's credentials, by their names, and those for one provider without a look at the others.
//!
//! Decides nothing about them.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use super::Credential;
use crate::ids::{HandleName, ProviderName};

/// Read as a map by handle name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    by_name: BTreeMap<HandleName, Arc<Credential>>,
    /// The same ones by provider, and of each provider by name.
    by_provider: Vec<Arc<Credential>>,
}

impl Credentials {
    /// Those for one provider, by name.
    #[must_use]
    pub fn of(&self, provider: &ProviderName) -> &[Arc<Credential>] {
        let all = &self.by_provider;
        let start = all.partition_point(|other| other.provider < *provider);
        let from = all.get(start..).unwrap_or_default();
        let many = from.partition_point(|other| other.provider == *provider);
        from.get(..many).unwrap_or_default()
    }

    /// Adds one, unless there is one of its name.
    pub fn add(&mut self, credential: Arc<Credential>) {
        if self.by_name.contains_key(&credential.name) {
            return;
        }
        let key = (&credential.provider, &credential.name);
        let place = self
            .by_provider
            .partition_point(|other| (&other.provider, &other.name) < key);
        self.by_provider.insert(place, Arc::clone(&credential));
        self.by_name.insert(credential.name.clone(), credential);
    }
}

impl FromIterator<Arc<Credential>> for Credentials {
    fn from_iter<I: IntoIterator<Item = Arc<Credential>>>(all: I) -> Self {
        let named = |credential: Arc<Credential>| (credential.name.clone(), credential);
        let by_name: BTreeMap<_, _> = all.into_iter().map(named).collect();
        let mut by_provider: Vec<_> = by_name.values().cloned().collect();
        // Stable: those of one provider stay in the order of their names.
        by_provider.sort_by(|one, other| one.provider.cmp(&other.provider));
        Self {
            by_name,
            by_provider,
        }
    }
}

impl Deref for Credentials {
    type Target = BTreeMap<HandleName, Arc<Credential>>;

    fn deref(&self) -> &Self::Target {
        &self.by_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Binding, CredentialKind, Place};
    use crate::vault::{SecretName, VaultScope};

    fn credential(name: &str, provider: &str) -> Arc<Credential> {
        Arc::new(Credential {
            name: name.parse().expect("a handle name"),
            secret: SecretName {
                scope: VaultScope::Platform,
                name: name.parse().expect("a handle name"),
            },
            provider: provider.parse().expect("a provider"),
            is_default: false,
            agents: Vec::new(),
            binding: Binding {
                tls: true,
                host: "api.example".to_owned(),
                port: 443,
                methods: Vec::new(),
                paths: Vec::new(),
                place: Place::Basic,
            },
            kind: CredentialKind::Static,
        })
    }

    fn names(credentials: &[Arc<Credential>]) -> Vec<&str> {
        credentials.iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn those_of_a_provider_are_found_in_the_order_of_their_names() {
        let all = [
            ("c", "p2"),
            ("b", "p1"),
            ("a", "p2"),
            ("d", "p3"),
            ("e", "p1"),
        ];
        let all = all.map(|(name, provider)| credential(name, provider));
        let (last, first) = all.split_last().expect("five");
        let mut added: Credentials = first.iter().cloned().collect();
        added.add(Arc::clone(last));
        let collected: Credentials = all.into_iter().collect();
        assert_eq!(added, collected);
        for (provider, expected) in [
            ("p1", &["b", "e"][..]),
            ("p2", &["a", "c"]),
            ("p3", &["d"]),
            ("p0", &[]),
            ("p4", &[]),
        ] {
            let provider = provider.parse().expect("a provider");
            assert_eq!(names(collected.of(&provider)), expected, "{provider}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_not_given_away() {
        let mut all: Credentials = [credential("a", "p1")].into_iter().collect();
        all.add(credential("a", "p2"));
        assert_eq!(all.len(), 1);
        let other = "p2".parse().expect("a provider");
        assert_eq!(names(all.of(&other)), [""; 0]);
    }
}
