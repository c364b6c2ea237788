//! `tollgate secret`: puts secrets into a tenant's vault, or the platform's, and takes them out of
//! use.
//!
//! Works on the age vault's files; a running gateway notices within a second. Values come from
//! standard input or a prompt, never from the command line, where other users of the machine and
//! the shell's history would see them, and are never printed.

use std::io::{IsTerminal, Read, Write};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;
use tollgate_core::credential::prepare_value;
use tollgate_core::handle::check_sendable;
use tollgate_core::ids::{HandleName, TenantId};
use tollgate_core::policy::{Credential, CredentialKind, Place, Policy};
use tollgate_core::secret::Secret;
use tollgate_core::vault::{SecretName, VaultScope};
use tollgate_stores::vault::{Listed, MAX_STORED_BYTES, Stored, VersionState};

use crate::config::Settings;
use crate::data_dir::DataDir;
use crate::{clock, output, tenant, vault};

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Store a value, read from standard input or a prompt
    ///
    /// Exactly one line break at the end of standard input is taken off; everything else is the
    /// secret.
    Set(Name),
    /// Show which secrets there are, never what they are
    List(Whose),
    /// Store a new value in place of one in use; the old one is kept, unused, until revoked
    ///
    /// Exactly one line break at the end of standard input is taken off; everything else is the
    /// secret.
    Rotate(Name),
    /// Make a secret, or one version of it, unusable for ever
    Revoke(Version),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Scope {
    /// Whose: the tenant's id
    #[arg(long)]
    tenant: Option<TenantId>,
    /// A shared key of the platform, which credentials point at with `platform_key`
    #[arg(long)]
    platform: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    #[command(flatten)]
    scope: Scope,
    /// Which: the name that stands in handles
    #[arg(long)]
    name: HandleName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Whose {
    #[command(flatten)]
    scope: Scope,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    #[command(flatten)]
    name: Name,
    /// Only this version; otherwise all of them
    #[arg(long, value_name = "NUMBER")]
    version: Option<u32>,
}

impl SecretCommand {
    /// Does it.
    ///
    /// # Errors
    /// If there is no such secret, the value cannot be stored or never be sent, a file cannot be
    /// used, or secrets lie elsewhere.
    pub(crate) fn run(&self, settings: &Settings) -> anyhow::Result<()> {
        let data = DataDir::prepare(settings.keys_dir())?;
        let vault = vault::writable(settings, data.path())?;
        let now = clock::now();
        match self {
            Self::Set(name) => {
                let value = name.check(value()?, settings)?;
                let stored = vault.set(&name.secret(), &value, now)?;
                name.tell(&stored)
            }
            Self::Rotate(name) => {
                let value = name.check(value()?, settings)?;
                let stored = vault.rotate(&name.secret(), &value, now)?;
                name.tell(&stored)
            }
            Self::List(whose) => list(&vault.list(&whose.scope.scope())?, whose),
            Self::Revoke(Version { name, version }) => {
                let revoked = vault.revoke(&name.secret(), *version, now)?;
                if name.json {
                    return output::json(&json!({ "revoked_versions": revoked }));
                }
                let numbers: Vec<String> = revoked.iter().map(u32::to_string).collect();
                let versions = if revoked.len() == 1 {
                    "version"
                } else {
                    "versions"
                };
                let numbers = numbers.join(", ");
                output::say(&format!("revoked {} {versions} {numbers}", name.full()));
                Ok(())
            }
        }
    }
}

impl Name {
    fn secret(&self) -> SecretName {
        SecretName {
            scope: self.scope.scope(),
            name: self.name.clone(),
        }
    }

    fn full(&self) -> String {
        self.secret().to_string()
    }

    fn tell(&self, stored: &Stored) -> anyhow::Result<()> {
        for warning in &stored.warnings {
            output::say(&format!("warning: {warning}"));
        }
        if self.json {
            return output::json(stored);
        }
        let version = stored.version;
        output::say(&format!("stored {} version {version}", self.full()));
        Ok(())
    }

    /// Refuses what the policy has no way to use, and puts JSON on one line. A secret may be stored before the policy that
    /// names it, but more often that is a slip, and gets a warning.
    fn check(&self, mut value: Secret, settings: &Settings) -> anyhow::Result<Secret> {
        let Ok(policy) = tenant::policy(settings) else {
            return Ok(value);
        };
        let secret = self.secret();
        let users = users(&secret, &policy);
        if users.is_empty() {
            output::say(&format!("warning: {}", self.unused(&policy)));
        }
        let sent_as_it_is = users.iter().any(|user| is_sent_as_it_is(user));
        for user in &users {
            value = prepare_value(&user.kind, &value)
                .with_context(|| format!("the secret {secret} can never be used"))?;
        }
        match check_sendable(&value) {
            Err(wrong) if sent_as_it_is => bail!("the secret {secret} can never be sent: {wrong}"),
            _ => Ok(value),
        }
    }

    fn unused(&self, policy: &Policy) -> String {
        let name = &self.name;
        match &self.scope.tenant {
            None => {
                format!("no credential has platform_key = \"{name}\"; nothing will use this secret")
            }
            Some(tenant) if !policy.tenants.contains_key(tenant) => {
                format!("no policy file defines a tenant {tenant}")
            }
            Some(tenant) => format!(
                "the policy of {tenant} has no credential {name}; nothing will use this secret"
            ),
        }
    }
}

impl Scope {
    fn scope(&self) -> VaultScope {
        match &self.tenant {
            Some(tenant) => VaultScope::Tenant(tenant.clone()),
            None => VaultScope::Platform,
        }
    }
}

/// The credentials whose value a secret is.
fn users<'p>(secret: &SecretName, policy: &'p Policy) -> Vec<&'p Credential> {
    let tenants = policy.tenants.values();
    let credentials = tenants.flat_map(|tenant| tenant.credentials.values());
    let users = credentials.filter(|credential| credential.secret == *secret);
    users.map(AsRef::as_ref).collect()
}

