//! The files of a policies directory, read as one consistent set.
//!
//! Follows symbolic links, so that the swapped links of Kubernetes volumes work; passes over
//! hidden names (`..data`, editors' swap files). Knows nothing of what the files say. At worst,
//! files that never stop changing are not read at all.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tollgate_core::policy::{Mistake, PolicyFile};

/// Directories that make up a policy, and whether they must be there.
const PARTS: [(&str, bool); 3] = [("providers", true), ("tenants", true), ("issuers", false)];
/// How often a set that changed while being read is read again.
const ATTEMPTS: usize = 5;
/// A policy file is written by hand; a longer one is something else.
const LONGEST_BYTES: u64 = 4 * 1024 * 1024;

/// What tells one state of the directory from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<Print>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Print {
    path: PathBuf,
    policy: bool,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// All files of one state of the directory.
#[derive(Debug)]
pub(crate) struct Files {
    /// The policy files.
    pub(crate) policy: Vec<PolicyFile>,
    /// Files beside them that are not policy files.
    pub(crate) passed_over: Vec<PathBuf>,
    /// The state they were read in.
    pub(crate) fingerprint: Fingerprint,
}

/// Reads every policy file under `dir`, all from the same state of it.
///
/// # Errors
/// Where reading failed, as mistakes with the file's name.
pub(crate) fn read(dir: &Path) -> Result<Files, Vec<Mistake>> {
    for _attempt in 0..ATTEMPTS {
        let before = fingerprint(dir).map_err(|mistake| vec![mistake])?;
        let policy = read_all(&before)?;
        let after = fingerprint(dir).map_err(|mistake| vec![mistake])?;
        if before == after {
            let others = before.0.iter().filter(|print| !print.policy);
            return Ok(Files {
                policy,
                passed_over: others.map(|print| print.path.clone()).collect(),
                fingerprint: before,
            });
        }
    }
    Err(vec![unreadable(
        dir,
        "the files keep changing while they are read",
    )])
}

/// The present state of `dir`.
///
/// # Errors
/// What could not be looked at.
pub(crate) fn fingerprint(dir: &Path) -> Result<Fingerprint, Mistake> {
    let mut prints = Vec::new();
    for (part, required) in PARTS {
        let part = dir.join(part);
        let entries = match std::fs::read_dir(&part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => continue,
            entries => entries,
        };
        let entries = entries.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => unreadable(
                &part,
                "there is no such directory; policies lie in providers/ and tenants/",
            ),
            _ => unreadable(&part, &error.to_string()),
        })?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&part, &error.to_string()))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') || name.ends_with('~') {
                continue;
            }
            prints.push(print(&entry.path(), name.ends_with(".toml"))?);
        }
    }
    prints.sort();
    Ok(Fingerprint(prints))
}

fn print(path: &Path, toml: bool) -> Result<Print, Mistake> {
    // The link's target, not the link: a swapped link shows as another inode.
    let of = std::fs::metadata(path).map_err(|error| unreadable(path, &error.to_string()))?;
    Ok(Print {
        path: path.to_owned(),
        policy: toml && of.is_file(),
        device: of.dev(),
        inode: of.ino(),
        bytes: of.len(),
        modified: (of.mtime(), of.mtime_nsec()),
        changed: (of.ctime(), of.ctime_nsec()),
    })
}

fn read_all(state: &Fingerprint) -> Result<Vec<PolicyFile>, Vec<Mistake>> {
    let mut files = Vec::new();
    let mut mistakes = Vec::new();
    for print in state.0.iter().filter(|print| print.policy) {
        match read_one(print) {
            Ok(file) => files.push(file),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() {
        Ok(files)
    } else {
        Err(mistakes)
    }
}

fn read_one(print: &Print) -> Result<PolicyFile, Mistake> {
    let path = &print.path;
    if print.bytes > LONGEST_BYTES {
        return Err(unreadable(path, "longer than 4 MiB: no policy file"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => unreadable(path, "the text is not UTF-8"),
        _ => unreadable(path, &error.to_string()),
    })?;
    Ok(PolicyFile {
        path: path.display().to_string(),
        text,
    })
}

fn unreadable(path: &Path, why: &str) -> Mistake {
    Mistake {
        file: path.display().to_string(),
        line: 1,
        column: 1,
        message: format!("cannot be read: {why}"),
    }
}
