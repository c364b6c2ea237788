//! `tollgate report` over records that a gateway has written.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tollgate_core::money::PicoUsd;

use crate::harness::{Ask, World, chat};

async fn spent() -> World {
    let world = World::new().await;
    for (tenant, calls) in [("acme", 2), ("globex", 1)] {
        let token = world.token(tenant).await;
        for _ in 0..calls {
            let ask = Ask::new("POST", "/openai/v1/chat/completions").bearer(&token);
            assert_eq!(world.send(&ask.json(&chat())).await.status, 200);
        }
        world.gateway.site.records_when(tenant, calls).await;
    }
    world
}

#[tokio::test]
async fn a_report_is_a_table_a_csv_and_json() {
    let world = spent().await;
    let site = &world.gateway.site;
    let table = site.cli_ok(&["report"], "");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("tenant"), "{table}");
    assert!(
        lines[1].starts_with("acme    gpt-4o-mini"),
        "the dearest first: {table}"
    );
    assert!(lines[3].starts_with("total"), "{table}");

    let csv = site.cli_ok(
        &[
            "report", "--by", "tenant", "--sort", "name", "--format", "csv",
        ],
        "",
    );
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows.len(), 3, "{csv}");
    assert!(
        rows[1].contains("acme") && rows[2].contains("globex"),
        "{csv}"
    );

    let json = site.cli_ok(&["report", "--by", "tenant", "--top", "1", "--json"], "");
    let report: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["rows"][0]["tenant"], "acme");
    assert_eq!(report["rows"][0]["calls"], 2);
    assert_eq!(
        (&report["left_out"], &report["total"]["calls"]),
        (&1.into(), &3.into())
    );
}

#[tokio::test]
async fn one_tenants_report_needs_no_other_tenants_data() {
    let world = spent().await;
    let site = &world.gateway.site;
    let whole = site.cli_ok(&["report", "--tenant", "acme"], "");
    let other = site.data().join("audit/globex");
    std::fs::remove_dir_all(&other).unwrap();
    std::fs::write(&other, "not a directory of records").unwrap();
    assert_eq!(site.cli_ok(&["report", "--tenant", "acme"], ""), whole);
    assert!(!whole.contains("globex"), "{whole}");
}

#[tokio::test]
async fn a_report_can_be_cut_by_time() {
    let world = spent().await;
    let site = &world.gateway.site;
    let calls = |arguments: &[&str]| {
        let text = site.cli_ok(&[&["report", "--json"], arguments].concat(), "");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        report["total"]["calls"].as_u64().unwrap()
    };
    assert_eq!(calls(&["--from", "2026-01-01"]), 3);
    assert_eq!(calls(&["--to", "2026-01-01"]), 0);
    let wrong = site.cli(&["report", "--from", "yesterday"], "");
    assert_eq!(wrong.status.code(), Some(1));
}

#[tokio::test]
async fn the_admin_api_gives_the_same_report() {
    let world = spent().await;
    let site = &world.gateway.site;
    let printed = site.cli_ok(&["report", "--by", "tenant", "--json"], "");
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let (status, report) = world.gateway.admin_read("/v1/reports/cost?by=tenant").await;
    assert_eq!((status, report), (200, printed));
    let (status, budgets) = world.gateway.admin_read("/v1/budgets/acme").await;
    assert_eq!(status, 200);
    let day = &budgets["budgets"][0];
    assert_eq!(day["limit_usd"], "100");
    assert_ne!(day["settled_usd"], "0");
    assert_eq!(day["reserved_usd"], "0");
    let (status, _) = world.gateway.admin_get("/v1/budgets/acme").await;
    assert_eq!(status, 401, "balances are for the operator");
}

/// A gateway where globex is at its cap of nothing, and somebody has come without a token.
async fn refused() -> World {
    let world = World::planned(|plan| {
        plan.tenant("globex").caps = "daily_usd = \"0.0000001\"\n".to_owned();
    })
    .await;
    let token = world.token("globex").await;
    let ask = Ask::new("POST", "/openai/v1/chat/completions");
    for _ in 0..2 {
        let ask = ask.clone().bearer(&token).json(&chat());
        assert_eq!(world.send(&ask).await.status, 429);
    }
    assert_eq!(world.send(&ask.json(&chat())).await.status, 401);
    world.assert_no_contact();
    world.gateway.site.records_when("globex", 2).await;
    world.gateway.site.records_when("_gateway", 1).await;
    world
}

