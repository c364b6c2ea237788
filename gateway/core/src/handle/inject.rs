//! Puts a fetched secret into the one place its binding names, and takes the client's own
//! credentials out.
//!
//! Either the request leaves with exactly one credential in it, or it does not leave: a secret
//! that cannot be written as it is, is an error. A secret is never searched for handles.
//! Worst case: the bytes of a query or body that carries a secret are not wiped when it is
//! dropped.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::bind::Bound;
use super::field;
use super::search::decoded;
use crate::identity::{strip, strips_parameter};
use crate::policy::Place;
use crate::secret::Secret;

/// The longest secret that is sent, in bytes; most servers take no longer header.
pub const MAX_SECRET_BYTES: usize = 8 * 1024;

/// Why a secret cannot be sent. Nothing of the secret is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// It is longer than [`MAX_SECRET_BYTES`].
    #[error("the secret is longer than {MAX_SECRET_BYTES} bytes")]
    TooLong,
    /// It has a control character, a byte outside ASCII, or a space at an end.
    #[error("the secret holds bytes that cannot be sent")]
    Unsendable,
    /// The credential signs the request and is no part of it.
    #[error("the secret signs requests and is never sent")]
    Signs,
    /// The call was bound to no credential.
    #[error("no secret belongs to this call")]
    Unbound,
    /// The field of the body that it goes into is not there.
    #[error("the field that the secret goes into is not there")]
    NoField,
}

/// Whether a secret can be sent as it is: visible ASCII, with spaces only inside.
///
/// # Errors
/// The rule it breaks.
pub fn check_sendable(secret: &Secret) -> Result<(), InvalidSecret> {
    let bytes = secret.expose();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err(InvalidSecret::Empty);
    };
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(InvalidSecret::TooLong);
    }
    let is_visible = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    if is_visible && *first != b' ' && *last != b' ' {
        Ok(())
    } else {
        Err(InvalidSecret::Unsendable)
    }
}

impl Bound {
    /// Takes every credential of the client's own, its token and everything meant for the
    /// gateway out of the request. For calls that bear no credential; [`Bound::inject`] does it
    /// too.
    pub fn strip(&self, headers: &mut HeaderMap, query: &mut Option<String>) {
        strip(headers);
        self.rewrite_query(query, None);
    }

    /// Makes `secret` the only credential of the request. Returns the body to send instead of
    /// `body`, where the secret goes into the body, which then must be there as a whole.
    ///
    /// # Errors
    /// If the secret cannot be sent as it is, or there is no such field in the body; the request
    /// is then unchanged and must not leave.
    pub fn inject(
        &self,
        headers: &mut HeaderMap,
        query: &mut Option<String>,
        body: Option<&[u8]>,
        secret: &Secret,
    ) -> Result<Option<Vec<u8>>, InvalidSecret> {
        let credential = self.credential.as_ref().ok_or(InvalidSecret::Unbound)?;
        check_sendable(secret)?;
        match &credential.binding.place {
            Place::AwsSigv4 { .. } => return Err(InvalidSecret::Signs),
            Place::Header { name, prefix } => {
                let value = header_value(prefix.as_bytes(), secret.expose())?;
                self.put_header(headers, query, name, value);
            }
            Place::Basic => {
                let mut pair = Zeroizing::new(self.user.clone());
                pair.push(b':');
                pair.extend_from_slice(secret.expose());
                let encoded = Zeroizing::new(STANDARD.encode(&*pair));
                let value = header_value(b"Basic ", encoded.as_bytes())?;
                self.put_header(headers, query, &AUTHORIZATION, value);
            }
            Place::Query { name } => {
                strip(headers);
                let value = Zeroizing::new(percent_encoded(secret.expose()));
                self.rewrite_query(query, Some((name, &value)));
            }
            place @ (Place::JsonField { .. } | Place::FormField { .. }) => {
                let written = body.and_then(|body| field::replaced(body, place, secret));
                let written = written.ok_or(InvalidSecret::NoField)?;
                self.strip(headers, query);
                return Ok(Some(written));
            }
        }
        Ok(None)
    }

    fn put_header(
        &self,
        headers: &mut HeaderMap,
        query: &mut Option<String>,
        name: &HeaderName,
        value: HeaderValue,
    ) {
        self.strip(headers, query);
        headers.insert(name.clone(), value);
    }

    /// Drops the client's credentials from a query and puts `credential` where the parameter of
    /// its name stood first, else at the end. Every other parameter keeps its bytes and place.
    fn rewrite_query(&self, query: &mut Option<String>, credential: Option<(&str, &str)>) {
        let mut written = false;
        let mut kept = Vec::new();
        let mut put = |kept: &mut Vec<_>| {
            if let Some((name, value)) = credential.filter(|_| !written) {
                let name = percent_encoded(name.as_bytes());
                kept.push(format!("{name}={value}"));
                written = true;
            }
        };
        for parameter in query.iter().flat_map(|query| query.split('&')) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decoded(name), decoded(value));
            let name = String::from_utf8_lossy(&name);
            let value = String::from_utf8_lossy(&value);
            if credential.is_some_and(|(declared, _)| declared == name) {
                put(&mut kept);
            } else if !strips_parameter(&name, &value, self.key_is_credential) {
                kept.push(parameter.to_owned());
            }
        }
        put(&mut kept);
        // `?` with nothing behind it stays as the client wrote it.
        let is_empty = query.as_deref() == Some("") && kept.len() <= 1 && !written;
        *query = (is_empty || !kept.is_empty()).then(|| kept.join("&"));
    }
}

/// `secret` can be sent as it is. So once `prefix` can be too, the value takes the bytes over, and
/// there is no other copy of them to wipe.
fn header_value(prefix: &[u8], secret: &[u8]) -> Result<HeaderValue, InvalidSecret> {
    let is_sendable = |byte: &u8| !byte.is_ascii_control() || *byte == b'\t';
    if !prefix.iter().all(is_sendable) {
        return Err(InvalidSecret::Unsendable);
    }
    let mut value = HeaderValue::try_from([prefix, secret].concat())
        .map_err(|_not_sendable| InvalidSecret::Unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// RFC 3986 section 2.3: everything but the unreserved characters as `%XX`.
pub(crate) fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _written = write!(text, "%{byte:02X}");
        }
    }
    text
}
