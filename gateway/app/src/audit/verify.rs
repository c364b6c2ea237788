//! `tollgate audit verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, bail};
use clap::Args;
use tollgate_archive::export::{self, Opened};
use tollgate_archive::shelf::{LocalShelf, Shelf};
use tollgate_archive::verify::{Finding, Head, Trust, Verified, verify};
use tollgate_core::audit::{AuditPublicKey, Partition};

use super::print;
use crate::config::Settings;
use crate::{output, store};

/// More threads than this wait for one disk.
const MAX_THREADS: usize = 4;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only this tenant's partition; otherwise all, those of the gateway and its operators as well
    #[arg(long)]
    tenant: Option<Partition>,
    /// A directory that has audit/ in it, such as an export [default: the data directory]
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
    /// The object store that [records.store] of the settings names, as far as it has arrived there
    #[arg(long, conflicts_with = "records")]
    from_store: bool,
    /// A public key that checkpoints are believed from; may be given several times [default: the
    /// data directory's keys/audit.pub]
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is checked, and what is believed.
struct Asked {
    shelf: Box<dyn Shelf>,
    /// Where that is, for people.
    place: String,
    /// Whether more of it may be on its way.
    arriving: bool,
    keys: Vec<AuditPublicKey>,
    heads: Option<Vec<Head>>,
    manifest: Option<Opened>,
}

impl Verify {
    pub(super) fn run(
        &self,
        settings: impl Fn() -> anyhow::Result<Settings>,
    ) -> anyhow::Result<ExitCode> {
        let asked = self.asked(settings)?;
        let partitions = self.partitions(&asked)?;
        let mut verified = Vec::new();
        for partition in partitions {
            let checked = verify(&*asked.shelf, &partition, &asked.trust());
            verified.push(checked.context("the records cannot be checked")?);
        }
        if self.tenant.is_some() && verified.iter().all(Verified::is_empty) {
            bail!("{} has no records of that tenant", asked.place);
        }
        let beside = asked.manifest.map(|opened| opened.findings);
        let beside: Vec<Finding> = beside.unwrap_or_default();
        let holds = beside.is_empty() && verified.iter().all(Verified::holds);
        if self.json {
            output::json(&print::json(&verified, &beside, holds))?;
        } else {
            output::data(&print::text(&verified, &beside))?;
        }
        Ok(if holds {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn asked(&self, settings: impl Fn() -> anyhow::Result<Settings>) -> anyhow::Result<Asked> {
        let settings = match (&self.records, self.key.is_empty()) {
            (Some(_), false) => None,
            _ => Some(settings()?),
        };
        let keys = match &settings {
            Some(settings) if self.key.is_empty() => {
                super::keys(&[super::public_key(&settings.data_dir)])
                    .context("without a public key nothing can be verified; name one with --key")?
            }
            _ => super::keys(&self.key)?,
        };
        match (&self.records, settings) {
            (Some(records), _) => {
                let manifest = export::open(records, &keys)?;
                let signed = manifest.as_ref().filter(|opened| opened.signed);
                let heads = signed.map(|opened| opened.manifest.heads());
                Ok(Asked {
                    manifest,
                    ..Asked::directory(records, keys, heads)
                })
            }
            (None, Some(settings)) if self.from_store => {
                let (shelf, place) = store::shelf(&settings)?;
                Ok(Asked {
                    shelf,
                    place,
                    arriving: true,
                    keys,
                    heads: None,
                    manifest: None,
                })
            }
            (None, Some(settings)) => {
                let heads = heads(&settings.data_dir)?;
                Ok(Asked::directory(&settings.data_dir, keys, heads))
            }
            (None, None) => bail!("there is nothing to verify"),
        }
    }

    /// Those that lie there, and those that ought to.
    fn partitions(&self, asked: &Asked) -> anyhow::Result<Vec<Partition>> {
        if let Some(tenant) = &self.tenant {
            return Ok(vec![tenant.clone()]);
        }
        let mut partitions = asked
            .shelf
            .partitions()
            .context("the records cannot be read")?;
        let heads = asked.heads.iter().flatten();
        partitions.extend(heads.map(|head| head.partition.clone()));
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.is_empty() {
            bail!("{} has no records", asked.place);
        }
        Ok(partitions)
    }
}

impl Asked {
    fn directory(dir: &Path, keys: Vec<AuditPublicKey>, heads: Option<Vec<Head>>) -> Self {
        Self {
            shelf: Box::new(LocalShelf::new(dir)),
            place: dir.join("audit").display().to_string(),
            arriving: false,
            keys,
            heads,
            manifest: None,
        }
    }

    fn trust(&self) -> Trust<'_> {
        let signed = self.manifest.as_ref().filter(|opened| opened.signed);
        Trust {
            keys: &self.keys,
            heads: self.heads.as_deref(),
            left_out: signed.map_or(&[], |opened| &opened.manifest.left_out),
            arriving: self.arriving,
            threads: threads(),
        }
    }
}

pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, |threads| threads.get().min(MAX_THREADS))
}

/// The last record of every chain, as the gateway's database knows it; nothing without one.
pub(crate) fn heads(data_dir: &Path) -> anyhow::Result<Option<Vec<Head>>> {
    if !data_dir.join("state.db").exists() {
        return Ok(None);
    }
    let heads = tollgate_stores::embedded::heads(data_dir);
    let heads = heads.context("the heads of chains in state.db cannot be read")?;
    let head = |(partition, replica, seq, hash)| Head {
        partition,
        replica,
        seq,
        hash,
    };
    Ok(Some(heads.into_iter().map(head).collect()))
}
