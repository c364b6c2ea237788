//! Tokens of other issuers: Kubernetes service accounts and OpenID Connect providers.
//!
//! Such a token opens nothing here. It is believed only to be exchanged for a task token, and only
//! with the keys that its issuer publishes and the policy pins to algorithms. [`External::open`]
//! reads the form, so that the caller can find issuer and keys; [`External::verify`] believes.
//! Nothing a header says leads to a key but `kid`, and that only within the issuer's set: `jwk`,
//! `jku`, `x5u` and `x5c` are never looked at, and `crit` and `b64` end it.
//!
//! A token may name several audiences (Kubernetes' often do); the gateway's must be one of them.
//! Worst case: another receiver of such a token exchanges it here, until its `exp`. Tokens made
//! for the gateway alone rule that out.

mod jwks;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

use super::CertificateDigest;
use super::keys::SigningAlgorithm;
use super::strict::{Members, NotStrict, WrongMember, decode, read_object};
use crate::time::Timestamp;

pub use jwks::{InvalidJwks, Jwks, MAX_KEYS};

/// The longest foreign token that is looked at, in bytes. Kubernetes' have about 1,500; those of
/// providers that list groups are the longest.
pub const MAX_EXTERNAL_BYTES: usize = 16 * 1024;

/// What an issuer's tokens must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The exact `iss`.
    pub issuer: String,
    /// What `aud` must be or contain.
    pub audience: String,
    /// The algorithms it signs with; no other is accepted whatever its keys say.
    pub algorithms: Vec<SigningAlgorithm>,
    /// How old a token may be at most, counted from `iat`.
    pub max_age: Option<Duration>,
}

/// What is wrong with a foreign token. The client sees none of it; the record keeps the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExternalFault {
    /// Not a signed JWT of the accepted form.
    #[error("not a signed token")]
    Malformed,
    /// Its algorithm is not pinned for its issuer.
    #[error("algorithm not accepted")]
    Algorithm,
    /// Its issuer has no usable key of that id for that algorithm.
    #[error("unknown key")]
    UnknownKey,
    /// The key did not sign it.
    #[error("signature not accepted")]
    Signature,
    /// Another issuer.
    #[error("issuer not accepted")]
    Issuer,
    /// Not for this gateway.
    #[error("audience not accepted")]
    Audience,
    /// `exp` or `iat` is missing, a time is not a whole number of seconds, or `cnf` asks for a
    /// proof that is not checked here.
    #[error("claims not accepted")]
    Claims,
    /// It has ended.
    #[error("expired")]
    Expired,
    /// It is from the future.
    #[error("not yet valid")]
    NotYetValid,
    /// Older than its issuer's tokens may be.
    #[error("too old")]
    TooOld,
}

impl ExternalFault {
    /// The rule that decided, for the record.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "subject_malformed",
            Self::Algorithm => "subject_algorithm",
            Self::UnknownKey => "subject_key_unknown",
            Self::Signature => "subject_signature",
            Self::Issuer => "subject_issuer",
            Self::Audience => "subject_audience",
            Self::Claims => "subject_claims",
            Self::Expired => "subject_expired",
            Self::NotYetValid => "subject_not_yet_valid",
            Self::TooOld => "subject_too_old",
        }
    }
}

/// A foreign token that has the right form and is not believed yet.
#[derive(Debug)]
pub struct External<'t> {
    message: &'t str,
    signature: &'t str,
    algorithm: String,
    key_id: String,
    claims: Members,
}

/// Proof that an issuer has said this, for this gateway, and that it holds now.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    claims: Value,
    issued_at: Timestamp,
    expires_at: Timestamp,
    certificate: Option<CertificateDigest>,
}

impl Verified {
    /// The claims.
    #[must_use]
    pub const fn claims(&self) -> &Value {
        &self.claims
    }

    /// When the token was issued.
    #[must_use]
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// When it ends.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The client certificate it must come with, if it is bound to one.
    #[must_use]
    pub const fn certificate(&self) -> Option<CertificateDigest> {
        self.certificate
    }
}

