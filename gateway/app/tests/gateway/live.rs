//! What a running gateway says of its caps, limits and paces, on the admin API and the command line.

use serde_json::{Value, json};
use tollgate_core::money::PicoUsd;
use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, World, text};

/// The live figures of one tenant once money is seen to go.
async fn busy(world: &World, tenant: &str) -> Value {
    let path = format!("/v1/live?tenant={tenant}");
    let mut last = Value::Null;
    eventually(&format!("the pace of {tenant}"), async || {
        let (status, figures) = world.gateway.admin_read(&path).await;
        assert_eq!(status, 200, "{figures}");
        last = figures;
        let pace = &last["tenants"][0]["caps"][0]["burn"]["last_5_minutes"];
        pace["usd_per_hour"] != "0"
    })
    .await;
    last
}

#[tokio::test]
async fn live_figures_are_those_that_calls_are_held_to() {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.caps = "daily_usd = \"1\"\ntask_usd = \"0.002\"\n".to_owned();
        acme.limits = "requests_per_minute = 600\nconcurrent_requests = 5\n".to_owned();
        acme.more = "[agents.a1]\nmonthly_usd = \"0.5\"\n".to_owned();
    })
    .await;
    let token = world.token("acme").await;
    for _ in 0..2 {
        let ask = Ask::new("GET", "/github/user").bearer(&token);
        assert_eq!(world.send(&ask).await.status, 200);
    }
    let figures = busy(&world, "acme").await;
    let of = &figures["tenants"][0];
    let caps = of["caps"].as_array().unwrap();
    let named: Vec<(&str, [&str; 4])> = caps
        .iter()
        .map(|cap| {
            let figures = ["limit_usd", "settled_usd", "reserved_usd", "remaining_usd"];
            let scope = text(cap, "key").split('/').nth(1).unwrap();
            (scope, figures.map(|figure| text(cap, figure)))
        })
        .collect();
    let expected = [
        ("tenant", ["1", "0.002", "0", "0.998"]),
        ("agent=a1", ["0.5", "0.002", "0", "0.498"]),
        ("task=t1", ["0.002", "0.002", "0", "0"]),
    ];
    assert_eq!(named, expected, "{figures:#}");
    let task = &caps[2];
    assert_eq!(task["burn"]["last_hour"]["reaches_limit"], "reached");
    assert_eq!(task["resets_at"], Value::Null);
    // Watched for less than a minute, hence over a minute: some or all of 0.002 per minute.
    let pace: PicoUsd = text(&caps[0]["burn"]["last_5_minutes"], "usd_per_hour")
        .parse()
        .unwrap();
    let most: PicoUsd = "0.12".parse().unwrap();
    assert!(pace > PicoUsd::ZERO && pace <= most, "{pace}");
    let limits = of["limits"].as_array().unwrap();
    let keys: Vec<&str> = limits.iter().map(|limit| text(limit, "key")).collect();
    let expected = [
        "acme/tenant/requests_per_minute",
        "acme/tenant/concurrent_requests",
    ];
    assert_eq!(keys, expected);
    assert_eq!(limits[1]["left"], 5);

    let (_, all) = world.gateway.admin_read("/v1/live").await;
    assert_eq!(all["tenants"][0]["tenant"], "acme", "the fastest first");
    assert_eq!(all["tenants"][1]["tenant"], "globex");
    let idle = &all["tenants"][1]["caps"][0];
    assert_eq!(
        (
            &idle["settled_usd"],
            &idle["burn"]["last_hour"]["reaches_limit"]
        ),
        (&json!("0"), &json!("never")),
        "nobody else's money"
    );
    let (status, _) = world.gateway.admin_get("/v1/live?tenant=acme").await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn the_command_line_shows_what_the_admin_api_says() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let token = world.token("acme").await;
    let ask = Ask::new("GET", "/github/user").bearer(&token);
    assert_eq!(world.send(&ask).await.status, 200);
    busy(&world, "acme").await;
    let table = site.cli_ok(&["report", "--live", "--tenant", "acme"], "");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("0 calls in flight"), "{table}");
    let row = lines
        .iter()
        .find(|line| line.starts_with("acme/tenant/day:"));
    let cells: Vec<&str> = row.expect("a cap").split_whitespace().collect();
    assert_eq!(cells[1..5], ["100", "0.001", "0", "99.999"], "{table}");
    assert!(!table.contains("globex"), "{table}");
    let json = site.cli_ok(&["report", "--live", "--json"], "");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["tenants"].as_array().unwrap().len(), 2);

    let unknown = site.cli(&["report", "--live", "--tenant", "nobody"], "");
    assert_eq!(unknown.status.code(), Some(1));
    let watched = site.cli(&["report", "--live", "--watch"], "");
    assert_eq!(
        watched.status.code(),
        Some(1),
        "there is no terminal to draw on"
    );
    for wrong in [
        &["--watch"][..],
        &["--live", "--by", "day"],
        &["--admin", "x"],
    ] {
        let told = site.cli(&[&["report"], wrong].concat(), "");
        assert_eq!(told.status.code(), Some(2), "{wrong:?}");
    }
}
