//! What may leave and what may come back.

use tollgate_core::identity::KeySet;
use tollgate_core::route::find;

use super::*;
use crate::fakes::{head, snapshot};

const ACME: &str = "[tenant]\nid = \"acme\"\n";

/// The headers with which a request with `lines` leaves, before its credential is put in.
fn leaving(lines: &[&str]) -> HeaderMap {
    let view = snapshot(ACME, KeySet::new("tollgate"));
    let head = head(Method::POST, "/openai/v1/files?a=%41&b", lines);
    let route = find(&view.policy, &head.method, head.uri.path()).unwrap();
    let outgoing = outgoing(&head, &route);
    assert_eq!(outgoing.path, "/v1/files");
    assert_eq!(outgoing.query.as_deref(), Some("a=%41&b"), "as it came");
    outgoing.headers
}

fn headers(lines: &[&str]) -> HeaderMap {
    head(Method::GET, "/", lines).headers
}

/// Names and values in order of names.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    lines
}

#[test]
fn connection_headers_stay_and_so_does_what_they_nominate() {
    let left = leaving(&[
        "connection: x-hop, Close",
        "connection: AUTHORIZATION,, not a name",
        "x-hop: 1",
        "x-hop: 2",
        "authorization: Bearer mine",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "te: trailers",
        "trailer: x-sum",
        "transfer-encoding: chunked",
        "upgrade: websocket",
        "http2-settings: AAMAAABk",
        "x-kept: 1",
        "x-kept: 2",
    ]);
    assert_eq!(
        lines(&left),
        ["accept-encoding: identity", "x-kept: 1", "x-kept: 2"]
    );
}

#[test]
fn a_client_cannot_nominate_away_what_the_gateway_sets() {
    let left = leaving(&["connection: accept-encoding, host", "accept-encoding: gzip"]);
    assert_eq!(lines(&left), ["accept-encoding: identity"]);
}

#[test]
fn what_addresses_the_gateway_or_asks_for_parts_or_poses_as_another_request_stays() {
    let left = leaving(&[
        "host: tollgate:8080",
        "content-length: 12",
        "expect: 100-continue",
        "range: bytes=0-3",
        "x-http-method-override: DELETE",
        "x-original-url: /v1/admin",
        "content-type: application/json",
    ]);
    assert_eq!(
        lines(&left),
        [
            "accept-encoding: identity",
            "content-type: application/json"
        ]
    );
}

#[test]
fn the_target_is_the_base_path_and_the_clients_bytes() {
    let view = snapshot(ACME, KeySet::new("tollgate"));
    let head = head(Method::POST, "/openai/v1/files?q=%2F&q=$x'", &[]);
    let route = find(&view.policy, &head.method, head.uri.path()).unwrap();
    let mut upstream = route.provider.upstream.clone();
    upstream.base_path = "/base".to_owned();
    let request = outgoing(&head, &route)
        .request(&upstream, RequestBody::Empty)
        .unwrap();
    assert_eq!(request.uri().to_string(), "/base/v1/files?q=%2F&q=$x'");
}

#[test]
fn an_empty_body_has_a_length_where_a_body_is_expected() {
    let view = snapshot(ACME, KeySet::new("tollgate"));
    for (method, body, length) in [
        (Method::POST, RequestBody::Empty, Some("0")),
        (Method::DELETE, RequestBody::Empty, None),
        (Method::POST, RequestBody::buffered("x"), None),
    ] {
        let head = head(method, "/openai/v1/files", &[]);
        let route = find(&view.policy, &head.method, head.uri.path()).unwrap();
        let request = outgoing(&head, &route).request(&route.provider.upstream, body);
        let request = request.unwrap();
        let stated = request.headers().get(CONTENT_LENGTH);
        let stated = stated.map(|value| value.to_str().unwrap());
        assert_eq!(stated, length, "{}", request.method());
    }
}

#[test]
fn an_answer_keeps_everything_but_connection_headers_and_the_gateways_own() {
    let mut answer = headers(&[
        "connection: x-hop",
        "x-hop: 1",
        "keep-alive: timeout=5",
        "transfer-encoding: chunked",
        "content-length: 5",
        "x-tollgate-error: spoofed",
        "x-tollgate-request-id: spoofed",
        "x-tollgate-request-id: twice",
        "retry-after: 3",
        "set-cookie: a=1",
        "set-cookie: b=2",
    ]);
    incoming_head(&mut answer, HeaderValue::from_static("id-1"), false);
    assert_eq!(
        lines(&answer),
        [
            "content-length: 5",
            "retry-after: 3",
            "x-tollgate-request-id: id-1"
        ]
    );
    incoming_head(&mut answer, HeaderValue::from_static("id-1"), true);
    assert!(!answer.contains_key(CONTENT_LENGTH), "it gets shorter");
}

#[test]
fn an_answer_in_any_coding_cannot_be_read() {
    for (lines, plain) in [
        (&[][..], true),
        (&["content-encoding: Identity"], true),
        (&["transfer-encoding: chunked"], true),
        (&["content-encoding: gzip"], false),
        (&["content-encoding: identity, br"], false),
        (
            &["content-encoding: identity", "content-encoding: zstd"],
            false,
        ),
        (&["content-encoding: "], false),
        (&["transfer-encoding: gzip, chunked"], false),
        (&["content-type: text/html; charset=UTF-8"], true),
        (&["content-type: text/plain; charset=windows-1252"], true),
        (
            &["content-type: text/plain; x=1; Charset=\"UTF-16LE\""],
            false,
        ),
        (&["content-type: text/plain;charset=utf-7"], false),
    ] {
        assert_eq!(is_plain(&headers(lines)), plain, "{lines:?}");
    }
}