impl<'t> External<'t> {
    /// Reads the form of a token.
    ///
    /// # Errors
    /// [`ExternalFault::Malformed`] if it is not a signed JWT that can be read in one way only.
    pub fn open(token: &'t str) -> Result<Self, ExternalFault> {
        if token.len() > MAX_EXTERNAL_BYTES {
            return Err(ExternalFault::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(ExternalFault::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(ExternalFault::Malformed)?;
        let header: Members = read_object(header)?;
        let claims: Members = read_object(claims)?;
        decode(signature)?;
        // RFC 7515 section 4.1.11: what is critical and not understood ends it. RFC 7797: `b64`
        // changes what is signed.
        if header.get("crit").is_some() || header.get("b64").is_some() {
            return Err(ExternalFault::Malformed);
        }
        if header.get("typ").is_some() {
            let typ = header.text("typ").map_err(malformed)?;
            if !is_token_type(typ) {
                return Err(ExternalFault::Malformed);
            }
        }
        Ok(Self {
            message,
            signature,
            algorithm: header.text("alg").map_err(malformed)?.to_owned(),
            key_id: header.text("kid").map_err(malformed)?.to_owned(),
            claims,
        })
    }

    /// The issuer it names, unverified: for finding the keys to verify it with.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.text("iss").ok()
    }

    /// Whether `keys` has what is needed to check its signature. Says nothing about the signature.
    #[must_use]
    pub fn has_key_in(&self, keys: &Jwks, expected: &Expected) -> bool {
        self.algorithm(expected)
            .is_ok_and(|algorithm| keys.find(&self.key_id, algorithm).is_some())
    }

    /// The algorithm it names, if that is pinned.
    ///
    /// # Errors
    /// [`ExternalFault::Algorithm`]
    pub fn algorithm(&self, expected: &Expected) -> Result<SigningAlgorithm, ExternalFault> {
        let mut pinned = expected.algorithms.iter().copied();
        pinned
            .find(|algorithm| algorithm.name() == self.algorithm)
            .ok_or(ExternalFault::Algorithm)
    }

    /// Believes the token or says why not. The signature is checked before any claim is.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(
        self,
        expected: &Expected,
        keys: &Jwks,
        clock_skew: Duration,
        now: Timestamp,
    ) -> Result<Verified, ExternalFault> {
        let algorithm = self.algorithm(expected)?;
        let key = keys
            .find(&self.key_id, algorithm)
            .ok_or(ExternalFault::UnknownKey)?;
        if !key.has_signed(algorithm, self.message.as_bytes(), self.signature) {
            return Err(ExternalFault::Signature);
        }
        if self.issuer() != Some(expected.issuer.as_str()) {
            return Err(ExternalFault::Issuer);
        }
        if !self.is_for(&expected.audience) {
            return Err(ExternalFault::Audience);
        }
        let (issued_at, expires_at) = self.times(expected, clock_skew, now)?;
        let certificate = self.claims.confirmation()?;
        Ok(Verified {
            certificate,
            claims: self.claims.into_value(),
            issued_at,
            expires_at,
        })
    }

    /// RFC 7519 section 4.1.3: one text, or a list of which we must be a part.
    fn is_for(&self, audience: &str) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(only)) => only == audience,
            Some(Value::Array(list)) => {
                list.iter().all(Value::is_string) && list.iter().any(|one| one == audience)
            }
            _ => false,
        }
    }

    /// `iat` and `exp`, both required. `iat` and `nbf` may lie in the future by the clock skew;
    /// `exp` is taken without any leeway, as it is for task tokens.
    fn times(
        &self,
        expected: &Expected,
        clock_skew: Duration,
        now: Timestamp,
    ) -> Result<(Timestamp, Timestamp), ExternalFault> {
        let at = |name| {
            let seconds = self.claims.seconds(name)?;
            Ok::<_, WrongMember>(seconds.map(Timestamp::from_seconds))
        };
        let issued_at = at("iat")?.ok_or(ExternalFault::Claims)?;
        let expires_at = at("exp")?.ok_or(ExternalFault::Claims)?;
        let latest_start = now.plus(clock_skew);
        if expires_at <= issued_at {
            return Err(ExternalFault::Claims);
        }
        if issued_at > latest_start || at("nbf")?.is_some_and(|start| start > latest_start) {
            return Err(ExternalFault::NotYetValid);
        }
        if now >= expires_at {
            return Err(ExternalFault::Expired);
        }
        match expected.max_age {
            Some(most) if now.since(issued_at) > most => Err(ExternalFault::TooOld),
            _ => Ok((issued_at, expires_at)),
        }
    }
}

/// RFC 7519 section 5.1 and RFC 9068 section 2.1; Kubernetes' tokens have none. Other types
/// (logout tokens, security events, DPoP proofs) are signed by the same issuers for other ends.
fn is_token_type(typ: &str) -> bool {
    ["JWT", "at+jwt", "application/at+jwt"]
        .iter()
        .any(|known| typ.eq_ignore_ascii_case(known))
}

const fn malformed(WrongMember: WrongMember) -> ExternalFault {
    ExternalFault::Malformed
}

impl From<NotStrict> for ExternalFault {
    fn from(NotStrict: NotStrict) -> Self {
        Self::Malformed
    }
}

impl From<WrongMember> for ExternalFault {
    fn from(WrongMember: WrongMember) -> Self {
        Self::Claims
    }
}
