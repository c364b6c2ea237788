//! The names of what a partition holds, the same in a directory and in an object store.
//!
//! Written and read by this module alone. A name is made of checked parts, so none can lead out
//! of its partition; what does not read back as a name is not one of ours. Worst case: a file
//! that somebody put among the records is reported as foreign, never read as records.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;

use super::Partition;
use crate::ids::{AgentId, RecordId, ReplicaId};

/// The directory or prefix below which all partitions lie.
pub const ROOT: &str = "audit";

/// The UTC day a record belongs to: the one it began on.
pub type Day = Date;

/// How the records of a segment are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Form {
    /// JSON Lines, as the gateway writes them.
    #[default]
    JsonLines,
    /// The same bytes, compressed by Zstandard.
    Zstd,
    /// Columns, with every record's line among them.
    Parquet,
}

impl Form {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::JsonLines, Self::Zstd, Self::Parquet];

    /// How names end.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Zstd => "jsonl.zst",
            Self::Parquet => "parquet",
        }
    }
}

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Item {
    /// Records of one replica and one day, one behind the other.
    Segment {
        /// The day they began on.
        day: Day,
        /// Who wrote them.
        replica: ReplicaId,
        /// The sequence number of the first.
        first: u64,
        /// How they are written.
        form: Form,
    },
    /// One record.
    Object {
        /// The day it began on.
        day: Day,
        /// The agent that called.
        agent: AgentId,
        /// Its id.
        record: RecordId,
    },
    /// A signed checkpoint.
    Checkpoint {
        /// Whose chain it is about.
        replica: ReplicaId,
        /// The last record it covers.
        seq: u64,
    },
}

/// Where something lies: `audit/acme/date=2026-11-23/r4f1c-000000000001.jsonl`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name {
    /// Whose.
    pub partition: Partition,
    /// What.
    pub item: Item,
    /// Counts up where other bytes already have the name: `…-000000000001~1.jsonl`.
    pub copy: u32,
}

/// A path is not one that records have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a record, a segment or a checkpoint")]
pub struct NotAName;

impl Name {
    /// A name nothing else has taken.
    #[must_use]
    pub const fn new(partition: Partition, item: Item) -> Self {
        Self {
            partition,
            item,
            copy: 0,
        }
    }

    /// The day of the records; checkpoints have none.
    #[must_use]
    pub const fn day(&self) -> Option<Day> {
        match &self.item {
            Item::Segment { day, .. } | Item::Object { day, .. } => Some(*day),
            Item::Checkpoint { .. } => None,
        }
    }

    /// The same segment written in another form; anything else stays what it is.
    #[must_use]
    pub fn in_form(&self, to: Form) -> Self {
        let mut name = self.clone();
        if let Item::Segment { form, .. } = &mut name.item {
            *form = to;
        }
        name
    }

    /// The path below [`ROOT`].
    #[must_use]
    pub fn below_root(&self) -> String {
        self.to_string()
            .split_off(ROOT.len().saturating_add("/".len()))
    }
}

/// The path, with [`ROOT`] in front.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = &self.partition;
        let copy = Copy(self.copy);
        write!(f, "{ROOT}/{partition}/")?;
        match &self.item {
            Item::Segment {
                day,
                replica,
                first,
                form,
            } => {
                let extension = form.extension();
                write!(f, "date={day}/{replica}-{first:012}{copy}.{extension}")
            }
            Item::Object { day, agent, record } => {
                let (year, month, day) = (day.year(), day.month(), day.day());
                write!(
                    f,
                    "{year:04}/{month:02}/{day:02}/{agent}/{record}{copy}.json"
                )
            }
            Item::Checkpoint { replica, seq } => {
                write!(f, "checkpoints/{replica}-{seq:012}{copy}.json")
            }
        }
    }
}

/// `~1`, or nothing for the first.
struct Copy(u32);

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            copy => write!(f, "~{copy}"),
        }
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(path: &str) -> Result<Self, NotAName> {
        let name = parse(path).ok_or(NotAName)?;
        // One name for one place: `date=2026-11-3` and leading zeros too many are not ours.
        if name.to_string() == path {
            Ok(name)
        } else {
            Err(NotAName)
        }
    }
}

fn parse(path: &str) -> Option<Name> {
    let mut parts = path.strip_prefix(ROOT)?.strip_prefix('/')?.split('/');
    let partition = parts.next()?.parse().ok()?;
    let second = parts.next()?;
    let rest: Vec<&str> = parts.collect();
    let (item, copy) = match (second, &*rest) {
        ("checkpoints", [file]) => {
            let (replica, seq, copy) = numbered(file.strip_suffix(".json")?)?;
            (Item::Checkpoint { replica, seq }, copy)
        }
        (date, [file]) => {
            let day = date.strip_prefix("date=")?.parse().ok()?;
            let (stem, extension) = file.split_once('.')?;
            let form = Form::ALL
                .into_iter()
                .find(|form| form.extension() == extension)?;
            let (replica, first, copy) = numbered(stem)?;
            let item = Item::Segment {
                day,
                replica,
                first,
                form,
            };
            (item, copy)
        }
        (year, [month, day, agent, file]) => {
            let day = format!("{year}-{month}-{day}").parse().ok()?;
            let (record, copy) = copied(file.strip_suffix(".json")?)?;
            let item = Item::Object {
                day,
                agent: agent.parse().ok()?,
                record: record.parse().ok()?,
            };
            (item, copy)
        }
        _ => return None,
    };
    Some(Name {
        partition,
        item,
        copy,
    })
}

/// `r4f1c-000000000001~1`
fn numbered(stem: &str) -> Option<(ReplicaId, u64, u32)> {
    let (stem, copy) = copied(stem)?;
    let (replica, number) = stem.rsplit_once('-')?;
    Some((replica.parse().ok()?, number.parse().ok()?, copy))
}

fn copied(stem: &str) -> Option<(&str, u32)> {
    match stem.split_once('~') {
        None => Some((stem, 0)),
        Some((stem, copy)) => Some((stem, copy.parse().ok()?)),
    }
}
