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
