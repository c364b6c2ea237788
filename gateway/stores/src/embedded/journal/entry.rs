//! The form of one journal line: eight hex digits of CRC-32, a space, a head, perhaps parts, a
//! newline.
//!
//! The head is a small JSON object with what settling and placing a record need. The parts are
//! the JSON objects the record is made of, each behind a tab; they are copied into their
//! partition byte for byte and never parsed. (No tab or newline stands inside JSON as it is
//! written here.) This module knows neither files nor order. Worst case: a line that was damaged
//! in a way that keeps its checksum (one in four billion) is taken for good.

mod json;
mod read;
mod write;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use tollgate_core::admin_log::{AdminAction, Ended};
use tollgate_core::audit::{Day, Event};
use tollgate_core::budget::{BudgetKey, Hold};
use tollgate_core::deferred::{Known, RemoteId};
use tollgate_core::ids::RecordId;
use tollgate_core::money::PicoUsd;
use tollgate_core::notice::Notice;
use tollgate_core::record::{Ending, Stranger, Subject};
use tollgate_core::time::Timestamp;

pub(crate) use read::id_of_intent;
use write::write_body;

/// What is written.
pub(crate) enum Written<'a> {
    /// The first line of a segment: where its predecessor's good lines end.
    Segment { previous: Option<End> },
    /// Everything in that segment up to that length is on the disk.
    Synced(End),
    /// A call about to be made.
    Intent {
        subject: &'a Subject,
        hold: &'a Hold,
    },
    /// How that call ended.
    Outcome { id: RecordId, ending: &'a Ending },
    /// How that call ended, whose cost corrects a charge made in advance. The charge is forgotten.
    Correction {
        id: RecordId,
        ending: &'a Ending,
        /// What the charge is kept under.
        of: &'a RemoteId,
        /// The counters it was charged to.
        keys: &'a [BudgetKey],
    },
    /// Something known of deferred work.
    Remembered {
        id: &'a RemoteId,
        at: Timestamp,
        known: &'a Known,
    },
    /// It is known no longer.
    Forgotten(&'a RemoteId),
    /// The intent was never confirmed to its caller, who makes no call.
    Withdrawn(RecordId),
    /// A call that ended before contact.
    Refused {
        subject: &'a Subject,
        ending: &'a Ending,
    },
    /// A refusal that belongs to no tenant.
    Stranger(&'a Stranger),
    /// A share of a tenant's cap has been spent.
    Notice(&'a Notice),
    /// Somebody is about to do something through the admin API.
    Action(&'a AdminAction),
    /// How that ended.
    Ended { id: RecordId, ended: &'a Ended },
    /// Something else that happened to a partition.
    Event(&'a Event),
}

/// What is read back; the parts as they stand in the line.
pub(crate) enum Entry<'a> {
    /// The first line of a segment.
    Segment { previous: Option<End> },
    /// A mark.
    Synced(End),
    /// A call about to be made.
    Intent {
        place: Place<'a>,
        taken: Taken<'a>,
        subject: &'a [u8],
    },
    /// How that call ended.
    Outcome {
        id: RecordId,
        cost: Cost,
        ending: &'a [u8],
    },
    /// How it ended, and which charge it corrects.
    Correction {
        id: RecordId,
        cost: Cost,
        of: RemoteId,
        /// The counters the cost goes to, with spaces between.
        keys: Cow<'a, str>,
        ending: &'a [u8],
    },
    /// Something known of deferred work.
    Remembered {
        id: RemoteId,
        at: i64,
        known: &'a [u8],
    },
    /// It is known no longer.
    Forgotten(RemoteId),
    /// No call after all.
    Withdrawn(RecordId),
    /// A call that ended before contact.
    Refused {
        place: Place<'a>,
        subject: &'a [u8],
        ending: &'a [u8],
    },
    /// A refusal that belongs to no tenant.
    Stranger {
        place: Place<'a>,
        stranger: &'a [u8],
    },
    /// A share of a tenant's cap has been spent.
    Notice { place: Place<'a>, notice: &'a [u8] },
    /// Somebody is about to do something through the admin API.
    Action { place: Place<'a>, action: &'a [u8] },
    /// How that ended.
    Ended { id: RecordId, ended: &'a [u8] },
    /// Something else that happened to a partition.
    Event { place: Place<'a>, event: &'a [u8] },
}

/// What decides where a record goes.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Place<'a> {
    pub(crate) id: RecordId,
    at: i64,
    /// Whose partition it goes to: the gateway's own if it is about a stranger.
    #[serde(default, rename = "tenant", skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<&'a str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) elevated: bool,
}

/// The money taken for a call.
#[derive(PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Taken<'a> {
    /// The counters it was taken from, with spaces between. A model's pattern may hold what JSON
    /// escapes, and is not borrowed then.
    #[serde(borrow)]
    pub(crate) keys: Cow<'a, str>,
    pico: i128,
}

/// What settling needs of an ending.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    pico: i128,
    at: i64,
}

/// The heads that are seldom written; those of every call are put together by [`json::Json`]. All of
/// them are read as [`ReadHead`].
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum WrittenHead<'a> {
    Segment { previous: Option<End> },
    Synced(End),
    Correction(RecordId, Cost, &'a RemoteId, Spaced<'a>),
    Remembered(&'a RemoteId, i64),
    Forgotten(&'a RemoteId),
    Withdrawn(RecordId),
    Stranger(Place<'a>),
    Notice(Place<'a>),
    Action(Place<'a>),
    Ended(RecordId),
    Event(Place<'a>),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReadHead<'a> {
    Segment {
        previous: Option<End>,
    },
    Synced(End),
    Intent(#[serde(borrow)] Place<'a>, #[serde(borrow)] Taken<'a>),
    Outcome(RecordId, Cost),
    Correction(RecordId, Cost, RemoteId, #[serde(borrow)] Cow<'a, str>),
    Remembered(RemoteId, i64),
    Forgotten(RemoteId),
    Withdrawn(RecordId),
    #[serde(borrow)]
    Refused(Place<'a>),
    #[serde(borrow)]
    Stranger(Place<'a>),
    #[serde(borrow)]
    Notice(Place<'a>),
    #[serde(borrow)]
    Action(Place<'a>),
    Ended(RecordId),
    #[serde(borrow)]
    Event(Place<'a>),
}

/// Budget keys with spaces between, which none of them contains.
struct Spaced<'a>(&'a [BudgetKey]);

impl fmt::Display for Spaced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, key) in self.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(f, "{space}{key}")?;
        }
        Ok(())
    }
}

impl Serialize for Spaced<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'a> Place<'a> {
    fn of(subject: &'a Subject) -> Self {
        Self {
            id: subject.id,
            at: subject.started_at.as_micros(),
            partition: Some(subject.tenant.as_str()),
            agent: Some(subject.agent.as_str()),
            elevated: subject.elevated,
        }
    }

    const fn of_stranger(stranger: &Stranger) -> Self {
        Self {
            id: stranger.id,
            at: stranger.at.as_micros(),
            partition: None,
            agent: None,
            elevated: false,
        }
    }

    fn of_notice(notice: &'a Notice) -> Self {
        Self {
            id: notice.id,
            at: notice.at.as_micros(),
            partition: Some(notice.tenant.as_str()),
            agent: None,
            elevated: false,
        }
    }

    fn of_action(action: &'a AdminAction) -> Self {
        Self {
            id: action.id,
            at: action.at.as_micros(),
            partition: Some(action.partition.as_str()),
            agent: None,
            elevated: false,
        }
    }

    fn of_event(event: &'a Event) -> Self {
        Self {
            id: event.id,
            at: event.at.as_micros(),
            partition: Some(event.partition.as_str()),
            agent: None,
            elevated: false,
        }
    }

    /// The UTC day the record belongs to.
    pub(crate) fn day(&self) -> Day {
        Timestamp::from_micros(self.at).date()
    }
}

impl Taken<'_> {
    /// How much from each.
    pub(crate) const fn amount(&self) -> PicoUsd {
        PicoUsd::new(self.pico)
    }

    /// From which. One that cannot be read is of no counter there is.
    pub(crate) fn counters(&self) -> Vec<BudgetKey> {
        let keys = self.keys.split_ascii_whitespace();
        keys.filter_map(|key| key.parse().ok()).collect()
    }
}

impl Cost {
    const fn of(ending: &Ending) -> Self {
        Self {
            pico: ending.cost.as_pico(),
            at: ending.ended_at.as_micros(),
        }
    }

    /// What is settled.
    pub(crate) const fn amount(self) -> PicoUsd {
        PicoUsd::new(self.pico)
    }

    /// When the call ended.
    pub(crate) const fn ended_at(self) -> Timestamp {
        Timestamp::from_micros(self.at)
    }
}

impl<'a> Entry<'a> {
    /// Reads what [`checked`] has let through.
    pub(crate) fn parse(body: &'a [u8]) -> serde_json::Result<Self> {
        if let Some((place, taken, subject)) = read::intent(body) {
            return Ok(Self::Intent {
                place,
                taken,
                subject,
            });
        }
        if let Some((id, cost, ending)) = read::outcome(body) {
            return Ok(Self::Outcome { id, cost, ending });
        }
        let (head, parts) = split_at_tab(body);
        Ok(match serde_json::from_slice(head)? {
            ReadHead::Segment { previous } => Self::Segment { previous },
            ReadHead::Synced(end) => Self::Synced(end),
            ReadHead::Intent(place, taken) => Self::Intent {
                place,
                taken,
                subject: parts,
            },
            ReadHead::Outcome(id, cost) => Self::Outcome {
                id,
                cost,
                ending: parts,
            },
            ReadHead::Correction(id, cost, of, keys) => Self::Correction {
                id,
                cost,
                of,
                keys,
                ending: parts,
            },
            ReadHead::Remembered(id, at) => Self::Remembered {
                id,
                at,
                known: parts,
            },
            ReadHead::Forgotten(id) => Self::Forgotten(id),
            ReadHead::Withdrawn(id) => Self::Withdrawn(id),
            ReadHead::Refused(place) => {
                let (subject, ending) = split_at_tab(parts);
                Self::Refused {
                    place,
                    subject,
                    ending,
                }
            }
            ReadHead::Stranger(place) => Self::Stranger {
                place,
                stranger: parts,
            },
            ReadHead::Notice(place) => Self::Notice {
                place,
                notice: parts,
            },
            ReadHead::Action(place) => Self::Action {
                place,
                action: parts,
            },
            ReadHead::Ended(id) => Self::Ended { id, ended: parts },
            ReadHead::Event(place) => Self::Event {
                place,
                event: parts,
            },
        })
    }
}

fn split_at_tab(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\t', bytes) {
        Some(tab) => (&bytes[..tab], &bytes[tab + 1..]),
        None => (bytes, &[]),
    }
}

/// Where a segment ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) segment: u64,
    pub(crate) length: u64,
}

const CHECKSUM_LEN: usize = 8;
const PREFIX: &[u8; CHECKSUM_LEN + 1] = b"00000000 ";
/// Longer than the line of an ordinary call, so that a new buffer need not grow by and by.
const USUAL_LINE: usize = 2 << 10;

/// Appends the line for `entry` to `buffer`.
pub(crate) fn write_line(buffer: &mut Vec<u8>, entry: &Written<'_>) -> serde_json::Result<()> {
    let start = buffer.len();
    buffer.reserve(USUAL_LINE);
    buffer.extend_from_slice(PREFIX);
    let body = buffer.len();
    if let Err(error) = write_body(buffer, entry) {
        buffer.truncate(start);
        return Err(error);
    }
    let digits = hex_digits(crc32fast::hash(&buffer[body..]));
    buffer[start..start + CHECKSUM_LEN].copy_from_slice(&digits);
    buffer.push(b'\n');
    Ok(())
}

/// Head and parts of a line without its newline, or `None` if the checksum does not fit.
pub(crate) fn checked(line: &[u8]) -> Option<&[u8]> {
    let (prefix, body) = line.split_at_checked(PREFIX.len())?;
    let (digits, space) = prefix.split_at(CHECKSUM_LEN);
    let fits = space == b" " && digits == hex_digits(crc32fast::hash(body));
    fits.then_some(body)
}

fn hex_digits(value: u32) -> [u8; CHECKSUM_LEN] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; CHECKSUM_LEN];
    for (place, digit) in digits.iter_mut().enumerate() {
        let nibble = (value >> (28 - 4 * place)) & 0xf;
        *digit = HEX[nibble as usize];
    }
    digits
}

#[cfg(test)]
mod tests;
