//! Where a record's line goes: its partition's segments, day by day.
//!
//! A line has one place, decided by the journal's order alone: which segment, and at which byte.
//! After a crash the same lines are made again and compared with what is already there, so a torn
//! line is completed and none is written twice. What is there and differs is never overwritten:
//! the lines go to a new segment instead. Worst case: lines that were tampered with after a crash
//! stand beside the true ones, and the chain shows which is which.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tollgate_core::audit::{Item, Link, Name};

use super::db::SegmentEnd;

/// Memory of written lines that is kept for others, in bytes. Enough for what the shipper reads at
/// once, however the buffer grows to hold it.
const MOST_SPARE: usize = 2 << 20;

/// The segment of one partition and day that is being written.
pub(crate) struct RecordSegment {
    /// What names are below: the data directory.
    root: PathBuf,
    name: Name,
    /// How long it is without `pending`.
    length: u64,
    pending: Vec<u8>,
    file: Option<Opened>,
    /// Those before it that nothing more is written to, and their lengths.
    ended: Vec<(Name, u64)>,
    /// Written to since the last sync.
    unsynced: bool,
    /// Moved since the last checkpoint.
    moved: bool,
}

impl RecordSegment {
    /// Goes on behind the first `length` bytes of the segment `name`.
    pub(crate) fn new(root: &Path, name: Name, length: u64) -> Self {
        Self {
            root: root.to_owned(),
            name,
            length,
            pending: Vec::new(),
            file: None,
            ended: Vec::new(),
            unsynced: false,
            moved: false,
        }
    }

    /// What it is called.
    pub(crate) const fn name(&self) -> &Name {
        &self.name
    }

    /// Where the lines written end.
    pub(crate) const fn end(&self) -> Option<SegmentEnd> {
        SegmentEnd::of(&self.name, self.length)
    }

    /// Whether that has changed since the last checkpoint.
    pub(crate) const fn has_moved(&self) -> bool {
        self.moved
    }

    /// Segments that have ended here, to be taken out.
    pub(crate) const fn ended(&mut self) -> &mut Vec<(Name, u64)> {
        &mut self.ended
    }

    /// Takes note that the end is in the database.
    pub(crate) fn settled(&mut self) {
        self.moved = false;
    }

    /// Takes a line, to be written soon. The first one goes into the memory of `spare`.
    pub(crate) fn push(&mut self, line: &[u8], spare: &mut Vec<u8>) {
        if self.pending.is_empty() {
            self.pending = std::mem::take(spare);
        }
        self.pending.extend_from_slice(line);
        self.pending.push(b'\n');
    }

    /// Whether the next line begins a new segment. Asked before each line, so that the answer
    /// depends on nothing but the lines.
    pub(crate) fn is_full(&self, segment_bytes: u64) -> bool {
        self.length + self.pending.len() as u64 >= segment_bytes
    }

    /// Goes on in a new segment, whose first record is `first`. Only right after
    /// [`write`](Self::write).
    pub(crate) fn begin(&mut self, first: u64) {
        self.ended.push((self.name.clone(), self.length));
        self.go_on(first, 0);
    }

    fn go_on(&mut self, first: u64, copy: u32) {
        if let Item::Segment { first: number, .. } = &mut self.name.item {
            *number = first;
        }
        self.name.copy = copy;
        self.length = 0;
        self.file = None;
        self.moved = true;
    }

