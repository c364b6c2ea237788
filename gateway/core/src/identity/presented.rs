//! Where a request carries its task token, and what must never travel on with it.
//!
//! Nothing is verified here. A value counts as a token by its shape alone (`eyJ`, two dots);
//! handles and provider keys never have it. Where two readings are possible there is none:
//! the request is refused rather than one token being preferred to another.
//! Cookies are never looked at: browsers send them unasked.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::TokenFault;

/// The header that carries nothing but a task token. If it is there, it must hold one.
pub const TOKEN_HEADER: &str = "x-tollgate-token";

static TOKEN_HEADER_NAME: HeaderName = HeaderName::from_static(TOKEN_HEADER);

/// Headers that SDKs put a bare key into.
static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// Whether a client authenticates with this header. None of a client's own reaches an upstream.
/// Cookies are among them: they are credentials to the upstream that set them, and a jar shared
/// between tenants' calls would carry one tenant's session into another's.
fn is_credential(header: &str) -> bool {
    matches!(
        header,
        "authorization"
            | "proxy-authorization"
            | "x-api-key"
            | "api-key"
            | "apikey"
            | "x-goog-api-key"
            | "x-auth-token"
            | "x-access-token"
            | "private-token"
            | "ocp-apim-subscription-key"
            | "x-amz-security-token"
            | "cookie"
            | "cookie2"
    )
}

/// The scheme of a header that holds a token.
const SCHEME: &str = "bearer";

/// Query parameters that are credentials wherever they occur, in any case.
const CREDENTIAL_PARAMETERS: [&str; 4] = ["access_token", "api_key", "api-key", "apikey"];

/// Everything of this prefix is between the client and the gateway.
const OWN_PREFIX: &str = "x-tollgate-";

/// The place a token was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPlace {
    /// `X-Tollgate-Token`.
    TokenHeader,
    /// `Authorization: Bearer`.
    Bearer,
    /// One of the headers SDKs put a bare key into.
    KeyHeader(&'static str),
    /// The query parameter `key`.
    QueryKey,
}

/// A token as it stands in the request, not yet believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The text.
    pub token: &'a str,
    /// Where it stands.
    pub place: TokenPlace,
}

/// Whether a text has the shape of a token: a JSON object in base64url, and at least two dots.
/// Anything of this shape is taken for one, so that a damaged token is a bad token and not a
/// provider key.
#[must_use]
pub fn is_token(text: &str) -> bool {
    text.starts_with("eyJ") && memchr::memchr_iter(b'.', text.as_bytes()).nth(1).is_some()
}

/// Finds the one token of a request.
///
/// # Errors
/// [`TokenFault::Missing`] if there is none, [`TokenFault::Ambiguous`] if there are two different
/// ones or two lines it could stand in, [`TokenFault::Malformed`] if it is written wrongly.
pub fn find_token<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<Presented<'a>, TokenFault> {
    let mut found = None;
    let authorization = headers.get_all(AUTHORIZATION);
    if let Some(value) = sole(headers, &TOKEN_HEADER_NAME)? {
        let token = visible(value)
            .filter(|text| is_token(text))
            .ok_or(TokenFault::Malformed)?;
        offer(&mut found, token, TokenPlace::TokenHeader)?;
    } else if authorization.iter().nth(1).is_some() {
        return Err(TokenFault::Ambiguous);
    }
    let has_token_header = found.is_some();
    for value in authorization {
        match bearer(value) {
            Ok(Some(token)) => offer(&mut found, token, TokenPlace::Bearer)?,
            Err(fault) if !has_token_header => return Err(fault),
            // No token here; beside a token header this slot is for a handle.
            _ => {}
        }
    }
    for name in &KEY_HEADERS {
        for value in headers.get_all(name) {
            if let Some(token) = visible(value).filter(|text| is_token(text)) {
                offer(&mut found, token, TokenPlace::KeyHeader(name.as_str()))?;
            }
        }
    }
    for parameter in query.unwrap_or_default().split('&') {
        if let Some(token) = parameter.strip_prefix("key=").filter(|text| is_token(text)) {
            offer(&mut found, token, TokenPlace::QueryKey)?;
        }
    }
    found.ok_or(TokenFault::Missing)
}

/// Keeps the first token found; a second, different one makes the request ambiguous.
fn offer<'a>(
    found: &mut Option<Presented<'a>>,
    token: &'a str,
    place: TokenPlace,
) -> Result<(), TokenFault> {
    match found {
        None => *found = Some(Presented { token, place }),
        Some(first) if first.token == token => {}
        Some(_) => return Err(TokenFault::Ambiguous),
    }
    Ok(())
}

fn sole<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, TokenFault> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(TokenFault::Ambiguous),
    }
}

fn visible(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// The token of `Bearer TOKEN` (RFC 6750 section 2.1): exactly one space, the scheme in any case.
/// Another scheme, or a key that is no token, is `None`; a token written in another way is an
/// error, because leaving it alone would mean sending it on.
fn bearer(value: &HeaderValue) -> Result<Option<&str>, TokenFault> {
    let Some(text) = visible(value) else {
        return Ok(None);
    };
    let token = text
        .split_at_checked(SCHEME.len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME))
        .and_then(|(_, rest)| rest.strip_prefix(' '));
    match token {
        Some(token) if is_token(token) => Ok(Some(token)),
        _ if text.split_ascii_whitespace().any(is_token) => Err(TokenFault::Malformed),
        _ => Ok(None),
    }
}

/// Whether a header of this name stays here: the client's own credentials and everything meant
/// for the gateway.
#[must_use]
pub fn is_stripped(name: &HeaderName) -> bool {
    let name = name.as_str();
    is_credential(name) || name.starts_with(OWN_PREFIX)
}

/// Removes every header for which [`is_stripped`] holds.
pub fn strip(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_stripped(name)).cloned() {
        headers.remove(name);
    }
}

/// Whether a query parameter, name and value decoded, stays here. `key` is a common name for
/// data, so it counts as a credential only where `key_is_credential` says so (providers that
/// speak a model dialect), or where it holds a token.
#[must_use]
pub fn strips_parameter(name: &str, value: &str, key_is_credential: bool) -> bool {
    CREDENTIAL_PARAMETERS
        .iter()
        .any(|credential| credential.eq_ignore_ascii_case(name))
        || (name == "key" && (key_is_credential || is_token(value)))
}
