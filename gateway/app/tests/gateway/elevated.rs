//! Elevated actions: for whom they are, what is kept of each use and of each attempt.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate_testkit::raw::Answer;
use tollgate_testkit::wait::until;

use crate::harness::{Ask, Dialect, Plan, Refused, Site, World, start_mock};

const RELEASES: &str = "/github/repos/acme/releases";

/// What deploy agents may do.
const DEPLOY: &str = "\n[[elevated]]\nprovider = \"github\"\nmethods = [\"POST\"]\npaths = [\"/repos/*/releases\"]\nagents = [\"deploy-*\"]\n";

fn planned(plan: &mut Plan) {
    plan.tenant("acme").more = DEPLOY.to_owned();
    let elevated = "price_per_call_usd = \"0.001\"\nelevated = true\n";
    plan.provider("github")
        .endpoint("DELETE", "/repos/**", "tool", elevated);
}

async fn send(world: &World, (tenant, agent): (&str, &str), method: &str, path: &str) -> Answer {
    let token = world.gateway.mint(tenant, agent, "t1").await;
    world.send(&Ask::new(method, path).bearer(&token)).await
}

/// Every file of a tenant's that holds the record, once it has its name.
fn places(world: &World, tenant: &str, id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![world.gateway.site.data().join("audit").join(tenant)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_none_or(|end| end != "unfinished")
                && fs::read_to_string(&path).unwrap().contains(id)
            {
                found.push(path);
            }
        }
    }
    found
}

/// The record of an answer, which lies in an object of its own.
async fn own_object(world: &World, (tenant, agent): (&str, &str), answer: &Answer) -> Value {
    let record = world.record_of(tenant, answer).await;
    let id = record["tollgate.record.id"].as_str().unwrap();
    let place = Path::new(agent).join(format!("{id}.json"));
    let found = until("the record has its name", || {
        let found = places(world, tenant, id);
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert!(
        matches!(&found[..], [only] if only.ends_with(&place)),
        "{found:?}"
    );
    record
}

#[tokio::test]
async fn a_use_says_who_did_what_for_which_task_at_which_system_in_an_object_of_its_own() {
    let world = World::planned(planned).await;
    let deploy = ("acme", "deploy-eu");
    let answer = send(&world, deploy, "POST", RELEASES).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = own_object(&world, deploy, &answer).await;
    for (field, value) in [
        ("tollgate.elevated", json!(true)),
        ("tenant.id", json!("acme")),
        ("gen_ai.agent.id", json!("deploy-eu")),
        ("tollgate.task.id", json!("t1")),
        ("http.request.method", json!("POST")),
        ("url.path", json!(RELEASES)),
        ("gen_ai.operation.name", json!("execute_tool")),
        ("gen_ai.provider.name", json!("github")),
        ("server.address", json!(world.mock.addr().to_string())),
        ("tollgate.outcome", json!("completed")),
    ] {
        assert_eq!(record[field], value, "{field}: {record:#}");
    }
    let plain = send(&world, deploy, "POST", "/github/repos/acme/issues").await;
    let record = world.record_of("acme", &plain).await;
    assert_eq!(record["tollgate.elevated"], Value::Null, "{record:#}");
}

#[tokio::test]
async fn an_elevated_action_is_refused_to_whom_no_table_names_and_nothing_is_contacted() {
    let world = World::planned(planned).await;
    for (caller, method, path, why) in [
        (("acme", "bot"), "POST", RELEASES, "not among the agents"),
        (
            ("acme", "deploy-eu"),
            "POST",
            "/github/repos/acme/Releases",
            "a spelling that leave was not given to",
        ),
        (
            ("acme", "deploy-eu"),
            "DELETE",
            RELEASES,
            "marked by the provider, and in no table",
        ),
        (
            ("globex", "deploy-eu"),
            "DELETE",
            RELEASES,
            "a tenant without any table",
        ),
    ] {
        let answer = send(&world, caller, method, path).await;
        assert_eq!(answer.status, 403, "{why}: {}", answer.text());
        Refused::NOT_ALLOWED
            .check_recorded(&world.gateway, &answer, Dialect::Problem, caller.0)
            .await;
        let record = own_object(&world, caller, &answer).await;
        assert_eq!(record["tollgate.refusal.reason"], "elevated_not_granted");
        assert_eq!(record["tollgate.elevated"], true, "{why}");
        assert_eq!(record["gen_ai.provider.name"], "github", "{why}");
    }
    world.assert_no_contact();
    let free = send(&world, ("globex", "bot"), "POST", RELEASES).await;
    assert_eq!(
        free.status, 200,
        "another tenant's table marks nothing here"
    );
}

#[tokio::test]
async fn leave_for_an_elevated_action_alone_opens_no_provider() {
    let world = World::planned(|plan| {
        planned(plan);
        let acme = plan.tenant("acme");
        acme.grants.clear();
        acme.allow("openai", "");
    })
    .await;
    let deploy = ("acme", "deploy-eu");
    let answer = send(&world, deploy, "POST", RELEASES).await;
    assert_eq!(answer.status, 403);
    let record = own_object(&world, deploy, &answer).await;
    assert_eq!(record["tollgate.refusal.reason"], "provider");
    world.assert_no_contact();
}

fn permissions(site: &Site, tenant: &str) -> Value {
    let shown = site.cli_ok(&["tenant", "show", tenant, "--permissions", "--json"], "");
    serde_json::from_str(&shown).unwrap()
}

/// What is shown once the gateway has adopted what the files say.
async fn adopted(site: &Site, tenant: &str) -> Value {
    until("the policy is adopted", || {
        let shown = permissions(site, tenant);
        (shown["adopted"] == true).then_some(shown)
    })
    .await
}

/// Since when an agent may use something elevated, permission by permission.
fn since<'s>(shown: &'s Value, agent: &str) -> Vec<&'s Value> {
    let mut agents = shown["agents"].as_array().unwrap().iter();
    let agent = agents.find(|of| of["agent"] == agent).expect("an agent");
    let elevated = agent["elevated"].as_array().unwrap();
    elevated.iter().map(|of| &of["since"]).collect()
}

