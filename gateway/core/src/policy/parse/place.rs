//! Reads where things are: upstream URLs, methods, and the place of a secret in a request.

use http::{HeaderName, HeaderValue, Method, Uri};

use crate::policy::reader::{self, Read, Section};
use crate::policy::{InvalidJsonPointer, JsonPointer, Place, Upstream};
use crate::route;
use toml::de::DeValue;

/// Headers that frame or route a message, or that the gateway itself sets: no secret goes there.
pub const FRAMING_HEADERS: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Scheme, host, port and base path of an upstream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) base_path: String,
}

/// Reads an upstream's URL.
pub(super) fn origin(value: &DeValue<'_>) -> Read<Origin> {
    let text = reader::text(value)?;
    parse_origin(&text).map_err(|wrong| {
        // What stands before an `@` may be a password.
        let shown = match text.rsplit_once('@') {
            Some((_, host)) => format!("…@{}", reader::shown(host)),
            None => reader::shown(&text),
        };
        format!("is \"{shown}\", but must be a URL such as https://api.example.com: {wrong}")
    })
}

/// An upstream at a URL: scheme, host, port and path, nothing else.
///
/// # Errors
/// Why the text is no such URL.
pub fn upstream(text: &str) -> Result<Upstream, &'static str> {
    let origin = parse_origin(text)?;
    Ok(Upstream {
        tls: origin.tls,
        host: origin.host,
        port: origin.port,
        base_path: origin.base_path,
        ca_file: None,
        http2: origin.tls,
        insecure_plain_http: false,
    })
}

fn parse_origin(text: &str) -> Result<Origin, &'static str> {
    let uri: Uri = text
        .parse()
        .map_err(|_no_uri: http::uri::InvalidUri| "it is no URL")?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("it must begin with https:// (or http://)"),
    };
    let authority = uri.authority().ok_or("the host is missing")?.as_str();
    if authority.contains('@') {
        return Err("a user name or password does not belong in it");
    }
    if uri.query().is_some() || text.contains('#') {
        return Err("a query or fragment does not belong in it");
    }
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let port = match authority.strip_prefix(uri.host().unwrap_or_default()) {
        Some("") if tls => 443,
        Some("") => 80,
        _ => uri
            .port_u16()
            .filter(|port| *port != 0)
            .ok_or("the port must be a number from 1 to 65535")?,
    };
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(v6) => v6
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_no_address: std::net::AddrParseError| "the IPv6 address is not valid")?
            .to_string(),
        None if is_host_name(&host) => host,
        None => return Err("the host must be letters, digits, `-` and `.`"),
    };
    let base_path = uri.path().trim_end_matches('/').to_owned();
    if !base_path.is_empty() {
        route::refuse_ambiguity(&base_path)?;
    }
    Ok(Origin {
        tls,
        host,
        port,
        base_path,
    })
}

fn is_host_name(host: &str) -> bool {
    let odd = |b: u8| !(b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    host.len() <= 253
        && host
            .split('.')
            .all(|label| (1..=63).contains(&label.len()) && !label.bytes().any(odd))
}

/// Reads a method, in capitals.
pub(super) fn method(value: &DeValue<'_>) -> Read<Method> {
    const METHODS: &[(&str, Method)] = &[
        ("GET", Method::GET),
        ("HEAD", Method::HEAD),
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("PATCH", Method::PATCH),
        ("DELETE", Method::DELETE),
    ];
    let text = reader::text(value)?;
    METHODS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, method)| method.clone())
        .ok_or_else(|| {
            let shown = reader::shown(&text);
            let hint = reader::suggestion(
                &text.to_ascii_uppercase(),
                METHODS.iter().map(|(name, _)| *name),
            );
            format!("must be one of GET, HEAD, POST, PUT, PATCH, DELETE, not \"{shown}\"{hint}")
        })
}

const PLACES: &str = "a place is one of { header = \"authorization\", prefix = \"Bearer \" }, { query = \"key\" }, { basic = true }, { json_field = \"/api_key\" }, { form_field = \"api_key\" }, { aws_sigv4 = \"bedrock\", region = \"us-east-1\" }";

