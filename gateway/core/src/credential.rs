//! Credentials that are not sent as they are stored: what their values must hold, what is asked
//! of a token endpoint, and what its answer says.
//!
//! Stored values are JSON objects; [`prepare_value`] refuses, naming the member, what could never
//! work. This module does not know how requests travel, what is kept, or for how long. Nothing of
//! a value or an answer is in any error here. Worst case: the parser of a private key keeps a
//! copy that it does not wipe.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::time::Duration;
use zeroize::Zeroizing;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::handle::{check_sendable, percent_encoded};
use crate::json::Fields;
use crate::policy::{ClientAuth, CredentialKind, TokenEndpoint};
use crate::secret::Secret;
use crate::sigv4::AccessKey;
use crate::time::Timestamp;

/// How long an access token is used whose endpoint does not say how long it lives.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(300);
/// The longest that an access token is used, whatever its endpoint says.
pub const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long a signed request for a token is good; Google takes no more.
const ASSERTION_LIFE: Duration = Duration::from_secs(3600);

/// Errors of RFC 6749 section 5.2: the only words of a token endpoint's that are ever repeated.
const KNOWN_ERRORS: [&str; 7] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "access_denied",
];

/// Why a stored value can never do what its kind is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// It is not one JSON object with each member once.
    #[error("the value must be one JSON object")]
    NotAnObject,
    /// A member is not there, or is no text, or an empty one.
    #[error("the value's JSON must have `{0}`, a text")]
    Missing(&'static str),
    /// A member cannot be sent where it belongs.
    #[error("`{0}` in the value's JSON holds bytes that cannot be sent")]
    Unsendable(&'static str),
    /// The key does not sign.
    #[error("`private_key` in the value's JSON is no RSA key in PEM")]
    NoKey,
    /// The value names another token endpoint than the policy does.
    #[error("`token_uri` in the value's JSON is not the credential's `token_url`")]
    OtherEndpoint,
    /// Values of this kind obtain no tokens.
    #[error("the credential's kind obtains no access tokens")]
    ObtainsNothing,
}

/// A value of one kind as it is to be stored: checked, and on one line if it is JSON.
///
/// # Errors
/// [`InvalidValue`] says what is missing, never what is there.
pub fn prepare_value(kind: &CredentialKind, value: &Secret) -> Result<Secret, InvalidValue> {
    if matches!(kind, CredentialKind::Static | CredentialKind::Sealed) {
        return Ok(value.clone());
    }
    // Line breaks cannot stand inside a JSON text's strings, so all there are separate tokens.
    let mut line = value.expose().to_vec();
    for byte in &mut line {
        if matches!(byte, b'\r' | b'\n' | b'\t') {
            *byte = b' ';
        }
    }
    let line = Secret::new(line);
    check_value(kind, &line)?;
    Ok(line)
}

/// Whether a stored value can do what its kind is for.
///
/// # Errors
/// [`InvalidValue`] says what is missing, never what is there.
pub fn check_value(kind: &CredentialKind, value: &Secret) -> Result<(), InvalidValue> {
    match kind {
        CredentialKind::Static | CredentialKind::Sealed => Ok(()),
        CredentialKind::AwsSigv4 => access_key(value).map(drop),
        _ => token_request(kind, value, Timestamp::from_seconds(0)).map(drop),
    }
}

/// The access key that a stored value is.
///
/// # Errors
/// [`InvalidValue`]
pub fn access_key(value: &Secret) -> Result<AccessKey, InvalidValue> {
    let members = Members::of(value)?;
    let id = members.sendable("access_key_id")?;
    let session_token = members.optional("session_token")?;
    let secret = members.sendable("secret_access_key")?;
    Ok(AccessKey {
        id: String::from_utf8_lossy(id.expose()).into_owned(),
        secret,
        session_token,
    })
}

/// What is sent to a token endpoint. The body is a form.
#[derive(Debug)]
pub struct TokenRequest {
    /// The value of `authorization`, where the client says who it is there.
    pub authorization: Option<Secret>,
    /// The form.
    pub body: Secret,
}

/// The request that turns a stored value into an access token.
///
/// # Errors
/// [`InvalidValue`]
pub fn token_request(
    kind: &CredentialKind,
    value: &Secret,
    now: Timestamp,
) -> Result<TokenRequest, InvalidValue> {
    let members = Members::of(value)?;
    match kind {
        CredentialKind::GoogleServiceAccount(endpoint) => {
            let assertion = assertion(&members, endpoint, now)?;
            let mut form = Form::grant("urn:ietf:params:oauth:grant-type:jwt-bearer");
            form.field("assertion", assertion.as_bytes());
            Ok(form.request(None))
        }
        CredentialKind::OAuth2ClientCredentials(endpoint) => {
            let id = members.sendable("client_id")?;
            let secret = members.sendable("client_secret")?;
            let mut form = Form::grant("client_credentials");
            form.scope(endpoint);
            Ok(form.of_client(endpoint.client_auth, &id, Some(&secret)))
        }
        CredentialKind::OAuth2RefreshToken(endpoint) => {
            let id = members.sendable("client_id")?;
            let secret = members.optional("client_secret")?;
            let refresh_token = members.sendable("refresh_token")?;
            let mut form = Form::grant("refresh_token");
            form.field("refresh_token", refresh_token.expose());
            form.scope(endpoint);
            Ok(form.of_client(endpoint.client_auth, &id, secret.as_ref()))
        }
        _ => Err(InvalidValue::ObtainsNothing),
    }
}

impl TokenEndpoint {
    /// Its address as it is written.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.upstream.tls { "https" } else { "http" };
        let (authority, path) = (self.upstream.authority(), &self.upstream.base_path);
        format!("{scheme}://{authority}{path}")
    }
}

