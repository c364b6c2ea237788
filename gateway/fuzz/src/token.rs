//! Only what the key's holder signed is believed.

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tollgate_core::identity::{KeySet, Mint, TokenRequest, new_private_key, verify};
use tollgate_core::time::Timestamp;

use crate::pieces::Parts;

/// A key set, a token under it, and when it holds.
struct Scene {
    keys: KeySet,
    token: String,
    now: Timestamp,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let pem = new_private_key(&[7; 32]);
    let mint = Mint::from_pem(&pem, "https://tollgate.test", "tollgate").expect("a key");
    let now = Timestamp::from_seconds(1_800_000_000);
    let wanted = TokenRequest {
        tenant: "acme".parse().expect("a tenant"),
        agent: "a1".parse().expect("an agent"),
        task: "t1".parse().expect("a task"),
        lifetime: Duration::from_secs(300),
        certificate: None,
    };
    let name = "fuzz".parse().expect("a token id");
    let (token, _caller) = mint.issue(wanted, now, name).expect("a token");
    let keys = mint.keys();
    assert!(verify(&token, &keys, now).is_ok(), "the true token holds");
    Scene { keys, token, now }
});

/// The true token, for the corpus.
#[cfg(test)]
pub(crate) fn true_token() -> &'static str {
    &SCENE.token
}

/// Input: a token, or header, claims and signature divided by zero bytes; `*` for a signature is
/// that of the one token there is.
pub fn token(data: &[u8]) {
    let Scene { keys, token, now } = &*SCENE;
    let (signed, signature) = token.rsplit_once('.').expect("a token");
    let mut parts = Parts::of(data);
    let (header, claims, own) = (parts.bytes(), parts.bytes(), parts.bytes());
    let composed = format!(
        "{}.{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims),
        if own == b"*" {
            signature.to_owned()
        } else {
            URL_SAFE_NO_PAD.encode(own)
        }
    );
    for text in [std::str::from_utf8(data).unwrap_or_default(), &composed] {
        if verify(text, keys, *now).is_ok() {
            let (its_signed, its_signature) = text.rsplit_once('.').expect("three parts");
            assert_eq!(
                (its_signed, its_signature),
                (signed, signature),
                "a forged token is believed"
            );
        }
    }
}
