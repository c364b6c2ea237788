//! Where partitions are copied to: a directory, S3 or what speaks it, Google's and Azure's stores.
//!
//! Something is put under its name once and never again: a name that is taken stays as it is.
//! Names are those of [`tollgate_core::audit::Name`], below the store's prefix. Knows no outbox
//! and no forms. Worst case: a store that does not know conditional writes refuses every object.

mod client;
mod connect;
mod directory;
mod place;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tollgate_core::audit::{Day, Name};
use tollgate_core::policy::ObjectLock;

use crate::shelf::LocalShelf;

pub use connect::NoStore;
pub(crate) use connect::objects;
pub use place::{Bucket, NotAPlace, Place};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Where partitions are copied to, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The place.
    pub place: Place,
    /// S3 only: the region, if it is not to come from the environment.
    pub region: Option<String>,
    /// Something else that speaks S3, by its URL.
    pub endpoint: Option<String>,
    /// PEM file of an authority to believe beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether the endpoint may be reached without TLS.
    pub plain_http: bool,
}

impl StoreConfig {
    /// A place, reached as it usually is.
    #[must_use]
    pub const fn new(place: Place) -> Self {
        Self {
            place,
            region: None,
            endpoint: None,
            ca_file: None,
            plain_http: false,
        }
    }
}

/// Until when, and against whom, the store is to hold an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Against whom.
    pub mode: ObjectLock,
    /// The first UTC day on which it may go.
    pub until: Day,
}

/// What came of putting something under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Stored,
    /// Something has that name already, and was left alone.
    Taken,
}

/// Why something could not be put or had.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailure {
    /// The store could not be reached or failed itself. Another time it may well work.
    #[error("the store does not answer")]
    Unanswered(#[source] Cause),
    /// The store did not want it.
    #[error("the store refuses")]
    Refused(#[source] Cause),
}

/// A place that can be written to.
pub struct Store(Inner);

enum Inner {
    Directory(LocalShelf),
    Objects(Objects),
}

/// A bucket or container, and what stands in front of every name in it.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: Path,
}

impl Objects {
    /// A path of ours as the store knows it.
    pub(crate) fn path(&self, path: &str) -> Path {
        let path = match self.prefix.as_ref() {
            "" => path.to_owned(),
            prefix => format!("{prefix}/{path}"),
        };
        // Made of parts, `~` would be escaped. Names have nothing that cannot be taken as it is.
        Path::parse(&path).unwrap_or_else(|_unusable| Path::from(path))
    }
}

impl Store {
    /// Makes ready to reach the place; nothing is sent yet. `variables` are those of the
    /// environment in which the providers' own tools look for credentials.
    ///
    /// # Errors
    /// If something that is needed is missing or cannot be used.
    pub fn connect(config: &StoreConfig, variables: &[(String, String)]) -> Result<Self, NoStore> {
        Ok(Self(match &config.place {
            Place::Directory(dir) => Inner::Directory(LocalShelf::new(dir)),
            _ => Inner::Objects(connect::objects(config, variables)?),
        }))
    }

    /// Puts `bytes` under a name that nothing has.
    ///
    /// # Errors
    /// If it is not there afterwards, as far as is known.
    pub async fn put(
        &self,
        name: &Name,
        bytes: Bytes,
        lock: Option<Lock>,
    ) -> Result<Put, StoreFailure> {
        match &self.0 {
            Inner::Directory(shelf) => {
                let path = shelf.path(name);
                let put = move || directory::put(&path, &bytes);
                blocking(put).await
            }
            Inner::Objects(objects) => objects.put(name, bytes, lock).await,
        }
    }

    /// What has a name.
    ///
    /// # Errors
    /// If nothing has, or it cannot be read.
    pub async fn get(&self, name: &Name) -> Result<Bytes, StoreFailure> {
        match &self.0 {
            Inner::Directory(shelf) => {
                let path = shelf.path(name);
                blocking(move || std::fs::read(path).map(Bytes::from)).await
            }
            Inner::Objects(objects) => {
                let path = objects.path(&name.to_string());
                let got = async { objects.store.get(&path).await?.bytes().await };
                got.await
                    .map_err(|error| StoreFailure::Unanswered(error.into()))
            }
        }
    }
}

impl Objects {
    async fn put(
        &self,
        name: &Name,
        bytes: Bytes,
        lock: Option<Lock>,
    ) -> Result<Put, StoreFailure> {
        let errand = client::Errand {
            lock,
            status: Arc::new(AtomicU16::new(0)),
        };
        let status = Arc::clone(&errand.status);
        let mut options = PutOptions::from(PutMode::Create);
        options.extensions.insert(errand);
        let path = self.path(&name.to_string());
        let payload = PutPayload::from_bytes(bytes);
        match self.store.put_opts(&path, payload, options).await {
            Ok(_) => Ok(Put::Stored),
            Err(Error::AlreadyExists { .. }) => Ok(Put::Taken),
            Err(error) => Err(match status.load(Ordering::Relaxed) {
                408 | 429 => StoreFailure::Unanswered(error.into()),
                400..500 => StoreFailure::Refused(error.into()),
                _ => StoreFailure::Unanswered(error.into()),
            }),
        }
    }
}

/// Work on files, beside the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreFailure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| StoreFailure::Unanswered(error.into())),
        Err(gone) => Err(StoreFailure::Unanswered(gone.into())),
    }
}

#[cfg(test)]
mod tests;