#[tokio::test]
async fn permissions_are_shown_with_the_time_since_when_each_holds() {
    let mock = start_mock().await;
    let mut plan = Plan::at(mock.addr());
    planned(&mut plan);
    let site = Site::new();
    plan.write(&site);
    let early = permissions(&site, "acme");
    assert_eq!(
        (&early["adopted"], &early["since"]),
        (&json!(false), &Value::Null)
    );
    let text = site.cli_ok(&["tenant", "show", "acme", "--permissions"], "");
    assert!(
        text.contains("not adopted yet: no gateway has run"),
        "{text}"
    );

    let gateway = site.serve().await;
    let first = permissions(&site, "acme");
    assert_eq!(first["adopted"], true, "{first:#}");
    assert_eq!(first["policy"], first["policy_in_force"]);
    let held = &first["agents"][0];
    assert_eq!(held["agent"], "deploy-*");
    let held = &held["elevated"][0];
    for (field, value) in [
        ("provider", json!("github")),
        ("server", json!(format!("http://{}", mock.addr()))),
        ("methods", json!(["POST"])),
        ("paths", json!(["/repos/*/releases"])),
        ("granted_to", json!("deploy-*")),
        ("since", first["since"].clone()),
    ] {
        assert_eq!(held[field], value, "{field}: {first:#}");
    }
    let nobodys = json!([{ "provider": "github", "methods": ["DELETE"], "path": "/repos/**" }]);
    assert_eq!(first["for_nobody"], nobodys);
    let others = permissions(&site, "globex");
    assert_eq!(others["for_nobody"], nobodys);

    let acme = plan.tenant("acme");
    acme.more.push_str(&DEPLOY.replace("deploy-*", "root"));
    site.write_policy("tenants/acme.toml", &acme.text("acme"));
    let second = adopted(&site, "acme").await;
    assert_ne!(second["since"], first["since"]);
    assert_ne!(second["permissions_sha256"], first["permissions_sha256"]);
    assert_eq!(since(&second, "deploy-*"), [&first["since"]], "it holds on");
    assert_eq!(since(&second, "root"), [&second["since"]]);
    let token = gateway.mint("acme", "root", "t1").await;
    let used = Ask::new("POST", RELEASES)
        .bearer(&token)
        .send(gateway.address)
        .await;
    assert_eq!(used.status, 200, "{}", used.text());

    plan.tenant("globex").caps = "daily_usd = \"7\"\n".to_owned();
    site.write_policy(
        "tenants/globex.toml",
        &plan.tenants["globex"].text("globex"),
    );
    let third = adopted(&site, "acme").await;
    assert_eq!(
        third["since"], second["since"],
        "nothing elevated has changed"
    );
    assert_eq!(third["since_policy"], second["policy"]);
    assert_eq!(adopted(&site, "globex").await["since"], others["since"]);
    drop(gateway);

    plan.tenant("acme").more = DEPLOY.replace("deploy-*", "root");
    site.write_policy("tenants/acme.toml", &plan.tenants["acme"].text("acme"));
    let waiting = permissions(&site, "acme");
    assert_eq!(
        (&waiting["adopted"], &waiting["since"]),
        (&json!(false), &Value::Null)
    );
    let _again = site.serve().await;
    let fourth = permissions(&site, "acme");
    assert_eq!(fourth["adopted"], true);
    assert_eq!(
        since(&fourth, "root"),
        [&second["since"]],
        "through a restart as well"
    );
    assert_ne!(fourth["since"], third["since"]);
}

