//! Answers that end before they are whole: by the client, by the provider, by nobody's wish.

use serde_json::json;
use tollgate_testkit::raw::Raw;
use tollgate_testkit::recorder::Recorder;
use tollgate_testkit::wait::until_true;

use crate::harness::{
    Ask, Dialect, Plan, Refused, Site, World, chat, cost, message, outcome, text,
};

const CHAT: &str = "/openai/v1/chat/completions";

fn streaming(mut body: serde_json::Value) -> serde_json::Value {
    body["stream"] = json!(true);
    body
}

#[tokio::test]
async fn hang_up_mid_stream_still_yields_the_exact_usage() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for (path, body, usd) in [
        (CHAT, chat(), "0.00045"),
        ("/anthropic/v1/messages", message(), "0.0105"),
    ] {
        let mut body = streaming(body);
        body["max_tokens"] = json!(4000);
        let target = format!("{path}?mock=usage-1000-500,chunks-30,hold-after-5");
        let ask = Ask::new("POST", &target).bearer(&token).json(&body);
        let mut raw = Raw::connect(world.gateway.address).await;
        raw.send(ask.bytes()).await;
        let (_, headers) = raw.head().await.expect("a head");
        raw.read_until(b"\n\n").await;
        drop(raw);
        world.gateway.left_alone().await;
        world.mock.release();
        let id = &headers
            .iter()
            .find(|(name, _)| name == "x-tollgate-request-id")
            .unwrap()
            .1;
        let record = world.gateway.site.record("acme", id).await;
        world.mock.close_gate();
        assert_eq!(outcome(&record), "client_gone", "{record:#}");
        assert_eq!(
            text(&record, "tollgate.usage.source"),
            "exact",
            "{record:#}"
        );
        assert_eq!(cost(&record), usd, "{record:#}");
    }
}

#[tokio::test]
async fn hang_up_before_the_answer_is_billed_too() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let target = format!("{CHAT}?mock=usage-100-50,hold");
    let ask = Ask::new("POST", &target).bearer(&token).json(&chat());
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(ask.bytes()).await;
    world.mock.wait_for(1).await;
    drop(raw);
    world.gateway.left_alone().await;
    world.mock.release();
    let records = world.gateway.site.records_when("acme", 1).await;
    assert_eq!(records.len(), 1);
    assert_eq!(outcome(&records[0]), "client_gone", "{:#}", records[0]);
    assert_ne!(cost(&records[0]), "0", "{:#}", records[0]);
}

#[tokio::test]
async fn a_provider_that_dies_mid_answer_is_seen_by_the_client_and_estimated() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for (path, body) in [(CHAT, chat()), ("/anthropic/v1/messages", message())] {
        for words in ["chunks-30,hangup-after-5", "chunks-30,hangup-after-1"] {
            let ask = Ask::new("POST", &format!("{path}?mock={words}"))
                .bearer(&token)
                .json(&streaming(body.clone()));
            let answer = world.send(&ask).await;
            assert_eq!(answer.status, 200);
            assert!(!answer.whole, "the cut must be visible: {}", answer.text());
            let record = world.record_of("acme", &answer).await;
            assert_eq!(outcome(&record), "upstream_failed", "{record:#}");
            assert_eq!(
                text(&record, "tollgate.usage.source"),
                "estimated",
                "{record:#}"
            );
            assert_ne!(cost(&record), "0", "never free: {record:#}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_reports_no_usage_is_estimated_and_never_free() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for body in [chat(), streaming(chat())] {
        let ask = Ask::new("POST", &format!("{CHAT}?mock=no-usage"))
            .bearer(&token)
            .json(&body);
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200);
        let record = world.record_of("acme", &answer).await;
        assert_eq!(
            text(&record, "tollgate.usage.source"),
            "estimated",
            "{record:#}"
        );
        assert_ne!(cost(&record), "0", "{record:#}");
    }
}

#[tokio::test]
async fn a_provider_that_hangs_up_without_an_answer_is_502_in_each_dialect() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let refused = Refused::bad_gateway("upstream_failed");
    for (ask, dialect) in [
        (
            Ask::new("POST", &format!("{CHAT}?mock=hangup")).json(&chat()),
            Dialect::OpenAi,
        ),
        (
            Ask::new("POST", "/anthropic/v1/messages?mock=hangup").json(&message()),
            Dialect::Anthropic,
        ),
        (
            Ask::new("GET", "/github/user?mock=hangup"),
            Dialect::Problem,
        ),
    ] {
        let answer = world.send(&ask.bearer(&token)).await;
        refused.check(&answer, dialect);
        let record = world.record_of("acme", &answer).await;
        assert_eq!(outcome(&record), "upstream_failed", "{record:#}");
    }
}

#[tokio::test]
async fn a_provider_that_nobody_serves_is_502_in_each_dialect_and_free() {
    let gone = Recorder::start("").await.address();
    let site = Site::new();
    Plan::at(gone).write(&site);
    let gateway = site.serve().await;
    let token = gateway.mint("acme", "a1", "t1").await;
    let refused = Refused::bad_gateway("upstream_unreachable");
    for (ask, dialect) in [
        (Ask::new("POST", CHAT).json(&chat()), Dialect::OpenAi),
        (
            Ask::new("POST", "/anthropic/v1/messages").json(&message()),
            Dialect::Anthropic,
        ),
        (Ask::new("GET", "/github/user"), Dialect::Problem),
    ] {
        let answer = ask.bearer(&token).send(gateway.address).await;
        refused.check(&answer, dialect);
        let id = answer.header("x-tollgate-request-id").unwrap();
        let record = site.record("acme", id).await;
        assert_eq!(cost(&record), "0", "nothing was sent: {record:#}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_searched_for_secrets_is_withheld() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for body in [chat(), streaming(chat())] {
        let ask = Ask::new("POST", &format!("{CHAT}?mock=gzip,usage-100-50"))
            .bearer(&token)
            .header("accept-encoding", "gzip")
            .json(&body);
        let answer = world.send(&ask).await;
        Refused::bad_gateway("answer_withheld").check(&answer, Dialect::OpenAi);
        let record = world.record_of("acme", &answer).await;
        assert_ne!(
            cost(&record),
            "0",
            "the provider bills it all the same: {record:#}"
        );
        let seen = world.calls().pop().unwrap();
        let coding = seen.header_values("accept-encoding");
        assert!(coding.is_empty() || coding == ["identity"], "{coding:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_connection_open_can_go_on_after_any_refusal() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let mut raw = Raw::connect(world.gateway.address).await;
    for (ask, status) in [
        (Ask::new("POST", CHAT).json(&chat()), 401),
        (Ask::new("GET", "/openai/v1/nowhere").bearer(&token), 403),
        (Ask::new("POST", CHAT).bearer(&token).body("{"), 400),
        (Ask::new("POST", CHAT).bearer(&token).json(&chat()), 200),
        (Ask::new("GET", "/openai/v1/models").bearer(&token), 200),
    ] {
        assert_eq!(ask.send_on(&mut raw).await.status, status);
    }
    until_true("all records", || {
        world.gateway.site.records("acme").len() == 4
    })
    .await;
}
