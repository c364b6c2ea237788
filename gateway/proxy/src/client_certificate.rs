//! Client certificates: who may have signed one, and what a verified one says.
//!
//! The TLS stack judges signature, chain, validity and purpose (`clientAuth`) during the
//! handshake; what comes here has passed. Nobody is asked whether a certificate was revoked: their
//! lives are short, and agents are revoked in the registry. The subject's common name is never
//! looked at. Worst case: an authority in the file signs somebody else's name.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};
use tollgate_core::identity::{CertificateDigest, ClientCertificate, SubjectName};
use tollgate_core::time::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// A certificate that the TLS stack believes, but whose names or times cannot be read in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate cannot be read")]
pub(crate) struct Unreadable;

/// Who judges client certificates: the authorities in a PEM file, and nobody else.
pub(crate) fn verifier(
    authorities: &Path,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(authorities);
    for authority in read.map_err(|error| error.to_string())? {
        let added = authority.map(|authority| roots.add(authority));
        added
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let verifier = builder.build().map_err(|error| error.to_string())?;
    Ok(verifier)
}

/// What a verified certificate says.
pub(crate) fn read(der: &[u8]) -> Result<ClientCertificate, Unreadable> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_not_a_certificate| Unreadable)?;
    if !rest.is_empty() {
        return Err(Unreadable);
    }
    // An extension that stands there twice, or is broken, is an error, and not an absent one.
    let alternative = certificate
        .subject_alternative_name()
        .map_err(|_ambiguous| Unreadable)?;
    let names = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(SubjectName::Uri((*uri).to_owned())),
            GeneralName::DNSName(host) => Some(SubjectName::Dns(host.to_ascii_lowercase())),
            _ => None,
        })
        .collect();
    let validity = certificate.validity();
    Ok(ClientCertificate {
        digest: CertificateDigest::new(Sha256::digest(der).into()),
        names,
        not_before: Timestamp::from_seconds(validity.not_before.timestamp()),
        not_after: Timestamp::from_seconds(validity.not_after.timestamp()),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.not_before = date_time_ymd(2026, 11, 1);
        params.not_after = date_time_ymd(2026, 11, 2);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn names_times_and_digest_are_read_and_the_common_name_is_not() {
        let der = certificate(|params| {
            let name = &mut params.distinguished_name;
            name.push(rcgen::DnType::CommonName, "somebody-else");
            params.subject_alt_names = vec![
                SanType::URI("spiffe://prod.example/bot".try_into().unwrap()),
                SanType::DnsName("Bot.Acme.Example".try_into().unwrap()),
                SanType::Rfc822Name("a@acme.example".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ];
        });
        let read = read(&der).unwrap();
        assert_eq!(
            read.names,
            [
                SubjectName::Uri("spiffe://prod.example/bot".to_owned()),
                SubjectName::Dns("bot.acme.example".to_owned()),
            ]
        );
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(read.not_before, time("2026-11-01T00:00:00Z"));
        assert_eq!(read.not_after, time("2026-11-02T00:00:00Z"));
        let digest: [u8; 32] = Sha256::digest(&der).into();
        assert_eq!(read.digest, CertificateDigest::new(digest));
    }

    #[test]
    fn a_certificate_without_names_has_none() {
        assert_eq!(read(&certificate(|_| {})).unwrap().names, []);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let good = certificate(|_| {});
        assert_eq!(read(&[&good[..], b"\0"].concat()), Err(Unreadable));
        assert_eq!(read(&good[..good.len() - 1]), Err(Unreadable));
        assert_eq!(read(b""), Err(Unreadable));
        let names_twice = certificate(|params| {
            params.subject_alt_names = vec![SanType::DnsName("a.example".try_into().unwrap())];
            let second = b"\x30\x0b\x82\x09b.example".to_vec();
            let again = CustomExtension::from_oid_content(&[2, 5, 29, 17], second);
            params.custom_extensions.push(again);
        });
        assert_eq!(read(&names_twice), Err(Unreadable));
        let broken = certificate(|params| {
            let content = b"\x30\x7f\x82".to_vec();
            let names = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
            params.custom_extensions.push(names);
        });
        assert_eq!(read(&broken), Err(Unreadable));
    }
}
