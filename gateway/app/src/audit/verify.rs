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
use crate::output;

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
    dir: PathBuf,
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
        let shelf = LocalShelf::new(&asked.dir);
        let partitions = self.partitions(&asked, &shelf)?;
        let mut verified = Vec::new();
        for partition in partitions {
            let checked = verify(&shelf, &partition, &asked.trust());
            verified.push(checked.context("the records cannot be checked")?);
        }
        if self.tenant.is_some() && verified.iter().all(Verified::is_empty) {
            bail!("{} has no records of that tenant", asked.dir.display());
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
        let data_dir = match (&self.records, self.key.is_empty()) {
            (Some(_), false) => None,
            _ => Some(settings()?.data_dir),
        };
        let keys = match &data_dir {
            Some(data_dir) if self.key.is_empty() => super::keys(&[super::public_key(data_dir)])
                .context("without a public key nothing can be verified; name one with --key")?,
            _ => super::keys(&self.key)?,
        };
        let (dir, heads, manifest) = match (&self.records, data_dir) {
            (Some(records), _) => {
                let manifest = export::open(records, &keys)?;
                let signed = manifest.as_ref().filter(|opened| opened.signed);
                let heads = signed.map(|opened| opened.manifest.heads());
                (records.clone(), heads, manifest)
            }
            (None, Some(data_dir)) => {
                let heads = heads(&data_dir)?;
                (data_dir, heads, None)
            }
            (None, None) => bail!("there is nothing to verify"),
        };
        Ok(Asked {
            dir,
            keys,
            heads,
            manifest,
        })
    }

    /// Those that lie there, and those that ought to.
    fn partitions(&self, asked: &Asked, shelf: &LocalShelf) -> anyhow::Result<Vec<Partition>> {
        if let Some(tenant) = &self.tenant {
            return Ok(vec![tenant.clone()]);
        }
        let mut partitions = shelf.partitions().context("the records cannot be read")?;
        let heads = asked.heads.iter().flatten();
        partitions.extend(heads.map(|head| head.partition.clone()));
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.is_empty() {
            bail!("{} has no records", asked.dir.join("audit").display());
        }
        Ok(partitions)
    }
}

impl Asked {
    fn trust(&self) -> Trust<'_> {
        let signed = self.manifest.as_ref().filter(|opened| opened.signed);
        Trust {
            keys: &self.keys,
            heads: self.heads.as_deref(),
            left_out: signed.map_or(&[], |opened| &opened.manifest.left_out),
            arriving: false,
            threads: threads(),
        }
    }
}

pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, |threads| threads.get().min(MAX_THREADS))
}

/// The last record of every chain, as the gateway's database knows it; nothing without one.
pub(super) fn heads(data_dir: &Path) -> anyhow::Result<Option<Vec<Head>>> {
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
