//! Signs requests with an AWS access key: Signature Version 4, with the signature in a header.
//!
//! A secret access key is never sent. What leaves are the key's id, which names it, and a MAC
//! over this one request: method, path, query, body and every header that AWS might act on. The
//! rules are those of "Create a signed AWS API request" (IAM user guide); a path is normalised
//! and encoded once more than it stands in the request for every service but S3.
//!
//! It does not know the clock, and not whether AWS will agree: a clock that is off by more than
//! five minutes, or a proxy that changes what was signed, makes AWS refuse the call. Worst case:
//! a signature that leaks is good for this request, bytes and all, for five minutes.

use std::borrow::Cow;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::handle::{InvalidSecret, decoded, percent_encoded};
use crate::secret::Secret;
use crate::time::Timestamp;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const BODY_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// Every header of this prefix has to be signed, but for [`TRACE`].
const AMAZON: &str = "x-amz";
/// AWS' own load balancers change it on the way, so that a signature over it would not hold; it
/// says nothing of what is asked.
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Headers of a client's own signature, besides `authorization`.
const CLIENTS: [HeaderName; 3] = [DATE, BODY_HASH, SESSION_TOKEN];

/// Parameters of a client's own signature in the query, in any case.
const CLIENTS_PARAMETERS: [&str; 7] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// What signs: an access key, perhaps a temporary one.
#[derive(Debug, Clone)]
pub struct AccessKey {
    /// Names the key; not secret.
    pub id: String,
    /// Signs, and is never sent.
    pub secret: Secret,
    /// Sent along with a temporary key.
    pub session_token: Option<Secret>,
}

/// For which service, and where, a signature is good.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The service's name in signatures, such as `bedrock`.
    pub service: &'a str,
    /// The region, such as `us-east-1`.
    pub region: &'a str,
}

/// A request in the form in which it is sent, but for its headers.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Method.
    pub method: &'a Method,
    /// The `Host` header or `:authority`.
    pub authority: &'a str,
    /// The path's bytes as they are sent.
    pub path: &'a str,
    /// The query's bytes as they are sent, without the `?`.
    pub query: Option<&'a str>,
    /// The whole body.
    pub body: &'a [u8],
}

/// Takes a client's own signature out of a request. `authorization` goes with all credentials.
pub fn strip(headers: &mut HeaderMap, query: &mut Option<String>) {
    for name in CLIENTS {
        headers.remove(name);
    }
    let Some(text) = query.as_deref() else { return };
    let is_kept = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        let name = decoded(name);
        !CLIENTS_PARAMETERS
            .iter()
            .any(|own| own.as_bytes().eq_ignore_ascii_case(&name))
    };
    let kept: Vec<&str> = text.split('&').filter(is_kept).collect();
    if kept.len() < text.split('&').count() {
        *query = (!kept.is_empty()).then(|| kept.join("&"));
    }
}

/// Signs `request` at `now` and puts the signature, and what it needs, into `headers`.
///
/// # Errors
/// If the key's id or its session token cannot be sent in a header; nothing must leave then.
pub fn sign(
    headers: &mut HeaderMap,
    request: &Signed<'_>,
    key: &AccessKey,
    scope: Scope<'_>,
    now: Timestamp,
) -> Result<(), InvalidSecret> {
    let hash = hexadecimal(&Sha256::digest(request.body));
    headers.insert(BODY_HASH, visible(&hash)?);
    let moment = now.civil().strftime("%Y%m%dT%H%M%SZ").to_string();
    headers.insert(DATE, visible(&moment)?);
    if let Some(token) = &key.session_token {
        let mut value = HeaderValue::from_bytes(token.expose())
            .map_err(|_unsendable| InvalidSecret::Unsendable)?;
        value.set_sensitive(true);
        headers.insert(SESSION_TOKEN, value);
    }
    let names = to_sign(headers);
    let authorization = authorization(headers, &names, request, &hash, key, scope, &moment);
    headers.insert(AUTHORIZATION, visible(&authorization)?);
    Ok(())
}

