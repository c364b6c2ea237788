//! Forms, and when keys are fetched. The endpoint itself is tested with the whole gateway.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;
use tollgate_core::identity::Jwks;

use super::form::check_head;
use super::keys::{AGING, ASK_AGAIN, KEEP, Next, OLD, State, TRY_AGAIN, TRY_FIRST};
use super::*;

const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
const KIND: &str = "subject_token_type=urn:ietf:params:oauth:token-type:jwt";

fn code(form: &str) -> &'static str {
    match Wanted::read(form.as_bytes(), "tollgate") {
        Ok(_) => "fine",
        Err(no) => no.code(),
    }
}

#[test]
fn a_form_names_a_token_and_perhaps_a_task() {
    let form = format!("&{GRANT}&subject_token=a%2Eb.c&{KIND}&task=t%2d1&scope=&ignored=%3D+x&");
    let wanted = Wanted::read(form.as_bytes(), "tollgate").expect("a request");
    assert_eq!(wanted.subject.as_str(), "a.b.c");
    assert_eq!(wanted.task.as_ref().map(TaskId::as_str), Some("t-1"));
    assert!(!format!("{wanted:?}").contains("a.b.c"));
    for more in [
        "",
        "&audience=tollgate",
        "&requested_token_type=urn:ietf:params:oauth:token-type:jwt",
        "&requested_token_type=urn:ietf:params:oauth:token-type:access_token",
        "&resource=&client_id=x",
    ] {
        let form = format!("{GRANT}&subject_token=a.b.c&{KIND}{more}");
        assert_eq!(code(&form), "fine", "{more}");
    }
}

#[test]
fn a_form_that_asks_for_something_else_is_refused() {
    let whole = format!("{GRANT}&subject_token=a.b.c&{KIND}");
    for (more, expected) in [
        ("&subject_token=a.b.c", "malformed_request"),
        ("&task=a&task=a", "malformed_request"),
        ("&task=&t%61sk=", "malformed_request"),
        ("&x=%", "malformed_request"),
        ("&x=%zz", "malformed_request"),
        ("&x=%ff", "malformed_request"),
        ("&task=a/b", "malformed_request"),
        ("&actor_token=a.b.c", "malformed_request"),
        ("&actor_token_type=x", "malformed_request"),
        (
            "&requested_token_type=urn:ietf:params:oauth:token-type:saml2",
            "malformed_request",
        ),
        (
            "&requested_token_type=urn:ietf:params:oauth:token-type:id_token",
            "malformed_request",
        ),
        ("&scope=openid", "invalid_scope"),
        ("&resource=https://x", "invalid_target"),
        ("&audience=other", "invalid_target"),
    ] {
        assert_eq!(code(&format!("{whole}{more}")), expected, "{more}");
    }
    let without = |part: &str| whole.replace(part, "");
    for (form, expected) in [
        (String::new(), "malformed_request"),
        (without(GRANT), "malformed_request"),
        (without("a.b.c"), "malformed_request"),
        (without(KIND), "malformed_request"),
        (
            whole.replace("token-exchange", "jwt-bearer"),
            "unsupported_grant_type",
        ),
        (whole.replace("type:jwt", "type:saml2"), "malformed_request"),
        (["a"; 3].join("&"), "malformed_request"),
    ] {
        assert_eq!(code(&form), expected, "{form}");
    }
    let many: Vec<String> = (0..100).map(|number| format!("p{number}=x")).collect();
    assert_eq!(
        code(&format!("{whole}&{}", many.join("&"))),
        "malformed_request"
    );
}

#[test]
fn only_a_plain_form_is_read() {
    let judged = |fields: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        check_head(&headers).is_ok()
    };
    let form = "application/x-www-form-urlencoded";
    assert!(judged(&[("content-type", form)]));
    assert!(judged(&[(
        "content-type",
        "Application/X-WWW-Form-Urlencoded; charset=utf-8"
    )]));
    assert!(judged(&[
        ("content-type", form),
        ("content-encoding", "identity")
    ]));
    for bad in [
        &[][..],
        &[("content-type", "application/json")],
        &[("content-type", form), ("content-type", form)],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-type", form), ("content-encoding", "gzip")],
    ] {
        assert!(!judged(bad), "{bad:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_when_needed_and_not_more_often() {
    let start = Instant::now();
    let now = start + KEEP * 2;
    let ago = |age: Duration| Some(now - age);
    let keys = Arc::new(Jwks::default());
    let with = |age: Duration, tried: Option<Duration>, asked: Option<Duration>| State {
        keys: Some((Arc::clone(&keys), now - age)),
        tried_at: tried.and_then(ago),
        asked_at: asked.and_then(ago),
        ..State::default()
    };
    let second = Duration::from_secs(1);
    let none = State::default();
    assert_eq!(none.next(false, now), Next::Fetch(false), "the first");
    let failed = |age| State {
        tried_at: ago(age),
        ..State::default()
    };
    assert_eq!(failed(second).next(false, now), Next::GiveUp);
    assert_eq!(failed(TRY_FIRST).next(false, now), Next::Fetch(false));
    for (state, has_key, expected) in [
        (with(second, Some(second), None), true, Next::Use),
        // A new key may be there from one second to the next.
        (with(second, Some(second), None), false, Next::Fetch(true)),
        (with(second, Some(second), Some(second)), false, Next::Use),
        (
            with(second, Some(second), Some(ASK_AGAIN)),
            false,
            Next::Fetch(true),
        ),
        (with(AGING - second, Some(AGING), None), true, Next::Use),
        (with(AGING, Some(AGING), None), true, Next::UseAndFetch),
        (with(AGING, Some(second), None), true, Next::Use),
        (with(OLD, Some(OLD), None), true, Next::Fetch(false)),
        (
            with(OLD, Some(OLD), Some(second)),
            false,
            Next::Fetch(false),
        ),
        (with(OLD, Some(TRY_AGAIN - second), None), true, Next::Use),
        (with(OLD, Some(TRY_AGAIN), None), true, Next::Fetch(false)),
        (with(KEEP - second, Some(second), None), true, Next::Use),
        (with(KEEP, Some(second), None), true, Next::GiveUp),
        (with(KEEP, Some(OLD), None), true, Next::Fetch(false)),
    ] {
        assert_eq!(state.next(has_key, now), expected, "{state:?} {has_key}");
    }
}
