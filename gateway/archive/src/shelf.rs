//! Places where partitions lie: a directory, an object store, or both.
//!
//! A shelf gives names and bytes. It blocks, so it belongs on a thread of its own. Only what is
//! asked for is looked at: a question about one tenant opens nothing of another's. Worst case: a
//! file that is not one of ours is told of as foreign, and nothing is read from it.

mod local;
mod object;

use std::io::{self, Read};

use tollgate_core::audit::{Day, Name, Partition};

use crate::store::{self, NoStore, Place, StoreConfig};

pub use local::LocalShelf;
pub(crate) use local::UNFINISHED;

/// A shelf cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{place} cannot be read")]
pub struct ShelfError {
    /// The file, directory or object.
    pub place: String,
    /// Why.
    #[source]
    pub cause: io::Error,
}

/// Something found below a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// One of ours.
    Ours {
        /// What it is.
        name: Name,
        /// How long it is, as it lies there.
        bytes: u64,
    },
    /// Something somebody else put there; its path with `audit/` in front.
    Foreign(String),
}

/// UTC days, both ends included; open at an end that is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Days {
    /// The first.
    pub from: Option<Day>,
    /// The last.
    pub to: Option<Day>,
}

impl Days {
    /// Whether `day` is among them.
    #[must_use]
    pub fn contain(&self, day: Day) -> bool {
        self.from.is_none_or(|from| day >= from) && self.to.is_none_or(|to| day <= to)
    }
}

/// Somewhere partitions lie.
pub trait Shelf: Send + Sync {
    /// Whose there are, in order.
    ///
    /// # Errors
    /// If the shelf cannot be looked at.
    fn partitions(&self) -> Result<Vec<Partition>, ShelfError>;

    /// Shows what lies in a partition: checkpoints, and what belongs to the days asked for. In
    /// no fixed order, one at a time, since there may be millions.
    ///
    /// # Errors
    /// If the shelf cannot be looked at, or `look` fails.
    fn each(
        &self,
        partition: &Partition,
        days: Days,
        look: &mut dyn FnMut(Found) -> Result<(), ShelfError>,
    ) -> Result<(), ShelfError>;

    /// The bytes of one of ours, as they lie there.
    ///
    /// # Errors
    /// If there is no such thing or it cannot be read.
    fn open(&self, name: &Name) -> Result<Box<dyn Read + Send>, ShelfError>;

    /// What lies in a partition, in the order of its names.
    ///
    /// # Errors
    /// As [`Shelf::each`].
    fn list(&self, partition: &Partition, days: Days) -> Result<Vec<(Name, u64)>, ShelfError> {
        let mut names = Vec::new();
        self.each(partition, days, &mut |found| {
            if let Found::Ours { name, bytes } = found {
                names.push((name, bytes));
            }
            Ok(())
        })?;
        names.sort_unstable();
        Ok(names)
    }
}

/// The shelf at a place that partitions are copied to. `variables` are those of the environment in
/// which the providers' own tools look for credentials.
///
/// # Errors
/// If something that is needed is missing or cannot be used. Nothing is asked of the place yet.
pub fn open(
    config: &StoreConfig,
    variables: &[(String, String)],
) -> Result<Box<dyn Shelf>, NoStore> {
    if let Place::Directory(dir) = &config.place {
        return Ok(Box::new(LocalShelf::new(dir)));
    }
    let objects = store::objects(config, variables)?;
    let shelf = object::ObjectShelf::new(objects);
    Ok(Box::new(
        shelf.map_err(|error| NoStore::Setup(error.into()))?,
    ))
}

/// Whether what lies below a path can belong to those days; only whole days are sorted out, and
/// months and years without any of them.
fn may_hold(path: &str, days: Days) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let between = |text: &str| {
        let cut = |day: Option<Day>| day.map(|day| day.to_string());
        let not_before = cut(days.from).is_none_or(|from| text >= &from[..text.len().min(10)]);
        let not_after = cut(days.to).is_none_or(|to| text <= &to[..text.len().min(10)]);
        not_before && not_after
    };
    let period = match &*parts {
        [_, _, date] if date.starts_with("date=") => date.trim_start_matches("date=").to_owned(),
        [_, _, "checkpoints", ..] => return true,
        [_, _, year] => (*year).to_owned(),
        [_, _, year, month] => format!("{year}-{month}"),
        [_, _, year, month, day] => format!("{year}-{month}-{day}"),
        _ => return true,
    };
    // What is no date of ours is not sorted out but looked at, and told of as foreign.
    let digits = |c: char| c.is_ascii_digit() || c == '-';
    let is_a_period = matches!(period.len(), 4 | 7 | 10) && period.chars().all(digits);
    !is_a_period || between(&period)
}
