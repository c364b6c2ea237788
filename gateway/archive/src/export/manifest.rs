//! What an export says of itself, and whether it still holds.
//!
//! The signature is Ed25519 over two lines of text: the schema, and the SHA-256 of manifest.json.
//! Only a signed manifest excuses what is missing from a chain.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tollgate_core::audit::{AuditPublicKey, Partition};
use tollgate_core::ids::{ReplicaId, TenantId};
use tollgate_core::time::Timestamp;

use super::Asked;
use super::copy::{Copied, Stretch};
use crate::tombstone::Range;
use crate::verify::{Finding, Head, Kind, Verified, hex};

/// The version of this shape, in every manifest and in what is signed.
pub const MANIFEST_SCHEMA: &str = "tollgate.export/1";

/// One file of an export.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct File {
    /// Its path in the export.
    pub name: String,
    /// How long it is.
    pub bytes: u64,
    /// Its digest.
    pub sha256: String,
    /// How many records it holds; a checkpoint holds none.
    pub records: u64,
}

/// One chain of an export.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Chain {
    /// Who wrote it.
    pub replica: ReplicaId,
    /// How many records of it are here.
    pub records: u64,
    /// The number of the first.
    pub first: u64,
    /// The hash of the record before the first.
    pub hash_before: String,
    /// The number of the last.
    pub last: u64,
    /// The hash of the last.
    pub hash_last: String,
}

/// What an export says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// Whose records.
    pub tenant: TenantId,
    /// When it was made.
    pub made_at: Timestamp,
    /// By which version.
    pub gateway: String,
    /// The first day, if not all were asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// The last day, if not all were asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    /// What was wrong with the partition already.
    pub findings_at_source: u64,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Records between those that are here, which belong to other days or had been purged.
    pub left_out: Vec<Range>,
    /// Its files.
    pub files: Vec<File>,
}

impl Manifest {
    pub(super) fn new(asked: &Asked<'_>, copied: Copied, source: &Verified) -> Self {
        let ranged = asked.days.from.is_some() || asked.days.to.is_some();
        let mut chains = Vec::new();
        let mut left_out = Vec::new();
        for (replica, mut stretches) in copied.stretches {
            stretches.sort_by_key(|stretch| stretch.first);
            let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else {
                continue;
            };
            chains.push(Chain {
                replica: replica.clone(),
                records: stretches.iter().map(|s| s.last - s.first + 1).sum(),
                first: first.first,
                hash_before: first.hash_before.clone(),
                last: last.last,
                hash_last: last.hash_last.clone(),
            });
            if ranged {
                left_out.extend(between(&replica, &stretches));
            }
        }
        let found = u64::try_from(source.findings.len()).unwrap_or(u64::MAX);
        Self {
            schema: MANIFEST_SCHEMA.to_owned(),
            tenant: asked.tenant.clone(),
            made_at: asked.now,
            gateway: asked.gateway.to_owned(),
            from: asked.days.from.map(|day| day.to_string()),
            to: asked.days.to.map(|day| day.to_string()),
            findings_at_source: found.saturating_add(source.more_findings),
            chains,
            left_out,
            files: copied.files,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The last records of its chains.
    #[must_use]
    pub fn heads(&self) -> Vec<Head> {
        let chains = self.chains.iter();
        chains
            .map(|chain| Head {
                partition: Partition::Tenant(self.tenant.clone()),
                replica: chain.replica.clone(),
                seq: chain.last,
                hash: chain.hash_last.clone(),
            })
            .collect()
    }
}

/// What lies between stretches, and before the first.
fn between(replica: &ReplicaId, stretches: &[Stretch]) -> Vec<Range> {
    let mut last = (0, tollgate_core::audit::FIRST_PREV_HASH);
    let mut between = Vec::new();
    for stretch in stretches {
        if stretch.first > last.0 + 1 {
            between.push(Range {
                replica: replica.clone(),
                first: last.0 + 1,
                last: stretch.first - 1,
                hash_before: last.1.to_owned(),
                hash_last: stretch.hash_before.clone(),
            });
        }
        last = (stretch.last, &stretch.hash_last);
    }
    between
}

/// What is signed.
pub(super) fn signed(manifest: &[u8]) -> String {
    let digest = hex(&Sha256::digest(manifest).into());
    format!("{MANIFEST_SCHEMA}\n{digest}\n")
}

/// A manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NoManifest {
    /// The file cannot be read.
    #[error("manifest.json cannot be read")]
    Unreadable(#[from] io::Error),
    /// It is not one.
    #[error("manifest.json is not a manifest of an export")]
    NotOne(#[from] serde_json::Error),
}

/// A manifest, and what is wrong with it or with the files that it lists.
#[derive(Debug)]
pub struct Opened {
    /// What it says.
    pub manifest: Manifest,
    /// Whether a key that is believed has signed it.
    pub signed: bool,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Reads the manifest of an export and holds its files against it; nothing if there is none.
///
/// # Errors
/// [`NoManifest`].
pub fn open(dir: &Path, keys: &[AuditPublicKey]) -> Result<Option<Opened>, NoManifest> {
    let text = match fs::read(dir.join("manifest.json")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let manifest: Manifest = serde_json::from_slice(&text)?;
    let said = signed(&text);
    let mut findings = Vec::new();
    let mut wrong = |why: &str, file: &str| {
        findings.push(Finding {
            file: Some(file.escape_debug().to_string()),
            ..Finding::new(Kind::Manifest, why)
        });
    };
    let holds = fs::read_to_string(dir.join("manifest.sig"))
        .ok()
        .map(|signature| {
            let signature = signature.trim();
            let mut keys = keys.iter();
            keys.any(|key| key.has_signed(said.as_bytes(), signature))
        });
    match holds {
        Some(true) => {}
        Some(false) => wrong("its signature does not hold", "manifest.sig"),
        None if manifest.left_out.is_empty() => {}
        None => wrong("it is not signed, so it excuses nothing", "manifest.sig"),
    }
    if manifest.findings_at_source > 0 {
        let why = "the partition had findings already when it was exported";
        wrong(why, "manifest.json");
    }
    for file in &manifest.files {
        let ours = file.name.parse::<tollgate_core::audit::Name>().is_ok();
        let digest = ours
            .then(|| digest_of(&dir.join(&file.name)).ok())
            .flatten();
        if digest != Some((file.bytes, file.sha256.clone())) {
            wrong("it is not the file that the manifest lists", &file.name);
        }
    }
    Ok(Some(Opened {
        manifest,
        signed: holds == Some(true),
        findings,
    }))
}

fn digest_of(path: &Path) -> io::Result<(u64, String)> {
    let mut digest = Sha256::new();
    let mut file = fs::File::open(path)?;
    let mut piece = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let read = io::Read::read(&mut file, &mut piece)?;
        if read == 0 {
            return Ok((bytes, hex(&digest.finalize().into())));
        }
        bytes += u64::try_from(read).unwrap_or(u64::MAX);
        digest.update(piece.get(..read).unwrap_or_default());
    }
}
