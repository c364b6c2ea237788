//! Case 19 and what else backends of the vault must do when they fail, and when secrets change.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use tollgate_testkit::kv2::{Kv2Server, Mood};
use tollgate_testkit::raw::Answer;
use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, Plan, Site, World, chat, start_mock};

const CHAT: &str = "/openai/v1/chat/completions";
const OLD: &str = "sk-canary-rotated-old-5c01";
const NEW: &str = "sk-canary-rotated-new-9d42";

/// Within which a revoked value must be out of use.
const REVOKED: Duration = Duration::from_secs(1);

async fn planned(settings: &str) -> World {
    World::planned(|plan| {
        plan.gateway.push_str(settings);
        if !settings.is_empty() {
            for tenant in plan.tenants.values_mut() {
                tenant.secrets.clear();
            }
        }
    })
    .await
}

async fn call(world: &World, token: &str) -> Answer {
    let ask = Ask::new("POST", CHAT).bearer(token).json(&chat());
    world.send(&ask).await
}

async fn assert_refused(world: &World, token: &str, code: &str) {
    let before = world.calls().len();
    let answer = call(world, token).await;
    assert!(answer.status >= 500, "{answer:?} {}", answer.text());
    assert_eq!(answer.header("x-tollgate-error"), Some(code));
    assert!(!answer.text().contains("canary"), "{}", answer.text());
    assert_eq!(world.calls().len(), before, "nobody was contacted");
    let record = world.record_of("acme", &answer).await;
    assert_eq!(record["error.type"], code, "{record:#}");
    assert_eq!(record["tollgate.cost_usd"], "0", "{record:#}");
}

/// Calls without a pause while `change` is made, until the key is the new one or, if there is none,
/// calls are refused. Each call bore the old key or the new one; the old one no longer than it may.
async fn assert_changes(world: &World, token: &str, new: Option<&str>, change: impl FnOnce()) {
    assert_eq!(call(world, token).await.status, 200);
    change();
    let changed = Instant::now();
    loop {
        let begun = changed.elapsed();
        let answer = call(world, token).await;
        let calls = world.calls();
        let bearer = calls.last().unwrap().header_values("authorization");
        match answer.status {
            200 if bearer == [format!("Bearer {OLD}")] => {
                assert!(begun <= REVOKED, "the old key was used after {begun:?}");
            }
            200 => {
                assert_eq!(bearer, [format!("Bearer {}", new.expect("no key at all"))]);
                return;
            }
            status => {
                assert!(new.is_none() && status == 503, "{}", answer.text());
                return;
            }
        }
    }
}

#[tokio::test]
async fn case_19_what_cannot_be_decrypted_is_not_sent_and_nothing_else_is() {
    type Spoil = fn(&Path);
    let spoilt: [(&str, Spoil); 4] = [
        ("ciphertext", |data| {
            fs::write(data.join("vault/acme/openai_key/1.age"), "x").unwrap();
        }),
        ("no ciphertext", |data| {
            fs::remove_file(data.join("vault/acme/openai_key/1.age")).unwrap();
        }),
        ("another tenant's key", |data| {
            let keys = data.join("keys/vault");
            fs::copy(keys.join("globex.key"), keys.join("acme.key")).unwrap();
        }),
        ("index", |data| {
            fs::write(data.join("vault/acme/openai_key/index.json"), "{").unwrap();
        }),
    ];
    for (what, spoil) in spoilt {
        let world = planned("").await;
        spoil(&world.gateway.site.data());
        let token = world.token("acme").await;
        assert_refused(&world, &token, "credential_unavailable").await;
        world.assert_no_contact();
        let globex = world.token("globex").await;
        assert_eq!(call(&world, &globex).await.status, 200, "{what}");
    }
}

