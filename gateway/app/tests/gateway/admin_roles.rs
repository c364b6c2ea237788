//! Who may do what on the admin listener, and the record of it, against the real binary.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tollgate_testkit::raw::{Raw, request};
use tollgate_testkit::wait::{until, until_true};

use crate::harness::{Gateway, Site, World};

/// Everything that can be asked about a tenant, and who may ask about their own.
const ASKED: &[(&str, &str, &str, &[&str])] = &[
    (
        "POST",
        "/v1/tokens",
        r#"{"tenant":"TENANT","agent":"a1","task":"t1"}"#,
        &["minter"],
    ),
    (
        "POST",
        "/v1/tokens/revoke",
        r#"{"kind":"token","tenant":"TENANT","token":"j1"}"#,
        &["minter"],
    ),
    (
        "POST",
        "/v1/tokens/revoke",
        r#"{"kind":"task","tenant":"TENANT","task":"t9"}"#,
        &["minter"],
    ),
    (
        "POST",
        "/v1/tokens/revoke",
        r#"{"kind":"agent","tenant":"TENANT","agent":"a9"}"#,
        &["minter"],
    ),
    (
        "POST",
        "/v1/tokens/revoke",
        r#"{"kind":"tenant","tenant":"TENANT"}"#,
        &["minter"],
    ),
    (
        "POST",
        "/v1/tasks/complete",
        r#"{"tenant":"TENANT","task":"t8"}"#,
        &["minter"],
    ),
    ("GET", "/v1/budgets/TENANT", "", &["auditor"]),
    ("GET", "/v1/live?tenant=TENANT", "", &["auditor"]),
    ("GET", "/v1/reports/cost?tenant=TENANT", "", &["auditor"]),
    ("GET", "/v1/tenants/TENANT", "", &["auditor"]),
];

/// A credential, made by the command line.
fn added(site: &Site, name: &str, role: &[&str]) -> String {
    let asked = [&["admin", "add", "--name", name, "--role"], role].concat();
    site.cli_ok(&asked, "").trim_end().to_owned()
}

/// What is answered to `who`, as JSON if it is.
async fn ask(gateway: &Gateway, who: &str, target: &str, body: &str) -> (u16, Value) {
    ask_with(gateway, who, target, body, "application/json").await
}

async fn ask_with(
    gateway: &Gateway,
    who: &str,
    target: &str,
    body: &str,
    kind: &str,
) -> (u16, Value) {
    let bearer = format!("Bearer {who}");
    let headers = [
        ("host", "admin"),
        ("authorization", bearer.as_str()),
        ("content-type", kind),
    ];
    let mut raw = Raw::connect(gateway.admin).await;
    raw.send(request(target, &headers, body.as_bytes())).await;
    let answer = raw.answer().await.expect("an answer of the admin API");
    let text = answer.text();
    (
        answer.status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// Actions in a partition, as soon as `count` are there: who, what, whose, and how it ended.
async fn actions(site: &Site, partition: &str, count: usize) -> Vec<[String; 4]> {
    let found = until(&format!("{count} actions in {partition}"), || {
        let mut lines = site.lines(partition);
        lines.retain(|line| line["tollgate.event"] == "admin_action");
        (lines.len() >= count).then_some(lines)
    })
    .await;
    let fields = [
        "tollgate.admin.name",
        "tollgate.admin.action",
        "tenant.id",
        "tollgate.outcome",
    ];
    let words = |line: &Value| fields.map(|field| line[field].as_str().unwrap_or("").to_owned());
    found.iter().map(words).collect()
}

/// Every file under a directory that holds one of `words`.
fn files_with(directory: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, words));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            if words.iter().any(|word| text.contains(word)) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_role_opens_what_it_is_for_and_only_for_its_tenants() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let credentials = [
        ("operator", added(site, "olga", &["operator"])),
        (
            "auditor",
            added(site, "alice", &["auditor", "--tenant", "acme"]),
        ),
        (
            "minter",
            added(site, "mia", &["minter", "--tenant", "acme"]),
        ),
    ];
    for (role, credential) in &credentials {
        for (method, path, body, roles) in ASKED {
            for tenant in ["acme", "globex", "nobody"] {
                let target = format!("{method} {}", path.replace("TENANT", tenant));
                let body = body.replace("TENANT", tenant);
                let (status, told) = ask(&world.gateway, credential, &target, &body).await;
                let reaches = *role == "operator" || (roles.contains(role) && tenant == "acme");
                let what = format!("{role}: {target} {body}: {status} {told}");
                if !reaches {
                    assert_eq!(
                        (status, &told["code"]),
                        (403, &json!("forbidden")),
                        "{what}"
                    );
                } else if tenant != "nobody" {
                    assert!(matches!(status, 200 | 201), "{what}");
                }
            }
        }
        let listed = ask(&world.gateway, credential, "GET /v1/tenants", "").await;
        let expected = match *role {
            "operator" => (200, json!({"tenants": ["acme", "globex"]})),
            "auditor" => (200, json!({"tenants": ["acme"]})),
            _ => (403, listed.1.clone()),
        };
        assert_eq!(listed, expected, "{role}");
        let (status, told) = ask(&world.gateway, credential, "GET /v1/audit/key", "").await;
        let published = fs::read_to_string(site.data().join("keys/audit.pub")).unwrap();
        let told = (status, told["public_key"].as_str());
        match *role {
            "minter" => assert_eq!(told, (403, None)),
            _ => assert_eq!(told, (200, Some(&*published)), "{role}"),
        }
    }
    world.assert_no_contact();
}

