//! `tollgate report` over records that a gateway has written.

use serde_json::Value;

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
