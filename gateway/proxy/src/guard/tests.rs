//! Tables of heads and bodies, by the numbers of the project's list of adversarial cases.

use http::Request;

use super::*;

const MAX_TARGET: usize = 16 * 1024;

fn verdict(head: &str) -> Result<Framing, HeadFault> {
    judge(head.as_bytes(), MAX_TARGET)
}

/// What a guard makes of whole connections, fed in one piece.
fn follow(bytes: &[u8]) -> Result<usize, Fault> {
    let mut guard = Guard::new(64 * 1024, MAX_TARGET);
    let mut released = 0;
    loop {
        let more = guard.release(&bytes[released..], usize::MAX)?;
        released += more;
        if more == 0 {
            return Ok(released);
        }
    }
}

#[test]
fn honest_heads_pass() {
    let cases = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
        (
            "GET /a?b=%24c HTTP/1.0\r\nhost: a.b:8080\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\n\r\n",
            Framing::Length(5),
        ),
        (
            "POST / HTTP/1.1\r\nHost:a\r\nContent-Length:0\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            Framing::Chunked,
        ),
        (
            "GET http://a:1/x HTTP/1.1\r\nHost: A:1\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "GET HTTPS://a HTTP/1.1\r\nHost: a\r\n\r\n",
            Framing::Length(0),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nx: caf\u{e9}\r\ny:\r\n\r\n",
            Framing::Length(0),
        ),
    ];
    for (head, expected) in cases {
        assert_eq!(verdict(head), Ok(expected), "{head:?}");
    }
}

#[test]
fn case_48_a_target_for_another_host_is_refused() {
    for target in [
        "http://b/",
        "http://a.b/",
        "http://a:80/",
        "http://a@b/",
        "http:///",
        "https://b",
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(verdict(&head), Err(HeadFault::HostMismatch), "{target}");
    }
}

#[test]
fn case_49_anything_but_one_plain_host_is_refused() {
    let hosts = [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host:\r\n",
        "Host: a, b\r\n",
        "Host: a b\r\n",
        "Host: user@a\r\n",
        "Host: allowed:x@evil.test\r\n",
        "Host: a:\r\n",
        "Host: a:b\r\n",
        "Host: a:123456\r\n",
        "Host: :80\r\n",
        "Host: a/b\r\n",
        "Host: a%00b\r\n",
        "Host: a\\b\r\n",
        "Host: [::1\r\n",
        "Host: [x]\r\n",
        "Host: [::1]x\r\n",
        "Host: caf\u{e9}\r\n",
    ];
    for lines in hosts {
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(verdict(&head), Err(HeadFault::Host), "{lines:?}");
    }
}

#[test]
fn case_50_ambiguous_lengths_are_refused() {
    let lines = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\t\r\n",
        "Transfer-Encoding: \tchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length:  5\r\n",
        "Content-Length: 5 \r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 1234567890123456789\r\n",
    ];
    for lines in lines {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(verdict(&head), Err(HeadFault::Framing), "{lines:?}");
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(verdict(old), Err(HeadFault::Framing));
    let tabbed = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x0b\r\n\r\n";
    assert_eq!(verdict(tabbed), Err(HeadFault::Malformed));
}

#[test]
fn case_51_sloppy_lines_and_names_are_refused() {
    let lines = [
        "a: b\rc: d\r\n",
        "a: b\0\r\n",
        "a: b\r\n c\r\n",
        "a: b\r\n\tc\r\n",
        "authorization : x\r\n",
        ": x\r\n",
        "a b: x\r\n",
        "a(b): x\r\n",
        "a\r\n",
        "a\u{e9}: x\r\n",
        "a: \x7f\r\n",
    ];
    for lines in lines {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let verdict = verdict(&head);
        assert!(
            matches!(verdict, Err(HeadFault::Malformed | HeadFault::LineBreak)),
            "{lines:?}: {verdict:?}"
        );
    }
    let underscore = "GET / HTTP/1.1\r\nHost: a\r\nx_api_key: y\r\n\r\n";
    assert_eq!(verdict(underscore), Err(HeadFault::Underscore));
    for head in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(
            follow(head.as_bytes()),
            Err(Fault::Head(HeadFault::LineBreak)),
            "{head:?}"
        );
    }
    let leading = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(
        follow(leading.as_bytes()),
        Err(Fault::Head(HeadFault::Malformed))
    );
}

