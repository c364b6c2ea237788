//! A certificate authority for one test, and server configurations good and bad.
//!
//! Nothing here is trusted by anything but a test that writes [`Authority::pem`] to a file. Keys
//! live in memory only.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType, date_time_ymd,
};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// What is wrong with a certificate, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It ended in 2001.
    Expired,
    /// It is not valid yet.
    Premature,
    /// It is signed with its own key.
    SelfSigned,
}

/// An authority that signs certificates of servers and clients.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Draws a key and signs itself.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: OpenSSL takes what bears its issuer's name for self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "Tollgate test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Its certificate, to be trusted.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The certificate chain and the private key of a server called `name`, as PEM.
    #[must_use]
    pub fn pair(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The certificate and the private key of a client, as PEM, for certain times. Names with a
    /// scheme are URIs, the others DNS names; the common name is always `root`.
    #[must_use]
    pub fn client_pair(
        &self,
        names: &[&str],
        from: SystemTime,
        to: SystemTime,
    ) -> (String, String) {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                let text = (*name).try_into().unwrap();
                if name.contains("://") {
                    SanType::URI(text)
                } else {
                    SanType::DnsName(text)
                }
            })
            .collect();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let epoch = date_time_ymd(1970, 1, 1);
        let at = |time: SystemTime| epoch + time.duration_since(UNIX_EPOCH).unwrap();
        (params.not_before, params.not_after) = (at(from), at(to));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// As [`Authority::client`], showing this certificate, whoever has signed it.
    #[must_use]
    pub fn client_with(
        &self,
        protocols: &[&str],
        (certificate, key): &(String, String),
    ) -> rustls::ClientConfig {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = self
            .trusting()
            .with_client_auth_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }

    /// A TLS client that trusts this authority and nobody else, offering `protocols` (ALPN).
    #[must_use]
    pub fn client(&self, protocols: &[&str]) -> rustls::ClientConfig {
        let mut config = self.trusting().with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }

    fn trusting(&self) -> rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
    }

    /// A TLS server that proves itself to be `name`, speaking `protocols` (ALPN).
    #[must_use]
    pub fn server(&self, name: &str, flaw: Flaw, protocols: &[&str]) -> Arc<rustls::ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        match flaw {
            Flaw::None | Flaw::SelfSigned => {}
            Flaw::Expired => params.not_after = date_time_ymd(2001, 1, 1),
            Flaw::Premature => params.not_before = date_time_ymd(2900, 1, 1),
        }
        let key = KeyPair::generate().unwrap();
        let certificate = if flaw == Flaw::SelfSigned {
            params.self_signed(&key).unwrap()
        } else {
            params.signed_by(&key, &self.issuer).unwrap()
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}
