//! `tollgate audit`: whether records are what the gateway wrote, and what an auditor gets of them.
//!
//! Works on files: on the data directory, also while a gateway runs on it, or on a copy or export
//! anywhere. Only purging is the running gateway's, which alone can write into chains. What is
//! checked and how stands in `tollgate-archive`.

mod export;
mod print;
mod purge;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use tollgate_core::audit::AuditPublicKey;

use crate::config::{ProcessVars, Settings};

pub(crate) use verify::heads;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Say what of the records was changed, removed, inserted or reordered; exits with 1 if
    /// anything was
    Verify(verify::Verify),
    /// Copy everything of one tenant, and nothing of another, for an auditor
    Export(export::Export),
    /// Let a running gateway take away records whose time is over, as it does by itself every hour
    Purge(purge::Purge),
}

impl AuditCommand {
    /// Does it. Settings are read only if they are needed: an auditor has none.
    ///
    /// # Errors
    /// If it cannot be done.
    pub(crate) fn run(
        &self,
        settings: impl Fn() -> anyhow::Result<Settings>,
    ) -> anyhow::Result<ExitCode> {
        match self {
            Self::Verify(asked) => asked.run(settings),
            Self::Export(asked) => asked.run(&settings()?),
            Self::Purge(asked) => asked.run(&settings()?, &ProcessVars),
        }
    }
}

/// The key that a gateway on that data directory publishes.
fn public_key(data_dir: &Path) -> PathBuf {
    data_dir.join("keys/audit.pub")
}

/// Reads public keys.
fn keys(files: &[PathBuf]) -> anyhow::Result<Vec<AuditPublicKey>> {
    let read = |path: &PathBuf| {
        let shown = path.display();
        let pem = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
        AuditPublicKey::from_pem(&pem).with_context(|| format!("{shown} does not hold a key"))
    };
    files.iter().map(read).collect()
}
