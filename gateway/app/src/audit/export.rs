//! `tollgate audit export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tollgate_archive::export::{self, Asked};
use tollgate_archive::shelf::{Days, LocalShelf, Shelf};
use tollgate_archive::verify::Trust;
use tollgate_core::audit::{AuditKey, Day};
use tollgate_core::ids::TenantId;

use super::verify::{heads, threads};
use crate::config::Settings;
use crate::{clock, output, store};

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Whose records
    #[arg(long)]
    tenant: TenantId,
    /// The first UTC day, such as 2026-11-23 [default: the first there is]
    #[arg(long, value_name = "DAY")]
    from: Option<Day>,
    /// The last UTC day [default: the last there is]
    #[arg(long, value_name = "DAY")]
    to: Option<Day>,
    /// A directory that is not there yet, or is empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// From the object store that [records.store] of the settings names, as far as it has arrived
    #[arg(long)]
    from_store: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(super) fn run(&self, settings: &Settings) -> anyhow::Result<ExitCode> {
        let data_dir = &settings.data_dir;
        let public = super::keys(&[super::public_key(data_dir)])?;
        let private = std::fs::read_to_string(data_dir.join("keys/audit.key")).ok();
        let key = private.map(|pem| AuditKey::from_pem(&pem)).transpose();
        let key = key.context("keys/audit.key does not hold a key")?;
        let (shelf, heads): (Box<dyn Shelf>, _) = if self.from_store {
            (store::shelf(settings)?.0, None)
        } else {
            (Box::new(LocalShelf::new(data_dir)), heads(data_dir)?)
        };
        let trust = Trust {
            keys: &public,
            heads: heads.as_deref(),
            arriving: self.from_store,
            threads: threads(),
            ..Trust::default()
        };
        let asked = Asked {
            tenant: &self.tenant,
            days: Days {
                from: self.from,
                to: self.to,
            },
            out: &self.out,
            key: key.as_ref(),
            public: &public,
            gateway: env!("CARGO_PKG_VERSION"),
            now: clock::now(),
        };
        let made = export::export(&*shelf, &asked, &trust)
            .with_context(|| format!("the records of {} are not exported", self.tenant))?;
        let records: u64 = made.chains.iter().map(|chain| chain.records).sum();
        let files = made.files.len();
        if made.findings_at_source > 0 {
            output::say(
                "the partition has findings; `tollgate audit verify` lists them, and the export names their number",
            );
        }
        if key.is_none() {
            output::say("keys/audit.key is not at hand: the manifest is not signed");
        }
        if self.json {
            output::json(&json!({
                "tenant": self.tenant,
                "out": self.out,
                "records": records,
                "files": files,
                "signed": key.is_some(),
                "findings_at_source": made.findings_at_source,
            }))?;
        } else {
            let out = self.out.display();
            output::data(&format!(
                "{records} records in {files} files are in {out}\n"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
