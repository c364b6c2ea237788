//! Opens connections to upstreams: name, address, TCP, TLS.
//!
//! Names are looked up by the system's resolver, so that search domains, `/etc/hosts` and the
//! cluster's DNS behave as for every other program on the machine; connections are pooled, so
//! look-ups are rare. The certificate is always checked against the upstream's name, and nothing
//! is written before that check. Knows nothing of HTTP but the ALPN names. Worst case: the
//! resolver hangs, and a call fails after the connect deadline.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tollgate_core::policy::Upstream;

use crate::engine::EngineConfig;
use crate::io::Wire;
use crate::pool::{Stage, UpstreamError};

/// Makes connections; caches one TLS configuration per set of authorities, which also holds the
/// sessions to resume.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    tls: Mutex<HashMap<TlsKey, Arc<ClientConfig>>>,
}

/// What TLS configurations differ by.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TlsKey {
    ca_file: Option<PathBuf>,
    http2: bool,
}

/// A new connection.
pub(crate) struct Dialed {
    pub(crate) wire: Wire,
    /// Whether the upstream has chosen HTTP/2.
    pub(crate) http2: bool,
}

impl Dialer {
    /// Connects to `upstream`, and is done with its TLS handshake if it speaks TLS.
    pub(crate) async fn dial(
        &self,
        upstream: &Upstream,
        config: &EngineConfig,
    ) -> Result<Dialed, UpstreamError> {
        let stream = connect(upstream, config).await?;
        if !upstream.tls {
            return Ok(Dialed {
                wire: Wire::Plain(stream),
                http2: false,
            });
        }
        let client = self.client(upstream)?;
        let name = ServerName::try_from(upstream.host.clone())
            .map_err(|error| UpstreamError::Tls(error.to_string()))?;
        let handshake = TlsConnector::from(client).connect(name, stream);
        let stream = timeout(config.tls_deadline, handshake)
            .await
            .map_err(|_elapsed| UpstreamError::Timeout { stage: Stage::Tls })?
            .map_err(|error| UpstreamError::Tls(error.to_string()))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Dialed {
            wire: Wire::Tls(Box::new(stream)),
            http2,
        })
    }

    fn client(&self, upstream: &Upstream) -> Result<Arc<ClientConfig>, UpstreamError> {
        let key = TlsKey {
            ca_file: upstream.ca_file.clone(),
            http2: upstream.http2,
        };
        let mut clients = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(client_config(upstream.ca_file.as_deref(), upstream.http2)?);
        clients.insert(key, Arc::clone(&client));
        Ok(client)
    }
}

async fn connect(upstream: &Upstream, config: &EngineConfig) -> Result<TcpStream, UpstreamError> {
    let deadline = Instant::now() + config.connect_deadline;
    let late = UpstreamError::Timeout {
        stage: Stage::Connect,
    };
    let addresses = timeout_at(deadline, addresses(upstream))
        .await
        .map_err(|_elapsed| late.clone())?
        .map_err(|error| UpstreamError::Connect(error.to_string()))?;
    let mut failure = UpstreamError::Connect("the name has no address".to_owned());
    let mut left = addresses.len();
    for address in addresses {
        // An address that swallows packets must leave the others their share of the time.
        let share =
            deadline.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(1);
        left -= 1;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                return Ok(stream);
            }
            Ok(Err(error)) => failure = UpstreamError::Connect(error.to_string()),
            Err(_elapsed) => failure = late.clone(),
        }
    }
    Err(failure)
}

async fn addresses(upstream: &Upstream) -> std::io::Result<Vec<SocketAddr>> {
    let host = upstream
        .host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(&upstream.host);
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, upstream.port)]);
    }
    Ok(lookup_host((host, upstream.port)).await?.collect())
}

fn client_config(ca_file: Option<&Path>, http2: bool) -> Result<ClientConfig, UpstreamError> {
    let mut client =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| UpstreamError::Tls(error.to_string()))?
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth();
    client.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(client)
}

/// The authorities in `ca_file`, or the system's. A file that holds anything wrong is refused.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, UpstreamError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca_file {
        let refuse = |error: &dyn std::fmt::Display| {
            UpstreamError::Tls(format!("ca_file {}: {error}", file.display()))
        };
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| refuse(&error))? {
            let certificate = certificate.map_err(|error| refuse(&error))?;
            roots.add(certificate).map_err(|error| refuse(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(UpstreamError::Tls(
            "there is no authority to trust".to_owned(),
        ));
    }
    Ok(roots)
}
