//! Forged, foreign and unmapped tokens: one answer for all of them, a reason in the record, and
//! nothing reaches a provider or an address that a token names.

use serde_json::{Value, json};
use tollgate_testkit::forge::{Forge, unsigned};
use tollgate_testkit::issuer::{IssuerKey, KeyServer, key_set};

use super::{Cluster, claims, form, now};

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

/// Sends each token, and checks that all are refused alike and reach nobody.
async fn all_are_refused(cluster: &Cluster, tokens: Vec<(String, &str)>) {
    let mut bodies = Vec::new();
    for (token, reason) in tokens {
        let answer = cluster.exchange(&token).await;
        cluster.is_refused(&answer, reason).await;
        bodies.push(answer.text());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "an answer tells more than the others");
    cluster.world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn case_25_confused_algorithms_are_not_exchanged() {
    let cluster = Cluster::with_key(IssuerKey::rs256("k1")).await;
    let claims = claims("acme", "bot");
    let header = cluster.key.header();
    let mut tokens = Vec::new();
    for name in ["none", "None", "nOnE"] {
        let head = with(header.clone(), "alg", json!(name)).to_string();
        let bare = unsigned(&head, &claims.to_string());
        tokens.push((format!("{bare}."), "subject_algorithm"));
    }
    // The public key as an HMAC secret, under the algorithm's own name and under the pinned one.
    let hmac = Forge::hmac(cluster.key.jwk().to_string().as_bytes());
    for (name, reason) in [
        ("HS256", "subject_algorithm"),
        ("RS256", "subject_signature"),
    ] {
        let head = with(header.clone(), "alg", json!(name)).to_string();
        tokens.push((hmac.sign(&head, &claims.to_string()), reason));
    }
    let ps256 = with(header.clone(), "alg", json!("PS256"));
    tokens.push((cluster.key.sign_as(&ps256, &claims), "subject_algorithm"));
    let es256 = with(header.clone(), "alg", json!("ES256"));
    tokens.push((cluster.key.sign_as(&es256, &claims), "subject_key_unknown"));
    let list = with(header.clone(), "alg", json!(["RS256"]));
    tokens.push((cluster.key.sign_as(&list, &claims), "subject_malformed"));
    for (name, value) in [("crit", json!(["exp"])), ("b64", json!(false))] {
        let head = with(header.clone(), name, value);
        tokens.push((cluster.key.sign_as(&head, &claims), "subject_malformed"));
    }
    all_are_refused(&cluster, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_26_keys_that_a_token_brings_are_not_looked_at() {
    let cluster = Cluster::new().await;
    let stranger = IssuerKey::es256("k1");
    let trap = KeyServer::start(&key_set(&[&stranger])).await;
    let claims = claims("acme", "bot");
    let head = |name: &str, value: Value| with(stranger.header(), name, value);
    let tokens = [
        head("jwk", stranger.jwk()),
        head("jku", json!(trap.url())),
        head("x5u", json!(trap.url())),
        head("x5c", json!(["AAAA"])),
    ]
    .map(|head| (stranger.sign_as(&head, &claims), "subject_signature"));
    all_are_refused(&cluster, tokens.into()).await;
    assert!(trap.asked().is_empty(), "{:?}", trap.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn case_27_unknown_key_ids_are_refused() {
    let cluster = Cluster::new().await;
    let claims = claims("acme", "bot");
    let head = |id: Value| with(cluster.key.header(), "kid", id);
    let mut tokens: Vec<_> = [
        "k2",
        "../../etc/passwd",
        "' OR 1=1",
        "k1\0",
        "http://127.0.0.1/",
    ]
    .map(|id| {
        (
            cluster.key.sign_as(&head(json!(id)), &claims),
            "subject_key_unknown",
        )
    })
    .into();
    let long = head(json!("k".repeat(8 << 10)));
    tokens.push((cluster.key.sign_as(&long, &claims), "subject_key_unknown"));
    let gigantic = head(json!("k".repeat(20 << 10)));
    tokens.push((cluster.key.sign_as(&gigantic, &claims), "subject_malformed"));
    all_are_refused(&cluster, tokens).await;
    // The first fetch, and one for the first id that was unknown.
    assert!(
        cluster.server.asked().len() <= 2,
        "{:?}",
        cluster.server.asked()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn case_28_and_29_claims_of_a_foreign_token_are_exact() {
    let cluster = Cluster::new().await;
    let sound = claims("acme", "bot");
    let later = now() + 60;
    let mut tokens: Vec<(String, &str)> = [
        (
            "iss",
            json!("https://kubernetes.default.svc"),
            "subject_issuer",
        ),
        ("iss", Value::Null, "subject_issuer"),
        ("iss", json!("tollgate"), "subject_issuer"),
        ("aud", json!("other"), "subject_audience"),
        ("aud", json!(["other"]), "subject_audience"),
        ("aud", Value::Null, "subject_audience"),
        ("exp", json!(now() - 1), "subject_expired"),
        ("exp", Value::Null, "subject_claims"),
        ("exp", json!("9999999999"), "subject_claims"),
        ("iat", Value::Null, "subject_claims"),
        ("iat", json!(later), "subject_not_yet_valid"),
        ("nbf", json!(later), "subject_not_yet_valid"),
        ("cnf", json!({"jkt": "x"}), "subject_claims"),
        ("cnf", json!({"x5t#S256": "A".repeat(43)}), "token_binding"),
    ]
    .into_iter()
    .map(|(name, value, reason)| {
        let changed = with(sound.clone(), name, value);
        (cluster.key.sign(&changed), reason)
    })
    .collect();
    let logout = with(cluster.key.header(), "typ", json!("logout+jwt"));
    tokens.push((cluster.key.sign_as(&logout, &sound), "subject_malformed"));
    // A token in five parts is encrypted, not signed.
    let jwe = format!("{}.AA.AA", cluster.key.sign(&sound));
    tokens.push((jwe, "subject_malformed"));
    all_are_refused(&cluster, tokens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_34_a_foreign_token_has_one_form() {
    let cluster = Cluster::new().await;
    let token = cluster.token("acme", "bot");
    let (message, signature) = token.rsplit_once('.').unwrap();
    let twice = r#"{"iss":"https://kubernetes.default.svc.cluster.local","iss":"x"}"#;
    let duplicate = unsigned(&cluster.key.header().to_string(), twice);
    let tokens = [
        format!("{token}="),
        format!("{token}AA"),
        format!("{message}.%20{signature}"),
        format!("{message}..{signature}"),
        format!("{duplicate}.{signature}"),
        "A".repeat(40 << 10),
        "a.b.c".to_owned(),
    ];
    let mut bodies = Vec::new();
    for token in tokens {
        let answer = cluster.exchange(&token).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        bodies.push(answer.text());
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let mebibyte = cluster.exchange(&"A".repeat(1 << 20)).await;
    assert_eq!(mebibyte.status, 413, "{}", mebibyte.text());
    cluster.world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_stands_for_nobody_is_refused() {
    let cluster = Cluster::new().await;
    let odd = with(
        claims("acme", "bot"),
        "sub",
        json!("system:serviceaccount:acme:../x"),
    );
    let other = with(
        claims("acme", "bot"),
        "sub",
        json!("system:serviceaccount:globex:bot"),
    );
    let tokens = vec![
        (cluster.token("kube-system", "default"), "subject_unmapped"),
        (cluster.token("acme2", "bot"), "subject_unmapped"),
        (cluster.token("both", "bot"), "subject_ambiguous"),
        (cluster.key.sign(&odd), "subject_id_invalid"),
        (cluster.key.sign(&other), "subject_id_invalid"),
        (cluster.token("closed", "bot"), "tenant_unknown"),
        (cluster.token("acme", "locked-out"), "agent_disabled"),
    ];
    all_are_refused(&cluster, tokens).await;
    let metrics = cluster.world.gateway.admin_get("/metrics").await.1;
    let counted = "tollgate_token_exchanges_total{result=\"refused\"} 7";
    assert!(metrics.contains(counted), "{metrics}");
    let sound = form(&cluster.token("acme", "bot"), "");
    assert_eq!(cluster.world.send(&sound).await.status, 200);
}
