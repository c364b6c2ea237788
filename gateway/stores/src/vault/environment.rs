//! Secrets in environment variables, for development.
//!
//! Nothing separates scopes here but the names of variables, every process of the same user can
//! read them, and nothing can be rotated or revoked while the gateway runs: the variables are read
//! once, at start. The version of each is 1.
//!
//! A variable's name does not tell `-` from `_`, nor where the scope ends. The first secret that is
//! known under a variable has it to itself; another one that would share it is never given a value.
//! Worst case: a tenant added at run time is refused a secret that it was meant to have.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tollgate_core::secret::Secret;
use tollgate_core::vault::{SecretName, SecretVersion, Vault, VaultError};

use super::{unreadable, unusable};

/// The variables at the time the gateway was started.
pub struct EnvironmentVault {
    values: HashMap<String, Secret>,
    owners: Mutex<HashMap<String, SecretName>>,
}

/// Two secrets would be read from one variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secrets {first} and {second} would both be read from {variable}")]
pub struct VariableShared {
    /// The one that was known first.
    pub first: SecretName,
    /// The other one.
    pub second: SecretName,
    /// The variable.
    pub variable: String,
}

/// The variable that a secret is read from.
#[must_use]
pub fn variable(secret: &SecretName) -> String {
    let scope = secret.scope.as_str().trim_start_matches('_');
    let name = format!("TOLLGATE_SECRET_{scope}_{}", secret.name);
    name.to_ascii_uppercase().replace('-', "_")
}

impl EnvironmentVault {
    /// A vault over `values`, by the names of their variables. `known` are the secrets that the
    /// policy names.
    ///
    /// # Errors
    /// If two of them would share a variable.
    pub fn new<'s>(
        values: HashMap<String, Secret>,
        known: impl IntoIterator<Item = &'s SecretName>,
    ) -> Result<Self, VariableShared> {
        let vault = Self {
            values,
            owners: Mutex::default(),
        };
        for secret in known {
            vault.claim(secret)?;
        }
        Ok(vault)
    }

    /// The variable of a secret, which is that secret's alone.
    fn claim(&self, secret: &SecretName) -> Result<String, VariableShared> {
        let variable = variable(secret);
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = owners
            .entry(variable.clone())
            .or_insert_with(|| secret.clone());
        if owner == secret {
            return Ok(variable);
        }
        Err(VariableShared {
            first: owner.clone(),
            second: secret.clone(),
            variable,
        })
    }
}

#[async_trait]
impl Vault for EnvironmentVault {
    async fn fetch(&self, secret: &SecretName) -> Result<SecretVersion, VaultError> {
        let variable = self
            .claim(secret)
            .map_err(|shared| unreadable(secret, shared))?;
        let Some(value) = self.values.get(&variable) else {
            return Err(VaultError::Missing(secret.clone()));
        };
        if unusable(value).is_some() {
            return Err(VaultError::Malformed(secret.clone()));
        }
        Ok(SecretVersion::new(value.clone(), 1))
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::vault::VaultScope;

    use super::*;

    fn name(tenant: &str, name: &str) -> SecretName {
        SecretName::of_tenant(
            tenant.parse().expect("an id"),
            name.parse().expect("a name"),
        )
    }

    fn values() -> HashMap<String, Secret> {
        let text = "sk-canary-environment";
        ["TOLLGATE_SECRET_TEAM_A_KEY", "TOLLGATE_SECRET_PLATFORM_KEY"]
            .map(|variable| (variable.to_owned(), Secret::new(text.into())))
            .into()
    }

    #[test]
    fn a_variable_is_named_by_scope_and_name() {
        assert_eq!(
            variable(&name("team-a", "openai_key")),
            "TOLLGATE_SECRET_TEAM_A_OPENAI_KEY"
        );
        let shared = SecretName {
            scope: VaultScope::Platform,
            name: "openai".parse().expect("a name"),
        };
        assert_eq!(variable(&shared), "TOLLGATE_SECRET_PLATFORM_OPENAI");
    }

    #[test]
    fn secrets_that_would_share_a_variable_are_refused_at_start() {
        let (first, second) = (name("team-a", "key"), name("team", "a_key"));
        let refused = EnvironmentVault::new(values(), [&first, &second]).err();
        let expected = VariableShared {
            first,
            second,
            variable: "TOLLGATE_SECRET_TEAM_A_KEY".to_owned(),
        };
        assert_eq!(refused, Some(expected));
    }

    #[tokio::test]
    async fn a_secret_known_later_never_gets_the_value_of_an_earlier_one() {
        let known = name("team-a", "key");
        let vault = EnvironmentVault::new(values(), [&known]).expect("a vault");
        let value = vault.fetch(&known).await.expect("a value");
        assert_eq!(value.secret.expose(), b"sk-canary-environment");
        let later = vault.fetch(&name("team_a", "key")).await;
        assert!(
            matches!(later, Err(VaultError::Unreadable { .. })),
            "{later:?}"
        );
        let absent = vault.fetch(&name("team-b", "key")).await;
        assert!(matches!(absent, Err(VaultError::Missing(_))), "{absent:?}");
    }
}
