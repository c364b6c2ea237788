//! Foreign tokens, sound and forged, and the keys they are checked with.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;
const SKEW: Duration = Duration::from_secs(5);
const RSA: &str = include_str!("../../../../testkit/src/keys/rsa_2048.pem");

struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl Signer {
    fn rsa() -> Self {
        let key = EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key");
        let algorithm = Algorithm::RS256;
        Self { key, algorithm }
    }

    fn p256() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key");
        let algorithm = Algorithm::ES256;
        Self { key, algorithm }
    }

    fn jwk(&self, id: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public key");
        with(serde_json::to_value(jwk).expect("JSON"), "kid", json!(id))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm);
        format!("{message}.{}", signature.expect("a signature"))
    }
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().expect("an object").remove(name);
    object
}

fn set(keys: &[Value]) -> Jwks {
    Jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("a set")
}

fn expected() -> Expected {
    Expected {
        issuer: "https://kubernetes.default.svc".to_owned(),
        audience: "tollgate".to_owned(),
        algorithms: vec![SigningAlgorithm::Rs256, SigningAlgorithm::Es256],
        max_age: None,
    }
}

fn header(algorithm: &str) -> Value {
    json!({ "alg": algorithm, "kid": "k1" })
}

fn claims() -> Value {
    json!({
        "iss": "https://kubernetes.default.svc", "aud": ["tollgate"],
        "sub": "system:serviceaccount:acme:support-bot",
        "iat": NOW - 100, "nbf": NOW - 100, "exp": NOW + 3_600,
        "kubernetes.io": {"namespace": "acme", "pod": {"name": "bot-0"}},
    })
}

fn verified(token: &str, keys: &Jwks) -> Result<Verified, ExternalFault> {
    let now = Timestamp::from_seconds(NOW);
    External::open(token)?.verify(&expected(), keys, SKEW, now)
}

#[test]
fn a_token_that_asks_for_a_proof_is_believed_only_with_one_that_is_checked() {
    let signer = Signer::p256();
    let keys = set(&[signer.jwk("k1")]);
    let digest = CertificateDigest::new([7; 32]);
    let told = |cnf: Value| {
        let claims = with(claims(), "cnf", cnf);
        verified(&signer.sign(&header("ES256"), &claims), &keys)
    };
    let bound = told(json!({ "x5t#S256": digest.to_string() })).expect("believed");
    assert_eq!(bound.certificate(), Some(digest));
    for cnf in [
        json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
        json!({ "x5t#S256": digest.to_string(), "jkt": "x" }),
        json!({ "x5t#S256": "short" }),
        json!({}),
        json!("x"),
        Value::Null,
    ] {
        assert_eq!(told(cnf.clone()), Err(ExternalFault::Claims), "{cnf}");
    }
}

#[test]
fn tokens_of_each_pinned_algorithm_are_believed() {
    for (signer, name) in [(Signer::rsa(), "RS256"), (Signer::p256(), "ES256")] {
        for jwk in [signer.jwk("k1"), without(signer.jwk("k1"), "alg")] {
            let token = signer.sign(&header(name), &claims());
            let told = verified(&token, &set(&[jwk])).expect(name);
            assert_eq!(told.claims(), &claims());
            assert_eq!(told.issued_at(), Timestamp::from_seconds(NOW - 100));
            assert_eq!(told.expires_at(), Timestamp::from_seconds(NOW + 3_600));
        }
    }
}

