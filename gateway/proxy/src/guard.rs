//! Judges every request head before the HTTP codec sees it: one meaning, or none.
//!
//! Refuses whatever two parsers could read in two ways (RFC 9112 sections 2.2, 3.2, 5.1, 6.3, 7.1;
//! RFC 9113 section 8): nothing is normalised. It knows neither callers nor routes. Worst case: an
//! honest but sloppy client is answered with a 400 that names the rule.

mod framing;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use http::{HeaderMap, StatusCode, Uri, header};

pub use framing::{BodyFault, Fault, Guard};

/// Most header lines in a request; the codec behind it takes no more either.
pub const MAX_HEADERS: usize = 100;

/// How a request's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; zero where there is no body.
    Length(u64),
    /// Chunks, up to the last one.
    Chunked,
}

/// Why a request head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// The head, or its number of lines, is over the limit.
    #[error("the request head is too large")]
    TooLarge,
    /// The target is over the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head did not arrive in time.
    #[error("the request head did not arrive in time")]
    TooSlow,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("only HTTP/1.0 and HTTP/1.1 are understood here")]
    Version,
    /// CONNECT or TRACE.
    #[error("this method is not served")]
    MethodNotServed,
    /// A method that is unknown or not in capitals.
    #[error("the method is unknown")]
    Method,
    /// Not a path, nor an `http` or `https` URL.
    #[error("the request target must be a path")]
    Target,
    /// A URL for one host, a `Host` header or `:authority` for another.
    #[error("the request names two different hosts")]
    HostMismatch,
    /// No `Host`, several, or one that is not a host with an optional port.
    #[error("exactly one valid Host header is required")]
    Host,
    /// Both `Content-Length` and `Transfer-Encoding`, or one of them twice or malformed.
    #[error("the body length is ambiguous")]
    Framing,
    /// A line ends in a bare line feed, or holds a bare carriage return or a control character.
    #[error("the request head holds a bare line break or a control character")]
    LineBreak,
    /// A header name with an underscore, which others read as a hyphen.
    #[error("header names must not hold an underscore")]
    Underscore,
    /// A connection header on HTTP/2.
    #[error("connection headers do not belong in HTTP/2")]
    ConnectionHeader,
    /// Anything else that is not HTTP.
    #[error("the request head is malformed")]
    Malformed,
}

impl HeadFault {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::MethodNotServed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Method
            | Self::Target
            | Self::HostMismatch
            | Self::Host
            | Self::Framing
            | Self::LineBreak
            | Self::Underscore
            | Self::ConnectionHeader
            | Self::Malformed => StatusCode::BAD_REQUEST,
        }
    }
}

/// Judges a whole HTTP/1 head, its last empty line included.
///
/// # Errors
/// [`HeadFault`]: the rule it breaks.
pub fn judge(head: &[u8], max_target_bytes: usize) -> Result<Framing, HeadFault> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(HeadFault::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooLarge),
        Err(httparse::Error::Version) => return Err(HeadFault::Version),
        Err(httparse::Error::NewLine) => return Err(HeadFault::LineBreak),
        Err(_) => return Err(HeadFault::Malformed),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(HeadFault::Malformed);
    };
    judge_method(method)?;
    let fields = Fields::read(head, request.headers)?;
    judge_target(target, fields.host, max_target_bytes)?;
    fields.framing(minor)
}

/// Judges the head of an HTTP/2 request; its framing is the protocol's own.
///
/// # Errors
/// [`HeadFault`]: the rule it breaks.
pub fn judge_http2(head: &http::request::Parts, max_target_bytes: usize) -> Result<(), HeadFault> {
    judge_method(head.method.as_str())?;
    if head.uri.path_and_query().is_none_or(|target| {
        !target.as_str().starts_with('/') || target.as_str().bytes().any(|byte| byte == b'#')
    }) {
        return Err(HeadFault::Target);
    }
    if target_bytes(&head.uri) > max_target_bytes {
        return Err(HeadFault::TargetTooLong);
    }
    if !matches!(head.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(HeadFault::Target);
    }
    judge_http2_fields(&head.headers)?;
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(http::HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(HeadFault::Host);
    }
    match (head.uri.authority(), host) {
        (None, None) => Err(HeadFault::Host),
        (Some(authority), None) => is_host(authority.as_str().as_bytes()),
        (None, Some(host)) => is_host(host),
        (Some(authority), Some(host)) => {
            is_host(host)?;
            if authority.as_str().as_bytes().eq_ignore_ascii_case(host) {
                Ok(())
            } else {
                Err(HeadFault::HostMismatch)
            }
        }
    }
}

