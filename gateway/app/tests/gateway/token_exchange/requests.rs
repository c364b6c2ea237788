//! Requests to the endpoint that are no requests for a task token.

use tollgate_testkit::raw::Raw;

use super::{Cluster, call, check_error, form};
use crate::harness::{Ask, Refused, World, text};

#[tokio::test(flavor = "multi_thread")]
async fn case_24_what_asks_for_nothing_is_refused() {
    let cluster = Cluster::new().await;
    let token = cluster.token("acme", "bot");
    let sound = String::from_utf8(form(&token, "").bytes()).unwrap();
    let body = sound.split_once("\r\n\r\n").unwrap().1.to_owned();
    let post = |kind: &str, body: String| {
        let ask = Ask::new("POST", "/oauth2/token");
        ask.header("content-type", kind).body(body)
    };
    let kind = "application/x-www-form-urlencoded";
    let query = Ask::new("POST", &format!("/oauth2/token?{body}"));
    let query = query.header("content-type", kind).body(body.clone());
    for (ask, status, error, code) in [
        (
            Ask::new("GET", "/oauth2/token"),
            405,
            "invalid_request",
            "not_allowed",
        ),
        (
            post("application/json", "{}".to_owned()),
            400,
            "invalid_request",
            "malformed_request",
        ),
        (
            post(kind, String::new()),
            400,
            "invalid_request",
            "malformed_request",
        ),
        (query, 400, "invalid_request", "malformed_request"),
        (
            form(&token, "&task=a&task=b"),
            400,
            "invalid_request",
            "malformed_request",
        ),
        (form("", ""), 400, "invalid_request", "malformed_request"),
        (
            form(&token, "&scope=all"),
            400,
            "invalid_scope",
            "invalid_scope",
        ),
        (
            form(&token, "&resource=https://x"),
            400,
            "invalid_target",
            "invalid_target",
        ),
        (
            post(kind, body.replace("token-exchange", "client_credentials")),
            400,
            "unsupported_grant_type",
            "unsupported_grant_type",
        ),
    ] {
        let answer = cluster.world.send(&ask).await;
        check_error(&answer, status, error, code, "");
        let record = cluster.world.record_of("_gateway", &answer).await;
        assert_eq!(text(&record, "error.type"), code);
    }
    assert!(cluster.server.asked().is_empty());
    cluster.world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let cluster = Cluster::new().await;
    let mut raw = Raw::connect(cluster.world.gateway.address).await;
    raw.send(
        "POST /oauth2/token HTTP/1.1\r\nhost: tollgate\r\ncontent-length: 65537\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n",
    )
    .await;
    let answer = raw.answer().await.expect("an answer without the body");
    check_error(
        &answer,
        413,
        "invalid_request",
        "body_too_large",
        "too large",
    );
    cluster.world.record_of("_gateway", &answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_beside_the_endpoint_are_no_endpoint() {
    let cluster = Cluster::new().await;
    for path in [
        "/oauth2",
        "/oauth2/",
        "/oauth2/token/",
        "/oauth2/introspect",
        "/OAuth2/token",
    ] {
        let answer = cluster.world.send(&Ask::new("POST", path)).await;
        Refused::UNAUTHENTICATED.check(&answer, crate::harness::Dialect::Problem);
    }
    cluster.world.assert_no_contact();
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_strangers_take_no_memory_from_calls() {
    let small = "[limits]\ninspected_body_mib = 1\nbody_memory_mib = 1\n";
    let world = World::planned(|plan| plan.gateway.push_str(small)).await;
    let token = world.token("acme").await;
    let form = format!("grant_type={}", "x".repeat(60_000));
    let (most, last) = form.split_at(form.len() - 1);
    let head = format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n",
        form.len()
    );
    let mut strangers = Vec::new();
    // Half as much again as all bodies of calls may take.
    for _ in 0..26 {
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(format!("{head}{most}")).await;
        strangers.push(raw);
    }
    let answer = call(&world, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for mut raw in strangers {
        raw.send(last).await;
        let answer = raw.answer().await.expect("an answer");
        let code = "unsupported_grant_type";
        check_error(&answer, 400, code, code, "");
    }
}
