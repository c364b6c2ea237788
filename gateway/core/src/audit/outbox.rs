//! What is finished here and still to be handed over: to the object store, to the collector.
//!
//! A parcel is there until it is said to have arrived, across crashes, so that it is handed over at
//! least once to each destination. Its bytes lie under its name in the local partition and never
//! change any more. Worst case: a parcel arrives twice, under the same name and with the same bytes.

use super::Name;
use crate::budget::StoreError;
use crate::time::Timestamp;

/// Who gets parcels, if the gateway is set up for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Destination {
    /// The object store that partitions are copied to: everything.
    ObjectStore,
    /// The OpenTelemetry collector: records, but no checkpoints.
    Collector,
}

impl Destination {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::ObjectStore, Self::Collector];

    /// The destination as settings and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ObjectStore => "object_store",
            Self::Collector => "collector",
        }
    }
}

/// Something that can be handed over.
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
    /// The oldest parcels for `to`, at most `limit`.
    ///
    /// # Errors
    /// If the store fails.
    fn waiting(&self, to: Destination, limit: usize) -> Result<Vec<Parcel>, StoreError>;

    /// Takes note that these have arrived. Names that do not wait are passed over.
    ///
    /// # Errors
    /// If the store fails; then they are handed over once more.
    fn arrived(&self, to: Destination, names: &[Name]) -> Result<(), StoreError>;

    /// How much waits for `to`.
    ///
    /// # Errors
    /// If the store fails.
    fn behind(&self, to: Destination) -> Result<Behind, StoreError>;

    /// Whether something of that name waits for anybody.
    ///
    /// # Errors
    /// If the store fails.
    fn waits(&self, name: &Name) -> Result<bool, StoreError>;
}