#[tokio::test]
async fn credentials_are_kept_as_hashes_and_end_at_once_when_they_are_removed() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let auditor = added(
        site,
        "alice",
        &["auditor", "--tenant", "acme", "--tenant", "globex"],
    );
    assert!(
        auditor.starts_with("tga_") && auditor.len() == 68,
        "{auditor}"
    );
    let read = "GET /v1/budgets/globex";
    assert_eq!(ask(&world.gateway, &auditor, read, "").await.0, 200);
    assert_eq!(files_with(&site.data(), &[&auditor]), Vec::<String>::new());
    assert!(!world.gateway.log().contains(&auditor));

    let listed: Value =
        serde_json::from_str(&site.cli_ok(&["admin", "list", "--json"], "")).unwrap();
    assert_eq!(listed[1]["name"], "alice");
    assert_eq!(listed[1]["tenants"], json!(["acme", "globex"]));
    let taken = site.cli(
        &["admin", "add", "--name", "alice", "--role", "operator"],
        "",
    );
    assert_eq!(taken.status.code(), Some(1), "a name is one person's");

    site.cli_ok(&["admin", "remove", "--name", "alice"], "");
    let (status, told) = ask(&world.gateway, &auditor, read, "").await;
    assert_eq!(
        (status, &told["code"]),
        (401, &json!("admin_credential_required"))
    );
    let again = site.cli(&["admin", "remove", "--name", "alice"], "");
    assert_eq!(again.status.code(), Some(1));
}

#[tokio::test]
async fn the_operator_token_of_the_first_start_can_be_moved_away_and_revoked() {
    let mut world = World::new().await;
    let site = world.gateway.site.clone();
    let kept = site.data().join("keys/admin.token");
    let token = std::fs::read_to_string(&kept).unwrap().trim().to_owned();
    // As an installation from before there was a file of credentials.
    world.gateway.kill();
    std::fs::remove_file(site.data().join("keys/admins.json")).unwrap();
    let gateway = site.serve().await;
    assert_eq!(ask(&gateway, &token, "GET /v1/tenants", "").await.0, 200);
    assert_eq!(
        files_with(&site.data(), &[&token]),
        [kept.display().to_string()],
        "the hash is enough for the gateway"
    );
    std::fs::rename(&kept, site.root().join("put-away")).unwrap();
    assert_eq!(ask(&gateway, &token, "GET /v1/tenants", "").await.0, 200);
    site.cli_ok(&["admin", "remove", "--name", "bootstrap"], "");
    assert_eq!(ask(&gateway, &token, "GET /v1/tenants", "").await.0, 401);
}

