//! Reading back what the gateway keeps: the record partitions on disk.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tollgate_testkit::wait::until;

use super::process::Site;

impl Site {
    /// Every record of a call of a tenant (`_gateway` for strangers), in the order of its chain.
    pub(crate) fn records(&self, tenant: &str) -> Vec<Value> {
        let mut records = self.lines(tenant);
        records.retain(|record| record["tollgate.event"].is_null());
        records
    }

    /// Every notice to a tenant, in the order of its chain.
    pub(crate) fn notices(&self, tenant: &str) -> Vec<Value> {
        let mut notices = self.lines(tenant);
        notices.retain(|record| !record["tollgate.event"].is_null());
        notices
    }

    /// Everything in the partition of a tenant, in the order of its chain.
    pub(crate) fn lines(&self, tenant: &str) -> Vec<Value> {
        let mut records = Vec::new();
        read_under(&self.data().join("audit").join(tenant), &mut records);
        records.sort_by_key(|record| record["tollgate.seq"].as_u64());
        records
    }

    /// The record with this id, as soon as it is there.
    pub(crate) async fn record(&self, tenant: &str, id: &str) -> Value {
        until(&format!("record {id} in the partition of {tenant}"), || {
            let mut found: Vec<Value> = self
                .records(tenant)
                .into_iter()
                .filter(|record| record["tollgate.record.id"] == id)
                .collect();
            assert!(found.len() <= 1, "one call, one record: {found:#?}");
            found.pop()
        })
        .await
    }

    /// The records of a tenant, as soon as there are `count` of them.
    pub(crate) async fn records_when(&self, tenant: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} records of {tenant}"), || {
            let records = self.records(tenant);
            (records.len() >= count).then_some(records)
        })
        .await
    }
}

fn read_under(directory: &Path, records: &mut Vec<Value>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // What is signed about records is none.
            if !path.ends_with("checkpoints") {
                read_under(&path, records);
            }
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let is_object = path
            .extension()
            .is_some_and(|extension| extension == "json");
        // A line without its end is one that the gateway is still writing.
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        let whole = if is_object { &text[..] } else { &text[..end] };
        for line in whole.lines() {
            let record: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()));
            records.push(record);
        }
    }
}

/// A field of a record that holds text.
pub(crate) fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {record:#}"))
}

/// What a record's call cost.
pub(crate) fn cost(record: &Value) -> String {
    text(record, "tollgate.cost_usd").to_owned()
}

/// How a record's call ended.
pub(crate) fn outcome(record: &Value) -> &str {
    text(record, "tollgate.outcome")
}
