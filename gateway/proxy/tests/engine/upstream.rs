//! The upstream's side: TLS, reuse, retries, early answers, deadlines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tollgate_core::policy::Upstream;
use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::listener::TlsFiles;
use tollgate_proxy::relay::RelayEnd;

use crate::support::{Fake, Gateway, Plan, plain, signal, soon, to};

const ASK: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn upstream_answer_before_the_upload_ends_is_relayed() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(Plan {
        stream_body: true,
        ..to(&fake.upstream)
    })
    .await;
    let mut client = gateway.connect().await;
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nsome")
        .await;
    let mut upstream = fake.accept().await;
    upstream.until("some").await;
    upstream
        .send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 6\r\n\r\nenough")
        .await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(body, b"enough");
    // The upstream's connection is not used again: it ends.
    upstream.rest().await;
}

/// More than all the buffers between an upstream and its client hold.
const LARGE_BYTES: usize = 48 << 20;

#[tokio::test]
async fn an_upload_goes_on_while_its_client_reads_nothing_of_the_answer() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(Plan {
        stream_body: true,
        ..to(&fake.upstream)
    })
    .await;
    let large = vec![b'x'; LARGE_BYTES];
    let mut client = gateway.connect().await;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE_BYTES}\r\n\r\n");
    client.send(head.as_bytes()).await;
    client.send(b"x").await;
    let mut upstream = fake.accept().await;
    upstream.until("\r\n\r\nx").await;
    let (mut reads, mut writes) = upstream.0.into_split();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n");
    let answers = async {
        writes.write_all(answer.as_bytes()).await.unwrap();
        writes.write_all(&large).await.unwrap();
    };
    let uploads = async {
        let mut upload = vec![0; LARGE_BYTES - 1];
        soon(reads.read_exact(&mut upload)).await.unwrap();
    };
    let calls = async {
        client.send(&large[1..]).await;
        client.message().await.1.len()
    };
    let ((), (), read) = tokio::join!(answers, uploads, calls);
    assert_eq!(read, LARGE_BYTES);
}

#[tokio::test]
async fn a_streamed_upload_arrives_whole_and_its_connection_is_used_again() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(Plan {
        stream_body: true,
        ..to(&fake.upstream)
    })
    .await;
    let mut client = gateway.connect().await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n";
    let body = vec![b'x'; 200_000];
    let mut upstream = None;
    for _ in 0..3 {
        client.send(head).await;
        client.send(&body).await;
        let upstream = match &mut upstream {
            Some(upstream) => upstream,
            none => none.insert(fake.accept().await),
        };
        let (_, forwarded) = upstream.message().await;
        assert_eq!(forwarded.len(), body.len());
        upstream.send(OK).await;
        client.message().await;
        assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
    }
}

#[tokio::test]
async fn a_hang_up_mid_upload_aborts_the_upstream_request() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(Plan {
        stream_body: true,
        ..to(&fake.upstream)
    })
    .await;
    let mut client = gateway.connect().await;
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nsome")
        .await;
    let mut upstream = fake.accept().await;
    upstream.until("some").await;
    drop(client);
    upstream.rest().await;
    soon(gateway.tracker.wait_idle()).await;
}

/// One call over a connection that is then closed by `end`, and a second call.
async fn second_call_after(
    end: impl AsyncFnOnce(crate::support::Client, &mut crate::support::Client),
) -> (Fake, String) {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(OK).await;
    client.message().await;
    gateway.ended().await;
    end(upstream, &mut client).await;
    let second = async {
        let mut upstream = fake.accept().await;
        upstream.message().await;
        upstream.send(OK).await;
    };
    let answered = async {
        let (head, body) = client.message().await;
        format!("{head}{}", String::from_utf8_lossy(&body))
    };
    let answer = tokio::select! {
        answer = answered => answer,
        () = async { second.await; std::future::pending().await } => unreachable!(),
    };
    (fake, answer)
}

