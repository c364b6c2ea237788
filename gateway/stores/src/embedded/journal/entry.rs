//! The form of one journal line: eight hex digits of CRC-32, a space, a JSON object, a newline.
//!
//! Lines are written from borrowed values and read back as borrowed slices: what a record says is
//! copied into the tenant's partition byte for byte, never printed anew. This module knows neither
//! files nor order. Worst case: a line that was damaged in a way that keeps its checksum (one in
//! four billion) is taken for good.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tollgate_core::budget::Hold;
use tollgate_core::ids::RecordId;
use tollgate_core::record::{Ending, Stranger, Subject};

/// What is written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
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
    /// The intent was never confirmed to its caller, who makes no call.
    Withdrawn(RecordId),
    /// A call that ended before contact.
    Refused {
        subject: &'a Subject,
        ending: &'a Ending,
    },
    /// A refusal that belongs to no tenant.
    Stranger(&'a Stranger),
}

/// What is read back; the mirror of [`Written`].
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry<'a> {
    Segment {
        previous: Option<End>,
    },
    Synced(End),
    Intent {
        #[serde(borrow)]
        subject: &'a RawValue,
        #[serde(borrow)]
        hold: Taken<'a>,
    },
    Outcome {
        id: RecordId,
        #[serde(borrow)]
        ending: &'a RawValue,
    },
    Withdrawn(RecordId),
    Refused {
        #[serde(borrow)]
        subject: &'a RawValue,
        #[serde(borrow)]
        ending: &'a RawValue,
    },
    #[serde(borrow)]
    Stranger(&'a RawValue),
}

/// The part of a [`Hold`] that settling needs, without checking its names again.
#[derive(Deserialize)]
pub(crate) struct Taken<'a> {
    #[serde(borrow)]
    pub(crate) keys: Vec<&'a str>,
    pub(crate) amount: tollgate_core::money::PicoUsd,
}

/// Where a segment ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) segment: u64,
    pub(crate) length: u64,
}

const CHECKSUM_LEN: usize = 8;
const PREFIX: &[u8; CHECKSUM_LEN + 1] = b"00000000 ";

/// Appends the line for `entry` to `buffer`.
pub(crate) fn write_line(buffer: &mut Vec<u8>, entry: &Written<'_>) -> serde_json::Result<()> {
    let start = buffer.len();
    buffer.extend_from_slice(PREFIX);
    let json = buffer.len();
    if let Err(error) = serde_json::to_writer(&mut *buffer, entry) {
        buffer.truncate(start);
        return Err(error);
    }
    let digits = hex_digits(crc32fast::hash(&buffer[json..]));
    buffer[start..start + CHECKSUM_LEN].copy_from_slice(&digits);
    buffer.push(b'\n');
    Ok(())
}

/// The JSON of a line without its newline, or `None` if the checksum does not fit.
pub(crate) fn checked(line: &[u8]) -> Option<&[u8]> {
    let (prefix, json) = line.split_at_checked(PREFIX.len())?;
    let (digits, space) = prefix.split_at(CHECKSUM_LEN);
    let fits = space == b" " && digits == hex_digits(crc32fast::hash(json));
    fits.then_some(json)
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
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_and_any_flipped_bit_is_noticed() {
        let mut line = Vec::new();
        let end = End {
            segment: 7,
            length: 1234,
        };
        write_line(&mut line, &Written::Synced(end)).expect("numbers are JSON");
        assert_eq!(line.pop(), Some(b'\n'));
        let json = checked(&line).expect("its own checksum");
        assert!(matches!(
            serde_json::from_slice(json),
            Ok(Entry::Synced(read)) if read == end
        ));
        for place in 0..line.len() {
            for bit in 0..8 {
                let mut bad = line.clone();
                bad[place] ^= 1 << bit;
                assert!(checked(&bad).is_none(), "byte {place}, bit {bit}");
            }
        }
        for len in 0..line.len() {
            assert!(checked(&line[..len]).is_none(), "cut at {len}");
        }
    }
}
