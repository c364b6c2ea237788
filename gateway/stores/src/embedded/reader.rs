//! Reads records back from the partitions, for reports.
//!
//! Only the directories of the tenants asked for are opened. Works while a gateway writes: a last
//! line that is not finished is left out. Worst case: a record that was tampered with so that it
//! is no longer one ends the reading with an error that names the file.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tollgate_core::audit::{Day, ROOT};
use tollgate_core::ids::TenantId;
use tollgate_core::record::Record;
use tollgate_core::time::Timestamp;

/// Records cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or directory cannot be read.
    #[error("{} cannot be read", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// A finished line is not a record.
    #[error("{} line {line} is not a record", .path.display())]
    NotARecord {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// What is wrong with it.
        #[source]
        cause: serde_json::Error,
    },
}

/// The records kept in a data directory.
pub struct Audit {
    root: PathBuf,
}

impl Audit {
    /// The records of the gateway that keeps its data in `data_dir`.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self {
            root: data_dir.join(ROOT),
        }
    }

    /// The tenants that have records.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub fn tenants(&self) -> Result<Vec<TenantId>, ReadError> {
        let names = list(&self.root)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The records of `tenant` that began at `from` or later and before `to`, in no fixed order.
    ///
    /// # Errors
    /// If a directory cannot be listed. Each record can fail on its own.
    pub fn records(
        &self,
        tenant: &TenantId,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<impl Iterator<Item = Result<Record, ReadError>> + use<>, ReadError> {
        let mut files = Vec::new();
        for (date, dir) in days(&self.root.join(tenant.as_str()))? {
            let asked = from.is_none_or(|from| date >= from.date())
                && to.is_none_or(|to| date <= to.date());
            if asked {
                collect_files(&dir, &mut files)?;
            }
        }
        let records = files.into_iter().flat_map(Lines::of);
        Ok(records.filter(move |record| match record {
            Ok(record) => {
                let at = record.subject.started_at;
                from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to)
            }
            Err(_) => true,
        }))
    }
}

/// The `date={yyyy}-{mm}-{dd}` and `{yyyy}/{mm}/{dd}` directories below `root`.
fn days(root: &Path) -> Result<Vec<(Day, PathBuf)>, ReadError> {
    let mut days = Vec::new();
    for name in list(root)? {
        let dir = root.join(&name);
        if let Some(date) = name.strip_prefix("date=") {
            days.extend(date.parse().map(|date| (date, dir)));
            continue;
        }
        for month in list(&dir)? {
            let dir = dir.join(&month);
            for day in list(&dir)? {
                let date = format!("{name}-{month}-{day}").parse();
                days.extend(date.map(|date| (date, dir.join(day))));
            }
        }
    }
    Ok(days)
}

fn collect_files(day: &Path, files: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    for name in list(day)? {
        let path = day.join(&name);
        if path.is_dir() {
            let objects = list(&path)?
                .into_iter()
                .filter(|name| name.ends_with(".json"));
            files.extend(objects.map(|name| path.join(name)));
        } else if name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    Ok(())
}

/// The names in a directory, ascending; none if it is not there or is not a directory.
fn list(dir: &Path) -> Result<Vec<String>, ReadError> {
    let failed = |error| ReadError::Io(dir.to_owned(), error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The records of one file.
struct Lines {
    path: PathBuf,
    source: Source,
    line: usize,
}

enum Source {
    Open(BufReader<File>),
    Unreadable(io::Error),
    Done,
}

impl Lines {
    fn of(path: PathBuf) -> Self {
        let source = match File::open(&path) {
            Ok(file) => Source::Open(BufReader::new(file)),
            Err(error) => Source::Unreadable(error),
        };
        Self {
            path,
            source,
            line: 0,
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let read = self.read()?;
            if let Some(read) = read {
                return Some(read);
            }
        }
    }
}

/// What tells a notice from a call's record.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "tollgate.event", borrow)]
    _kind: Cow<'a, str>,
}

impl Lines {
    /// The next line: a call's record, or `Some(None)` for another event.
    #[expect(
        clippy::option_option,
        reason = "the end of the file and a line to pass over differ"
    )]
    fn read(&mut self) -> Option<Option<Result<Record, ReadError>>> {
        let mut file = match std::mem::replace(&mut self.source, Source::Done) {
            Source::Open(file) => file,
            Source::Unreadable(error) => {
                return Some(Some(Err(ReadError::Io(self.path.clone(), error))));
            }
            Source::Done => return None,
        };
        let mut line = Vec::new();
        if let Err(error) = file.read_until(b'\n', &mut line) {
            return Some(Some(Err(ReadError::Io(self.path.clone(), error))));
        }
        let json = line.strip_suffix(b"\n")?;
        self.line += 1;
        self.source = Source::Open(file);
        Some(match serde_json::from_slice(json) {
            Ok(record) => Some(Ok(record)),
            Err(_) if serde_json::from_slice::<Event<'_>>(json).is_ok() => None,
            Err(cause) => Some(Err(ReadError::NotARecord {
                path: self.path.clone(),
                line: self.line,
                cause,
            })),
        })
    }
}
