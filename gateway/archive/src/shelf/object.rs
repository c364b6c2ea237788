//! Partitions in an object store.
//!
//! Lists by prefix, and by day where days are asked for, so that a question about one tenant and
//! one day costs a few requests. Has threads of its own for the network; whoever asks blocks.
//! Worst case: an object that goes while it is looked at is an error, since nobody but a purge
//! takes anything away.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use tokio::runtime::{Handle, Runtime};
use tollgate_core::audit::{Name, Partition, ROOT};

use super::{Days, Found, Shelf, ShelfError, may_hold};
use crate::store::Objects;

/// A bucket, or a part of one, that has `audit/` in it.
pub(super) struct ObjectShelf {
    objects: Objects,
    /// `None` once it is being dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl ObjectShelf {
    pub(super) fn new(objects: Objects) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("record-store")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        Ok(Self {
            objects,
            runtime: Some(runtime),
            handle,
        })
    }

    /// A path of the store as ours, with `audit/` in front.
    fn ours<'a>(&self, path: &'a Path) -> &'a str {
        let path = path.as_ref();
        let prefix = self.objects.prefix.as_ref();
        let below = path.strip_prefix(prefix).unwrap_or(path);
        below.strip_prefix('/').unwrap_or(below)
    }

    fn failed(path: &str, cause: object_store::Error) -> ShelfError {
        ShelfError {
            place: path.to_owned(),
            cause: cause.into(),
        }
    }

    fn show(
        &self,
        object: &ObjectMeta,
        days: Days,
        look: &mut dyn FnMut(Found) -> Result<(), ShelfError>,
    ) -> Result<(), ShelfError> {
        let path = self.ours(&object.location);
        match path.parse::<Name>() {
            Ok(name) if name.day().is_none_or(|day| days.contain(day)) => {
                let bytes = object.size;
                look(Found::Ours { name, bytes })
            }
            Ok(_another_day) => Ok(()),
            Err(_foreign) => look(Found::Foreign(path.to_owned())),
        }
    }

    /// Everything below a path, one after the other.
    fn all(
        &self,
        path: &str,
        days: Days,
        look: &mut dyn FnMut(Found) -> Result<(), ShelfError>,
    ) -> Result<(), ShelfError> {
        let mut listing = self.objects.store.list(Some(&self.objects.path(path)));
        while let Some(object) = self.handle.block_on(listing.next()) {
            let object = object.map_err(|cause| Self::failed(path, cause))?;
            self.show(&object, days, look)?;
        }
        Ok(())
    }

    /// As [`Self::all`], passing over what can hold nothing of those days.
    fn walk(
        &self,
        path: &str,
        days: Days,
        look: &mut dyn FnMut(Found) -> Result<(), ShelfError>,
    ) -> Result<(), ShelfError> {
        let listed = self.objects.path(path);
        let listing = self.objects.store.list_with_delimiter(Some(&listed));
        let listing = self.handle.block_on(listing);
        let listing = listing.map_err(|cause| Self::failed(path, cause))?;
        for object in &listing.objects {
            self.show(object, days, look)?;
        }
        for below in &listing.common_prefixes {
            let below = self.ours(below);
            let is_a_day = below.contains("/date=") || below.split('/').count() == 5;
            match may_hold(below, days) {
                false => {}
                true if is_a_day => self.all(below, days, look)?,
                true => self.walk(below, days, look)?,
            }
        }
        Ok(())
    }
}

impl Shelf for ObjectShelf {
    fn partitions(&self) -> Result<Vec<Partition>, ShelfError> {
        let root = self.objects.path(ROOT);
        let listing = self.objects.store.list_with_delimiter(Some(&root));
        let listing = self.handle.block_on(listing);
        let listing = listing.map_err(|cause| Self::failed(ROOT, cause))?;
        let names = listing.common_prefixes.iter().filter_map(Path::filename);
        let mut partitions: Vec<Partition> = names.filter_map(|name| name.parse().ok()).collect();
        partitions.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(partitions)
    }

    fn each(
        &self,
        partition: &Partition,
        days: Days,
        look: &mut dyn FnMut(Found) -> Result<(), ShelfError>,
    ) -> Result<(), ShelfError> {
        let path = format!("{ROOT}/{partition}");
        if days == Days::default() {
            self.all(&path, days, look)
        } else {
            self.walk(&path, days, look)
        }
    }

    fn open(&self, name: &Name) -> Result<Box<dyn Read + Send>, ShelfError> {
        let path = name.to_string();
        let object = self.objects.path(&path);
        let got = self.handle.block_on(self.objects.store.get(&object));
        let got = got.map_err(|cause| Self::failed(&path, cause))?;
        Ok(Box::new(Body {
            stream: got.into_stream(),
            chunk: Bytes::new(),
            handle: self.handle.clone(),
        }))
    }
}

impl Drop for ObjectShelf {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it would block, which a caller on a runtime of its own must not.
            runtime.shutdown_background();
        }
    }
}

/// The bytes of an object, as they come.
struct Body {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Bytes,
    handle: Handle,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.handle.block_on(self.stream.next()) {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let some = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..some]);
        Ok(some)
    }
}

#[cfg(test)]
mod tests;