#[tokio::test]
async fn a_dead_pooled_connection_is_replaced_unseen() {
    let (_, answer) = second_call_after(async |upstream, client| {
        drop(upstream);
        client.send(ASK).await;
    })
    .await;
    assert!(answer.ends_with("ok"), "{answer}");
}

#[tokio::test]
async fn a_request_is_sent_again_if_a_used_connection_dies_without_a_byte_of_answer() {
    let (_, answer) = second_call_after(async |mut upstream, client| {
        client.send(ASK).await;
        upstream.message().await;
        drop(upstream);
    })
    .await;
    assert!(answer.ends_with("ok"), "{answer}");
}

#[tokio::test]
async fn a_request_is_not_sent_again_after_one_byte_of_answer() {
    let (fake, answer) = second_call_after(async |mut upstream, client| {
        client.send(ASK).await;
        upstream.message().await;
        upstream.send(b"H").await;
        drop(upstream);
    })
    .await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("sent: true"), "{answer}");
    assert!(fake.untouched().await);
}

#[tokio::test]
async fn a_request_is_not_sent_again_if_a_new_connection_dies() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    drop(upstream);
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("sent: true"));
    assert!(fake.untouched().await);
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_an_error_before_contact() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let gateway = Gateway::start(to(&plain(port))).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(String::from_utf8_lossy(&body).starts_with("Connect("));
    client.send(ASK).await;
    client.message().await;
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_given_up() {
    let fake = Fake::new().await;
    let config = EngineConfig {
        first_byte_deadline: Duration::from_millis(50),
        ..EngineConfig::default()
    };
    let gateway = Gateway::with(to(&fake.upstream), config, None).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    let (head, _) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    upstream.rest().await;
}

#[tokio::test]
async fn an_answer_that_switches_protocols_unasked_is_an_error() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream
        .send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
        .await;
    let (head, _) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

/// An authority, and a server certificate of it for `name`.
struct Tls {
    dir: tempfile::TempDir,
    server: Arc<ServerConfig>,
}