#[test]
fn case_52_bodies_that_break_their_framing_are_refused() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bad: [&[u8]; 17] = [
        b"\r\n",
        b"x\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1\na\r\n",
        b"1\r\na\n",
        b"1\r\nab\r\n",
        b"1\r\na\r\r\n",
        b"1\rx",
        b"ffffffffffffffff\r\n",
        b";x\r\n",
        b"1;x\ny\r\n",
        b"1;\0\r\n",
        b"0\r\nauthorization: Bearer x\r\n\r\n",
        b"0\r\n\n",
    ];
    for body in bad {
        let bytes = [&head[..], body].concat();
        assert_eq!(
            follow(&bytes),
            Err(Fault::Body(BodyFault)),
            "{:?}",
            String::from_utf8_lossy(body)
        );
    }
    let long_extension = [&head[..], b"1;", &[b'x'; 300][..], b"\r\n"].concat();
    assert_eq!(follow(&long_extension), Err(Fault::Body(BodyFault)));
    let good: [&[u8]; 5] = [
        b"0\r\n\r\n",
        b"1\r\na\r\n0\r\n\r\n",
        b"A\r\n0123456789\r\n0;last\r\n\r\n",
        b"00001;a=\"b\"\r\na\r\n000\r\n\r\n",
        b"3\r\nGET\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for body in good {
        let bytes = [&head[..], body].concat();
        assert_eq!(
            follow(&bytes),
            Ok(bytes.len()),
            "{:?}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn a_head_is_released_though_its_body_is_broken() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bytes = [&head[..], b"x\r\n"].concat();
    let mut guard = Guard::new(64 * 1024, MAX_TARGET);
    assert_eq!(guard.release(&bytes, usize::MAX), Ok(head.len()));
    assert!(guard.mid_message());
    let broken = Err(Fault::Body(BodyFault));
    assert_eq!(guard.release(&bytes[head.len()..], usize::MAX), broken);
    assert_eq!(guard.release(b"GET / HTTP/1.1", usize::MAX), broken);
}

#[test]
fn a_body_that_is_mostly_framing_is_refused() {
    let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..2_000 {
        bytes.extend_from_slice(b"1;");
        bytes.extend_from_slice(&[b'x'; 200]);
        bytes.extend_from_slice(b"\r\na\r\n");
    }
    assert_eq!(follow(&bytes), Err(Fault::Body(BodyFault)));
}

#[test]
fn case_59_heads_over_the_limits_are_refused() {
    let target = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "x".repeat(MAX_TARGET)
    );
    assert_eq!(
        follow(target.as_bytes()),
        Err(Fault::Head(HeadFault::TargetTooLong))
    );
    let endless = format!("GET /{}", "x".repeat(64 * 1024));
    assert_eq!(
        follow(endless.as_bytes()),
        Err(Fault::Head(HeadFault::TargetTooLong))
    );
    // At once, also where one read brings the end of the line but not that of the head.
    let unfinished = format!("GET /{} HTTP/1.1\r\nHost: a", "x".repeat(MAX_TARGET + 64));
    assert_eq!(
        Guard::new(64 * 1024, MAX_TARGET).release(unfinished.as_bytes(), usize::MAX),
        Err(Fault::Head(HeadFault::TargetTooLong))
    );
    let value = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    assert_eq!(
        follow(value.as_bytes()),
        Err(Fault::Head(HeadFault::TooLarge))
    );
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "x".repeat(64 * 1024));
    assert_eq!(
        follow(endless.as_bytes()),
        Err(Fault::Head(HeadFault::TooLarge))
    );
    let lines = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "a: b\r\n".repeat(MAX_HEADERS)
    );
    assert_eq!(
        follow(lines.as_bytes()),
        Err(Fault::Head(HeadFault::TooLarge))
    );
    let lines = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "a: b\r\n".repeat(MAX_HEADERS - 1)
    );
    assert_eq!(follow(lines.as_bytes()), Ok(lines.len()));
}

