//! What leaves: the client's request less everything that was meant for the gateway, and what
//! comes back: the upstream's answer less everything that was meant for one connection.
//!
//! Bytes of path, query and body are never decoded or printed anew.

use http::header::{
    ACCEPT_CHARSET, ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    EXPECT, HOST, HeaderName, LINK, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request};
use tollgate_core::policy::Upstream;
use tollgate_core::route::{OVERRIDE_HEADERS, Route};

use crate::body::RequestBody;
use crate::record::REQUEST_ID;
use crate::respond::Failure;

/// Headers that concern one connection only (RFC 9110 section 7.6.1), besides those that
/// `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A request head on its way to the upstream.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
}

/// The client's head without connection headers and headers that make some servers treat the
/// request as another one. Token and credentials go when the call's own credential is put in.
pub(crate) fn outgoing(head: &Parts, route: &Route<'_>) -> Outgoing {
    let mut headers = head.headers.clone();
    strip_connection_headers(&mut headers);
    for name in [HOST, CONTENT_LENGTH, EXPECT, RANGE, ACCEPT_CHARSET] {
        headers.remove(name);
    }
    for name in OVERRIDE_HEADERS {
        headers.remove(name);
    }
    // An answer that is compressed, or in a character set of the client's choice, can neither be
    // metered nor searched for an echoed secret.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Outgoing {
        method: head.method.clone(),
        path: route.path.to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers,
    }
}

impl Outgoing {
    /// The request, whose path and query are the client's bytes behind the upstream's base path.
    pub(crate) fn request(
        self,
        upstream: &Upstream,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, Failure> {
        let mut target = format!("{}{}", upstream.base_path, self.path);
        if let Some(query) = &self.query {
            target.push('?');
            target.push_str(query);
        }
        let mut headers = self.headers;
        // The codec says nothing of a body that is not there; servers that expect one want to
        // read it (RFC 9110 section 8.6).
        let expects_body = matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
        if expects_body && matches!(body, RequestBody::Empty) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = target
            .parse()
            .map_err(|_invalid: http::uri::InvalidUri| Failure::CredentialInvalid)?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Removes connection headers and those that `Connection` names.
pub(crate) fn strip_connection_headers(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in nominated {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Headers by which an answer does something to whoever trusts its origin, which for the client is
/// the gateway: sessions, other addresses for it, reports sent elsewhere, data thrown away. A
/// provider's cookie is also a credential; the next tenant's agent would send it along.
const FOR_THE_ORIGIN: [HeaderName; 13] = [
    HeaderName::from_static("set-cookie"),
    HeaderName::from_static("set-cookie2"),
    HeaderName::from_static("alt-svc"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
    HeaderName::from_static("refresh"),
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("strict-transport-security"),
    HeaderName::from_static("public-key-pins"),
    HeaderName::from_static("expect-ct"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authentication-info"),
];

/// Words in `Link` that make a client fetch something unasked.
const FETCHING_LINKS: [&str; 6] = [
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "prerender",
];

fn strip_origin_headers(headers: &mut HeaderMap) {
    for name in FOR_THE_ORIGIN {
        headers.remove(name);
    }
    if !headers.contains_key(LINK) {
        return;
    }
    // A list whose commas may stand in addresses: a line is kept whole, as pages of results need
    // it, or not at all.
    let kept: Vec<HeaderValue> = headers
        .get_all(LINK)
        .iter()
        .filter(|value| !fetches(value.as_bytes()))
        .cloned()
        .collect();
    headers.remove(LINK);
    for value in kept {
        headers.append(LINK, value);
    }
}

/// Whether a relation in a `Link` header is one that makes a client fetch. Words are looked for
/// outside the addresses, whose text is nobody's instruction.
fn fetches(link: &[u8]) -> bool {
    let text = String::from_utf8_lossy(link).to_ascii_lowercase();
    let parameters = text.split('<').map(|link| {
        let (_, parameters) = link.split_once('>').unwrap_or(("", link));
        parameters
    });
    parameters.into_iter().any(|parameters| {
        parameters
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .any(|word| FETCHING_LINKS.contains(&word))
    })
}

/// The upstream's answer head as the client gets it.
pub(crate) fn incoming_head(headers: &mut HeaderMap, id: HeaderValue, length_changes: bool) {
    strip_connection_headers(headers);
    strip_origin_headers(headers);
    if length_changes {
        headers.remove(CONTENT_LENGTH);
    }
    let spoofed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-tollgate-"))
        .cloned()
        .collect();
    for name in spoofed {
        headers.remove(name);
    }
    headers.insert(REQUEST_ID, id);
}

/// Character sets, by the beginnings of their names, that do not write ASCII as ASCII does.
const STRANGE_CHARSETS: [&str; 9] = [
    "utf-16",
    "utf16",
    "utf-32",
    "utf32",
    "utf-7",
    "ucs",
    "unicode",
    "iso-10646",
    "ebcdic",
];

/// Whether an answer can be read: not compressed, although identity was asked for, and not in a
/// character set in which nothing is found.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    let only = |name: HeaderName, plain: &str| {
        headers.get_all(name).iter().all(|value| {
            value.to_str().is_ok_and(|codings| {
                let mut codings = codings.split(',');
                codings.all(|coding| coding.trim().eq_ignore_ascii_case(plain))
            })
        })
    };
    only(CONTENT_ENCODING, "identity")
        && only(TRANSFER_ENCODING, "chunked")
        && !headers
            .get_all(CONTENT_TYPE)
            .iter()
            .any(has_strange_charset)
}

fn has_strange_charset(content_type: &HeaderValue) -> bool {
    let text = String::from_utf8_lossy(content_type.as_bytes());
    text.split(';').skip(1).any(|parameter| {
        let charset = parameter.split_once('=');
        let charset = charset.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        charset.is_some_and(|(_, value)| {
            let value = value.trim().trim_matches(['"', '\'']);
            let begins = |with: &str| {
                let begin = value.get(..with.len());
                begin.is_some_and(|begin| begin.eq_ignore_ascii_case(with))
            };
            STRANGE_CHARSETS.into_iter().any(begins)
        })
    })
}

#[cfg(test)]
mod tests;
