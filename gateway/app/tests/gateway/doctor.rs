//! `tollgate doctor` on deployments that are in order, and on some that are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;

use crate::harness::{Plan, Site, World, text};

/// What it finds, and its exit code.
fn looked(site: &Site, arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = doctor(site, &[arguments, &["--json"]].concat());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let findings = said["findings"].as_array().unwrap().clone();
    (output.status.code().unwrap(), findings)
}

fn doctor(site: &Site, arguments: &[&str]) -> Output {
    site.cli(&[&["doctor"], arguments].concat(), "")
}

/// Findings of this level, as `area: what`, each of which must say what to do.
fn of(findings: &[Value], level: &str) -> Vec<String> {
    let of_level = findings.iter().filter(|found| found["level"] == level);
    of_level
        .map(|found| {
            assert!(found["advice"].is_string(), "{found:#}");
            let page = crate::doctor::repository(text(found, "docs"));
            assert!(page.exists(), "{found:#}");
            format!("{}: {}", text(found, "area"), text(found, "what"))
        })
        .collect()
}

fn repository(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_in_order_has_no_problem_whether_it_runs_or_not() {
    let mut world = World::new().await;
    let site = world.gateway.site.clone();
    let (code, found) = looked(&site, &["--contact"]);
    assert_eq!(of(&found, "problem"), [] as [&str; 0]);
    assert_eq!(code, 0);
    let says = |found: &[Value], what: &str| {
        assert!(
            found.iter().any(|it| text(it, "what").contains(what)),
            "{what}: {found:#?}"
        );
    };
    says(&found, "runs and is ready");
    says(
        &found,
        &format!(
            "http://{} (anthropic, github, openai) can be reached",
            world.mock.addr()
        ),
    );
    for area in [
        "policy",
        "gateway",
        "listeners",
        "clock",
        "data",
        "store",
        "admins",
        "secrets",
        "prices",
        "destinations",
    ] {
        assert!(found.iter().any(|it| it["area"] == area), "{area}");
    }
    let seen = world.calls();
    assert!(seen.is_empty(), "no request was sent: {seen:#?}");
    // It reads, and leaves no line in anybody's partition.
    assert!(
        site.lines("_operator")
            .iter()
            .all(|line| line["tollgate.admin.action"] == "token.mint")
    );

    let strict = doctor(&site, &["--strict"]);
    let table = String::from_utf8_lossy(&strict.stdout).into_owned();
    let warnings = of(&found, "warning");
    assert_eq!(
        strict.status.code(),
        Some(i32::from(!warnings.is_empty())),
        "{table}"
    );
    assert!(
        table.contains("gateway       ok       runs and is ready"),
        "{table}"
    );
    assert!(table.trim_end().ends_with(" 0 problems"), "{table}");
    assert_eq!(doctor(&site, &["--loudly"]).status.code(), Some(2));

    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));
    let (code, found) = looked(&site, &[]);
    assert_eq!((code, of(&found, "problem").len()), (0, 0), "{found:#?}");
    let warnings = of(&found, "warning");
    assert!(
        warnings
            .iter()
            .any(|it| it.starts_with("gateway: does not run here")),
        "{warnings:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_found_and_named_with_what_to_do() {
    let mut world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.allow("openai", "models = [\"gpt-typo-1\"]\n");
        acme.credential("spare_key", "{ provider = \"openai\" }");
    })
    .await;
    let site = world.gateway.site.clone();
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code().await, Some(0));

    let mut old = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let key = KeyPair::generate().unwrap();
    site.write_policy("tls.crt", &old.self_signed(&key).unwrap().pem());
    site.write_policy("tls.key", &key.serialize_pem());
    // Somebody else's, who answers; and a Redis that nobody runs.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = other.local_addr().unwrap();
    site.write_policy(
        "gateway.toml",
        &format!(
            "listen = \"{listen}\"\nadmin_listen = \"127.0.0.1:0\"\n\
             [tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n\
             [fleet]\nredis = \"single\"\nnodes = [\"127.0.0.1:1\"]\nshared_dir = \"{}\"\n",
            site.data().display()
        ),
    );
    let mode = |path: &str, mode| {
        fs::set_permissions(site.data().join(path), fs::Permissions::from_mode(mode)).unwrap()
    };
    mode("keys/issuer.pem", 0o644);
    mode("keys/admins.json", 0o640);
    fs::write(site.data().join("keys/vault/globex.key"), "spoilt").unwrap();
    let future = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    let journal = fs::File::create(site.data().join("later")).unwrap();
    journal.set_modified(future).unwrap();
    fs::create_dir_all(site.data().join("prices")).unwrap();
    fs::write(site.policies().join("tenants/acme.txt"), "").unwrap();

    let (code, found) = looked(&site, &[]);
    let (problems, warnings) = (of(&found, "problem"), of(&found, "warning"));
    assert_eq!(code, 1);
    for expected in [
        "listeners: somebody answers at 127.0.0.1",
        "fleet: Redis cannot be used",
        "clock: files of the data directory were written 3",
        "keys/issuer.pem (0644)",
        "keys/admins.json (0640)",
        "admins: nobody is let in",
        "secrets: acme/spare_key has no usable secret",
        "secrets: the secret of globex/openai_key cannot be read",
        "tls.crt has run out",
    ] {
        assert!(
            problems.iter().any(|it| it.contains(expected)),
            "{expected}: {problems:#?}"
        );
    }
    for expected in [
        "prices: tenant `acme` may use `gpt-typo-1` of openai",
        "policy: ",
    ] {
        assert!(
            warnings.iter().any(|it| it.contains(expected)),
            "{expected}: {warnings:#?}"
        );
    }

    // A database that is none, and settings that cannot be read.
    fs::write(site.data().join("state.db"), "x".repeat(10_000)).unwrap();
    let (_, found) = looked(&site, &[]);
    let problems = of(&found, "problem");
    assert!(
        problems.iter().any(|it| it.starts_with("store: state.db")),
        "{problems:#?}"
    );
    site.write_policy("gateway.toml", "listen = 1\n");
    let (code, found) = looked(&site, &[]);
    let problems = of(&found, "problem");
    assert_eq!((code, problems.len()), (1, 1), "{problems:#?}");
    assert!(problems[0].contains("gateway.toml:1:10"), "{problems:#?}");
}

#[test]
fn a_machine_on_which_nothing_was_started_is_told_so() {
    let site = Site::new();
    Plan::at("127.0.0.1:1".parse().unwrap()).write(&site);
    fs::remove_dir_all(site.data()).unwrap();
    let (code, found) = looked(&site, &[]);
    assert_eq!(code, 0, "{found:#?}");
    let warnings = of(&found, "warning");
    assert!(
        warnings
            .iter()
            .any(|it| it.contains("no gateway has been started on it")),
        "{warnings:#?}"
    );
    assert!(!site.data().exists(), "nothing was made");
}
