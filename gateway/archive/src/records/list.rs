//! The files of a partition, those together that hold the same records.

use std::collections::BTreeSet;

use tollgate_core::audit::{Day, Item, Name, Partition};

use crate::shelf::{Days, Found, Shelf, ShelfError};

/// More names than these are listed day by day.
const MOST_NAMES: usize = 200_000;

/// Gives the names in a partition, each with its other forms and copies, until `give` says no.
pub(super) fn batches(
    shelf: &dyn Shelf,
    partition: &Partition,
    days: Days,
    give: &mut dyn FnMut(Vec<Name>) -> bool,
) -> Result<(), ShelfError> {
    let mut names = Vec::new();
    let mut seen: BTreeSet<Day> = BTreeSet::new();
    shelf.each(partition, days, &mut |found| {
        if let Found::Ours { name, .. } = found
            && let Some(day) = name.day()
        {
            seen.insert(day);
            if names.len() <= MOST_NAMES {
                names.push(name);
            }
        }
        Ok(())
    })?;
    if names.len() <= MOST_NAMES {
        together(names, give);
        return Ok(());
    }
    drop(names);
    for day in seen {
        let only = Days {
            from: Some(day),
            to: Some(day),
        };
        let names = shelf.list(partition, only)?;
        let names = names.into_iter().map(|(name, _)| name);
        let going = together(names.filter(|name| name.day().is_some()).collect(), give);
        if !going {
            break;
        }
    }
    Ok(())
}

fn together(mut names: Vec<Name>, give: &mut dyn FnMut(Vec<Name>) -> bool) -> bool {
    names.sort_unstable();
    let mut batch: Vec<Name> = Vec::new();
    for name in names {
        if batch.first().is_some_and(|first| !same(first, &name)) {
            let whole = std::mem::take(&mut batch);
            if !give(whole) {
                return false;
            }
        }
        batch.push(name);
    }
    batch.is_empty() || give(batch)
}

/// Whether two names stand for the same records, in another form or copy.
fn same(one: &Name, other: &Name) -> bool {
    match (&one.item, &other.item) {
        (
            Item::Segment {
                day,
                replica,
                first,
                ..
            },
            Item::Segment {
                day: other_day,
                replica: other_replica,
                first: other_first,
                ..
            },
        ) => (day, replica, first) == (other_day, other_replica, other_first),
        (one, other) => one == other,
    }
}
