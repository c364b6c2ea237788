//! `GET /tollgate/v1/usage`: each caller gets its own figures, and nobody else's, however it asks.

use serde_json::Value;
use tollgate_core::money::PicoUsd;
use tollgate_testkit::raw::Answer;
use tollgate_testkit::wait::until_true;

use crate::harness::{Ask, World, chat, cost, text};

const USAGE: &str = "/tollgate/v1/usage";

/// Requests at once.
const PARALLEL: usize = 300;

/// Two tenants that have spent money; in acme there are two agents, and one that reads.
async fn spent() -> World {
    let world = World::planned(|plan| {
        let acme = plan.tenant("acme");
        acme.caps = "daily_usd = \"100\"\ntask_usd = \"10\"\n".to_owned();
        acme.more = "[agents.a1]\ndaily_usd = \"5\"\n[agents.b2]\ndaily_usd = \"6\"\n\
                     [models.\"gpt-4o*\"]\nmonthly_usd = \"50\"\n\
                     [usage]\nreaders = [\"finance-*\"]\n"
            .to_owned();
    })
    .await;
    for (tenant, agent, task, calls) in [
        ("acme", "a1", "t1", 2),
        ("acme", "b2", "t2", 3),
        ("globex", "a1", "t1", 1),
    ] {
        let token = world.gateway.mint(tenant, agent, task).await;
        for _ in 0..calls {
            let ask = Ask::new("POST", "/openai/v1/chat/completions").bearer(&token);
            assert_eq!(world.send(&ask.json(&chat())).await.status, 200);
        }
    }
    world.gateway.site.records_when("acme", 5).await;
    world.gateway.site.records_when("globex", 1).await;
    world
}

async fn usage(world: &World, token: &str, query: &str) -> Answer {
    let ask = Ask::new("GET", &format!("{USAGE}{query}")).bearer(token);
    world.send(&ask).await
}

/// What the records of these agents of a tenant come to.
fn sum(world: &World, tenant: &str, agents: &[&str]) -> String {
    let records = world.gateway.site.records(tenant);
    let of = |record: &&Value| agents.contains(&text(record, "gen_ai.agent.id"));
    let costs = records
        .iter()
        .filter(of)
        .map(|record| -> PicoUsd { cost(record).parse().unwrap() });
    costs
        .fold(PicoUsd::ZERO, PicoUsd::saturating_add)
        .to_string()
}

fn scopes(statement: &Value) -> Vec<&str> {
    let caps = statement["caps"].as_array().unwrap().iter();
    caps.map(|cap| text(cap, "key").split('/').nth(1).unwrap())
        .collect()
}

