use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;

mod claims;
mod presented;

const ISSUER: &str = "https://tollgate.test";
const AUDIENCE: &str = "tollgate";
const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW)
}

fn mint_of(seed: u8) -> Mint {
    Mint::from_pem(&new_private_key(&[seed; 32]), ISSUER, AUDIENCE).expect("a key")
}

fn issued(mint: &Mint, seconds: u64) -> Result<(String, Caller), MintError> {
    mint.issue(
        TokenRequest {
            tenant: "acme".parse().expect("a tenant"),
            agent: "support-bot".parse().expect("an agent"),
            task: "ticket-4711".parse().expect("a task"),
            lifetime: Duration::from_secs(seconds),
            certificate: None,
        },
        now(),
        "01HX".parse().expect("a token id"),
    )
}

/// Signs any header and claims with the mint's key, as an issuer gone astray would.
fn signed(header: &str, claims: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let pem = new_private_key(&[1; 32]);
    let key = EncodingKey::from_ed_pem(pem.as_bytes()).expect("a key");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA);
    format!("{message}.{}", signature.expect("a signature"))
}

fn header() -> Value {
    json!({"alg": "EdDSA", "kid": mint_of(1).key_id(), "typ": "JWT"})
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "support-bot", "tenant": "acme",
        "task": "ticket-4711", "jti": "01HX", "iat": NOW, "exp": NOW + 300,
    })
}

fn with(mut object: Value, name: &str, value: Value) -> String {
    object[name] = value;
    object.to_string()
}

fn without(mut object: Value, name: &str) -> String {
    object.as_object_mut().expect("an object").remove(name);
    object.to_string()
}

fn verified(token: &str) -> Result<Caller, TokenFault> {
    verify(token, &mint_of(1).keys(), now())
}

#[test]
fn what_the_mint_issues_is_believed() {
    let mint = mint_of(1);
    let (token, caller) = issued(&mint, 300).expect("a token");
    assert!(is_token(&token));
    assert_eq!(verify(&token, &mint.keys(), now()), Ok(caller.clone()));
    assert_eq!(caller.tenant.as_str(), "acme");
    assert_eq!(caller.agent.as_str(), "support-bot");
    assert_eq!(caller.expires_at, Timestamp::from_seconds(NOW + 300));
    let forged_by_hand = signed(&header().to_string(), &claims().to_string());
    assert_eq!(
        verified(&forged_by_hand),
        Ok(caller),
        "the tests' own baseline"
    );
}

#[test]
fn the_mint_refuses_other_lifetimes() {
    let mint = mint_of(1);
    for seconds in [0, 301, u64::MAX] {
        assert_eq!(
            issued(&mint, seconds),
            Err(MintError::Lifetime),
            "{seconds}"
        );
    }
    assert!(issued(&mint, 1).is_ok());
}

#[test]
fn keys_that_are_none_are_refused() {
    for pem in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        assert!(Mint::from_pem(pem, ISSUER, AUDIENCE).is_err(), "{pem:?}");
    }
    let private = new_private_key(&[1; 32]);
    for algorithm in [
        SigningAlgorithm::EdDsa,
        SigningAlgorithm::Es256,
        SigningAlgorithm::Rs256,
    ] {
        let key = TrustedKey::from_public_pem(ISSUER, algorithm, private.as_bytes());
        assert!(key.is_err(), "a private key was taken for a public one");
    }
}

#[test]
fn another_key_and_an_empty_set_believe_nothing() {
    let (token, _) = issued(&mint_of(1), 60).expect("a token");
    for keys in [mint_of(2).keys(), KeySet::new(AUDIENCE)] {
        assert_eq!(verify(&token, &keys, now()), Err(TokenFault::Signature));
    }
    assert!(KeySet::new(AUDIENCE).is_empty());
}

/// Case 25.
#[test]
fn case_25_no_algorithm_but_the_keys_own_is_taken() {
    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(with(header(), "alg", json!("none"))),
        URL_SAFE_NO_PAD.encode(claims().to_string())
    );
    assert!(verified(&none).is_err());
    for alg in [
        "none", "None", "nOnE", "HS256", "ES256", "RS256", "eddsa", "Ed25519", "",
    ] {
        let token = signed(&with(header(), "alg", json!(alg)), &claims().to_string());
        assert_eq!(verified(&token), Err(TokenFault::Signature), "{alg}");
    }
    for alg in [json!(["EdDSA"]), json!(null), json!(1), json!({})] {
        let token = signed(&with(header(), "alg", alg.clone()), &claims().to_string());
        assert_eq!(verified(&token), Err(TokenFault::Malformed), "{alg}");
    }
    let token = signed(&without(header(), "alg"), &claims().to_string());
    assert_eq!(verified(&token), Err(TokenFault::Malformed));
}

