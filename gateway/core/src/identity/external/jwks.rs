//! The keys that an issuer publishes (RFC 7517), as far as signatures can be checked with them.
//!
//! A key that is for something else (encryption, a symmetric or unknown kind, without an id) is
//! passed over: publishers mix them. Of two keys of one kind and id neither is used, since a
//! token could mean either. Knows neither who publishes nor whether a set is still current. Worst
//! case: a set without usable keys, with which every token is refused.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

use crate::identity::keys::SigningAlgorithm;

/// The most keys a set may have. Large providers publish about ten.
pub const MAX_KEYS: usize = 100;

/// The only RSA exponent taken. It is everybody's; small ones have a history of forgeries.
const RSA_EXPONENT: &str = "AQAB";

/// Sizes of RSA moduli that are taken, in bytes: 2,048 to 4,096 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// Not a set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON Web Key Set of at most {MAX_KEYS} keys")]
pub struct InvalidJwks;

/// The usable keys of an issuer.
#[derive(Debug, Clone, Default)]
pub struct Jwks {
    /// Two keys of one kind under one id leave `None`.
    keys: HashMap<(String, Kind), Option<PublicKey>>,
}

/// What keys differ by apart from their id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    const fn of(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::EdDsa => Self::Ed25519,
            SigningAlgorithm::Es256 => Self::P256,
            SigningAlgorithm::Es384 => Self::P384,
            SigningAlgorithm::Rs256 | SigningAlgorithm::Rs512 | SigningAlgorithm::Ps256 => {
                Self::Rsa
            }
        }
    }
}

/// A public key, and the algorithm it is for if its publisher says so.
#[derive(Clone)]
pub(super) struct PublicKey {
    algorithm: Option<String>,
    key: DecodingKey,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey").finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Whether `signature` (base64url) is this key's over `message`.
    pub(super) fn has_signed(
        &self,
        algorithm: SigningAlgorithm,
        message: &[u8],
        signature: &str,
    ) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm.jws())
            .unwrap_or(false)
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// The members that decide; all others (`x5c`, `x5t`, `x5u` …) mean nothing here.
#[derive(Deserialize)]
struct Member {
    kty: String,
    kid: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwks {
    /// Reads a set.
    ///
    /// # Errors
    /// If the text is not one, or has too many keys.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidJwks> {
        let set: Set = serde_json::from_slice(text).map_err(|_not_a_set| InvalidJwks)?;
        if set.keys.len() > MAX_KEYS {
            return Err(InvalidJwks);
        }
        let mut keys = HashMap::new();
        for member in set.keys {
            let Ok(member) = serde_json::from_value::<Member>(member) else {
                continue;
            };
            let Some((kind, key)) = member.public_key() else {
                continue;
            };
            keys.entry((member.kid, kind))
                .and_modify(|twice| *twice = None)
                .or_insert(Some(key));
        }
        Ok(Self { keys })
    }

    /// How many keys can be used.
    #[must_use]
    pub fn usable(&self) -> usize {
        self.keys.values().flatten().count()
    }

    /// The key of this id that may be used with `algorithm`.
    pub(super) fn find(&self, id: &str, algorithm: SigningAlgorithm) -> Option<&PublicKey> {
        let key = self.keys.get(&(id.to_owned(), Kind::of(algorithm)))?;
        key.as_ref().filter(|key| {
            let own = key.algorithm.as_deref();
            own.is_none_or(|own| own == algorithm.name())
        })
    }
}

impl Member {
    fn public_key(&self) -> Option<(Kind, PublicKey)> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        if let Some(operations) = &self.key_ops
            && !operations.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let (kind, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => (Kind::Rsa, self.rsa()?),
            ("EC", Some("P-256")) => (Kind::P256, self.elliptic(32)?),
            ("EC", Some("P-384")) => (Kind::P384, self.elliptic(48)?),
            ("OKP", Some("Ed25519")) => {
                let x = sized(self.x.as_deref()?, 32)?;
                (Kind::Ed25519, DecodingKey::from_ed_components(x).ok()?)
            }
            _ => return None,
        };
        let algorithm = self.alg.clone();
        Some((kind, PublicKey { algorithm, key }))
    }

    fn rsa(&self) -> Option<DecodingKey> {
        let modulus = self.n.as_deref()?;
        let bytes = URL_SAFE_NO_PAD.decode(modulus).ok()?;
        // RFC 7518 section 6.3.1.1: no leading zero, so that the length is the size.
        let fits = RSA_BYTES.contains(&bytes.len()) && bytes.first() != Some(&0);
        if !fits || self.e.as_deref() != Some(RSA_EXPONENT) {
            return None;
        }
        DecodingKey::from_rsa_components(modulus, RSA_EXPONENT).ok()
    }

    fn elliptic(&self, coordinate_bytes: usize) -> Option<DecodingKey> {
        let x = sized(self.x.as_deref()?, coordinate_bytes)?;
        let y = sized(self.y.as_deref()?, coordinate_bytes)?;
        DecodingKey::from_ec_components(x, y).ok()
    }
}

/// The text, if it is base64url of exactly so many bytes.
fn sized(text: &str, bytes: usize) -> Option<&str> {
    let decoded = URL_SAFE_NO_PAD.decode(text).ok()?;
    (decoded.len() == bytes).then_some(text)
}
