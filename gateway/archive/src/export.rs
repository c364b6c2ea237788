//! Everything of one tenant, and nothing of another, as a directory for an auditor.
//!
//! The partition is first checked where it lies; then the files of the days asked for are copied
//! under their own names, each line looked at on the way. A line of somebody else ends the export,
//! and nothing of it is left. The manifest says what was taken, what of the chains was left out and
//! where they stood, and is signed if the key is at hand. Worst case: the disk is full; the
//! directory then never gets its name.

mod copy;
mod manifest;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tollgate_core::audit::{AuditKey, AuditPublicKey, Item, Name, Partition};
use tollgate_core::ids::TenantId;
use tollgate_core::time::Timestamp;

use crate::shelf::{Days, Shelf, ShelfError};
use crate::verify::{self, Trust};

pub use manifest::{Chain, File, MANIFEST_SCHEMA, Manifest, NoManifest, Opened, open};

/// What lies beside the records for whoever has no program of ours.
const README: &str = include_str!("export/README.txt");

/// What is asked for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Whose records.
    pub tenant: &'a TenantId,
    /// Of which days.
    pub days: Days,
    /// Where to; a directory that is not there, or is empty.
    pub out: &'a Path,
    /// Signs the manifest.
    pub key: Option<&'a AuditKey>,
    /// What the export can be checked with; written beside it.
    pub public: &'a [AuditPublicKey],
    /// The version of the program.
    pub gateway: &'a str,
    /// When.
    pub now: Timestamp,
}

/// There is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Something is there already.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// What is asked for is not there.
    #[error("there are no records of {0} of these days")]
    Nothing(TenantId),
    /// Records lie there whose predecessors are still on their way.
    #[error("{0} records are there and not all before them; try again once those have arrived")]
    Arriving(u64),
    /// A line that is not the tenant's, or is none.
    #[error(
        "line {line} of {file} is not a record of this tenant; `tollgate audit verify` says more"
    )]
    NotTheirs {
        /// The file.
        file: String,
        /// The line.
        line: u64,
    },
    /// It cannot be read.
    #[error("the records cannot be read")]
    Read(#[from] ShelfError),
    /// It cannot be written.
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// Copies a tenant's records, with what proves them.
///
/// # Errors
/// [`ExportError`]; nothing is left then.
pub fn export(
    shelf: &dyn Shelf,
    asked: &Asked<'_>,
    trust: &Trust<'_>,
) -> Result<Manifest, ExportError> {
    let written = |error| ExportError::Write(asked.out.to_owned(), error);
    match fs::read_dir(asked.out).map(Iterator::count) {
        Ok(0) => {}
        Ok(_) => return Err(ExportError::NotEmpty(asked.out.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(written(error)),
    }
    let parent = match asked.out.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(written)?;
    // Removed with all that is in it unless it gets its name in the end.
    let aside = parent.join(format!(".tollgate-export.{}", std::process::id()));
    fs::create_dir(&aside).map_err(written)?;
    let made = fill(shelf, asked, trust, &aside).and_then(|manifest| {
        fs::rename(&aside, asked.out).map_err(written)?;
        Ok(manifest)
    });
    if made.is_err() {
        let _left_behind = fs::remove_dir_all(&aside);
    }
    made
}

fn fill(
    shelf: &dyn Shelf,
    asked: &Asked<'_>,
    trust: &Trust<'_>,
    dir: &Path,
) -> Result<Manifest, ExportError> {
    let partition = Partition::Tenant(asked.tenant.clone());
    let source = verify::verify(shelf, &partition, trust)?;
    let early: u64 = source.chains.iter().map(|chain| chain.newer).sum();
    if trust.arriving && early > 0 {
        return Err(ExportError::Arriving(early));
    }
    let mut copied = copy::Copied::new(&source);
    let mut names: Vec<Name> = shelf
        .list(&partition, asked.days)?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let checkpoints: Vec<Name> = names
        .extract_if(.., |name| matches!(name.item, Item::Checkpoint { .. }))
        .collect();
    for name in &names {
        copied.records(shelf, name, dir)?;
    }
    if copied.records == 0 {
        return Err(ExportError::Nothing(asked.tenant.clone()));
    }
    for name in &checkpoints {
        copied.checkpoint(shelf, name, dir)?;
    }
    let manifest = manifest::Manifest::new(asked, copied, &source);
    let text = manifest.text();
    let put = |name: &str, text: &str| {
        let path = dir.join(name);
        copy::put(&path, text.as_bytes()).map_err(|error| ExportError::Write(path, error))
    };
    put("manifest.json", &text)?;
    if let Some(key) = asked.key {
        put(
            "manifest.sig",
            &format!(
                "{}\n",
                key.sign(manifest::signed(text.as_bytes()).as_bytes())
            ),
        )?;
    }
    let public: Vec<&str> = asked.public.iter().map(AuditPublicKey::pem).collect();
    put("audit.pub", &public.concat())?;
    put(
        "README.txt",
        &README.replace("{tenant}", asked.tenant.as_str()),
    )?;
    Ok(manifest)
}

#[cfg(test)]
mod tests;
