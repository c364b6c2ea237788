//! Passing a share of a cap is told once: to the record, the metrics and a webhook.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tollgate_testkit::wait::{eventually, until, until_true};

use crate::harness::{Ask, Site, World, text};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tollgate_loadtest::mock::SeenRequest;

const SECRET: &[u8] = b"canary-webhook-secret-01";

fn secret() -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(SECRET))
}

/// A gateway whose tenant acme may spend 0.01 a day, at 0.001 a call.
async fn world(receiver: &str) -> World {
    World::planned(|plan| {
        plan.tenant("acme").caps =
            "daily_usd = \"0.01\"\nnotify_percent = [80, 50, 100]\n".to_owned();
        plan.gateway = format!(
            "[notifications]\nwebhook = \"{receiver}\"\nsecret_file = \"webhook.secret\"\n\
             [insecure]\nplain_http_webhook = true\n"
        );
        plan.files.insert("webhook.secret".to_owned(), secret());
    })
    .await
}

async fn spend(world: &World, token: &str, calls: usize) {
    for _ in 0..calls {
        let ask = Ask::new("GET", "/github/user").bearer(token);
        assert_eq!(world.send(&ask).await.status, 200);
    }
}

async fn notices_when(site: &Site, count: usize) -> Vec<Value> {
    until(&format!("{count} notices"), || {
        let notices = site.notices("acme");
        (notices.len() >= count).then_some(notices)
    })
    .await
}

fn letters(world: &World) -> Vec<SeenRequest> {
    let mut seen = world.calls();
    seen.retain(|seen| seen.path_and_query.starts_with("/hooks"));
    seen
}

fn shares(notices: &[Value]) -> Vec<u64> {
    notices
        .iter()
        .filter_map(|notice| notice["tollgate.cap.share_percent"].as_u64())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_share_of_a_cap_is_told_once_to_records_metrics_and_webhook() {
    let receiver = crate::harness::start_mock().await;
    let world = world(&format!("{}/hooks/caps", receiver.url())).await;
    let site = world.gateway.site.clone();
    let token = world.token("acme").await;
    spend(&world, &token, 4).await;
    spend(&world, &token, 1).await;
    assert_eq!(shares(&notices_when(&site, 1).await), [50]);
    spend(&world, &token, 3).await;
    assert_eq!(shares(&notices_when(&site, 2).await), [50, 80]);
    spend(&world, &token, 2).await;
    let notices = notices_when(&site, 3).await;
    assert_eq!(shares(&notices), [50, 80, 100]);
    let refused = Ask::new("GET", "/github/user").bearer(&token);
    assert_eq!(world.send(&refused).await.status, 429);
    until_true("three letters", || receiver.seen().len() >= 3).await;
    for (letter, notice) in receiver.seen().iter().zip(&notices) {
        let body: Value = serde_json::from_slice(&letter.body).unwrap();
        assert_eq!(body["type"], "cap.share_reached");
        for field in [
            "tollgate.cap.key",
            "tollgate.cap.share_percent",
            "tollgate.record.id",
        ] {
            assert_eq!(body["data"][field], notice[field]);
        }
        assert_eq!(text(notice, "tollgate.cap.limit_usd"), "0.01");
        let id = letter.header("webhook-id").unwrap();
        assert_eq!(id, text(notice, "tollgate.record.id"));
        let time = letter.header("webhook-timestamp").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
        mac.update(format!("{id}.{time}.").as_bytes());
        mac.update(&letter.body);
        let signature = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(letter.header("webhook-signature").unwrap(), signature);
    }
    let (_, metrics) = world.gateway.admin_get("/metrics").await;
    for percent in [50, 80, 100] {
        let line = format!("tollgate_cap_notices_total{{percent=\"{percent}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert_eq!(receiver.seen().len(), 3);
    assert!(
        letters(&world).is_empty(),
        "nothing of it reached the provider"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_no_longer_fits_gives_notice_that_the_cap_is_reached() {
    let receiver = crate::harness::start_mock().await;
    let world = world(&format!("{}/hooks/caps", receiver.url())).await;
    let token = world.token("acme").await;
    let mut body = crate::harness::chat();
    body["max_completion_tokens"] = json!(100_000);
    let ask = Ask::new("POST", "/openai/v1/chat/completions")
        .bearer(&token)
        .json(&body);
    assert_eq!(world.send(&ask).await.status, 429);
    let notices = notices_when(&world.gateway.site, 1).await;
    assert_eq!(shares(&notices), [100]);
    assert_eq!(text(&notices[0], "tollgate.cap.spent_usd"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_not_taken_holds_up_no_call_and_is_sent_again() {
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = receiver.local_addr().unwrap();
    let world = world(&format!("http://{address}/hooks")).await;
    let token = world.token("acme").await;
    // Nobody answers yet, and calls go on.
    spend(&world, &token, 5).await;
    let mut ids = Vec::new();
    for status in ["500 Internal Server Error", "200 OK"] {
        let (mut letter, _) = receiver.accept().await.unwrap();
        let mut text = String::new();
        while !text.ends_with('}') {
            let mut piece = [0; 4096];
            let length = letter.read(&mut piece).await.unwrap();
            text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        letter.write_all(answer.as_bytes()).await.unwrap();
        let id = text.lines().find(|line| line.starts_with("webhook-id: "));
        ids.push(id.expect("an id").to_owned());
    }
    assert_eq!(ids[0], ids[1], "a repetition is known by its id");
    eventually("both attempts are counted", async || {
        let (_, metrics) = world.gateway.admin_get("/metrics").await;
        ["taken", "failed"].iter().all(|result| {
            metrics.contains(&format!(
                "tollgate_webhook_deliveries_total{{result=\"{result}\"}} 1"
            ))
        })
    })
    .await;
}
