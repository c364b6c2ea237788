//! One connection to a collector, and one request at a time on it.
//!
//! HTTP/2 for gRPC, HTTP/1.1 for the other, TLS or clear text as the endpoint says. gRPC needs of
//! HTTP/2 no more than a body with five bytes in front and trailers, so no library for it is
//! needed. Redirects are not followed. Worst case: the collector hangs, and a request fails when
//! its time is over.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::reply::{Reply, framed};
use super::{Collector, Protocol};

/// The longest answer that is read: it says how many records were refused, and why.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What is sent, which decides where gRPC takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Logs,
    Traces,
}

impl Signal {
    const fn method(self) -> &'static str {
        match self {
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }
}

/// There is nothing to check the collector's certificate by.
#[derive(Debug, thiserror::Error)]
#[error("the collector's authorities cannot be used: {0}")]
pub struct UnusableRoots(String);

/// Whose certificates are believed.
pub struct Roots(RootCertStore);

impl Roots {
    pub(super) fn read(ca_file: Option<&Path>) -> Result<Self, UnusableRoots> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = ca_file {
            let refuse =
                |error: &dyn fmt::Display| UnusableRoots(format!("{}: {error}", file.display()));
            for certificate in
                CertificateDer::pem_file_iter(file).map_err(|error| refuse(&error))?
            {
                let certificate = certificate.map_err(|error| refuse(&error))?;
                roots.add(certificate).map_err(|error| refuse(&error))?;
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            return Err(UnusableRoots("there is no authority to trust".to_owned()));
        }
        Ok(Self(roots))
    }

    fn connector(self, protocol: Protocol) -> Result<TlsConnector, UnusableRoots> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| UnusableRoots(error.to_string()))?
            .with_root_certificates(self.0)
            .with_no_client_auth();
        config.alpn_protocols = vec![match protocol {
            Protocol::Grpc => b"h2".to_vec(),
            Protocol::Http => b"http/1.1".to_vec(),
        }];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// A collector, and the connection to it while there is one.
pub(super) struct Wire {
    signal: Signal,
    collector: Collector,
    tls: Option<TlsConnector>,
    open: Option<Sender>,
}

