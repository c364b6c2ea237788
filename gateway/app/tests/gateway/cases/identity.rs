//! Cases 23, 24, 35: who calls is what the token says, and the token goes no further.

use serde_json::json;

use crate::harness::{Ask, Dialect, Refused, World, chat, key, text};

const CHAT: &str = "/openai/v1/chat/completions";

#[tokio::test]
async fn case_23_another_tenant_s_name_anywhere_changes_nothing() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let mut asks = Vec::new();
    for name in [
        "x-tenant-id",
        "x-tenant",
        "tenant",
        "x-workspace-id",
        "x-agent-id",
        "x-task-id",
        "x-org-id",
        "openai-organization",
        "openai-project",
        "baggage",
        "forwarded",
        "x-forwarded-user",
        "x-forwarded-for",
        "x-real-ip",
        "x-user",
        "remote-user",
        "x-api-tenant",
        "traceparent",
        "tracestate",
        "via",
        "from",
    ] {
        for value in ["globex", "tenant=globex,tenant.id=globex"] {
            asks.push(
                Ask::new("POST", CHAT)
                    .bearer(&token)
                    .header(name, value)
                    .json(&chat()),
            );
        }
    }
    for query in [
        "tenant=globex",
        "x-tenant-id=globex",
        "tenant_id=globex&agent=b1&task=t9",
    ] {
        asks.push(
            Ask::new("POST", &format!("{CHAT}?{query}"))
                .bearer(&token)
                .json(&chat()),
        );
    }
    for (field, value) in [
        ("user", json!("globex")),
        (
            "metadata",
            json!({"tenant": "globex", "tenant.id": "globex", "agent": "b1"}),
        ),
        ("tenant", json!("globex")),
        ("tenant_id", json!("globex")),
        ("tollgate", json!({"tenant": "globex"})),
        ("safety_identifier", json!("globex")),
    ] {
        let mut body = chat();
        body[field] = value;
        asks.push(Ask::new("POST", CHAT).bearer(&token).json(&body));
    }

    let before = world.gateway.site.records("globex").len();
    for ask in &asks {
        let answer = world.send(ask).await;
        assert_eq!(answer.status, 200, "{ask:?}: {}", answer.text());
        let id = answer.header("x-tollgate-request-id").unwrap();
        let record = world.gateway.site.record("acme", id).await;
        assert_eq!(text(&record, "tenant.id"), "acme", "{ask:?}");
        assert_eq!(text(&record, "gen_ai.agent.id"), "a1", "{ask:?}");
        assert_eq!(text(&record, "tollgate.task.id"), "t1", "{ask:?}");
    }
    let calls = world.calls();
    assert_eq!(calls.len(), asks.len());
    for seen in calls {
        assert_eq!(
            seen.header_values("authorization"),
            [format!("Bearer {}", key("acme", "openai"))]
        );
    }
    assert_eq!(
        world.gateway.site.records("globex").len(),
        before,
        "nothing is attributed to B"
    );

    // What was claimed is kept, as something nobody should trust.
    let ask = Ask::new("POST", CHAT)
        .bearer(&token)
        .header("x-tenant-id", "globex")
        .json(&chat());
    let answer = world.send(&ask).await;
    let id = answer.header("x-tollgate-request-id").unwrap();
    let record = world.gateway.site.record("acme", id).await;
    assert!(
        record["tollgate.untrusted"].to_string().contains("globex"),
        "{record:#}"
    );
}

#[tokio::test]
async fn case_24_without_exactly_one_token_there_is_no_call() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let other = world.token("globex").await;
    let ask = || Ask::new("POST", CHAT).json(&chat());
    for (what, ask) in [
        ("none", ask()),
        ("empty", ask().header("authorization", "")),
        ("only a scheme", ask().header("authorization", "Bearer")),
        (
            "a scheme and a space",
            ask().header("authorization", "Bearer "),
        ),
        (
            "two spaces",
            ask().header("authorization", &format!("bearer  {token}")),
        ),
        (
            "two spaces, no token",
            ask().header("authorization", "bearer  x"),
        ),
        ("no scheme", ask().header("authorization", &token)),
        (
            "another scheme",
            ask().header("authorization", &format!("Token {token}")),
        ),
        ("two lines", ask().bearer(&token).bearer(&other)),
        ("the same line twice", ask().bearer(&token).bearer(&token)),
        (
            "two places, two tokens",
            ask().bearer(&token).header("x-api-key", &other),
        ),
        (
            "in a cookie",
            ask().header("cookie", &format!("token={token}")),
        ),
        ("in another header", ask().header("x-auth-token", &token)),
        ("a provider key", ask().bearer("sk-canary-own-key")),
        (
            "a handle alone",
            ask().header("authorization", "Bearer $CRED{openai_key}"),
        ),
        (
            "in another parameter",
            Ask::new(
                "POST",
                &format!("{CHAT}?token={token}&access_token={token}"),
            )
            .json(&chat()),
        ),
        (
            "a token header that holds none",
            ask().token("").bearer(&token),
        ),
        (
            "a token header that holds a key",
            ask().token("sk-x").bearer(&token),
        ),
        ("two token headers", ask().token(&token).token(&other)),
        (
            "a list of tokens",
            ask().header("authorization", &format!("Bearer {token}, Bearer {other}")),
        ),
    ] {
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        Refused::UNAUTHENTICATED
            .check_recorded(&world.gateway, &answer, Dialect::OpenAi, "_gateway")
            .await;
    }
    world.assert_no_contact();
    assert!(
        world.gateway.site.records("acme").is_empty(),
        "counted per source, not per tenant"
    );
}

#[tokio::test]
async fn a_token_is_taken_wherever_sdks_put_a_key() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let ask = || Ask::new("POST", CHAT).json(&chat());
    let asks = [
        ask().bearer(&token),
        ask().header("authorization", &format!("bearer {token}")),
        ask().header("x-api-key", &token),
        ask().header("api-key", &token),
        ask().header("x-goog-api-key", &token),
        ask().token(&token),
        Ask::new("POST", &format!("{CHAT}?key={token}&x=1")).json(&chat()),
    ];
    for ask in &asks {
        let answer = world.send(ask).await;
        assert_eq!(answer.status, 200, "{ask:?}: {}", answer.text());
    }
    for seen in world.calls() {
        assert_eq!(
            seen.header_values("authorization"),
            [format!("Bearer {}", key("acme", "openai"))]
        );
        assert!(!seen.mentions(&token), "{seen:?}");
    }
    assert_eq!(world.calls().len(), asks.len());
}

#[tokio::test]
async fn case_35_neither_the_token_nor_proxy_credentials_go_upstream_even_if_nominated() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for connection in [
        "",
        "x-tollgate-token",
        "proxy-authorization, x-tollgate-token",
        "authorization",
        "close, X-Tollgate-Token",
    ] {
        let mut ask = Ask::new("POST", CHAT)
            .token(&token)
            .header("proxy-authorization", "Basic c2stY2FuYXJ5OnByb3h5")
            .header("x-tollgate-anything", "private")
            .json(&chat());
        if !connection.is_empty() {
            ask = ask.header("connection", connection);
        }
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200, "{connection}: {}", answer.text());
    }
    for seen in world.calls() {
        assert!(
            !seen.mentions(&token) && !seen.mentions("c2stY2FuYXJ5"),
            "{seen:?}"
        );
        assert!(
            !seen.mentions("x-tollgate") && !seen.mentions("proxy-auth"),
            "{seen:?}"
        );
        assert_eq!(
            seen.header_values("authorization"),
            [format!("Bearer {}", key("acme", "openai"))]
        );
    }
}
