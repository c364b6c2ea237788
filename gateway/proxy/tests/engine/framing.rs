//! Malformed requests on the wire: what is answered, and that nothing of them goes on.

use std::time::Duration;

use tollgate_proxy::engine::EngineConfig;

use crate::support::{Fake, Gateway, Plan, to};

#[tokio::test]
async fn a_malformed_head_is_answered_and_the_connection_closed() {
    let gateway = Gateway::start(Plan::default()).await;
    let cases: [(&[u8], &str); 8] = [
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\nhost: a\n\n", "400"),
        (b"GET /\r\n", "505"),
        (b"TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        (b"GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", "400"),
        (b"PRI / HTTP/2.0\r\n\r\n", "505"),
    ];
    for (request, status) in cases {
        let answer = gateway.exchange(request).await;
        let case = String::from_utf8_lossy(request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{case}: {answer}"
        );
        assert!(
            answer.contains("\"code\":\"malformed_request\""),
            "{case}: {answer}"
        );
        for header in [
            "content-type: application/json\r\n",
            "x-tollgate-error: malformed_request\r\n",
            "x-tollgate-request-id: ",
            "connection: close\r\n",
        ] {
            assert!(answer.contains(header), "{case}: {header} {answer}");
        }
    }
}

#[tokio::test]
async fn a_large_head_and_a_long_target_are_answered() {
    let gateway = Gateway::start(Plan::default()).await;
    let value = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let answer = gateway.exchange(value.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(64 * 1024));
    let answer = gateway.exchange(target.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer}");
    let value = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n",
        "x".repeat(60_000)
    );
    let answer = gateway.exchange(value.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_answered() {
    let config = EngineConfig {
        head_deadline: Duration::from_millis(20),
        ..EngineConfig::default()
    };
    let gateway = Gateway::with(Plan::default(), config, None).await;
    let mut client = gateway.connect().await;
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gateway = Gateway::start(Plan::default()).await;
    let mut requests = String::new();
    for number in 0..20 {
        requests.push_str(&format!(
            "POST /{number} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
        ));
    }
    requests.push_str("GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer = gateway.exchange(requests.as_bytes()).await;
    let mut at = 0;
    for number in 0..20 {
        let mark = format!("POST /{number}");
        at += answer[at..]
            .find(&mark)
            .unwrap_or_else(|| panic!("{mark}: {answer}"));
    }
    assert!(answer[at..].contains("GET /last"), "{answer}");
}

#[tokio::test]
async fn a_refused_head_behind_a_request_does_not_disturb_that_request() {
    let fake = Fake::new().await;
    let mut gateway = Gateway::start(to(&fake.upstream)).await;
    let mut client = gateway.connect().await;
    client
        .send(
            b"POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}\
              GET /second HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\nGET /third HTTP/1.1\r\nhost: a\r\n\r\n",
        )
        .await;
    let mut upstream = fake.accept().await;
    upstream.message().await;
    upstream
        .send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst")
        .await;
    let answers = client.rest().await;
    let first = answers.find("first").unwrap_or_else(|| panic!("{answers}"));
    let refused = answers
        .find("HTTP/1.1 400 ")
        .unwrap_or_else(|| panic!("{answers}"));
    assert!(first < refused, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1").count(), 2, "{answers}");
    assert_eq!(
        gateway.ended().await.how,
        tollgate_proxy::relay::RelayEnd::Complete
    );
    drop(client);
    assert!(fake.untouched().await);
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_never_reaches_the_upstream() {
    let fake = Fake::new().await;
    let gateway = Gateway::start(to(&fake.upstream)).await;
    for body in [
        "x\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "0\r\nauthorization: Bearer x\r\n\r\n",
    ] {
        let request =
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let answer = gateway.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert!(answer.contains("malformed"), "{body:?}: {answer}");
    }
    assert!(fake.untouched().await);
}
