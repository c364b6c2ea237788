//! The name of one counter of money.
//!
//! A call meets a handful of counters and names each of them in several places; so a key is made
//! once with its text, and copied by counting who has it. It decides nothing. Worst case: none.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::ids::TenantId;
use crate::time::Window;

/// One counter of money. The window is part of the key, hence nothing is ever reset.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BudgetKey(Arc<KeyParts>);

/// What a [`BudgetKey`] is made of.
#[derive(Debug)]
pub struct KeyParts {
    /// The tenant that pays.
    pub tenant: TenantId,
    /// Which part of the tenant.
    pub scope: Scope,
    /// Over which time.
    pub window: Window,
    text: Box<str>,
}

impl BudgetKey {
    /// The counter of `scope` over `window`.
    #[must_use]
    pub fn new(tenant: TenantId, scope: Scope, window: Window) -> Self {
        let text = format!("{tenant}/{scope}/{window}").into();
        Self(Arc::new(KeyParts {
            tenant,
            scope,
            window,
            text,
        }))
    }

    /// `acme/tenant/day:2026-11-23`, `acme/agent=bot/month:2026-11`, `acme/task=t-1/total`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }
}

impl Deref for BudgetKey {
    type Target = KeyParts;

    fn deref(&self) -> &KeyParts {
        &self.0
    }
}

/// Two keys have the same text exactly if they have the same parts: it reads back.
impl PartialEq for BudgetKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for BudgetKey {}

impl Hash for BudgetKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

/// By tenant, then by scope, then by window.
impl Ord for BudgetKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let Self(ours) = self;
        let ours = (&ours.tenant, &ours.scope, ours.window);
        ours.cmp(&(&other.tenant, &other.scope, other.window))
    }
}

impl PartialOrd for BudgetKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for BudgetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BudgetKey").field(&self.as_str()).finish()
    }
}

impl fmt::Display for BudgetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a [`BudgetKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a budget key is \"TENANT/SCOPE/WINDOW\"")]
pub struct InvalidBudgetKey;

impl FromStr for BudgetKey {
    type Err = InvalidBudgetKey;

    fn from_str(text: &str) -> Result<Self, InvalidBudgetKey> {
        // A model's name may hold slashes; ids and windows never do.
        let (tenant, rest) = text.split_once('/').ok_or(InvalidBudgetKey)?;
        let (scope, window) = rest.rsplit_once('/').ok_or(InvalidBudgetKey)?;
        let scope = match scope.split_once('=') {
            None if scope == "tenant" => Scope::Tenant,
            Some(("agent", agent)) => Scope::Agent(agent.parse().map_err(|_e| InvalidBudgetKey)?),
            Some(("task", task)) => Scope::Task(task.parse().map_err(|_e| InvalidBudgetKey)?),
            Some(("model", model)) => Scope::Model(model.parse().map_err(|_e| InvalidBudgetKey)?),
            _ => return Err(InvalidBudgetKey),
        };
        let tenant = tenant.parse().map_err(|_e| InvalidBudgetKey)?;
        let window = window.parse().map_err(|_e| InvalidBudgetKey)?;
        Ok(Self::new(tenant, scope, window))
    }
}

impl TryFrom<String> for BudgetKey {
    type Error = InvalidBudgetKey;

    fn try_from(text: String) -> Result<Self, InvalidBudgetKey> {
        text.parse()
    }
}

impl From<BudgetKey> for String {
    fn from(key: BudgetKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_what_they_print() {
        for text in [
            "acme/tenant/day:2026-11-23",
            "acme/agent=support.bot/month:2026-11",
            "acme/task=T-1/total",
            "acme/model=meta-llama/Llama-3*/day:2026-11-23",
        ] {
            let key: BudgetKey = text.parse().expect(text);
            assert_eq!(key.to_string(), text);
        }
        assert_eq!(
            "acme/nobody/total".parse::<BudgetKey>(),
            Err(InvalidBudgetKey)
        );
    }

    #[test]
    fn a_key_that_was_read_is_the_one_that_was_made() {
        let text = "acme/agent=bot/total";
        let read: BudgetKey = text.parse().expect(text);
        let scope = Scope::Agent("bot".parse().expect("an agent"));
        let made = BudgetKey::new("acme".parse().expect("a tenant"), scope, Window::Total);
        assert_eq!(read, made);
        assert_eq!(read.cmp(&made), Ordering::Equal);
        let other: BudgetKey = "acme/agent=bots/total".parse().expect("a key");
        assert_ne!(made, other);
        assert_eq!(made.cmp(&other), Ordering::Less);
    }
}
