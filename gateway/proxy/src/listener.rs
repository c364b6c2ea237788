//! Turns sockets, a certificate and a handler into a service that accepts connections.
//!
//! A socket is bound here or comes from a predecessor; the frame gets it as one that it is handed
//! over, so that it never binds by itself. Whoever keeps a copy of it can hand it on: connections
//! wait in it while nobody accepts. Knows nothing of HTTP. Worst case: an address that another
//! process has, which is an error before anything is served.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{ConnectionFilter, L4BufferSettings, ListenerConfig as Endpoint};
use pingora_core::protocols::ALPN;
use pingora_core::server::{Fds, ListenFds};
use pingora_core::services::listening::Service;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::client_certificate::verifier;
use crate::engine::EngineConfig;
use crate::farewell::Farewell;
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

/// A service that is ready to accept, and the addresses it has.
pub struct Listening<H> {
    service: Service<Engine<H>>,
    engine: Engine<H>,
    sockets: Vec<TcpListener>,
    tls: Option<TlsFiles>,
    /// Its addresses, with real ports.
    pub addresses: Vec<SocketAddr>,
    /// Sends its clients to other connections.
    pub farewell: Farewell,
}

impl<H: Handler> Listening<H> {
    /// Another one at the same sockets, for another thread. Whoever is free first accepts a
    /// connection, which stays on that thread.
    ///
    /// # Errors
    /// [`ListenError`]: the sockets or the certificate cannot be used once more.
    pub fn another(&self) -> Result<Self, ListenError> {
        let sockets = self.sockets.iter().zip(&self.addresses);
        let sockets = sockets.map(|(socket, &address)| {
            let again = socket.try_clone();
            again.map_err(|cause| ListenError::Address { address, cause })
        });
        let sockets = sockets.collect::<Result<_, _>>()?;
        serve_at(sockets, self.tls.as_ref(), self.engine.clone())
    }

    /// Accepts connections until `stop` turns true; then its copies of the sockets are closed.
    /// Connections run on as tasks of the runtime it runs in and take their leave by themselves.
    ///
    /// # Panics
    /// If a socket or certificate cannot be used after all.
    pub async fn serve(mut self, stop: tokio::sync::watch::Receiver<bool>) {
        use pingora_core::services::Service as _;
        let mut handed = Fds::new();
        for (address, socket) in self.addresses.iter().zip(self.sockets) {
            handed.add(address.to_string(), socket.into_raw_fd());
        }
        let handed = ListenFds::new(handed.into());
        // One accepting task is enough: each connection is a task of its own.
        self.service.start_service(Some(handed), stop, 1).await;
    }
}

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
    let sockets = config.addresses.iter().map(|address| bind(*address));
    let sockets = sockets.collect::<Result<_, _>>()?;
    listen_on(sockets, config.tls.as_ref(), handler, engine, tracker)
}

/// Prepares to serve `handler` at sockets that are bound. Whoever connects from now on waits.
///
/// # Errors
/// [`ListenError`]: a socket or certificate that cannot be used.
pub fn listen_on<H: Handler>(
    sockets: Vec<TcpListener>,
    tls: Option<&TlsFiles>,
    handler: Arc<H>,
    engine: Arc<EngineConfig>,
    tracker: Tracker,
) -> Result<Listening<H>, ListenError> {
    serve_at(sockets, tls, Engine::new(handler, engine, tracker))
}

fn serve_at<H: Handler>(
    sockets: Vec<TcpListener>,
    tls: Option<&TlsFiles>,
    engine: Engine<H>,
) -> Result<Listening<H>, ListenError> {
    let mut service = Service::new("gateway".to_owned(), engine.clone());
    let mut addresses = Vec::new();
    for socket in &sockets {
        let address = usable_socket(socket)?;
        let mut endpoint =
            Endpoint::tcp(address.to_string()).l4_buffer(L4BufferSettings::unbuffered());
        if let Some(files) = tls {
            endpoint = endpoint.tls(tls_settings(files)?);
        }
        service.add_listener(endpoint);
        addresses.push(address);
    }
    service.set_connection_filter(Arc::new(Accepted(engine.tracker())));
    Ok(Listening {
        service,
        farewell: engine.farewell(),
        engine,
        sockets,
        tls: tls.cloned(),
        addresses,
    })
}

/// Counts connections from the moment they are accepted, which is before their tasks run: a stop
/// that waits for what is arriving must know of them. Turns nobody away.
#[derive(Debug)]
struct Accepted(Tracker);

#[async_trait]
impl ConnectionFilter for Accepted {
    async fn should_accept(&self, peer: Option<&SocketAddr>) -> bool {
        if let Some(peer) = peer {
            self.0.expect(*peer);
        }
        true
    }
}

/// A listening socket at `address`; port 0 takes any free one.
///
/// # Errors
/// [`ListenError::Address`].
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).map_err(|cause| ListenError::Address { address, cause })
}

/// Checks that a certificate can be used, before anything depends on it.
///
/// # Errors
/// [`ListenError::Certificate`].
pub fn check(tls: &TlsFiles) -> Result<(), ListenError> {
    tls_settings(tls).map(drop)
}

/// Its address; and makes it one that never blocks, which the frame relies on.
fn usable_socket(socket: &TcpListener) -> Result<SocketAddr, ListenError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = socket.local_addr();
    let usable = socket.set_nonblocking(true);
    let shown = *address.as_ref().unwrap_or(&unknown);
    let refuse = |cause| ListenError::Address {
        address: shown,
        cause,
    };
    usable.map_err(refuse)?;
    address.map_err(refuse)
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
