//! Whose key goes where: from a request and a policy to one credential and one place.
//!
//! The head is judged first, so that what it alone forbids is refused before a body is read. The
//! body is looked at only where policy declares a field of it as a place, and only in that field.
//! The secret is not known here and not needed. Every denial is [`Refusal::CredentialDenied`]
//! with nothing to tell one from another but the reason kept for the record.

use std::sync::Arc;

use http::Method;
use http::header::{AUTHORIZATION, HeaderMap};

use super::search::{Found, FoundPlace, Search, take_from_field};
use super::{field, mentions_handle};
use crate::ids::AgentId;
use crate::policy::{Credential, CredentialKind, Dialect, Place, Provider, Tenant, covers};
use crate::refusal::Refusal;

/// The head of a request, in which a handle is looked for.
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

/// What the head of a request says about its credential. Only [`bind`] makes one.
#[derive(Debug)]
#[must_use]
pub struct HeadBound {
    found: Option<Found>,
    /// Fields of the body in which a handle may stand as well.
    fields: Vec<Place>,
    user: Vec<u8>,
    /// Whether the body may have to be signed.
    signs: bool,
}

/// Proof that one credential, or deliberately none, belongs to a call. Only
/// [`HeadBound::with_body`] makes one.
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

    /// Whether the body of the call quotes a handle anywhere but in the field that the credential
    /// goes into.
    #[must_use]
    pub fn quotes_handle(&self, body: &[u8]) -> bool {
        let place = self.credential.iter().map(|it| &it.binding.place);
        let field = place.filter_map(|place| field::find(body, place).ok().flatten());
        match field.map(|value| value.span).next() {
            None => mentions_handle(body),
            Some(span) => [body.get(..span.start), body.get(span.end..)]
                .into_iter()
                .flatten()
                .any(mentions_handle),
        }
    }
}

/// Judges the head of a request: which credential of `tenant` it names, if it names one.
///
/// A handle anywhere in headers, query or path names it, and must stand exactly where its
/// binding puts the secret; without a handle it is the tenant's default for the provider. A key
/// or token in the slot of a client's own choosing does not matter: it is stripped.
///
/// # Errors
/// [`Refusal::BadHandle`] for what merely resembles a handle where one is expected,
/// [`Refusal::HandleRepeated`] for more than one, [`Refusal::CredentialDenied`] for all else; and
/// [`Refusal::Malformed`] where a field of the body is a place, and the head says that the body
/// cannot be read.
pub fn bind(
    asked: &Asked<'_>,
    tenant: &Tenant,
    agent: &AgentId,
    provider: &Provider,
) -> Result<HeadBound, Refusal> {
    let mut search = Search::new(tenant, provider);
    search.head(asked)?;
    let head = HeadBound {
        fields: search.fields(asked)?,
        signs: search.signs(),
        found: search.found,
        user: search.user,
    };
    if head.found.is_some() || head.fields.is_empty() {
        head.credential(asked, tenant, agent, provider)?;
    }
    Ok(head)
}

impl HeadBound {
    /// Whether the call cannot be bound without its whole body.
    #[must_use]
    pub const fn needs_body(&self) -> bool {
        self.signs || !self.fields.is_empty()
    }

    /// Decides which credential of `tenant` this call bears. The other arguments are those that
    /// [`bind`] was given; `body` is the whole body if it [is needed](Self::needs_body).
    ///
    /// # Errors
    /// As [`bind`], and [`Refusal::Malformed`] for a body that cannot be read, or in two ways.
    pub fn with_body(
        mut self,
        asked: &Asked<'_>,
        tenant: &Tenant,
        agent: &AgentId,
        provider: &Provider,
        body: &[u8],
    ) -> Result<Bound, Refusal> {
        let mut texts = Vec::new();
        for place in &self.fields {
            if let Some(text) = field::find(body, place)?.and_then(|value| value.text) {
                take_from_field(&mut self.found, place, &text)?;
                texts.push(place);
            }
        }
        let credential = self.credential(asked, tenant, agent, provider)?;
        if let Some(place) = credential.map(|it| &it.binding.place)
            && place.is_in_body()
            && !texts.contains(&place)
        {
            let hint = field::form(place).into();
            return Err(Refusal::BadHandle { hint });
        }
        Ok(Bound {
            credential: credential.cloned(),
            user: self.user,
            key_is_credential: provider.dialect != Dialect::Http,
        })
    }

    /// The credential that is named, or the default; it may be used for this call.
    fn credential<'a>(
        &self,
        asked: &Asked<'_>,
        tenant: &'a Tenant,
        agent: &AgentId,
        provider: &Provider,
    ) -> Result<Option<&'a Arc<Credential>>, Refusal> {
        let credential = match (&self.found, &provider.place) {
            (None, None) => return Ok(None),
            (Some(found), None) if !is_own(found, tenant, provider) => {
                return Err(denied("credential_place"));
            }
            (Some(found), _) => named(found, tenant)?,
            (None, Some(_)) => default(tenant, provider)?,
        };
        permits(credential, asked, agent, provider)?;
        let place = &credential.binding.place;
        if place.is_in_body() && !self.fields.contains(place) {
            return Err(field::WRONG_TYPE);
        }
        Ok(Some(credential))
    }
}

/// Whether a handle names a token that this provider gave out itself, although it takes no key.
fn is_own(found: &Found, tenant: &Tenant, provider: &Provider) -> bool {
    let named = tenant.credentials.get(&found.name);
    named.is_some_and(|it| it.kind == CredentialKind::Sealed && it.provider == provider.name)
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
        (FoundPlace::Field(at), declared) => at == declared,
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
        .of(&provider.name)
        .iter()
        .find(|credential| credential.is_default)
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
    if !binding.covers_method(asked.method) {
        return Err(denied("credential_method"));
    }
    if !binding.covers_path(asked.path) {
        return Err(denied("credential_path"));
    }
    if !upstream.tls && !upstream.insecure_plain_http {
        return Err(denied("credential_plain_http"));
    }
    Ok(())
}
