//! Records whose time is over, in a running gateway: gone, and the tenant's chain says so.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_testkit::contract::{completed, now, record_id, subject};
use tollgate_testkit::partition::Partitions;

use crate::harness::{Plan, Site};

/// A data directory with sealed records of two tenants from three days that are long over, some
/// elevated; policy keeps acme's for a day and globex's for good.
fn site(more: &str) -> Arc<Site> {
    let site = Site::new();
    let mut plan = Plan::at(([127, 0, 0, 1], 1).into());
    plan.gateway = more.to_owned();
    plan.tenant("acme").more = "[records]\nretention_days = 1\n".into();
    plan.write(&site);
    let data = site.data();
    let mut written = Partitions::new(&data, "r1");
    for n in 0..45_u32 {
        for tenant in ["acme", "globex"] {
            let mut subject = subject(record_id(n), tenant, "bot");
            subject.started_at = now().plus(Duration::from_secs(u64::from(n / 15) * 86_400));
            subject.elevated = n % 10 == 3;
            written.call(&subject, &completed(i128::from(n)));
            if n % 15 == 14 {
                written.seal(&tenant.parse().unwrap());
            }
        }
    }
    for path in files(&data, "audit").keys() {
        fs::set_permissions(data.join(path), Permissions::from_mode(0o444)).unwrap();
    }
    fs::create_dir_all(data.join("keys")).unwrap();
    let key = tollgate_core::identity::new_private_key(&[7; 32]);
    let path = data.join("keys/audit.key");
    fs::write(&path, key.as_bytes()).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    site
}

