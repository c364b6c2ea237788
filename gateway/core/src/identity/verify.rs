//! From the text of a token to a [`Caller`], or the one thing that is wrong with it.
//!
//! Only one form is read: three parts of canonical base64url, a header of `alg`, `kid` and `typ`
//! and nothing else (so that no `jwk`, `jku`, `x5u`, `x5c`, `crit` or `b64` can mean anything),
//! claims without duplicates, times as whole numbers. The signature is checked before any claim
//! is looked at. Work and memory are bounded by [`MAX_TOKEN_BYTES`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::keys::{KeySet, TrustedKey};
use super::{Caller, CertificateDigest, MAX_LIFETIME_SECONDS, TokenFault};
use crate::time::Timestamp;

/// The longest token that is looked at, in bytes. Ours have about 500.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The latest time that is believed: the end of the year 9999, in seconds since the epoch.
const LAST_SECOND: i64 = 253_402_300_799;

/// Believes a token or says why not.
///
/// # Errors
/// The first thing that is wrong with it, in the order form, key, signature, claims, times.
pub fn verify(token: &str, keys: &KeySet, now: Timestamp) -> Result<Caller, TokenFault> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenFault::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(TokenFault::Malformed)?;
    // A further dot would be in `claims`, and the alphabet has none.
    let header: Header = read_object(header)?;
    decode(signature)?;
    if !header.typ.as_deref().is_none_or(is_task_token_type) {
        return Err(TokenFault::Malformed);
    }
    let key = keys
        .find(&header.kid)
        .filter(|key| {
            key.is_used_with(&header.alg) && key.has_signed(message.as_bytes(), signature)
        })
        .ok_or(TokenFault::Signature)?;
    let claims: Claims = read_object(claims)?;
    let caller = claims.caller(key, &keys.audience)?;
    claims.check_times(&caller, keys, now)?;
    Ok(caller)
}

/// RFC 7519 section 5.1 and RFC 9068 section 2.1; other types (ID tokens, logout tokens,
/// DPoP proofs) are signed by the same issuers for other ends.
fn is_task_token_type(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
}

fn decode(part: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_not_canonical| TokenFault::Malformed)
}

/// Reads a part that must be a JSON object: serde would take an array for a struct, too.
fn read_object<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenFault> {
    let bytes = decode(part)?;
    if bytes.first() != Some(&b'{') {
        return Err(TokenFault::Malformed);
    }
    serde_json::from_slice(&bytes).map_err(|_not_this_form| TokenFault::Malformed)
}

/// The claims by name; each name at most once.
struct Claims(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Unique;
        impl<'de> Visitor<'de> for Unique {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object without duplicate names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Claims, A::Error> {
                let mut claims = BTreeMap::new();
                while let Some((name, value)) = input.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("duplicate claim"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        input.deserialize_map(Unique)
    }
}

impl Claims {
    fn caller(&self, key: &TrustedKey, audience: &str) -> Result<Caller, TokenFault> {
        if self.text("iss")? != key.issuer() || !self.is_for(audience) {
            return Err(TokenFault::Claims);
        }
        let issued_at = self.seconds("iat")?.ok_or(TokenFault::Claims)?;
        let expires_at = self.seconds("exp")?.ok_or(TokenFault::Claims)?;
        // Both are between 0 and `LAST_SECOND`, so the difference cannot saturate.
        match expires_at.saturating_sub(issued_at) {
            ..=0 => return Err(TokenFault::Claims),
            1..=MAX_LIFETIME_SECONDS => {}
            _ => return Err(TokenFault::Lifetime),
        }
        Ok(Caller {
            tenant: self.name("tenant")?,
            agent: self.name("sub")?,
            task: self.name("task")?,
            token: self.name("jti")?,
            issued_at: Timestamp::from_seconds(issued_at),
            expires_at: Timestamp::from_seconds(expires_at),
            certificate: self.certificate()?,
        })
    }

    /// The certificate in `cnf`. Any other confirmation (a key, a proof of possession) asks for
    /// something that is not checked here, so a token that has one is refused.
    fn certificate(&self) -> Result<Option<CertificateDigest>, TokenFault> {
        let Some(confirmation) = self.0.get("cnf") else {
            return Ok(None);
        };
        let members = confirmation.as_object().ok_or(TokenFault::Claims)?;
        let digest = members.get("x5t#S256").and_then(Value::as_str);
        match (digest, members.len()) {
            (Some(digest), 1) => digest
                .parse()
                .map(Some)
                .map_err(|_invalid| TokenFault::Claims),
            _ => Err(TokenFault::Claims),
        }
    }

    fn check_times(
        &self,
        caller: &Caller,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<(), TokenFault> {
        let latest_start = now.plus(keys.clock_skew);
        if caller.issued_at > latest_start {
            return Err(TokenFault::NotYetValid);
        }
        match self.seconds("nbf")? {
            Some(start) if Timestamp::from_seconds(start) > latest_start => {
                Err(TokenFault::NotYetValid)
            }
            _ => caller.check_expiry(now),
        }
    }

    /// RFC 7519 section 4.1.3 allows a list. More than one audience is refused: such a token is
    /// good elsewhere too, and whoever receives it there could replay it here.
    fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(only)) => only == audience,
            Some(Value::Array(list)) => {
                matches!(list.as_slice(), [Value::String(only)] if only == audience)
            }
            _ => false,
        }
    }

    fn text(&self, name: &str) -> Result<&str, TokenFault> {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .ok_or(TokenFault::Claims)
    }

    fn name<T: FromStr>(&self, name: &str) -> Result<T, TokenFault> {
        self.text(name)?
            .parse()
            .map_err(|_not_a_name| TokenFault::Claims)
    }

    /// A time in whole seconds. Fractions, exponents, texts and `null` are refused even where
    /// the claim is optional.
    fn seconds(&self, name: &str) -> Result<Option<i64>, TokenFault> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        value
            .as_i64()
            .filter(|seconds| (0..=LAST_SECOND).contains(seconds))
            .map(Some)
            .ok_or(TokenFault::Claims)
    }
}
