//! Which keys may sign task tokens, each pinned to one algorithm and one issuer.
//!
//! A key is found by the token's `kid` in a table and nowhere else: no file is read and nothing
//! is fetched because of what a token says. There is no symmetric algorithm to confuse a public
//! key with. Worst case of a leaked signing key: its issuer's tokens, until it leaves the table.

use std::collections::HashMap;
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

/// How far `iat` and `nbf` may lie in the future, unless configured otherwise: clocks kept by
/// NTP differ by far less.
pub const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(5);

/// A key that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable {0} key")]
pub struct InvalidKey(pub(super) &'static str);

/// How a key signs. Symmetric algorithms have no name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA-PSS with SHA-256.
    Ps256,
}

impl SigningAlgorithm {
    /// The `alg` of a token header (RFC 7518 section 3.1, RFC 8037 section 3.1).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
        }
    }

    pub(super) const fn jws(self) -> Algorithm {
        match self {
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::Rs256 => Algorithm::RS256,
            Self::Rs512 => Algorithm::RS512,
            Self::Ps256 => Algorithm::PS256,
        }
    }
}

/// A public key, the one algorithm it is used with and the one issuer it speaks for.
#[derive(Clone)]
pub struct TrustedKey {
    issuer: String,
    algorithm: SigningAlgorithm,
    key: DecodingKey,
}

impl TrustedKey {
    /// Reads a public key in PEM.
    ///
    /// # Errors
    /// If it is not a public key for that algorithm.
    pub fn from_public_pem(
        issuer: &str,
        algorithm: SigningAlgorithm,
        pem: &[u8],
    ) -> Result<Self, InvalidKey> {
        let key = match algorithm {
            SigningAlgorithm::EdDsa => DecodingKey::from_ed_pem(pem),
            SigningAlgorithm::Es256 | SigningAlgorithm::Es384 => DecodingKey::from_ec_pem(pem),
            SigningAlgorithm::Rs256 | SigningAlgorithm::Rs512 | SigningAlgorithm::Ps256 => {
                DecodingKey::from_rsa_pem(pem)
            }
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            algorithm,
            key: key.map_err(|_unreadable| InvalidKey(algorithm.name()))?,
        })
    }

    /// The public half of the gateway's own Ed25519 private key, and its key id: the RFC 7638
    /// thumbprint, so that the same key has the same id on every replica.
    pub(super) fn of_private(
        issuer: &str,
        key: &EncodingKey,
    ) -> Result<(String, Self), InvalidKey> {
        let jwk = Jwk::from_encoding_key(key, Algorithm::EdDSA)
            .map_err(|_other_curve| InvalidKey("Ed25519"))?;
        let id = jwk
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|_other_curve| InvalidKey("Ed25519"))?;
        let public = DecodingKey::from_jwk(&jwk).map_err(|_other_curve| InvalidKey("Ed25519"))?;
        let trusted = Self {
            issuer: issuer.to_owned(),
            algorithm: SigningAlgorithm::EdDsa,
            key: public,
        };
        Ok((id, trusted))
    }

    /// The issuer it speaks for.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether a token header's `alg` is the one this key is used with.
    pub(super) fn is_used_with(&self, algorithm: &str) -> bool {
        self.algorithm.name() == algorithm
    }

    /// Whether `signature` (base64url) is this key's over `message`.
    pub(super) fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.key, self.algorithm.jws())
            .unwrap_or(false)
    }
}

/// The keys task tokens are believed from, by key id.
///
/// A key in here can name any tenant. Issuers that may speak for some tenants only do not belong
/// here: their tokens are exchanged for task tokens first.
#[derive(Clone)]
pub struct KeySet {
    pub(super) audience: String,
    pub(super) clock_skew: Duration,
    keys: HashMap<String, TrustedKey>,
}

impl KeySet {
    /// A set without keys: it believes nobody.
    #[must_use]
    pub fn new(audience: &str) -> Self {
        Self {
            audience: audience.to_owned(),
            clock_skew: DEFAULT_CLOCK_SKEW,
            keys: HashMap::new(),
        }
    }

    /// The same set with another allowance for `iat` and `nbf` in the future.
    #[must_use]
    pub fn with_clock_skew(mut self, clock_skew: Duration) -> Self {
        self.clock_skew = clock_skew;
        self
    }

    /// The same set with one more key, or with another key under the same id.
    #[must_use]
    pub fn with_key(mut self, id: &str, key: TrustedKey) -> Self {
        self.keys.insert(id.to_owned(), key);
        self
    }

    /// What tokens must be for.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// How far `iat` and `nbf` may lie in the future.
    #[must_use]
    pub const fn clock_skew(&self) -> Duration {
        self.clock_skew
    }

    /// Whether there is any key at all; a gateway without one is not ready.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn find(&self, id: &str) -> Option<&TrustedKey> {
        self.keys.get(id)
    }
}
