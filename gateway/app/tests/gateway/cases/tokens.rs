//! Cases 25–30, 34: tokens that look right and are not.
//!
//! Each is made from a good token, with one thing changed and signed again with the gateway's own
//! key where that is possible: only the change can be what is refused. A first test shows that
//! signing again without a change is accepted.

use serde_json::{Value, json};
use tollgate_testkit::forge::{Forge, open, public_pem, unsigned};
use tollgate_testkit::recorder::Recorder;

use crate::harness::{Ask, Dialect, Refused, World};

/// A gateway, a good token taken apart, and the means to put it together differently.
struct Bench {
    world: World,
    forge: Forge,
    token: String,
    header: Value,
    claims: Value,
}

impl Bench {
    async fn new() -> Self {
        let world = World::new().await;
        let token = world.token("acme").await;
        let (header, claims) = open(&token);
        let forge = world.gateway.forge();
        Self {
            world,
            forge,
            token,
            header,
            claims,
        }
    }

    fn with_header(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut header = self.header.clone();
        change(&mut header);
        self.forge
            .sign(&header.to_string(), &self.claims.to_string())
    }

    fn with_claims(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims.clone();
        change(&mut claims);
        self.forge
            .sign(&self.header.to_string(), &claims.to_string())
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        self.with_claims(|claims| claims[name] = value)
    }

    fn without_claim(&self, name: &str) -> String {
        self.with_claims(|claims| {
            claims.as_object_mut().unwrap().remove(name);
        })
    }

    async fn status(&self, token: &str) -> u16 {
        let ask = Ask::new("GET", "/openai/v1/models").bearer(token);
        self.world.send(&ask).await.status
    }

