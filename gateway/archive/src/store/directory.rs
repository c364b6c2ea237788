//! Putting a file under its name in a directory: whole, on the disk, read-only, and only if
//! nothing has the name.
//!
//! It is written beside its name first, then linked to it, which fails if the name is taken. A
//! crash leaves at most the file beside it, which the next attempt writes anew. Worst case: two
//! writers of one name write one file beside it; both have the same bytes to write.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Put;
use crate::shelf::UNFINISHED;

/// Nobody is to write it again.
const READ_ONLY: u32 = 0o444;

pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<Put> {
    if path.try_exists()? {
        return Ok(Put::Taken);
    }
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create(parent)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(UNFINISHED);
    let beside = Path::new(&beside);
    // What an earlier attempt left is read-only perhaps, so it goes first.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).open(beside)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(READ_ONLY))?;
    file.sync_all()?;
    drop(file);
    let linked = fs::hard_link(beside, path);
    fs::remove_file(beside)?;
    match linked {
        Ok(()) => sync(parent).map(|()| Put::Stored),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Taken),
        Err(error) => Err(error),
    }
}

/// Makes a directory and those above it, each on the disk before anything is put into it.
fn create(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().ok_or(io::ErrorKind::NotFound)?;
    create(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync(parent)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
