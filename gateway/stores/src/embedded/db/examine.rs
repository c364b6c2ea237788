//! Whether the database is whole, looked at without changing it, also while a gateway uses it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{DbError, FILE};

/// As many faults tell enough.
const QUICK_CHECK: &str = "PRAGMA quick_check(3)";

/// What is wrong with the database in this directory; nothing if there is none yet.
///
/// # Errors
/// If it cannot be read.
pub fn examine(data_dir: &Path) -> Result<Vec<String>, DbError> {
    let path = data_dir.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut check = connection.prepare(QUICK_CHECK)?;
    let said = check.query_map((), |row| row.get(0))?;
    let said: Vec<String> = said.collect::<Result<_, _>>()?;
    Ok(said.into_iter().filter(|line| line != "ok").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spoilt_database_is_told_from_a_whole_one_and_from_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(examine(dir.path()).unwrap(), Vec::<String>::new());
        let file = dir.path().join(FILE);
        let made = Connection::open(&file).unwrap();
        made.execute_batch("CREATE TABLE t (x TEXT); INSERT INTO t VALUES (hex(zeroblob(20000)));")
            .unwrap();
        drop(made);
        assert_eq!(examine(dir.path()).unwrap(), Vec::<String>::new());
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[4096..middle].fill(0xff);
        std::fs::write(&file, bytes).unwrap();
        assert!(examine(dir.path()).map_or(true, |faults| !faults.is_empty()));
    }
}
