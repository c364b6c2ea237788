//! The separation of vault scopes as an auditor sees it, from outside: one tenant's files, mount or
//! role open nothing of another's, and name nothing of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tollgate_testkit::canary::sightings;
use tollgate_testkit::kv2::Kv2Server;
use tollgate_testkit::raw::Answer;

use crate::harness::{Ask, Plan, Site, World, chat, key, start_mock};

const CHAT: &str = "/openai/v1/chat/completions";
const BOTH: [(&str, &str); 2] = [("acme", "globex"), ("globex", "acme")];

async fn call(world: &World, tenant: &str) -> Answer {
    let token = world.token(tenant).await;
    let ask = Ask::new("POST", CHAT).bearer(&token).json(&chat());
    world.send(&ask).await
}

/// A call that got no secret, and reached nobody.
async fn assert_refused(world: &World, tenant: &str) {
    let before = world.calls().len();
    let answer = call(world, tenant).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let code = answer.header("x-tollgate-error");
    assert_eq!(code, Some("credential_unavailable"));
    assert_eq!(world.calls().len(), before, "nobody was contacted");
    let record = world.record_of(tenant, &answer).await;
    assert_eq!(record["tollgate.cost_usd"], "0", "{record:#}");
}

async fn assert_served(world: &World, tenant: &str) {
    let answer = call(world, tenant).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let calls = world.calls();
    let seen = calls.last().unwrap();
    let bearer = format!("Bearer {}", key(tenant, "openai"));
    assert_eq!(seen.header_values("authorization"), [bearer]);
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

fn files_under(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files_under(&entry.unwrap().path(), found);
        }
    } else {
        found.push(path.to_owned());
    }
}

fn decrypt(identity: &Path, file: &Path) -> Result<Vec<u8>, age::DecryptError> {
    let text = fs::read_to_string(identity).unwrap();
    let identity: age::x25519::Identity = text.trim().parse().unwrap();
    age::decrypt(&identity, &fs::read(file).unwrap())
}

/// Everything of the age vault that is one tenant's, in a directory of its own.
fn taken(site: &Site, tenant: &str, to: &Path) {
    for part in [
        format!("vault/{tenant}"),
        format!("keys/vault/{tenant}.key"),
        format!("keys/vault/{tenant}.pub"),
    ] {
        copy(&site.data().join(&part), &to.join(&part));
    }
}