#[tokio::test]
async fn a_spoilt_file_of_credentials_lets_nobody_in_and_stops_no_call() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let operator = added(site, "olga", &["operator"]);
    let token = world.token("acme").await;
    let path = site.data().join("keys/admins.json");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    let (status, told) = ask(&world.gateway, &operator, "GET /v1/tenants", "").await;
    assert_eq!(
        (status, &told["code"]),
        (503, &json!("credentials_unavailable"))
    );
    let said = || world.gateway.log().contains("nobody is let in");
    until_true("the log says so", said).await;
    let (status, ready) = world.gateway.admin_get("/readyz").await;
    assert_eq!(
        (status, ready.contains("admin_credentials")),
        (200, true),
        "{ready}"
    );
    let call = crate::harness::Ask::new("GET", "/github/user").bearer(&token);
    assert_eq!(world.send(&call).await.status, 200);
    std::fs::write(&path, &good).unwrap();
    assert_eq!(
        ask(&world.gateway, &operator, "GET /v1/tenants", "")
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn what_was_done_is_on_record_after_kill_9_in_the_partition_it_belongs_to() {
    let mut world = World::new().await;
    let site = world.gateway.site.clone();
    let operator = added(&site, "olga", &["operator"]);
    let minter = added(&site, "mia", &["minter", "--tenant", "acme"]);
    let mint = r#"{"tenant":"acme","agent":"a1","task":"t1"}"#;
    let (_, minted) = ask(&world.gateway, &minter, "POST /v1/tokens", mint).await;
    let foreign = mint.replace("acme", "globex");
    ask(&world.gateway, &minter, "POST /v1/tokens", &foreign).await;
    ask(&world.gateway, &operator, "GET /v1/budgets/acme", "").await;
    ask(&world.gateway, &operator, "GET /v1/reports/cost", "").await;
    let complete = r#"{"tenant":"acme","task":"t1"}"#;
    let (status, _) = ask(
        &world.gateway,
        &operator,
        "POST /v1/tasks/complete",
        complete,
    )
    .await;
    assert_eq!(status, 200);
    world.gateway.kill();

    let _again = site.serve().await;
    let done = actions(&site, "_operator", 4).await;
    let expected = [
        ["mia", "token.mint", "globex", "denied"],
        ["olga", "budget.read", "acme", "done"],
        ["olga", "report.read", "*", "done"],
        ["olga", "task.complete", "acme", "done"],
    ];
    assert_eq!(done, expected.map(|line| line.map(str::to_owned)));
    let own = actions(&site, "acme", 1).await;
    assert_eq!(
        own,
        [["mia", "token.mint", "acme", "done"].map(str::to_owned)]
    );
    let line = &site.notices("acme")[0];
    assert_eq!(line["tollgate.token.id"], minted["jti"]);
    assert_eq!(line["client.address"], "127.0.0.1");
    assert_eq!(line["tollgate.seq"], 1, "it is part of the tenant's chain");
    assert!(
        site.lines("globex").is_empty(),
        "nobody writes into a foreign partition"
    );

    let token = minted["token"].as_str().unwrap();
    let audit = site.data().join("audit");
    let shown = files_with(&audit, &[&operator, &minter, token]);
    assert_eq!(
        shown,
        Vec::<String>::new(),
        "no record holds a credential or a token"
    );
    let report = site.cli_ok(&["report", "--by", "tenant"], "");
    assert!(!report.contains("_operator"), "{report}");
}

#[tokio::test]
async fn case_94_a_task_token_opens_nothing_on_the_admin_listener() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for (method, path, body, _) in ASKED {
        let target = format!("{method} {}", path.replace("TENANT", "acme"));
        let body = body.replace("TENANT", "acme");
        let (status, told) = ask(&world.gateway, &token, &target, &body).await;
        assert_eq!(
            (status, &told["code"]),
            (401, &json!("admin_credential_required")),
            "{target}"
        );
    }
    let form = format!("token={token}");
    let kind = "application/x-www-form-urlencoded";
    for target in ["POST /v1/introspect", "POST /v1/revoke"] {
        assert_eq!(
            ask_with(&world.gateway, &token, target, &form, kind)
                .await
                .0,
            401
        );
    }
    assert_eq!(
        ask(&world.gateway, &token, "POST /v1/explain", "{}")
            .await
            .0,
        401
    );
}

