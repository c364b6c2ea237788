//! The key pair of a scope, and what is encrypted to it.
//!
//! Encrypting needs the `.pub` file only, so a machine that sets secrets need not be able to
//! read any. Worst case: without its `.key` file a scope's secrets are lost and must be set
//! again; there is no second key to them.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::iter;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use tollgate_core::secret::Secret;
use tollgate_core::vault::VaultScope;
use zeroize::Zeroizing;

use super::super::{MAX_STORED_BYTES, boxed};
use super::files;

/// Encrypts to a scope's key, which is made first if there is none.
pub(super) fn encrypt(keys: &Path, scope: &VaultScope, secret: &Secret) -> io::Result<Vec<u8>> {
    let recipient = recipient(keys, scope)?;
    age::encrypt(&recipient, secret.expose()).map_err(io::Error::other)
}

/// Decrypts a file with a scope's key.
pub(super) fn decrypt(keys: &Path, scope: &VaultScope, path: &Path) -> io::Result<Secret> {
    let identity = read_identity(&identity_path(keys, scope))?;
    let file = BufReader::new(File::open(path)?);
    let decryptor = age::Decryptor::new_buffered(file).map_err(io::Error::other)?;
    let reader = decryptor
        .decrypt(iter::once(&identity as &dyn age::Identity))
        .map_err(io::Error::other)?;
    // The buffer never grows, so no part of the secret is left in memory that was given back.
    let limit = MAX_STORED_BYTES.saturating_add(1);
    let mut plain = Zeroizing::new(vec![0; limit]);
    let mut reader = reader.take(u64::try_from(limit).unwrap_or(u64::MAX));
    let mut len = 0;
    loop {
        let free = plain.get_mut(len..).unwrap_or_default();
        match reader.read(free)? {
            0 => break,
            read => len = len.saturating_add(read),
        }
    }
    if len == limit {
        return Err(io::Error::other("longer than any secret that was stored"));
    }
    Ok(boxed(Zeroizing::new(
        plain.get(..len).unwrap_or_default().to_vec(),
    )))
}

fn identity_path(keys: &Path, scope: &VaultScope) -> PathBuf {
    keys.join(format!("{scope}.key"))
}

fn recipient_path(keys: &Path, scope: &VaultScope) -> PathBuf {
    keys.join(format!("{scope}.pub"))
}

fn recipient(keys: &Path, scope: &VaultScope) -> io::Result<Recipient> {
    let path = recipient_path(keys, scope);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(keys, scope),
        read => read?.trim().parse().map_err(io::Error::other),
    }
}

/// Makes the key pair, or only the missing public half of it.
fn make(keys: &Path, scope: &VaultScope) -> io::Result<Recipient> {
    let _turn = files::Lock::on(keys)?;
    let path = identity_path(keys, scope);
    let identity = match read_identity(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity::generate();
            let text = identity.to_string();
            files::replace(&path, format_line(text.expose_secret()).as_bytes())?;
            identity
        }
        read => read?,
    };
    let recipient = identity.to_public();
    let text = format!("{recipient}\n");
    files::replace(&recipient_path(keys, scope), text.as_bytes())?;
    Ok(recipient)
}

fn format_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("{text}\n"))
}

fn read_identity(path: &Path) -> io::Result<Identity> {
    let text = Zeroizing::new(fs::read_to_string(path)?);
    // The parser's message would quote the key.
    text.trim()
        .parse()
        .map_err(|_text: &str| io::Error::other("the scope's key file holds no age identity"))
}
