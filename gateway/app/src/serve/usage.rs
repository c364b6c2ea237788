//! Sums of a tenant's own records, for its agents.
//!
//! Opens the partition of the tenant asked about and no other. Yields to everything else on the
//! machine: whoever waits for a statement can wait, calls cannot.

use std::path::PathBuf;

use serde_json::Value;
use tollgate_archive::records::{Scope, Unread};
use tollgate_archive::shelf::LocalShelf;
use tollgate_archive::tally;
use tollgate_core::audit::Partition;
use tollgate_core::budget::StoreError;
use tollgate_core::report::{self, Condition, Dimension, Filter, Pattern, Query};
use tollgate_proxy::statement::{Question, UsageReports};

/// The most rows of a statement, the dearest first.
const MOST_ROWS: usize = 1_000;

/// The lowest priority (nice(2)). On Linux it is the calling thread's.
const LOWEST: i32 = 19;

/// Lets everything else on the machine go before the calling thread, and those it starts. Where that
/// is not allowed, it is as fast as anything else.
pub(super) fn step_back() {
    let _as_before = rustix::process::setpriority_process(None, LOWEST);
}

/// Statements from the records of a data directory.
pub(super) struct OwnUsage(pub(super) PathBuf);

impl UsageReports for OwnUsage {
    fn usage(&self, question: &Question) -> Result<Value, StoreError> {
        step_back();
        self.sums(question).map_err(|cause| StoreError {
            operation: "read records",
            store: "audit",
            cause: Box::new(cause),
        })
    }
}

impl OwnUsage {
    fn sums(&self, question: &Question) -> Result<Value, Unread> {
        let Question {
            tenant,
            agent,
            by,
            from,
            to,
        } = question;
        // No agent's id has a star in it.
        let own = agent.iter().map(|agent| Condition {
            on: Dimension::Agent,
            pattern: Pattern::new(agent.as_str()),
            negated: false,
        });
        let query = Query {
            by: by.clone(),
            filter: Filter::new(own.collect()),
            top: Some(MOST_ROWS),
            ..Query::default()
        };
        let scope = Scope {
            partitions: vec![Partition::Tenant(tenant.clone())],
            from: Some(*from),
            to: *to,
        };
        let tables = tally::tables(&LocalShelf::new(&self.0), &scope, &[query], 1)?;
        let reports = tables.into_iter().map(tally::Table::into_report);
        let report = reports
            .collect::<Result<Vec<_>, _>>()
            .map_err(Unread::Temporary)?;
        let mut sums = report.first().map(report::json).unwrap_or_default();
        if let Some(members) = sums.as_object_mut() {
            members.insert("from".to_owned(), from.to_string().into());
            members.insert("to".to_owned(), to.map(|to| to.to_string()).into());
        }
        Ok(sums)
    }
}
