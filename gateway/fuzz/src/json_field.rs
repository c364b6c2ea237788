//! A secret put into a field of a body changes that field and nothing else, and the body can
//! still be read.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use tollgate_core::handle::{Asked, bind};
use tollgate_core::secret::Secret;

use crate::scene::{SECRET, agent, policy, tenant};

/// Input: whether the body is JSON or a form, then the secret's length, then the body.
pub fn json_field(data: &[u8]) {
    let [kind, length, body @ ..] = data else {
        return;
    };
    let (name, kind) = if kind % 4 == 0 {
        ("form", "application/x-www-form-urlencoded")
    } else {
        ("json", "application/json")
    };
    let provider = &policy().providers[name];
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let (tenant, agent) = (tenant(), agent());
    let asked = Asked {
        method: &Method::POST,
        path: "/v1/search",
        query: None,
        headers: &headers,
    };
    let bound = bind(&asked, tenant, &agent, provider)
        .and_then(|head| head.with_body(&asked, tenant, &agent, provider, body));
    let Ok(bound) = bound else {
        return;
    };
    let text = SECRET.repeat(usize::from(*length) % 4 + 1);
    let secret = Secret::new(text.clone().into_bytes());
    let sent = bound
        .inject(&mut headers, &mut None, Some(body), &secret)
        .expect("what was bound can be put in")
        .expect("another body");
    if name == "form" {
        same_but_one_field(body, &sent, &text);
    } else {
        same_but_one_member(body, &sent, &text);
    }
}

fn same_but_one_member(body: &[u8], sent: &[u8], secret: &str) {
    // Deeper nesting than this reader takes is passed on unread.
    let Ok(mut expected) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let read: Value = serde_json::from_slice(sent).expect("the body sent is JSON");
    *expected.pointer_mut("/auth/key").expect("a field") = Value::from(secret);
    assert_eq!(read, expected, "another field has changed");
    let escaped = Value::from(secret).to_string();
    one_span(body, sent, escaped.as_bytes());
}

fn same_but_one_field(body: &[u8], sent: &[u8], secret: &str) {
    let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'&').count();
    assert_eq!(count(body), count(sent), "the secret divides no field");
    let escaped: String = secret
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || byte == b'-' {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    one_span(body, sent, escaped.as_bytes());
}

/// `sent` is `body` with `put` in the place of some of its bytes.
fn one_span(body: &[u8], sent: &[u8], put: &[u8]) {
    let found = (0..sent.len()).any(|start| {
        let Some(behind) = sent[start..].strip_prefix(put) else {
            return false;
        };
        let before = &sent[..start];
        body.starts_with(before) && body.len() >= start + behind.len() && body.ends_with(behind)
    });
    assert!(found, "more than the value has changed");
}
