//! Sums of a tenant's own records, for its agents.
//!
//! Opens the partition of the tenant asked about and no other. Yields to everything else on the
//! machine: whoever waits for a statement can wait, calls cannot.

use std::path::PathBuf;

use serde_json::Value;
use tollgate_core::budget::StoreError;
use tollgate_core::report::{self, Order, Query, Tally};
use tollgate_proxy::statement::{Question, UsageReports};
use tollgate_stores::embedded::{Audit, ReadError};

/// The most rows of a statement, the dearest first.
const MOST_ROWS: usize = 1_000;

/// The lowest priority (nice(2)). On Linux it is the calling thread's.
const LOWEST: i32 = 19;

/// Statements from the records of a data directory.
pub(super) struct OwnUsage(pub(super) PathBuf);

impl UsageReports for OwnUsage {
    fn usage(&self, question: &Question) -> Result<Value, StoreError> {
        // Where it is not allowed, the reading is as fast as anything else.
        let _as_before = rustix::process::setpriority_process(None, LOWEST);
        self.sums(question).map_err(|cause| StoreError {
            operation: "read records",
            store: "audit",
            cause: Box::new(cause),
        })
    }
}

impl OwnUsage {
    fn sums(&self, question: &Question) -> Result<Value, ReadError> {
        let Question {
            tenant,
            agent,
            by,
            from,
            to,
        } = question;
        let mut tally = Tally::new(Query {
            by: by.clone(),
            from: Some(*from),
            to: *to,
            order: Order::Cost,
            top: Some(MOST_ROWS),
        });
        for record in Audit::of(&self.0).records(tenant, Some(*from), *to)? {
            let record = record?;
            let its_own = agent
                .as_ref()
                .is_none_or(|own| *own == record.subject.agent);
            if its_own && record.subject.tenant == *tenant {
                tally.add(&record);
            }
        }
        let mut sums = report::json(&tally.finish());
        if let Some(members) = sums.as_object_mut() {
            members.insert("from".to_owned(), from.to_string().into());
            members.insert("to".to_owned(), to.map(|to| to.to_string()).into());
        }
        Ok(sums)
    }
}
