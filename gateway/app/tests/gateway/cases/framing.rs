//! Cases 49–51, 57: a request that could be read in two ways is not read at all.

use tollgate_testkit::raw::Raw;

use crate::harness::{Ask, World};

const MODELS: &str = "/openai/v1/models";
const CHAT: &str = "/openai/v1/chat/completions";

/// Sends bytes, checks that they are refused with one of `statuses`, that the connection then
/// closes, and that nothing after the first answer is executed.
async fn assert_refused_and_closed(world: &World, request: &[u8], statuses: &[u16]) {
    let shown = String::from_utf8_lossy(request)
        .replace("\r\n", "␍␊")
        .replace('\n', "␊");
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(request).await;
    raw.finish().await;
    let Some(answer) = raw.answer().await else {
        panic!("closed without an answer: {shown}");
    };
    assert!(
        statuses.contains(&answer.status),
        "{shown}: {answer:?} {}",
        answer.text()
    );
    assert!(
        answer.header("x-tollgate-error").is_some(),
        "{shown}: {answer:?}"
    );
    assert!(
        answer.header("x-tollgate-request-id").is_some(),
        "{shown}: {answer:?}"
    );
    assert_eq!(raw.rest().await, b"", "one answer, then the end: {shown}");
}

#[tokio::test]
async fn case_49_exactly_one_plain_host() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let head = format!("GET {MODELS} HTTP/1.1\r\nauthorization: Bearer {token}\r\n");
    for hosts in [
        "",
        "host: tollgate\r\nhost: tollgate\r\n",
        "host: tollgate\r\nhost: evil.example\r\n",
        "Host: tollgate\r\nhOST: tollgate\r\n",
        "host: tollgate, evil.example\r\n",
        "host: user@tollgate\r\n",
        "host: user:pass@tollgate\r\n",
        "host: tollgate:80@evil.example\r\n",
        "host: \r\n",
        "host: toll gate\r\n",
        "host: tollgate/x\r\n",
        "host: tollgate:port\r\n",
        "host: tollgate#x\r\n",
        "host: tollgate?x\r\n",
        "host: tollgate\\evil\r\n",
    ] {
        let request = format!("{head}{hosts}\r\n");
        assert_refused_and_closed(&world, request.as_bytes(), &[400]).await;
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_50_a_body_has_one_length() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let smuggled =
        format!("GET {MODELS} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n\r\n");
    let with = |version: &str, framing: &str, body: &str| {
        format!(
            "POST {CHAT} HTTP/{version}\r\nhost: t\r\nauthorization: Bearer {token}\r\n{framing}\r\n{body}{smuggled}"
        )
    };
    for request in [
        with(
            "1.1",
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        with(
            "1.1",
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            "0\r\n\r\n",
        ),
        with(
            "1.1",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
            "0\r\n\r\n",
        ),
        with(
            "1.1",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        with(
            "1.1",
            "transfer-encoding: chunked, identity\r\n",
            "0\r\n\r\n",
        ),
        with("1.1", "transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        with("1.1", "transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        with("1.1", "transfer-encoding: chunked\x0b\r\n", "0\r\n\r\n"),
        with("1.1", "transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n"),
        with("1.1", "transfer-encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        with("1.1", "transfer-encoding: identity\r\n", ""),
        with("1.1", "transfer-encoding:\r\n", ""),
        with("1.1", "content-length: 5\r\ncontent-length: 6\r\n", "hello"),
        with("1.1", "content-length: 5\r\ncontent-length: 5\r\n", "hello"),
        with("1.1", "content-length: 5, 5\r\n", "hello"),
        with("1.1", "content-length: +5\r\n", "hello"),
        with("1.1", "content-length: -5\r\n", "hello"),
        with("1.1", "content-length: 0x5\r\n", "hello"),
        with("1.1", "content-length: 5 5\r\n", "hello"),
        with("1.1", "content-length: 5.0\r\n", "hello"),
        with("1.1", "content-length: 5e0\r\n", "hello"),
        with("1.1", "content-length:\r\n", "hello"),
        with("1.1", "content-length: 18446744073709551621\r\n", "hello"),
        with(
            "1.1",
            "content-length: 99999999999999999999999999\r\n",
            "hello",
        ),
        with("1.1", "content-length : 5\r\n", "hello"),
        with("1.1", "transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        with("1.0", "transfer-encoding: chunked\r\n", "0\r\n\r\n"),
    ] {
        assert_refused_and_closed(&world, request.as_bytes(), &[400, 413, 501]).await;
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_50_chunks_are_read_strictly() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
    ] {
        let request = format!("{head}{chunks}");
        assert_refused_and_closed(&world, request.as_bytes(), &[400]).await;
    }
    let long_extension = format!("{head}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    assert_refused_and_closed(&world, long_extension.as_bytes(), &[400, 431]).await;
    world.assert_no_contact();
}

#[tokio::test]
async fn case_51_odd_bytes_in_a_head_are_refused() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let line = format!("GET {MODELS} HTTP/1.1\r\n");
    let auth = format!("authorization: Bearer {token}\r\n");
    for request in [
        format!("{line}host: t\r\nx: a\rb\r\n{auth}\r\n"),
        format!("{line}host: t\nx: a\r\n{auth}\r\n"),
        format!("{line}host: t\r\nx: a\n{auth}\r\n"),
        format!("GET {MODELS} HTTP/1.1\nhost: t\r\n{auth}\r\n"),
        format!("{line}host: t\r\nx: a\r\n b\r\n{auth}\r\n"),
        format!("{line}host: t\r\nx: a\r\n\tb\r\n{auth}\r\n"),
        format!("{line}host: t\r\nauthorization: Bearer\r\n {token}\r\n\r\n"),
        format!("{line}host: t\r\nx: a\0b\r\n{auth}\r\n"),
        format!("{line}host: t\r\nx\0: a\r\n{auth}\r\n"),
        format!("{line}host: t\r\nauthorization : Bearer {token}\r\n\r\n"),
        format!("{line}host: t\r\nauthorization\t: Bearer {token}\r\n\r\n"),
        format!("{line}host: t\r\n: a\r\n{auth}\r\n"),
        format!("{line}host: t\r\nno colon\r\n{auth}\r\n"),
        format!("{line}host: t\r\nx_y: a\r\n{auth}\r\n"),
        format!("{line}host: t\r\nauthorization_: Bearer x\r\n{auth}\r\n"),
        format!("{line}host: t\r\nx(y): a\r\n{auth}\r\n"),
        format!("{line}host: t\r\n\u{fc}: a\r\n{auth}\r\n"),
        format!("{line} host: t\r\n{auth}\r\n"),
        format!("GET  {MODELS} HTTP/1.1\r\nhost: t\r\n{auth}\r\n"),
        format!("GET {MODELS}  HTTP/1.1\r\nhost: t\r\n{auth}\r\n"),
        format!("GET\t{MODELS} HTTP/1.1\r\nhost: t\r\n{auth}\r\n"),
        format!("GET {MODELS} x HTTP/1.1\r\nhost: t\r\n{auth}\r\n"),
        format!("get {MODELS} HTTP/1.1\r\nhost: t\r\n{auth}\r\n"),
        format!("GET {MODELS}\r\nhost: t\r\n{auth}\r\n"),
        format!("GET {MODELS} HTTP/0.9\r\nhost: t\r\n{auth}\r\n"),
        format!("GET {MODELS} HTTP/1.2\r\nhost: t\r\n{auth}\r\n"),
        format!("GET {MODELS} HTTP/3.0\r\nhost: t\r\n{auth}\r\n"),
        format!("TRACE {MODELS} HTTP/1.1\r\nhost: t\r\n{auth}\r\n"),
    ] {
        assert_refused_and_closed(&world, request.as_bytes(), &[400, 405, 501, 505]).await;
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn case_57_a_path_means_what_its_bytes_say() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for path in [
        "/openai/v1/chat/completions/../../admin",
        "/openai/v1/chat/completions/..",
        "/openai/./v1/models",
        "/openai/v1/chat/%2e%2e/models",
        "/openai/v1/%2E%2E/v1/models",
        "/openai/v1/..%2fv1/models",
        "/openai/v1/%252e%252e/models",
        "/openai//v1/models",
        "//openai/v1/models",
        "/openai/v1/models/",
        "/openai/v1/models//",
        "/openai/v1;x=/../models",
        "/openai/v1/models;x",
        "/openai/v1/models%00",
        "/openai/v1/models%0a",
        "/openai/v1\\models",
        "/openai\\v1\\models",
        "/openai/v1/models%2f",
        "/openai/v1%2fmodels",
        "/openai/v1/models%5c",
        "/openai/v1/models%3fx=1",
        "/openai/v1/models#x",
        "/openai/v1/models%23x",
        "/openai/v1/mo%64els",
        "/openai/v1/models%",
        "/openai/v1/models%zz",
        "/openai/v1/models%20",
        "/openai/V1/models",
        "/OPENAI/v1/models",
        "/openai/v1/\u{ff4d}odels",
        "/openai",
        "/openai/",
        "/",
        "/openaiv1/models",
        "/openai@evil.example/v1/models",
        "/github/../openai/v1/models",
        "/openai/v1/admin",
        "/openai/v2/models",
        "/v1/models",
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n\r\n");
        let answer = world.send_raw(&request).await.expect("an answer");
        assert!(
            matches!(answer.status, 400 | 403),
            "{path}: {answer:?} {}",
            answer.text()
        );
        let code = answer.header("x-tollgate-error").unwrap();
        assert!(
            ["ambiguous_path", "not_allowed", "malformed_request"].contains(&code),
            "{path}: {code}"
        );
    }
    world.assert_no_contact();
    // What is allowed arrives byte for byte.
    for target in [
        "/github/repos/a/b%20c/~x",
        "/github/repos/%C3%BC?q=%2e%2e%2f&&x",
        "/github/repos/a@b:c+d,e",
    ] {
        let answer = world.send(&Ask::new("GET", target).bearer(&token)).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        let seen = world.calls().pop().unwrap();
        assert_eq!(
            seen.path_and_query.as_str(),
            target.trim_start_matches("/github")
        );
    }
}
