//! Private files that appear whole or not at all.
//!
//! Worst case of a crash while writing: a leftover `.{name}.new`, which nothing reads and the
//! next write replaces.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a directory and those above it, for nobody but the gateway's user.
pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Puts a file of `bytes` (0600) in place of whatever stands at `path`, durably. Writers of one
/// path take turns (see [`Lock`]), so the name written aside can be fixed.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (dir, aside) = aside(path)?;
    if let Err(error) = fs::remove_file(&aside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    sync_dir(dir)
}

fn aside(path: &Path) -> io::Result<(&Path, std::path::PathBuf)> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "not a path of a file");
    let dir = path.parent().ok_or_else(invalid)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let aside = dir.join(format!(".{}.new", name.ok_or_else(invalid)?));
    Ok((dir, aside))
}

/// A lock between processes on a directory, held until dropped. Ends with its holder's life.
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock, never read")] File);

impl Lock {
    pub(super) fn on(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(".lock"))?;
        file.lock()?;
        Ok(Self(file))
    }
}
