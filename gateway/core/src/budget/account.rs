//! Where the money of a call is counted: in which counters, and under which limits.
//!
//! An account is made once for all calls that count alike, with the text that the journal has of
//! its counters, and is shared by them. Knows no balance. Worst case: none.

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Budget, BudgetKey};
use crate::ids::TenantId;
use crate::json::escaped;

/// Counters, in an order; a copy is a count.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Vec<BudgetKey>", into = "Vec<BudgetKey>")]
pub struct Counters(Arc<Named>);

struct Named {
    keys: Box<[BudgetKey]>,
    in_json: Box<str>,
}

impl Counters {
    /// The keys with spaces between, which none of them contains, as they stand in a JSON string.
    #[must_use]
    pub fn in_json(&self) -> &str {
        &self.0.in_json
    }
}

impl From<Vec<BudgetKey>> for Counters {
    fn from(keys: Vec<BudgetKey>) -> Self {
        let mut text = String::new();
        for key in &keys {
            let space = if text.is_empty() { "" } else { " " };
            // Text is always written.
            let _written = write!(text, "{space}{key}");
        }
        Self(Arc::new(Named {
            keys: keys.into(),
            in_json: escaped(&text).into(),
        }))
    }
}

impl FromIterator<BudgetKey> for Counters {
    fn from_iter<I: IntoIterator<Item = BudgetKey>>(keys: I) -> Self {
        Vec::from_iter(keys).into()
    }
}

impl From<Counters> for Vec<BudgetKey> {
    fn from(counters: Counters) -> Self {
        counters.to_vec()
    }
}

impl Default for Counters {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl Deref for Counters {
    type Target = [BudgetKey];

    fn deref(&self) -> &[BudgetKey] {
        &self.0.keys
    }
}

impl PartialEq for Counters {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.keys == other.0.keys
    }
}

impl Eq for Counters {}

impl Hash for Counters {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.in_json.hash(state);
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

/// What one call counts in: counters, each named once, and the limit of each; a copy is a count.
#[derive(Clone)]
pub struct Account(Arc<Charged>);

struct Charged {
    budgets: Box<[Budget]>,
    counters: Counters,
    mixed: bool,
}

/// One reservation never spans tenants: each pays for its own calls only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the counters of one call belong to more than one tenant")]
pub struct MixedTenants;

impl Account {
    /// The counters without their limits.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Whose money it is; nobody's if nothing is counted.
    ///
    /// # Errors
    /// [`MixedTenants`].
    pub fn tenant(&self) -> Result<Option<&TenantId>, MixedTenants> {
        if self.0.mixed {
            return Err(MixedTenants);
        }
        Ok(self.first().map(|budget| &budget.key.tenant))
    }
}

impl FromIterator<Budget> for Account {
    fn from_iter<I: IntoIterator<Item = Budget>>(budgets: I) -> Self {
        let mut once: Vec<Budget> = Vec::new();
        for budget in budgets {
            // Named twice, a counter is still taken from once, under the narrower limit.
            match once.iter_mut().find(|known| known.key == budget.key) {
                Some(Budget { limit: known, .. }) => {
                    *known = [*known, budget.limit].into_iter().flatten().min();
                }
                None => once.push(budget),
            }
        }
        let first = once.first().map(|budget| &budget.key.tenant);
        let mixed = once.iter().any(|budget| Some(&budget.key.tenant) != first);
        Self(Arc::new(Charged {
            counters: once.iter().map(|budget| budget.key.clone()).collect(),
            budgets: once.into(),
            mixed,
        }))
    }
}

impl From<&[Budget]> for Account {
    fn from(budgets: &[Budget]) -> Self {
        budgets.iter().cloned().collect()
    }
}

impl<const N: usize> From<&[Budget; N]> for Account {
    fn from(budgets: &[Budget; N]) -> Self {
        budgets[..].into()
    }
}

impl Default for Account {
    fn default() -> Self {
        [].into_iter().collect()
    }
}

impl Deref for Account {
    type Target = [Budget];

    fn deref(&self) -> &[Budget] {
        &self.0.budgets
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::PicoUsd;

    fn budget(key: &str, limit: Option<i128>) -> Budget {
        Budget {
            key: key.parse().expect(key),
            limit: limit.map(PicoUsd::new),
        }
    }

    #[test]
    fn a_counter_that_is_named_twice_counts_once_under_the_narrower_limit() {
        for limits in [[Some(5), Some(3)], [Some(3), None], [None, Some(3)]] {
            let account: Account = limits
                .map(|limit| budget("acme/tenant/total", limit))
                .as_slice()
                .into();
            assert_eq!(*account, [budget("acme/tenant/total", Some(3))]);
            assert_eq!(account.counters().len(), 1);
        }
    }

    #[test]
    fn the_money_of_two_tenants_is_no_account() {
        let acme = budget("acme/tenant/total", None);
        let account = Account::from(&[acme.clone(), budget("acme/task=t/total", None)]);
        assert_eq!(account.tenant(), Ok(Some(&acme.key.tenant)));
        assert_eq!(Account::default().tenant(), Ok(None));
        let mixed = Account::from(&[acme, budget("globex/tenant/total", None)]);
        assert_eq!(mixed.tenant(), Err(MixedTenants));
    }

    #[test]
    fn counters_are_named_as_json_has_them() {
        let keys = ["acme/tenant/total", r#"acme/model=a"b/total"#];
        let counters: Counters = keys
            .map(|key| key.parse().expect(key))
            .into_iter()
            .collect();
        assert_eq!(
            serde_json::to_string(&keys.join(" ")).ok(),
            Some(format!("\"{}\"", counters.in_json()))
        );
        let list = serde_json::to_string(&counters).expect("JSON");
        assert_eq!(list, serde_json::to_string(&keys).expect("JSON"));
        assert_eq!(serde_json::from_str::<Counters>(&list).ok(), Some(counters));
    }
}