/// Reads the table that says where a secret goes.
pub(super) fn place(section: &Section<'_>) -> Option<Place> {
    let forms: Vec<&str> = [
        "header",
        "query",
        "basic",
        "aws_sigv4",
        "json_field",
        "form_field",
        "path",
    ]
    .into_iter()
    .filter(|key| section.has(key))
    .collect();
    section.optional("path", no_path);
    let name = section.optional("header", header);
    let prefix = section.optional("prefix", prefix);
    let query = section.optional("query", query);
    let basic = section.optional("basic", reader::boolean);
    let service = section.optional("aws_sigv4", scope_part);
    let region = section.optional("region", scope_part);
    let pointer = section.optional("json_field", json_field);
    let field = section.optional("form_field", form_field);
    match forms.as_slice() {
        ["header"] => {
            return Some(Place::Header {
                name: name?,
                prefix: if section.has("prefix") {
                    prefix?
                } else {
                    String::new()
                },
            });
        }
        _ if section.has("prefix") => {
            section.mistake(section.at("prefix"), "`prefix` goes with `header` only");
        }
        ["aws_sigv4"] if section.has("region") => {
            return Some(Place::AwsSigv4 {
                service: service?,
                region: region?,
            });
        }
        ["aws_sigv4"] => {
            let example = "`aws_sigv4` goes with a region, such as region = \"us-east-1\"";
            section.mistake(section.at("aws_sigv4"), example);
        }
        _ if section.has("region") => {
            section.mistake(section.at("region"), "`region` goes with `aws_sigv4` only");
        }
        ["query"] => return Some(Place::Query { name: query? }),
        ["basic"] if basic == Some(true) => return Some(Place::Basic),
        ["basic"] if basic.is_none() => {}
        ["json_field"] => return Some(Place::JsonField { pointer: pointer? }),
        ["form_field"] => return Some(Place::FormField { name: field? }),
        ["path"] => {}
        _ => section.mistake(section.start(), PLACES),
    }
    None
}

fn no_path(_value: &DeValue<'_>) -> Read<()> {
    Err("is no place for a secret: paths are written down wherever they pass".to_owned())
}

fn json_field(value: &DeValue<'_>) -> Read<JsonPointer> {
    let text = reader::text(value)?;
    text.parse().map_err(|wrong: InvalidJsonPointer| {
        format!("is \"{}\", but {wrong}", reader::shown(&text))
    })
}

fn form_field(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    if (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(text)
    } else {
        let shown = reader::shown(&text);
        Err(format!(
            "is \"{shown}\", but a field's name is 1 to 128 visible characters of ASCII, as they are before any encoding"
        ))
    }
}

fn header(value: &DeValue<'_>) -> Read<HeaderName> {
    let text = reader::text(value)?;
    let shown = reader::shown(&text);
    let name: HeaderName = text
        .parse()
        .map_err(|_no_name: http::header::InvalidHeaderName| {
            format!("is \"{shown}\", which is no header name")
        })?;
    if FRAMING_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("x-tollgate-") {
        return Err(format!(
            "is \"{shown}\", a header that cannot carry a secret"
        ));
    }
    Ok(name)
}

fn prefix(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    let plain = HeaderValue::from_str(&text).is_ok() && text.is_ascii() && !text.starts_with(' ');
    if plain && !text.contains('\t') {
        Ok(text)
    } else {
        let shown = reader::shown(&text);
        Err(format!(
            "is \"{shown}\", but must be visible ASCII such as \"Bearer \""
        ))
    }
}

/// A service or region as signatures name it.
pub(super) fn scope_part(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        Ok(text)
    } else {
        let shown = reader::shown(&text);
        Err(format!(
            "is \"{shown}\", but must be a name such as \"bedrock\" or \"us-east-1\""
        ))
    }
}

fn query(value: &DeValue<'_>) -> Read<String> {
    let text = reader::text(value)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    if !text.is_empty() && text.len() <= 64 && text.bytes().all(plain) {
        Ok(text)
    } else {
        let shown = reader::shown(&text);
        Err(format!(
            "is \"{shown}\", but a parameter's name is 1 to 64 of A-Z a-z 0-9 - _ . ~"
        ))
    }
}
