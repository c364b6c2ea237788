//! A whole gateway in front of a store: what it writes arrives, whatever happens to either.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::Answer;
use tollgate_testkit::wait::eventually;

use super::sql::duckdb;
use super::{Object, S3};
use crate::harness::{Ask, Dialect, Gateway, Plan, Refused, Site, World, chat, start_mock, text};

/// Segments are sealed soon, so that tests need not wait for a minute.
const SOON: &str = "[records]\nsegment_seconds = 1\n";

/// The usual set-up, copying to `s3`, with changes.
async fn world(s3: &S3, change: impl FnOnce(&mut Plan)) -> World {
    let mock = start_mock().await;
    let mut plan = Plan::at(mock.addr());
    let site = Site::new();
    plan.gateway = format!("{SOON}{}", s3.settings());
    site.secrets.watch(s3.secret());
    change(&mut plan);
    plan.write(&site);
    let gateway = site.serve_with(&s3.variables()).await;
    World { gateway, mock }
}

async fn ask(world: &World, token: &str) -> Answer {
    let ask = Ask::new("POST", "/openai/v1/chat/completions").bearer(token);
    world.send(&ask.json(&chat())).await
}

/// Makes calls of a tenant, each of which must succeed.
async fn calls(world: &World, tenant: &str, count: usize) {
    let token = world.token(tenant).await;
    for _ in 0..count {
        let answer = ask(world, &token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Every sealed file below `audit/` in the data directory, by name.
fn sealed(site: &Site) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    look(&site.data(), "audit", &mut found);
    found
}

fn look(root: &Path, below: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else {
        return;
    };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{below}/{}", entry.file_name().to_str().unwrap());
        match entry.metadata() {
            Ok(met) if met.is_dir() => look(root, &name, found),
            Ok(met) if met.permissions().readonly() && !name.ends_with(".unfinished") => {
                found.insert(name, fs::read(entry.path()).unwrap());
            }
            _ => {}
        }
    }
}

/// Waits until these tenants' records are sealed and all that is sealed is in the store, and
/// fails unless it is there exactly once, as it lies here. Returns what is there.
async fn all_arrived(gateway: &Gateway, s3: &mut S3, expected: &[(&str, usize)]) -> Vec<Object> {
    let mut there = Vec::new();
    let mut here = BTreeMap::new();
    eventually("everything has arrived", async || {
        here = sealed(&gateway.site);
        there = s3.objects();
        let records = |tenant: &str| {
            let prefix = format!("audit/{tenant}/");
            let files = here
                .iter()
                .filter(|(name, _)| name.starts_with(&prefix) && !name.contains("/checkpoints/"));
            files
                .map(|(_, text)| text.iter().filter(|byte| **byte == b'\n').count())
                .sum::<usize>()
        };
        expected
            .iter()
            .all(|(tenant, count)| records(tenant) >= *count)
            && there.len() >= here.len()
            && gateway.site.data().join("audit").exists()
            && here == sealed(&gateway.site)
    })
    .await;
    assert_same(&there, &here);
    there
}

#[track_caller]
fn assert_same(there: &[Object], here: &BTreeMap<String, Vec<u8>>) {
    let names: Vec<&String> = there.iter().map(|object| &object.name).collect();
    assert_eq!(names, here.keys().collect::<Vec<_>>(), "each exactly once");
    for object in there {
        assert!(here[&object.name] == object.body, "{}", object.name);
    }
}

const LAG: &str = "tollgate_outbox_oldest_seconds{destination=\"object_store\"}";

#[tokio::test(flavor = "multi_thread")]
async fn each_tenants_records_arrive_under_its_own_prefix_and_locked_as_its_policy_says() {
    let mut s3 = S3::start(true);
    let world = world(&s3, |plan| {
        plan.gateway
            .push_str("retention_days = 7\nlock = \"governance\"\n");
        plan.tenant("acme").more =
            "[records]\nretention_days = 400\nlock = \"compliance\"\n".into();
    })
    .await;
    calls(&world, "acme", 3).await;
    calls(&world, "globex", 2).await;
    let there = all_arrived(&world.gateway, &mut s3, &[("acme", 3), ("globex", 2)]).await;
    for object in &there {
        let partition = object.name.split('/').nth(1).unwrap();
        let mode = object.lock.as_ref().map(|(mode, _)| mode.as_str());
        let expected = match partition {
            "acme" => Some("COMPLIANCE"),
            "globex" => None,
            "_operator" => Some("GOVERNANCE"),
            _ => panic!("{}", object.name),
        };
        assert_eq!(mode, expected, "{}", object.name);
        for line in object
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let line: Value = serde_json::from_slice(line).unwrap();
            if line["tollgate.event"].is_null() && !line["tenant.id"].is_null() {
                assert_eq!(line["tenant.id"], partition, "{line:#}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_the_end_is_sealed_and_copied_before_the_process_ends() {
    let mut s3 = S3::start(false);
    let mut world = world(&s3, |plan| {
        plan.gateway = plan
            .gateway
            .replace("segment_seconds = 1", "segment_seconds = 3600");
    })
    .await;
    calls(&world, "acme", 3).await;
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let there = s3.objects();
    assert!(
        there
            .iter()
            .any(|object| object.name.starts_with("audit/acme/date="))
    );
    assert_same(&there, &sealed(&world.gateway.site));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_while_it_copies_everything_is_there_exactly_once() {
    let mut s3 = S3::start(false);
    let mut world = world(&s3, |plan| {
        // Each record an object of its own: much to copy.
        plan.gateway = plan
            .gateway
            .replace(SOON, &format!("{SOON}layout = \"objects\"\n"));
    })
    .await;
    for _ in 0..4 {
        calls(&world, "acme", 15).await;
        world.gateway.kill();
        let site = world.gateway.site.clone();
        world.gateway = site.serve_with(&s3.variables()).await;
    }
    let there = all_arrived(&world.gateway, &mut s3, &[("acme", 60)]).await;
    assert!(there.iter().all(|object| !object.name.contains('~')));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_costs_lag_and_nothing_else() {
    let mut s3 = S3::start(false);
    s3.down();
    let world = world(&s3, |_| {}).await;
    calls(&world, "acme", 3).await;
    let gateway = &world.gateway;
    eventually("it is behind, and has tried", async || {
        gateway.metric(LAG).await >= 2
            && gateway.metric("tollgate_record_store_failures_total").await >= 2
    })
    .await;
    calls(&world, "globex", 2).await;
    assert_eq!(gateway.metric("tollgate_records_shipped_total").await, 0);
    s3.up();
    all_arrived(gateway, &mut s3, &[("acme", 3), ("globex", 2)]).await;
    eventually("nothing lags behind", async || {
        gateway.metric(LAG).await == 0
    })
    .await;
    assert_eq!(
        gateway
            .metric("tollgate_record_store_conflicts_total")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn case_86_when_too_much_waits_calls_are_refused_before_contact_until_the_store_is_back() {
    let mut s3 = S3::start(false);
    s3.down();
    let world = world(&s3, |plan| {
        plan.gateway = plan
            .gateway
            .replace(SOON, &format!("{SOON}max_waiting_mib = 1\n"));
    })
    .await;
    let gateway = &world.gateway;
    let token = world.token("acme").await;
    // Long paths make long records.
    let long = format!("/openai/v1/{}", "x".repeat(6000));
    let fill = Ask::new("GET", &long).bearer(&token);
    eventually("too much waits", async || {
        for _ in 0..25 {
            world.send(&fill).await;
        }
        gateway.admin_get("/readyz").await.0 == 503
    })
    .await;
    let (_, why) = gateway.admin_get("/readyz").await;
    assert!(why.contains("records_backlog"), "{why}");
    let answer = ask(&world, &token).await;
    Refused::LEDGER_UNAVAILABLE.check(&answer, Dialect::OpenAi);
    world.assert_no_contact();
    s3.up();
    eventually("calls go again", async || {
        ask(&world, &token).await.status == 200
    })
    .await;
    eventually("it is ready", async || {
        gateway.admin_get("/readyz").await.0 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_duckdb_sums_in_a_store_is_what_the_report_says() {
    let target = tempfile::tempdir().unwrap();
    let store = target.path().join("copy");
    let mut world = World::planned(|plan| {
        let url = store.display();
        plan.gateway =
            format!("{SOON}[records.store]\nurl = \"file://{url}\"\nform = \"parquet\"\n");
    })
    .await;
    calls(&world, "acme", 3).await;
    calls(&world, "globex", 2).await;
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let report = world
        .gateway
        .site
        .cli_ok(&["report", "--by", "tenant", "--json"], "");
    let report: Value = serde_json::from_str(&report).unwrap();
    let read = duckdb("parquet", &store);
    for (tenant, count) in [("acme", 3), ("globex", 2)] {
        let of_tenant = |rows: &[Value]| {
            let row = rows.iter().find(|row| row["tenant"] == tenant);
            row.expect("a row").clone()
        };
        let reported = of_tenant(report["rows"].as_array().unwrap());
        let summed = of_tenant(&read);
        let amount = |row: &Value, name: &str| text(row, name).parse::<PicoUsd>().unwrap();
        assert_eq!(amount(&summed, "cost"), amount(&reported, "cost_usd"));
        assert!(amount(&summed, "cost") > PicoUsd::ZERO);
        assert_eq!(summed["calls"], count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_checks_and_exports_read_the_store_by_themselves() {
    let mut s3 = S3::start(false);
    let mut world = world(&s3, |_| {}).await;
    calls(&world, "acme", 3).await;
    calls(&world, "globex", 2).await;
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let site = &world.gateway.site;
    let variables = s3.variables().map(|(name, value)| (name, value.to_owned()));
    let there = |arguments: &[&str]| {
        let variables = variables.each_ref().map(|(name, value)| (*name, &**value));
        let arguments = [arguments, &["--from-store"]].concat();
        let output = site.cli_with(&arguments, &variables, "");
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text, said)
    };
    let reports = ["report", "--by", "tenant,model", "--json"];
    let (code, reported, said) = there(&reports);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(reported, site.cli_ok(&reports, ""));
    let (code, verified, said) = there(&["audit", "verify"]);
    assert_eq!(code, Some(0), "{verified}{said}");
    assert!(verified.contains("all as written"), "{verified}");

    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("export").display().to_string();
    let export = ["audit", "export", "--tenant", "acme", "--out", &out];
    assert_eq!(there(&export).0, Some(0));
    let verified = site.cli_ok(&["audit", "verify", "--records", &out], "");
    assert!(
        verified.ends_with("3 records in 1 partitions: all as written\n"),
        "{verified}"
    );

    let segment = |object: &&Object| object.name.contains("audit/acme/date=");
    let victim = s3.objects().iter().find(segment).unwrap().clone();
    assert_eq!(s3.delete(&victim), None);
    let (code, verified, _) = there(&["audit", "verify", "--tenant", "acme"]);
    assert_eq!(code, Some(1), "{verified}");
    assert!(verified.contains("! truncated, replica "), "{verified}");
    s3.down();
    let (code, _, said) = there(&reports);
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot be read"), "{said}");
}
