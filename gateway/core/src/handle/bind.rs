//! Whose key goes where: from a request and a policy to one credential and one place.
//!
//! The secret is not known here and not needed. Every denial is [`Refusal::CredentialDenied`]
//! with nothing to tell one from another but the reason kept for the record.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use super::{Surface, all, near_miss, whole};
use crate::identity::TOKEN_HEADER;
use crate::ids::{AgentId, HandleName};
use crate::policy::{Credential, Dialect, Place, Provider, Tenant, covers};
use crate::refusal::Refusal;

/// Headers in which a handle is expected whatever the provider declares: SDKs put keys there.
const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Schemes that clients write before a key in `Authorization`, whatever the provider declares.
const SCHEMES: [&str; 2] = ["Bearer ", "token "];

const BASIC: &str = "Basic";
const BASIC_FORM: &str =
    "Basic authentication is \"Basic \" and the base64 of user:$CRED{name}, with padding";

/// The parts of a request a handle is looked for in. The body is deliberately not one.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path behind the provider's name, as it was received.
    pub path: &'a str,
    /// Query without the `?`, as it was received.
    pub query: Option<&'a str>,
    /// Headers as they were received.
    pub headers: &'a HeaderMap,
}

/// Proof that one credential, or deliberately none, belongs to a call. Only [`bind`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub(super) credential: Option<Arc<Credential>>,
    /// The user name before the password in Basic authentication; the client chooses it.
    pub(super) user: Vec<u8>,
    /// Whether a query parameter called `key` is a credential for this provider.
    pub(super) key_is_credential: bool,
}

impl Bound {
    /// The credential to fetch; `None` for a provider that takes no key.
    #[must_use]
    pub const fn credential(&self) -> Option<&Arc<Credential>> {
        self.credential.as_ref()
    }
}

/// A handle and the place it stands in.
#[derive(Debug)]
struct Found {
    name: HandleName,
    place: FoundPlace,
}

#[derive(Debug)]
enum FoundPlace {
    Header(HeaderName),
    Basic,
    Query(String),
    /// Where no credential is ever put: the path, a user name, another header or parameter.
    Elsewhere,
}

/// Decides which credential of `tenant` this call bears.
///
/// A handle anywhere in headers, query or path names it, and must stand exactly where its
/// binding puts the secret; without a handle it is the tenant's default for the provider. A key
/// or token in the slot of a client's own choosing does not matter: it is stripped.
///
/// # Errors
/// [`Refusal::BadHandle`] for what merely resembles a handle where one is expected,
/// [`Refusal::HandleRepeated`] for more than one, and [`Refusal::CredentialDenied`] for all else.
pub fn bind(
    asked: &Asked<'_>,
    tenant: &Tenant,
    agent: &AgentId,
    provider: &Provider,
) -> Result<Bound, Refusal> {
    let mut search = Search {
        tenant,
        provider,
        found: None,
        user: Vec::new(),
    };
    search.headers(asked.headers)?;
    search.query(asked.query.unwrap_or_default())?;
    search.elsewhere(&decoded(asked.path), Surface::Url)?;
    let credential = match (&search.found, &provider.place) {
        (None, None) => None,
        (Some(_), None) => return Err(denied("credential_place")),
        (Some(found), Some(_)) => Some(named(found, tenant)?),
        (None, Some(_)) => Some(default(tenant, provider)?),
    };
    if let Some(credential) = credential {
        permits(credential, asked, agent, provider)?;
    }
    Ok(Bound {
        credential: credential.cloned(),
        user: search.user,
        key_is_credential: provider.dialect != Dialect::Http,
    })
}

const fn denied(reason: &'static str) -> Refusal {
    Refusal::CredentialDenied { reason }
}

fn named<'a>(found: &Found, tenant: &'a Tenant) -> Result<&'a Arc<Credential>, Refusal> {
    let credential = tenant
        .credentials
        .get(&found.name)
        .ok_or(denied("credential_unknown"))?;
    let stands_where_declared = match (&found.place, &credential.binding.place) {
        (FoundPlace::Header(at), Place::Header { name, .. }) => at == name,
        // A signature takes the place of whatever stands here.
        (FoundPlace::Header(at), Place::AwsSigv4 { .. }) => at == AUTHORIZATION,
        (FoundPlace::Basic, Place::Basic) => true,
        (FoundPlace::Query(at), Place::Query { name }) => at == name,
        _ => false,
    };
    if stands_where_declared {
        Ok(credential)
    } else {
        Err(denied("credential_place"))
    }
}

fn default<'a>(tenant: &'a Tenant, provider: &Provider) -> Result<&'a Arc<Credential>, Refusal> {
    tenant
        .credentials
        .values()
        .find(|credential| credential.is_default && credential.provider == provider.name)
        .ok_or(denied("credential_no_default"))
}

/// Whether the binding covers this agent, origin, method and path.
fn permits(
    credential: &Credential,
    asked: &Asked<'_>,
    agent: &AgentId,
    provider: &Provider,
) -> Result<(), Refusal> {
    let binding = &credential.binding;
    let upstream = &provider.upstream;
    if credential.provider != provider.name {
        return Err(denied("credential_provider"));
    }
    if !covers(&credential.agents, agent.as_str()) {
        return Err(denied("credential_agent"));
    }
    if binding.tls != upstream.tls || binding.host != upstream.host || binding.port != upstream.port
    {
        return Err(denied("credential_origin"));
    }
    if !binding.methods.is_empty() && !binding.methods.contains(asked.method) {
        return Err(denied("credential_method"));
    }
    if !binding.paths.is_empty() && !binding.paths.iter().any(|path| path.matches(asked.path)) {
        return Err(denied("credential_path"));
    }
    if !upstream.tls && !upstream.insecure_plain_http {
        return Err(denied("credential_plain_http"));
    }
    Ok(())
}