#[tokio::test]
async fn an_agent_gets_its_own_figures_to_the_last_digit_and_a_reader_the_tenants() {
    let world = spent().await;
    let own = world.gateway.mint("acme", "a1", "t1").await;
    let answer = usage(&world, &own, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let statement = answer.json();
    for (name, value) in [("tenant", "acme"), ("agent", "a1"), ("task", "t1")] {
        assert_eq!(statement[name], value);
    }
    assert_eq!(statement["reader"], false);
    assert_eq!(scopes(&statement), ["agent=a1", "task=t1"]);
    let exact = sum(&world, "acme", &["a1"]);
    assert_ne!(exact, "0");
    assert_eq!(statement["usage"]["total"]["cost_usd"], exact.as_str());
    assert_eq!(statement["usage"]["total"]["calls"], 2);
    assert_eq!(statement["usage"]["rows"][0]["model"], "gpt-4o-mini");
    for cap in statement["caps"].as_array().unwrap() {
        assert_eq!(cap["settled_usd"], exact.as_str(), "{cap}");
    }
    assert!(!answer.text().contains("b2") && !answer.text().contains("globex"));

    let reader = world.gateway.mint("acme", "finance-1", "audit").await;
    let statement = usage(&world, &reader, "?by=agent").await.json();
    assert_eq!(statement["reader"], true);
    let all = sum(&world, "acme", &["a1", "b2"]);
    assert_eq!(statement["usage"]["total"]["cost_usd"], all.as_str());
    let agents: Vec<(&str, u64)> = statement["usage"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (text(row, "agent"), row["calls"].as_u64().unwrap()))
        .collect();
    assert_eq!(agents, [("b2", 3), ("a1", 2)]);
    let expected = [
        "tenant",
        "agent=a1",
        "agent=b2",
        "model=gpt-4o*",
        "task=audit",
    ];
    assert_eq!(scopes(&statement), expected);
    assert_eq!(statement["caps"][0]["settled_usd"], all.as_str());
    assert!(!statement.to_string().contains("globex"));
}

/// Case 74: a cross-tenant read of usage with A's token, by every name a tenant can be claimed
/// under, shows A's own figures or is refused.
#[tokio::test]
async fn case_74_no_claim_in_a_request_shows_another_tenants_or_agents_figures() {
    let world = spent().await;
    let token = world.gateway.mint("acme", "a1", "t1").await;
    let before = world.mock.connections();
    let plain = usage(&world, &token, "").await.json();
    let foreign = sum(&world, "globex", &["a1"]);
    for header in [
        ("x-tenant-id", "globex"),
        ("x-agent-id", "b2"),
        ("x-task-id", "t2"),
        ("openai-organization", "globex"),
        ("x-forwarded-client-cert", "URI=spiffe://globex/a1"),
        ("forwarded", "for=globex"),
        ("x-original-url", "/v1/budgets/globex"),
        ("x-http-method-override", "POST"),
    ] {
        let ask = Ask::new("GET", USAGE)
            .bearer(&token)
            .header(header.0, header.1);
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200, "{header:?}");
        let statement = answer.json();
        assert_eq!(statement["usage"], plain["usage"], "{header:?}");
        assert_eq!(
            statement["caps"][0]["key"], plain["caps"][0]["key"],
            "{header:?}"
        );
        assert!(!answer.text().contains("globex"), "{header:?}");
    }
    for query in [
        "?tenant=globex",
        "?agent=b2",
        "?task=t2",
        "?partition=globex",
        "?by=../globex",
        "?by=tenant&tenant=globex",
        "?from=2026-01-01%2F..%2Fglobex",
        "?by=model%0A%7B%22tenant%22%3A%22globex%22%7D",
    ] {
        let answer = usage(&world, &token, query).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert!(
            !answer.text().contains("globex"),
            "{query}: {}",
            answer.text()
        );
        assert!(!answer.text().contains(&foreign), "{query}");
    }
    for path in [
        "/tollgate/v1/usage/globex",
        "/tollgate/v1/usage/",
        "/tollgate/v1/tenants/globex",
        "/tollgate/audit/globex",
        "/tollgate",
    ] {
        let answer = world.send(&Ask::new("GET", path).bearer(&token)).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert_eq!(answer.json()["code"], "not_found", "{path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    for path in [
        "/tollgate/v1/../v1/usage",
        "/tollgate/v1/%2e%2e/usage",
        "/tollgate%2fv1/usage",
    ] {
        let answer = world.send(&Ask::new("GET", path).bearer(&token)).await;
        assert!(
            matches!(answer.status, 400 | 403 | 404),
            "{path}: {}",
            answer.status
        );
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = world.send(&Ask::new(method, USAGE).bearer(&token)).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET"), "{method}");
    }
    assert_eq!(
        world.mock.connections(),
        before,
        "something reached the provider"
    );
    let site = &world.gateway.site;
    until_true(
        "the refusals are on record, in the tenant's partition",
        || {
            let refused = site.records("acme");
            refused
                .iter()
                .any(|record| record["error.type"] == "method_not_allowed")
        },
    )
    .await;
    let lines = site.lines("globex");
    assert_eq!(
        lines.len(),
        1,
        "nothing of it stands in the other's partition"
    );
}

#[tokio::test]
async fn who_is_nobody_any_more_gets_no_figures() {
    let world = spent().await;
    let connections = world.mock.connections();
    let token = world.gateway.mint("acme", "a1", "t1").await;
    assert_eq!(usage(&world, &token, "").await.status, 200);
    for place in ["x-api-key", "api-key", "x-goog-api-key", "x-tollgate-token"] {
        let answer = world
            .send(&Ask::new("GET", USAGE).header(place, &token))
            .await;
        assert_eq!(answer.status, 200, "{place}");
    }
    let in_query = Ask::new("GET", &format!("{USAGE}?key={token}&by=day"));
    assert_eq!(world.send(&in_query).await.status, 200);
    let site = &world.gateway.site;
    site.cli_ok(
        &["token", "revoke", "--tenant", "acme", "--agent", "a1"],
        "",
    );
    let forged = world.gateway.mint("globex", "a1", "t1").await;
    let forged = format!("{}x", &forged[..forged.len() - 1]);
    for (what, ask) in [
        ("revoked", Ask::new("GET", USAGE).bearer(&token)),
        ("forged", Ask::new("GET", USAGE).bearer(&forged)),
        ("none", Ask::new("GET", USAGE)),
        ("none, elsewhere", Ask::new("GET", "/tollgate/v1/other")),
        (
            "an operator's",
            Ask::new("GET", USAGE).bearer(&format!("tga_{}", "0".repeat(64))),
        ),
    ] {
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert_eq!(
            answer.header("x-tollgate-error"),
            Some("invalid_api_key"),
            "{what}"
        );
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
        assert!(!answer.text().contains("usd"), "{what}");
    }
    assert_eq!(world.mock.connections(), connections);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_asks_all_the_time_is_told_to_wait_and_others_are_not() {
    let world = spent().await;
    let busy = world.gateway.mint("acme", "a1", "t1").await;
    // More than the burst and what comes in while they are sent, also on a busy machine.
    let calls: Vec<_> = (0..PARALLEL)
        .map(|_| {
            let ask = Ask::new("GET", USAGE).bearer(&busy);
            let address = world.gateway.address;
            tokio::spawn(async move { ask.send(address).await })
        })
        .collect();
    let mut refused = None;
    for call in calls {
        let answer = call.await.unwrap();
        if answer.status == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("the pace is too fast");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["code"], "rate_limit_exceeded");
    let other = world.gateway.mint("acme", "b2", "t2").await;
    assert_eq!(usage(&world, &other, "").await.status, 200);
    let answered = "tollgate_usage_statements_total{result=\"answered\"}";
    assert!(world.gateway.metric(answered).await > 0);
}
