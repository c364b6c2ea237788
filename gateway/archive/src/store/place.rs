//! The place that a URL names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place where partitions lie. What stands in front of `audit/` there is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory: `file:///var/records`.
    Directory(PathBuf),
    /// A bucket of S3, or of what speaks its protocol: `s3://bucket/prefix`.
    S3(Bucket),
    /// A bucket of Google Cloud Storage: `gs://bucket/prefix`.
    Google(Bucket),
    /// A container of Azure Blob Storage: `az://container/prefix`.
    Azure(Bucket),
}

/// A bucket or container, and what stands in front of every name in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

/// A text is no place where partitions could lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a URL such as file:///var/records, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
)]
pub struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(url: &str) -> Result<Self, NotAPlace> {
        let (scheme, rest) = url.split_once("://").ok_or(NotAPlace)?;
        if scheme == "file" {
            let plain = rest.starts_with('/') && rest.len() > 1 && is_plain(rest, " +=,@");
            return plain.then(|| Self::Directory(rest.into())).ok_or(NotAPlace);
        }
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.starts_with('/') {
            return Err(NotAPlace);
        }
        let ordinary = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        let has_name = (3..=222).contains(&name.len()) && name.bytes().all(ordinary);
        if !has_name || !(prefix.is_empty() || is_plain(prefix, "=")) {
            return Err(NotAPlace);
        }
        let bucket = Bucket {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        };
        match scheme {
            "s3" => Ok(Self::S3(bucket)),
            "gs" => Ok(Self::Google(bucket)),
            "az" => Ok(Self::Azure(bucket)),
            _ => Err(NotAPlace),
        }
    }
}

/// Segments without dots alone, of characters that mean the same to every store and in every URL.
fn is_plain(path: &str, also: &str) -> bool {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').all(|segment| {
        !matches!(segment, "" | "." | "..")
            && segment
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c) || also.contains(c))
    })
}

/// The URL.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket) = match self {
            Self::Directory(dir) => return write!(f, "file://{}", dir.display()),
            Self::S3(bucket) => ("s3", bucket),
            Self::Google(bucket) => ("gs", bucket),
            Self::Azure(bucket) => ("az", bucket),
        };
        write!(f, "{scheme}://{}", bucket.name)?;
        if !bucket.prefix.is_empty() {
            write!(f, "/{}", bucket.prefix)?;
        }
        Ok(())
    }
}
