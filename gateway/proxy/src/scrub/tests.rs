use http::Response;
use tollgate_core::secret::Secret;

use super::*;

const KEY: &str = "sk-canary-7f3a9c";

fn scrub() -> Scrub {
    let needles = Needles::new(&Secret::new(KEY.into())).unwrap();
    Scrub::new(Some(Arc::new(needles)))
}

fn head(lines: &[(&str, &str)]) -> response::Parts {
    let mut response = Response::builder();
    for (name, value) in lines {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

#[test]
fn every_value_is_scrubbed_and_what_holds_it_in_its_name_goes() {
    let mut scrub = scrub();
    let mut head = head(&[
        ("x-one", KEY),
        ("x-one", "Bearer sk-canary-7f3a9c;"),
        ("x-sk-canary-7f3a9c", "1"),
        ("x-other", "sk-canary"),
    ]);
    let reason = ReasonPhrase::try_from(format!("No {KEY}").into_bytes()).unwrap();
    head.extensions.insert(reason);
    scrub.head(&mut head);
    let values: Vec<_> = head.headers.values().collect();
    assert_eq!(values, ["[redacted]", "Bearer [redacted];", "sk-canary"]);
    assert!(head.extensions.get::<ReasonPhrase>().is_none());
    assert_eq!(scrub.hits_in_head, 4);
}

#[test]
fn an_announced_length_is_kept_and_a_stream_is_marked_alone() {
    for (length, expected) in [(Some("18"), "<[redacted]******>"), (None, "<[redacted]>")] {
        let mut scrub = scrub();
        let lines: Vec<_> = length
            .map(|length| ("content-length", length))
            .into_iter()
            .collect();
        scrub.head(&mut head(&lines));
        let mut out = Vec::new();
        for piece in ["<sk-can", "ary-7f", "3a9c"] {
            out.extend_from_slice(&scrub.frame(Bytes::from_static(piece.as_bytes())));
        }
        let rest = scrub.flush(Some(Bytes::from_static(b">"))).unwrap();
        out.extend_from_slice(&rest);
        assert_eq!(out, expected.as_bytes());
    }
}

#[test]
fn bytes_without_the_secret_are_handed_on_as_they_are() {
    let mut scrub = scrub();
    scrub.head(&mut head(&[]));
    let event = Bytes::from_static(b"data: {\"this\":\"is\"}\n\n");
    let passed = scrub.frame(event.clone());
    assert_eq!(passed.as_ptr(), event.as_ptr(), "nothing is copied");
    assert_eq!(passed, event);
    assert_eq!(scrub.flush(None), Some(Bytes::new()));
}

#[test]
fn names_that_are_kept_hold_no_secret() {
    let mut reading = Reading::nothing();
    reading.response_model = Some(format!("gpt-{KEY}"));
    scrub().reading(&mut reading);
    assert_eq!(reading.response_model.as_deref(), Some("[redacted]"));
}

#[test]
fn a_body_that_is_compressed_and_says_it_is_text_is_found_out_at_any_split() {
    let hidden = |kind: Option<&str>, body: &[u8], piece: usize| {
        let mut scrub = scrub();
        let line = kind.map(|kind| ("content-type", kind));
        scrub.head(&mut head(line.as_slice()));
        body.chunks(piece).any(|piece| scrub.is_hidden_by(piece))
    };
    for begin in UNSEARCHABLE {
        let body = [begin, b"and what is in it"].concat();
        for piece in [1, 2, 3, 100] {
            for kind in [
                "application/json",
                "text/event-stream; charset=utf-8",
                "a/b+json",
            ] {
                assert!(hidden(Some(kind), &body, piece), "{kind} {begin:?} {piece}");
            }
            assert!(hidden(None, &body, piece), "{begin:?} {piece}");
            for kind in ["application/gzip", "application/octet-stream", "image/png"] {
                assert!(!hidden(Some(kind), &body, piece), "an archive that says so");
            }
        }
    }
    for body in ["{\"x\":1}", "x", "xylophone", "", "\u{1f}", "data: x\n\n"] {
        for piece in [1, 100] {
            assert!(
                !hidden(Some("application/json"), body.as_bytes(), piece),
                "{body}"
            );
        }
    }
    let late = [b"plain\n".as_slice(), UNSEARCHABLE[0]].concat();
    assert!(!hidden(None, &late, 6), "only the beginning tells");
}
