//! The gateway's own issuer of task tokens.
//!
//! It signs what it is told; who may ask for which tenant is decided by the admin API, and a
//! token is worth nothing before the registry knows it. Randomness and time are arguments.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use zeroize::Zeroizing;

use super::keys::{InvalidKey, KeySet, TrustedKey};
use super::{Caller, CertificateDigest, MAX_LIFETIME_SECONDS};
use crate::ids::{AgentId, TaskId, TenantId, TokenId};
use crate::time::Timestamp;

/// RFC 8410 section 7: a PKCS#8 version 1 Ed25519 private key is these bytes and then the seed.
const PKCS8_ED25519_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why no token was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// Not between 1 and [`MAX_LIFETIME_SECONDS`] whole seconds.
    #[error("a task token lives 1 to {MAX_LIFETIME_SECONDS} seconds")]
    Lifetime,
    /// The key would not sign.
    #[error("the issuer key cannot sign")]
    Signing,
}

/// Makes an Ed25519 private key, as PKCS#8 PEM, out of 32 random bytes.
#[must_use]
pub fn new_private_key(seed: &[u8; 32]) -> Zeroizing<String> {
    let mut der = Zeroizing::new(PKCS8_ED25519_PREFIX.to_vec());
    der.extend_from_slice(seed);
    let body = Zeroizing::new(STANDARD.encode(&*der));
    Zeroizing::new(format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        *body
    ))
}

/// The key, issuer and audience that task tokens are made with.
pub struct Mint {
    issuer: String,
    audience: String,
    key_id: String,
    private: EncodingKey,
    public: TrustedKey,
}

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Whose.
    pub tenant: TenantId,
    /// Who will use it.
    pub agent: AgentId,
    /// What for.
    pub task: TaskId,
    /// How long it lives, in whole seconds.
    pub lifetime: Duration,
    /// The client certificate it must come with, if it is to be bound to one.
    pub certificate: Option<CertificateDigest>,
}

#[derive(Serialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

/// Claims in the order in which they are written.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a AgentId,
    tenant: &'a TenantId,
    task: &'a TaskId,
    jti: &'a TokenId,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
}

impl Mint {
    /// Takes over an Ed25519 private key in PKCS#8 PEM.
    ///
    /// # Errors
    /// If it is not one.
    pub fn from_pem(pem: &str, issuer: &str, audience: &str) -> Result<Self, InvalidKey> {
        let private = EncodingKey::from_ed_pem(pem.as_bytes())
            .map_err(|_unreadable| InvalidKey("Ed25519"))?;
        let (key_id, public) = TrustedKey::of_private(issuer, &private)?;
        Ok(Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            key_id,
            private,
            public,
        })
    }

    /// The key set that believes this mint and nobody else.
    #[must_use]
    pub fn keys(&self) -> KeySet {
        KeySet::new(&self.audience).with_key(&self.key_id, self.public.clone())
    }

    /// The `kid` of its tokens.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs a token. `now` is rounded down to the second, `lifetime` likewise.
    ///
    /// # Errors
    /// If it would live too long or not at all.
    pub fn issue(
        &self,
        wanted: TokenRequest,
        now: Timestamp,
        token: TokenId,
    ) -> Result<(String, Caller), MintError> {
        let TokenRequest {
            tenant,
            agent,
            task,
            lifetime,
            certificate,
        } = wanted;
        let lifetime = i64::try_from(lifetime.as_secs())
            .ok()
            .filter(|seconds| (1..=MAX_LIFETIME_SECONDS).contains(seconds))
            .ok_or(MintError::Lifetime)?;
        let iat = now.as_seconds();
        let exp = iat.checked_add(lifetime).ok_or(MintError::Lifetime)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.key_id.clone());
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &agent,
            tenant: &tenant,
            task: &task,
            jti: &token,
            iat,
            exp,
            cnf: certificate.map(|digest| Confirmation {
                certificate: digest.to_string(),
            }),
        };
        let jwt = jsonwebtoken::encode(&header, &claims, &self.private)
            .map_err(|_key_was_read_before| MintError::Signing)?;
        let caller = Caller {
            tenant,
            agent,
            task,
            token,
            issued_at: Timestamp::from_seconds(iat),
            expires_at: Timestamp::from_seconds(exp),
            certificate,
        };
        Ok((jwt, caller))
    }
}
