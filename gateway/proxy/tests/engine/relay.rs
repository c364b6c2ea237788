//! Answers on their way to the client, and what becomes of them when either side fails.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tollgate_proxy::engine::EngineConfig;
use tollgate_proxy::relay::RelayEnd;

use crate::support::{Fake, Gateway, Plan, soon, to};

const ASK: &[u8] = b"POST /v1/chat HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2\r\n\r\n{}";
const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_plain_call_is_relayed_and_told_to_the_tap() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    let (head, body) = upstream.message().await;
    assert!(head.starts_with("POST /v1/chat HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("host: 127.0.0.1:{}\r\n", fake.upstream.port)),
        "{head}"
    );
    assert_eq!(body, b"{}");
    upstream
        .send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        .await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, b"hello");
    let ended = gateway.ended().await;
    assert_eq!(
        (ended.how, &ended.seen[..]),
        (RelayEnd::Complete, &b"hello"[..])
    );
    soon(gateway.tracker.wait_idle()).await;
}

#[tokio::test]
async fn both_connections_are_used_again() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    for _ in 0..20 {
        upstream.message().await;
        upstream
            .send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
        client.message().await;
        assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
        client.send(ASK).await;
    }
    assert!(fake.untouched().await, "a second connection was opened");
}

#[tokio::test]
async fn each_event_reaches_the_client_before_the_next_is_sent() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.until("\r\n\r\n").await;
    for number in 0..5 {
        let event = format!("data: {number}\n\n");
        upstream
            .send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
            .await;
        client.until(&event).await;
    }
    upstream.send(b"0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn what_the_tap_held_back_is_sent_at_the_end() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(Plan {
        held_back: Some(Bytes::from_static(b"[held back]")),
        ..to(&fake.upstream)
    })
    .await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    upstream.send(b"3\r\nabc\r\n0\r\n\r\n").await;
    let answer = client.until("0\r\n\r\n").await;
    assert!(
        answer.contains("abc") && answer.contains("[held back]"),
        "{answer}"
    );
}

#[tokio::test]
async fn hang_up_mid_stream_still_yields_the_exact_usage() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    upstream.send(b"3\r\nabc\r\n").await;
    client.until("abc").await;
    drop(client);
    upstream.send(b"5\r\nusage\r\n0\r\n\r\n").await;
    let ended = gateway.ended().await;
    assert_eq!(ended.how, RelayEnd::ClientGone);
    assert_eq!(ended.seen, b"abcusage");
    soon(gateway.tracker.wait_idle()).await;
}

#[tokio::test]
async fn hang_up_before_the_answer_is_noticed_and_does_not_stop_the_exchange() {
    let fake = Fake::new().await;
    let config = EngineConfig {
        max_connections: 1,
        ..EngineConfig::default()
    };
    let mut gateway = Gateway::with(to(&fake.upstream), config, None).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    drop(client);
    // A second client is let in as soon as the first one's departure has been noticed.
    let mut second = soon(async {
        loop {
            let mut second = gateway.connect().await;
            second.send(ASK).await;
            tokio::select! {
                reached = fake.accept() => return (second, reached),
                _refused = second.0.readable() => {}
            }
        }
    })
    .await;
    assert_eq!(gateway.tracker.in_flight(), 2);
    upstream.send(STREAM).await;
    upstream.send(b"5\r\nusage\r\n0\r\n\r\n").await;
    let ended = gateway.ended().await;
    assert_eq!(ended.how, RelayEnd::ClientGone);
    assert_eq!(ended.seen, b"usage");
    second.1.message().await;
}

#[tokio::test]
async fn an_answer_without_room_to_drain_is_cut_and_still_ends() {
    let fake = Fake::new().await;
    let config = EngineConfig {
        max_detached: 0,
        ..EngineConfig::default()
    };
    let mut gateway = Gateway::with(to(&fake.upstream), config, None).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    upstream.send(b"3\r\nabc\r\n").await;
    client.until("abc").await;
    drop(client);
    let ended = gateway.ended().await;
    assert_eq!(
        (ended.how, &ended.seen[..]),
        (RelayEnd::ClientGone, &b"abc"[..])
    );
    upstream.rest().await;
}

