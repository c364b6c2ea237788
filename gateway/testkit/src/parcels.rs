//! Parcels that wait in memory, for whoever hands them over.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use tollgate_core::audit::{Behind, Destination, Name, Outbox, Parcel};
use tollgate_core::budget::StoreError;
use tollgate_core::time::Timestamp;

/// An outbox for one destination, whichever is asked for.
#[derive(Default)]
pub struct Waiting(Mutex<Vec<Parcel>>);

impl Waiting {
    /// Lets something wait that lies below `dir`, where partitions do.
    pub fn add(&self, dir: &Path, name: &Name, since: Timestamp) {
        let met = fs::metadata(dir.join(name.to_string())).expect("it is there");
        self.0.lock().expect("no panic").push(Parcel {
            name: name.clone(),
            bytes: met.len(),
            since,
        });
    }

    /// What waits, by name.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let waiting = self.0.lock().expect("no panic");
        waiting.iter().map(|one| one.name.to_string()).collect()
    }
}

impl Outbox for Waiting {
    fn waiting(&self, _to: Destination, limit: usize) -> Result<Vec<Parcel>, StoreError> {
        let waiting = self.0.lock().expect("no panic");
        Ok(waiting.iter().take(limit).cloned().collect())
    }

    fn arrived(&self, _to: Destination, names: &[Name]) -> Result<(), StoreError> {
        let mut waiting = self.0.lock().expect("no panic");
        waiting.retain(|parcel| !names.contains(&parcel.name));
        Ok(())
    }

    fn behind(&self, _to: Destination) -> Result<Behind, StoreError> {
        let waiting = self.0.lock().expect("no panic");
        Ok(Behind {
            parcels: waiting.len() as u64,
            bytes: waiting.iter().map(|parcel| parcel.bytes).sum(),
            oldest: waiting.iter().map(|parcel| parcel.since).min(),
        })
    }

    fn waits(&self, name: &Name) -> Result<bool, StoreError> {
        Ok(self.names().contains(&name.to_string()))
    }
}
