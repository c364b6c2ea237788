//! Which endpoint of which provider a request asks for.
//!
//! Judges the method and the path's bytes as they will be sent; it never decodes or normalises,
//! so what is checked is what the upstream receives. A path that two programs could read in two
//! ways is refused. Knows nothing of callers. At worst a harmless but unusual path is refused.
//!
//! One escape is taken that others would be refused for: an escaped slash within the name of a
//! Bedrock model, since AWS names inference profiles by ARNs and takes the escaped name as one
//! segment. It stands in the one segment that names the model, in an ARN, and nowhere else.

use std::sync::Arc;

use http::Method;

use crate::ids::ModelName;
use crate::policy::{Dialect, Endpoint, Operation, Policy, Provider};
use crate::refusal::Refusal;

/// Headers by which some servers let a client replace the method or the path that was checked.
/// They never travel upstream.
pub const OVERRIDE_HEADERS: [&str; 8] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-forwarded-uri",
];

/// Query parameters by which some servers let a client replace what was checked: a framework's
/// method override, and Google's way to send a method, headers and a body in the query.
const OVERRIDE_PARAMETERS: [&str; 5] = ["_method", "$httpmethod", "$httpheaders", "$req", "$ct"];

const ESCAPED_SLASH: &str = "the path must not contain an escaped slash";

/// Where a request goes.
#[derive(Debug, Clone)]
pub struct Route<'r> {
    /// The provider named by the first segment.
    pub provider: Arc<Provider>,
    /// The most specific endpoint that fits.
    pub endpoint: Arc<Endpoint>,
    /// The path after the provider's name, beginning with `/`: exactly the bytes to send, behind
    /// the upstream's base path.
    pub path: &'r str,
    /// The model that the path names, decoded, where the endpoint has it there.
    pub model: Option<ModelName>,
}

impl Route<'_> {
    /// The language of the client: the provider's, unless the endpoint serves another's clients,
    /// as most providers do beside their own interface.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.endpoint.operation {
            Operation::ChatCompletions
            | Operation::Completions
            | Operation::Responses
            | Operation::Embeddings => Dialect::OpenAi,
            Operation::Messages => Dialect::Anthropic,
            _ => self.provider.dialect,
        }
    }
}

/// The route of a request to `path` (without its query).
///
/// Of the endpoints that fit both method and path, the one with the most specific path decides.
///
/// # Errors
/// [`Refusal::Malformed`] for a path that could be read in two ways, [`Refusal::NotAllowed`] where
/// no endpoint is listed for it.
pub fn find<'r>(policy: &Policy, method: &Method, path: &'r str) -> Result<Route<'r>, Refusal> {
    let ambiguous = |detail| Refusal::Malformed {
        code: "ambiguous_path",
        detail,
    };
    refuse_all_but_escaped_slashes(path).map_err(ambiguous)?;
    let slashes = escaped_slashes(path);
    let (provider, endpoint, rest) = match lookup(policy, method, path) {
        Ok(found) => found,
        // Nobody learns where such a path would have led.
        Err(_nowhere) if slashes > 0 => return Err(ambiguous(ESCAPED_SLASH)),
        Err(nowhere) => return Err(nowhere),
    };
    let written = endpoint.path.model(rest);
    let in_model = match written {
        Some(name) if provider.dialect == Dialect::Bedrock => escaped_slashes(name),
        _ => 0,
    };
    if slashes != in_model {
        return Err(ambiguous(ESCAPED_SLASH));
    }
    let model = written.map(read_model).transpose().map_err(ambiguous)?;
    Ok(Route {
        provider: Arc::clone(provider),
        endpoint: Arc::clone(endpoint),
        path: rest,
        model,
    })
}

type Found<'p, 'r> = (&'p Arc<Provider>, &'p Arc<Endpoint>, &'r str);

fn lookup<'p, 'r>(
    policy: &'p Policy,
    method: &Method,
    path: &'r str,
) -> Result<Found<'p, 'r>, Refusal> {
    let nowhere = Refusal::NotAllowed { what: "route" };
    let Some((name, rest)) = split_provider(path) else {
        return Err(nowhere);
    };
    let Some(provider) = policy.providers.get(name) else {
        return Err(nowhere);
    };
    let (mut known_path, mut best) = (false, None::<&Arc<Endpoint>>);
    provider.endpoints.fitting(rest, |endpoint| {
        known_path = true;
        // No two endpoints of a provider that take one method and fit one path are equally specific.
        let better = best.is_none_or(|best| endpoint.path.by_specificity(&best.path).is_lt());
        if endpoint.methods.contains(method) && better {
            best = Some(endpoint);
        }
    });
    let Some(endpoint) = best else {
        let what = if known_path { "method" } else { "route" };
        return Err(Refusal::NotAllowed { what });
    };
    Ok((provider, endpoint, rest))
}

/// The model as it is meant. Its escapes have been judged, so there is one way to decode them.
fn read_model(written: &str) -> Result<ModelName, &'static str> {
    let odd = "the model in the path must be visible ASCII, at most 256 characters";
    let name = String::from_utf8(decode(written)).map_err(|_bytes| odd)?;
    if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(odd);
    }
    if name.contains('/') {
        let climbs = name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if climbs || !name.starts_with("arn:") {
            return Err("only an ARN may hold an escaped slash, and no empty or dot segment in it");
        }
    }
    name.parse().map_err(|_too_long| odd)
}

