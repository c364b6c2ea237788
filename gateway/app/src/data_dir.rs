//! The data directory: its permissions, and the keys that are made at first start.
//!
//! ```text
//! data/keys/issuer.pem   signs task tokens
//! data/keys/audit.key     signs the heads of the chains of records; audit.pub checks them
//! data/keys/admins.json  who may use the admin API, as hashes
//! data/keys/admin.token  the operator token made at first start, for commands on this machine
//! data/admin.addr        where the running gateway's admin API is
//! data/replica           who writes the chains of records here
//! data/handover.sock     where a new process asks the running one to hand over
//! ```
//! Whoever can read this directory can mint tokens for every tenant and decrypt every secret, so
//! it is made for its owner alone (0700) and the keys likewise (0600). Keys are made whole or not
//! at all, and never replaced: two starts at once end up with the same ones.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tollgate_core::audit::AuditKey;
use tollgate_core::identity::new_private_key;
use tollgate_core::ids::ReplicaId;
use zeroize::Zeroizing;

use crate::private_file;

/// Bits that let somebody else in.
const NOT_THE_OWNERS: u32 = 0o077;

/// A data directory.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// Names a directory without touching it.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the directory and its `keys` if they are missing.
    ///
    /// # Errors
    /// If they cannot be made.
    pub(crate) fn prepare(path: &Path) -> anyhow::Result<Self> {
        for dir in [path.to_owned(), path.join("keys")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .with_context(|| format!("{} cannot be made", dir.display()))?;
        }
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether others than its owner can enter it. Volumes are mounted so; it is worth a warning.
    pub(crate) fn is_open_to_others(&self) -> bool {
        fs::metadata(&self.0).is_ok_and(|met| met.permissions().mode() & NOT_THE_OWNERS != 0)
    }

    /// The key that signs task tokens, as PEM; made if there is none.
    ///
    /// # Errors
    /// If it cannot be read or made, or others can read it.
    pub(crate) fn issuer_key(&self) -> anyhow::Result<String> {
        self.key("issuer.pem", |random| new_private_key(random).to_string())
    }

    /// The key that signs checkpoints, made if there is none, with the public one beside it.
    ///
    /// # Errors
    /// As [`DataDir::issuer_key`].
    pub(crate) fn audit_key(&self) -> anyhow::Result<AuditKey> {
        let pem =
            Zeroizing::new(self.key("audit.key", |random| new_private_key(random).to_string())?);
        let path = self.0.join("keys/audit.key");
        let key = AuditKey::from_pem(&pem)
            .with_context(|| format!("{} cannot be used", path.display()))?;
        let path = path.with_extension("pub");
        let public = key.public().pem();
        if fs::read_to_string(&path).ok().as_deref() != Some(public) {
            // Another one belongs to another key, or is not whole.
            write_aside(&path, public, 0o644)
                .and_then(|aside| fs::rename(aside, &path))
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(key)
    }

    /// The operator token of the first start; made if there is none.
    ///
    /// # Errors
    /// As [`DataDir::issuer_key`].
    pub(crate) fn make_admin_token(&self) -> anyhow::Result<String> {
        let made = self.key("admin.token", |random| {
            let digits: Vec<String> = random.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("tga_{}\n", digits.concat())
        })?;
        Ok(made.trim().to_owned())
    }

    /// Who writes the chains of records here, if the settings do not say; made up if nobody is.
    ///
    /// # Errors
    /// If it cannot be read or made.
    pub(crate) fn replica(&self) -> anyhow::Result<ReplicaId> {
        let path = self.0.join("replica");
        let shown = path.display();
        if !path.exists() {
            let [first, second, third, ..] = random()?;
            let digits = format!("{first:02x}{second:02x}{third:02x}");
            let made = format!("r{}\n", digits.get(..5).unwrap_or_default());
            create(&path, &made).with_context(|| format!("{shown} cannot be made"))?;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("{shown} cannot be read"))?;
        let replica = text.trim().parse();
        replica.with_context(|| format!("{shown} does not hold a replica id"))
    }

    /// The token that opens the admin API of a gateway that runs here, or has.
    ///
    /// # Errors
    /// If there is none to read.
    pub(crate) fn admin_token(&self) -> anyhow::Result<String> {
        let path = self.0.join("keys/admin.token");
        let token = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} cannot be read; name the operator token in TOLLGATE_ADMIN_TOKEN",
                path.display()
            )
        })?;
        Ok(token.trim().to_owned())
    }

    /// Tells commands where the running gateway's admin API is.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn announce(&self, admin: SocketAddr) -> anyhow::Result<()> {
        let path = self.announcement();
        let aside = path.with_extension("addr.new");
        fs::write(&aside, format!("{admin}\n"))
            .and_then(|()| fs::rename(&aside, &path))
            .with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Takes the announcement back, unless another gateway has replaced it.
    pub(crate) fn withdraw(&self, admin: SocketAddr) {
        if self.announced().is_ok_and(|announced| announced == admin) {
            // Left behind, it sends commands to a port where nobody answers, and they say so.
            let _left_behind = fs::remove_file(self.announcement());
        }
    }

    /// Where the running gateway's admin API is.
    ///
    /// # Errors
    /// If no gateway says so.
    pub(crate) fn announced(&self) -> anyhow::Result<SocketAddr> {
        let path = self.announcement();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "no gateway runs on {}; start one with `tollgate serve`, or name one with --admin",
                self.0.display()
            ),
            read => read.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        let address = text.trim().parse();
        address.with_context(|| format!("{} does not hold an address", path.display()))
    }

    fn announcement(&self) -> PathBuf {
        self.0.join("admin.addr")
    }

    fn key(&self, name: &str, make: impl Fn(&[u8; 32]) -> String) -> anyhow::Result<String> {
        let path = self.0.join("keys").join(name);
        let shown = path.display();
        if !path.exists() {
            create(&path, &make(&random()?)).with_context(|| format!("{shown} cannot be made"))?;
        }
        let met = fs::metadata(&path).with_context(|| format!("{shown} cannot be read"))?;
        if private_file::is_open_to_others(&met) {
            let how = private_file::HOW_TO_CLOSE;
            bail!("others than its owner can read {shown}; {how}");
        }
        fs::read_to_string(&path).with_context(|| format!("{shown} cannot be read"))
    }
}