/// The hunt for the one handle of a request.
struct Search<'a> {
    tenant: &'a Tenant,
    provider: &'a Provider,
    found: Option<Found>,
    user: Vec<u8>,
}

impl Search<'_> {
    fn headers(&mut self, headers: &HeaderMap) -> Result<(), Refusal> {
        for (name, value) in headers {
            let value = value.as_bytes();
            if name.as_str() == TOKEN_HEADER {
                continue;
            }
            if KEY_HEADERS.contains(&name.as_str()) || self.prefixes(name).next().is_some() {
                self.key_header(name, value)?;
            } else if memchr::memchr(b'$', value).is_some() {
                self.elsewhere(value, Surface::Header)?;
            }
        }
        Ok(())
    }

    fn key_header(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Refusal> {
        if name == AUTHORIZATION
            && let Some(rest) = strip_prefix_ignoring_case(value, BASIC)
            && rest.first().is_none_or(u8::is_ascii_whitespace)
        {
            return self.basic(rest);
        }
        let handle = self
            .prefixes(name)
            .chain(SCHEMES.into_iter().filter(|_| name == AUTHORIZATION))
            .chain([""])
            .filter_map(|prefix| strip_prefix_ignoring_case(value, prefix))
            .find_map(|rest| whole(rest, Surface::Header));
        match handle {
            Some(handle) => self.take(handle, FoundPlace::Header(name.clone())),
            None => self.expected(value, Surface::Header),
        }
    }

    /// What follows `Basic`. Where this provider takes no Basic authentication, a value that
    /// cannot be read is a key of the client's own and is stripped like any other.
    fn basic(&mut self, rest: &[u8]) -> Result<(), Refusal> {
        let is_declared = self.places().any(|place| *place == Place::Basic);
        let decoded = rest
            .strip_prefix(b" ")
            .and_then(|encoded| STANDARD.decode(encoded).ok());
        let colon = decoded
            .as_ref()
            .and_then(|decoded| memchr::memchr(b':', decoded));
        let (Some(decoded), Some(colon)) = (decoded, colon) else {
            return if is_declared {
                Err(Refusal::BadHandle { hint: BASIC_FORM })
            } else {
                self.expected(rest, Surface::Header)
            };
        };
        let (user, password) = decoded.split_at(colon);
        let password = password.get(1..).unwrap_or_default();
        self.elsewhere(user, Surface::Header)?;
        if is_declared {
            self.user = user.to_vec();
        }
        match whole(password, Surface::Header) {
            Some(handle) => self.take(handle, FoundPlace::Basic),
            None => self.expected(password, Surface::Header),
        }
    }

    fn query(&mut self, query: &str) -> Result<(), Refusal> {
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decoded(name), decoded(value));
            self.elsewhere(&name, Surface::Url)?;
            let declared = self.places().find_map(|place| match place {
                Place::Query { name: at } if at.as_bytes() == &*name => Some(at.clone()),
                _ => None,
            });
            match (declared, whole(&value, Surface::Url)) {
                (Some(at), Some(handle)) => self.take(handle, FoundPlace::Query(at))?,
                (Some(_), None) => self.expected(&value, Surface::Url)?,
                (None, _) => self.elsewhere(&value, Surface::Url)?,
            }
        }
        Ok(())
    }

    /// A text in a place where a handle is expected, and which is not exactly one.
    fn expected(&self, text: &[u8], surface: Surface) -> Result<(), Refusal> {
        match near_miss(text) {
            Some(_) if all(text, surface).count > 1 => Err(Refusal::HandleRepeated),
            Some(hint) => Err(Refusal::BadHandle { hint }),
            None => Ok(()),
        }
    }

    /// A text in a place where no secret is ever put. What merely resembles a handle there is
    /// plain text and nobody's business.
    fn elsewhere(&mut self, text: &[u8], surface: Surface) -> Result<(), Refusal> {
        let handles = all(text, surface);
        if handles.count > 1 {
            return Err(Refusal::HandleRepeated);
        }
        handles
            .first
            .map_or(Ok(()), |handle| self.take(handle, FoundPlace::Elsewhere))
    }

    fn take(&mut self, name: HandleName, place: FoundPlace) -> Result<(), Refusal> {
        if self.found.is_some() {
            return Err(Refusal::HandleRepeated);
        }
        self.found = Some(Found { name, place });
        Ok(())
    }

    /// The places credentials for this provider may go.
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.provider.place.iter().chain(
            self.tenant
                .credentials
                .values()
                .filter(|credential| credential.provider == self.provider.name)
                .map(|credential| &credential.binding.place),
        )
    }

    /// The prefixes declared for a header; none at all if it is not declared.
    fn prefixes(&self, header: &HeaderName) -> impl Iterator<Item = &str> {
        self.places().filter_map(move |place| match place {
            Place::Header { name, prefix } if name == header => Some(prefix.as_str()),
            _ => None,
        })
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start
        .eq_ignore_ascii_case(prefix.as_bytes())
        .then_some(rest)
}

/// Undoes percent-encoding once. `%` that starts no escape stands for itself, as it does in
/// every lenient parser behind us.
pub(crate) fn decoded(text: &str) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => hex(*high)
                .zip(hex(*low))
                .map(|(high, low)| (high << 4 | low, behind)),
            _ => None,
        };
        let (byte, behind) = escaped.unwrap_or((first, behind));
        bytes.push(byte);
        rest = behind;
    }
    Cow::Owned(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
