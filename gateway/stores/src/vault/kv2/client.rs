//! A small HTTP/1.1 client for one server: connect, ask, read a bounded answer.
//!
//! Unused connections are kept, since a hot secret is read several times in a second; which scope
//! asks stands in each request and not in its connection. Redirects are not followed: a standby
//! that sends to another server is an error. Knows nothing of what is asked. Worst case: the
//! server hangs, and a request fails when its caller's time is over.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tollgate_core::policy::Upstream;
use zeroize::Zeroizing;

use super::{Fault, Kv2Config};

/// For a connection, with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(2);

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The longest file that is logged in with. Service-account tokens are some kilobytes.
pub(super) const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The most connections that are kept unused.
const MAX_IDLE: usize = 8;

/// There is nothing to check the server's certificate by.
#[derive(Debug, thiserror::Error)]
#[error("the vault server's authorities cannot be used: {0}")]
pub struct UnusableTls(String);

/// The client.
pub(super) struct Client {
    server: Upstream,
    tls: Option<TlsConnector>,
    namespace: Option<HeaderValue>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// A connection for one request.
pub(super) struct Connection<'c> {
    client: &'c Client,
    sender: SendRequest<Full<Bytes>>,
    is_new: bool,
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Client {
    pub(super) fn new(config: &Kv2Config) -> Result<Self, UnusableTls> {
        let server = config.server.clone();
        let namespace = config.namespace.as_deref().map(HeaderValue::from_str);
        Ok(Self {
            tls: server
                .tls
                .then(|| tls(server.ca_file.as_deref()))
                .transpose()?,
            server,
            namespace: namespace
                .transpose()
                .map_err(|error| UnusableTls(error.to_string()))?,
            idle: Mutex::default(),
        })
    }

    /// A connection that was used before, or a new one.
    pub(super) async fn connection(&self) -> Result<Connection<'_>, Fault> {
        loop {
            let kept = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            match kept {
                Some(sender) if sender.is_ready() => {
                    return Ok(Connection {
                        client: self,
                        sender,
                        is_new: false,
                    });
                }
                Some(_closed) => {}
                None => return self.connect().await,
            }
        }
    }

    async fn connect(&self) -> Result<Connection<'_>, Fault> {
        let dialed = timeout(CONNECT, self.dial()).await;
        Ok(Connection {
            client: self,
            sender: dialed.unwrap_or(Err(Fault::Timeout))?,
            is_new: true,
        })
    }

    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, Fault> {
        let Upstream { host, port, .. } = &self.server;
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(|_refused| Fault::Unreachable)?;
        // Requests are small and each is waited for; without this some wait for an acknowledgement.
        stream
            .set_nodelay(true)
            .map_err(|_closed| Fault::Unreachable)?;
        let Some(tls) = &self.tls else {
            return speak(stream).await;
        };
        let name = ServerName::try_from(host.clone()).map_err(|_no_name| Fault::Tls)?;
        let stream = tls.connect(name, stream).await;
        speak(stream.map_err(|_not_trusted| Fault::Tls)?).await
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }
}

impl Connection<'_> {
    /// Asks for `path` with a token.
    pub(super) async fn get(self, path: &str, token: &str) -> Result<Answer, Fault> {
        self.send("GET", path, Some(token), &[]).await
    }

    /// Sends JSON to `path`.
    pub(super) async fn post(self, path: &str, body: &[u8]) -> Result<Answer, Fault> {
        self.send("POST", path, None, body).await
    }

    /// Sends a request; once more, on a new connection, if the server had closed this one while
    /// nobody used it. Neither reads nor logins do harm when made twice.
    async fn send(
        mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &[u8],
    ) -> Result<Answer, Fault> {
        let request = self.client.request(method, path, token, body)?;
        let mut sent = self.sender.send_request(request).await;
        if sent.is_err() && !self.is_new {
            self = self.client.connect().await?;
            let request = self.client.request(method, path, token, body)?;
            sent = self.sender.send_request(request).await;
        }
        let (head, mut incoming) = sent.map_err(|_closed| Fault::Broken)?.into_parts();
        let mut body = Zeroizing::new(Vec::with_capacity(4096));
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|_closed| Fault::Broken)?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if body.len().saturating_add(data.len()) > MAX_ANSWER_BYTES {
                return Err(Fault::TooLong);
            }
            extend(&mut body, data);
        }
        // The connection's task ends the exchange a moment after its last byte.
        if self.sender.ready().await.is_ok() {
            self.client.keep(self.sender);
        }
        Ok(Answer {
            status: head.status.as_u16(),
            body,
        })
    }
}

impl Client {
    fn request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &[u8],
    ) -> Result<Request<Full<Bytes>>, Fault> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server.base_path))
            .header(http::header::HOST, self.server.authority())
            // Agents and proxies of the server ask for it, as a browser cannot send it.
            .header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token).map_err(|_control| Fault::LoginFile)?;
            value.set_sensitive(true);
            request = request.header("x-vault-token", value);
        }
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|_invalid| Fault::LoginFile)
    }
}

/// Adds bytes to a buffer; one that has to grow is wiped.
fn extend(body: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let needed = body.len().saturating_add(data.len());
    if needed > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(data);
}

async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|_closed| Fault::Broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the vault server ended");
        }
    });
    Ok(sender)
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConnector, UnusableTls> {
    let refuse = |error: &dyn std::fmt::Display| UnusableTls(error.to_string());
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca_file {
        let refuse =
            |error: &dyn std::fmt::Display| UnusableTls(format!("{}: {error}", file.display()));
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| refuse(&error))? {
            let certificate = certificate.map_err(|error| refuse(&error))?;
            roots.add(certificate).map_err(|error| refuse(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(UnusableTls("there is no authority to trust".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