/// Writes a file that appears whole, unless there is one by then.
fn create(path: &Path, text: &str) -> std::io::Result<()> {
    let aside = write_aside(path, text, 0o600)?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// Writes a file under another name, to be put in its place.
fn write_aside(path: &Path, text: &str, mode: u32) -> std::io::Result<PathBuf> {
    let aside = path.with_extension(format!("new.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(aside)
}

/// 32 random bytes for a key.
///
/// # Errors
/// If the system gives none.
pub(crate) fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let provider = rustls::crypto::ring::default_provider();
    if provider.secure_random.fill(&mut bytes).is_err() {
        bail!("the system gives no random numbers");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_and_for_their_owner_alone() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("data");
        let data = DataDir::prepare(&path).expect("prepared");
        let issuer = data.issuer_key().expect("a key");
        let token = data.make_admin_token().expect("a token");
        assert!(issuer.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(token.len(), 68);
        assert_eq!(data.issuer_key().expect("the same key"), issuer);
        assert_eq!(data.admin_token().expect("the same token"), token);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("keys/issuer.pem")), 0o600);
        assert_eq!(mode(&path.join("keys/admin.token")), 0o600);
        assert!(!data.is_open_to_others());
        let left: Vec<_> = fs::read_dir(path.join("keys")).expect("keys").collect();
        assert_eq!(left.len(), 2, "nothing is left aside: {left:?}");
    }

    #[test]
    fn the_public_half_of_the_audit_key_lies_beside_it_for_everybody() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::prepare(parent.path()).expect("prepared");
        let key = data.audit_key().expect("made");
        let public = parent.path().join("keys/audit.pub");
        assert_eq!(
            fs::read_to_string(&public).expect("there"),
            key.public().pem()
        );
        assert_eq!(mode(&public), 0o644);
        assert_eq!(mode(&parent.path().join("keys/audit.key")), 0o600);
        fs::write(&public, "another").expect("writable");
        let again = data.audit_key().expect("kept");
        assert_eq!(again.public(), key.public());
        assert_eq!(
            fs::read_to_string(&public).expect("there"),
            key.public().pem()
        );
    }

    #[test]
    fn a_replica_is_made_up_once_and_what_is_no_id_is_an_error() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::prepare(parent.path()).expect("prepared");
        let made = data.replica().expect("made up");
        assert_eq!(made.as_str().len(), 6, "{made}");
        assert_eq!(data.replica().expect("kept"), made);
        fs::write(parent.path().join("replica"), "Eins").expect("writable");
        let refused = data.replica().expect_err("no id").to_string();
        assert!(refused.contains("does not hold a replica id"), "{refused}");
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::prepare(parent.path()).expect("prepared");
        data.issuer_key().expect("a key");
        let key = parent.path().join("keys/issuer.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("changed");
        let refused = data.issuer_key().expect_err("refused").to_string();
        assert!(refused.contains("0600"), "{refused}");
    }

    #[test]
    fn the_announcement_is_taken_back_by_its_owner_only() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = DataDir::prepare(parent.path()).expect("prepared");
        let missing = data.announced().expect_err("nobody").to_string();
        assert!(missing.contains("no gateway runs on"), "{missing}");
        let (ours, theirs) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        data.announce(theirs).expect("announced");
        data.withdraw(ours);
        assert_eq!(data.announced().expect("theirs"), theirs);
        data.withdraw(theirs);
        assert!(data.announced().is_err());
    }
}
