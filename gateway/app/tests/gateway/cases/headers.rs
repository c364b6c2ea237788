//! Cases 53, 54: exactly one credential upstream, whatever the client sends or nominates.

use crate::harness::{Ask, World, body_text, chat, key, message};

const CHAT: &str = "/openai/v1/chat/completions";

#[tokio::test]
async fn case_53_whatever_the_client_brings_only_the_injected_credential_goes_on() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let own = "sk-own-abcdef";
    let openai = || Ask::new("POST", &format!("{CHAT}?key={own}&x=1")).token(&token);
    let anthropic = || Ask::new("POST", &format!("/anthropic/v1/messages?key={own}")).token(&token);
    for ask in [
        openai()
            .header("x-api-key", own)
            .header("api-key", own)
            .json(&chat()),
        openai()
            .header("Authorization", own)
            .header("X-API-KEY", own)
            .json(&chat()),
        openai()
            .header("x-goog-api-key", own)
            .header("X-Goog-Api-Key", own)
            .json(&chat()),
        openai()
            .header("authorization", own)
            .header("AUTHORIZATION", own)
            .json(&chat()),
        anthropic()
            .header("authorization", &format!("Bearer {own}"))
            .json(&message()),
        anthropic()
            .header("x-api-key", own)
            .header("X-Api-Key", own)
            .json(&message()),
    ] {
        let before = world.calls().len();
        let answer = world.send(&ask).await;
        if answer.status != 200 {
            assert!(
                matches!(answer.status, 400 | 401 | 403),
                "{}",
                answer.text()
            );
            assert_eq!(world.calls().len(), before, "a refusal contacts nobody");
            continue;
        }
        let seen = world.calls().pop().unwrap();
        assert!(!seen.mentions(own) && !seen.mentions(&token), "{seen:?}");
        let credentials: Vec<String> = ["authorization", "x-api-key", "api-key", "x-goog-api-key"]
            .iter()
            .flat_map(|name| seen.header_values(name))
            .collect();
        assert_eq!(credentials.len(), 1, "{seen:?}");
        let provider = if seen.path_and_query.as_str().contains("messages") {
            "anthropic"
        } else {
            "openai"
        };
        assert!(
            credentials[0].ends_with(&key("acme", provider)),
            "{credentials:?}"
        );
    }
    assert!(world.calls().len() >= 4, "most of these are served");
}

#[tokio::test]
async fn case_54_hop_by_hop_headers_end_here_and_the_credential_does_not() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for connection in [
        "authorization",
        "x-api-key, close",
        "keep-alive, host",
        "close, authorization, content-type",
        "x-private",
        "X-Private, keep-alive",
        "content-length",
        "te, trailer",
    ] {
        let ask = Ask::new("POST", CHAT)
            .bearer(&token)
            .header("connection", connection)
            .header("keep-alive", "timeout=5, hop-marker")
            .header("proxy-connection", "hop-marker")
            .header("te", "trailers, hop-marker")
            .header("x-private", "nominated-marker")
            .header("x-kept", "kept-marker")
            .json(&chat());
        let before = world.calls().len();
        let answer = world.send(&ask).await;
        if answer.status != 200 {
            assert_eq!(
                answer.status,
                400,
                "{connection}: {answer:?} {}",
                answer.text()
            );
            continue;
        }
        let seen = world.calls().remove(before);
        assert_eq!(
            seen.header_values("authorization"),
            [format!("Bearer {}", key("acme", "openai"))]
        );
        assert!(!seen.mentions("hop-marker"), "{connection}: {seen:?}");
        assert!(seen.mentions("kept-marker"), "{connection}: {seen:?}");
        if connection.to_lowercase().contains("x-private") {
            assert!(!seen.mentions("nominated-marker"), "{connection}: {seen:?}");
        }
        assert_eq!(
            seen.header_values("host").len(),
            1,
            "{connection}: {seen:?}"
        );
        assert!(
            !seen.header_values("host")[0].contains("tollgate"),
            "the upstream's own name: {seen:?}"
        );
        let sent: serde_json::Value = serde_json::from_str(&body_text(&seen)).unwrap();
        assert_eq!(sent, chat(), "{connection}: the body came whole");
    }
    assert!(world.calls().len() >= 5, "most of these are served");
}

#[tokio::test]
async fn an_upgrade_that_is_not_declared_is_not_made() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for upgrade in ["h2c", "websocket", "foo", "h2c, websocket"] {
        let ask = Ask::new("GET", "/openai/v1/models")
            .bearer(&token)
            .header("connection", "upgrade, http2-settings")
            .header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA")
            .header("upgrade", upgrade);
        let answer = world.send(&ask).await;
        assert!(
            matches!(answer.status, 200 | 400 | 403),
            "{upgrade}: {answer:?}"
        );
        for seen in world.calls() {
            assert!(
                seen.header_values("upgrade").is_empty(),
                "{upgrade}: {seen:?}"
            );
            assert!(
                seen.header_values("http2-settings").is_empty(),
                "{upgrade}: {seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn method_overrides_do_not_travel() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for name in [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ] {
        let ask = Ask::new("POST", CHAT)
            .bearer(&token)
            .header(name, "DELETE")
            .json(&chat());
        world.send(&ask).await;
    }
    for name in ["x-original-url", "x-rewrite-url"] {
        let ask = Ask::new("POST", CHAT)
            .bearer(&token)
            .header(name, "/v1/admin")
            .json(&chat());
        world.send(&ask).await;
    }
    for seen in world.calls() {
        assert!(
            !seen.mentions("DELETE") && !seen.mentions("admin"),
            "{seen:?}"
        );
    }
    let ask = Ask::new("POST", &format!("{CHAT}?_method=DELETE"))
        .bearer(&token)
        .json(&chat());
    let before = world.calls().len();
    assert_eq!(world.send(&ask).await.status, 400);
    assert_eq!(world.calls().len(), before);
}
