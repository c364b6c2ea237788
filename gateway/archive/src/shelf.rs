//! Places where partitions lie: a directory, an object store, or both.
//!
//! A shelf gives names and bytes. It blocks, so it belongs on a thread of its own. Only what is
//! asked for is looked at: a question about one tenant opens nothing of another's. Worst case: a
//! file that is not one of ours is told of as foreign, and nothing is read from it.

mod local;

use std::io::{self, Read};

use tollgate_core::audit::{Day, Name, Partition};

pub use local::LocalShelf;

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
