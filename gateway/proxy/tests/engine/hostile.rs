//! Upstreams that break the rules: nothing of theirs may reach another call.

use std::time::Duration;

use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::relay::RelayEnd;

use crate::support::{Fake, Gateway, Plan, soon, to};

const ASK: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn bytes_after_an_answer_never_become_the_next_answer() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let upstream = tokio::spawn(async move {
        loop {
            let mut connection = fake.accept().await;
            tokio::spawn(async move {
                loop {
                    connection.message().await;
                    connection
                        .send(
                            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood\
                              HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
                        )
                        .await;
                }
            });
        }
    });
    let mut client = gateway.connect().await;
    for call in 0..200 {
        client.send(ASK).await;
        let (head, body) = client.message().await;
        // A call on a connection that has gone bad may fail; it must not be answered by it.
        assert!(
            body == b"good" || head.starts_with("HTTP/1.1 502 "),
            "call {call}: {head}{}",
            String::from_utf8_lossy(&body)
        );
        if body == b"good" {
            assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
        }
    }
    upstream.abort();
}

#[tokio::test]
async fn answers_with_ambiguous_framing_are_errors() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
         4\r\nbody\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nbody",
        "HTTP/0.9 200 OK\r\n\r\n",
        "<html>",
    ] {
        let fake = Fake::new().await;
        let gateway = Gateway::start(to(&fake.upstream)).await;
        let mut client = gateway.connect().await;
        client.send(ASK).await;
        let mut upstream = fake.accept().await;
        upstream.message().await;
        upstream.send(answer.as_bytes()).await;
        drop(upstream);
        let (head, _) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{answer:?}: {head}");
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    for _ in 0..50 {
        upstream
            .send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
            .await;
    }
    upstream
        .send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, b"ok");
}

#[tokio::test]
async fn trailers_of_an_upstream_are_dropped() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client
        .send(b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n")
        .await;
    let mut upstream = fake.accept().await;
    upstream.until("\r\n\r\n").await;
    upstream
        .send(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-secret\r\n\r\n\
              4\r\nbody\r\n0\r\nx-secret: sk-canary-trailer\r\n\r\n",
        )
        .await;
    let answer = client.until("0\r\n").await + &client.until("\r\n").await;
    assert!(!answer.contains("canary"), "{answer}");
    assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
}

#[tokio::test]
async fn an_upload_that_stalls_ends_with_the_upstream_informed() {
    let fake = Fake::new().await;
    let gateway = Gateway::with(
        Plan {
            stream_body: true,
            upload_idle: Some(Duration::from_millis(50)),
            ..to(&fake.upstream)
        },
        EngineConfig::default(),
        None,
    )
    .await;
    let mut client = gateway.connect().await;
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nsome")
        .await;
    let mut upstream = fake.accept().await;
    upstream.until("some").await;
    upstream.rest().await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(body, b"Upload(Stalled)");
    soon(gateway.tracker.wait_idle()).await;
}

#[tokio::test]
async fn an_old_client_gets_a_plain_answer_to_the_end_of_its_connection() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").await;
    let mut upstream = fake.accept().await;
    upstream.until("\r\n\r\n").await;
    upstream
        .send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nbody")
        .await;
    drop(upstream);
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nbody"), "{answer}");
}
