//! Groups by their keys: in memory up to a number, then in sorted runs.

use std::collections::HashMap;
use std::io;

use tollgate_core::report::{Order, Query, Ranked, Ranking, Row, Sums};

use super::runs::{Merge, Runs};
use super::{Rows, Table};

/// Sums by key.
#[derive(Debug)]
pub(super) struct Groups {
    most: usize,
    kept: HashMap<Box<str>, Sums>,
    written: Option<Runs>,
}

impl Groups {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            kept: HashMap::new(),
            written: None,
        }
    }

    pub(super) fn add(&mut self, key: &str, sums: &Sums) -> io::Result<()> {
        if let Some(kept) = self.kept.get_mut(key) {
            kept.add(sums);
            return Ok(());
        }
        if self.kept.len() >= self.most {
            self.write()?;
        }
        self.kept.insert(key.into(), *sums);
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let rows = self.kept.drain();
        let mut rows: Vec<Row> = rows.map(|(key, sums)| Row { key, sums }).collect();
        rows.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let written = match &mut self.written {
            Some(written) => written,
            none => none.insert(Runs::new()?),
        };
        written.write(&rows)
    }
}

/// The table of what several threads have grouped.
pub(super) fn table(mut parts: Vec<Groups>, query: &Query, most: usize) -> io::Result<Table> {
    if parts.iter().all(|part| part.written.is_none()) {
        return Ok(from_memory(parts, query));
    }
    for part in &mut parts {
        part.write()?;
    }
    let runs: Vec<Runs> = parts.into_iter().filter_map(|part| part.written).collect();
    let mut merge = Merge::new(&runs, Order::Key)?;
    if let Some(top) = query.top.filter(|top| *top <= most) {
        let mut ranking = Ranking::new(query.order, Some(top));
        while let Some(row) = merge.next_row()? {
            ranking.push(row);
        }
        return Ok(finish(ranking, query));
    }
    // More rows than memory: sorted once more, unless they are in their order already.
    let mut total = Ranking::new(query.order, Some(0));
    let mut sorted = Runs::new()?;
    let mut waiting: Vec<Ranked> = Vec::new();
    while let Some(row) = merge.next_row()? {
        total.push(Row {
            key: Box::default(),
            sums: row.sums,
        });
        if query.order != Order::Key {
            let order = query.order;
            waiting.push(Ranked { order, row });
            if waiting.len() >= most {
                sorted.write_ranked(&mut waiting)?;
            }
        }
    }
    sorted.write_ranked(&mut waiting)?;
    drop(merge);
    let top = query.top.unwrap_or(usize::MAX);
    let mut summary = total.finish(query.topic, query.by.clone()).summary;
    let runs = if query.order == Order::Key {
        runs
    } else {
        vec![sorted]
    };
    if u64::try_from(top).is_ok_and(|top| top < summary.left_out) {
        let mut merge = Merge::new(&runs, query.order)?;
        let mut first = Vec::new();
        while first.len() < top
            && let Some(row) = merge.next_row()?
        {
            first.push(row);
        }
        let mut rest = Ranking::new(query.order, Some(0));
        while let Some(row) = merge.next_row()? {
            rest.push(row);
        }
        let rest = rest.finish(query.topic, query.by.clone()).summary;
        summary.left_out = rest.left_out;
        summary.other = rest.total;
        let rows = Rows::Kept(first);
        return Ok(Table { summary, rows });
    }
    summary.left_out = 0;
    summary.other = Sums::default();
    let order = query.order;
    let rows = Rows::Written { runs, order };
    Ok(Table { summary, rows })
}

fn from_memory(parts: Vec<Groups>, query: &Query) -> Table {
    let mut parts = parts.into_iter();
    let mut all = parts.next().map(|part| part.kept).unwrap_or_default();
    for (key, sums) in parts.flat_map(|part| part.kept) {
        all.entry(key).or_default().add(&sums);
    }
    let mut ranking = Ranking::new(query.order, query.top);
    for (key, sums) in all {
        ranking.push(Row { key, sums });
    }
    finish(ranking, query)
}

fn finish(ranking: Ranking, query: &Query) -> Table {
    let report = ranking.finish(query.topic, query.by.clone());
    Table {
        summary: report.summary,
        rows: Rows::Kept(report.rows),
    }
}
