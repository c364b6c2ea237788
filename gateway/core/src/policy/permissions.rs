//! Which elevated permissions a policy gives, since when each holds, and what a new policy changes.
//!
//! A permission is one agent pattern of one `[[elevated]]` table, with the system it leads to. It is
//! compared by what it says: a table that moves within its file, or a policy that changes
//! elsewhere, leaves the time alone. An `[[allow]]` is needed as well and is not part of it. Worst
//! case: where the state that was last adopted is lost, every permission counts as new.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use super::{Policy, Tenant};
use crate::audit::{Event, Partition};
use crate::ids::{ProviderName, RecordId, TenantId};
use crate::time::Timestamp;

/// The version of the shape of [`Adopted`].
pub const PERMISSIONS_SCHEMA: &str = "tollgate.permissions/1";

/// The kind of the event that a change leaves in its tenant's chain.
pub const PERMISSIONS_CHANGED: &str = "permissions_changed";

/// Leave for some agents to use elevated actions at one provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Permission {
    /// Which agents, as the policy writes it.
    pub agent: String,
    /// The provider.
    pub provider: ProviderName,
    /// The system behind it: scheme, host, and port where it is not the usual one.
    pub server: String,
    /// Which methods; empty means every one.
    pub methods: Vec<String>,
    /// Which paths, as the policy writes them; empty means every endpoint.
    pub paths: Vec<String>,
}

/// A permission, and since when it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What it lets whom do.
    pub permission: Permission,
    /// When the policy that first gave it was adopted.
    pub since: Timestamp,
}

/// A tenant's permissions in the policy that was last adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantPermissions {
    /// SHA-256 over them.
    pub permissions_sha256: String,
    /// Since when they are these and no others.
    pub since: Timestamp,
    /// The policy that made them so.
    pub policy: String,
    /// Each of them.
    pub permissions: Vec<Held>,
}

/// What the gateway has last adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopted {
    /// Always [`PERMISSIONS_SCHEMA`].
    pub schema: String,
    /// The policy in force.
    pub policy: String,
    /// Since when.
    pub adopted_at: Timestamp,
    /// Each tenant of it.
    pub tenants: BTreeMap<TenantId, TenantPermissions>,
}

/// What a new policy changes for one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionsChanged {
    /// Whose permissions.
    pub tenant: TenantId,
    /// The new policy.
    pub policy: String,
    /// What held before; `None` if nothing is known of before.
    pub before: Option<Vec<Permission>>,
    /// What holds now.
    pub after: Vec<Permission>,
}

/// A tenant's permissions, in a fixed order and each once.
#[must_use]
pub fn permissions(policy: &Policy, tenant: &Tenant) -> Vec<Permission> {
    let mut all: Vec<Permission> = Vec::new();
    for rule in &tenant.elevated {
        let server = policy.providers.get(&rule.provider);
        let server = server.map_or_else(String::new, |provider| provider.upstream.origin());
        let mut methods: Vec<String> = rule.methods.iter().map(ToString::to_string).collect();
        let mut paths: Vec<String> = rule.paths.iter().map(ToString::to_string).collect();
        methods.sort_unstable();
        paths.sort_unstable();
        all.extend(rule.agents.iter().map(|agent| Permission {
            agent: agent.to_string(),
            provider: rule.provider.clone(),
            server: server.clone(),
            methods: methods.clone(),
            paths: paths.clone(),
        }));
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// SHA-256 over permissions, as lower-case hex. Each text goes in with its length.
#[must_use]
pub fn digest(permissions: &[Permission]) -> String {
    let mut hash = Sha256::new();
    let mut text = |part: &str| {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    };
    for permission in permissions {
        text(&permission.agent);
        text(permission.provider.as_str());
        text(&permission.server);
        text(&permission.methods.join(" "));
        text(&permission.paths.join(" "));
    }
    let mut hex = String::new();
    for byte in hash.finalize() {
        let _infallible = write!(hex, "{byte:02x}");
    }
    hex
}

impl Adopted {
    /// What is known once `policy` is adopted after `last`, and what that changes for whom.
    #[must_use]
    pub fn after(
        last: Option<&Self>,
        policy: &Policy,
        now: Timestamp,
    ) -> (Self, Vec<PermissionsChanged>) {
        let mut changes = Vec::new();
        let mut tenants = BTreeMap::new();
        for (id, tenant) in &policy.tenants {
            let known = last.and_then(|last| last.tenants.get(id));
            let now_held = permissions(policy, tenant);
            let digest = digest(&now_held);
            if let Some(same) = known.filter(|known| known.permissions_sha256 == digest) {
                tenants.insert(id.clone(), same.clone());
                continue;
            }
            // A tenant that is new and has none has not lost or won anything.
            if known.is_some() || !now_held.is_empty() {
                changes.push(PermissionsChanged {
                    tenant: id.clone(),
                    policy: policy.version.clone(),
                    before: last.map(|_| known.map_or_else(Vec::new, TenantPermissions::plain)),
                    after: now_held.clone(),
                });
            }
            let since = |permission: &Permission| {
                let mut before = known.iter().flat_map(|known| &known.permissions);
                let held = before.find(|held| held.permission == *permission);
                held.map_or(now, |held| held.since)
            };
            let held = now_held.iter().map(|permission| Held {
                permission: permission.clone(),
                since: since(permission),
            });
            let held = TenantPermissions {
                permissions: held.collect(),
                permissions_sha256: digest,
                since: now,
                policy: policy.version.clone(),
            };
            tenants.insert(id.clone(), held);
        }
        for (id, known) in last.iter().flat_map(|last| &last.tenants) {
            if !policy.tenants.contains_key(id) && !known.permissions.is_empty() {
                changes.push(PermissionsChanged {
                    tenant: id.clone(),
                    policy: policy.version.clone(),
                    before: Some(known.plain()),
                    after: Vec::new(),
                });
            }
        }
        changes.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        let adopted = Self {
            schema: PERMISSIONS_SCHEMA.to_owned(),
            policy: policy.version.clone(),
            adopted_at: now,
            tenants,
        };
        (adopted, changes)
    }
}

impl TenantPermissions {
    fn plain(&self) -> Vec<Permission> {
        let held = self.permissions.iter();
        held.map(|held| held.permission.clone()).collect()
    }
}

impl PermissionsChanged {
    /// The event that stands for it in the tenant's chain.
    #[must_use]
    pub fn event(&self, id: RecordId, at: Timestamp) -> Event {
        let mut members = Map::new();
        let before = self.before.as_deref();
        for (name, value) in [
            ("tenant.id", json!(self.tenant)),
            ("tollgate.policy.version", json!(self.policy)),
            (
                "tollgate.permissions.before_sha256",
                json!(before.map(digest)),
            ),
            (
                "tollgate.permissions.after_sha256",
                json!(digest(&self.after)),
            ),
            ("tollgate.permissions.before", json!(before)),
            ("tollgate.permissions.after", json!(self.after)),
        ] {
            members.insert(name.to_owned(), value);
        }
        Event {
            id,
            kind: PERMISSIONS_CHANGED.to_owned(),
            at,
            members,
            partition: Partition::Tenant(self.tenant.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
