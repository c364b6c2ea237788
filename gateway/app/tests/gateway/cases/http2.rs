//! Cases 48, 54 over HTTP/2, with and without TLS: the same rules in another framing.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tollgate_testkit::authority::Authority;
use tollgate_testkit::wait::within;

use crate::harness::{World, body_text, chat, key};

const CHAT: &str = "/openai/v1/chat/completions";

type Client = SendRequest<Full<Bytes>>;

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (client, connection) = handshake.await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn connect(address: SocketAddr) -> Client {
    speak(TcpStream::connect(address).await.unwrap()).await
}

fn request(uri: &str, headers: &[(&str, &str)], body: &Value) -> Request<Full<Bytes>> {
    let mut request = Request::post(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

/// The answer's status, its error code and its body; `None` if the stream or connection broke.
async fn send(
    client: &mut Client,
    request: Request<Full<Bytes>>,
) -> Option<(StatusCode, Option<String>, Bytes)> {
    let sent = async {
        client.ready().await.ok()?;
        let answer: Response<_> = client.send_request(request).await.ok()?;
        let code = answer.headers().get("x-tollgate-error");
        let code = code.map(|code| code.to_str().unwrap().to_owned());
        let status = answer.status();
        Some((
            status,
            code,
            answer.into_body().collect().await.ok()?.to_bytes(),
        ))
    };
    within("an answer over HTTP/2", sent).await
}

#[tokio::test]
async fn case_48_over_http_2_host_and_authority_must_agree() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let bearer = format!("Bearer {token}");
    for (uri, host) in [
        ("http://tollgate/openai/v1/chat/completions", "evil.example"),
        ("http://evil.example/openai/v1/chat/completions", "tollgate"),
        ("http://tollgate/openai/v1/chat/completions", "tollgate:81"),
        ("http://tollgate/openai/v1/chat/completions", ""),
    ] {
        let mut client = connect(world.gateway.address).await;
        let headers = [("host", host), ("authorization", bearer.as_str())];
        if let Some((status, code, _)) = send(&mut client, request(uri, &headers, &chat())).await {
            assert!(
                matches!(status.as_u16(), 400 | 421),
                "{uri} {host}: {status}"
            );
            assert!(code.is_some(), "{uri} {host}");
        }
    }
    world.assert_no_contact();
    let mut client = connect(world.gateway.address).await;
    let uri = format!("http://tollgate{CHAT}");
    let headers = [("host", "tollgate"), ("authorization", bearer.as_str())];
    let (status, ..) = send(&mut client, request(&uri, &headers, &chat()))
        .await
        .unwrap();
    assert_eq!(status, 200, "the same twice is no contradiction");
}

/// One connection, many streams at once, two tenants in turn.
#[tokio::test(flavor = "multi_thread")]
async fn case_04_streams_of_two_tenants_on_one_connection_bear_their_own_keys() {
    let world = World::new().await;
    let tokens = [
        ("acme", world.token("acme").await),
        ("globex", world.token("globex").await),
    ];
    let client = connect(world.gateway.address).await;
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let (tenant, token) = tokens[number % 2].clone();
            let mut client = client.clone();
            tokio::spawn(async move {
                let mut body = chat();
                body["user"] = json!(tenant);
                body["stream"] = json!(number % 3 == 0);
                let headers = [
                    ("x-tollgate-token", token.as_str()),
                    ("authorization", "Bearer $CRED{openai_key}"),
                ];
                let uri = format!("http://tollgate{CHAT}");
                let (status, ..) = send(&mut client, request(&uri, &headers, &body))
                    .await
                    .unwrap();
                assert_eq!(status, 200);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let seen = world.calls();
    assert_eq!(seen.len(), 200);
    for seen in seen {
        let body: Value = serde_json::from_str(&body_text(&seen)).unwrap();
        let tenant = body["user"].as_str().unwrap();
        assert_eq!(
            seen.header_values("authorization"),
            [format!("Bearer {}", key(tenant, "openai"))]
        );
    }
    for tenant in ["acme", "globex"] {
        assert_eq!(
            world.gateway.site.records_when(tenant, 100).await.len(),
            100
        );
    }
}

#[tokio::test]
async fn a_large_body_over_http_2_arrives_byte_for_byte() {
    use sha2::Digest;
    let world = World::new().await;
    let token = world.token("acme").await;
    let bearer = format!("Bearer {token}");
    let mut body = chat();
    body["messages"][0]["content"] = json!("0123456789abcdef".repeat(1 << 18));
    let mut client = connect(world.gateway.address).await;
    let uri = format!("http://tollgate{CHAT}");
    let headers = [("authorization", bearer.as_str())];
    let (status, ..) = send(&mut client, request(&uri, &headers, &body))
        .await
        .unwrap();
    assert_eq!(status, 200);
    let sent: String = sha2::Sha256::digest(body.to_string())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(world.only_call().body_sha256, sent);
}

/// With TLS, HTTP/2 is agreed on by ALPN; a certificate of the operator's own is presented.
#[tokio::test]
async fn case_48_behind_tls_the_same_rules_hold() {
    let authority = Authority::new();
    let (certificate, private_key) = authority.pair("tollgate.example");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("tls.crt"), certificate).unwrap();
    std::fs::write(path("tls.key"), private_key).unwrap();
    let world = World::planned(|plan| {
        let tls = format!(
            "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            path("tls.crt").display(),
            path("tls.key").display()
        );
        plan.gateway.push_str(&tls);
    })
    .await;
    let token = world.token("acme").await;
    let bearer = format!("Bearer {token}");

    let connector = tokio_rustls::TlsConnector::from(Arc::new(authority.client(&["h2"])));
    let tcp = TcpStream::connect(world.gateway.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("tollgate.example").unwrap();
    let stream = connector.connect(name, tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = speak(stream).await;
    let uri = format!("https://tollgate.example{CHAT}");
    let headers = [("authorization", bearer.as_str())];
    let (status, ..) = send(&mut client, request(&uri, &headers, &chat()))
        .await
        .unwrap();
    assert_eq!(status, 200);
    let headers = [("host", "evil.example"), ("authorization", bearer.as_str())];
    if let Some((status, ..)) = send(&mut client, request(&uri, &headers, &chat())).await {
        assert!(matches!(status.as_u16(), 400 | 421), "{status}");
    }
    assert_eq!(world.calls().len(), 1);

    // Nor may a connection that was opened for one name be used for another.
    let uri = format!("https://evil.example{CHAT}");
    let headers = [("authorization", bearer.as_str())];
    if let Some((status, code, _)) = send(&mut client, request(&uri, &headers, &chat())).await {
        assert!(matches!(status.as_u16(), 400 | 421), "{status}");
        assert_eq!(code.as_deref(), Some("malformed_request"));
    }
    assert_eq!(world.calls().len(), 1);

    // A client that does not speak TLS gets nowhere.
    let ask = crate::harness::Ask::new("GET", "/openai/v1/models").bearer(&token);
    let mut raw = tollgate_testkit::raw::Raw::connect(world.gateway.address).await;
    raw.send(ask.bytes()).await;
    let said = raw.rest().await;
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{said:?}");
    assert_eq!(world.calls().len(), 1);
}

#[tokio::test]
async fn own_usage_is_the_same_over_http2_and_nobody_elses() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let mut client = connect(world.gateway.address).await;
    let authorization = format!("Bearer {token}");
    let get = |path: &str| {
        let uri = format!("http://tollgate{path}");
        let request = Request::get(uri).header("authorization", &authorization);
        request.body(Full::new(Bytes::new())).unwrap()
    };
    let (status, _, body) = send(&mut client, get("/tollgate/v1/usage")).await.unwrap();
    let statement: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, StatusCode::OK, "{statement}");
    assert_eq!(
        (&statement["tenant"], &statement["agent"]),
        (&json!("acme"), &json!("a1"))
    );
    let (status, code, _) = send(&mut client, get("/tollgate/v1/usage?tenant=globex"))
        .await
        .unwrap();
    assert_eq!(
        (status, code.as_deref()),
        (StatusCode::BAD_REQUEST, Some("malformed_request"))
    );
    let (status, code, _) = send(&mut client, get("/tollgate/v2/usage")).await.unwrap();
    assert_eq!(
        (status, code.as_deref()),
        (StatusCode::NOT_FOUND, Some("not_found"))
    );
    world.assert_no_contact();
}
