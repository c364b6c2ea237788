//! Where an issuer's keys come from, and how often they are asked for.

use futures_util::future::join_all;
use serde_json::json;
use tollgate_testkit::issuer::{IssuerKey, KeyServer, key_set};

use super::{Cluster, add_issuer, check_error, claims, form, granted, issuer_file};
use crate::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_picked_up_and_a_withdrawn_one_is_refused() {
    let cluster = Cluster::new().await;
    cluster.exchanged(&cluster.token("acme", "bot")).await;
    let new = IssuerKey::es256("k2");
    cluster.server.publish(&key_set(&[&new]));
    granted(&cluster.exchange(&new.sign(&claims("acme", "bot"))).await);
    assert_eq!(cluster.server.asked().len(), 2);
    let old = cluster.exchange(&cluster.token("acme", "bot")).await;
    cluster.is_refused(&old, "subject_key_unknown").await;
    assert_eq!(cluster.server.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_27_made_up_key_ids_cause_no_storm() {
    let cluster = Cluster::new().await;
    cluster.exchanged(&cluster.token("acme", "bot")).await;
    let asks: Vec<_> = (0..200)
        .map(|number| {
            let mut header = cluster.key.header();
            header["kid"] = json!(format!("made-up-{number}"));
            form(&cluster.key.sign_as(&header, &claims("acme", "bot")), "")
        })
        .collect();
    let answers = join_all(asks.iter().map(|ask| cluster.world.send(ask))).await;
    assert!(answers.iter().all(|answer| answer.status == 400));
    assert!(
        cluster.server.asked().len() <= 2,
        "{}",
        cluster.server.asked().len()
    );
    // Whoever has a sound token does not notice.
    cluster.exchanged(&cluster.token("acme", "bot")).await;
    cluster.world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tokens_wait_for_one_fetch() {
    let cluster = Cluster::new().await;
    let ask = form(&cluster.token("acme", "bot"), "");
    let answers = join_all((0..30).map(|_| cluster.world.send(&ask))).await;
    for answer in &answers {
        granted(answer);
    }
    assert_eq!(cluster.server.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_kept_while_their_issuer_is_down() {
    let cluster = Cluster::new().await;
    cluster.exchanged(&cluster.token("acme", "bot")).await;
    cluster.server.fall_silent();
    let unknown = IssuerKey::es256("k2").sign(&claims("acme", "bot"));
    let answer = cluster.exchange(&unknown).await;
    cluster.is_refused(&answer, "subject_key_unknown").await;
    cluster.exchanged(&cluster.token("acme", "bot")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_keys_nothing_is_exchanged() {
    for (status, body) in [
        ("500 Internal Server Error", "{}"),
        ("200 OK", "<html>"),
        ("200 OK", "{}"),
    ] {
        let cluster = Cluster::new().await;
        cluster.server.answer(status, body);
        let answer = cluster.exchange(&cluster.token("acme", "bot")).await;
        let said = "keys are not available";
        check_error(
            &answer,
            503,
            "temporarily_unavailable",
            "issuer_keys_unavailable",
            said,
        );
        assert_eq!(answer.header("retry-after"), Some("2"));
        let record = cluster.world.record_of("_gateway", &answer).await;
        assert_eq!(record["error.type"], "issuer_keys_unavailable");
        cluster.world.assert_no_contact();
    }
    // A redirect is not followed.
    let cluster = Cluster::new().await;
    let elsewhere = KeyServer::start(&key_set(&[&cluster.key])).await;
    let status = format!("302 Found\r\nlocation: {}", elsewhere.url());
    cluster.server.answer(&status, "");
    let answer = cluster.exchange(&cluster.token("acme", "bot")).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_is_followed() {
    let (first, second) = (IssuerKey::es256("k1"), IssuerKey::rs256("k2"));
    let world = World::planned(|plan| {
        add_issuer(plan, "jwks_file = \"jwks.json\"");
        plan.files
            .insert("jwks.json".to_owned(), key_set(&[&first]));
    })
    .await;
    let site = &world.gateway.site;
    let ask = |key: &IssuerKey| form(&key.sign(&claims("acme", "bot")), "");
    granted(&world.send(&ask(&first)).await);
    assert_eq!(world.send(&ask(&second)).await.status, 400);
    site.write_policy("jwks.json", &key_set(&[&second]));
    granted(&world.send(&ask(&second)).await);
    assert_eq!(world.send(&ask(&first)).await.status, 400);
    // A mistake keeps the last good keys.
    site.write_policy("jwks.json", "{");
    granted(&world.send(&ask(&second)).await);
    std::fs::remove_file(site.policies().join("jwks.json")).unwrap();
    granted(&world.send(&ask(&second)).await);
    world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_token_is_shown_to_those_who_want_one() {
    let key = IssuerKey::es256("k1");
    let server = KeyServer::start(&key_set(&[&key])).await;
    let source = format!(
        "jwks_url = \"{}\"\nbearer_token_file = \"own-token\"",
        server.url()
    );
    let world = World::planned(|plan| {
        add_issuer(plan, &source);
        let own = "sk-canary-service-account\n".to_owned();
        plan.files.insert("own-token".to_owned(), own);
    })
    .await;
    granted(
        &world
            .send(&form(&key.sign(&claims("acme", "bot")), ""))
            .await,
    );
    let asked = server.asked();
    let [head] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert!(head.starts_with("GET /keys HTTP/1.1\r\n"), "{head}");
    let shown = "authorization: Bearer sk-canary-service-account\r\n";
    assert!(
        head.to_ascii_lowercase()
            .contains(&shown.to_ascii_lowercase()),
        "{head}"
    );
    assert!(!world.gateway.log().contains("sk-canary-service-account"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_can_be_added_and_taken_away_while_serving() {
    let cluster = Cluster::new().await;
    let token = cluster.token("acme", "bot");
    cluster.exchanged(&token).await;
    let site = &cluster.world.gateway.site;
    let file = site.policies().join("issuers/kubernetes.toml");
    std::fs::remove_file(&file).unwrap();
    tollgate_testkit::wait::eventually("the issuer is gone", async || {
        cluster.exchange(&token).await.status == 400
    })
    .await;
    let source = format!("jwks_url = \"{}\"", cluster.server.url());
    site.write_policy("issuers/kubernetes.toml", &issuer_file(&source));
    tollgate_testkit::wait::eventually("the issuer is back", async || {
        cluster.exchange(&token).await.status == 200
    })
    .await;
}
