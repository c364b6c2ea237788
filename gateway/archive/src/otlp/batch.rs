//! Records on their way, put together by partition.
//!
//! A request never has records of two partitions under one resource. Bounded in number and bytes,
//! so that memory is, however long the collector is away. Worst case: one line as long as lines may
//! be, by itself.

use std::collections::BTreeMap;

use tollgate_core::audit::Partition;

use super::proto::{ExportRequest, KeyValue, LogRecord, Resource, ResourceLogs, Scope, ScopeLogs};
use super::semconv::{
    PARTITION, SCHEMA_URL, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, TENANT_ID,
};

/// The most records in one request.
const MAX_RECORDS: usize = 512;
/// The most bytes of their lines. Servers of gRPC take messages of 4 MiB, unless told otherwise.
const MAX_BYTES: usize = 1 << 20;

const SERVICE: &str = "tollgate";

/// One record, whose it is, and who wrote it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) partition: Partition,
    pub(super) replica: String,
    pub(super) record: LogRecord,
}

/// Records that go together.
#[derive(Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    /// Adds a record made of a line so long.
    pub(super) fn add(&mut self, entry: Entry, line_bytes: usize) {
        self.entries.push(entry);
        self.bytes = self.bytes.saturating_add(line_bytes);
    }

    pub(super) const fn is_full(&self) -> bool {
        self.entries.len() >= MAX_RECORDS || self.bytes >= MAX_BYTES
    }

    /// What is in it; empty afterwards.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }
}

/// One request for these records.
pub(super) fn request(entries: &[Entry], version: &str) -> ExportRequest {
    let mut groups: BTreeMap<(&Partition, &str), Vec<LogRecord>> = BTreeMap::new();
    for entry in entries {
        let group = groups
            .entry((&entry.partition, &entry.replica))
            .or_default();
        group.push(entry.record.clone());
    }
    let resource_logs = groups.into_iter().map(|((partition, replica), records)| {
        let mut attributes = vec![
            KeyValue::text(SERVICE_NAME, SERVICE),
            KeyValue::text(SERVICE_VERSION, version),
            KeyValue::text(SERVICE_INSTANCE_ID, replica),
            KeyValue::text(PARTITION, partition.as_str()),
        ];
        if let Some(tenant) = partition.tenant() {
            attributes.push(KeyValue::text(TENANT_ID, tenant.as_str()));
        }
        ResourceLogs {
            resource: Some(Resource { attributes }),
            scope_logs: vec![ScopeLogs {
                scope: Some(Scope {
                    name: SERVICE.to_owned(),
                    version: version.to_owned(),
                }),
                log_records: records,
                schema_url: SCHEMA_URL.to_owned(),
            }],
            schema_url: SCHEMA_URL.to_owned(),
        }
    });
    ExportRequest {
        resource_logs: resource_logs.collect(),
    }
}
