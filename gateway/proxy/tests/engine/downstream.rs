//! The client's side: protocols, limits, bodies, shutdown.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::relay::RelayEnd;

use crate::support::{Fake, Gateway, Plan, soon, to};

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http2(gateway: &Gateway) -> Http2 {
    let stream = gateway.connect().await.0;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

fn post(path: &str, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
    http::Request::post(format!("http://gateway{path}"))
        .body(Full::new(body.into()))
        .unwrap()
}

#[tokio::test]
async fn http2_without_tls_is_relayed() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut sender = http2(&gateway).await;
    let answer = tokio::spawn(sender.send_request(post("/v1/chat", "{}")));
    let mut upstream = fake.accept().await;
    let (head, body) = upstream.message().await;
    assert!(head.starts_with("POST /v1/chat HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, b"{}");
    upstream
        .send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        .await;
    let answer = soon(answer).await.unwrap().unwrap();
    let body = soon(answer.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(&body[..], b"hello");
    assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
}

#[tokio::test]
async fn large_http2_bodies_go_both_ways_unchanged() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let body: Vec<u8> = (0..8_u32 << 20).map(|at| (at % 251) as u8).collect();
    let mut sender = http2(&gateway).await;
    let answer = tokio::spawn(sender.send_request(post("/", body.clone())));
    let mut upstream = fake.accept().await;
    let (_, forwarded) = upstream.message().await;
    assert!(forwarded == body, "the request's body has changed");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let echo = tokio::spawn(async move {
        upstream.send(head.as_bytes()).await;
        upstream.send(&forwarded).await;
    });
    let answer = soon(answer).await.unwrap().unwrap();
    let received = soon(answer.into_body().collect()).await.unwrap().to_bytes();
    assert!(received == body, "the answer's body has changed");
    soon(echo).await.unwrap();
}

#[tokio::test]
async fn an_http2_reset_still_yields_the_exact_usage() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut sender = http2(&gateway).await;
    let answer = tokio::spawn(sender.send_request(post("/", "{}")));
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream
        .send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    let mut answer = soon(answer).await.unwrap().unwrap();
    soon(answer.body_mut().frame()).await.unwrap().unwrap();
    drop(answer);
    upstream.send(b"5\r\nusage\r\n0\r\n\r\n").await;
    let ended = gateway.ended().await;
    assert_eq!(ended.seen, b"abcusage");
}

#[tokio::test]
async fn http2_requests_are_judged_too() {
    let gateway = Gateway::start(Plan::default()).await;
    let mut sender = http2(&gateway).await;
    let mut request = post("/", "");
    request
        .headers_mut()
        .insert("host", "elsewhere".parse().unwrap());
    let answer = soon(sender.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.headers()["x-tollgate-error"], "malformed_request");
    let answer = soon(sender.send_request(post("/fine", ""))).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_stalled_http2_reader_is_cut() {
    let fake = Fake::new().await;
    let config = EngineConfig {
        write_deadline: Duration::from_millis(100),
        drain_bytes: 0,
        ..EngineConfig::default()
    };
    let mut gateway = Gateway::with(to(&fake.upstream), config, None).await;
    let mut sender = http2(&gateway).await;
    let answer = tokio::spawn(sender.send_request(post("/", "{}")));
    let mut upstream = fake.accept().await;
    upstream.message().await;
    let flood = tokio::spawn(async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n";
        upstream.0.write_all(head).await.unwrap();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..1024 {
            if upstream.0.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    let answer = soon(answer).await.unwrap().unwrap();
    // The body is not read: its window fills up, while the connection stays fine.
    assert_eq!(gateway.ended().await.how, RelayEnd::ClientGone);
    soon(flood).await.unwrap();
    drop(answer);
    assert!(
        sender.is_ready(),
        "the connection was closed, not the stream"
    );
}

#[tokio::test]
async fn a_slow_http1_reader_is_cut_by_the_write_deadline() {
    let fake = Fake::new().await;
    let config = EngineConfig {
        write_deadline: Duration::from_millis(100),
        drain_bytes: 0,
        ..EngineConfig::default()
    };
    let mut gateway = Gateway::with(to(&fake.upstream), config, None).await;
    let mut client = gateway.connect().await;
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.until("\r\n\r\n").await;
    let flood = tokio::spawn(async move {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n";
        upstream.0.write_all(head).await.unwrap();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..1024 {
            if upstream.0.write_all(&piece).await.is_err() {
                return true;
            }
        }
        false
    });
    assert_eq!(gateway.ended().await.how, RelayEnd::ClientGone);
    assert!(soon(flood).await.unwrap(), "everything was buffered");
}

#[tokio::test]
async fn one_mebibyte_body_is_judged_before_any_upstream_byte_and_forwarded_whole() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let body: Vec<u8> = (0..1_u32 << 20).map(|at| (at % 251) as u8).collect();
    let mut client = gateway.connect().await;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.send(head.as_bytes()).await;
    client.send(&body[..body.len() - 1]).await;
    assert!(
        fake.untouched().await,
        "the upstream was contacted too early"
    );
    client.send(&body[body.len() - 1..]).await;
    let mut upstream = fake.accept().await;
    let (_, forwarded) = upstream.message().await;
    assert!(forwarded == body, "the body has changed");
}

#[tokio::test]
async fn a_chunked_body_is_forwarded_whole() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..100 {
        client.send(b"a;x=y\r\n0123456789\r\n").await;
    }
    client.send(b"0\r\n\r\n").await;
    let mut upstream = fake.accept().await;
    let (head, body) = upstream.message().await;
    assert!(head.contains("content-length: 1000\r\n"), "{head}");
    assert_eq!(body, b"0123456789".repeat(100));
}

#[tokio::test]
async fn a_declared_body_over_the_limit_is_refused_at_once() {
    let gateway = Gateway::start(Plan::default()).await;
    let mut client = gateway.connect().await;
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 104857600\r\n\r\nabc")
        .await;
    let (head, _) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert!(head.contains("connection: close\r\n"), "{head}");
}

#[tokio::test]
async fn a_client_still_sending_gets_to_read_its_refusal() {
    let gateway = Gateway::start(Plan {
        refuse: true,
        ..Plan::default()
    })
    .await;
    let client = gateway.connect().await;
    let (mut reader, mut writer) = client.0.into_split();
    let sending = tokio::spawn(async move {
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8388608\r\n\r\n";
        writer.write_all(head).await.unwrap();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..128 {
            if writer.write_all(&piece).await.is_err() {
                break;
            }
        }
    });
    let mut answer = Vec::new();
    soon(reader.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    soon(sending).await.unwrap();
}

#[tokio::test]
async fn a_refused_client_that_waits_is_not_asked_for_its_body() {
    let gateway = Gateway::start(Plan {
        refuse: true,
        ..Plan::default()
    })
    .await;
    let mut client = gateway.connect().await;
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    let (head, _) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
}

#[tokio::test]
async fn a_client_that_waits_is_asked_for_its_body() {
    let gateway = Gateway::start(Plan::default()).await;
    let mut client = gateway.connect().await;
    client
        .send(b"POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send(b"12345").await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, b"POST /x");
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_at_once() {
    let config = EngineConfig {
        max_connections: 1,
        ..EngineConfig::default()
    };
    let gateway = Gateway::with(Plan::default(), config, None).await;
    let mut first = gateway.connect().await;
    first.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    first.message().await;
    let mut second = gateway.connect().await;
    assert_eq!(second.rest().await, "");
    first.send(b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    first.message().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let config = EngineConfig {
        client_idle: Duration::from_millis(50),
        ..EngineConfig::default()
    };
    let gateway = Gateway::with(Plan::default(), config, None).await;
    let mut silent = gateway.connect().await;
    assert_eq!(silent.rest().await, "");
    let mut used = gateway.connect().await;
    used.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    used.message().await;
    assert_eq!(used.rest().await, "");
}

#[tokio::test]
async fn a_head_that_has_begun_gets_its_own_time_and_an_answer_whatever_idling_is_allowed() {
    let config = EngineConfig {
        client_idle: Duration::from_millis(50),
        head_deadline: Duration::from_millis(300),
        ..EngineConfig::default()
    };
    let gateway = Gateway::with(Plan::default(), config, None).await;
    let mut fresh = gateway.connect().await;
    fresh.send(b"GET /1 HTTP/1.1\r\nhos").await;
    let mut used = gateway.connect().await;
    used.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    used.message().await;
    used.send(b"GET /2 HTTP/1.1\r\nhos").await;
    for client in [&mut fresh, &mut used] {
        let (head, _) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    }
}

#[tokio::test]
async fn a_call_may_take_longer_than_a_client_may_idle() {
    let fake = Fake::new().await;
    let config = EngineConfig {
        client_idle: Duration::from_millis(50),
        ..EngineConfig::default()
    };
    let gateway = Gateway::with(to(&fake.upstream), config, None).await;
    let mut client = gateway.connect().await;
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.until("\r\n\r\n").await;
    // Longer than idling is allowed: nothing else tells the two apart.
    tokio::time::sleep(Duration::from_millis(120)).await;
    upstream
        .send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, b"ok");
    assert_eq!(client.rest().await, "", "idle since, and ended");
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_lets_streams_finish() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut idle = gateway.connect().await;
    let mut busy = gateway.connect().await;
    busy.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.until("\r\n\r\n").await;
    upstream
        .send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    busy.until("abc").await;
    gateway.stop.send(true).unwrap();
    assert_eq!(idle.rest().await, "");
    assert_eq!(gateway.tracker.in_flight(), 1);
    upstream.send(b"3\r\ndef\r\n0\r\n\r\n").await;
    busy.until("def").await;
    assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
    soon(gateway.tracker.wait_idle()).await;
    gateway.stopped().await;
}
