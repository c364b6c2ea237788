//! `tollgate serve`: starting, saying so, and coming to rest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_testkit::raw::Raw;
use tollgate_testkit::wait::{until, within};

use crate::harness::{Ask, Plan, Site, World, chat, outcome};

/// A streamed chat completion that does what `steering` says.
fn streamed(steering: &str) -> Value {
    let mut body = chat();
    body["stream"] = true.into();
    body["user"] = steering.into();
    body
}

async fn open_stream(world: &World, steering: &str) -> Raw {
    let token = world.token("acme").await;
    let ask = Ask::new("POST", "/openai/v1/chat/completions").bearer(&token);
    let mut raw = Raw::connect(world.gateway.address).await;
    raw.send(ask.json(&streamed(steering)).bytes()).await;
    raw.read_until(b"data: ").await;
    raw
}

#[tokio::test]
async fn everything_it_makes_is_for_its_user_alone() {
    let world = World::new().await;
    let data = world.gateway.site.data();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for key in ["keys/issuer.pem", "keys/admin.token", "keys/vault/acme.key"] {
        assert_eq!(mode(&data.join(key)), 0o600, "{key}");
    }
    let announced = fs::read_to_string(data.join("admin.addr")).unwrap();
    assert_eq!(announced.trim(), world.gateway.admin.to_string());
    let (status, ready) = world.gateway.admin_get("/readyz").await;
    assert_eq!((status, ready.as_str()), (200, "{\"status\":\"ready\"}"));
}

#[tokio::test]
async fn a_gateway_that_cannot_start_says_why_and_ends_with_one() {
    let world = World::new().await;
    let refused = |site: &Site, said: &str| {
        let output = site.cli(&["serve"], "");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(output.stdout.is_empty(), "it never said that it is ready");
        assert!(stderr.contains(said), "{said}: {stderr}");
    };
    refused(&world.gateway.site, "is in use by another process");

    let site = Site::new();
    let plan = Plan::at("127.0.0.1:1".parse().unwrap());
    plan.write(&site);
    let taken = world.gateway.address;
    site.write_policy(
        "gateway.toml",
        &format!("listen = \"{taken}\"\nadmin_listen = \"127.0.0.1:0\"\n"),
    );
    refused(&site, &taken.to_string());
    let taken = world.gateway.admin;
    site.write_policy(
        "gateway.toml",
        &format!("listen = \"127.0.0.1:0\"\nadmin_listen = \"{taken}\"\n"),
    );
    refused(&site, &taken.to_string());
    site.write_policy("tenants/acme.toml", "[tenant]\nid = \"acme\"\nspeed = 9\n");
    refused(&site, "tenants/acme.toml:3:1");
    assert!(!site.data().join("admin.addr").exists());
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once_when_told_to() {
    let mut world = World::new().await;
    // A client that keeps its connection must not hold the gateway up.
    let token = world.token("acme").await;
    let ask = Ask::new("POST", "/openai/v1/chat/completions")
        .bearer(&token)
        .json(&chat());
    let mut kept = Raw::connect(world.gateway.address).await;
    assert_eq!(ask.send_on(&mut kept).await.status, 200);
    let started = Instant::now();
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let site = &world.gateway.site;
    assert!(
        !site.data().join("admin.addr").exists(),
        "it no longer says where it is"
    );
    assert_eq!(site.records("acme").len(), 1, "its records are on the disk");
}

#[tokio::test]
async fn while_calls_drain_it_is_not_ready_and_takes_no_more() {
    let mut world = World::new().await;
    let mut stream = open_stream(&world, "mock-chunks-4 mock-hold-after-2").await;
    world.gateway.terminate();
    let gateway = &world.gateway;
    let draining = within("the gateway says that it drains", async {
        loop {
            let (status, ready) = gateway.admin_get("/readyz").await;
            if status == 503 {
                return ready;
            }
        }
    })
    .await;
    let draining: Value = serde_json::from_str(&draining).expect("JSON");
    assert_eq!(draining["missing"], json!(["draining"]));
    let address = gateway.address;
    until("new connections are refused", || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    })
    .await;
    world.mock.release();
    let rest = stream.rest().await;
    assert!(
        String::from_utf8_lossy(&rest).contains("[DONE]"),
        "the stream came to its end"
    );
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let records = world.gateway.site.records("acme");
    assert_eq!(
        records.iter().map(outcome).collect::<Vec<_>>(),
        ["completed"]
    );
}

#[tokio::test]
async fn calls_that_outlast_the_drain_are_cut_and_settled() {
    let mut world = World::planned(|plan| plan.gateway.push_str("drain_seconds = 1\n")).await;
    let mut stream = open_stream(&world, "mock-chunks-4 mock-stall-after-2").await;
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    stream.rest().await;
    let site = world.gateway.site.clone();
    let records = site.records("acme");
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_ne!(
        outcome(&records[0]),
        "interrupted",
        "it was cut in order, not by a crash"
    );
    let again = site.serve().await;
    let (_, budgets) = again.admin_read("/v1/budgets/acme").await;
    let day = &budgets["budgets"][0];
    assert_eq!(day["reserved_usd"], "0", "{budgets}");
    assert_eq!(
        day["settled_usd"], records[0]["tollgate.cost_usd"],
        "{budgets}"
    );
}

#[tokio::test]
async fn tokens_live_on_across_a_restart() {
    let mut world = World::new().await;
    let token = world.token("acme").await;
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let gateway = world.gateway.site.serve().await;
    let ask = Ask::new("POST", "/openai/v1/chat/completions").bearer(&token);
    assert_eq!(ask.json(&chat()).send(gateway.address).await.status, 200);
}
