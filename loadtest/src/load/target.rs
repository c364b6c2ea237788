//! Where calls go: the address, the names of it, its TLS, and whether it may be loaded at all.
//!
//! Nothing is sent to a host that is not this machine itself unless its owner's leave is claimed.
//! Worst case: names are resolved once, at the start; a target that moves is not followed.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use http::Uri;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// A target that may be loaded.
#[derive(Clone)]
pub(super) struct Target {
    /// `https://example.org:8443`, as it is shown.
    pub(super) origin: String,
    /// The `host` of each call.
    pub(super) authority: String,
    /// The path of the URL, without the slash at its end; empty if it had none.
    pub(super) path: String,
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    /// Reads the URL and resolves its host.
    ///
    /// # Errors
    /// If it is no URL of http or https, if it cannot be resolved, or if it leaves this machine without leave.
    pub(super) fn read(url: &str, has_leave: bool, ca: Option<&Path>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => bail!("the target begins with http:// or https://"),
        };
        let authority = uri.authority().context("the target has no host")?;
        // Both may be secrets, and the page of results shows the target.
        ensure!(
            !authority.as_str().contains('@'),
            "keys go into --key, not into the URL"
        );
        ensure!(uri.query().is_none(), "the target has no query");
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(default_port);
        let addrs: Vec<SocketAddr> = (bare, port)
            .to_socket_addrs()
            .with_context(|| format!("resolving {host}"))?
            .collect();
        let stays = addrs
            .iter()
            .all(|addr| addr.ip().to_canonical().is_loopback());
        ensure!(
            stays || has_leave,
            "{host} is not this machine: load other hosts only if they are yours or their owner agreed; \
             --i-may-load-this-host says so"
        );
        let tls = if scheme == "https" {
            let name = ServerName::try_from(bare.to_owned())
                .with_context(|| format!("{host} is no name for TLS"))?;
            Some((tls(ca)?, name))
        } else {
            None
        };
        Ok(Self {
            origin: format!("{scheme}://{authority}"),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').to_owned(),
            addrs,
            tls,
        })
    }
}

fn tls(ca: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(ca) = ca {
        let certificates =
            CertificateDer::pem_file_iter(ca).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.with_context(|| format!("reading {}", ca.display()))?;
        ensure!(
            !certificates.is_empty(),
            "no certificate in {}",
            ca.display()
        );
        for certificate in certificates {
            roots
                .add(certificate)
                .with_context(|| format!("a certificate in {}", ca.display()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, has_leave: bool) -> Result<(String, String, String), String> {
        let target = Target::read(url, has_leave, None).map_err(|error| error.to_string())?;
        Ok((target.origin, target.authority, target.path))
    }

    #[test]
    fn a_base_url_is_taken_apart() {
        let parts = |a: &str, b: &str, c: &str| Ok((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(
            read("http://127.0.0.1:8080/openai/v1/", false),
            parts("http://127.0.0.1:8080", "127.0.0.1:8080", "/openai/v1")
        );
        assert_eq!(
            read("https://[::1]", false),
            parts("https://[::1]", "[::1]", "")
        );
    }

    #[test]
    fn a_host_that_is_not_this_machine_needs_leave() {
        // An address for documentation: RFC 5737.
        let error = read("http://192.0.2.1/v1", false).unwrap_err();
        assert!(error.contains("--i-may-load-this-host"), "{error}");
        assert!(read("http://192.0.2.1/v1", true).is_ok());
        assert!(read("http://[::ffff:192.0.2.1]/", false).is_err());
    }

    #[test]
    fn urls_with_secrets_or_of_other_kinds_are_refused() {
        for url in [
            "http://sk-canary@127.0.0.1/",
            "http://127.0.0.1/?key=sk-canary-1",
            "ftp://127.0.0.1/",
            "127.0.0.1",
        ] {
            let error = read(url, true).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
