//! The body of a line: its head, then the parts, each behind a tab.
//!
//! What every call writes goes through [`Json`], the rest through `serde`. Worst case: none.

use serde::Serialize;

use super::json::Json;
use super::{Cost, Place, Spaced, Written, WrittenHead};

pub(super) fn write_body(buffer: &mut Vec<u8>, entry: &Written<'_>) -> serde_json::Result<()> {
    match entry {
        Written::Intent { subject, hold } => {
            let mut json = Json::new(buffer);
            json.raw(r#"{"intent":["#);
            json.place(&Place::of(subject))?;
            json.raw(",");
            json.hold(&hold.keys, hold.amount.as_pico())?;
            json.raw("]}\t");
            json.subject(subject)
        }
        Written::Outcome { id, ending } => {
            let mut json = Json::new(buffer);
            json.raw(r#"{"outcome":[""#);
            json.raw(&id.text());
            json.raw(r#"","#);
            json.cost(Cost::of(ending))?;
            json.raw("]}\t");
            json.ending(ending)
        }
        Written::Refused { subject, ending } => {
            let mut json = Json::new(buffer);
            json.raw(r#"{"refused":"#);
            json.place(&Place::of(subject))?;
            json.raw("}\t");
            json.subject(subject)?;
            json.raw("\t");
            json.ending(ending)
        }
        Written::Correction {
            id,
            ending,
            of,
            keys,
        } => {
            let head = WrittenHead::Correction(*id, Cost::of(ending), of, Spaced(keys));
            write_both(buffer, &head, ending)
        }
        Written::Segment { previous } => write_head(
            buffer,
            &WrittenHead::Segment {
                previous: *previous,
            },
        ),
        Written::Synced(end) => write_head(buffer, &WrittenHead::Synced(*end)),
        Written::Remembered { id, at, known } => {
            write_head(buffer, &WrittenHead::Remembered(id, at.as_micros()))?;
            write_part(buffer, known)
        }
        Written::Forgotten(id) => write_head(buffer, &WrittenHead::Forgotten(id)),
        Written::Withdrawn(id) => write_head(buffer, &WrittenHead::Withdrawn(*id)),
        Written::Stranger(stranger) => {
            let head = WrittenHead::Stranger(Place::of_stranger(stranger));
            write_both(buffer, &head, stranger)
        }
        Written::Notice(notice) => {
            let head = WrittenHead::Notice(Place::of_notice(notice));
            write_both(buffer, &head, notice)
        }
        Written::Action(action) => {
            write_head(buffer, &WrittenHead::Action(Place::of_action(action)))?;
            write_part(buffer, action)
        }
        Written::Ended { id, ended } => write_both(buffer, &WrittenHead::Ended(*id), ended),
        Written::Event(event) => {
            let head = WrittenHead::Event(Place::of_event(event));
            write_both(buffer, &head, event)
        }
    }
}

fn write_head(buffer: &mut Vec<u8>, head: &WrittenHead<'_>) -> serde_json::Result<()> {
    serde_json::to_writer(buffer, head)
}

fn write_both(
    buffer: &mut Vec<u8>,
    head: &WrittenHead<'_>,
    part: &impl Serialize,
) -> serde_json::Result<()> {
    write_head(buffer, head)?;
    write_part(buffer, part)
}

fn write_part(buffer: &mut Vec<u8>, part: &impl Serialize) -> serde_json::Result<()> {
    buffer.push(b'\t');
    serde_json::to_writer(buffer, part)
}
