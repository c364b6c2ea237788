//! Answers the questions of reports in bounded memory, however many groups there are.
//!
//! Beyond [`MOST_GROUPS`] groups of a question their sums go to a temporary file as sorted runs,
//! which are merged in the end. The file is deleted from the start, and no other user can read it.
//! Worst case: as many groups as records, all of them asked for in the order of their cost: then
//! they are written twice.

mod groups;
mod runs;

use std::io;

use tollgate_core::report::{Order, Query, Report, Row, Summary, Sums};

use crate::records::{Scope, Unread};
use crate::shelf::Shelf;
use groups::Groups;
use runs::{Merge, Runs};

/// How many groups of one question are kept in memory, all threads together: about 50 MB.
pub const MOST_GROUPS: usize = 200_000;

/// A finished table that need not fit into memory.
#[derive(Debug)]
pub struct Table {
    /// All rows together.
    pub summary: Summary,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Kept(Vec<Row>),
    Written { runs: Vec<Runs>, order: Order },
}

impl Table {
    /// Shows the rows in their order, as often as wanted.
    ///
    /// # Errors
    /// If `look` fails, or the temporary file.
    pub fn each(&self, look: &mut dyn FnMut(&Row) -> io::Result<()>) -> io::Result<()> {
        match &self.rows {
            Rows::Kept(rows) => rows.iter().try_for_each(look),
            Rows::Written { runs, order } => {
                let mut merge = Merge::new(runs, *order)?;
                while let Some(row) = merge.next_row()? {
                    look(&row)?;
                }
                Ok(())
            }
        }
    }

    /// The whole table in memory: for those that asked for few rows.
    ///
    /// # Errors
    /// As [`Table::each`].
    pub fn into_report(self) -> io::Result<Report> {
        let mut rows = Vec::new();
        self.each(&mut |row| {
            rows.push(row.clone());
            Ok(())
        })?;
        Ok(Report {
            summary: self.summary,
            rows,
        })
    }
}

/// Answers several questions about the same records in one reading. Each has the time of the
/// scope. Blocks.
///
/// # Errors
/// If the records cannot be read.
pub fn tables(
    shelf: &dyn Shelf,
    scope: &Scope,
    queries: &[Query],
    threads: usize,
) -> Result<Vec<Table>, Unread> {
    tables_within(shelf, scope, queries, threads, MOST_GROUPS)
}

struct State {
    groups: Vec<Groups>,
    key: String,
}

fn tables_within(
    shelf: &dyn Shelf,
    scope: &Scope,
    queries: &[Query],
    threads: usize,
    most: usize,
) -> Result<Vec<Table>, Unread> {
    let time = Query {
        from: scope.from,
        to: scope.to,
        ..Query::default()
    };
    let period = time.period();
    let share = (most / threads.max(1)).max(1);
    let begin = || State {
        groups: queries.iter().map(|_| Groups::new(share)).collect(),
        key: String::new(),
    };
    let states = scope.entries(shelf, threads, begin, |state, entry| {
        if period.takes(entry) {
            let sums = Sums::of(entry);
            for (query, groups) in queries.iter().zip(&mut state.groups) {
                if query.takes(entry) {
                    query.write_key(entry, &mut state.key);
                    groups.add(&state.key, &sums)?;
                }
            }
        }
        Ok(())
    })?;
    let mut parts: Vec<_> = states
        .into_iter()
        .map(|state| state.groups.into_iter())
        .collect();
    let tables = queries.iter().map(|query| {
        let of_query = parts.iter_mut().filter_map(Iterator::next).collect();
        groups::table(of_query, query, most)
    });
    tables.collect::<io::Result<_>>().map_err(Unread::Temporary)
}

#[cfg(test)]
mod tests;
