//! Which requests of browsers are answered: those of a page of this listener, under a name that
//! nobody outside can have given it.
//!
//! A credential stands in a header that no page of another origin can set, so there is nothing to
//! forge a request with. What is left is a page of a stranger whose own name is made to lead here
//! (DNS rebinding): to a browser it is then of one origin with this listener, and could read what
//! wants no credential, the metrics among it. Programs that are no browsers name what they like.
//! Worst case: a browser that sends neither `accept-language` nor `origin`; none is known.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_LANGUAGE, HOST, HeaderMap, ORIGIN};

use crate::Admin;
use crate::problem::Problem;

/// Ends of names that public DNS gives to nobody: RFC 6761, RFC 6762, RFC 8375, `.internal` as
/// ICANN has set it aside, and what Kubernetes calls services.
const PRIVATE_ENDS: [&str; 6] = [
    ".localhost",
    ".local",
    ".home.arpa",
    ".internal",
    ".svc",
    ".svc.cluster.local",
];

/// Lets browsers through that call this listener by a name of its own.
pub(crate) async fn require(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Response {
    match judge(request.headers(), &admin.names) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn judge(headers: &HeaderMap, names: &BTreeSet<String>) -> Result<(), Problem> {
    let origin = headers.get(ORIGIN);
    if origin.is_none() && !headers.contains_key(ACCEPT_LANGUAGE) {
        return Ok(());
    }
    let authority = headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = authority.unwrap_or_default().to_ascii_lowercase();
    if let Some(origin) = origin {
        let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let of = origin.split_once("://").map(|(_scheme, of)| of);
        if of != Some(authority.as_str()) {
            return Err(Problem::foreign_origin());
        }
    }
    let name = name(&authority);
    if is_private(name) || names.contains(name) {
        return Ok(());
    }
    Err(Problem::foreign_name())
}

/// The host of `host:port`, without a dot at its end.
fn name(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    host.trim_end_matches('.')
}

/// Whether no stranger can own the name: an address, a name of one label, or a private one.
fn is_private(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_address = bare.parse::<IpAddr>().is_ok();
    let is_one_label = !name.is_empty() && !name.contains(['.', ':']);
    is_address || is_one_label || PRIVATE_ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(lines: &[(&str, &str)]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: http::HeaderName = name.parse().expect("a name");
            headers.insert(name, value.parse().expect("a value"));
        }
        let names = BTreeSet::from(["tollgate.example.com".to_owned()]);
        judge(&headers, &names).err().map(|problem| problem.code())
    }

    #[test]
    fn a_browser_has_to_call_by_a_name_that_no_stranger_can_own() {
        for (host, refused) in [
            ("127.0.0.1:9090", false),
            ("[::1]:9090", false),
            ("[::1]", false),
            ("localhost:9090", false),
            ("LocalHost.", false),
            ("tollgate-admin", false),
            ("tollgate.gateway.svc:9090", false),
            ("tollgate.gateway.svc.cluster.local:9090", false),
            ("tollgate.corp.internal", false),
            ("tollgate.example.com", false),
            ("Tollgate.example.com:443", false),
            ("rebind.evil.example:9090", true),
            ("127.0.0.1.evil.example", true),
            ("localhost.evil.example", true),
            ("evil.svc.cluster.local.example", true),
            ("tollgate.example.com.evil.example", true),
            ("", true),
        ] {
            let expected = refused.then_some("foreign_name");
            let browser = ("accept-language", "en");
            assert_eq!(code(&[("host", host), browser]), expected, "{host}");
            assert_eq!(code(&[("host", host)]), None, "{host}: no browser");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let host = ("host", "127.0.0.1:9090");
        for (origin, expected) in [
            ("http://127.0.0.1:9090", None),
            ("http://127.0.0.1:9091", Some("foreign_origin")),
            ("http://evil.example", Some("foreign_origin")),
            ("null", Some("foreign_origin")),
        ] {
            assert_eq!(code(&[host, ("origin", origin)]), expected, "{origin}");
        }
        let rebound = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert_eq!(code(&rebound), Some("foreign_name"));
        assert_eq!(code(&[("origin", "null")]), Some("foreign_origin"));
    }
}
