//! What is recorded of changes, across restarts and failures.

use std::sync::Mutex;

use async_trait::async_trait;
use tollgate_core::audit::Event;
use tollgate_core::budget::StoreError;
use tollgate_core::policy::{PolicyFile, parse};

use super::*;

/// Remembers events, or fails.
#[derive(Default)]
struct Log {
    kept: Mutex<Vec<Event>>,
    broken: Mutex<bool>,
}

#[async_trait]
impl EventLog for Log {
    async fn keep(&self, event: &Event) -> Result<(), StoreError> {
        if *self.broken.lock().unwrap() {
            return Err(StoreError {
                operation: "keep",
                store: "event",
                cause: "the disk is full".into(),
            });
        }
        self.kept.lock().unwrap().push(event.clone());
        Ok(())
    }
}

impl Log {
    fn tenants(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap();
        kept.iter()
            .map(|event| event.partition.to_string())
            .collect()
    }
}

fn policy(acme: &str, globex: &str) -> Policy {
    let host = "[provider]\nname = \"host\"\nupstream = \"https://host.example\"\ndialect = \"http\"\n[[endpoint]]\nmethod = \"POST\"\npath = \"/**\"\noperation = \"tool\"\nelevated = true\n";
    let mut files = vec![("providers/host.toml".to_owned(), host.to_owned())];
    for (id, agents) in [("acme", acme), ("globex", globex)] {
        let rule = format!("[[elevated]]\nprovider = \"host\"\nagents = [{agents}]\n");
        let rule = if agents.is_empty() { "" } else { &rule };
        files.push((
            format!("tenants/{id}.toml"),
            format!("[tenant]\nid = \"{id}\"\n{rule}"),
        ));
    }
    let files: Vec<PolicyFile> = files
        .into_iter()
        .map(|(path, text)| PolicyFile { path, text })
        .collect();
    parse(&files).expect("a policy")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn since(dir: &Path, tenant: &str) -> Timestamp {
    let adopted = adopted(dir).expect("readable").expect("there");
    adopted.tenants[tenant].since
}

#[test]
fn each_change_is_recorded_once_also_across_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Arc::new(Log::default());
    let mut ledger = Ledger::open(dir.path(), log.clone()).expect("opens");
    ledger
        .adopt(&policy("\"a\"", "\"a\""), at(10))
        .expect("adopted");
    ledger
        .adopt(&policy("\"a\"", "\"a\""), at(11))
        .expect("adopted");
    assert_eq!(log.tenants(), ["acme", "globex"]);

    let mut again = Ledger::open(dir.path(), log.clone()).expect("opens");
    again
        .adopt(&policy("\"a\"", "\"a\""), at(20))
        .expect("adopted");
    again
        .adopt(&policy("\"a\"", "\"b\""), at(30))
        .expect("adopted");
    assert_eq!(log.tenants(), ["acme", "globex", "globex"]);
    assert_eq!(since(dir.path(), "acme"), at(10));
    assert_eq!(since(dir.path(), "globex"), at(30));
}

#[test]
fn a_change_that_cannot_be_recorded_is_not_adopted_and_can_be_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Arc::new(Log::default());
    let mut ledger = Ledger::open(dir.path(), log.clone()).expect("opens");
    *log.broken.lock().unwrap() = true;
    assert!(ledger.adopt(&policy("\"a\"", ""), at(10)).is_err());
    assert!(adopted(dir.path()).expect("readable").is_none());
    *log.broken.lock().unwrap() = false;
    ledger.adopt(&policy("\"a\"", ""), at(20)).expect("adopted");
    assert_eq!(log.tenants(), ["acme"]);
    assert_eq!(since(dir.path(), "acme"), at(20));
}

#[test]
fn with_a_spoilt_file_every_permission_counts_as_new() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Arc::new(Log::default());
    for spoilt in ["", "{}", "{\"schema\":", "\u{0}"] {
        fs::write(dir.path().join(FILE), spoilt).expect("written");
        assert!(adopted(dir.path()).is_err(), "{spoilt:?}");
        let mut ledger = Ledger::open(dir.path(), log.clone()).expect("opens");
        ledger.adopt(&policy("\"a\"", ""), at(10)).expect("adopted");
        let kept = log.kept.lock().unwrap().pop().expect("an event");
        assert_eq!(
            kept.members["tollgate.permissions.before"],
            serde_json::Value::Null
        );
    }
}