#[tokio::test]
async fn a_drain_ends_at_its_bounds() {
    let fake = Fake::new().await;
    let config = EngineConfig {
        drain_bytes: 10,
        ..EngineConfig::default()
    };
    let mut gateway = Gateway::with(to(&fake.upstream), config, None).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    upstream.send(b"3\r\nabc\r\n").await;
    client.until("abc").await;
    drop(client);
    upstream.send(b"14\r\n01234567890123456789\r\n").await;
    upstream.send(b"5\r\nusage\r\n0\r\n\r\n").await;
    let ended = gateway.ended().await;
    assert_eq!(ended.how, RelayEnd::ClientGone);
    assert!(!ended.seen.ends_with(b"usage"));
    upstream.rest().await;
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_seen_by_client_and_tap() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    upstream.send(b"3\r\nabc\r\n").await;
    client.until("abc").await;
    drop(upstream);
    let rest = client.rest().await;
    assert!(
        !rest.contains("0\r\n\r\n"),
        "the answer looks whole: {rest:?}"
    );
    assert_eq!(gateway.ended().await.how, RelayEnd::UpstreamFailed);
}

#[tokio::test]
async fn what_an_upstream_sent_before_it_broke_off_reaches_the_client() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(&[STREAM, b"3\r\nabc\r\n"].concat()).await;
    drop(upstream);
    let all = client.rest().await;
    assert!(
        all.starts_with("HTTP/1.1 200 ") && all.contains("abc"),
        "{all:?}"
    );
    assert!(
        !all.contains("0\r\n\r\n"),
        "the answer looks whole: {all:?}"
    );
    assert_eq!(gateway.ended().await.how, RelayEnd::UpstreamFailed);
}

#[tokio::test]
async fn a_tap_that_cuts_ends_the_answer_and_the_upstream_connection() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(Plan {
        cut_on: Some(b"forbidden"),
        ..to(&fake.upstream)
    })
    .await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    upstream.send(b"9\r\nforbidden\r\n").await;
    let answer = client.rest().await;
    assert!(!answer.contains("forbidden"), "{answer}");
    assert_eq!(gateway.ended().await.how, RelayEnd::Cut);
    upstream.rest().await;
}

#[tokio::test]
async fn a_revoked_stream_ends_within_a_few_ticks_though_nothing_comes() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.until("\r\n\r\n").await;
    let revoked = Instant::now();
    *gateway.live.lock().unwrap() = false;
    assert_eq!(gateway.ended().await.how, RelayEnd::Cut);
    assert!(revoked.elapsed() < Duration::from_secs(5));
    client.rest().await;
}

#[tokio::test]
async fn an_upstream_that_falls_silent_is_given_up() {
    let fake = Fake::new().await;
    let config = EngineConfig {
        answer_idle: Duration::from_millis(10),
        ..EngineConfig::default()
    };
    let mut gateway = Gateway::with(to(&fake.upstream), config, None).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.until("\r\n\r\n").await;
    assert_eq!(gateway.ended().await.how, RelayEnd::Idle);
    client.rest().await;
}

#[tokio::test]
async fn answers_without_a_body_are_complete() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    let cases: [(&[u8], &[u8]); 3] = [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ];
    let mut upstream = None;
    for (method, answer) in cases {
        client.send(method).await;
        client.send(b" /x HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
        let upstream = match &mut upstream {
            Some(upstream) => upstream,
            none => none.insert(fake.accept().await),
        };
        upstream.until("\r\n\r\n").await;
        upstream.send(answer).await;
        client.until("\r\n\r\n").await;
        assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
    }
}

#[tokio::test]
async fn an_answer_to_the_end_of_its_connection_is_relayed_whole() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\nall of it").await;
    drop(upstream);
    let answer = client.until("0\r\n\r\n").await;
    assert!(answer.contains("all of it"), "{answer}");
    assert_eq!(gateway.ended().await.how, RelayEnd::Complete);
}