fn visible(text: &str) -> Result<HeaderValue, InvalidSecret> {
    HeaderValue::from_str(text).map_err(|_unsendable| InvalidSecret::Unsendable)
}

/// The headers that AWS might act on, by name.
fn to_sign(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let is_amazons = name.as_str().starts_with(AMAZON) && **name != TRACE;
            **name == CONTENT_TYPE || is_amazons
        })
        .cloned()
        .collect();
    names.push(HOST);
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    names
}

/// The value of `authorization` for a request of which `names`, sorted, are signed.
fn authorization(
    headers: &HeaderMap,
    names: &[HeaderName],
    request: &Signed<'_>,
    body_hash: &str,
    key: &AccessKey,
    scope: Scope<'_>,
    moment: &str,
) -> String {
    let Scope { service, region } = scope;
    let day = moment.get(..8).unwrap_or_default();
    let (canonical, signed) = canonical(headers, names, request, body_hash, service);
    let canonical = hexadecimal(&Sha256::digest(canonical.as_bytes()));
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("{ALGORITHM}\n{moment}\n{scope}\n{canonical}");
    let first = Zeroizing::new([b"AWS4", key.secret.expose()].concat());
    let mut signing = mac(&first, day.as_bytes());
    for part in [region, service, "aws4_request"] {
        signing = mac(&signing, part.as_bytes());
    }
    let signature = hexadecimal(&mac(&signing, to_sign.as_bytes()));
    let id = &key.id;
    format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}")
}

/// The canonical request, and the names of its signed headers.
fn canonical(
    headers: &HeaderMap,
    names: &[HeaderName],
    request: &Signed<'_>,
    body_hash: &str,
    service: &str,
) -> (String, String) {
    let path = canonical_path(request.path, service);
    let query = canonical_query(request.query.unwrap_or_default());
    let mut text = format!("{}\n{path}\n{query}\n", request.method);
    for name in names {
        text.push_str(name.as_str());
        text.push(':');
        if *name == HOST {
            text.push_str(request.authority);
        } else {
            let values = headers.get_all(name).iter();
            let values: Vec<String> = values.map(trimmed).collect();
            text.push_str(&values.join(","));
        }
        text.push('\n');
    }
    let signed: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    let signed = signed.join(";");
    // Writing to a String cannot fail.
    let _written = write!(text, "\n{signed}\n{body_hash}");
    (text, signed)
}

/// A value without blanks around it, and one blank for each run of them inside.
fn trimmed(value: &HeaderValue) -> String {
    let text = String::from_utf8_lossy(value.as_bytes());
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.join(" ")
}

/// The path as it is signed. S3 takes it as it stands; all others resolve dot segments and empty
/// ones, and encode what is there, escapes included.
fn canonical_path(path: &str, service: &str) -> String {
    if service == "s3" {
        return path.to_owned();
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut canonical = String::with_capacity(path.len());
    for segment in &kept {
        canonical.push('/');
        canonical.push_str(&percent_encoded(segment.as_bytes()));
    }
    if path.ends_with('/') || canonical.is_empty() {
        canonical.push('/');
    }
    canonical
}

/// The parameters, encoded in the one way there is and sorted by name, then value.
fn canonical_query(query: &str) -> String {
    let once = |text: &str| {
        let text = if text.contains('+') {
            Cow::Owned(text.replace('+', "%20"))
        } else {
            Cow::Borrowed(text)
        };
        percent_encoded(&decoded(&text))
    };
    let mut parameters: Vec<(String, String)> = query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (once(name), once(value))
        })
        .collect();
    parameters.sort_unstable();
    let parameters: Vec<String> = parameters
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    parameters.join("&")
}

fn mac(key: &[u8], text: &[u8]) -> Zeroizing<Vec<u8>> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        // HMAC takes keys of any length.
        return Zeroizing::default();
    };
    mac.update(text);
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
