//! What else happens to partitions, put into the journal; the shipper gives each its line.
//!
//! Nobody goes on before it is written. Worst case: somebody who is told that it could not be kept
//! finds it kept after all; it is a line of its own, and says what it says.

use std::sync::Arc;

use async_trait::async_trait;
use tollgate_core::audit::{Event, EventLog};
use tollgate_core::budget::StoreError;

use super::journal::Journal;
use super::journal::entry::Written;

/// The event log of one data directory.
pub struct Events {
    journal: Arc<Journal>,
}

impl Events {
    pub(crate) const fn new(journal: Arc<Journal>) -> Self {
        Self { journal }
    }
}

#[async_trait]
impl EventLog for Events {
    async fn keep(&self, event: &Event) -> Result<(), StoreError> {
        let appended = self.journal.append(event.id, &Written::Event(event)).await;
        appended.map_err(|error| StoreError {
            operation: "keep an event",
            store: "record",
            cause: Box::new(error),
        })
    }
}
