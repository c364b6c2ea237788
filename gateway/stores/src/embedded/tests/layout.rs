//! Whose chains a directory holds, and which it is too old for.

use super::*;

#[tokio::test]
async fn another_replica_begins_chains_of_its_own_after_what_the_first_left_open() {
    let Fixture { stores, dir } = fixture();
    let hold = begin(&stores, 1, "acme", 1).await;
    end(&stores, &hold, 1);
    begin(&stores, 2, "acme", 1).await;
    drop(stores);
    let other = EmbeddedConfig {
        replica: name("r2"),
        ..config(dir.path())
    };
    let stores = Embedded::open(&other, now()).expect("opens");
    let hold = begin(&stores, 3, "acme", 1).await;
    end(&stores, &hold, 1);
    stores.close().expect("the disk takes it");
    let day = dir.path().join("audit/acme/date=2026-11-18");
    let lines = |file: &str| {
        let text = std::fs::read_to_string(day.join(file)).expect("readable");
        text.lines().count()
    };
    assert_eq!(lines("r1-000000000001.jsonl"), 2);
    assert_eq!(lines("r2-000000000001.jsonl"), 1);
    assert_eq!(read_back(dir.path(), "acme").len(), 3);
    drop(open(dir.path()));
}

#[test]
fn a_directory_from_before_chains_had_replicas_is_refused_and_left_as_it_is() {
    for (rows, partition) in [
        ("INSERT INTO chains VALUES ('acme', 1, 'x')", false),
        ("", true),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state.db");
        let database = rusqlite::Connection::open(&path).expect("a database");
        let tables = "CREATE TABLE chains (tenant TEXT, seq INTEGER, hash TEXT);";
        let version = "PRAGMA user_version = 5;";
        let made = database.execute_batch(&[tables, version, rows].concat());
        made.expect("tables");
        drop(database);
        if partition {
            std::fs::create_dir_all(dir.path().join("audit/acme/2026/11/18")).expect("writable");
        }
        let before = std::fs::read(&path).expect("readable");
        let refused = Embedded::open(&config(dir.path()), now());
        let Err(OpenError::Database(error)) = refused else {
            panic!("it was opened");
        };
        assert!(error.to_string().contains("older version"), "{error}");
        assert_eq!(std::fs::read(&path).expect("readable"), before);
    }
}