    /// Writes the lines taken. Their memory becomes `spare`, unless that is more or this too much.
    pub(crate) fn write(&mut self, spare: &mut Vec<u8>) -> io::Result<()> {
        while !self.pending.is_empty() {
            let opened = match self.file.take() {
                Some(opened) => opened,
                None => self.open()?,
            };
            match place(&opened, self.length, &self.pending)? {
                Placed::Whole => {
                    self.file = Some(opened);
                    self.length += self.pending.len() as u64;
                    // Not kept for the next here: there is one for each partition.
                    let mut memory = std::mem::take(&mut self.pending);
                    if (spare.capacity()..MOST_SPARE).contains(&memory.capacity()) {
                        memory.clear();
                        *spare = memory;
                    }
                    self.unsynced = true;
                    self.moved = true;
                }
                Placed::Foreign { own } => {
                    opened.file.sync_data()?;
                    if self.length > 0 || own > 0 {
                        // As it is: what differs is evidence.
                        let length = opened.file.metadata()?.len();
                        self.ended.push((self.name.clone(), length));
                    }
                    self.leave(own)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on in another segment with the lines behind the first `own` bytes of those pending,
    /// which are where they belong.
    fn leave(&mut self, own: usize) -> io::Result<()> {
        tracing::error!(
            segment = %self.name,
            byte = self.length + own as u64,
            "the segment holds bytes that were not written here; starting another one"
        );
        self.pending.drain(..own);
        let line = self.pending.split(|byte| *byte == b'\n').next();
        let next = Link::parse(line.unwrap_or_default()).map_err(io::Error::other)?;
        let copy = match &self.name.item {
            Item::Segment { first, .. } if *first == next.seq => self.name.copy + 1,
            _ => 0,
        };
        self.go_on(next.seq, copy);
        Ok(())
    }

    /// Forces the lines written to the disk; `true` if there were any.
    pub(crate) fn sync(&mut self) -> io::Result<bool> {
        if !self.unsynced {
            return Ok(false);
        }
        match &self.file {
            Some(opened) => opened.file.sync_data()?,
            None => self.open()?.file.sync_data()?,
        }
        self.unsynced = false;
        Ok(true)
    }

    /// Whether nothing would be lost by forgetting this value.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pending.is_empty() && !self.unsynced && !self.moved
    }

    fn path(&self) -> PathBuf {
        self.root.join(self.name.to_string())
    }

    fn open(&self) -> io::Result<Opened> {
        let path = self.path();
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let (file, writable) = match opened {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (File::open(path)?, false)
            }
            opened => (opened?, true),
        };
        Ok(Opened { file, writable })
    }
}

/// A segment's file.
struct Opened {
    file: File,
    /// Not if somebody has closed it for good.
    writable: bool,
}

/// What became of lines that were brought to their place.
enum Placed {
    /// All are there.
    Whole,
    /// Something else is there, but for `own` bytes of whole lines.
    Foreign { own: usize },
}

/// Brings `lines` to their place at `start`, unless other bytes are there.
fn place(opened: &Opened, start: u64, lines: &[u8]) -> io::Result<Placed> {
    let Opened { file, writable } = opened;
    let met = file.metadata()?;
    if met.len() < start {
        // A file that was cut short or removed: the gap is for `audit verify` to report. The
        // lines still go behind what there is, not behind a hole.
        return Ok(Placed::Foreign { own: 0 });
    }
    let present = usize::try_from(met.len() - start).unwrap_or(usize::MAX);
    let (done, missing) = lines.split_at(present.min(lines.len()));
    let mut there = vec![0; done.len()];
    file.read_exact_at(&mut there, start)?;
    let differs = std::iter::zip(&there, done).position(|(there, own)| there != own);
    let own = &done[..differs.unwrap_or(done.len())];
    let whole_lines = memchr::memrchr(b'\n', own).map_or(0, |newline| newline + 1);
    if differs.is_some() {
        return Ok(Placed::Foreign { own: whole_lines });
    }
    if missing.is_empty() {
        return Ok(Placed::Whole);
    }
    if !writable {
        return Ok(Placed::Foreign { own: whole_lines });
    }
    file.write_all_at(missing, start + done.len() as u64)?;
    Ok(Placed::Whole)
}

/// Writes `content` under `name`, which names one record, unless it is there already. Something
/// else that is there stays, and the record goes beside it. Nobody writes to it ever after.
pub(crate) fn write_object(root: &Path, name: &mut Name, content: &[u8]) -> io::Result<()> {
    loop {
        let path = root.join(name.to_string());
        match fs::read(&path) {
            Ok(there) if there == content => return Ok(()),
            Ok(_other_bytes) => name.copy += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return write_whole(&path, content);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Synced and renamed into place, so that nobody ever sees half of it, after a power cut neither.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    use io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let unfinished = path.with_extension("unfinished");
    // What a crash has left there could not be opened for writing.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&unfinished)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(SEALED_MODE))?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// What is final can be read by whoever is let into the directory, and written by nobody.
pub(crate) const SEALED_MODE: u32 = 0o444;

#[cfg(test)]
mod tests;
