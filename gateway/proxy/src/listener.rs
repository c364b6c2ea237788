//! Turns addresses, a certificate and a handler into a service that accepts connections.
//!
//! The sockets belong to the frame's listener, so that a running gateway can hand them over to
//! its successor. Knows nothing of HTTP. Worst case: a port that another process takes between
//! start and listen, which the frame reports by not starting.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig as Endpoint, TcpSocketOptions};
use pingora_core::protocols::ALPN;
use pingora_core::services::listening::Service;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpSocket;

use crate::client_certificate::verifier;
use crate::engine::EngineConfig;
use crate::handshake::Remember;
use crate::service::{Engine, Handler};
use crate::tracker::Tracker;

/// Where and how clients are served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerConfig {
    /// The addresses to listen on; port 0 takes any free one.
    pub addresses: Vec<SocketAddr>,
    /// The certificate to speak TLS with, or none for clear text.
    pub tls: Option<TlsFiles>,
}

/// A server certificate on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM file of the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// Whether clients are asked for a certificate, and whose are believed.
    pub clients: Option<ClientAuthority>,
}

/// Who vouches for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuthority {
    /// PEM file of the authorities that sign client certificates.
    pub authorities: PathBuf,
    /// Whether a client without a certificate is turned away in the handshake.
    pub required: bool,
}

/// Why a listener cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be used.
    #[error("cannot listen on {address}")]
    Address {
        /// Which one.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("cannot use the certificate {certificate}: {detail}")]
    Certificate {
        /// Its file.
        certificate: PathBuf,
        /// Why.
        detail: String,
    },
}

/// A service that is ready to be added to a server, and the addresses it will have.
pub struct Listening<H> {
    /// The service.
    pub service: Service<Engine<H>>,
    /// Its addresses, with real ports.
    pub addresses: Vec<SocketAddr>,
    /// Holds the ports that were picked until the service listens; keep it as long as that.
    pub reserved: Vec<Reserved>,
}

impl<H: Handler> Listening<H> {
    /// Accepts connections until `stop` turns true; then the sockets are closed. Connections run
    /// on as tasks of the caller's runtime and take their leave by themselves.
    ///
    /// # Panics
    /// If an address or certificate cannot be used after all.
    pub async fn serve(mut self, stop: tokio::sync::watch::Receiver<bool>) {
        use pingora_core::services::Service as _;
        // One accepting task is enough: each connection is a task of its own.
        self.service.start_service(None, stop, 1).await;
    }
}

/// A port held for this process: bound, but not listening, so that it gets no connection.
#[derive(Debug)]
pub struct Reserved(#[expect(dead_code, reason = "its drop is its use")] TcpSocket);

impl<H> std::fmt::Debug for Listening<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listening")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Prepares to serve `handler` at the addresses of `config`.
///
/// # Errors
/// [`ListenError`]: an address or certificate that cannot be used.
pub fn listen<H: Handler>(
    config: &ListenerConfig,
    handler: Arc<H>,
    engine: Arc<EngineConfig>,
    tracker: Tracker,
) -> Result<Listening<H>, ListenError> {
    let engine = Engine::new(handler, engine, tracker);
    let mut service = Service::new("gateway".to_owned(), engine);
    let (mut addresses, mut reserved) = (Vec::new(), Vec::new());
    for &wanted in &config.addresses {
        let address = if wanted.port() == 0 {
            let (address, port) = reserve(wanted).map_err(|cause| ListenError::Address {
                address: wanted,
                cause,
            })?;
            reserved.push(port);
            address
        } else {
            wanted
        };
        let mut options = TcpSocketOptions::default();
        if wanted.port() == 0 {
            options.so_reuseport = Some(true);
        }
        let mut endpoint = Endpoint::tcp(address.to_string())
            .tcp_socket_options(options)
            .l4_buffer(L4BufferSettings::unbuffered());
        if let Some(files) = &config.tls {
            endpoint = endpoint.tls(tls_settings(files)?);
        }
        service.add_listener(endpoint);
        addresses.push(address);
    }
    Ok(Listening {
        service,
        addresses,
        reserved,
    })
}

/// Picks a free port and holds it; the service shares it by `SO_REUSEPORT`.
fn reserve(wanted: SocketAddr) -> io::Result<(SocketAddr, Reserved)> {
    let socket = if wanted.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(wanted)?;
    Ok((socket.local_addr()?, Reserved(socket)))
}

/// Checks that a fixed address can be used, so that a wrong one is an error and not a panic later.
///
/// # Errors
/// [`ListenError::Address`].
pub fn check(address: SocketAddr) -> Result<(), ListenError> {
    TcpListener::bind(address)
        .map(drop)
        .map_err(|cause| ListenError::Address { address, cause })
}

fn tls_settings(files: &TlsFiles) -> Result<TlsSettings, ListenError> {
    let refuse = |detail: String| ListenError::Certificate {
        certificate: files.certificate.clone(),
        detail,
    };
    usable(files).map_err(refuse)?;
    let certificate = files.certificate.to_string_lossy();
    let key = files.key.to_string_lossy();
    let mut settings = TlsSettings::with_callbacks(Box::new(Remember))
        .map_err(|error| refuse(error.to_string()))?;
    settings
        .set_certificate_chain_file(&certificate)
        .map_err(|error| refuse(error.to_string()))?;
    settings
        .set_private_key_file(&key)
        .map_err(|error| refuse(error.to_string()))?;
    settings.set_alpn(ALPN::H2H1);
    if let Some(clients) = &files.clients {
        let refuse = |detail| ListenError::Certificate {
            certificate: clients.authorities.clone(),
            detail,
        };
        let verifier = verifier(&clients.authorities, clients.required).map_err(refuse)?;
        settings.set_client_cert_verifier(verifier);
    }
    Ok(settings)
}

/// Whether certificate and key fit together: the frame panics if they do not.
fn usable(files: &TlsFiles) -> Result<(), String> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| error.to_string())?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map(drop)
        .map_err(|error| error.to_string())
}