/// Refuses a query that asks some servers to treat the request as another one.
///
/// # Errors
/// [`Refusal::Malformed`] if a parameter is called `_method` or `$httpMethod`, or by another name
/// of that kind, however it is written.
pub fn refuse_method_override(query: Option<&str>) -> Result<(), Refusal> {
    let Some(query) = query else {
        return Ok(());
    };
    let overrides = query
        .split(['&', ';'])
        .filter_map(|parameter| parameter.split('=').next())
        .map(decode)
        .any(|key| {
            OVERRIDE_PARAMETERS
                .iter()
                .any(|name| key.eq_ignore_ascii_case(name.as_bytes()))
        });
    if overrides {
        return Err(Refusal::Malformed {
            code: "method_override",
            detail: "query parameters that replace the method, headers or body are not taken: send them as they are",
        });
    }
    Ok(())
}

/// Says why `path` could be read in two ways, if it could.
///
/// # Errors
/// The reason, safe to show.
pub fn refuse_ambiguity(path: &str) -> Result<(), &'static str> {
    refuse_all_but_escaped_slashes(path)?;
    match escaped_slashes(path) {
        0 => Ok(()),
        _ => Err(ESCAPED_SLASH),
    }
}

/// The bytes of a path that are `%2F`.
fn escaped_slashes(path: &str) -> usize {
    memchr::memchr_iter(b'%', path.as_bytes())
        .filter_map(|at| path.as_bytes().get(at..)?.first_chunk::<3>())
        .filter(|escape| escape.eq_ignore_ascii_case(b"%2f"))
        .count()
}

fn refuse_all_but_escaped_slashes(path: &str) -> Result<(), &'static str> {
    let Some(inner) = path.strip_prefix('/') else {
        return Err("the path must begin with `/`");
    };
    if is_plain(path) {
        return Ok(());
    }
    if let Some(reason) = path.bytes().find_map(odd_byte) {
        return Err(reason);
    }
    if path.as_bytes().windows(2).any(|pair| pair == b"//") {
        return Err("the path must not contain empty segments (`//`)");
    }
    if !path.bytes().any(|byte| matches!(byte, b'.' | b'%')) {
        return Ok(());
    }
    for segment in inner.split('/') {
        if segment == "." || segment == ".." {
            return Err("the path must not contain dot segments");
        }
        if segment.contains('%') {
            refuse_escapes(segment)?;
        }
    }
    Ok(())
}

/// Whether a path is of letters, digits, `-`, `_` and single slashes, as most are: nothing is odd
/// about any of them.
fn is_plain(path: &str) -> bool {
    let mut after_slash = false;
    path.bytes().all(|byte| {
        let is_slash = byte == b'/';
        let doubled = is_slash && after_slash;
        after_slash = is_slash;
        !doubled && (is_slash || byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

fn split_provider(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_prefix('/')?;
    let slash = memchr::memchr(b'/', inner.as_bytes())?;
    inner.split_at_checked(slash)
}

/// Bytes that RFC 3986 does not allow in a path, or that servers are known to treat specially.
fn odd_byte(byte: u8) -> Option<&'static str> {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'%' => None,
        b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
        | b',' | b'=' | b':' | b'@' => None,
        b';' => Some("the path must not contain `;`: servers disagree on what follows it"),
        b'\\' => Some("the path must not contain a backslash"),
        b'#' => Some("the path must not contain a fragment"),
        _ => Some("the path must hold only the characters RFC 3986 allows in a path"),
    }
}

/// Escapes hide nothing: only bytes that need escaping may be escaped, and only as UTF-8.
fn refuse_escapes(segment: &str) -> Result<(), &'static str> {
    let mut parts = segment.split('%');
    parts.next();
    for part in parts {
        let Some(byte) = part.get(..2).and_then(from_hex) else {
            return Err("the path contains a `%` that begins no escape");
        };
        match byte {
            b'\\' => return Err("the path must not contain an escaped backslash"),
            b'%' => return Err("the path must not be escaped twice"),
            b';' | b'?' | b'#' => {
                return Err("the path must not contain an escaped `;`, `?` or `#`");
            }
            0..=0x1f | 0x7f => return Err("the path must not contain escaped control characters"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                return Err("the path must not escape characters that need no escape");
            }
            _ => {}
        }
    }
    match std::str::from_utf8(&decode(segment)) {
        Ok(_) => Ok(()),
        Err(_) => Err("the path's escapes must be UTF-8"),
    }
}

fn from_hex(digits: &str) -> Option<u8> {
    let both = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    both.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Percent-decoding that leaves anything which is no escape as it is.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        match (part.get(..2).and_then(from_hex), part.get(2..)) {
            (Some(byte), Some(rest)) => {
                bytes.push(byte);
                bytes.extend_from_slice(rest.as_bytes());
            }
            _ => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