enum Sender {
    Grpc(http2::SendRequest<Full<Bytes>>),
    Http(http1::SendRequest<Full<Bytes>>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it cannot be reached")]
    Unreachable(#[source] std::io::Error),
    #[error("its name is none that a certificate can have")]
    Name(#[source] rustls::pki_types::InvalidDnsNameError),
    #[error("its certificate is not trusted, or it speaks no TLS")]
    Tls(#[source] std::io::Error),
    #[error("the connection broke off")]
    Broken(#[source] hyper::Error),
    #[error("the request cannot be made")]
    Request(#[source] http::Error),
    #[error("its answer is too long")]
    TooLong,
}

impl Wire {
    /// # Errors
    /// If there is no authority to trust where TLS is spoken.
    pub(super) fn new(signal: Signal, collector: Collector) -> Result<Self, UnusableRoots> {
        let tls = if collector.server.tls {
            Some(collector.roots()?.connector(collector.protocol)?)
        } else {
            None
        };
        Ok(Self {
            signal,
            collector,
            tls,
            open: None,
        })
    }

    /// Sends a request and says what became of it, in bounded time.
    pub(super) async fn send(&mut self, request: &impl Message) -> Reply {
        let body = Bytes::from(match self.collector.protocol {
            Protocol::Grpc => framed(request),
            Protocol::Http => request.encode_to_vec(),
        });
        let bound = self.collector.timeout;
        let asked = tokio::time::timeout(bound, self.ask(body)).await;
        let answer = asked.unwrap_or_else(|_elapsed| {
            Ok(Reply::later(format!(
                "no answer within {} ms",
                bound.as_millis()
            )))
        });
        let reply = answer.unwrap_or_else(|fault| Reply::later(told(&fault)));
        if !matches!(reply, Reply::Taken { .. }) {
            // A new connection may lead to another instance.
            self.open = None;
        }
        reply
    }

    /// Once more on a new connection if the collector had closed this one while nothing was sent.
    async fn ask(&mut self, body: Bytes) -> Result<Reply, Fault> {
        if let Some(mut sender) = self.open.take()
            && let Ok(response) = sender.send(self.request(body.clone())?).await
        {
            return self.answered(sender, response).await;
        }
        let mut sender = self.dial().await?;
        let response = sender.send(self.request(body)?).await?;
        self.answered(sender, response).await
    }

    async fn answered(
        &mut self,
        sender: Sender,
        response: Response<Incoming>,
    ) -> Result<Reply, Fault> {
        let (head, body) = response.into_parts();
        let (bytes, trailers) = whole(body).await?;
        let reply = match sender {
            Sender::Grpc(_) => {
                let trailers = trailers.as_ref().unwrap_or(&head.headers);
                Reply::of_grpc(head.status, trailers, &bytes)
            }
            Sender::Http(_) => Reply::of_http(head.status, &head.headers, &bytes),
        };
        self.open = Some(sender);
        Ok(reply)
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, Fault> {
        let Collector {
            server, protocol, ..
        } = &self.collector;
        let request = Request::post(match protocol {
            Protocol::Grpc => format!("{}{}", server.origin(), self.signal.method()),
            Protocol::Http if server.base_path.is_empty() => "/".to_owned(),
            Protocol::Http => server.base_path.clone(),
        });
        let mut request = match protocol {
            Protocol::Grpc => request
                .header(CONTENT_TYPE, "application/grpc")
                .header(TE, "trailers"),
            Protocol::Http => request
                .header(CONTENT_TYPE, "application/x-protobuf")
                .header(HOST, server.authority()),
        }
        .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if let Some(headers) = request.headers_mut() {
            for (name, value) in &self.collector.headers {
                let mut value = HeaderValue::clone(value);
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
        }
        request.body(Full::new(body)).map_err(Fault::Request)
    }

    async fn dial(&self) -> Result<Sender, Fault> {
        let server = &self.collector.server;
        let stream = TcpStream::connect((server.host.as_str(), server.port)).await;
        let stream = stream.map_err(Fault::Unreachable)?;
        stream.set_nodelay(true).map_err(Fault::Unreachable)?;
        let Some(tls) = &self.tls else {
            return speak(self.collector.protocol, stream).await;
        };
        let name = ServerName::try_from(server.host.clone()).map_err(Fault::Name)?;
        let stream = tls.connect(name, stream).await.map_err(Fault::Tls)?;
        speak(self.collector.protocol, stream).await
    }
}

impl Sender {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Fault> {
        match self {
            Self::Grpc(sender) => {
                sender.ready().await.map_err(Fault::Broken)?;
                sender.send_request(request).await
            }
            Self::Http(sender) => {
                sender.ready().await.map_err(Fault::Broken)?;
                sender.send_request(request).await
            }
        }
        .map_err(Fault::Broken)
    }
}

async fn speak<S>(protocol: Protocol, stream: S) -> Result<Sender, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(stream);
    match protocol {
        Protocol::Grpc => {
            let shaken = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, connection) = shaken.map_err(Fault::Broken)?;
            tokio::spawn(async move { ended(connection.await) });
            Ok(Sender::Grpc(sender))
        }
        Protocol::Http => {
            let (sender, connection) = http1::handshake(stream).await.map_err(Fault::Broken)?;
            tokio::spawn(async move { ended(connection.await) });
            Ok(Sender::Http(sender))
        }
    }
}

fn ended(connection: Result<(), hyper::Error>) {
    if let Err(error) = connection {
        tracing::debug!(%error, "a connection to the collector ended");
    }
}

/// The whole body, within bounds, and what follows it.
async fn whole(mut body: Incoming) -> Result<(Vec<u8>, Option<HeaderMap>), Fault> {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(Fault::Broken)?.into_data() {
            Ok(data) if bytes.len().saturating_add(data.len()) > MAX_ANSWER_BYTES => {
                return Err(Fault::TooLong);
            }
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((bytes, trailers))
}

fn told(fault: &Fault) -> String {
    let mut told = fault.to_string();
    let mut source = std::error::Error::source(fault);
    while let Some(cause) = source {
        told.push_str(": ");
        told.push_str(&cause.to_string());
        source = cause.source();
    }
    told
}
