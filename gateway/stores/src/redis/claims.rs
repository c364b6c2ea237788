//! The counters of which this replica has ever claimed something, on its own disk.
//!
//! A replica that was killed must say of each what it used in the end, also of those of which it
//! has settled nothing: what it claimed there would be counted until the window ends. A line is
//! written before the first claim leaves; it need not be synced, since what a power cut can lose
//! of it is claimed for longer, never used twice. Worst case: a file that cannot be written keeps
//! new counters from being claimed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tollgate_core::budget::BudgetKey;
use tollgate_core::time::Timestamp;

use super::purse::GRACE;

/// The list.
pub(super) struct Claims(Mutex<File>);

impl Claims {
    /// The list in this file, and what is on it that still counts.
    pub(super) fn open(file: &Path, now: Timestamp) -> io::Result<(Self, Vec<BudgetKey>)> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        // What was being written when the process was killed had not been claimed.
        let keys = text
            .lines()
            .filter_map(|line| line.parse::<BudgetKey>().ok());
        let counts = |key: &BudgetKey| {
            let end = key.window.resets_at();
            end.is_none_or(|end| end.plus(GRACE) >= now)
        };
        let mut keys: Vec<_> = keys.filter(counts).collect();
        keys.sort_unstable();
        keys.dedup();
        let beside = file.with_extension("new");
        fs::write(&beside, lines(&keys))?;
        fs::rename(&beside, file)?;
        let kept = File::options().append(true).open(file)?;
        Ok((Self(Mutex::new(kept)), keys))
    }

    /// Puts these on it.
    pub(super) fn add(&self, keys: &[BudgetKey]) -> io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(lines(keys).as_bytes())
    }
}

fn lines(keys: &[BudgetKey]) -> String {
    let line = |key: &BudgetKey| format!("{key}\n");
    keys.iter().map(line).collect()
}