#[test]
fn case_25_no_algorithm_but_the_pinned_ones_is_accepted() {
    let signer = Signer::p256();
    let keys = set(&[signer.jwk("k1")]);
    for alg in [
        json!("none"),
        json!("None"),
        json!("nOnE"),
        json!("HS256"),
        json!("ES384"),
        json!("EdDSA"),
        json!("es256"),
        json!(["ES256"]),
        Value::Null,
    ] {
        let token = signer.sign(&with(header("ES256"), "alg", alg.clone()), &claims());
        let fault = verified(&token, &keys).expect_err("refused");
        let fits = matches!(fault, ExternalFault::Algorithm | ExternalFault::Malformed);
        assert!(fits, "{alg}: {fault}");
    }
    let bare = signer.sign(&without(header("ES256"), "alg"), &claims());
    assert_eq!(verified(&bare, &keys), Err(ExternalFault::Malformed));
    // Signed with the public key as an HMAC secret.
    let public = keys_text(&signer);
    let hmac = Signer {
        key: EncodingKey::from_secret(public.as_bytes()),
        algorithm: Algorithm::HS256,
    };
    for name in ["HS256", "RS256", "ES256"] {
        let fault = verified(&hmac.sign(&header(name), &claims()), &keys).expect_err(name);
        assert_ne!(fault, ExternalFault::Malformed, "{name}");
    }
}

fn keys_text(signer: &Signer) -> String {
    signer.jwk("k1").to_string()
}