/// Whether the value itself stands in requests, where nothing can be escaped.
const fn is_sent_as_it_is(credential: &Credential) -> bool {
    let place = &credential.binding.place;
    matches!(credential.kind, CredentialKind::Static)
        && matches!(
            place,
            Place::Header { .. } | Place::Basic | Place::Query { .. }
        )
}

fn list(secrets: &[Listed], whose: &Whose) -> anyhow::Result<()> {
    if whose.json {
        return output::json(&secrets);
    }
    if secrets.is_empty() {
        output::say(&format!("{} has no secrets", whose.scope.scope()));
        return Ok(());
    }
    let heading = ["NAME", "VERSION", "STATE", "SINCE"].map(str::to_owned);
    let mut rows = vec![heading.to_vec()];
    for secret in secrets {
        for version in &secret.versions {
            let (state, since) = match version.state {
                VersionState::Current => ("current", version.created_at),
                VersionState::Superseded => ("superseded", version.created_at),
                VersionState::Revoked => {
                    ("revoked", version.revoked_at.unwrap_or(version.created_at))
                }
            };
            rows.push(vec![
                secret.name.to_string(),
                version.version.to_string(),
                state.to_owned(),
                since.civil().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            ]);
        }
    }
    output::data(&output::table(&rows))
}

/// The value: a line typed unseen at a terminal, or everything on standard input.
fn value() -> anyhow::Result<Secret> {
    if std::io::stdin().is_terminal() {
        return prompt();
    }
    let limit = u64::try_from(MAX_STORED_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    // One byte over the limit, and a line break, are enough to know that it is too long.
    std::io::stdin()
        .take(limit.saturating_add(2))
        .read_to_end(&mut bytes)
        .context("standard input cannot be read")?;
    Ok(Secret::new(without_line_break(bytes)))
}

/// Takes one line break off the end, as `echo` and editors put there.
fn without_line_break(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    bytes
}

fn prompt() -> anyhow::Result<Secret> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).context("the terminal cannot be asked")?;
    let mut unseen = before.clone();
    unseen.local_modes.remove(LocalModes::ECHO);
    unseen.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&stdin, OptionalActions::Flush, &unseen).context("the terminal keeps echoing")?;
    let _unheard = write!(std::io::stderr(), "Secret (typed unseen): ");
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &before).context("the terminal stays silent")?;
    read.context("the terminal cannot be read")?;
    if line.trim_end_matches(['\r', '\n']).is_empty() {
        bail!("nothing was typed");
    }
    Ok(Secret::new(without_line_break(line.into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_line_break_is_taken_off() {
        for (given, kept) in [
            ("sk-canary", "sk-canary"),
            ("sk-canary\n", "sk-canary"),
            ("sk-canary\r\n", "sk-canary"),
            ("sk-canary\n\n", "sk-canary\n"),
            (" sk-canary \n", " sk-canary "),
            ("sk-canary\r", "sk-canary\r"),
            ("", ""),
        ] {
            assert_eq!(
                without_line_break(given.into()),
                kept.as_bytes(),
                "{given:?}"
            );
        }
    }
}