impl CredentialKind {
    /// Where access tokens are obtained, for the kinds that do.
    #[must_use]
    pub const fn token_endpoint(&self) -> Option<&TokenEndpoint> {
        match self {
            Self::GoogleServiceAccount(endpoint)
            | Self::OAuth2ClientCredentials(endpoint)
            | Self::OAuth2RefreshToken(endpoint) => Some(endpoint),
            Self::Static | Self::AwsSigv4 | Self::Sealed => None,
        }
    }
}

/// A service account's signed request for a token (RFC 7523 section 3).
fn assertion(
    members: &Members<'_>,
    endpoint: &TokenEndpoint,
    now: Timestamp,
) -> Result<Zeroizing<String>, InvalidValue> {
    #[derive(Serialize)]
    struct Claims<'a> {
        iss: &'a str,
        scope: &'a str,
        aud: &'a str,
        iat: i64,
        exp: i64,
    }
    let account = members.sendable("client_email")?;
    let account = String::from_utf8_lossy(account.expose()).into_owned();
    let key = members.text("private_key")?;
    let key = key.ok_or(InvalidValue::Missing("private_key"))?;
    let url = endpoint.url();
    if let Some(named) = members.text("token_uri")?
        && *named != url
    {
        return Err(InvalidValue::OtherEndpoint);
    }
    let mut header = Header::new(Algorithm::RS256);
    header.kid = members
        .optional("private_key_id")?
        .map(|id| String::from_utf8_lossy(id.expose()).into_owned());
    let claims = Claims {
        iss: &account,
        scope: &endpoint.scope,
        aud: &url,
        iat: now.as_seconds(),
        exp: now.plus(ASSERTION_LIFE).as_seconds(),
    };
    let key = EncodingKey::from_rsa_pem(key.as_bytes()).map_err(|_no_key| InvalidValue::NoKey)?;
    jsonwebtoken::encode(&header, &claims, &key)
        .map(Zeroizing::new)
        .map_err(|_no_key| InvalidValue::NoKey)
}

/// The stored value with another refresh token in it.
///
/// # Errors
/// [`InvalidValue`]
pub fn with_refresh_token(value: &Secret, token: &Secret) -> Result<Secret, InvalidValue> {
    let fields = Fields::scan(value.expose()).map_err(|_fault| InvalidValue::NotAnObject)?;
    let text = std::str::from_utf8(token.expose())
        .map_err(|_no_text| InvalidValue::Unsendable("refresh_token"))?;
    let quoted = Zeroizing::new(serde_json::Value::from(text).to_string());
    Ok(Secret::new(fields.splice("refresh_token", &quoted)))
}

/// The members of a stored value.
struct Members<'a>(Fields<'a>);

impl<'a> Members<'a> {
    fn of(value: &'a Secret) -> Result<Self, InvalidValue> {
        let fields = Fields::scan(value.expose()).map_err(|_fault| InvalidValue::NotAnObject)?;
        Ok(Self(fields))
    }

    /// A member's text, if it is there.
    fn text(&self, name: &'static str) -> Result<Option<Zeroizing<String>>, InvalidValue> {
        let Some(raw) = self.0.given(name) else {
            return Ok(None);
        };
        let text = serde_json::from_str::<String>(raw)
            .map(Zeroizing::new)
            .map_err(|_no_text| InvalidValue::Missing(name))?;
        Ok((!text.is_empty()).then_some(text))
    }

    /// A member that can stand in a header or a form.
    fn optional(&self, name: &'static str) -> Result<Option<Secret>, InvalidValue> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let secret = Secret::new(text.as_bytes().to_vec());
        check_sendable(&secret).map_err(|_unsendable| InvalidValue::Unsendable(name))?;
        Ok(Some(secret))
    }