#[test]
fn a_key_serves_only_what_it_is_for() {
    let signer = Signer::p256();
    let token = signer.sign(&header("ES256"), &claims());
    let jwk = signer.jwk("k1");
    for (bad, why) in [
        (
            with(jwk.clone(), "alg", json!("RS256")),
            "another algorithm",
        ),
        (with(jwk.clone(), "use", json!("enc")), "for encryption"),
        (
            with(jwk.clone(), "key_ops", json!(["sign"])),
            "not to verify",
        ),
        (with(jwk.clone(), "kty", json!("oct")), "another kind"),
        (with(jwk.clone(), "crv", json!("P-384")), "another curve"),
        (without(jwk.clone(), "kid"), "no id"),
        (with(jwk.clone(), "kid", json!("k2")), "another id"),
        (with(jwk.clone(), "x", json!("AA")), "a short coordinate"),
        (
            json!({"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}),
            "a secret",
        ),
        (json!(7), "no object"),
    ] {
        let keys = set(&[bad]);
        assert_eq!(
            verified(&token, &keys),
            Err(ExternalFault::UnknownKey),
            "{why}"
        );
    }
    let fine = with(
        with(jwk.clone(), "use", json!("sig")),
        "key_ops",
        json!(["verify"]),
    );
    assert!(verified(&token, &set(&[json!({"kty": "new"}), fine])).is_ok());
    let twice = set(&[jwk.clone(), Signer::p256().jwk("k1")]);
    assert_eq!(verified(&token, &twice), Err(ExternalFault::UnknownKey));
    // The same id for a key of another kind is no conflict.
    assert!(verified(&token, &set(&[jwk, Signer::rsa().jwk("k1")])).is_ok());
}

#[test]
fn weak_rsa_keys_are_passed_over() {
    let jwk = Signer::rsa().jwk("k1");
    for (name, value) in [
        ("e", json!("AQ")),
        ("e", json!("Aw")),
        ("n", json!("AQAB")),
        ("n", json!(URL_SAFE_NO_PAD.encode([0xff; 128]))),
        ("n", json!(URL_SAFE_NO_PAD.encode([0xff; 513]))),
        ("n", json!(URL_SAFE_NO_PAD.encode([0; 256]))),
    ] {
        assert_eq!(set(&[with(jwk.clone(), name, value)]).usable(), 0, "{name}");
    }
    assert_eq!(set(&[jwk]).usable(), 1);
}

#[test]
fn what_is_no_set_of_keys_is_refused() {
    for text in ["", "[]", "{}", "{\"keys\":{}}", "<html>", "{\"keys\":[]} x"] {
        assert!(Jwks::parse(text.as_bytes()).is_err(), "{text}");
    }
    let many = json!({ "keys": vec![json!({}); MAX_KEYS + 1] });
    assert!(Jwks::parse(many.to_string().as_bytes()).is_err());
    assert_eq!(set(&[]).usable(), 0);
}

/// Case 26: no header leads to a key; what must be understood and is not ends the token.
#[test]
fn case_26_headers_lead_to_no_key() {
    let (ours, stranger) = (Signer::p256(), Signer::p256());
    let keys = set(&[ours.jwk("k1")]);
    for (name, value) in [
        ("jwk", stranger.jwk("k1")),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("x5c", json!(["AAAA"])),
    ] {
        let head = with(header("ES256"), name, value);
        let forged = stranger.sign(&head, &claims());
        assert_eq!(
            verified(&forged, &keys),
            Err(ExternalFault::Signature),
            "{name}"
        );
        assert!(
            verified(&ours.sign(&head, &claims()), &keys).is_ok(),
            "{name}"
        );
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("typ", json!("logout+jwt")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!(1)),
        ("kid", json!(1)),
    ] {
        let head = with(header("ES256"), name, value);
        let token = ours.sign(&head, &claims());
        assert_eq!(
            verified(&token, &keys),
            Err(ExternalFault::Malformed),
            "{name}"
        );
    }
    for typ in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        let head = with(header("ES256"), "typ", json!(typ));
        assert!(
            verified(&ours.sign(&head, &claims()), &keys).is_ok(),
            "{typ}"
        );
    }
}

#[test]
fn case_27_an_unknown_key_id_is_looked_up_and_nothing_else() {
    let signer = Signer::p256();
    let keys = set(&[signer.jwk("k1")]);
    for id in [
        "k2",
        "",
        "../../etc/passwd",
        "' OR 1=1",
        "k1\0",
        "http://x/",
    ] {
        let head = with(header("ES256"), "kid", json!(id));
        let token = signer.sign(&head, &claims());
        assert_eq!(
            verified(&token, &keys),
            Err(ExternalFault::UnknownKey),
            "{id}"
        );
    }
    let token = signer.sign(&without(header("ES256"), "kid"), &claims());
    assert_eq!(verified(&token, &keys), Err(ExternalFault::Malformed));
}

#[test]
fn case_28_and_29_claims_are_exact() {
    use ExternalFault::{Audience, Claims, Expired, Issuer, NotYetValid};
    let signer = Signer::p256();
    let keys = set(&[signer.jwk("k1")]);
    let skew = SKEW.as_secs() as i64;
    for (name, value, fault) in [
        ("iss", json!("https://kubernetes.default.svc/"), Issuer),
        ("iss", json!(["https://kubernetes.default.svc"]), Issuer),
        ("iss", Value::Null, Issuer),
        ("aud", json!("tollgate2"), Audience),
        ("aud", json!([]), Audience),
        ("aud", json!(["a", "b"]), Audience),
        ("aud", json!(["tollgate", 1]), Audience),
        ("aud", json!({"tollgate": 1}), Audience),
        ("aud", Value::Null, Audience),
        ("exp", json!(NOW), Expired),
        ("exp", json!(NOW - 100), Claims),
        ("exp", json!("9999999999"), Claims),
        ("exp", json!(1e308), Claims),
        ("exp", json!(1_800_000_000.5), Claims),
        ("exp", json!(-1), Claims),
        ("exp", Value::Null, Claims),
        ("iat", json!(NOW + skew + 1), NotYetValid),
        ("iat", json!("1"), Claims),
        ("nbf", json!(NOW + skew + 1), NotYetValid),
        ("nbf", json!("1"), Claims),
    ] {
        let token = signer.sign(&header("ES256"), &with(claims(), name, value.clone()));
        assert_eq!(verified(&token, &keys), Err(fault), "{name} = {value}");
    }
    for (name, fault) in [
        ("iss", Issuer),
        ("aud", Audience),
        ("exp", Claims),
        ("iat", Claims),
    ] {
        let token = signer.sign(&header("ES256"), &without(claims(), name));
        assert_eq!(verified(&token, &keys), Err(fault), "no {name}");
    }
    for (name, value) in [
        ("aud", json!("tollgate")),
        ("aud", json!(["https://kubernetes.default.svc", "tollgate"])),
        ("exp", json!(NOW + 1)),
        ("iat", json!(NOW + skew)),
        ("nbf", json!(NOW + skew)),
    ] {
        let token = signer.sign(&header("ES256"), &with(claims(), name, value.clone()));
        assert!(verified(&token, &keys).is_ok(), "{name} = {value}");
    }
    let token = signer.sign(&header("ES256"), &without(claims(), "nbf"));
    assert!(verified(&token, &keys).is_ok());
}

#[test]
fn a_token_may_be_as_old_as_its_issuer_lets_it() {
    let signer = Signer::p256();
    let keys = set(&[signer.jwk("k1")]);
    let token = signer.sign(&header("ES256"), &claims());
    for (most, result) in [(100, true), (99, false)] {
        let expected = Expected {
            max_age: Some(Duration::from_secs(most)),
            ..expected()
        };
        let opened = External::open(&token).expect("a token");
        let told = opened.verify(&expected, &keys, SKEW, Timestamp::from_seconds(NOW));
        assert_eq!(told.is_ok(), result, "{told:?}");
    }
}

/// Case 34: what can be read in two ways is not read at all.
#[test]
fn case_34_only_one_form_is_read() {
    let signer = Signer::p256();
    let keys = set(&[signer.jwk("k1")]);
    let token = signer.sign(&header("ES256"), &claims());
    let parts: Vec<&str> = token.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!("three parts");
    };
    for bad in [
        String::new(),
        format!("{token}."),
        format!(".{token}"),
        format!("{token} "),
        format!("{token}=="),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!("{head}..{signature}"),
        format!("{head}.{body}.{signature}.{signature}"),
        format!("{head}.{body}.{signature}.{signature}.AA"),
        format!(
            "{}.{body}.{signature}",
            STANDARD.encode("{\"alg\":\"ES256\"}")
        ),
        "e30.e30.".to_owned(),
    ] {
        assert!(verified(&bad, &keys).is_err(), "{bad}");
    }
    for (head, body) in [
        (r#"{"alg":"ES256","kid":"k1","kid":"k1"}"#, r#"{"iss":"x"}"#),
        (
            r#"{"alg":"none","alg":"ES256","kid":"k1"}"#,
            r#"{"iss":"x"}"#,
        ),
        (
            r#"{"alg":"ES256","kid":"k1"}"#,
            r#"{"iss":"x","\u0069ss":"x"}"#,
        ),
        (
            r#"{"alg":"ES256","kid":"k1"}"#,
            r#"{"iss":"x","kubernetes.io":{"namespace":"a","namespace":"b"}}"#,
        ),
        (r#"["ES256","k1"]"#, r#"{"iss":"x"}"#),
        (r#"{"alg":"ES256","kid":"k1"}"#, "[]"),
    ] {
        let token = signer.sign_text(head, body);
        assert_eq!(
            verified(&token, &keys),
            Err(ExternalFault::Malformed),
            "{head} {body}"
        );
    }
}

#[test]
fn case_34_a_token_of_a_mebibyte_costs_next_to_nothing() {
    let huge = format!("eyJ{}.{}.AA", "A".repeat(1 << 20), "A".repeat(1 << 20));
    let started = Instant::now();
    for _ in 0..100 {
        assert!(matches!(
            External::open(&huge),
            Err(ExternalFault::Malformed)
        ));
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the size comes first"
    );
    let signer = Signer::p256();
    let padded = with(claims(), "pad", json!("p".repeat(MAX_EXTERNAL_BYTES)));
    let token = signer.sign(&header("ES256"), &padded);
    assert!(matches!(
        External::open(&token),
        Err(ExternalFault::Malformed)
    ));
}
