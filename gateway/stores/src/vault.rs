//! Where secrets lie: one backend is in force, and each answers the same narrow question.
//!
//! | backend | a scope's place | what separates scopes |
//! |---|---|---|
//! | [`AgeVault`] | a directory and an `age` key in the data directory | encryption to a key of the scope |
//! | [`MountedVault`] | a directory that somebody else fills, as Kubernetes does | one mount per scope |
//! | [`Kv2Vault`] | a path of `HashiCorp` Vault or `OpenBao` | a role and a client token per scope |
//! | [`EnvironmentVault`] | variables of the process | nothing but names: development only |
//!
//! Every backend keeps what it has read in memory for a short, stated time, because a call must
//! not wait for a disk or a network that it does not need; the time is short enough that a revoked
//! value is out of use within a second. None of them knows what a secret is for.

mod age;
mod cache;
mod checked;
mod environment;
mod kv2;
mod mounted;
mod stamp;

use tollgate_core::secret::Secret;
use tollgate_core::vault::{SecretName, VaultError};
use zeroize::Zeroizing;

pub use age::{AgeVault, Listed, Stored, VaultWriteError, VersionInfo, VersionState, Warning};
pub use checked::RECHECK;
pub use environment::{EnvironmentVault, VariableShared, variable};
pub use kv2::{Kv2Auth, Kv2Config, Kv2Vault, UnusableTls};
pub use mounted::MountedVault;

/// The longest secret that is stored or read, in bytes. Nothing sends more than 8 KiB of it; the
/// rest is room for secrets that are no keys.
pub const MAX_STORED_BYTES: usize = 64 * 1024;

/// What keeps a value from ever being a secret, if anything does.
fn unusable(secret: &Secret) -> Option<&'static str> {
    let bytes = secret.expose();
    if bytes.is_empty() {
        Some("is empty")
    } else if bytes.len() > MAX_STORED_BYTES {
        Some("is longer than 64 KiB")
    } else if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        Some("holds a line break or a NUL byte")
    } else {
        None
    }
}

fn unreadable(
    secret: &SecretName,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> VaultError {
    VaultError::Unreadable {
        secret: secret.clone(),
        cause: cause.into(),
    }
}

/// Takes a buffer into its box without leaving a copy behind.
fn boxed(mut plain: Zeroizing<Vec<u8>>) -> Secret {
    Secret::new(std::mem::take(&mut *plain))
}

/// Takes off the one line break that editors and `echo` put at the end of a file.
fn without_line_break(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    match line.strip_suffix(b"\r") {
        Some(text) if line.len() < bytes.len() => text,
        _ => line,
    }
}