#[tokio::test]
async fn refusals_are_reported_with_their_rule_and_what_was_asked() {
    let world = refused().await;
    let site = &world.gateway.site;
    let records = site.records("globex");
    let reserved = records[0]["tollgate.cost.reserved_usd"].as_str();
    let reserved: PicoUsd = reserved.expect("what was asked").parse().unwrap();
    assert!(reserved > PicoUsd::ZERO);
    let asked = PicoUsd::new(reserved.as_pico() * 2).to_string();

    let text = site.cli_ok(&["report", "--refusals", "--json"], "");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["topic"], "refusals");
    let globex = &report["rows"][0];
    assert_eq!(globex["tenant"], "globex");
    assert_eq!(globex["agent"], "a1");
    assert_eq!(globex["refusals"], 2);
    assert_eq!(globex["asked_usd"], *asked);
    let limit = globex["limit"].as_str().expect("a cap");
    assert!(limit.starts_with("globex/tenant/day:"), "{limit}");
    let stranger = &report["rows"][1];
    assert_eq!(
        (&stranger["tenant"], &stranger["refusals"]),
        (&Value::Null, &1.into())
    );

    let (status, same) = world
        .gateway
        .admin_read("/v1/reports/cost?refusals=true")
        .await;
    assert_eq!((status, &same), (200, &report));
    let own = site.cli_ok(&["report", "--refusals", "--tenant", "acme", "--json"], "");
    let own: Value = serde_json::from_str(&own).expect("JSON");
    assert_eq!(
        own["total"]["refusals"], 0,
        "neither another's nor nobody's"
    );
}

#[tokio::test]
async fn a_report_is_filtered_cut_and_written_in_every_form() {
    let world = spent().await;
    let site = &world.gateway.site;
    let report = |arguments: &[&str]| site.cli_ok(&[&["report"], arguments].concat(), "");
    let calls = |arguments: &[&str]| {
        let text = report(&[arguments, &["--json"]].concat());
        let report: Value = serde_json::from_str(&text).expect("JSON");
        report["total"]["calls"].as_u64().unwrap()
    };
    assert_eq!(calls(&["--model", "gpt-4o*"]), 3);
    assert_eq!(calls(&["--model", "o3", "--model", "gpt-*"]), 3);
    assert_eq!(calls(&["--model", "gpt-*", "--agent", "nobody"]), 0);
    assert_eq!(calls(&["--where", "tenant!=acme"]), 1);
    assert_eq!(
        calls(&["--where", "tenant=glo*", "--provider", "openai"]),
        1
    );
    let top = report(&["--by", "tenant", "--top", "1"]);
    assert!(top.contains("\n(1 other) "), "{top}");
    let markdown = report(&["--by", "tenant,operation", "--format", "markdown"]);
    assert!(markdown.contains("\n| acme | chat | 2 |"), "{markdown}");
    let page = report(&["--tenant", "acme", "--format", "html"]);
    assert!(page.starts_with("<!doctype html>") && page.contains("<h1>acme</h1>"));
    assert!(!page.contains("globex"), "{page}");
    for wrong in [
        &["--where", "colour=red"][..],
        &["--where", "model"],
        &["--by", "x"],
    ] {
        let said = site.cli(&[&["report"], wrong].concat(), "");
        assert_eq!(said.status.code(), Some(1), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_copy_of_the_records_gives_the_same_report() {
    let world = spent().await;
    let site = &world.gateway.site;
    let own = site.cli_ok(&["report"], "");
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(site.data().join("audit"))
        .arg(copy.path())
        .status();
    assert!(copied.unwrap().success());
    std::fs::remove_dir_all(site.data().join("audit")).unwrap();
    let dir = copy.path().to_str().unwrap();
    assert_eq!(site.cli_ok(&["report", "--records", dir], ""), own);
    let nothing = site.cli(&["report", "--records", "/nowhere"], "");
    assert_eq!(
        nothing.status.code(),
        Some(1),
        "no records are not no costs"
    );
}

#[tokio::test]
async fn a_line_that_was_tampered_with_is_named() {
    let world = spent().await;
    let site = &world.gateway.site;
    let path = segment_of(&site.data().join("audit/acme"));
    let text = std::fs::read_to_string(&path).unwrap();
    let theirs = text.replacen("\"tenant.id\":\"acme\"", "\"tenant.id\":\"globex\"", 1);
    // What is sealed is read-only; so another file takes its place.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, theirs).unwrap();
    let said = site.cli(&["report"], "");
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name) && said.contains("line 1"), "{said}");
}

fn segment_of(dir: &Path) -> PathBuf {
    let day = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.to_str().unwrap().contains("/date=").then_some(path)
    };
    let day = std::fs::read_dir(dir)
        .unwrap()
        .find_map(day)
        .expect("a day");
    let mut files = std::fs::read_dir(day).unwrap();
    files.next().expect("a segment").unwrap().path()
}
