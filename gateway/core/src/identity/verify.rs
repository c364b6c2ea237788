//! From the text of a token to a [`Caller`], or the one thing that is wrong with it.
//!
//! Only one form is read: three parts of canonical base64url, a header of `alg`, `kid` and `typ`
//! and nothing else (so that no `jwk`, `jku`, `x5u`, `x5c`, `crit` or `b64` can mean anything),
//! claims without duplicates, times as whole numbers. The signature is checked before any claim
//! is looked at. Work and memory are bounded by [`MAX_TOKEN_BYTES`].

use serde::Deserialize;
use serde_json::Value;

use super::keys::{KeySet, TrustedKey};
use super::strict::{Members, NotStrict, WrongMember, decode, read_object};
use super::{Caller, MAX_LIFETIME_SECONDS, TokenFault};
use crate::time::Timestamp;

/// The longest token that is looked at, in bytes. Ours have about 500.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

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

/// The claims by name; each name at most once.
#[derive(Deserialize)]
#[serde(transparent)]
struct Claims(Members);

impl Claims {
    fn caller(&self, key: &TrustedKey, audience: &str) -> Result<Caller, TokenFault> {
        if self.0.text("iss")? != key.issuer() || !self.is_for(audience) {
            return Err(TokenFault::Claims);
        }
        let issued_at = self.0.seconds("iat")?.ok_or(TokenFault::Claims)?;
        let expires_at = self.0.seconds("exp")?.ok_or(TokenFault::Claims)?;
        // Both are between 0 and the end of the year 9999, so the difference cannot saturate.
        match expires_at.saturating_sub(issued_at) {
            ..=0 => return Err(TokenFault::Claims),
            1..=MAX_LIFETIME_SECONDS => {}
            _ => return Err(TokenFault::Lifetime),
        }
        Ok(Caller {
            tenant: self.0.name("tenant")?,
            agent: self.0.name("sub")?,
            task: self.0.name("task")?,
            token: self.0.name("jti")?,
            issued_at: Timestamp::from_seconds(issued_at),
            expires_at: Timestamp::from_seconds(expires_at),
            certificate: self.0.confirmation()?,
        })
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
        match self.0.seconds("nbf")? {
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
}

impl From<NotStrict> for TokenFault {
    fn from(NotStrict: NotStrict) -> Self {
        Self::Malformed
    }
}

impl From<WrongMember> for TokenFault {
    fn from(WrongMember: WrongMember) -> Self {
        Self::Claims
    }
}
