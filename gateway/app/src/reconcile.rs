//! `tollgate reconcile`: a provider's exported usage against our records, and why they differ.
//!
//! Reads files and the partitions of the tenants named, and no others; needs no running gateway.
//! Ends with 0 if nothing is left unexplained, with 1 if something is, and with 2 if it was asked
//! wrongly or a file cannot be read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use tollgate_archive::records::Scope;
use tollgate_archive::shelf::LocalShelf;
use tollgate_core::audit::Partition;
use tollgate_core::ids::{HandleName, ProviderName, TenantId};
use tollgate_core::money::PicoUsd;
use tollgate_core::reconcile::{
    Export, Exporter, Keys, Reconciliation, Records, Tolerance, compare, json, read, table,
};
use tollgate_core::time::Timestamp;

use crate::config::Settings;
use crate::output;

/// The longest export read, in bytes.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Records of so many days after the export's last are looked at for corrections of batches.
const LATER_DAYS: u64 = 31;

const DAY: Duration = Duration::from_secs(86_400);

/// Whose exports are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Provider {
    /// Usage and costs of the organization API, and the dashboard's CSV files
    Openai,
    /// Usage and cost reports of the admin API, and the console's CSV files
    Anthropic,
}

#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// Whose export it is
    #[arg(long, value_enum)]
    provider: Provider,
    /// The provider's name in our policies and records [default: as above]
    #[arg(long, value_name = "NAME")]
    named: Option<ProviderName>,
    /// A file that the provider exported: usage, costs, or several of them
    #[arg(long, required = true, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Which key of the provider is whose credential; may be given several times
    #[arg(long, value_name = "KEY=TENANT/CREDENTIAL", value_parser = mapping, required_unless_present = "keys")]
    key: Vec<Mapping>,
    /// A TOML file with the same: [keys] KEY = "TENANT/CREDENTIAL", or a list of them
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Only since this UTC date
    #[arg(long, value_name = "DATE", value_parser = date)]
    from: Option<Timestamp>,
    /// Only until this UTC date, which counts
    #[arg(long, value_name = "DATE", value_parser = date)]
    to: Option<Timestamp>,
    /// Differences of so much money are none
    #[arg(long, value_name = "USD", default_value = "0.01")]
    tolerance_usd: PicoUsd,
    /// Differences of so many tokens or requests are none
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    tolerance_tokens: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A key of the provider, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    key: String,
    tenant: TenantId,
    credential: HandleName,
}

fn mapping(text: &str) -> Result<Mapping, String> {
    let (key, whose) = text
        .rsplit_once('=')
        .ok_or("it takes KEY=TENANT/CREDENTIAL")?;
    whose_key(key, whose)
}

fn whose_key(key: &str, whose: &str) -> Result<Mapping, String> {
    let (tenant, credential) = whose
        .split_once('/')
        .ok_or("a key is whose: TENANT/CREDENTIAL")?;
    Ok(Mapping {
        key: key.to_owned(),
        tenant: tenant.parse().map_err(|wrong| format!("{wrong}"))?,
        credential: credential.parse().map_err(|wrong| format!("{wrong}"))?,
    })
}

fn date(text: &str) -> Result<Timestamp, String> {
    midnight(text).map_err(|_no_date| "it takes a UTC date, such as 2026-11-23".to_owned())
}

fn midnight(day: impl std::fmt::Display) -> anyhow::Result<Timestamp> {
    Ok(format!("{day}T00:00:00Z").parse()?)
}

/// A file of keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    keys: BTreeMap<String, Whose>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Whose {
    One(String),
    Several(Vec<String>),
}

