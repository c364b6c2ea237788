//! A request that may have to be sent once more.
//!
//! The codec takes a request's headers for good. Hardly any request is sent twice, so what is kept
//! is their text, in one piece: a second map of headers would share every value with the first.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use crate::body::RequestBody;

/// What to make the request of again.
pub(super) struct Spare {
    method: Method,
    uri: Uri,
    /// `name:value` and a newline each, which neither can hold. One that is to stay out of the
    /// tables of HTTP/2 has a newline before it.
    headers: Vec<u8>,
    body: RequestBody,
}

impl Spare {
    /// None of a request whose body is a stream.
    pub(super) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let body = request.body().again()?;
        let lines = request.headers().iter();
        let length = lines.map(|(name, value)| name.as_str().len() + value.len() + 3);
        let mut headers = Vec::with_capacity(length.sum());
        for (name, value) in request.headers() {
            if value.is_sensitive() {
                headers.push(b'\n');
            }
            headers.extend_from_slice(name.as_str().as_bytes());
            headers.push(b':');
            headers.extend_from_slice(value.as_bytes());
            headers.push(b'\n');
        }
        Some(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers,
            body,
        })
    }

    /// The request.
    pub(super) fn request(self) -> Option<Request<RequestBody>> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = headers(&self.headers)?;
        Some(request)
    }
}

fn headers(text: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut is_sensitive = false;
    for line in text.strip_suffix(b"\n").into_iter().flat_map(lines) {
        if line.is_empty() {
            is_sensitive = true;
            continue;
        }
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let mut value = HeaderValue::from_bytes(value).ok()?;
        value.set_sensitive(std::mem::take(&mut is_sensitive));
        headers.append(HeaderName::from_bytes(name).ok()?, value);
    }
    Some(headers)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_same_once_more() {
        let mut key = HeaderValue::from_static("Bearer sk-canary-spare");
        key.set_sensitive(true);
        let request = Request::post("/v1/chat?x=1")
            .header("authorization", key)
            .header("x-two", "a: b")
            .header("x-two", "")
            .header("x-bytes", &b"\xff\t"[..])
            .body(RequestBody::buffered("{}"))
            .unwrap();
        let again = Spare::of(&request).unwrap().request().unwrap();
        assert_eq!(again.method(), request.method());
        assert_eq!(again.uri(), request.uri());
        assert_eq!(again.headers(), request.headers());
        assert!(again.headers()["authorization"].is_sensitive());
        assert!(!again.headers()["x-bytes"].is_sensitive());
        let bare = Request::new(RequestBody::Empty);
        let again = Spare::of(&bare).unwrap().request().unwrap();
        assert!(again.headers().is_empty());
    }
}
