//! Every credential that policy names: whether its secret can be had. Values are dropped at once.

use std::collections::BTreeSet;
use std::time::Duration;

use tollgate_core::policy::Policy;
use tollgate_core::vault::{SecretName, Vault, VaultError};

use super::finding::{Area, Finding};

const AREA: Area = Area("secrets");

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many are named one by one.
const NAMED: usize = 20;

/// What became of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Usable,
    Missing,
    Malformed,
    Unreadable(String),
}

pub(super) fn judge(states: &[(String, State)]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let bad = states.iter().filter(|(_, state)| *state != State::Usable);
    for (name, state) in bad.clone().take(NAMED) {
        let (what, advice) = match state {
            State::Usable => continue,
            State::Missing => (
                format!(
                    "{name} has no usable secret: calls with it are answered with 503 credential_unavailable"
                ),
                "put it in with `tollgate secret set` (docs/vault.md says where for other backends), or take the credential out of the policy",
            ),
            State::Malformed => (
                format!(
                    "the secret of {name} can never be sent: it is empty or holds a line break"
                ),
                "set it anew",
            ),
            State::Unreadable(why) => (
                format!("the secret of {name} cannot be read: {why}"),
                "the scope's key is lost or the vault does not answer; restore keys/vault from the backup",
            ),
        };
        found.push(AREA.problem(what, advice));
    }
    let more = bad.count().saturating_sub(NAMED);
    if more > 0 {
        found.push(AREA.problem(format!("{more} more cannot be used"), "see above"));
    }
    if found.is_empty() {
        found.push(AREA.ok(format!("all {} that policy names can be had", states.len())));
    }
    found
}

/// Fetches each.
pub(super) async fn look(vault: &dyn Vault, policy: &Policy) -> Vec<(String, State)> {
    let tenants = policy.tenants.values();
    let credentials = tenants.flat_map(|tenant| tenant.credentials.values());
    let names: BTreeSet<&SecretName> = credentials.map(|credential| &credential.secret).collect();
    let mut states = Vec::new();
    for name in names {
        let fetched = tokio::time::timeout(PATIENCE, vault.fetch(name)).await;
        let state = match fetched {
            Err(_elapsed) => State::Unreadable("the vault does not answer".to_owned()),
            Ok(Ok(_value)) => State::Usable,
            Ok(Err(VaultError::Missing(_))) => State::Missing,
            Ok(Err(VaultError::Malformed(_))) => State::Malformed,
            Ok(Err(VaultError::Unreadable { cause, .. })) => State::Unreadable(cause.to_string()),
        };
        states.push((name.to_string(), state));
    }
    states
}

/// That there is no vault to ask.
pub(super) fn closed(why: &str) -> Finding {
    AREA.problem(
        format!("the vault cannot be opened: {why}"),
        "see [vault] in gateway.toml",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn what_cannot_be_had_is_named_and_never_shown() {
        let named = |n: usize, state: State| (format!("acme/key{n}"), state);
        let found = judge(&[named(1, State::Usable)]);
        assert_eq!((found.len(), found[0].level), (1, Level::Ok));
        let states = [
            named(1, State::Missing),
            named(2, State::Malformed),
            named(3, State::Unreadable("no key".to_owned())),
            named(4, State::Usable),
        ];
        let found = judge(&states);
        assert_eq!(found.len(), 3);
        for (found, says) in found.iter().zip([
            "acme/key1 has no usable",
            "acme/key2 can never",
            "acme/key3 cannot be read: no key",
        ]) {
            assert_eq!(found.level, Level::Problem);
            assert!(
                found.what.contains(says) && !found.advice.is_empty(),
                "{found:?}"
            );
        }
        let many: Vec<_> = (0..30).map(|n| named(n, State::Missing)).collect();
        let found = judge(&many);
        assert_eq!(
            (found.len(), &*found[20].what),
            (21, "10 more cannot be used")
        );
    }
}