#[tokio::test]
async fn case_74_names_with_dots_or_line_breaks_stay_out_and_one_action_stays_one_line() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let operator = added(site, "olga", &["operator"]);
    let auditor = added(site, "alice", &["auditor", "--tenant", "acme"]);
    for name in [
        "..",
        "../globex",
        "acme\n{\"tenant.id\":\"globex\"}",
        "acme\u{2028}x",
        "_operator",
    ] {
        let tenant = json!({"tenant": name, "agent": "a1", "task": "t1"}).to_string();
        let task =
            json!({"tenant": "acme", "agent": "a1", "task": format!("..{name}")}).to_string();
        for body in [tenant, task] {
            let (status, _) = ask(&world.gateway, &operator, "POST /v1/tokens", &body).await;
            assert_eq!(status, 422, "{body}");
        }
        let escaped: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for (who, denied) in [(&operator, 404), (&auditor, 403)] {
            for path in ["/v1/budgets/", "/v1/tenants/"] {
                let target = format!("GET {path}{escaped}");
                assert_eq!(
                    ask(&world.gateway, who, &target, "").await.0,
                    denied,
                    "{target}"
                );
            }
        }
        let target = format!("GET /v1/reports/cost?tenant={escaped}");
        assert_eq!(
            ask(&world.gateway, &auditor, &target, "").await.0,
            403,
            "{target}"
        );
        let output = site.cli(&["admin", "add", "--role", "operator", "--name", name], "");
        assert_eq!(output.status.code(), Some(2), "{name:?}");
    }
    let done = actions(site, "_operator", 25).await;
    assert_eq!(done.len(), 25, "one action, one line");
    assert!(done.iter().all(|line| line[2] == "*"), "{done:#?}");
    assert!(site.lines("globex").is_empty());
    assert!(site.lines("acme").is_empty());
}

#[tokio::test]
async fn oauth_clients_ask_about_tokens_and_end_them_in_their_own_forms() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let minter = added(site, "mia", &["minter", "--tenant", "acme"]);
    let (own, foreign) = (world.token("acme").await, world.token("globex").await);
    let kind = "application/x-www-form-urlencoded";
    let form = async |target: &str, token: &str| {
        let body = format!("token={token}&token_type_hint=access_token");
        ask_with(&world.gateway, &minter, target, &body, kind).await
    };
    let (status, told) = form("POST /v1/introspect", &own).await;
    assert_eq!(
        (status, &told["active"], &told["tenant"]),
        (200, &json!(true), &json!("acme"))
    );
    let none = form("POST /v1/introspect", &foreign).await;
    assert_eq!(none, (200, json!({"active": false})));
    for token in [own.as_str(), own.as_str(), foreign.as_str(), "none"] {
        assert_eq!(form("POST /v1/revoke", token).await.0, 200);
    }
    let calls = async |token: &str| {
        let call = crate::harness::Ask::new("GET", "/github/user").bearer(token);
        world.send(&call).await.status
    };
    assert_eq!((calls(&own).await, calls(&foreign).await), (401, 200));
    assert_eq!(
        form("POST /v1/introspect", &own).await.1,
        json!({"active": false})
    );
}

#[tokio::test]
async fn a_credential_is_described_by_its_binding_and_never_by_its_value() {
    let world = World::new().await;
    let auditor = added(
        &world.gateway.site,
        "alice",
        &["auditor", "--tenant", "acme"],
    );
    let (status, shown) = ask(&world.gateway, &auditor, "GET /v1/tenants/acme", "").await;
    assert_eq!(status, 200);
    let github = shown["credentials"].as_array().unwrap().iter();
    let github = github
        .clone()
        .find(|one| one["name"] == "github_token")
        .unwrap();
    assert_eq!(github["binding"]["port"], world.mock.addr().port());
    assert_eq!(github["binding"]["place"]["name"], "authorization");
    assert_eq!(shown["daily_usd"], "100");
    assert!(!shown.to_string().contains("sk-canary"), "{shown}");
    let (status, document) = world.gateway.admin_get("/openapi.json").await;
    assert_eq!((status, document.starts_with("{")), (200, true));
}
