//! Tokens that the gateway would never issue.
//!
//! Signs any header and any claims, byte for byte, with the key it is given: that is what tells a
//! refused claim from a refused signature. Knows nothing of what is acceptable.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::Value;

/// A signing key.
pub struct Forge {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl Forge {
    /// Signs with an Ed25519 key in PKCS#8 PEM.
    #[must_use]
    pub fn ed25519(pem: &str) -> Self {
        let key = EncodingKey::from_ed_pem(pem.as_bytes()).unwrap();
        Self {
            key,
            algorithm: Algorithm::EdDSA,
        }
    }

    /// Signs with a fresh Ed25519 key that nobody knows.
    #[must_use]
    pub fn stranger() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Self::ed25519(&pair.serialize_pem())
    }

    /// Authenticates with HMAC-SHA-256 under `secret`.
    #[must_use]
    pub fn hmac(secret: &[u8]) -> Self {
        Self {
            key: EncodingKey::from_secret(secret),
            algorithm: Algorithm::HS256,
        }
    }

    /// `header.claims.signature` over exactly these texts.
    #[must_use]
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let message = unsigned(header, claims);
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// `header.claims` over exactly these texts, without a signature.
#[must_use]
pub fn unsigned(header: &str, claims: &str) -> String {
    format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    )
}

/// The header and the claims of a token, unverified.
#[must_use]
pub fn open(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
    });
    let header = parts.next().expect("a header");
    (header, parts.next().expect("claims"))
}

/// The public half of an Ed25519 key, as PEM.
#[must_use]
pub fn public_pem(private_pem: &str) -> String {
    rcgen::KeyPair::from_pem(private_pem)
        .unwrap()
        .public_key_pem()
}