fn swap(mount: &Path, state: &str, value: Option<&str>) {
    fs::create_dir_all(mount.join(state)).unwrap();
    if let Some(value) = value {
        fs::write(mount.join(state).join("openai_key"), value).unwrap();
    }
    symlink(state, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}

#[tokio::test]
async fn case_19_a_mounted_secret_is_the_old_or_the_new_one_and_gone_within_a_second() {
    let world = planned("[vault]\nbackend = \"mounted\"\ndirectory = \"../secrets\"\n").await;
    let token = world.token("acme").await;
    assert_refused(&world, &token, "credential_unavailable").await;
    let mount = world.gateway.site.root().join("secrets/acme");
    swap(&mount, "..1", Some(OLD));
    symlink("..data/openai_key", mount.join("openai_key")).unwrap();
    assert_changes(&world, &token, Some(NEW), || {
        swap(&mount, "..2", Some(NEW));
    })
    .await;
    swap(&mount, "..3", Some(OLD));
    eventually("the old key again", async || {
        call(&world, &token).await;
        let calls = world.calls();
        calls.last().unwrap().mentions(OLD)
    })
    .await;
    assert_changes(&world, &token, None, || swap(&mount, "..4", None)).await;
    assert_refused(&world, &token, "credential_unavailable").await;
    for unsendable in ["", "sk-canary\r\nx: 1", " sk-canary", "sk-canary\u{fc}"] {
        swap(&mount, "..5", Some(unsendable));
        assert_refused(&world, &token, "credential_invalid").await;
        fs::remove_dir_all(mount.join("..5")).unwrap();
    }
}

async fn kv2() -> (Kv2Server, World, String) {
    let server = Kv2Server::start("canary-jwt").await;
    server.put("tollgate/acme/openai_key", OLD);
    let settings = format!(
        "[vault]\nbackend = \"kv2\"\naddress = \"{}\"\nauth = \"approle\"\nrole_id_file = \"../{{scope}}.role\"\nsecret_id_file = \"../{{scope}}.secret\"\n[insecure]\nplain_http_vault = true\n",
        server.url()
    );
    let world = planned(&settings).await;
    let root = world.gateway.site.root();
    fs::write(root.join("acme.role"), "tollgate-acme").unwrap();
    fs::write(root.join("acme.secret"), "tollgate-acme-secret").unwrap();
    let token = world.token("acme").await;
    (server, world, token)
}

#[tokio::test]
async fn case_19_a_secret_on_a_server_is_the_old_or_the_new_one_and_gone_within_a_second() {
    let (server, world, token) = kv2().await;
    let path = "tollgate/acme/openai_key";
    assert_changes(&world, &token, Some(NEW), || server.put(path, NEW)).await;
    let count = world.calls().len();
    let records = world.gateway.site.records_when("acme", count).await;
    let versions: BTreeSet<_> = records
        .iter()
        .map(|record| record["tollgate.credential.version"].as_u64().unwrap())
        .collect();
    assert_eq!(
        versions,
        [1, 2].into(),
        "each record names the version it used"
    );
    server.put(path, OLD);
    eventually("the old key again", async || {
        call(&world, &token).await;
        let calls = world.calls();
        calls.last().unwrap().mentions(OLD)
    })
    .await;
    assert_changes(&world, &token, None, || server.delete(path)).await;
    assert_refused(&world, &token, "credential_unavailable").await;
}

#[tokio::test]
async fn case_19_a_server_that_is_sealed_or_silent_or_denies_means_no_call() {
    let (server, world, token) = kv2().await;
    for mood in [Mood::Sealed, Mood::Silent] {
        server.set_mood(mood);
        assert_refused(&world, &token, "credential_unavailable").await;
        world.assert_no_contact();
    }
    server.set_mood(Mood::Well);
    fs::remove_file(world.gateway.site.root().join("acme.secret")).unwrap();
    assert_refused(&world, &token, "credential_unavailable").await;
    world.assert_no_contact();
    fs::write(world.gateway.site.root().join("acme.secret"), "wrong").unwrap();
    assert_refused(&world, &token, "credential_unavailable").await;
    world.assert_no_contact();
    drop(server);
    assert_refused(&world, &token, "credential_unavailable").await;
    world.assert_no_contact();
}

#[tokio::test]
async fn a_hot_secret_on_a_server_costs_a_few_reads_a_second_and_not_one_a_call() {
    let (server, world, token) = kv2().await;
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(call(&world, &token).await.status, 200);
    }
    // Half of 750 ms apart, and one more for each end.
    let most = started.elapsed().as_millis() / 375 + 2;
    let reads = server.asked().len();
    assert!(u128::try_from(reads).unwrap() <= most, "{reads} reads");
    assert_eq!(server.logins().len(), 1);
}

const ENVIRONMENT: &str = "[vault]\nbackend = \"environment\"\n";
const ALLOWED: &str = "[insecure]\nenvironment_vault = true\n";

