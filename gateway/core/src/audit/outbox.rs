//! What is finished here and still to be copied to the object store.
//!
//! A parcel is there until it is said to be shipped, across crashes, so that it is copied at least
//! once. Its bytes lie under its name in the local partition and never change any more. Worst
//! case: a parcel is copied twice, to the same name and with the same bytes.

use super::Name;
use crate::budget::StoreError;
use crate::time::Timestamp;

/// Something that can be copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parcel {
    /// Where it lies here. A segment is always JSON Lines here, whatever it becomes elsewhere.
    pub name: Name,
    /// How long it is.
    pub bytes: u64,
    /// Since when it waits.
    pub since: Timestamp,
}

/// How much waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Behind {
    /// Parcels that wait.
    pub parcels: u64,
    /// Bytes that wait.
    pub bytes: u64,
    /// Since when the oldest waits.
    pub oldest: Option<Timestamp>,
}

/// What is finished and waits. Every method blocks on a local database for at most milliseconds.
pub trait Outbox: Send + Sync {
    /// The oldest parcels, at most `limit`.
    ///
    /// # Errors
    /// If the store fails.
    fn waiting(&self, limit: usize) -> Result<Vec<Parcel>, StoreError>;

    /// Takes note that these have arrived. Names that do not wait are passed over.
    ///
    /// # Errors
    /// If the store fails; then they are copied once more.
    fn shipped(&self, names: &[Name]) -> Result<(), StoreError>;

    /// How much waits.
    ///
    /// # Errors
    /// If the store fails.
    fn behind(&self) -> Result<Behind, StoreError>;
}