#[tokio::test]
async fn a_change_of_permissions_stands_in_the_tenants_chain_before_the_first_use() {
    let mock = start_mock().await;
    let mut plan = Plan::at(mock.addr());
    let site = Site::new();
    plan.write(&site);
    let mut gateway = site.serve().await;
    assert_eq!(site.notices("acme"), [] as [Value; 0], "nobody has any yet");

    planned(&mut plan);
    site.write_policy("tenants/acme.toml", &plan.tenants["acme"].text("acme"));
    let shown = adopted(&site, "acme").await;
    let token = gateway.mint("acme", "deploy-eu", "t1").await;
    let ask = Ask::new("POST", RELEASES).bearer(&token);
    let used = ask.send(gateway.address).await;
    assert_eq!(used.status, 200, "{}", used.text());
    site.records_when("acme", 1).await;
    gateway.terminate();
    assert_eq!(gateway.exit_code().await, Some(0));

    let lines = site.lines("acme");
    let [event, record] = &lines[..] else {
        panic!("one change, then one use: {lines:#?}");
    };
    assert_eq!(record["tollgate.elevated"], true, "{record:#}");
    for (field, value) in [
        ("tollgate.event", json!("permissions_changed")),
        ("tenant.id", json!("acme")),
        ("tollgate.policy.version", shown["policy"].clone()),
        ("tollgate.started_at", shown["since"].clone()),
        ("tollgate.permissions.before", json!([])),
        (
            "tollgate.permissions.after_sha256",
            shown["permissions_sha256"].clone(),
        ),
        ("tollgate.permissions.after", {
            let server = format!("http://{}", mock.addr());
            json!([{ "agent": "deploy-*", "provider": "github", "server": server,
                "methods": ["POST"], "paths": ["/repos/*/releases"] }])
        }),
    ] {
        assert_eq!(event[field], value, "{field}: {event:#}");
    }
    assert_eq!(site.lines("globex"), [] as [Value; 0]);
    let verified = site.cli_ok(&["audit", "verify", "--tenant", "acme"], "");
    assert!(verified.contains("all as written"), "{verified}");
}