/// Every file below a directory, by its path.
fn files(data: &Path, below: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![below.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(data.join(&dir)).into_iter().flatten() {
            let entry = entry.unwrap();
            let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                dirs.push(path);
            } else {
                found.insert(path, fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

/// Those of them that hold records of the days in question.
fn old(data: &Path, tenant: &str) -> Vec<String> {
    let files = files(data, &format!("audit/{tenant}")).into_keys();
    let old = |path: &String| path.contains("/2026/11/") || path.contains("date=2026-11-");
    files
        .filter(|path| old(path) && !path.contains("date=2026-11-29"))
        .filter(|path| path.contains("/r1-") || path.contains("/bot/"))
        .collect()
}

fn purge(site: &Site, more: &[&str]) -> Value {
    let asked = [&["audit", "purge", "--json"], more].concat();
    serde_json::from_str(&site.cli_ok(&asked, "")).unwrap()
}

fn verified(site: &Site) -> String {
    site.cli_ok(&["audit", "verify"], "")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_keeps_no_longer_is_gone_and_the_chain_names_it() {
    let site = site("");
    let data = site.data();
    let gateway = site.serve().await;
    let before = files(&data, "audit/globex");
    let (acme, kept) = (old(&data, "acme"), verified(&site));
    assert!(kept.contains("all as written"), "{kept}");
    let due = |purged: &Value| {
        let due = &purged["tenants"][0];
        assert_eq!(due["tenant"], "acme");
        assert_eq!(due["error"], Value::Null, "{purged:#}");
        (
            due["records"].clone(),
            due["files"].clone(),
            due["waiting_files"].clone(),
        )
    };
    let expected = (json!(45), json!(acme.len()), json!(0));
    assert_eq!(due(&purge(&site, &["--dry-run"])), expected);
    assert_eq!(old(&data, "acme"), acme, "a dry run changes nothing");

    assert_eq!(due(&purge(&site, &[])), expected);
    assert_eq!(old(&data, "acme"), Vec::<String>::new());
    assert_eq!(files(&data, "audit/globex"), before);
    assert_eq!(gateway.metric("tollgate_records_purged_total").await, 45);
    let lines = site.lines("acme");
    let tombstone = lines
        .iter()
        .find(|line| line["tollgate.event"] == "records_purged");
    let tombstone = tombstone.expect("a tombstone");
    assert_eq!(tombstone["tollgate.purge.records"], 45);
    assert_eq!(tombstone["tollgate.purge.ranges"][0]["replica"], "r1");
    assert_eq!(tombstone["tollgate.purge.ranges"][0]["last"], 45);
    let shown = verified(&site);
    assert!(shown.contains("all as written"), "{shown}");
    assert!(shown.contains("    1 to 45: purged\n"), "{shown}");
    assert!(shown.contains("replica r1: 0 records\n"), "{shown}");

    let out = site.root().join("export").display().to_string();
    site.cli_ok(&["audit", "export", "--tenant", "acme", "--out", &out], "");
    let shown = site.cli_ok(&["audit", "verify", "--records", &out], "");
    assert!(shown.contains("all as written"), "{shown}");
    assert_eq!(
        due(&purge(&site, &["--tenant", "acme"])),
        (json!(0), json!(0), json!(0))
    );
    let done = site.lines("_operator");
    let done = done
        .iter()
        .filter(|line| line["tollgate.admin.action"] == "records.purge");
    assert!(done.count() >= 2, "every purge is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_purge_and_only_what_policy_says() {
    let site = site("");
    let data = site.data();
    let gateway = site.serve().await;
    let before = files(&data, "audit/acme");
    for (role, name) in [("auditor", "alice"), ("minter", "mia")] {
        let added = [
            "admin", "add", "--role", role, "--tenant", "acme", "--name", name,
        ];
        let credential = site.cli_ok(&added, "");
        let variables = [("TOLLGATE_ADMIN_TOKEN", credential.trim())];
        let refused = site.cli_with(&["audit", "purge", "--tenant", "acme"], &variables, "");
        assert_eq!(refused.status.code(), Some(1), "{role}");
    }
    let ask = async |body: Value| {
        let (status, told) = gateway.admin_post("/v1/audit/purge", &body).await;
        (status, told["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(
        ask(json!({"tenant": "nobody"})).await,
        (404, "tenant_unknown".into())
    );
    assert_eq!(
        ask(json!({"tenant": "../x"})).await,
        (422, "invalid_value".into())
    );
    assert_eq!(
        ask(json!({"before": "2026-12-01"})).await,
        (400, "malformed_request".into())
    );
    let (status, told) = gateway
        .admin_post("/v1/audit/purge", &json!({"tenant": "globex"}))
        .await;
    assert_eq!((status, &told["tenants"][0]["before"]), (200, &Value::Null));
    let after = files(&data, "audit/acme");
    assert!(
        before
            .iter()
            .all(|(path, text)| after.get(path) == Some(text))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_touched_or_what_waits_for_a_store_is_not_purged() {
    let nobody = "[insecure]\nplain_http_record_store = true\n[records.store]\nurl = \
                  \"s3://records/\"\nregion = \"eu-central-1\"\nendpoint = \"http://127.0.0.1:1\"\n";
    let waiting = site(nobody);
    let variables = [
        ("AWS_ACCESS_KEY_ID", "canary"),
        ("AWS_SECRET_ACCESS_KEY", "sk-canary-store"),
    ];
    let gateway = waiting.serve_with(&variables).await;
    let there = old(&waiting.data(), "acme");
    let purged = purge(&waiting, &[]);
    assert_eq!(purged["tenants"][0]["records"], 0);
    assert_eq!(purged["tenants"][0]["waiting_files"], there.len());
    assert_eq!(old(&waiting.data(), "acme"), there);
    drop(gateway);

    let touched = site("");
    let data = touched.data();
    let there = old(&data, "acme");
    let path = there.iter().find(|path| path.ends_with(".jsonl")).unwrap();
    let text = String::from_utf8(fs::read(data.join(path)).unwrap()).unwrap();
    fs::remove_file(data.join(path)).unwrap();
    fs::write(
        data.join(path),
        text.replacen("gpt-5-mini", "gpt-5-nano", 1),
    )
    .unwrap();
    fs::set_permissions(data.join(path), Permissions::from_mode(0o444)).unwrap();
    let _gateway = touched.serve().await;
    let refused = touched.cli(&["audit", "purge"], "");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("acme: 1 findings; `tollgate audit verify` lists them"),
        "{said}"
    );
    assert_eq!(old(&data, "acme"), there);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_purges_the_chain_holds_and_the_next_purge_ends_it() {
    let site = site("");
    for _ in 0..5 {
        let mut gateway = site.serve().await;
        let asked = Arc::clone(&site);
        let purging = tokio::task::spawn_blocking(move || asked.cli(&["audit", "purge"], ""));
        gateway.kill();
        purging.await.unwrap();
        let shown = site.cli(&["audit", "verify"], "");
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("all as written"), "{shown}");
    }
    let _gateway = site.serve().await;
    purge(&site, &[]);
    assert_eq!(old(&site.data(), "acme"), Vec::<String>::new());
    assert!(verified(&site).contains("all as written"));
}

#[test]
fn without_a_gateway_nothing_is_purged_and_the_command_says_why() {
    let site = site("");
    let refused = site.cli(&["audit", "purge"], "");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("no gateway runs on"), "{said}");
    assert!(!old(&site.data(), "acme").is_empty());
}
