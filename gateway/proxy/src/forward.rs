//! What leaves: the client's request less everything that was meant for the gateway, and what
//! comes back: the upstream's answer less everything that was meant for one connection.
//!
//! Bytes of path, query and body are never decoded or printed anew.

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LINK,
    TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request};
use tollgate_core::policy::Upstream;
use tollgate_core::route::{OVERRIDE_HEADERS, Route};

use crate::body::RequestBody;
use crate::record::REQUEST_ID;
use crate::respond::Failure;

/// Whether a header concerns one connection only (RFC 9110 section 7.6.1). Besides these, so do
/// those that `Connection` names.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a header is the gateway's to set, or makes some servers treat the request as another
/// one.
fn is_not_forwarded(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host" | "content-length" | "expect" | "range" | "accept-charset" | "accept-encoding"
    ) || OVERRIDE_HEADERS.contains(&name.as_str())
}

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
    let nominated = nominated(&head.headers);
    // Room for what is to come, too: the credential, the host, a length.
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 4);
    for (name, value) in &head.headers {
        if !is_hop_by_hop(name) && !is_not_forwarded(name) && !nominated.contains(name) {
            headers.append(name.clone(), value.clone());
        }
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

/// The headers that `Connection` names.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // The usual words, which name no header.
        .filter(|name| !["close", "keep-alive"].contains(name))
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// Removes the headers that are to `go`, which most heads have few of.
fn remove(headers: &mut HeaderMap, go: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<HeaderName> = headers.keys().filter(|name| go(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Whether a header does something to whoever trusts an answer's origin, which for the client is
/// the gateway: sessions, other addresses for it, reports sent elsewhere, data thrown away. A
/// provider's cookie is also a credential; the next tenant's agent would send it along.
fn is_for_the_origin(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "set-cookie"
            | "set-cookie2"
            | "alt-svc"
            | "nel"
            | "report-to"
            | "reporting-endpoints"
            | "refresh"
            | "clear-site-data"
            | "strict-transport-security"
            | "public-key-pins"
            | "expect-ct"
            | "proxy-authenticate"
            | "proxy-authentication-info"
    )
}

/// Words in `Link` that make a client fetch something unasked.
const FETCHING_LINKS: [&str; 6] = [
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "prerender",
];

fn strip_links(headers: &mut HeaderMap) {
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
    let nominated = nominated(headers);
    remove(headers, |name| {
        is_hop_by_hop(name)
            || is_for_the_origin(name)
            || name.as_str().starts_with("x-tollgate-")
            || (length_changes && *name == CONTENT_LENGTH)
            || nominated.contains(name)
    });
    strip_links(headers);
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
