//! Answers of collectors, over both protocols.

use http::HeaderValue;

use super::super::proto::{Delay, Detail, PartialSuccess};
use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.insert(*name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn taken(rejected: u64, said: &str) -> Reply {
    Reply::Taken {
        rejected,
        said: said.to_owned(),
    }
}

fn partial(rejected: i64, said: &str) -> ExportResponse {
    ExportResponse {
        partial_success: Some(PartialSuccess {
            rejected,
            error_message: said.to_owned(),
        }),
    }
}

fn kind(reply: &Reply) -> (&'static str, Option<u64>) {
    match reply {
        Reply::Taken { .. } => ("taken", None),
        Reply::Later { after, .. } => ("later", after.map(|after| after.as_secs())),
        Reply::Unclear { .. } => ("unclear", None),
        Reply::Bad { .. } => ("bad", None),
    }
}

#[test]
fn http_statuses_say_whose_fault_it_is() {
    let wait = [("retry-after", "7")];
    for (status, lines, expected) in [
        (200, &[][..], ("taken", None)),
        (202, &[], ("taken", None)),
        (301, &[], ("later", None)),
        (400, &[], ("bad", None)),
        (401, &[], ("later", None)),
        (403, &[], ("later", None)),
        (404, &[], ("later", None)),
        (413, &[], ("bad", None)),
        (429, &wait, ("later", Some(7))),
        (500, &[], ("unclear", None)),
        (502, &[], ("later", None)),
        (503, &wait, ("later", Some(7))),
        (503, &[("retry-after", "99999999")], ("later", Some(600))),
        (503, &[("retry-after", "soon")], ("later", None)),
        (504, &[], ("later", None)),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        let reply = Reply::of_http(status, &headers(lines), b"");
        assert_eq!(kind(&reply), expected, "{status}");
    }
    let body = partial(3, "too\nold").encode_to_vec();
    let reply = Reply::of_http(StatusCode::OK, &HeaderMap::new(), &body);
    assert_eq!(reply, taken(3, "tooold"));
}

#[test]
fn grpc_statuses_say_whose_fault_it_is() {
    for (code, expected) in [
        (1, "later"),
        (2, "unclear"),
        (3, "bad"),
        (4, "later"),
        (7, "later"),
        (8, "bad"),
        (10, "later"),
        (12, "later"),
        (13, "unclear"),
        (14, "later"),
        (16, "later"),
    ] {
        let trailers = headers(&[("grpc-status", &code.to_string()), ("grpc-message", "why")]);
        let reply = Reply::of_grpc(StatusCode::OK, &trailers, b"");
        assert_eq!(kind(&reply), (expected, None), "{code}");
    }
    let ok = headers(&[("grpc-status", "0")]);
    for (response, expected) in [
        (ExportResponse::default(), taken(0, "")),
        (partial(2, "old"), taken(2, "old")),
        (partial(-1, ""), taken(0, "")),
    ] {
        let reply = Reply::of_grpc(StatusCode::OK, &ok, &framed(&response));
        assert_eq!(reply, expected);
    }
    let proxy = Reply::of_grpc(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"");
    assert_eq!(kind(&proxy), ("later", None));
    let cut = Reply::of_grpc(StatusCode::OK, &HeaderMap::new(), b"");
    assert_eq!(kind(&cut), ("later", None));
}

#[test]
fn a_collector_that_is_too_busy_says_for_how_long() {
    let info = RetryInfo {
        retry_delay: Some(Delay {
            seconds: 12,
            nanos: 0,
        }),
    };
    let status = RpcStatus {
        details: vec![
            Detail {
                type_url: "type.googleapis.com/google.rpc.Help".to_owned(),
                value: vec![1],
            },
            Detail {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                value: info.encode_to_vec(),
            },
        ],
    };
    for encoded in [
        STANDARD.encode(status.encode_to_vec()),
        STANDARD_NO_PAD.encode(status.encode_to_vec()),
    ] {
        let trailers = headers(&[("grpc-status", "8"), ("grpc-status-details-bin", &encoded)]);
        let reply = Reply::of_grpc(StatusCode::OK, &trailers, b"");
        assert_eq!(kind(&reply), ("later", Some(12)));
    }
}
