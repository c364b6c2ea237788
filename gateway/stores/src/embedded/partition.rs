//! Where a record's line goes: its tenant's directory, day by day.
//!
//! A line has one place, decided by the journal's order alone: which file, and at which byte. After
//! a crash the same lines are made again and compared with what is already there, so a torn line
//! is completed and none is written twice. What is there and differs is never overwritten: the
//! lines go to a new file instead. Worst case: lines that were tampered with after a crash stand
//! beside the true ones, and the chain shows which is which.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::db::PartitionEnd;

/// A file of records is closed once it is this long, so that copying one away takes seconds.
const FILE_BYTES: u64 = 64 << 20;

/// One tenant's day.
pub(crate) struct Partition {
    dir: PathBuf,
    /// The current file, and its length without `pending`.
    end: PartitionEnd,
    pending: Vec<u8>,
    file: Option<File>,
    /// Written to since the last sync.
    unsynced: bool,
    /// Moved since the last checkpoint.
    moved: bool,
}

impl Partition {
    pub(crate) const fn new(dir: PathBuf, end: PartitionEnd) -> Self {
        Self {
            dir,
            end,
            pending: Vec::new(),
            file: None,
            unsynced: false,
            moved: false,
        }
    }

    /// The directory of the day.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the lines end, if that has changed since the last checkpoint.
    pub(crate) fn moved(&self) -> Option<PartitionEnd> {
        self.moved.then_some(self.end)
    }

    /// Takes note that the end is in the database.
    pub(crate) fn settled(&mut self) {
        self.moved = false;
    }

    /// Takes a line, to be written soon.
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.pending.extend_from_slice(line);
        self.pending.push(b'\n');
    }

    /// Whether the lines taken since the last write begin a new file. Asked before each line, so
    /// that the answer depends on nothing but the lines.
    pub(crate) fn is_full(&self) -> bool {
        self.end.length + self.pending.len() as u64 >= FILE_BYTES
    }

    /// Writes the lines taken.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        loop {
            let file = match self.file.take() {
                Some(file) => file,
                None => open(&self.dir, self.end.file)?,
            };
            let written = write_missing(&file, self.end.length, &self.pending)?;
            if written {
                self.file = Some(file);
                break;
            }
            tracing::error!(
                file = %file_path(&self.dir, self.end.file).display(),
                byte = self.end.length,
                "the file holds lines that were not written here; starting another one"
            );
            self.next_file();
        }
        self.end.length += self.pending.len() as u64;
        self.pending.clear();
        self.unsynced = true;
        self.moved = true;
        Ok(())
    }

    /// Goes on in the next file. Only right after [`write`](Self::write).
    pub(crate) fn next_file(&mut self) {
        self.end = PartitionEnd {
            file: self.end.file + 1,
            length: 0,
        };
        self.file = None;
        self.moved = true;
    }

    /// Forces the lines written to the disk; `true` if there were any.
    pub(crate) fn sync(&mut self) -> io::Result<bool> {
        if !self.unsynced {
            return Ok(false);
        }
        match &self.file {
            Some(file) => file.sync_data()?,
            None => open(&self.dir, self.end.file)?.sync_data()?,
        }
        self.unsynced = false;
        Ok(true)
    }

    /// Whether nothing would be lost by forgetting this value.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pending.is_empty() && !self.unsynced && !self.moved
    }
}

/// The path of a file of records in `dir`.
pub(crate) fn file_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("records-{number}.jsonl"))
}

/// Writes `content` at `path`, which names one record, unless it is there already. Something else
/// that is there stays, and the record goes beside it.
pub(crate) fn write_object(path: &Path, seq: u64, content: &[u8]) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    if let Ok(existing) = fs::read(&path) {
        if existing == content {
            return Ok(path);
        }
        path.set_extension(format!("{seq}.json"));
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    // Renamed into place, so that no reader ever sees half of it.
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, content)?;
    fs::rename(&unfinished, &path)?;
    Ok(path)
}

fn open(dir: &Path, number: u32) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(file_path(dir, number))
}

/// Brings `lines` to their place at `start`; `false` if other bytes are in that place.
fn write_missing(file: &File, start: u64, lines: &[u8]) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length < start {
        // A file that was cut short or removed: the gap is for `audit verify` to report. The
        // lines still go behind what there is, not behind a hole.
        return Ok(false);
    }
    let present = usize::try_from(length - start).unwrap_or(usize::MAX);
    let (done, missing) = lines.split_at(present.min(lines.len()));
    if !done.is_empty() {
        let mut there = vec![0; done.len()];
        file.read_exact_at(&mut there, start)?;
        if there != done {
            return Ok(false);
        }
    }
    file.write_all_at(missing, start + done.len() as u64)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(dir: &Path, end: PartitionEnd) -> Partition {
        Partition::new(dir.to_owned(), end)
    }

    fn write(partition: &mut Partition, lines: &[&str]) {
        for line in lines {
            partition.push(line.as_bytes());
        }
        partition.write().expect("the directory is writable");
    }

    #[test]
    fn lines_made_again_after_a_crash_complete_what_is_there_wherever_it_was_cut() {
        let whole = "one\ntwo\nthree\n";
        for cut in 0..=whole.len() {
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(file_path(dir.path(), 0), &whole[..cut]).expect("writable");
            let mut again = partition(dir.path(), PartitionEnd::default());
            write(&mut again, &["one", "two"]);
            write(&mut again, &["three"]);
            let there = fs::read_to_string(file_path(dir.path(), 0)).expect("readable");
            assert_eq!(there, whole, "cut at {cut}");
            assert!(!file_path(dir.path(), 1).exists());
        }
    }

    #[test]
    fn foreign_lines_and_shortened_files_are_left_alone() {
        for foreign in ["one\nTWO\n", "o"] {
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(file_path(dir.path(), 0), foreign).expect("writable");
            let known = PartitionEnd { file: 0, length: 4 };
            let mut partition = partition(dir.path(), known);
            write(&mut partition, &["two"]);
            let left = fs::read_to_string(file_path(dir.path(), 0)).expect("readable");
            assert_eq!(left, foreign);
            let new = fs::read_to_string(file_path(dir.path(), 1)).expect("readable");
            assert_eq!(new, "two\n");
        }
    }

    #[test]
    fn an_object_is_written_once_and_never_over_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("bot/1.json");
        for content in ["a", "a", "b"] {
            write_object(&path, 7, content.as_bytes()).expect("writable");
        }
        assert_eq!(fs::read_to_string(&path).expect("readable"), "a");
        let beside = dir.path().join("bot/1.7.json");
        assert_eq!(fs::read_to_string(beside).expect("readable"), "b");
    }
}