#[tokio::test]
async fn one_tenants_files_decrypt_and_name_nothing_of_anothers() {
    let world = World::planned(|plan| {
        for tenant in ["acme", "globex"] {
            let value = format!("sk-canary-{tenant}-only-3b1d55");
            plan.tenant(tenant)
                .secret(&format!("only_{tenant}"), &value);
        }
    })
    .await;
    let data = world.gateway.site.data();
    for (own, other) in BOTH {
        let alone = TempDir::new().unwrap();
        taken(&world.gateway.site, own, alone.path());
        let identity = alone.path().join(format!("keys/vault/{own}.key"));
        let file = |of: &str| data.join(format!("vault/{of}/openai_key/1.age"));
        assert_eq!(
            decrypt(&identity, &file(own)).unwrap(),
            key(own, "openai").into_bytes()
        );
        assert!(
            decrypt(&identity, &file(other)).is_err(),
            "{own}'s key opens {other}'s file"
        );

        let mut files = Vec::new();
        files_under(alone.path(), &mut files);
        assert!(files.len() >= 9, "{files:?}");
        for path in files {
            let mut text = path.to_string_lossy().into_owned();
            text.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap()));
            assert!(!text.contains(other), "{path:?} names {other}");
            for of in [own, other] {
                let found = sightings(&text, &key(of, "openai"));
                assert!(found.is_empty(), "{path:?}: {found:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_gateway_with_one_tenants_files_serves_that_tenant_alone() {
    let whole = World::new().await;
    for (own, other) in BOTH {
        let mock = start_mock().await;
        let mut plan = Plan::at(mock.addr());
        for tenant in plan.tenants.values_mut() {
            tenant.secrets.clear();
        }
        let site = Site::new();
        plan.write(&site);
        taken(&whole.gateway.site, own, &site.data());
        let gateway = site.serve().await;
        let world = World { gateway, mock };
        assert_served(&world, own).await;
        assert_refused(&world, other).await;
        let listed = site.cli_ok(&["secret", "list", "--tenant", other, "--json"], "");
        assert_eq!(listed.trim(), "[]");
    }
}

async fn without_age(settings: &str) -> World {
    World::planned(|plan| {
        plan.gateway.push_str(settings);
        for tenant in plan.tenants.values_mut() {
            tenant.secrets.clear();
        }
    })
    .await
}

#[tokio::test]
async fn a_gateway_that_may_read_one_mount_serves_that_tenant_alone() {
    for (own, other) in BOTH {
        let world =
            without_age("[vault]\nbackend = \"mounted\"\ndirectory = \"../secrets\"\n").await;
        let mounts = world.gateway.site.root().join("secrets");
        let mount = mounts.join(own);
        fs::create_dir_all(&mount).unwrap();
        fs::write(mount.join("openai_key"), key(own, "openai")).unwrap();
        assert_served(&world, own).await;
        assert_refused(&world, other).await;
        // A link from the other's place to this tenant's is not followed either.
        std::os::unix::fs::symlink(&mount, mounts.join(other)).unwrap();
        assert_refused(&world, other).await;
    }
}

async fn kv2_server() -> Arc<Kv2Server> {
    let server = Kv2Server::start("canary-jwt").await;
    for tenant in ["acme", "globex"] {
        let path = format!("tollgate/{tenant}/openai_key");
        server.put(&path, &key(tenant, "openai"));
    }
    Arc::new(server)
}

fn kv2_settings(server: &Kv2Server, auth: &str) -> String {
    let address = server.url();
    format!(
        "[vault]\nbackend = \"kv2\"\naddress = \"{address}\"\n{auth}\n[insecure]\nplain_http_vault = true\n"
    )
}

#[tokio::test]
async fn a_tenants_secrets_are_asked_for_with_its_own_role_and_no_other() {
    let server = kv2_server().await;
    let auth = "auth = \"kubernetes\"\nservice_account_token_file = \"../jwt\"";
    let world = without_age(&kv2_settings(&server, auth)).await;
    fs::write(world.gateway.site.root().join("jwt"), "canary-jwt\n").unwrap();
    for tenant in ["acme", "globex", "acme", "globex"] {
        assert_served(&world, tenant).await;
    }
    for tenant in ["acme", "globex"] {
        let roles = server.roles_at(&format!("tollgate/{tenant}/"));
        assert_eq!(roles, [Some(format!("tollgate-{tenant}"))].into());
        for record in world.gateway.site.records_when(tenant, 2).await {
            assert_eq!(record["tollgate.credential.version"], 1, "{record:#}");
        }
    }
    assert!(!world.gateway.log().contains("hvs."), "no token in the log");
    assert!(!world.gateway.log().contains("canary-jwt"));
}

#[tokio::test]
async fn a_role_of_one_tenant_is_denied_anothers_secrets_by_the_server() {
    let server = kv2_server().await;
    let auth = "auth = \"token\"\ntoken_file = \"../tokens/{scope}\"";
    let world = without_age(&kv2_settings(&server, auth)).await;
    let tokens = world.gateway.site.root().join("tokens");
    fs::create_dir(&tokens).unwrap();
    for tenant in ["acme", "globex"] {
        fs::write(tokens.join(tenant), server.give_token("tollgate-acme")).unwrap();
    }
    assert_served(&world, "acme").await;
    assert_refused(&world, "globex").await;
    let asked = server.asked().into_iter();
    let others: Vec<_> = asked
        .filter(|asked| asked.path.starts_with("tollgate/globex/"))
        .collect();
    assert!(!others.is_empty() && others.iter().all(|asked| asked.status == 403));
}
