//! The vault that `[vault]` in `gateway.toml` chooses, opened.
//!
//! Decides nothing but which backend gets which settings. Worst case: a setting that cannot be
//! used keeps the gateway from starting; no backend stands in for another.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use tollgate_core::policy::Policy;
use tollgate_core::vault::{SecretName, Vault};
use tollgate_stores::vault::{
    AgeVault, EnvironmentVault, Kv2Auth, Kv2Config, Kv2Vault, MountedVault, VariableShared,
};

use crate::config::{self, AuthSettings, Kv2Settings, Settings, VaultSettings};

/// Opens it. `policy` says which secrets there will be.
///
/// # Errors
/// If the backend cannot be used.
pub(crate) fn open(
    settings: &Settings,
    data: &Path,
    policy: &Policy,
) -> anyhow::Result<Arc<dyn Vault>> {
    Ok(match &settings.vault {
        VaultSettings::Age => Arc::new(AgeVault::open(data)?),
        VaultSettings::Mounted { directory } => Arc::new(MountedVault::new(directory)),
        VaultSettings::Kv2(settings) => Arc::new(Kv2Vault::new(kv2(settings))?),
        VaultSettings::Environment => {
            tracing::warn!("secrets come from the environment: for development only");
            let values = config::secret_variables();
            Arc::new(EnvironmentVault::new(values, named(policy))?)
        }
    })
}

/// What keeps the vault from being opened with this policy, if anything does.
pub(crate) fn conflict(settings: &Settings, policy: &Policy) -> Option<VariableShared> {
    if settings.vault != VaultSettings::Environment {
        return None;
    }
    EnvironmentVault::new(HashMap::new(), named(policy)).err()
}

/// The age vault, which is the only one that the command line writes to.
///
/// # Errors
/// If secrets lie elsewhere: then where they are set.
pub(crate) fn writable(settings: &Settings, data: &Path) -> anyhow::Result<AgeVault> {
    let place = match &settings.vault {
        VaultSettings::Age => return Ok(AgeVault::open(data)?),
        VaultSettings::Mounted { directory } => format!(
            "files {}/SCOPE/NAME (backend = \"mounted\"): change the Kubernetes Secret, or whatever fills that directory",
            directory.display()
        ),
        VaultSettings::Kv2(kv2) => format!(
            "{} at {}/{} (backend = \"kv2\"): set them there, for example with `vault kv put` or `bao kv put`",
            kv2.address, kv2.mount, kv2.path
        ),
        VaultSettings::Environment => "variables TOLLGATE_SECRET_SCOPE_NAME (backend = \"environment\"): set them and restart the gateway".to_owned(),
    };
    bail!(
        "`tollgate secret` works on the age vault only; secrets of this installation lie in {place}"
    )
}

/// Every secret that the policy names, in an order that does not change.
fn named(policy: &Policy) -> Vec<&SecretName> {
    let tenants = policy.tenants.values();
    let credentials = tenants.flat_map(|tenant| tenant.credentials.values());
    let mut names: Vec<_> = credentials.map(|credential| &credential.secret).collect();
    names.sort();
    names
}

fn kv2(settings: &Kv2Settings) -> Kv2Config {
    Kv2Config {
        server: settings.server.clone(),
        namespace: settings.namespace.clone(),
        mount: settings.mount.clone(),
        path: settings.path.clone(),
        field: settings.field.clone(),
        auth: match settings.auth.clone() {
            AuthSettings::Kubernetes {
                mount,
                role,
                token_file,
            } => Kv2Auth::Kubernetes {
                mount,
                role,
                token_file,
            },
            AuthSettings::AppRole {
                mount,
                role_id_file,
                secret_id_file,
            } => Kv2Auth::AppRole {
                mount,
                role_id_file,
                secret_id_file,
            },
            AuthSettings::Token { file } => Kv2Auth::Token { file },
        },
        trusted: settings.cache,
    }
}