    async fn assert_refused(&self, what: &str, token: &str) {
        let ask = Ask::new("GET", "/openai/v1/models").bearer(token);
        let answer = self.world.send(&ask).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        Refused::UNAUTHENTICATED.check(&answer, Dialect::OpenAi);
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[tokio::test]
async fn case_25_only_the_pinned_algorithm_is_taken() {
    let bench = Bench::new().await;
    assert_eq!(
        bench.status(&bench.with_header(|_| {})).await,
        200,
        "signed again, unchanged"
    );

    for alg in [
        "none", "None", "nOnE", "NONE", "", "HS256", "RS256", "ES256", "eddsa", "Ed25519 ",
    ] {
        let token = bench.with_header(|header| header["alg"] = json!(alg));
        bench.assert_refused(alg, &token).await;
        // And without any signature.
        let mut header = bench.header.clone();
        header["alg"] = json!(alg);
        let bare = unsigned(&header.to_string(), &bench.claims.to_string());
        bench.assert_refused(alg, &format!("{bare}.")).await;
    }
    let public = public_pem(&bench.world.gateway.signing_key());
    for secret in [public.as_bytes(), public.trim().as_bytes(), b"", b"secret"] {
        let mut header = bench.header.clone();
        header["alg"] = json!("HS256");
        let token = Forge::hmac(secret).sign(&header.to_string(), &bench.claims.to_string());
        bench
            .assert_refused("HS256 under the public key", &token)
            .await;
    }
    let missing = bench.with_header(|header| {
        header.as_object_mut().unwrap().remove("alg");
    });
    bench.assert_refused("no alg", &missing).await;
    for (name, value) in [
        ("alg", json!(["EdDSA"])),
        ("alg", json!({"a": "EdDSA"})),
        ("b64", json!(false)),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("crit", json!(["exp"])),
        ("zip", json!("DEF")),
    ] {
        let token = bench.with_header(|header| header[name] = value.clone());
        bench
            .assert_refused(&format!("{name}: {value}"), &token)
            .await;
    }
    let stranger = Forge::stranger().sign(&bench.header.to_string(), &bench.claims.to_string());
    bench
        .assert_refused("another key of the same kind", &stranger)
        .await;
}

#[tokio::test]
async fn case_26_a_key_that_comes_with_the_token_is_not_fetched_and_not_used() {
    let bench = Bench::new().await;
    let elsewhere = Recorder::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let url = format!("http://{}/keys", elsewhere.address());
    let stranger = Forge::stranger();
    for (name, value) in [
        ("jku", json!(url)),
        ("x5u", json!(url)),
        (
            "jwk",
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        ),
        ("x5c", json!(["MIIB"])),
    ] {
        let mut header = bench.header.clone();
        header[name] = value;
        let claims = bench.claims.to_string();
        bench
            .assert_refused(name, &stranger.sign(&header.to_string(), &claims))
            .await;
        bench
            .assert_refused(name, &bench.forge.sign(&header.to_string(), &claims))
            .await;
    }
    assert_eq!(elsewhere.connections(), 0, "nothing is fetched");
}

#[tokio::test]
async fn case_27_no_key_id_leads_anywhere() {
    let bench = Bench::new().await;
    for kid in [
        json!("unknown"),
        json!(""),
        json!("../../../../etc/passwd"),
        json!("' OR 1=1 --"),
        json!("\0"),
        json!("a".repeat(4096)),
        json!("http://127.0.0.1:1/"),
        json!(1),
        json!(null),
        json!(["x"]),
    ] {
        let token = bench.with_header(|header| header["kid"] = kid.clone());
        bench
            .assert_refused(&format!("kid {kid:.40}"), &token)
            .await;
    }
    let missing = bench.with_header(|header| {
        header.as_object_mut().unwrap().remove("kid");
    });
    bench.assert_refused("no kid", &missing).await;
}

#[tokio::test]
async fn case_28_another_issuer_audience_or_kind_of_token_is_refused() {
    let bench = Bench::new().await;
    let audience = bench.claims["aud"].clone();
    for (name, value) in [
        ("iss", json!("https://issuer.example")),
        ("iss", json!("")),
        ("iss", json!([bench.claims["iss"].clone()])),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("aud", json!([audience, "another"])),
        ("aud", json!({"a": audience})),
        ("aud", json!(null)),
    ] {
        bench
            .assert_refused(
                &format!("{name} {value}"),
                &bench.with_claim(name, value.clone()),
            )
            .await;
    }
    for claim in ["iss", "aud"] {
        bench
            .assert_refused(claim, &bench.without_claim(claim))
            .await;
    }
    for typ in [
        "id_token+jwt",
        "logout+jwt",
        "dpop+jwt",
        "JWE",
        "secevent+jwt",
    ] {
        let token = bench.with_header(|header| header["typ"] = json!(typ));
        bench.assert_refused(typ, &token).await;
    }
    bench
        .assert_refused("five parts", "eyJhbGciOiJkaXIifQ..AAAA.AAAA.AAAA")
        .await;
}

#[tokio::test]
async fn case_29_no_token_lives_longer_than_300_seconds() {
    let bench = Bench::new().await;
    let now = now();
    let lasting = |iat: Value, exp: Value| {
        bench.with_claims(|claims| {
            claims["iat"] = iat;
            claims["exp"] = exp;
        })
    };
    assert_eq!(
        bench.status(&lasting(json!(now), json!(now + 300))).await,
        200,
        "300 s are good"
    );
    for (what, iat, exp) in [
        ("301 s", json!(now), json!(now + 301)),
        ("an hour", json!(now), json!(now + 3600)),
        ("an hour, half gone", json!(now - 1800), json!(now + 1800)),
        ("for ever", json!(now), json!(i64::MAX)),
        ("over in 1970", json!(0), json!(300)),
        ("over", json!(now - 290), json!(now - 60)),
        ("backwards", json!(now), json!(now - 1)),
        ("no time at all", json!(now), json!(now)),
        ("from the future", json!(now + 60), json!(now + 120)),
        ("exp a text", json!(now), json!((now + 60).to_string())),
        ("exp a fraction", json!(now), json!(60.5)),
        (
            "exp a float",
            json!(now),
            serde_json::from_str(&format!("{}.0", now + 60)).unwrap(),
        ),
        ("exp absurd", json!(now), json!(1e308)),
        ("exp negative", json!(now), json!(-1)),
        ("both negative", json!(-100), json!(-50)),
        ("exp null", json!(now), json!(null)),
        ("iat a text", json!(now.to_string()), json!(now + 60)),
        ("iat null", json!(null), json!(now + 60)),
        (
            "difference that overflows",
            json!(i64::MIN),
            json!(i64::MAX),
        ),
    ] {
        bench.assert_refused(what, &lasting(iat, exp)).await;
    }
    for claim in ["exp", "iat"] {
        bench
            .assert_refused(claim, &bench.without_claim(claim))
            .await;
    }
    for nbf in [json!(now + 3600), json!("soon"), json!(1e308), json!(-1)] {
        bench
            .assert_refused(&format!("nbf {nbf}"), &bench.with_claim("nbf", nbf.clone()))
            .await;
    }
}

#[tokio::test]
async fn case_30_every_name_must_be_there_and_be_a_name() {
    let bench = Bench::new().await;
    for claim in ["tenant", "sub", "task", "jti"] {
        bench
            .assert_refused(claim, &bench.without_claim(claim))
            .await;
        for value in [
            json!(""),
            json!(null),
            json!(1),
            json!(true),
            json!(["acme"]),
            json!({"a": 1}),
            json!(" "),
            json!("a/b"),
            json!("../globex"),
            json!("a\0"),
            json!("*"),
            json!("a:b"),
            json!("acme\n"),
            json!("acme "),
            json!("a{b}"),
            json!("\u{ff41}cme"),
            json!("a".repeat(300)),
            json!("acme\",\"tenant\":\"globex"),
        ] {
            let token = bench.with_claim(claim, value.clone());
            bench
                .assert_refused(&format!("{claim} {value:.40}"), &token)
                .await;
        }
    }
    // Signed well, of the right form, and yet not a token that was ever given out.
    for (claim, value) in [
        ("tenant", "globex"),
        ("tenant", "unknown-tenant"),
        ("sub", "a2"),
        ("task", "t2"),
        ("jti", "0192f0c1-0000-7000-8000-000000000000"),
    ] {
        bench
            .assert_refused(claim, &bench.with_claim(claim, json!(value)))
            .await;
    }
    bench.world.assert_no_contact();
}

#[tokio::test]
async fn case_34_a_token_has_one_spelling() {
    let bench = Bench::new().await;
    let token = &bench.token;
    assert_eq!(bench.status(token).await, 200);
    let contacted = bench.world.calls().len();
    let parts: Vec<&str> = token.split('.').collect();
    let (head, tail) = token.split_at(token.len() - 1);
    let twins: Vec<String> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .filter(|letter| !tail.starts_with(*letter))
        .map(|letter| format!("{head}{letter}"))
        .collect();
    for twin in &twins {
        bench.assert_refused("another last letter", twin).await;
    }
    let twice = |name: &str, first: &str| {
        let claims = bench.claims.to_string();
        let doubled = claims.replacen('{', &format!("{{\"{name}\":\"{first}\","), 1);
        bench.forge.sign(&bench.header.to_string(), &doubled)
    };
    let header = bench.header.to_string();
    let doubled_header = header.replacen('{', "{\"alg\":\"EdDSA\",", 1);
    for (what, wrong) in [
        ("trailing dot", format!("{token}.")),
        ("four parts", format!("{token}.x")),
        (
            "an empty part",
            format!("{}..{}.{}", parts[0], parts[1], parts[2]),
        ),
        ("leading dot", format!(".{token}")),
        ("trailing garbage", format!("{token}AAAA")),
        ("padding", format!("{token}=")),
        (
            "padded claims",
            format!("{}.{}==.{}", parts[0], parts[1], parts[2]),
        ),
        (
            "inner space",
            format!("{}. {}.{}", parts[0], parts[1], parts[2]),
        ),
        (
            "inner tab",
            format!("{}.{}.\t{}", parts[0], parts[1], parts[2]),
        ),
        (
            "standard alphabet",
            token.replace('-', "+").replace('_', "/") + "+",
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("signature twice", format!("{token}{}", parts[2])),
        ("percent-encoded", token.replace('.', "%2e")),
        ("tenant twice", twice("tenant", "globex")),
        ("the same tenant twice", twice("tenant", "acme")),
        ("exp twice", twice("exp", "0")),
        (
            "alg twice",
            bench.forge.sign(&doubled_header, &bench.claims.to_string()),
        ),
        (
            "claims with a tail",
            bench.forge.sign(&header, &format!("{} x", bench.claims)),
        ),
        (
            "claims in a list",
            bench.forge.sign(&header, &format!("[{}]", bench.claims)),
        ),
        ("no claims", bench.forge.sign(&header, "")),
        ("deep claims", bench.forge.sign(&header, &"[".repeat(5000))),
        ("malleable signature", malleated(token)),
    ] {
        bench.assert_refused(what, &wrong).await;
    }
    let huge = format!("{}.{}.{}", parts[0], "A".repeat(1 << 20), parts[2]);
    let started = std::time::Instant::now();
    let status = bench.status(&huge).await;
    assert!(matches!(status, 401 | 431), "a token of 1 MiB: {status}");
    assert!(started.elapsed().as_secs() < 5, "and in bounded time");
    assert_eq!(
        bench.world.calls().len(),
        contacted,
        "nothing reached the provider"
    );
}

/// The same signature with the order of the group added to its scalar: equal modulo the order,
/// and refused by RFC 8032 section 5.1.7.
fn malleated(token: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut carry = 0_u16;
    for (byte, add) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes))
}
