//! Segment files: their names, and what of one can be trusted after a crash.
//!
//! A torn or unwritten stretch behind the last known sync is what a crash leaves behind and is
//! skipped with a warning; damage in front of it is not, and opening fails loudly. Worst case: a
//! disk that lied about a sync shows up as such a failure, and a person must decide.

use std::fs;
use std::io::{self, BufRead, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::entry::{self, End, Entry};

/// The file of segment `number`.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

/// The numbers of the segments in `dir`, ascending.
pub(crate) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(dir)? {
        let name = file?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|digits| digits.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Creates a segment with its first line; leaves no file behind on failure, so that the number
/// can be tried again.
pub(crate) fn start(dir: &Path, number: u64, previous: Option<End>) -> io::Result<(fs::File, u64)> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let path = path(dir, number);
    let mut file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path)?;
    let mut line = Vec::new();
    let written = entry::write_line(&mut line, &entry::Written::Segment { previous })
        .map_err(io::Error::other)
        .and_then(|()| file.write_all(&line))
        .and_then(|()| fs::File::open(dir)?.sync_all());
    if let Err(error) = written {
        // If this fails too, the next attempt says so.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok((file, line.len() as u64))
}

/// Where the segment before `number` ends, as the first line of `number` has it.
pub(crate) fn previous_end(dir: &Path, number: u64) -> io::Result<Option<End>> {
    let mut line = Vec::new();
    let file = fs::File::open(path(dir, number))?;
    io::BufReader::new(file).read_until(b'\n', &mut line)?;
    let entry = line
        .strip_suffix(b"\n")
        .and_then(entry::checked)
        .and_then(|body| Entry::parse(body).ok());
    Ok(match entry {
        Some(Entry::Segment { previous }) => previous,
        _ => None,
    })
}

/// A segment has a damaged line among those that were on the disk for certain.
#[derive(Debug, thiserror::Error)]
#[error("journal segment {segment} is damaged at byte {offset}, before the last known sync")]
pub(crate) struct Damaged {
    /// The segment's number.
    pub(crate) segment: u64,
    /// Where the bad line starts.
    pub(crate) offset: u64,
}

/// The good lines of a whole segment, with the offset behind each.
pub(crate) struct Salvage<'a> {
    pub(crate) lines: Vec<(u64, &'a [u8])>,
    /// Bytes that carry no good line.
    pub(crate) skipped: u64,
}

/// Sorts the bytes of a segment into good lines and the rest.
pub(crate) fn salvage(segment: u64, bytes: &[u8]) -> Result<Salvage<'_>, Damaged> {
    let mut found = Salvage {
        lines: Vec::new(),
        skipped: 0,
    };
    let mut offset = 0;
    let mut first_bad = None;
    let mut synced = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let start = offset;
        offset += line.len() as u64;
        let body = line.strip_suffix(b"\n").and_then(entry::checked);
        let Some(body) = body else {
            found.skipped += line.len() as u64;
            first_bad.get_or_insert(start);
            continue;
        };
        match Entry::parse(body) {
            Ok(Entry::Synced(end)) if end.segment == segment => synced = end.length,
            Ok(_) => {}
            Err(_) => {
                return Err(Damaged {
                    segment,
                    offset: start,
                });
            }
        }
        found.lines.push((offset, body));
    }
    match first_bad {
        Some(offset) if offset < synced => Err(Damaged { segment, offset }),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::journal::entry::{Written, write_line};

    fn mark(bytes: &mut Vec<u8>, segment: u64, length: u64) {
        let end = End { segment, length };
        write_line(bytes, &Written::Synced(end)).expect("numbers are JSON");
    }

    fn three_lines() -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..3 {
            mark(&mut bytes, 7, 0);
        }
        bytes
    }

    #[test]
    fn a_torn_tail_is_skipped_wherever_it_is_cut() {
        let whole = three_lines();
        let line = whole.len() / 3;
        for cut in 0..whole.len() {
            let found = salvage(7, &whole[..cut]).expect("nothing was synced");
            assert_eq!(found.lines.len(), cut / line, "cut at {cut}");
            assert_eq!(found.skipped, (cut % line) as u64);
        }
    }

    #[test]
    fn damage_behind_the_last_sync_is_skipped_and_before_it_is_an_error() {
        let mut bytes = three_lines();
        let line = bytes.len() / 3;
        bytes[line + 12] ^= 1;
        let found = salvage(7, &bytes).expect("nothing was synced");
        assert_eq!(found.lines.len(), 2);

        mark(&mut bytes, 6, 2 * line as u64);
        assert!(salvage(7, &bytes).is_ok(), "another segment was synced");

        mark(&mut bytes, 7, 2 * line as u64);
        let error = salvage(7, &bytes).err().expect("a synced line is bad");
        assert_eq!((error.segment, error.offset), (7, line as u64));
    }
}
