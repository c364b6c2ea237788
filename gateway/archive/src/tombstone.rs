//! What a chain says about records that are no longer there.
//!
//! A tombstone is an event of the tenant's own chain. It names, for every replica, the numbers of
//! the records that are gone, the hash of the one before and the hash of the last, so that the
//! chain can be checked across the gap. Worst case: none; what a tombstone says is believed only
//! as far as the chain that it stands in is signed.

use serde::{Deserialize, Serialize};
use tollgate_core::audit::{Day, Event, Partition};
use tollgate_core::ids::{RecordId, ReplicaId, TenantId};
use tollgate_core::time::Timestamp;

/// What tells a tombstone from other lines.
pub const PURGED: &str = "records_purged";

/// Records of one chain that lay one behind the other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Whose chain.
    pub replica: ReplicaId,
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// The hash of the record before the first.
    pub hash_before: String,
    /// The hash of the last.
    pub hash_last: String,
}

/// That records were purged: the members of the event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    /// Whose.
    #[serde(rename = "tenant.id")]
    pub tenant: TenantId,
    /// Records of days before this one are gone.
    #[serde(rename = "tollgate.purge.before", with = "day_text")]
    pub before: Day,
    /// How many records.
    #[serde(rename = "tollgate.purge.records")]
    pub records: u64,
    /// In how many files.
    #[serde(rename = "tollgate.purge.files")]
    pub files: u64,
    /// Which.
    #[serde(rename = "tollgate.purge.ranges")]
    pub ranges: Vec<Range>,
}

impl Tombstone {
    /// It, as the event that goes into the tenant's chain.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn event(&self, id: RecordId, at: Timestamp) -> serde_json::Result<Event> {
        Ok(Event {
            id,
            kind: PURGED.to_owned(),
            at,
            members: serde_json::from_value(serde_json::to_value(self)?)?,
            partition: Partition::Tenant(self.tenant.clone()),
        })
    }
}

mod day_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Day;

    pub(super) fn serialize<S: Serializer>(day: &Day, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(day)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Day, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}