/// Case 25: the public key, which everybody knows, is no MAC key; and a key is used with the
/// algorithm it is pinned to only.
#[test]
fn case_25_a_public_key_cannot_be_confused_with_anything_else() {
    let pair = rcgen::KeyPair::generate().expect("a P-256 key");
    let public = pair.public_key_pem();
    let key = TrustedKey::from_public_pem(ISSUER, SigningAlgorithm::Es256, public.as_bytes());
    let keys = KeySet::new(AUDIENCE).with_key("ec", key.expect("a public key"));
    let private = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key");
    let mac = EncodingKey::from_secret(public.as_bytes());

    let token = |alg: &str, sign_with: Algorithm, key: &EncodingKey| {
        let header = json!({"alg": alg, "kid": "ec", "typ": "JWT"}).to_string();
        let header = URL_SAFE_NO_PAD.encode(header);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims().to_string()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, sign_with);
        format!("{message}.{}", signature.expect("a signature"))
    };
    let good = token("ES256", Algorithm::ES256, &private);
    assert!(verify(&good, &keys, now()).is_ok());
    for (alg, sign_with, key) in [
        ("HS256", Algorithm::HS256, &mac),
        ("ES256", Algorithm::HS256, &mac),
        ("ES384", Algorithm::ES256, &private),
        ("EdDSA", Algorithm::ES256, &private),
    ] {
        let result = verify(&token(alg, sign_with, key), &keys, now());
        assert_eq!(result, Err(TokenFault::Signature), "{alg}");
    }
    let other = TrustedKey::from_public_pem(ISSUER, SigningAlgorithm::EdDsa, public.as_bytes());
    assert!(other.is_err(), "a P-256 key was taken for an Ed25519 one");
}

/// Cases 25 and 26: parameters that change what a signature covers, or bring their own key.
#[test]
fn case_26_header_parameters_beyond_the_three_are_refused() {
    for (name, value) in [
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})),
        ("jku", json!("https://evil.test/keys")),
        ("x5u", json!("https://evil.test/cert")),
        ("x5c", json!(["AAAA"])),
        ("x5t", json!("AAAA")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
    ] {
        let token = signed(&with(header(), name, value), &claims().to_string());
        assert_eq!(verified(&token), Err(TokenFault::Malformed), "{name}");
    }
    let as_array = json!(["EdDSA", mint_of(1).key_id(), "JWT"]).to_string();
    let token = signed(&as_array, &claims().to_string());
    assert_eq!(verified(&token), Err(TokenFault::Malformed), "an array");
    let kid = mint_of(1).key_id().to_owned();
    let twice = format!(r#"{{"alg":"none","alg":"EdDSA","kid":"{kid}"}}"#);
    assert_eq!(
        verified(&signed(&twice, &claims().to_string())),
        Err(TokenFault::Malformed),
        "alg twice"
    );
}

/// Case 27.
#[test]
fn case_27_a_key_id_is_only_ever_looked_up() {
    let long = "k".repeat(5000);
    for kid in [
        "",
        "unknown",
        "../../etc/passwd",
        "' OR 1=1",
        "\0",
        "https://evil.test/jwks.json",
        &long,
    ] {
        let token = signed(&with(header(), "kid", json!(kid)), &claims().to_string());
        assert_eq!(
            verified(&token),
            Err(TokenFault::Signature),
            "{:?}",
            kid.get(..9)
        );
    }
    for kid in [json!(null), json!(1), json!(["x"])] {
        let token = signed(&with(header(), "kid", kid), &claims().to_string());
        assert_eq!(verified(&token), Err(TokenFault::Malformed));
    }
    let token = signed(&without(header(), "kid"), &claims().to_string());
    assert_eq!(verified(&token), Err(TokenFault::Malformed));
    let huge = "k".repeat(64 * 1024);
    let token = signed(&with(header(), "kid", json!(huge)), &claims().to_string());
    assert_eq!(verified(&token), Err(TokenFault::Malformed));
}

