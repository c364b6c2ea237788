//! Client certificates: who is let in by the handshake, and what is known of them afterwards.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_proxy::body::AnswerBody;
use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::listener::{ClientAuthority, ListenError, ListenerConfig, TlsFiles, listen};
use tollgate_proxy::service::{ConnInfo, Handler};
use tollgate_proxy::tracker::{Arrival, Tracker};
use tollgate_testkit::authority::Authority;

use crate::support::{Gateway, Plan, soon};

const HOUR: Duration = Duration::from_secs(3600);
const BOT: &str = "spiffe://prod.example/bot";

/// A gateway that asks for certificates, and who signs them.
struct Bench {
    gateway: Gateway,
    authority: Authority,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new(required: bool) -> Self {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = authority.pair("localhost");
        let files = TlsFiles {
            certificate: file("tls.crt", certificate),
            key: file("tls.key", key),
            clients: Some(ClientAuthority {
                authorities: file("ca.pem", authority.pem()),
                required,
            }),
        };
        let gateway = Gateway::with(Plan::default(), EngineConfig::default(), Some(files)).await;
        Self {
            gateway,
            authority,
            _directory: directory,
        }
    }

    /// A connection, as far as the client can tell: with TLS 1.3 it learns of a refusal later.
    async fn connect(&self, client: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = self.gateway.connect().await.0;
        let connector = TlsConnector::from(Arc::new(client));
        soon(connector.connect("localhost".try_into().unwrap(), stream)).await
    }

    /// What the gateway says over HTTP/1.1 or HTTP/2, or nothing if it does not let the client in.
    async fn ask(&self, client: ClientConfig) -> Option<String> {
        let http2 = client.alpn_protocols == [b"h2"];
        let io = TokioIo::new(self.connect(client).await.ok()?);
        let request = http::Request::get("https://localhost/x").header("host", "localhost");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = if http2 {
            let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
            let (mut sender, connection) = shaken.ok()?;
            tokio::spawn(connection);
            soon(sender.send_request(request)).await.ok()?
        } else {
            let shaken = hyper::client::conn::http1::handshake(io).await;
            let (mut sender, connection) = shaken.ok()?;
            tokio::spawn(connection);
            soon(sender.send_request(request)).await.ok()?
        };
        assert_eq!(answer.status(), 200);
        let body = soon(answer.into_body().collect()).await.ok()?.to_bytes();
        Some(String::from_utf8(body.to_vec()).unwrap())
    }

    fn pair(&self, names: &[&str]) -> (String, String) {
        let now = SystemTime::now();
        self.authority.client_pair(names, now - HOUR, now + HOUR)
    }
}

#[tokio::test]
async fn a_certificate_is_known_to_every_request_of_its_connection_in_both_protocols() {
    for required in [false, true] {
        let bench = Bench::new(required).await;
        let pair = bench.pair(&[BOT, "Bot.example"]);
        for protocol in ["http/1.1", "h2"] {
            let said = bench
                .ask(bench.authority.client_with(&[protocol], &pair))
                .await;
            let said = said.expect("let in");
            assert!(said.ends_with(&format!(" by {BOT}, bot.example")), "{said}");
            let said = bench.ask(bench.authority.client(&[protocol])).await;
            assert_eq!(said.is_none(), required, "without one: {said:?}");
            assert!(said.is_none_or(|said| !said.contains(" by ")));
        }
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_worse_than_none() {
    let now = SystemTime::now();
    let names = &[BOT][..];
    for required in [false, true] {
        let bench = Bench::new(required).await;
        let day = Duration::from_secs(86_400);
        let own = |from, to| bench.authority.client_pair(names, from, to);
        let server_only = bench.authority.pair("bot.example");
        let foreign = Authority::new().client_pair(names, now - HOUR, now + HOUR);
        for (what, pair) in [
            ("of an unknown authority", foreign),
            ("expired", own(now - day, now - HOUR)),
            ("not valid yet", own(now + HOUR, now + day)),
        ] {
            for protocol in ["http/1.1", "h2"] {
                let client = bench.authority.client_with(&[protocol], &pair);
                assert_eq!(bench.ask(client).await, None, "{what}");
            }
        }
        // rcgen's server certificates name no purpose, so any is theirs.
        let client = bench.authority.client_with(&["h2"], &server_only);
        assert!(bench.ask(client).await.is_some());
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let bench = Bench::new(true).await;
    for protocol in ["http/1.1", "h2"] {
        let now = SystemTime::now();
        let soon_over = now + Duration::from_secs(2);
        let pair = bench.authority.client_pair(&[BOT], now - HOUR, soon_over);
        let client = bench.authority.client_with(&[protocol], &pair);
        let io = TokioIo::new(bench.connect(client).await.unwrap());
        let request = http::Request::get("https://localhost/x").header("host", "localhost");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        // Without its sender the client itself would end the connection.
        let (answer, closed, _sender): (_, _, Box<dyn Any>) = if protocol == "h2" {
            let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
            let (mut sender, connection) = shaken.unwrap();
            let closed = tokio::spawn(connection);
            let answer = soon(sender.send_request(request)).await.unwrap();
            (answer, closed, Box::new(sender))
        } else {
            let shaken = hyper::client::conn::http1::handshake(io).await;
            let (mut sender, connection) = shaken.unwrap();
            let closed = tokio::spawn(connection);
            let answer = soon(sender.send_request(request)).await.unwrap();
            (answer, closed, Box::new(sender))
        };
        assert_eq!(answer.status(), 200);
        drop(answer);
        // The idle deadline is far away.
        let _how = soon(closed).await.unwrap();
        let ended = now.elapsed().unwrap();
        assert!(ended >= Duration::from_secs(1), "{protocol}: {ended:?}");
    }
}

/// Serves nobody.
struct Nobody;

impl Handler for Nobody {
    async fn handle(
        self: Arc<Self>,
        _request: http::Request<Incoming>,
        _peer: ConnInfo,
        _arrival: Arrival,
    ) -> http::Response<AnswerBody> {
        unreachable!("nothing listens")
    }
}

#[tokio::test]
async fn a_file_without_authorities_starts_nothing() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (certificate, key) = authority.pair("localhost");
    std::fs::write(path("tls.crt"), certificate).unwrap();
    std::fs::write(path("tls.key"), &key).unwrap();
    std::fs::write(path("empty.pem"), "").unwrap();
    std::fs::write(path("key.pem"), key).unwrap();
    for file in ["absent.pem", "empty.pem", "key.pem"] {
        let config = ListenerConfig {
            addresses: vec![([127, 0, 0, 1], 0).into()],
            tls: Some(TlsFiles {
                certificate: path("tls.crt"),
                key: path("tls.key"),
                clients: Some(ClientAuthority {
                    authorities: path(file),
                    required: false,
                }),
            }),
        };
        let engine = Arc::new(EngineConfig::default());
        let refused = listen(&config, Arc::new(Nobody), engine, Tracker::new(1)).map(drop);
        assert!(
            matches!(&refused, Err(ListenError::Certificate { certificate, .. }) if *certificate == path(file)),
            "{file}: {refused:?}"
        );
    }
}
