//! Where a secret may go: one origin, and one place in the requests to it.
//!
//! Whether a request has such a place, and what stands there, is not known here.

use http::{HeaderName, Method};

use super::{JsonPointer, PathPattern};

/// The only place a secret may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The origin: scheme, host and port.
    pub tls: bool,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Methods; empty means those of the provider's endpoints.
    pub methods: Vec<Method>,
    /// Paths; empty means those of the provider's endpoints.
    pub paths: Vec<PathPattern>,
    /// Where in the request.
    pub place: Place,
}

/// Where in a request a secret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A header, after a fixed prefix such as `Bearer `.
    Header {
        /// Which header.
        name: HeaderName,
        /// What stands before the secret; may be empty.
        prefix: String,
    },
    /// The password of HTTP Basic authentication.
    Basic,
    /// A query parameter.
    Query {
        /// Its name.
        name: String,
    },
    /// Nowhere: it signs the request, as AWS asks for it.
    AwsSigv4 {
        /// The service's name in signatures.
        service: String,
        /// The region.
        region: String,
    },
    /// A member of the JSON object that the body is; its whole value, which is a text.
    JsonField {
        /// The way to it.
        pointer: JsonPointer,
    },
    /// A field of a body in `application/x-www-form-urlencoded`.
    FormField {
        /// Its name.
        name: String,
    },
}

impl Binding {
    /// Whether it allows a method.
    #[must_use]
    pub fn covers_method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// Whether it allows a path.
    #[must_use]
    pub fn covers_path(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path))
    }
}

impl Place {
    /// Whether the request's body must be read whole to find the place.
    #[must_use]
    pub const fn is_in_body(&self) -> bool {
        matches!(self, Self::JsonField { .. } | Self::FormField { .. })
    }
}