#[tokio::test]
async fn secrets_in_the_environment_are_for_development_only() {
    let mock = start_mock().await;
    let mut plan = Plan::at(mock.addr());
    for tenant in plan.tenants.values_mut() {
        tenant.secrets.clear();
    }
    plan.gateway = ENVIRONMENT.to_owned();
    let site = Site::new();
    plan.write(&site);
    let refused = site.cli(&["serve"], "");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(said.contains("environment_vault = true"), "{said}");

    plan.gateway = format!("{ENVIRONMENT}{ALLOWED}");
    plan.write(&site);
    let variables = [("TOLLGATE_SECRET_ACME_OPENAI_KEY", OLD)];
    let gateway = site.serve_with(&variables).await;
    let world = World { gateway, mock };
    let token = world.token("acme").await;
    assert_eq!(call(&world, &token).await.status, 200);
    assert!(world.only_call().mentions(OLD));
    let globex = world.token("globex").await;
    let answer = call(&world, &globex).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(world.calls().len(), 1);
    assert!(!world.gateway.log().contains("canary"));
}

#[tokio::test]
async fn two_secrets_that_would_share_a_variable_keep_the_gateway_from_starting() {
    let mock = start_mock().await;
    let mut plan = Plan::at(mock.addr());
    plan.gateway = format!("{ENVIRONMENT}{ALLOWED}");
    for tenant in plan.tenants.values_mut() {
        tenant.secrets.clear();
    }
    let acme = plan.tenant("acme");
    acme.credential("my-key", "{ provider = \"openai\" }");
    acme.credential("my_key", "{ provider = \"openai\" }");
    let site = Site::new();
    plan.write(&site);
    for command in ["serve", "check"] {
        let refused = site.cli(&[command], "");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&refused.stdout),
            String::from_utf8_lossy(&refused.stderr)
        );
        assert!(!refused.status.success(), "{command}: {said}");
        assert!(said.contains("TOLLGATE_SECRET_ACME_MY_KEY"), "{said}");
    }
}

#[test]
fn the_command_line_sets_no_secret_that_would_lie_elsewhere() {
    for (settings, place) in [
        (
            "backend = \"mounted\"\n",
            "/var/run/tollgate/secrets/SCOPE/NAME",
        ),
        (
            "backend = \"kv2\"\naddress = \"https://vault.example\"\nauth = \"kubernetes\"\n",
            "https://vault.example at secret/tollgate/{scope}/{name}",
        ),
    ] {
        let site = Site::new();
        site.write_policy("gateway.toml", &format!("[vault]\n{settings}"));
        for verb in ["set", "rotate", "revoke"] {
            let arguments = ["secret", verb, "--tenant", "acme", "--name", "openai_key"];
            let refused = site.cli(&arguments, OLD);
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{said}");
            assert!(said.contains(place), "{said}");
            assert!(!said.contains("canary"), "{said}");
        }
        assert!(!site.data().join("vault").exists(), "nothing was written");
    }
}

#[test]
fn a_secret_that_can_never_be_sent_is_refused_when_it_is_set() {
    let site = Site::new();
    Plan::at("127.0.0.1:9".parse().unwrap()).write(&site);
    let long = "x".repeat(8 * 1024 + 1);
    for value in [
        "",
        "\n",
        "sk-canary\rx",
        "sk-canary\nx",
        "sk-canary\0x",
        " sk-canary",
        "sk-canary ",
        "sk-canary-\u{fc}",
        long.as_str(),
    ] {
        for verb in ["set", "rotate"] {
            let arguments = ["secret", verb, "--tenant", "acme", "--name", "openai_key"];
            let refused = site.cli(&arguments, value);
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{value:?}: {said}");
            assert!(!said.contains("canary"), "{said}");
        }
    }
    let arguments = ["secret", "set", "--tenant", "acme", "--name", "openai_key"];
    let short = site.cli(&arguments, "short");
    let said = String::from_utf8_lossy(&short.stderr).into_owned();
    assert!(short.status.success(), "{said}");
    assert!(
        said.contains("warning: it has fewer than 8 bytes"),
        "{said}"
    );
    let listed = site.cli_ok(&["secret", "list", "--tenant", "acme", "--json"], "");
    assert!(listed.contains("\"version\": 2"), "{listed}");
    assert!(!listed.contains("\"version\": 3"), "{listed}");
}
