//! The name a TLS client asked for (SNI), and whether its requests are for that name.
//!
//! A connection opened for one name and used for another was opened past something: a filter that
//! looks at names, or a certificate check. Knows nothing of routes. A client that names nobody, as
//! one does that connects to an address, is not judged.

use std::sync::Arc;

use http::{Request, header};

use crate::guard::HeadFault;

/// The name the client of a connection asked for.
#[derive(Clone)]
pub(crate) struct ServerName(Arc<str>);

impl ServerName {
    /// Takes the name over.
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// Whether a request on the connection is for the name it was opened for.
    ///
    /// # Errors
    /// [`HeadFault::HostMismatch`].
    pub(crate) fn judge<B>(name: Option<&Self>, request: &Request<B>) -> Result<(), HeadFault> {
        let Some(Self(name)) = name else {
            return Ok(());
        };
        let host = request.headers().get(header::HOST);
        let authority = match (request.uri().authority(), host) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().unwrap_or_default(),
            (None, None) => "",
        };
        let host = authority.split(':').next().unwrap_or_default();
        let plain = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        if plain(host) == plain(name) {
            Ok(())
        } else {
            Err(HeadFault::HostMismatch)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, host: &str) -> bool {
        let request = Request::get("/x").header("host", host).body(()).unwrap();
        ServerName::judge(Some(&ServerName(Arc::from(name))), &request).is_ok()
    }

    #[test]
    fn a_request_is_for_the_name_its_connection_was_opened_for() {
        for (name, host) in [
            ("a.example", "a.example"),
            ("a.example", "A.Example:8443"),
            ("a.example", "a.example.:443"),
        ] {
            assert!(judged(name, host), "{name} {host}");
        }
        for (name, host) in [
            ("a.example", "b.example"),
            ("a.example", "a.example.evil.example"),
            ("a.example", "evil-a.example"),
            ("a.example", ""),
        ] {
            assert!(!judged(name, host), "{name} {host}");
        }
        let request = Request::get("/x").header("host", "any").body(()).unwrap();
        assert!(
            ServerName::judge(None, &request).is_ok(),
            "nobody was named"
        );
    }
}