impl Reconcile {
    /// Does it.
    ///
    /// # Errors
    /// If records cannot be read or nothing be printed.
    pub(crate) fn run(&self, settings: &Settings) -> anyhow::Result<ExitCode> {
        let asked = match self.asked() {
            Ok(asked) => asked,
            Err(wrong) => {
                output::say(&format!("error: {wrong:#}"));
                return Ok(ExitCode::from(2));
            }
        };
        let (export, keys) = asked;
        let found = self.compare(&settings.data_dir, &export, keys)?;
        if self.json {
            output::json(&json(&found))?;
        } else {
            output::data(&table(&found))?;
        }
        Ok(if found.agrees() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Everything that is given, read.
    fn asked(&self) -> anyhow::Result<(Export, Keys)> {
        let mut mappings = self.key.clone();
        if let Some(path) = &self.keys {
            mappings.extend(keys_of(path)?);
        }
        let mut keys = Keys::default();
        for Mapping {
            key,
            tenant,
            credential,
        } in mappings
        {
            keys.add(&key, tenant, credential)?;
        }
        let exporter = match self.provider {
            Provider::Openai => Exporter::OpenAi,
            Provider::Anthropic => Exporter::Anthropic,
        };
        let mut export = Export::default();
        for path in &self.file {
            let text = text_of(path)?;
            let shown = path.display();
            read(exporter, &text, &mut export).with_context(|| format!("{shown}"))?;
        }
        export.restrict(self.from.map(Timestamp::date), self.to.map(Timestamp::date));
        if export.days().is_none() {
            bail!("the export is about no day that was asked for");
        }
        Ok((export, keys))
    }

    fn compare(
        &self,
        data_dir: &Path,
        export: &Export,
        keys: Keys,
    ) -> anyhow::Result<Reconciliation> {
        let usual = match self.provider {
            Provider::Openai => "openai",
            Provider::Anthropic => "anthropic",
        };
        let named = match &self.named {
            Some(named) => named.clone(),
            None => usual.parse()?,
        };
        let (first, last) = export.days().context("the export is about no day")?;
        // What began the day before may have ended on the first.
        let from = midnight(first)?.minus(DAY);
        let later = DAY.saturating_mul(u32::try_from(LATER_DAYS.saturating_add(1))?);
        let to = midnight(last)?.plus(later);
        let tenants = keys.tenants().into_iter();
        let scope = Scope {
            partitions: tenants.map(Partition::Tenant).collect(),
            from: Some(from),
            to: Some(to),
        };
        let mut records = Records::new(named, keys);
        let shelf = LocalShelf::new(data_dir);
        let read = scope.records(&shelf, &mut |record| records.add(&record));
        read.context("the records cannot be read")?;
        let tolerance = Tolerance {
            tokens: self.tolerance_tokens,
            usd: self.tolerance_usd,
        };
        Ok(compare(export, &records, tolerance))
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let unreadable = || format!("{} cannot be read", path.display());
    let length = std::fs::metadata(path).with_context(unreadable)?.len();
    if length > MOST_BYTES {
        bail!(
            "{} is longer than 256 MiB: export fewer days",
            path.display()
        );
    }
    std::fs::read_to_string(path).with_context(unreadable)
}

fn keys_of(path: &Path) -> anyhow::Result<Vec<Mapping>> {
    let shown = path.display();
    let text = text_of(path)?;
    let file: KeysFile = toml::from_str(&text).with_context(|| format!("{shown}"))?;
    let mut mappings = Vec::new();
    for (key, whose) in file.keys {
        let all = match whose {
            Whose::One(one) => vec![one],
            Whose::Several(several) => several,
        };
        for one in all {
            let mapping = whose_key(&key, &one).map_err(anyhow::Error::msg);
            mappings.push(mapping.with_context(|| format!("{shown}: {key} = {one:?}"))?);
        }
    }
    Ok(mappings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_mapped_to_a_credential_of_a_tenant() {
        let found = mapping("key_a=b=acme/openai_key").expect("a mapping");
        assert_eq!(
            found.key, "key_a=b",
            "keys of consoles are names that people chose"
        );
        assert_eq!(found.tenant.as_str(), "acme");
        for wrong in ["key", "key=acme", "key=../x/openai_key", "key=acme/"] {
            assert!(mapping(wrong).is_err(), "{wrong}");
        }
    }
}
