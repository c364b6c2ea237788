//! What else stands in a chain beside calls, notices and admin actions: that records were purged,
//! that an agent's elevated permissions changed.
//!
//! An event is one line of its partition, told from the record of a call by `tollgate.event`. What
//! its other members are is the business of whoever keeps it. Worst case: none.

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Partition;
use crate::budget::StoreError;
use crate::ids::RecordId;
use crate::time::Timestamp;

/// Something that happened to a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    /// Its own id.
    #[serde(rename = "tollgate.record.id")]
    pub id: RecordId,
    /// What kind of event: `records_purged`, `permissions_changed`.
    #[serde(rename = "tollgate.event")]
    pub kind: String,
    /// When.
    #[serde(rename = "tollgate.started_at")]
    pub at: Timestamp,
    /// What there is to say about it, under names of its own.
    #[serde(flatten)]
    pub members: Map<String, Value>,
    /// Whose partition the line stands in.
    #[serde(skip)]
    pub partition: Partition,
}

/// Keeps events.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Keeps an event. When this returns, killing the process no longer loses it.
    ///
    /// # Errors
    /// If it cannot be written.
    async fn keep(&self, event: &Event) -> Result<(), StoreError>;
}