#[test]
fn case_61_other_protocols_methods_and_targets_are_refused() {
    let cases = [
        ("GET /\r\n", HeadFault::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadFault::Version),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", HeadFault::Version),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", HeadFault::Version),
        ("SSH-2.0-OpenSSH_9.0\r\n", HeadFault::Version),
        (
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
            HeadFault::MethodNotServed,
        ),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            HeadFault::MethodNotServed,
        ),
        (
            "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
            HeadFault::MethodNotServed,
        ),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Method),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Method),
        (
            "REFUSED-BY-THE-GUARD / HTTP/1.1\r\nHost: a\r\n\r\n",
            HeadFault::Method,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
        (
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            HeadFault::Target,
        ),
        (
            "GET file:///etc HTTP/1.1\r\nHost: a\r\n\r\n",
            HeadFault::Target,
        ),
        ("GET ws://a/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
        ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", HeadFault::Target),
        (
            "GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            HeadFault::Target,
        ),
    ];
    for (head, expected) in cases {
        assert_eq!(
            follow(head.as_bytes()),
            Err(Fault::Head(expected)),
            "{head:?}"
        );
    }
    for head in [
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    ] {
        assert!(follow(head.as_bytes()).is_err(), "{head:?}");
    }
}

#[test]
fn any_split_of_a_connection_releases_the_same_bytes() {
    let bytes = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        3;x\r\nabc\r\n0\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n\
        GET /c HTTP/1.1\r\nHost: a\r\n\r\nGET /d HTTP/1.1\nHost: evil\n\n";
    let whole = follow(bytes).unwrap_err();
    for step in 1..bytes.len() {
        for room in [1, 7, usize::MAX] {
            let mut guard = Guard::new(64 * 1024, MAX_TARGET);
            let (mut released, mut arrived, mut fault) = (0, 0, None);
            while fault.is_none() && (arrived < bytes.len()) {
                arrived = (arrived + step).min(bytes.len());
                loop {
                    match guard.release(&bytes[released..arrived], room) {
                        Ok(0) => break,
                        Ok(more) => released += more,
                        Err(found) => {
                            fault = Some(found);
                            break;
                        }
                    }
                }
            }
            assert_eq!(fault, Some(whole), "step {step}, room {room}");
            let rest = &bytes[released..];
            assert!(rest.starts_with(b"GET /d"), "step {step}: {rest:?}");
        }
    }
}

fn http2(uri: &str, headers: &[(&str, &str)]) -> Result<(), HeadFault> {
    let mut request = Request::builder().version(http::Version::HTTP_2).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    judge_http2(&request.body(()).unwrap().into_parts().0, MAX_TARGET)
}

#[test]
fn http2_heads_are_judged_by_the_same_rules() {
    let long = format!("http://a/{}", "x".repeat(MAX_TARGET));
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<(), HeadFault>);
    let cases: [Case<'_>; 12] = [
        ("https://a/b", &[], Ok(())),
        ("https://a/b", &[("host", "A")], Ok(())),
        ("/b", &[("host", "a")], Ok(())),
        (
            "https://a/b",
            &[("host", "c")],
            Err(HeadFault::HostMismatch),
        ),
        (
            "https://a/b",
            &[("host", "a"), ("host", "a")],
            Err(HeadFault::Host),
        ),
        ("/b", &[], Err(HeadFault::Host)),
        ("https://u@a/b", &[], Err(HeadFault::Host)),
        ("ftp://a/b", &[], Err(HeadFault::Target)),
        (
            "https://a/b",
            &[("connection", "x")],
            Err(HeadFault::ConnectionHeader),
        ),
        ("https://a/b", &[("x_key", "x")], Err(HeadFault::Underscore)),
        (
            "https://a/b",
            &[("content-length", "1"), ("content-length", "1")],
            Err(HeadFault::Framing),
        ),
        (&long, &[], Err(HeadFault::TargetTooLong)),
    ];
    for (uri, headers, expected) in cases {
        assert_eq!(http2(uri, headers), expected, "{uri:.40} {headers:?}");
    }
}
