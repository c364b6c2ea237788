//! `tollgate token` and `tollgate task` against a running gateway.

use serde_json::Value;

use crate::harness::{Ask, Site, World, chat};

fn json(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.cli_ok(arguments, "")).expect("JSON")
}

async fn calls_with(world: &World, token: &str) -> u16 {
    let ask = Ask::new("POST", "/openai/v1/chat/completions").bearer(token);
    world.send(&ask.json(&chat())).await.status
}

fn mint(site: &Site, agent: &str, task: &str) -> String {
    let asked = [
        "token", "mint", "--tenant", "acme", "--agent", agent, "--task", task,
    ];
    site.cli_ok(&asked, "").trim_end().to_owned()
}

#[tokio::test]
async fn a_minted_token_opens_until_it_is_revoked() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let token = mint(site, "a1", "t1");
    assert_eq!(calls_with(&world, &token).await, 200);

    let told = json(site, &["token", "inspect", &token, "--json"]);
    assert_eq!(told["active"], true);
    assert_eq!(
        (&told["tenant"], &told["sub"]),
        (&"acme".into(), &"a1".into())
    );
    let shown = site.cli_ok(&["token", "inspect", "-"], &token);
    assert!(
        shown.starts_with("state       active\ntenant      acme\n"),
        "{shown}"
    );

    let ended = json(site, &["token", "revoke", "--token", &token, "--json"]);
    assert_eq!(ended["revoked"], 1);
    assert_eq!(calls_with(&world, &token).await, 401);
    let shown = site.cli_ok(&["token", "inspect", &token], "");
    assert!(
        shown.starts_with("state       not active: token_revoked\n"),
        "{shown}"
    );
}

#[tokio::test]
async fn agents_tasks_and_tenants_can_be_revoked_whole() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let revoke = |which: &[&str]| {
        let asked = [&["token", "revoke", "--tenant", "acme", "--json"], which].concat();
        json(site, &asked)["revoked"].as_u64().unwrap()
    };
    let (one, two, three) = (
        mint(site, "a1", "t1"),
        mint(site, "a2", "t1"),
        mint(site, "a2", "t2"),
    );
    let other = world.token("globex").await;
    assert_eq!(revoke(&["--agent", "a1"]), 1);
    assert_eq!(calls_with(&world, &one).await, 401);
    assert_eq!(calls_with(&world, &two).await, 200);
    assert_eq!(
        calls_with(&world, &mint(site, "a1", "t1")).await,
        200,
        "later ones are good"
    );
    assert_eq!(revoke(&["--task", "t1"]), 2);
    assert_eq!(calls_with(&world, &two).await, 401);
    assert_eq!(calls_with(&world, &three).await, 200);
    assert_eq!(revoke(&[]), 1);
    assert_eq!(calls_with(&world, &three).await, 401);
    assert_eq!(
        calls_with(&world, &other).await,
        200,
        "another tenant is not concerned"
    );
}

#[tokio::test]
async fn a_complete_task_gets_no_more_tokens() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let token = mint(site, "a1", "t1");
    site.cli_ok(
        &["task", "complete", "--tenant", "acme", "--task", "t1"],
        "",
    );
    assert_eq!(calls_with(&world, &token).await, 401);
    let asked = [
        "token", "mint", "--tenant", "acme", "--agent", "a1", "--task", "t1",
    ];
    let refused = site.cli(&asked, "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stdout.is_empty(), "no data where there is none");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("this task has been completed"), "{said}");
}

#[tokio::test]
async fn what_the_gateway_refuses_ends_with_one_and_bad_usage_with_two() {
    let world = World::new().await;
    let site = &world.gateway.site;
    let mint = ["token", "mint", "--agent", "a1", "--task", "t1", "--tenant"];
    for (more, code, said) in [
        (
            &["nobody"] as &[&str],
            1,
            "no policy file defines this tenant",
        ),
        (&["acme", "--ttl", "301"], 1, "lives 1 to 300 seconds"),
        (&["acme", "--ttl", "soon"], 2, "invalid value 'soon'"),
        (&[], 2, "a value is required"),
        (
            &["acme", "--admin", "http://127.0.0.1:1"],
            1,
            "no gateway answers at 127.0.0.1:1",
        ),
    ] {
        let output = site.cli(&[&mint[..], more].concat(), "");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {stderr}");
        assert!(stderr.contains(said), "{more:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{more:?}");
    }
    std::fs::write(site.data().join("keys/admin.token"), "tga_other").unwrap();
    let output = site.cli(&[&mint[..], &["acme"]].concat(), "");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("does not accept the operator token"),
        "{stderr}"
    );
}

#[tokio::test]
async fn without_a_gateway_a_command_says_so() {
    let site = Site::new();
    let output = site.cli(&["token", "inspect", "x"], "");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("no gateway runs on"), "{stderr}");
}