/// Case 27: a key speaks for its own issuer only, even if it is in the set.
#[test]
fn case_27_a_key_of_another_issuer_does_not_speak_for_ours() {
    let mint = mint_of(1);
    let pem = new_private_key(&[1; 32]);
    let other = Mint::from_pem(&pem, "https://other.test", AUDIENCE).expect("a key");
    let (token, _) = issued(&mint, 60).expect("a token");
    assert_eq!(
        verify(&token, &other.keys(), now()),
        Err(TokenFault::Claims)
    );
}

/// Case 34.
#[test]
fn case_34_there_is_one_way_to_write_a_token() {
    let (token, _) = issued(&mint_of(1), 60).expect("a token");
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let (header, claims) = message.split_once('.').expect("three parts");
    let padded = |part: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    // The last character of 64 bytes carries four unused bits.
    let last = signature.chars().last().expect("a signature");
    let loose = char::from(last as u8 + 1);
    let variants = [
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.AAAA"),
        format!("{header}..{claims}.{signature}"),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("..{signature}"),
        "..".to_owned(),
        String::new(),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{header}. {claims}.{signature}"),
        format!("{header}.{claims}.{signature}=="),
        format!("{header}=.{claims}.{signature}"),
        format!(
            "{}.{claims}.{signature}",
            STANDARD.encode("{\"alg\":\"EdDSA\"}??>>")
        ),
        format!(
            "{header}.{claims}.{}{loose}",
            &signature[..signature.len() - 1]
        ),
        format!("{header}.{claims}.{}", &signature[..signature.len() - 2]),
        format!("{header}.{claims}.{signature}AA"),
        format!("{header}.{}.{signature}", padded(claims)),
    ];
    for variant in variants.iter().filter(|variant| **variant != token) {
        let result = verified(variant);
        assert!(
            matches!(result, Err(TokenFault::Malformed | TokenFault::Signature)),
            "{variant:?} gave {result:?}"
        );
    }
}

/// Case 34: adding the group order to the scalar gives a second signature that equations accept.
#[test]
fn case_34_a_signature_has_no_twin() {
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (token, _) = issued(&mint_of(1), 60).expect("a token");
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let mut carry = 0_u16;
    for (byte, added) in bytes[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(added);
        *byte = u8::try_from(carry & 0xff).expect("a byte");
        carry >>= 8;
    }
    let twin = format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes));
    assert_eq!(verified(&twin), Err(TokenFault::Signature));
}

/// Case 34: a name that stands twice could be read as either value.
#[test]
fn case_34_duplicate_claims_are_refused() {
    for duplicate in [
        r#""tenant":"other""#,
        r#""tenant":"acme""#,
        r#""\u0074enant":"other""#,
        r#""exp":1800000001"#,
        r#""harmless":1,"harmless":2"#,
    ] {
        let claims = format!(
            "{},{duplicate}}}",
            claims().to_string().trim_end_matches('}')
        );
        let token = signed(&header().to_string(), &claims);
        assert_eq!(verified(&token), Err(TokenFault::Malformed), "{duplicate}");
    }
    for not_an_object in ["[]", "1", "\"x\"", "null", "", "{", "{} {}", "\u{feff}{}"] {
        let token = signed(&header().to_string(), not_an_object);
        assert_eq!(
            verified(&token),
            Err(TokenFault::Malformed),
            "{not_an_object}"
        );
    }
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(2000), "]".repeat(2000));
    let token = signed(&header().to_string(), &deep);
    assert_eq!(verified(&token), Err(TokenFault::Malformed));
}

/// Case 34: work is bounded by the size limit, whatever is sent.
#[test]
fn case_34_a_token_of_a_mebibyte_costs_next_to_nothing() {
    let huge = format!("eyJ{}.{}.AA", "A".repeat(1 << 20), "A".repeat(1 << 20));
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(verified(&huge), Err(TokenFault::Malformed));
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the size is checked first"
    );
    let claims = with(claims(), "pad", json!("p".repeat(MAX_TOKEN_BYTES)));
    let token = signed(&header().to_string(), &claims);
    assert_eq!(verified(&token), Err(TokenFault::Malformed));
}

#[test]
fn every_changed_byte_of_a_token_makes_it_worthless() {
    let (token, _) = issued(&mint_of(1), 60).expect("a token");
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        assert!(verified(&changed).is_err(), "byte {at}");
    }
}
