//! Secrets in directories that somebody else fills: Kubernetes Secrets, one mount per scope.
//!
//! ```text
//! {directory}/{scope}/{name}            the secret; one line break at its end is none of it
//! {directory}/{scope}/{name}.version    optional: its version, a whole number
//! ```
//!
//! Kubernetes swaps the link `..data` that all names of a mount lead through, so a secret and its
//! version are read from the one directory that the link led to. What the path of a secret leads
//! to must lie in its own scope's directory; otherwise it is not read.
//!
//! Without a `.version` file the version is the time, in seconds since 1970, at which the file was
//! written on this machine. It says which value was used and when it came; replicas on other
//! machines may know the same value by another time. Nothing is derived from the secret itself.
//!
//! Worst case: whoever can write into a mount can replace its secrets, as with every mount.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tollgate_core::vault::{SecretName, SecretVersion, Vault, VaultError};
use zeroize::Zeroizing;

use super::checked::{Checked, RECHECK, Source};
use super::stamp::Stamp;
use super::{MAX_STORED_BYTES, boxed, unreadable, unusable, without_line_break};

/// How often a mount is followed that changes while it is read. Kubernetes changes it once in a
/// minute at most.
const MAX_TRIES: u32 = 16;

/// A version is a number of a few digits.
const MAX_VERSION_BYTES: u64 = 32;

/// Mounted directories, one for each scope.
pub struct MountedVault(Arc<Checked<Mounts>>);

struct Mounts {
    directory: PathBuf,
}

impl MountedVault {
    /// A vault over the mounts in `directory`. Nothing is read yet: a scope may be mounted later.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let directory = directory.to_owned();
        Self(Arc::new(Checked::new(Mounts { directory }, RECHECK)))
    }
}

#[async_trait]
impl Vault for MountedVault {
    async fn fetch(&self, secret: &SecretName) -> Result<SecretVersion, VaultError> {
        self.0.fetch(secret).await
    }
}

impl Source for Mounts {
    fn witness(&self, secret: &SecretName) -> PathBuf {
        self.scope(secret).join(secret.name.as_str())
    }

    /// Reads the secret; again if the link was swapped under it, because then the directory it
    /// led to is gone.
    fn read(&self, secret: &SecretName) -> Result<(Stamp, SecretVersion), VaultError> {
        let mut tries_left = MAX_TRIES;
        loop {
            tries_left -= 1;
            let before = Stamp::at(&self.witness(secret)).ok();
            match self.read_once(secret) {
                Ok((stamp, value)) => {
                    return match value {
                        Some(value) => Ok((stamp, value)),
                        None => Err(VaultError::Malformed(secret.clone())),
                    };
                }
                Err(_) if tries_left > 0 && Stamp::at(&self.witness(secret)).ok() != before => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(VaultError::Missing(secret.clone()));
                }
                Err(error) => return Err(unreadable(secret, error)),
            }
        }
    }
}

impl Mounts {
    fn scope(&self, secret: &SecretName) -> PathBuf {
        self.directory.join(secret.scope.as_str())
    }

    /// The value and its file's identity; no value if it can never be sent.
    fn read_once(&self, secret: &SecretName) -> io::Result<(Stamp, Option<SecretVersion>)> {
        let path = self.resolve(secret)?;
        let mut file = File::open(&path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("the secret's path leads to no file"));
        }
        let stamp = Stamp::of(&about);
        let plain = read_bounded(&mut file)?;
        // A file that is written in place can be half old and half new.
        if Stamp::of(&file.metadata()?) != stamp {
            return Err(io::Error::other("the file changed while it was read"));
        }
        let value = boxed(Zeroizing::new(without_line_break(&plain).to_vec()));
        if unusable(&value).is_some() {
            return Ok((stamp, None));
        }
        let version = match stated_version(&path)? {
            Some(version) => version,
            None => u32::try_from(about.mtime()).unwrap_or(0),
        };
        Ok((stamp, Some(SecretVersion::new(value, version))))
    }

    /// What the secret's path leads to, through all links: a file in its scope's own directory.
    fn resolve(&self, secret: &SecretName) -> io::Result<PathBuf> {
        let directory = fs::canonicalize(&self.directory)?;
        let own = directory.join(secret.scope.as_str());
        let path = fs::canonicalize(self.witness(secret))?;
        if fs::canonicalize(&own)? != own || !path.starts_with(&own) {
            return Err(io::Error::other(
                "the secret's path leads out of its scope's directory",
            ));
        }
        Ok(path)
    }
}

/// The file's bytes, in a buffer that never grows, so that no part of the secret is left in memory
/// that was given back.
fn read_bounded(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for the line break, and for one byte that says that it is too long.
    let limit = MAX_STORED_BYTES.saturating_add(3);
    let mut plain = Zeroizing::new(vec![0; limit]);
    let mut len = 0;
    loop {
        let free = plain.get_mut(len..).unwrap_or_default();
        match file.read(free)? {
            0 => break,
            read => len = len.saturating_add(read),
        }
    }
    plain.truncate(len);
    Ok(plain)
}

/// The version that lies beside the secret, in the same state of the mount.
fn stated_version(path: &Path) -> io::Result<Option<u32>> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".version");
    let mut text = String::new();
    match File::open(path.with_file_name(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?.take(MAX_VERSION_BYTES).read_to_string(&mut text)?,
    };
    let number = text.trim_end().parse();
    number
        .map(Some)
        .map_err(|error| io::Error::other(format!("its .version file holds no version: {error}")))
}

#[cfg(test)]
mod tests;
