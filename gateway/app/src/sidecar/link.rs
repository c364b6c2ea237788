//! The way to the gateway: where it is, how it is trusted, and a pool of connections.
//!
//! HTTP/1.1 only: each call has a connection of its own, so a client that leaves is a connection
//! that closes, one slow call delays no other, and no limit on streams makes calls wait in line.
//! Certificates are read into a link once; a link whose files have changed is replaced whole, with
//! its connections. Worst case: the gateway swallows packets, and a call fails after
//! [`CONNECT_DEADLINE`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use anyhow::{Context, bail};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// How long a connection may take to be made: name, TCP and TLS together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long an unused connection is kept; less than the gateway's own 75 s.
const IDLE: Duration = Duration::from_secs(50);

/// Unused connections that are kept.
const MAX_IDLE: usize = 64;

/// The gateway's origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayUrl {
    pub(super) tls: bool,
    authority: Authority,
}

/// Where the certificate and the key lie that are shown to the gateway.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What a link is made from.
#[derive(Debug, Clone)]
pub(super) struct LinkConfig {
    pub(super) gateway: GatewayUrl,
    /// Authorities; without them the system's.
    pub(super) ca: Option<PathBuf>,
    pub(super) identity: Option<Identity>,
}

/// The files, as they are now.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Files {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

/// The body of what is sent: one's own, or a call's.
pub(super) type Outgoing = Either<Full<Bytes>, Incoming>;

/// Connections to the gateway, made and kept as needed.
pub(super) struct Link {
    gateway: GatewayUrl,
    client: Client<Dial, Outgoing>,
    files: Files,
}

impl FromStr for GatewayUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || format!("a gateway is https://HOST[:PORT] or http://HOST[:PORT], not {text:?}");
        let url: Uri = text
            .parse()
            .map_err(|_unparsed: http::uri::InvalidUri| form())?;
        let tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(form()),
        };
        let bare = url.path() == "/" && url.query().is_none() && !text.contains(['#', '@']);
        match url.authority() {
            Some(authority) if bare && !authority.host().is_empty() => Ok(Self {
                tls,
                authority: authority.clone(),
            }),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl LinkConfig {
    /// Reads the files.
    ///
    /// # Errors
    /// Which one cannot be read.
    pub(super) fn read(&self) -> anyhow::Result<Files> {
        let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
        Ok(Files {
            ca: self.ca.as_deref().map(read).transpose()?,
            identity: match &self.identity {
                Some(Identity { certificate, key }) => {
                    Some((read(certificate)?, Zeroizing::new(read(key)?)))
                }
                None => None,
            },
        })
    }
}

impl Link {
    /// A link without connections yet.
    ///
    /// # Errors
    /// If the files are not certificates and a key of theirs.
    pub(super) fn new(config: &LinkConfig, files: &Files) -> anyhow::Result<Self> {
        let tls = match config.gateway.tls {
            true => Some(TlsConnector::from(Arc::new(client_config(files)?))),
            false => None,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .build(Dial { tls });
        Ok(Self {
            gateway: config.gateway.clone(),
            client,
            files: files.clone(),
        })
    }

    /// Whether it would be the same if it were made anew.
    pub(super) fn is_made_from(&self, files: &Files) -> bool {
        self.files == *files
    }

    /// Sends a request, whose target is a path, and waits for the answer's head.
    ///
    /// # Errors
    /// What went wrong with the connection, for a log.
    pub(super) async fn send(
        &self,
        mut request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, String> {
        let mut target = std::mem::take(request.uri_mut()).into_parts();
        target.scheme = Some(if self.gateway.tls {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        });
        target.authority = Some(self.gateway.authority.clone());
        target
            .path_and_query
            .get_or_insert_with(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(target).map_err(|error| error.to_string())?;
        let sent = self.client.request(request).await;
        sent.map_err(|error| format!("{:#}", anyhow::Error::new(error)))
    }
}

/// Makes connections.
#[derive(Clone)]
struct Dial {
    tls: Option<TlsConnector>,
}

impl tower_service::Service<Uri> for Dial {
    type Response = Wire;
    type Error = anyhow::Error;
    type Future = Pin<Box<dyn Future<Output = anyhow::Result<Wire>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Poller<'_>) -> Poll<anyhow::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, gateway: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            tokio::time::timeout(CONNECT_DEADLINE, dial(&gateway, tls))
                .await
                .context("no connection in time")?
        })
    }
}

async fn dial(gateway: &Uri, tls: Option<TlsConnector>) -> anyhow::Result<Wire> {
    let host = gateway.host().context("the gateway has no name")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = gateway
        .port_u16()
        .unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Wire::Clear(TokioIo::new(stream)));
    };
    let name = ServerName::try_from(host.to_owned())?;
    let stream = tls.connect(name, stream).await?;
    Ok(Wire::Tls(Box::new(TokioIo::new(stream))))
}

fn client_config(files: &Files) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(files.ca.as_deref())?);
    let mut client = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate)
                .collect::<Result<Vec<_>, _>>()
                .context("the certificate file")?;
            let key = PrivateKeyDer::from_pem_slice(key).context("the key file")?;
            builder
                .with_client_auth_cert(chain, key)
                .context("certificate and key")?
        }
    };
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(client)
}

fn roots(ca: Option<&[u8]>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.context("the file of authorities")?)?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        bail!("there is no authority to trust; --ca names one");
    }
    Ok(roots)
}

/// A connection to the gateway.
enum Wire {
    Clear(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Clear(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_an_origin_and_nothing_more() {
        for (text, shown) in [
            (
                "https://tollgate.example:8443",
                "https://tollgate.example:8443",
            ),
            ("https://tollgate.example", "https://tollgate.example"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("https://[::1]:8443", "https://[::1]:8443"),
        ] {
            let url: GatewayUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
        }
        for text in [
            "",
            "tollgate.example:8443",
            "ftp://tollgate.example",
            "https://tollgate.example/openai",
            "https://tollgate.example?x=1",
            "https://user:password@tollgate.example",
            "https://",
        ] {
            assert!(text.parse::<GatewayUrl>().is_err(), "{text:?}");
        }
    }
}
