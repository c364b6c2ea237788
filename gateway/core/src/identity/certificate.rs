//! Client certificates that the listener has verified, as far as identity needs them.
//!
//! Which authority signed one and whether it holds is decided by the TLS stack before anything
//! here exists. Worst case: an authority that the operator trusts signs a name that is not its
//! bearer's.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::time::Timestamp;

/// SHA-256 over the DER of a certificate, written as `x5t#S256` is (RFC 8705 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateDigest([u8; 32]);

impl CertificateDigest {
    /// Takes the digest over.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }
}

impl fmt::Display for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateDigest({self})")
    }
}

/// Not a SHA-256 in base64url without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate's digest is 43 characters of base64url")]
pub struct InvalidDigest;

impl FromStr for CertificateDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_not_base64url| InvalidDigest)?;
        let digest = bytes
            .try_into()
            .map_err(|_other_length: Vec<u8>| InvalidDigest)?;
        Ok(Self(digest))
    }
}

/// A name that a certificate gives its bearer (RFC 5280 section 4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SubjectName {
    /// A URI, as SPIFFE IDs are.
    Uri(String),
    /// A DNS name, in lower case.
    Dns(String),
}

/// A client certificate that has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Which one.
    pub digest: CertificateDigest,
    /// Its subject alternative names.
    pub names: Vec<SubjectName>,
    /// The first moment it is valid.
    pub not_before: Timestamp,
    /// The last moment it is valid.
    pub not_after: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_back_as_it_was_written() {
        let digest = CertificateDigest::new([0xfb; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "AAAA", "not base64url at all", &"A".repeat(44)] {
            assert_eq!(wrong.parse::<CertificateDigest>(), Err(InvalidDigest));
        }
    }
}
