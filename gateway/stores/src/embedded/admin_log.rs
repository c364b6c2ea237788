//! What is done through the admin API, put into the journal; the shipper makes one line of what
//! began and how it ended.
//!
//! Both are written before anybody goes on, so neither waits in memory for a crash. Worst case: a
//! disk that fills up in between; then the end waits in memory, and a crash makes it `interrupted`.

use std::sync::Arc;

use async_trait::async_trait;
use tollgate_core::admin_log::{AdminAction, AdminLog, Ended};
use tollgate_core::budget::StoreError;
use tollgate_core::ids::RecordId;

use super::journal::Journal;
use super::journal::entry::Written;

/// The admin log of one data directory.
pub struct AdminActions {
    journal: Arc<Journal>,
}

impl AdminActions {
    pub(crate) const fn new(journal: Arc<Journal>) -> Self {
        Self { journal }
    }
}

#[async_trait]
impl AdminLog for AdminActions {
    async fn begin(&self, action: &AdminAction) -> Result<(), StoreError> {
        let entry = Written::Action(action);
        let appended = self.journal.append(action.id, &entry).await;
        appended.map_err(|error| StoreError {
            operation: "keep an action",
            store: "admin",
            cause: Box::new(error),
        })
    }

    fn end(&self, id: RecordId, ended: &Ended) {
        let entry = Written::Ended { id, ended };
        if self.journal.append_unsynced(&entry).is_err() {
            self.journal.append_later(&entry, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tollgate_core::admin_log::{About, EVENT, Outcome};
    use tollgate_core::audit::{Partition, line_hash};
    use tollgate_testkit::contract::{now, record_id};

    use tollgate_archive::records::{self, Scope};
    use tollgate_archive::shelf::LocalShelf;

    use crate::embedded::Embedded;
    use crate::embedded::tests::{config, segment};

    fn action(n: u32, partition: Partition) -> AdminAction {
        AdminAction {
            id: record_id(n),
            event: EVENT.to_owned(),
            at: now(),
            name: "alice".parse().expect("a name"),
            role: "operator".to_owned(),
            action: "token.mint".to_owned(),
            about: About::tenant("acme".parse().expect("a tenant")),
            client: None,
            partition,
        }
    }

    fn ended(outcome: Outcome) -> Ended {
        Ended {
            at: now(),
            outcome,
            status: Some(201),
            code: None,
        }
    }

    fn open(dir: &std::path::Path) -> Embedded {
        Embedded::open(&config(dir), now()).expect("the stores open")
    }

    fn lines(dir: &std::path::Path, partition: &str) -> Vec<String> {
        let text = std::fs::read_to_string(dir.join(segment(partition, 1))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn field(line: &str, name: &str) -> Value {
        serde_json::from_str::<Value>(line).expect("JSON")[name].clone()
    }

    #[tokio::test]
    async fn an_action_and_its_end_are_one_line_of_a_chain_and_no_call() {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = open(dir.path());
        let acme = Partition::Tenant("acme".parse().expect("a tenant"));
        let log = &stores.admin_actions;
        for (n, partition) in [
            (1, Partition::Operators),
            (2, Partition::Operators),
            (3, acme.clone()),
        ] {
            log.begin(&action(n, partition)).await.expect("kept");
            log.end(record_id(n), &ended(Outcome::Done));
        }
        stores.close().expect("at rest");
        let operators = lines(dir.path(), "_operator");
        assert_eq!(operators.len(), 2);
        assert_eq!(field(&operators[1], "tollgate.seq"), 2);
        assert_eq!(
            field(&operators[1], "tollgate.prev_hash"),
            line_hash(operators[0].as_bytes())
        );
        assert_eq!(field(&operators[0], "tollgate.outcome"), "done");
        assert_eq!(field(&operators[0], "tollgate.admin.name"), "alice");
        assert_eq!(lines(dir.path(), "acme").len(), 1);
        let shelf = LocalShelf::new(dir.path());
        let tenants = records::tenants(&shelf).expect("readable");
        let acme: Partition = "acme".parse().expect("a partition");
        assert_eq!(tenants, [acme], "operators are no tenant");
        let scope = Scope {
            partitions: tenants,
            ..Scope::default()
        };
        let mut calls = 0;
        let read = scope.records(&shelf, &mut |_record| calls += 1);
        read.expect("readable");
        assert_eq!(calls, 0, "reports count calls only");
    }

    #[tokio::test]
    async fn what_was_answered_survives_a_kill_and_what_was_not_ends_as_interrupted() {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = open(dir.path());
        let log = &stores.admin_actions;
        let begun = action(1, Partition::Operators);
        log.begin(&begun).await.expect("kept");
        log.end(begun.id, &ended(Outcome::Done));
        let unanswered = action(2, Partition::Operators);
        log.begin(&unanswered).await.expect("kept");
        // As a kill does: nothing is flushed.
        drop(stores);
        let stores = open(dir.path());
        assert_eq!(stores.interrupted(), 0, "no call was under way");
        stores.close().expect("at rest");
        let found = lines(dir.path(), "_operator");
        let outcomes: Vec<Value> = found
            .iter()
            .map(|line| field(line, "tollgate.outcome"))
            .collect();
        assert_eq!(outcomes, ["done", "interrupted"], "{found:#?}");
    }
}