    fn sendable(&self, name: &'static str) -> Result<Secret, InvalidValue> {
        self.optional(name)?.ok_or(InvalidValue::Missing(name))
    }
}

/// A form under construction.
struct Form(Zeroizing<String>);

impl Form {
    fn grant(kind: &str) -> Self {
        let kind = percent_encoded(kind.as_bytes());
        Self(Zeroizing::new(format!("grant_type={kind}")))
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        let value = Zeroizing::new(percent_encoded(value));
        // Grown by hand, so that no outgrown buffer keeps what was in it.
        let mut grown = Zeroizing::new(String::with_capacity(
            [self.0.len(), name.len(), value.len(), 2]
                .into_iter()
                .fold(0, usize::saturating_add),
        ));
        for part in [&*self.0, "&", name, "=", &value] {
            grown.push_str(part);
        }
        self.0 = grown;
    }

    fn scope(&mut self, endpoint: &TokenEndpoint) {
        if !endpoint.scope.is_empty() {
            self.field("scope", endpoint.scope.as_bytes());
        }
    }

    /// The request of a client that says who it is. One without a secret only names itself.
    fn of_client(
        mut self,
        client_auth: ClientAuth,
        id: &Secret,
        secret: Option<&Secret>,
    ) -> TokenRequest {
        match (client_auth, secret) {
            (ClientAuth::Basic, Some(secret)) => {
                // RFC 6749 section 2.3.1: both are encoded as in a form first.
                let id = percent_encoded(id.expose());
                let secret = Zeroizing::new(percent_encoded(secret.expose()));
                let pair = Zeroizing::new(format!("{id}:{}", *secret));
                let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
                let value = [b"Basic ", encoded.as_bytes()].concat();
                self.request(Some(Secret::new(value)))
            }
            (_, secret) => {
                self.field("client_id", id.expose());
                if let Some(secret) = secret {
                    self.field("client_secret", secret.expose());
                }
                self.request(None)
            }
        }
    }

    fn request(self, authorization: Option<Secret>) -> TokenRequest {
        TokenRequest {
            authorization,
            body: Secret::new(self.0.as_bytes().to_vec()),
        }
    }
}

/// What a token endpoint gives out.
#[derive(Debug)]
pub struct Obtained {
    /// The token.
    pub access_token: Secret,
    /// How long it is to be used.
    pub life: Duration,
    /// Takes the place of the refresh token that was sent.
    pub refresh_token: Option<Secret>,
}

/// Why an answer gives no token. Nothing of the answer is in it but its status and known words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// The endpoint says no.
    #[error("the token endpoint answered {status} ({error})")]
    Refused {
        /// Its status.
        status: u16,
        /// Which error of RFC 6749 it names; `unknown` for any other.
        error: &'static str,
    },
    /// It is no JSON object, or one without a token that can be sent.
    #[error("the token endpoint's answer holds no usable access token")]
    NoToken,
    /// The token is not one that whoever holds it may use.
    #[error("the token endpoint gave out a token that is no bearer token")]
    NotBearer,
}

/// Reads a token endpoint's whole answer (RFC 6749 section 5).
///
/// # Errors
/// [`TokenFault`]
pub fn token_reply(status: u16, body: &[u8]) -> Result<Obtained, TokenFault> {
    let fields = Fields::scan(body);
    if status != 200 && status != 201 {
        let said = fields.ok().and_then(|fields| text(&fields, "error"));
        let known = said.and_then(|said| KNOWN_ERRORS.iter().find(|known| **known == *said));
        let error = known.copied().unwrap_or("unknown");
        return Err(TokenFault::Refused { status, error });
    }
    let fields = fields.map_err(|_fault| TokenFault::NoToken)?;
    let token = |name| {
        let secret = Secret::new(text(&fields, name)?.as_bytes().to_vec());
        check_sendable(&secret).is_ok().then_some(secret)
    };
    if text(&fields, "token_type").is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(TokenFault::NotBearer);
    }
    let access_token = token("access_token").ok_or(TokenFault::NoToken)?;
    let life = fields.given("expires_in").map_or(DEFAULT_LIFE, life);
    Ok(Obtained {
        access_token,
        life,
        refresh_token: token("refresh_token"),
    })
}

fn text(fields: &Fields<'_>, name: &str) -> Option<Zeroizing<String>> {
    let text = serde_json::from_str::<String>(fields.given(name)?).ok()?;
    Some(Zeroizing::new(text))
}

/// Seconds, as a number or as a text that is one; nothing at all if it is neither.
pub(crate) fn life(raw: &str) -> Duration {
    let digits = raw.trim_matches('"');
    let whole = digits.split('.').next().unwrap_or_default();
    let seconds = whole.parse::<u64>().unwrap_or_default();
    Duration::from_secs(seconds).min(MAX_LIFE)
}

#[cfg(test)]
mod tests;
