//! The hunt for the one handle of a request's head, and the forms a handle may take in each place.
//!
//! It knows where credentials for the provider may go, and not yet whose handle it finds.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName};

use super::bind::Asked;
use super::field::{self, Kind};
use super::{Surface, all, holds_odd, near_miss, whole};
use crate::identity::TOKEN_HEADER;
use crate::ids::HandleName;
use crate::policy::{Credential, Place, Provider, Tenant};
use crate::refusal::Refusal;

/// Headers in which a handle is expected whatever the provider declares: SDKs put keys there.
const KEY_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Schemes that clients write before a key in `Authorization`, whatever the provider declares.
const SCHEMES: [&str; 2] = ["Bearer ", "token "];

const BASIC: &str = "Basic";
const BASIC_FORM: &str =
    "Basic authentication is \"Basic \" and the base64 of user:$CRED{name}, with padding";

/// A handle and the place it stands in.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: HandleName,
    pub(super) place: FoundPlace,
}

#[derive(Debug)]
pub(super) enum FoundPlace {
    Header(HeaderName),
    Basic,
    Query(String),
    Field(Place),
    /// Where no credential is ever put: the path, a user name, another header or parameter.
    Elsewhere,
}

/// The hunt for the one handle of a request.
pub(super) struct Search<'a> {
    provider: &'a Provider,
    /// The tenant's credentials for this provider.
    credentials: &'a [Arc<Credential>],
    pub(super) found: Option<Found>,
    /// The user name of Basic authentication.
    pub(super) user: Vec<u8>,
}

impl<'a> Search<'a> {
    pub(super) fn new(tenant: &'a Tenant, provider: &'a Provider) -> Self {
        Self {
            provider,
            credentials: tenant.credentials.of(&provider.name),
            found: None,
            user: Vec::new(),
        }
    }

    /// Looks through headers, query and path.
    pub(super) fn head(&mut self, asked: &Asked<'_>) -> Result<(), Refusal> {
        self.headers(asked.headers)?;
        self.query(asked.query.unwrap_or_default())?;
        self.elsewhere(&decoded(asked.path), Surface::Url)
    }

    fn headers(&mut self, headers: &HeaderMap) -> Result<(), Refusal> {
        for (name, value) in headers {
            let value = value.as_bytes();
            // Basic authentication hides what it holds.
            let may_hold_one = name == AUTHORIZATION || holds_odd(value);
            if !may_hold_one || name == TOKEN_HEADER {
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
            None => expected(value, Surface::Header),
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
                Err(Refusal::BadHandle {
                    hint: BASIC_FORM.into(),
                })
            } else {
                expected(rest, Surface::Header)
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
            None => expected(password, Surface::Header),
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
                (Some(_), None) => expected(&value, Surface::Url)?,
                (None, _) => self.elsewhere(&value, Surface::Url)?,
            }
        }
        Ok(())
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
        take(&mut self.found, name, place)
    }

    /// The fields of the body in which a handle may stand: those that are declared for this
    /// method and path and may be in a body of its type.
    pub(super) fn fields(&self, asked: &Asked<'_>) -> Result<Vec<Place>, Refusal> {
        let bindings = self
            .credentials
            .iter()
            .map(|credential| &credential.binding);
        let bound = bindings
            .filter(|it| it.covers_method(asked.method) && it.covers_path(asked.path))
            .map(|binding| &binding.place);
        let mut declared = self.provider.place.iter().chain(bound);
        let mut fields: Vec<Place> = Vec::new();
        let is_declared = declared.clone().any(Place::is_in_body);
        let Some(kind) = is_declared
            .then(|| Kind::of(asked.headers))
            .transpose()?
            .flatten()
        else {
            return Ok(fields);
        };
        for place in declared.by_ref().filter(|place| kind.holds(place)) {
            if !fields.contains(place) {
                fields.push(place.clone());
            }
        }
        if !fields.is_empty() && asked.headers.contains_key(CONTENT_ENCODING) {
            return Err(field::ENCODED);
        }
        Ok(fields)
    }

    /// The places credentials for this provider may go.
    fn places(&self) -> impl Iterator<Item = &Place> {
        let bindings = self
            .credentials
            .iter()
            .map(|credential| &credential.binding);
        let own = bindings.map(|binding| &binding.place);
        self.provider.place.iter().chain(own)
    }

    /// Whether the body of the call may have to be signed, and so be read whole.
    pub(super) fn signs(&self) -> bool {
        self.places()
            .any(|place| matches!(place, Place::AwsSigv4 { .. }))
    }

    /// The prefixes declared for a header; none at all if it is not declared.
    fn prefixes(&self, header: &HeaderName) -> impl Iterator<Item = &str> {
        self.places().filter_map(move |place| match place {
            Place::Header { name, prefix } if name == header => Some(prefix.as_str()),
            _ => None,
        })
    }
}

/// Takes the handle that `text`, the value of a declared field, may be.
pub(super) fn take_from_field(
    found: &mut Option<Found>,
    place: &Place,
    text: &[u8],
) -> Result<(), Refusal> {
    let surface = match place {
        Place::FormField { .. } => Surface::Url,
        _ => Surface::Header,
    };
    match whole(text, surface) {
        Some(name) => take(found, name, FoundPlace::Field(place.clone())),
        None => expected(text, surface),
    }
}

/// Notes the one handle of a request.
fn take(found: &mut Option<Found>, name: HandleName, place: FoundPlace) -> Result<(), Refusal> {
    if found.is_some() {
        return Err(Refusal::HandleRepeated);
    }
    *found = Some(Found { name, place });
    Ok(())
}

/// A text in a place where a handle is expected, and which is not exactly one.
fn expected(text: &[u8], surface: Surface) -> Result<(), Refusal> {
    match near_miss(text) {
        Some(_) if all(text, surface).count > 1 => Err(Refusal::HandleRepeated),
        Some(hint) => Err(Refusal::BadHandle { hint: hint.into() }),
        None => Ok(()),
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
    decoded_bytes(text.as_bytes())
}

/// [`decoded`] for text that need not be UTF-8.
pub(super) fn decoded_bytes(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
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
