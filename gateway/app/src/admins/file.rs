//! The file of admin credentials, `data/keys/admins.json`: read whole, changed whole.
//!
//! It is read anew for every request to the admin API, so that a change holds from the next one
//! on; those requests are few, and the file is small. Writers take turns by a lock on its
//! directory, and readers see the old file or the new one. Worst case: a file that somebody has
//! spoilt; then nobody is let in until it is mended, and calls of agents go on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tollgate_admin::credentials::{
    Credential, CredentialDigest, CredentialSource, Credentials, Role,
};
use tollgate_core::budget::StoreError;
use tollgate_core::time::Timestamp;

use crate::data_dir::DataDir;
use crate::private_file;

/// The credential that a first start makes.
const BOOTSTRAP: &str = "bootstrap";

/// The most that is read, in bytes: thousands of credentials.
const MAX_BYTES: u64 = 1024 * 1024;

/// The credentials of one data directory.
pub(crate) struct AdminFile {
    dir: PathBuf,
    path: PathBuf,
}

/// Why it is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("others than its owner can use it; {how}", how = private_file::HOW_TO_CLOSE)]
    Open,
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
}

impl AdminFile {
    /// Names the file without touching it.
    pub(crate) fn of(data: &DataDir) -> Self {
        let dir = data.path().join("keys");
        let path = dir.join("admins.json");
        Self { dir, path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it if there is none: with the credential `bootstrap`, an operator's, whose text is in
    /// `keys/admin.token`. A file that is there stays as it is, whoever has been removed from it.
    ///
    /// # Errors
    /// If it cannot be written, or the token not be made.
    pub(crate) fn prepare(&self, data: &DataDir, now: Timestamp) -> anyhow::Result<()> {
        let _turn = self.lock()?;
        // A link that leads nowhere now is there, too.
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| self.path.display().to_string()),
            Ok(_) => return Ok(()),
        }
        let mut all = Credentials::default();
        all.add(Credential {
            name: BOOTSTRAP.parse()?,
            role: Role::Operator,
            digest: CredentialDigest::of(&data.make_admin_token()?),
            created_at: now,
            expires_at: None,
        })?;
        self.write(&all)
    }

