//! A live task token renewed for its own task, and for nothing else.

use futures_util::future::join_all;
use serde_json::json;
use tollgate_testkit::forge::open;

use super::{Cluster, call, check_error, form, granted, now};

#[tokio::test(flavor = "multi_thread")]
async fn a_live_token_is_renewed_for_its_own_task() {
    let cluster = Cluster::new().await;
    let first = cluster.world.token("acme").await;
    let second = cluster.exchanged(&first).await;
    let third = granted(&cluster.world.send(&form(&second, "&task=t1")).await);
    let (_, old) = open(&first);
    for renewed in [&second, &third] {
        let (_, new) = open(renewed);
        for claim in ["iss", "aud", "tenant", "sub", "task", "cnf"] {
            assert_eq!(old[claim], new[claim], "{claim}");
        }
        assert_ne!(old["jti"], new["jti"]);
        assert_eq!(new["exp"].as_i64(), new["iat"].as_i64().map(|at| at + 300));
    }
    cluster.world.assert_no_contact();
    // The predecessor stays good until its own end.
    for token in [&first, &second, &third] {
        assert_eq!(call(&cluster.world, token).await.status, 200);
    }
    assert!(cluster.server.asked().is_empty(), "no issuer is asked");
    let metrics = cluster.world.gateway.admin_get("/metrics").await.1;
    assert!(metrics.contains("tollgate_token_exchanges_total{result=\"renewed\"} 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_renewed_for_another_task() {
    let cluster = Cluster::new().await;
    let token = cluster.world.token("acme").await;
    let answer = cluster.world.send(&form(&token, "&task=t2")).await;
    check_error(
        &answer,
        400,
        "invalid_request",
        "task_not_allowed",
        "the task",
    );
    let record = cluster.world.record_of("acme", &answer).await;
    assert_eq!(record["tollgate.refusal.reason"], "another_task");
    cluster.world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_tokens_are_not_renewed() {
    let cluster = Cluster::new().await;
    let gateway = &cluster.world.gateway;
    let revoked = cluster.world.token("acme").await;
    let id = open(&revoked).1["jti"].clone();
    let what = json!({"kind": "token", "tenant": "acme", "token": id});
    gateway.revoke(&what).await;
    let answer = cluster.exchange(&revoked).await;
    cluster
        .is_refused_in("acme", &answer, "token_revoked")
        .await;

    let (header, mut claims) = open(&cluster.world.token("acme").await);
    let forge = gateway.forge();
    claims["jti"] = json!("never-registered");
    let unregistered = forge.sign(&header.to_string(), &claims.to_string());
    let answer = cluster.exchange(&unregistered).await;
    cluster
        .is_refused_in("acme", &answer, "token_unregistered")
        .await;
    claims["iat"] = json!(now() - 301);
    claims["exp"] = json!(now() - 1);
    let expired = forge.sign(&header.to_string(), &claims.to_string());
    let answer = cluster.exchange(&expired).await;
    cluster.is_refused(&answer, "token_expired").await;
    claims["exp"] = json!(now() + 300);
    let long = forge.sign(&header.to_string(), &claims.to_string());
    let answer = cluster.exchange(&long).await;
    cluster.is_refused(&answer, "token_lifetime").await;
    cluster.world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_complete_task_are_not_renewed() {
    let cluster = Cluster::new().await;
    let token = cluster.world.token("acme").await;
    let renewed = cluster.exchanged(&token).await;
    let what = json!({"kind": "task", "tenant": "acme", "task": "t1"});
    cluster.world.gateway.revoke(&what).await;
    for token in [&token, &renewed] {
        let answer = cluster.exchange(token).await;
        cluster
            .is_refused_in("acme", &answer, "token_revoked")
            .await;
        assert_eq!(call(&cluster.world, token).await.status, 401);
    }
    cluster.world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_renews_in_a_loop_is_slowed_down_and_nobody_else() {
    let cluster = Cluster::new().await;
    let token = cluster.world.token("acme").await;
    let ask = form(&token, "");
    let mut slowed = None;
    // A thousand at once are its burst, and twenty a second come in meanwhile.
    for _round in 0..60 {
        let answers = join_all((0..40).map(|_| cluster.world.send(&ask))).await;
        slowed = answers.into_iter().find(|answer| answer.status != 200);
        if slowed.is_some() {
            break;
        }
    }
    let slowed = slowed.expect("an answer that slows it down");
    check_error(
        &slowed,
        429,
        "temporarily_unavailable",
        "rate_limit_exceeded",
        "too often",
    );
    assert_eq!(slowed.header("retry-after"), Some("1"));
    let record = cluster.world.record_of("acme", &slowed).await;
    assert_eq!(record["tollgate.refusal.reason"], "exchange_pace");
    let other = cluster.world.token("globex").await;
    cluster.exchanged(&other).await;
    cluster.world.assert_no_contact();
    assert_eq!(call(&cluster.world, &token).await.status, 200);
}
