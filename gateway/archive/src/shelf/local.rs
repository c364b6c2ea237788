//! Partitions in a directory: the gateway's own, an export, or a target that is a mounted disk.
//!
//! Works while a gateway writes. A directory or file that goes while it is looked at is passed
//! over: only purging and copying take anything away.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tollgate_core::audit::{Name, Partition, ROOT};

use super::{Days, Found, Shelf, ShelfError, may_hold};

/// What the gateway writes beside a file until it is whole.
pub(crate) const UNFINISHED: &str = ".unfinished";

/// A directory that has `audit/` in it.
#[derive(Debug, Clone)]
pub struct LocalShelf {
    dir: PathBuf,
}

impl LocalShelf {
    /// The directory that `audit/` lies in: a gateway's data directory, or an export.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where something lies, or would.
    #[must_use]
    pub fn path(&self, name: &Name) -> PathBuf {
        self.dir.join(name.to_string())
    }

    fn walk(
        &self,
        path: &str,
        days: Days,
        look: &mut dyn FnMut(Found) -> Result<(), ShelfError>,
    ) -> Result<(), ShelfError> {
        for name in list(&self.dir.join(path))? {
            let path = format!("{path}/{name}");
            let place = self.dir.join(&path);
            match fs::symlink_metadata(&place) {
                Ok(met) if met.is_dir() => {
                    if may_hold(&path, days) {
                        self.walk(&path, days, look)?;
                    }
                }
                Ok(met) if met.is_file() && !path.ends_with(UNFINISHED) => {
                    match path.parse::<Name>() {
                        Ok(name) if name.day().is_none_or(|day| days.contain(day)) => {
                            let bytes = met.len();
                            look(Found::Ours { name, bytes })?;
                        }
                        Ok(_another_day) => {}
                        Err(_foreign) => look(Found::Foreign(path))?,
                    }
                }
                Ok(met) if met.is_file() => {}
                // Links are never followed: they could lead to another tenant's records.
                Ok(_neither) => look(Found::Foreign(path))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(failed(&place, cause)),
            }
        }
        Ok(())
    }
}

impl Shelf for LocalShelf {
    fn partitions(&self) -> Result<Vec<Partition>, ShelfError> {
        let names = list(&self.dir.join(ROOT))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn each(
        &self,
        partition: &Partition,
        days: Days,
        look: &mut dyn FnMut(Found) -> Result<(), ShelfError>,
    ) -> Result<(), ShelfError> {
        self.walk(&format!("{ROOT}/{partition}"), days, look)
    }

    fn open(&self, name: &Name) -> Result<Box<dyn Read + Send>, ShelfError> {
        let path = self.path(name);
        let file = File::open(&path).map_err(|cause| failed(&path, cause))?;
        Ok(Box::new(file))
    }
}

/// The names in a directory, ascending; none if it is not there.
fn list(dir: &Path) -> Result<Vec<String>, ShelfError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(dir, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| failed(dir, error))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

fn failed(path: &Path, cause: io::Error) -> ShelfError {
    ShelfError {
        place: path.display().to_string(),
        cause,
    }
}
