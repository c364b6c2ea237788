//! A credential is bound only by a handle that stands in the request as the client wrote it, and
//! goes out exactly once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, header};
use tollgate_core::handle::{Asked, bind};
use tollgate_core::secret::Secret;

use crate::pieces::Parts;
use crate::scene::{SECRET, agent, provider, tenant};

/// Input: the provider's place, then path, query, header lines (`name: value`, divided by line
/// feeds) and body, divided by zero bytes.
pub fn handles(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let mut parts = Parts::of(data);
    let (Some(path), Some(query)) = (parts.text(), parts.text()) else {
        return;
    };
    let headers = header_lines(parts.bytes());
    let body = parts.bytes();
    let (tenant, agent, provider) = (tenant(), agent(), provider(*choice));
    let asked = Asked {
        method: &Method::POST,
        path,
        query: Some(query),
        headers: &headers,
    };
    let bound = bind(&asked, tenant, &agent, provider)
        .and_then(|head| head.with_body(&asked, tenant, &agent, provider, body));
    let Ok(bound) = bound else {
        return;
    };
    let credential = bound.credential().expect("each provider takes a key");
    let name = credential.name.as_str();
    if !credential.is_default {
        assert!(
            readings(path, query, &headers, body)
                .iter()
                .any(|text| holds_handle(text, name)),
            "{name} was bound without a handle"
        );
    }
    let (mut sent, mut sent_query) = (headers.clone(), Some(query.to_owned()));
    let secret = Secret::new(SECRET.as_bytes().to_vec());
    let sent_body = bound
        .inject(&mut sent, &mut sent_query, Some(body), &secret)
        .expect("the secret can be sent");
    assert_eq!(
        sent_body.is_some(),
        credential.binding.place.is_in_body(),
        "a body changes only where a secret goes into it"
    );
    let sent_query = sent_query.unwrap_or_default();
    let sent_body = sent_body.unwrap_or_default();
    let is_sent = readings("", &sent_query, &sent, &sent_body)
        .iter()
        .any(|text| contains(text, SECRET.as_bytes()));
    assert!(is_sent, "the secret goes out");
    let slots = [header::PROXY_AUTHORIZATION, header::COOKIE];
    assert!(slots.iter().all(|name| !sent.contains_key(name)));
    assert!(sent.get_all(header::AUTHORIZATION).iter().count() <= 1);
}

fn header_lines(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(50) {
        let at = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(at.unwrap_or(line.len()));
        let value = value.strip_prefix(b": ").unwrap_or_default();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    headers
}

/// Everything that a reader could take the request to say, decoded once.
fn readings(path: &str, query: &str, headers: &HeaderMap, body: &[u8]) -> Vec<Vec<u8>> {
    let mut texts = vec![
        path.as_bytes().to_vec(),
        percent_decoded(path.as_bytes()),
        query.as_bytes().to_vec(),
        percent_decoded(query.as_bytes()),
        body.to_vec(),
        percent_decoded(body),
    ];
    for value in headers.values() {
        texts.push(value.as_bytes().to_vec());
        let pair = value.as_bytes().get(6..).unwrap_or_default();
        texts.extend(STANDARD.decode(pair));
    }
    let strings = serde_json::from_slice(body).unwrap_or_default();
    texts.extend(texts_of(&strings).into_iter().map(String::into_bytes));
    texts
}

fn texts_of(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(items) => items.iter().flat_map(texts_of).collect(),
        serde_json::Value::Object(fields) => fields.values().flat_map(texts_of).collect(),
        _ => Vec::new(),
    }
}

fn holds_handle(text: &[u8], name: &str) -> bool {
    [
        format!("$CRED{{{name}}}"),
        format!("$CRED<{name}>"),
        format!("CRED~{name}~"),
    ]
    .iter()
    .any(|handle| contains(text, handle.as_bytes()))
}

pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Undoes percent-encoding once; `+` stays.
pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let digits = text
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits
            .filter(|digits| *byte == b'%' && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(escaped.unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}
