//! Times written into the events of a stream, and read out of them again on the same machine.
//!
//! The mock writes when it sent an event, the load reads how long it was under way: both go by the
//! monotonic clock, which all processes of a machine share. A stamp has always the same number of
//! bytes. It wraps after almost three hours; nothing here lasts so long.

use rustix::time::{ClockId, clock_gettime};

/// Bytes of a stamp, its mark included.
pub(crate) const BYTES: usize = 1 + DIGITS as usize;
/// Stands in front of every stamp, and nowhere else in the mock's prepared answers.
const MARK: u8 = b'~';
const DIGITS: u32 = 10;
const WRAP: u64 = 10_u64.pow(DIGITS);

/// Microseconds of the clock that stamps are taken from.
pub(crate) fn micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The monotonic clock counts up from the start of the machine.
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000 + part(now.tv_nsec) / 1_000
}

/// A time as it stands in an event.
pub(crate) fn text(micros: u64) -> String {
    format!(
        "{}{:0width$}",
        char::from(MARK),
        micros % WRAP,
        width = DIGITS as usize
    )
}

/// Microseconds between what a stamp says and a time after it.
pub(crate) fn age(stamp: u64, now: u64) -> u64 {
    (now % WRAP + WRAP - stamp) % WRAP
}

/// Where the first stamp of a text begins.
pub(crate) fn place(text: &[u8]) -> Option<usize> {
    memchr::memchr(MARK, text)
}

/// Finds stamps, whatever the pieces they come in.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Digits and value of a stamp that has begun.
    begun: Option<(u32, u64)>,
}

impl Reader {
    /// Reads on, and tells each stamp that is complete.
    pub(crate) fn read(&mut self, mut piece: &[u8], mut found: impl FnMut(u64)) {
        loop {
            let Some((mut digits, mut value)) = self.begun.take() else {
                let Some(at) = place(piece) else { return };
                piece = piece.get(at + 1..).unwrap_or_default();
                self.begun = Some((0, 0));
                continue;
            };
            while digits < DIGITS {
                let Some((first, rest)) = piece.split_first() else {
                    self.begun = Some((digits, value));
                    return;
                };
                if !first.is_ascii_digit() {
                    break;
                }
                (digits, value) = (digits + 1, value * 10 + u64::from(first - b'0'));
                piece = rest;
            }
            if digits == DIGITS {
                found(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_across_any_split() {
        let stream = format!(
            "data: {}\n\ndata: ~12 {}{}",
            text(7),
            text(WRAP + 81),
            text(9)
        );
        for at in 0..=stream.len() {
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            let (start, end) = stream.as_bytes().split_at(at);
            reader.read(start, |stamp| found.push(stamp));
            reader.read(end, |stamp| found.push(stamp));
            assert_eq!(found, [7, 81, 9], "split at {at}");
        }
    }

    #[test]
    fn ages_hold_across_the_wrap() {
        assert_eq!(text(3).len(), BYTES);
        assert_eq!(age(5, 12), 7);
        assert_eq!(age(WRAP - 2, WRAP + 3), 5);
    }
}
