//! Elevated actions: for whom they are, what is kept of each use and of each attempt.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate_testkit::raw::Answer;

use crate::harness::{Ask, Dialect, Plan, Refused, World};

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

/// Every file of a tenant's that holds the record.
fn places(world: &World, tenant: &str, id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![world.gateway.site.data().join("audit").join(tenant)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if fs::read_to_string(&path).unwrap().contains(id) {
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
    let found = places(world, tenant, id);
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