    /// What it says.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub(crate) fn read(&self) -> anyhow::Result<Credentials> {
        let shown = self.path.display();
        let text = self.text();
        let text = text.with_context(|| format!("{shown} cannot be read"))?;
        Credentials::parse(&text).with_context(|| format!("{shown} cannot be understood"))
    }

    /// Changes it, or leaves it as it is if `change` fails.
    ///
    /// # Errors
    /// If it cannot be read, changed or written.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Credentials) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let _turn = self.lock()?;
        let mut all = self.read()?;
        let changed = change(&mut all)?;
        self.write(&all)?;
        Ok(changed)
    }

    fn text(&self) -> io::Result<String> {
        let file = File::open(&self.path)?;
        let met = file.metadata()?;
        if private_file::is_open_to_others(&met) {
            return Err(io::Error::new(ErrorKind::PermissionDenied, Unusable::Open));
        }
        let mut text = String::new();
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
        if read as u64 > MAX_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, Unusable::TooLong));
        }
        Ok(text)
    }

    /// Held until the file is dropped.
    fn lock(&self) -> anyhow::Result<File> {
        let shown = self.dir.display();
        let dir = File::open(&self.dir).with_context(|| format!("{shown} cannot be opened"))?;
        dir.lock()
            .with_context(|| format!("{shown} cannot be locked"))?;
        Ok(dir)
    }

    fn write(&self, all: &Credentials) -> anyhow::Result<()> {
        let aside = self.path.with_extension("json.new");
        let written = || -> io::Result<()> {
            // One that was left behind by a crash may have other permissions.
            match fs::remove_file(&aside) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(all.to_text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, &self.path)?;
            File::open(&self.dir)?.sync_all()
        };
        written().with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

impl CredentialSource for AdminFile {
    fn current(&self) -> Result<Credentials, StoreError> {
        let failed = |cause| StoreError {
            operation: "read",
            store: "admin credential",
            cause,
        };
        let text = self.text().map_err(|error| failed(Box::new(error)))?;
        Credentials::parse(&text).map_err(|error| failed(Box::new(error)))
    }
}

/// Makes sure that the gateway has somebody to obey, if this is its first start.
///
/// # Errors
/// As [`AdminFile::prepare`], or if there is a file that cannot be understood: a start is the time
/// to say so, when somebody is watching.
pub(crate) fn at_start(data: &DataDir, now: Timestamp) -> anyhow::Result<AdminFile> {
    let file = AdminFile::of(data);
    file.prepare(data, now)?;
    if file.read()?.all().is_empty() {
        bail!(
            "{} names nobody; add somebody with `tollgate admin add`, or remove the file to start \
             with the token in keys/admin.token",
            file.path().display()
        );
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().expect("a time")
    }

    fn prepared() -> (tempfile::TempDir, DataDir, AdminFile) {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::prepare(parent.path()).expect("prepared");
        let file = at_start(&data, now()).expect("made");
        (parent, data, file)
    }

    fn names(all: &Credentials) -> Vec<String> {
        let names = all.all().iter().map(|one| one.name.to_string());
        names.collect()
    }

    #[test]
    fn a_first_start_takes_the_token_there_is_and_a_later_one_changes_nothing() {
        let (_parent, data, file) = prepared();
        let token = data.admin_token().expect("a token");
        let found = file.read().expect("credentials");
        let bootstrap = found.find(&token, now()).expect("the token opens");
        assert_eq!(
            (bootstrap.name.as_str(), &bootstrap.role),
            (BOOTSTRAP, &Role::Operator)
        );
        let text = fs::read_to_string(file.path()).expect("text");
        assert!(!text.contains(&token), "{text}");
        let mode = fs::metadata(file.path())
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        let admin_token = data.path().join("keys/admin.token");
        fs::rename(&admin_token, data.path().join("elsewhere")).expect("moved");
        at_start(&data, now()).expect("works on without it");
        assert!(!admin_token.exists(), "it is not made again");
        assert_eq!(fs::read_to_string(file.path()).expect("text"), text);
    }

    #[test]
    fn a_file_that_is_away_for_a_while_is_not_replaced_by_a_new_one() {
        let (parent, data, file) = prepared();
        let elsewhere = parent.path().join("mounted.json");
        fs::rename(file.path(), &elsewhere).expect("moved");
        std::os::unix::fs::symlink(&elsewhere, file.path()).expect("a link");
        at_start(&data, now()).expect("the link is followed");
        fs::remove_file(&elsewhere).expect("unmounted");
        assert!(at_start(&data, now()).is_err());
        assert!(!elsewhere.exists() && file.path().is_symlink());
    }

    #[test]
    fn who_was_removed_is_not_made_again() {
        let (_parent, data, file) = prepared();
        let mia: Credential = Credential {
            name: "mia".parse().expect("a name"),
            role: Role::Operator,
            digest: CredentialDigest::of("mia's"),
            created_at: now(),
            expires_at: None,
        };
        file.change(|all| Ok(all.add(mia)?)).expect("added");
        let bootstrap = BOOTSTRAP.parse().expect("a name");
        assert!(
            file.change(|all| Ok(all.remove(&bootstrap)))
                .expect("removed")
        );
        let again = at_start(&data, now()).expect("started");
        assert_eq!(names(&again.read().expect("credentials")), ["mia"]);
        let kept: anyhow::Result<()> = file.change(|all| {
            all.remove(&"mia".parse()?);
            bail!("no")
        });
        assert!(kept.is_err());
        assert_eq!(names(&file.read().expect("credentials")), ["mia"]);
    }

    #[test]
    fn a_file_that_is_spoilt_or_open_to_others_lets_nobody_in() {
        let (_parent, data, file) = prepared();
        let good = fs::read_to_string(file.path()).expect("text");
        let spoilt = [
            good[..good.len() / 2].to_owned(),
            String::new(),
            "x".repeat(2 * 1024 * 1024),
        ];
        for text in spoilt {
            fs::write(file.path(), text).expect("written");
            assert!(file.current().is_err());
            assert!(at_start(&data, now()).is_err());
        }
        fs::write(file.path(), &good).expect("written");
        assert!(file.current().is_ok());
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).expect("changed");
        assert!(file.current().is_err());
        fs::remove_file(file.path()).expect("removed");
        assert!(file.current().is_err());
    }
}