impl Tls {
    fn new(name: &str, alpn: &[&[u8]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        std::fs::write(dir.path().join("leaf.pem"), leaf.pem()).unwrap();
        std::fs::write(dir.path().join("leaf.key"), key.serialize_pem()).unwrap();
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], secret)
            .unwrap();
        server.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Self {
            dir,
            server: Arc::new(server),
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn upstream(&self, port: u16, ca_file: Option<&Path>) -> Upstream {
        Upstream {
            tls: true,
            host: "localhost".to_owned(),
            ca_file: ca_file.map(Path::to_owned),
            ..plain(port)
        }
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn a_tls_upstream_with_the_right_name_is_spoken_to() {
    let tls = Tls::new("localhost", &[b"http/1.1"]);
    let (listener, port) = listener().await;
    let ca = tls.file("ca.pem");
    let gateway = Gateway::start(to(&tls.upstream(port, Some(&ca)))).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let (stream, _) = soon(listener.accept()).await.unwrap();
    let mut stream = soon(TlsAcceptor::from(tls.server).accept(stream))
        .await
        .unwrap();
    let mut request = vec![0; 15];
    soon(stream.read_exact(&mut request)).await.unwrap();
    assert_eq!(request, b"POST / HTTP/1.1");
    stream.write_all(OK).await.unwrap();
    let (_, body) = client.message().await;
    assert_eq!(body, b"ok");
}

#[tokio::test]
async fn nothing_is_written_to_an_upstream_with_the_wrong_name_or_authority() {
    let other = Tls::new("localhost", &[]);
    let wrong_authority = other.file("ca.pem");
    for (name, ca) in [
        ("elsewhere.test", None),
        ("localhost", Some(wrong_authority)),
    ] {
        let tls = Tls::new(name, &[b"http/1.1"]);
        let (listener, port) = listener().await;
        let ca = ca.unwrap_or_else(|| tls.file("ca.pem"));
        let gateway = Gateway::start(to(&tls.upstream(port, Some(&ca)))).await;
        let mut client = gateway.connect().await;
        client.send(ASK).await;
        let (stream, _) = soon(listener.accept()).await.unwrap();
        // With TLS 1.3 the server may be done before the client has judged it.
        if let Ok(mut stream) = soon(TlsAcceptor::from(tls.server).accept(stream)).await {
            let mut received = Vec::new();
            let _refused = soon(stream.read_to_end(&mut received)).await;
            assert_eq!(received, b"", "bytes went to {name}");
        }
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        let text = String::from_utf8_lossy(&body);
        assert!(text.starts_with("Tls("), "{text}");
    }
}

/// Answers every HTTP/2 request on `stream` with `text`, and leaves after `requests` of them, when told to.
async fn serve_http2(
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    requests: usize,
    text: &'static [u8],
    leave: oneshot::Receiver<()>,
) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    for _ in 0..requests {
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        assert!(!request.headers().contains_key("host"));
        assert!(
            request
                .uri()
                .authority()
                .unwrap()
                .as_str()
                .starts_with("localhost:")
        );
        let answer = http::Response::new(());
        let mut body = respond.send_response(answer, false).unwrap();
        body.send_data(bytes::Bytes::from_static(text), true)
            .unwrap();
    }
    tokio::select! {
        _ = connection.accept() => panic!("a request too many"),
        _ = leave => {}
    }
    connection.abrupt_shutdown(h2::Reason::NO_ERROR);
    while connection.accept().await.is_some() {}
}

#[tokio::test]
async fn http2_upstreams_share_one_connection_and_replace_it_when_it_goes() {
    let tls = Tls::new("localhost", &[b"h2"]);
    let (listener, port) = listener().await;
    let ca = tls.file("ca.pem");
    let upstream = Upstream {
        http2: true,
        ..tls.upstream(port, Some(&ca))
    };
    let mut gateway = Gateway::start(to(&upstream)).await;
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
    let (first_gone, gone) = signal();
    let (leave, told) = signal();
    let (_stay, never) = signal();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve_http2(acceptor.accept(stream).await.unwrap(), 10, b"one", told).await;
        first_gone.send(()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        serve_http2(acceptor.accept(stream).await.unwrap(), 1, b"two", never).await;
    });
    let calls = (0..10)
        .map(|_| gateway.exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    for answer in futures_util::future::join_all(calls).await {
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains("one"),
            "{answer}"
        );
    }
    leave.send(()).unwrap();
    soon(gone).await.unwrap();
    let answer = gateway
        .exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.contains("two"), "{answer}");
    assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
    serving.abort();
}

#[tokio::test]
async fn clients_are_served_over_tls_in_both_protocols() {
    let tls = Tls::new("localhost", &[]);
    let files = TlsFiles {
        certificate: tls.file("leaf.pem"),
        key: tls.file("leaf.key"),
        clients: None,
    };
    let gateway = Gateway::with(Plan::default(), EngineConfig::default(), Some(files)).await;
    for (alpn, expected) in [
        (&b"h2"[..], http::Version::HTTP_2),
        (b"http/1.1", http::Version::HTTP_11),
    ] {
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(tls.file("ca.pem")).unwrap();
        for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![alpn.to_vec()];
        let stream = gateway.connect().await.0;
        let stream = soon(
            tokio_rustls::TlsConnector::from(Arc::new(client))
                .connect("localhost".try_into().unwrap(), stream),
        )
        .await
        .unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let body = http_body_util::Empty::<bytes::Bytes>::new();
        let request = http::Request::get("https://localhost/x").header("host", "localhost");
        let request = request.body(body).unwrap();
        let answer = if expected == http::Version::HTTP_2 {
            let executor = hyper_util::rt::TokioExecutor::new();
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io)
                .await
                .unwrap();
            tokio::spawn(connection);
            soon(sender.send_request(request)).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            soon(sender.send_request(request)).await.unwrap()
        };
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, expected)
        );
    }
}