fn judge_http2_fields(headers: &HeaderMap) -> Result<(), HeadFault> {
    if headers.len() > MAX_HEADERS {
        return Err(HeadFault::TooLarge);
    }
    for name in headers.keys() {
        if name.as_str().contains('_') {
            return Err(HeadFault::Underscore);
        }
        if matches!(
            name.as_str(),
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
        ) {
            return Err(HeadFault::ConnectionHeader);
        }
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(length), None) if parse_length(length.as_bytes()).is_none() => {
            Err(HeadFault::Framing)
        }
        (Some(_), Some(_)) => Err(HeadFault::Framing),
        _ => Ok(()),
    }
}

fn target_bytes(uri: &Uri) -> usize {
    uri.path_and_query()
        .map_or(0, |target| target.as_str().len())
}

fn judge_method(method: &str) -> Result<(), HeadFault> {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => Ok(()),
        "CONNECT" | "TRACE" => Err(HeadFault::MethodNotServed),
        _ => Err(HeadFault::Method),
    }
}

/// What the header lines say about destination and length.
struct Fields<'a> {
    host: &'a [u8],
    length: Option<u64>,
    chunked: bool,
}

impl<'a> Fields<'a> {
    fn read(head: &[u8], lines: &[httparse::Header<'a>]) -> Result<Self, HeadFault> {
        let (mut host, mut length, mut chunked) = (None, None, false);
        for line in lines {
            let name = line.name.as_bytes();
            if name.contains(&b'_') {
                return Err(HeadFault::Underscore);
            }
            if name.eq_ignore_ascii_case(b"host") {
                if host.replace(line.value).is_some() {
                    return Err(HeadFault::Host);
                }
            } else if name.eq_ignore_ascii_case(b"content-length") {
                let value = plain(head, line)
                    .and_then(parse_length)
                    .ok_or(HeadFault::Framing)?;
                if length.replace(value).is_some() {
                    return Err(HeadFault::Framing);
                }
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                let value = plain(head, line).ok_or(HeadFault::Framing)?;
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadFault::Framing);
                }
                chunked = true;
            }
        }
        let host = host.ok_or(HeadFault::Host)?;
        is_host(host)?;
        Ok(Self {
            host,
            length,
            chunked,
        })
    }

    fn framing(&self, minor: u8) -> Result<Framing, HeadFault> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(HeadFault::Framing),
            (None, true) if minor == 0 => Err(HeadFault::Framing),
            (None, true) => Ok(Framing::Chunked),
            (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// The value of a framing header, if it stands on its line with at most one space before it and
/// nothing after it: parsers differ in which white space they cut off.
fn plain<'a>(head: &[u8], line: &httparse::Header<'a>) -> Option<&'a [u8]> {
    let start = (line.value.as_ptr() as usize).checked_sub(head.as_ptr() as usize)?;
    let before = head.get(start.checked_sub(2)?..start)?;
    let after = head.get(start.checked_add(line.value.len())?)?;
    let tight = before[1] == b':' || before == b": ";
    (tight && *after == b'\r').then_some(line.value)
}

/// Plain digits that fit in 63 bits.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn judge_target(target: &str, host: &[u8], max_bytes: usize) -> Result<(), HeadFault> {
    if target.len() > max_bytes {
        return Err(HeadFault::TargetTooLong);
    }
    if !target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    {
        return Err(HeadFault::Target);
    }
    if target.starts_with('/') {
        return Ok(());
    }
    let authority = strip_scheme(target).ok_or(HeadFault::Target)?;
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    if authority.as_bytes().eq_ignore_ascii_case(host) {
        Ok(())
    } else {
        Err(HeadFault::HostMismatch)
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// A name or address with an optional port, and nothing else: no list, no user, no escape.
fn is_host(value: &[u8]) -> Result<(), HeadFault> {
    let value = std::str::from_utf8(value).map_err(|_not_text| HeadFault::Host)?;
    let port = if let Some(rest) = value.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(HeadFault::Host)?;
        address
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_not_an_address| HeadFault::Host)?;
        port
    } else {
        let end = value.find(':').unwrap_or(value.len());
        let (name, port) = value.split_at(end);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(HeadFault::Host);
        }
        port
    };
    let digits = match port.strip_prefix(':') {
        None if port.is_empty() => return Ok(()),
        None => return Err(HeadFault::Host),
        Some(digits) => digits,
    };
    if (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(())
    } else {
        Err(HeadFault::Host)
    }
}

/// The method of the request by which the guard asks the service for a refusal. No client can
/// send it, because the guard lets no such method through.
pub(crate) const RESERVED_METHOD: &str = "REFUSED-BY-THE-GUARD";

/// That request.
pub(crate) const REFUSE_REQUEST: &[u8] = b"REFUSED-BY-THE-GUARD / HTTP/1.1\r\nhost: guard\r\n\r\n";
