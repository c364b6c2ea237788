//! One parcel on its way: read, written in the wanted form, put, and compared if its name is
//! taken.
//!
//! What lies in the store is never written over. If other bytes have the name, both stay: an
//! alarm is raised, and the parcel goes beside them as a copy, `…~1`. Worst case: whoever can
//! write to the store takes names beforehand, and makes work and alarms.

use std::fs;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tollgate_core::audit::{Form, Item, Name, Parcel, Partition};
use tollgate_core::policy::Retention;
use tollgate_core::time::Timestamp;
use tracing::error;

use super::Tally;
use crate::forms;
use crate::shelf::LocalShelf;
use crate::store::{Lock, Put, Store, StoreFailure};

const MIB: u64 = 1 << 20;
/// What all parcels under way may take of memory together, about.
const MEMORY_MIB: u32 = 160;
/// What one row group of Parquet takes while it is put together.
const GROUP_MIB: u64 = 48;
/// How many other things may have a parcel's name before it is given up for a while.
const COPIES: u32 = 16;
/// How long one exchange with the store may take, and per byte on top: 256 KiB a second.
const EXCHANGE: Duration = Duration::from_secs(60);
const PER_BYTE: Duration = Duration::from_nanos(1_000_000_000 / (256 << 10));

/// Why a parcel has not arrived.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It lies no more where it should, or not as it should.
    #[error("it cannot be read here")]
    Unreadable(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] StoreFailure),
    #[error("the store took too long")]
    TooLong,
    #[error("other things have its name and all its copies' names")]
    NoName,
    #[error("the work was cut")]
    Cut(#[from] JoinError),
}

impl Failure {
    /// Whether others may well fare better.
    pub(super) const fn is_the_parcels_own(&self) -> bool {
        match self {
            Self::Unreadable(_) | Self::NoName | Self::Store(StoreFailure::Refused(_)) => true,
            Self::Store(StoreFailure::Unanswered(_)) | Self::TooLong | Self::Cut(_) => false,
        }
    }
}

pub(super) struct Delivery {
    shelf: LocalShelf,
    store: Store,
    form: Form,
    retention: Arc<dyn Fn(&Partition) -> Retention + Send + Sync>,
    clock: fn() -> Timestamp,
    memory: Semaphore,
    /// One segment at a time is written in another form: the processors are for calls.
    press: Semaphore,
    pub(super) tally: Arc<Tally>,
}

impl Delivery {
    pub(super) fn new(
        shelf: LocalShelf,
        store: Store,
        form: Form,
        retention: Arc<dyn Fn(&Partition) -> Retention + Send + Sync>,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            shelf,
            store,
            form,
            retention,
            clock,
            memory: Semaphore::new(MEMORY_MIB as usize),
            press: Semaphore::new(1),
            tally: Arc::default(),
        }
    }

    /// Brings a parcel to the store.
    pub(super) async fn deliver(&self, parcel: &Parcel) -> Result<(), Failure> {
        // Neither semaphore is ever closed.
        let _share = self.memory.acquire_many(self.share(parcel)).await;
        let bytes = self.read(parcel).await?;
        let mut name = parcel.name.in_form(self.form);
        let lock = self.lock(&name);
        for _attempt in 0..COPIES {
            let put = self.store.put(&name, bytes.clone(), lock);
            let put = match within(bytes.len(), put).await? {
                Put::Stored => true,
                Put::Taken => self.is_there(parcel, &name, &bytes).await?,
            };
            if put {
                let arrived = bytes.len() as u64;
                self.tally.shipped.fetch_add(1, Ordering::Relaxed);
                self.tally.bytes.fetch_add(arrived, Ordering::Relaxed);
                return Ok(());
            }
            self.tally.conflicts.fetch_add(1, Ordering::Relaxed);
            let taken = name.to_string();
            name.copy += 1;
            error!(
                name = taken,
                beside = name.to_string(),
                "the record store has other bytes under this name; both are kept"
            );
        }
        Err(Failure::NoName)
    }

    /// What a parcel takes of memory, in MiB.
    fn share(&self, parcel: &Parcel) -> u32 {
        let whole = parcel.bytes.div_ceil(MIB);
        let share = match (self.form, &parcel.name.item) {
            (Form::Parquet, Item::Segment { .. }) => (whole * 4).min(whole / 4 + GROUP_MIB),
            _ => whole,
        };
        u32::try_from(share)
            .unwrap_or(MEMORY_MIB)
            .clamp(1, MEMORY_MIB)
    }

    /// The parcel's bytes in the form they are put in.
    async fn read(&self, parcel: &Parcel) -> Result<Bytes, Failure> {
        let is_segment = matches!(parcel.name.item, Item::Segment { .. });
        let form = if is_segment {
            self.form
        } else {
            Form::JsonLines
        };
        let _turn = match form {
            Form::JsonLines => None,
            Form::Zstd | Form::Parquet => self.press.acquire().await.ok(),
        };
        let (path, said) = (self.shelf.path(&parcel.name), parcel.bytes);
        let read = move || {
            let file = fs::File::open(path)?;
            if file.metadata()?.len() != said {
                let why = "it is not as long as it was when it was finished";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            forms::encode(form, file).map(Bytes::from)
        };
        let read = tokio::task::spawn_blocking(read).await?;
        read.map_err(Failure::Unreadable)
    }

    /// Whether what has the name says the same.
    async fn is_there(&self, parcel: &Parcel, name: &Name, ours: &Bytes) -> Result<bool, Failure> {
        let theirs = within(ours.len(), self.store.get(name)).await?;
        if theirs == ours {
            return Ok(true);
        }
        let Item::Segment { form, .. } = name.item else {
            return Ok(false);
        };
        let path = self.shelf.path(&parcel.name);
        let compare = move || {
            let local = fs::File::open(path)?;
            let Ok(theirs) = forms::decode(form, Box::new(io::Cursor::new(theirs))) else {
                return Ok(false);
            };
            same(io::BufReader::new(local), theirs)
        };
        let same = tokio::task::spawn_blocking(compare).await?;
        same.map_err(Failure::Unreadable)
    }

    /// How the store is to hold something, if it is.
    pub(super) fn lock(&self, name: &Name) -> Option<Lock> {
        let Retention { days, lock } = (self.retention)(&name.partition);
        let (days, mode) = (days?, lock?);
        let today = (self.clock)().date();
        let of_record = name.day().unwrap_or(today);
        // To the end of the record's day, and that many days on.
        let kept = jiff::Span::new().try_days(i64::from(days) + 1).ok()?;
        let until = of_record.saturating_add(kept);
        // A store refuses to hold something until a time that is over.
        (until > today).then_some(Lock { mode, until })
    }
}

async fn within<T>(
    bytes: usize,
    exchange: impl Future<Output = Result<T, StoreFailure>>,
) -> Result<T, Failure> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let bound = EXCHANGE + PER_BYTE * bytes;
    let exchanged = tokio::time::timeout(bound, exchange).await;
    Ok(exchanged.map_err(|_elapsed| Failure::TooLong)??)
}

/// Whether both give the same bytes to their ends. What of `theirs` cannot be read is not the
/// same.
fn same(mut ours: impl Read, mut theirs: impl Read) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let some = ours.read(&mut a)?;
        if some == 0 {
            return Ok(matches!(theirs.read(&mut b[..1]), Ok(0)));
        }
        if theirs.read_exact(&mut b[..some]).is_err() || a[..some] != b[..some] {
            return Ok(false);
        }
    }
}
