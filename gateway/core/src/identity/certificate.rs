//! Client certificates that the listener has verified, as far as identity needs them.
//!
//! Which authority signed one and whether it holds is decided by the TLS stack before anything
//! here exists. Worst case: an authority that the operator trusts signs a name that is not its
//! bearer's.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// SHA-256 over the DER of a certificate, written as `x5t#S256` is (RFC 8705 section 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
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

impl Serialize for CertificateDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TryFrom<String> for CertificateDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
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

/// Not a name that one workload has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubjectName {
    /// Not a SPIFFE ID of a workload.
    #[error("a workload's SPIFFE ID is spiffe://trust-domain/path, without wildcards")]
    Spiffe,
    /// Not a host name.
    #[error("a DNS name is labels of letters, digits and hyphens, without wildcards")]
    Dns,
}

impl SubjectName {
    /// The SPIFFE ID of a workload.
    ///
    /// # Errors
    /// If it breaks the rules of the SPIFFE ID standard, section 2, or names a whole trust domain.
    pub fn spiffe(text: &str) -> Result<Self, InvalidSubjectName> {
        if is_workload_id(text) {
            Ok(Self::Uri(text.to_owned()))
        } else {
            Err(InvalidSubjectName::Spiffe)
        }
    }

    /// A host name, which is put into lower case.
    ///
    /// # Errors
    /// If no host can have it.
    pub fn dns(text: &str) -> Result<Self, InvalidSubjectName> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self::Dns(text.to_ascii_lowercase()))
        } else {
            Err(InvalidSubjectName::Dns)
        }
    }
}

/// The SPIFFE ID standard, section 2: at most 2048 bytes, a trust domain of lower case letters,
/// digits and `.-_`, and a path whose segments are neither empty nor relative. Nothing in it is
/// escaped, so equal names have equal bytes.
fn is_workload_id(text: &str) -> bool {
    const MAX_BYTES: usize = 2048;
    const MAX_TRUST_DOMAIN_BYTES: usize = 255;
    let Some((trust_domain, path)) = text
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'))
    else {
        return false;
    };
    let punctuation = |b: u8| matches!(b, b'.' | b'-' | b'_');
    let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || punctuation(b);
    let in_path = |b: u8| b.is_ascii_alphanumeric() || punctuation(b);
    let is_segment = |segment: &str| {
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(in_path)
    };
    text.len() <= MAX_BYTES
        && (1..=MAX_TRUST_DOMAIN_BYTES).contains(&trust_domain.len())
        && trust_domain.bytes().all(in_domain)
        && path.split('/').all(is_segment)
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(name) | Self::Dns(name) => f.write_str(name),
        }
    }
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
    /// The last second in which it is valid.
    pub not_after: Timestamp,
}

impl ClientCertificate {
    /// Whether it has ended. RFC 5280 section 4.1.2.5 counts the second of `notAfter` in, and so
    /// does the TLS stack.
    #[must_use]
    pub const fn has_ended(&self, now: Timestamp) -> bool {
        now.as_seconds() > self.not_after.as_seconds()
    }

    /// The names that an agent may be known by: every DNS name, and the SPIFFE ID.
    ///
    /// A certificate with more than one URI is not an X.509 SVID (its standard, section 2), and
    /// none of them is used.
    pub fn known_by(&self) -> impl Iterator<Item = &SubjectName> {
        let uris = self.names.iter().filter(|name| is_uri(name)).count();
        self.names.iter().filter(move |name| match name {
            SubjectName::Uri(uri) => uris == 1 && is_workload_id(uri),
            SubjectName::Dns(_) => true,
        })
    }
}

