//! Which prices are in force, and where they come from.
//!
//! The catalogue is the built-in one or the last one installed under `prices/` of the data
//! directory; the operator's file, named in `gateway.toml`, wins over it. Catalogues that were
//! installed stay there, each under its own hash, so that old records can be priced as they were.
//! Worst case: a file that cannot be read stops a start; while the gateway runs, the prices in
//! force stay.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tollgate_core::price::PriceBook;
use tollgate_core::shared_str::SharedStr;
use tollgate_core::time::Timestamp;

use crate::config::Settings;

/// The files that prices are made from.
#[derive(Debug, Clone)]
pub(crate) struct PriceFiles {
    /// Where catalogues are installed.
    installed: PathBuf,
    operator: Option<PathBuf>,
}

/// What shows that a file is another one than before.
type Print = Option<(u64, Option<SystemTime>)>;

impl PriceFiles {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            installed: settings.data_dir.join("prices"),
            operator: settings.prices_file.clone(),
        }
    }

    /// The prices in force.
    ///
    /// # Errors
    /// If a file cannot be read or used.
    pub(crate) fn load(&self) -> anyhow::Result<PriceBook> {
        let current = self.current();
        let base = match fs::read_to_string(&current) {
            Ok(name) => {
                let path = self.installed.join(name.trim());
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("{} cannot be read", path.display()))?;
                PriceBook::from_catalogue(&text)
                    .with_context(|| format!("{} cannot be used", path.display()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => PriceBook::embedded()?,
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", current.display()));
            }
        };
        self.with_operators(base)
    }

    /// The prices as they would be with another catalogue.
    ///
    /// # Errors
    /// If it, or the operator's file, cannot be used.
    pub(crate) fn with_catalogue(&self, text: &str) -> anyhow::Result<PriceBook> {
        let base = PriceBook::from_catalogue(text).context("the catalogue cannot be used")?;
        self.with_operators(base)
    }

    fn with_operators(&self, base: PriceBook) -> anyhow::Result<PriceBook> {
        let Some(path) = &self.operator else {
            return Ok(base);
        };
        let text = fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        base.with_file(&text)
            .with_context(|| format!("{} cannot be used", path.display()))
    }

    /// Puts a catalogue in force: whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn install(&self, text: &str) -> anyhow::Result<PathBuf> {
        let hash = Sha256::digest(text.as_bytes());
        let hash: String = hash
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = format!("catalogue-{hash}.json");
        let path = self.installed.join(&name);
        fs::create_dir_all(&self.installed)
            .and_then(|()| write_whole(&path, text))
            .and_then(|()| write_whole(&self.current(), &format!("{name}\n")))
            .and_then(|()| File::open(&self.installed)?.sync_all())
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    /// Goes back to the built-in catalogue.
    ///
    /// # Errors
    /// If the file that names another one cannot be removed.
    pub(crate) fn uninstall(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.current()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("the installed catalogue cannot be set aside")
            }
            _ => Ok(()),
        }
    }

    /// When the catalogue in force was installed, if it is not the built-in one.
    pub(crate) fn installed_at(&self) -> Option<Timestamp> {
        let installed = fs::metadata(self.current()).ok()?.modified().ok()?;
        let since = installed.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let micros = i64::try_from(since.as_micros()).ok()?;
        Some(Timestamp::from_micros(micros))
    }

    /// The file that names the catalogue in force.
    fn current(&self) -> PathBuf {
        self.installed.join("current")
    }

    /// What tells whether anything has changed.
    pub(crate) fn prints(&self) -> [Print; 2] {
        let print = |path: &Path| {
            let of = fs::metadata(path).ok()?;
            Some((of.len(), of.modified().ok()))
        };
        [
            print(&self.current()),
            self.operator.as_deref().and_then(print),
        ]
    }
}

/// Writes beside and renames, so that a reader finds the old text or the new one.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)
}

/// Looks whether the files have changed, and reads them again when they have come to rest.
pub(crate) struct PriceWatch {
    files: PriceFiles,
    seen: [Print; 2],
    candidate: Option<[Print; 2]>,
    version: SharedStr,
}

impl PriceWatch {
    /// Reads the first prices.
    ///
    /// # Errors
    /// If a file cannot be read or used.
    pub(crate) fn open(files: PriceFiles) -> anyhow::Result<(PriceBook, Self)> {
        // Looked at before it is read, so that a change in between is seen as one later.
        let seen = files.prints();
        let book = files.load()?;
        let watch = Self {
            seen,
            candidate: None,
            version: book.version().to_owned(),
            files,
        };
        Ok((book, watch))
    }

    /// `Some` if there was a change and it has settled: the new prices, or why they cannot be used.
    pub(crate) fn look(&mut self) -> Option<anyhow::Result<PriceBook>> {
        let now = self.files.prints();
        if now == self.seen {
            self.candidate = None;
            return None;
        }
        if self.candidate != Some(now) {
            self.candidate = Some(now);
            return None;
        }
        self.candidate = None;
        self.seen = now;
        match self.files.load() {
            Ok(book) if *book.version() == self.version => None,
            Ok(book) => {
                book.version().clone_into(&mut self.version);
                Some(Ok(book))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> PriceFiles {
        PriceFiles {
            installed: dir.join("prices"),
            operator: Some(dir.join("mine.json")),
        }
    }

    const NOTHING: &str = r#"{"format": 1, "overrides": []}"#;
    const CHEAP: &str = r#"{"format": 1, "overrides": [{"provider": "openai", "model": "gpt-4.1",
        "prices": {"input_mtok": "1", "output_mtok": "4"}, "why": "our contract"}]}"#;

    #[test]
    fn a_change_is_taken_once_it_has_come_to_rest_and_a_mistake_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let mine = dir.path().join("mine.json");
        fs::write(&mine, NOTHING).unwrap();
        let (book, mut watch) = PriceWatch::open(files).unwrap();
        assert!(watch.look().is_none());
        fs::write(&mine, CHEAP).unwrap();
        assert!(watch.look().is_none(), "it may still be being written");
        let cheap = watch.look().expect("a change").expect("good prices");
        assert_ne!(cheap.version(), book.version());
        assert!(watch.look().is_none());
        fs::write(&mine, "{").unwrap();
        assert!(watch.look().is_none());
        assert!(watch.look().expect("a change").is_err());
        assert!(watch.look().is_none(), "told once");
        fs::write(&mine, CHEAP).unwrap();
        assert!(watch.look().is_none());
        assert!(watch.look().is_none(), "the prices in force all the while");
    }

    #[test]
    fn an_installed_catalogue_wins_over_the_built_in_one_until_it_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        fs::write(dir.path().join("mine.json"), NOTHING).unwrap();
        let built_in = files.load().unwrap();
        let text = r#"{"providers": [{"id": "openai", "models": [{"id": "only-one",
            "match": {"equals": "only-one"}, "prices": {"input_mtok": 1, "output_mtok": 2}}]}]}"#;
        let path = files.install(text).unwrap();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let book = files.load().unwrap();
        assert!(book.rates("openai", "only-one", now).is_some());
        files.uninstall().unwrap();
        assert_eq!(files.load().unwrap().version(), built_in.version());
        assert!(path.exists(), "old records name it");
    }
}
