//! Signed checkpoints: up to here, this is the chain.
//!
//! Ed25519 (RFC 8032) over six lines of text, so that any program can check one with the public
//! key and nothing of ours:
//!
//! ```text
//! tollgate.checkpoint/1
//! acme
//! r4f1c
//! 512
//! 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! 2026-11-23T08:15:00.000000Z
//! ```
//! each ended by a newline. Worst case: whoever has the private key can sign another chain; the
//! key lies with the gateway, so a checkpoint kept outside is what holds against the gateway's own
//! host.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Partition;
use crate::ids::ReplicaId;
use crate::time::Timestamp;

/// The version of this shape, in every checkpoint and in what is signed.
pub const CHECKPOINT_SCHEMA: &str = "tollgate.checkpoint/1";

/// A text is not a key that checkpoints can be signed or checked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key as PEM")]
pub struct InvalidAuditKey;

/// A checkpoint is not signed by any of the keys that are believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// None of the keys has that id.
    #[error("it is signed by key {0}, which is not among those believed")]
    UnknownKey(String),
    /// The signature does not fit what is signed.
    #[error("its signature does not hold")]
    Forged,
    /// It has another shape than this program knows.
    #[error("its schema is {0:?}, not {CHECKPOINT_SCHEMA:?}")]
    Schema(String),
}

/// A statement about a chain: its record `seq` has this hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Always [`CHECKPOINT_SCHEMA`].
    #[serde(rename = "tollgate.schema")]
    pub schema: String,
    /// Whose partition the chain is in.
    #[serde(rename = "tollgate.partition")]
    pub partition: Partition,
    /// Who writes the chain.
    #[serde(rename = "tollgate.replica.id")]
    pub replica: ReplicaId,
    /// How many records it had.
    #[serde(rename = "tollgate.seq")]
    pub seq: u64,
    /// The hash of the last of them.
    #[serde(rename = "tollgate.hash")]
    pub hash: String,
    /// When that was.
    #[serde(rename = "tollgate.signed_at")]
    pub signed_at: Timestamp,
    /// The id of the key.
    #[serde(rename = "tollgate.key.id")]
    pub key: String,
    /// The signature, base64.
    #[serde(rename = "tollgate.signature")]
    pub signature: String,
}

impl Checkpoint {
    fn signed_text(&self) -> String {
        let Self {
            schema,
            partition,
            replica,
            seq,
            hash,
            signed_at,
            ..
        } = self;
        let time = signed_at.text();
        let time = &*time;
        format!("{schema}\n{partition}\n{replica}\n{seq}\n{hash}\n{time}\n")
    }

    /// Checks the signature against the keys that are believed.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn verify(&self, keys: &[AuditPublicKey]) -> Result<(), NotSigned> {
        if self.schema != CHECKPOINT_SCHEMA {
            return Err(NotSigned::Schema(self.schema.clone()));
        }
        let key = keys.iter().find(|key| key.id == self.key);
        let key = key.ok_or_else(|| NotSigned::UnknownKey(self.key.clone()))?;
        if key.has_signed(self.signed_text().as_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(NotSigned::Forged)
        }
    }
}

/// What checkpoints are signed with.
pub struct AuditKey {
    private: SigningKey,
    public: AuditPublicKey,
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuditKey({})", self.public.id)
    }
}

impl AuditKey {
    /// Reads a private key: PKCS#8 as PEM.
    ///
    /// # Errors
    /// [`InvalidAuditKey`].
    pub fn from_pem(pem: &str) -> Result<Self, InvalidAuditKey> {
        let private = SigningKey::from_pkcs8_pem(pem).map_err(|_unreadable| InvalidAuditKey)?;
        let public = AuditPublicKey::new(private.verifying_key())?;
        Ok(Self { private, public })
    }

    /// What others check with.
    #[must_use]
    pub const fn public(&self) -> &AuditPublicKey {
        &self.public
    }

    /// Signs that record `seq` of the chain has `hash`.
    #[must_use]
    pub fn checkpoint(
        &self,
        partition: Partition,
        replica: ReplicaId,
        seq: u64,
        hash: String,
        now: Timestamp,
    ) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            schema: CHECKPOINT_SCHEMA.to_owned(),
            partition,
            replica,
            seq,
            hash,
            signed_at: now,
            key: self.public.id.clone(),
            signature: String::new(),
        };
        checkpoint.signature = self.sign(checkpoint.signed_text().as_bytes());
        checkpoint
    }

    /// Signs bytes that say themselves what they are; base64.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> String {
        STANDARD.encode(self.private.sign(bytes).to_bytes())
    }
}

/// What checkpoints are checked with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditPublicKey {
    id: String,
    pem: String,
    key: VerifyingKey,
}

impl AuditPublicKey {
    fn new(key: VerifyingKey) -> Result<Self, InvalidAuditKey> {
        let pem = key.to_public_key_pem(LineEnding::LF);
        let pem = pem.map_err(|_unwritable| InvalidAuditKey)?;
        let id: String = Sha256::digest(key.as_bytes())
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self { id, pem, key })
    }

    /// Reads a public key: `SubjectPublicKeyInfo` as PEM.
    ///
    /// # Errors
    /// [`InvalidAuditKey`].
    pub fn from_pem(pem: &str) -> Result<Self, InvalidAuditKey> {
        let key =
            VerifyingKey::from_public_key_pem(pem.trim()).map_err(|_unreadable| InvalidAuditKey)?;
        Self::new(key)
    }

    /// The first 16 hexadecimal digits of the SHA-256 of its 32 bytes.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether this key has made that signature (base64) over these bytes.
    #[must_use]
    pub fn has_signed(&self, bytes: &[u8], signature: &str) -> bool {
        let signature = STANDARD.decode(signature).ok();
        let signature = signature.and_then(|raw| Signature::from_slice(&raw).ok());
        // Strict: no second signature can be made of a first one, and no weak key signs everything.
        signature.is_some_and(|signature| self.key.verify_strict(bytes, &signature).is_ok())
    }
}