const fn is_uri(name: &SubjectName) -> bool {
    matches!(name, SubjectName::Uri(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_names_one_workload_in_one_way() {
        let long = format!("spiffe://a/{}", "x".repeat(2048));
        for good in [
            "spiffe://prod.example/ns/acme/sa/support-bot",
            "spiffe://a/b",
            "spiffe://trust_domain-1.example/A.b_c-9/...",
        ] {
            assert_eq!(
                SubjectName::spiffe(good),
                Ok(SubjectName::Uri(good.to_owned()))
            );
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe://prod.example",
            "spiffe://prod.example/",
            "spiffe:///ns/acme",
            "spiffe://Prod.example/ns",
            "SPIFFE://prod.example/ns",
            "https://prod.example/ns",
            "spiffe://prod.example:443/ns",
            "spiffe://user@prod.example/ns",
            "spiffe://prod.example/ns/",
            "spiffe://prod.example//ns",
            "spiffe://prod.example/a/../ns",
            "spiffe://prod.example/./ns",
            "spiffe://prod.example/n%73",
            "spiffe://prod.example/ns?a=b",
            "spiffe://prod.example/ns#a",
            "spiffe://prod.example/ns/*",
            "spiffe://prod.example/ns/acme\0",
            "spiffe://pröd.example/ns",
            &long,
        ] {
            assert_eq!(
                SubjectName::spiffe(bad),
                Err(InvalidSubjectName::Spiffe),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_dns_name_is_a_host_in_lower_case() {
        for good in ["bot.acme.example", "BOT.Acme.Example", "localhost", "a_b.c"] {
            let lower = good.to_ascii_lowercase();
            assert_eq!(SubjectName::dns(good), Ok(SubjectName::Dns(lower)));
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "*.acme.example",
            "-a.b",
            "a-.b",
            "a b",
            "a/b",
            "bücher.example",
            &long,
        ] {
            assert_eq!(SubjectName::dns(bad), Err(InvalidSubjectName::Dns), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_known_by_its_hosts_and_its_only_uri_if_that_is_a_spiffe_id() {
        let uri = |text: &str| SubjectName::Uri(text.to_owned());
        let dns = |text: &str| SubjectName::Dns(text.to_owned());
        let known_by = |names: &[SubjectName]| {
            let certificate = ClientCertificate {
                digest: CertificateDigest::new([1; 32]),
                names: names.to_vec(),
                not_before: Timestamp::from_seconds(0),
                not_after: Timestamp::from_seconds(1),
            };
            certificate.known_by().cloned().collect::<Vec<_>>()
        };
        let (id, other) = (uri("spiffe://a/b"), uri("spiffe://a/c"));
        let (host, second) = (dns("b.example"), dns("c.example"));
        assert_eq!(known_by(&[]), []);
        assert_eq!(
            known_by(&[id.clone(), host.clone()]),
            [id.clone(), host.clone()]
        );
        let only_host = std::slice::from_ref(&host);
        assert_eq!(known_by(&[id.clone(), other, host.clone()]), only_host);
        assert_eq!(known_by(&[id, uri("https://a/b"), host.clone()]), only_host);
        assert_eq!(known_by(&[uri("https://a/b")]), []);
        assert_eq!(known_by(&[host.clone(), second.clone()]), [host, second]);
    }

    #[test]
    fn a_certificate_is_good_to_the_end_of_its_last_second() {
        let certificate = ClientCertificate {
            digest: CertificateDigest::new([1; 32]),
            names: Vec::new(),
            not_before: Timestamp::from_seconds(0),
            not_after: Timestamp::from_seconds(10),
        };
        for (micros, ended) in [(9_999_999, false), (10_999_999, false), (11_000_000, true)] {
            let now = Timestamp::from_micros(micros);
            assert_eq!(certificate.has_ended(now), ended, "{micros}");
        }
    }

    #[test]
    fn a_digest_is_read_back_as_it_was_written() {
        let digest = CertificateDigest::new([0xfb; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "AAAA", "not base64url at all", &"A".repeat(44)] {
            assert_eq!(wrong.parse::<CertificateDigest>(), Err(InvalidDigest));
        }
    }
}
