//! Cases 5–10, 14: where a handle may stand, and what happens everywhere else.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tollgate_testkit::recorder::Recorder;

use crate::harness::{Ask, Dialect, Plan, Refused, World, body_text, chat, key, message};

const CHAT: &str = "/openai/v1/chat/completions";

fn with_key(token: &str, value: &str) -> Ask {
    Ask::new("POST", CHAT)
        .token(token)
        .header("authorization", value)
        .json(&chat())
}

/// Checks that `ask` is refused for its credential, on the record, and answered as `dialect`.
async fn assert_denied(world: &World, ask: &Ask, dialect: Dialect) {
    let answer = world.send(ask).await;
    Refused::CREDENTIAL_DENIED
        .check_recorded(&world.gateway, &answer, dialect, "acme")
        .await;
}

#[tokio::test]
async fn case_05_a_handle_for_another_host_is_denied_there() {
    let world = World::new().await;
    let token = world.token("acme").await;
    let anthropic = Ask::new("POST", "/anthropic/v1/messages")
        .token(&token)
        .json(&message());
    let github = Ask::new("GET", "/github/user").token(&token);
    assert_denied(
        &world,
        &anthropic.clone().header("x-api-key", "$CRED{openai_key}"),
        Dialect::Anthropic,
    )
    .await;
    assert_denied(
        &world,
        &github
            .clone()
            .header("authorization", "Bearer $CRED{openai_key}"),
        Dialect::Problem,
    )
    .await;
    assert_denied(
        &world,
        &with_key(&token, "Bearer $CRED{anthropic_key}"),
        Dialect::OpenAi,
    )
    .await;
    assert_denied(
        &world,
        &with_key(&token, "Bearer $CRED<github_token>"),
        Dialect::OpenAi,
    )
    .await;
    world.assert_no_contact();
}

#[tokio::test]
async fn case_06_another_method_path_port_or_scheme_is_denied() {
    let other = Recorder::start("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let world = World::planned(|plan| {
        let mock = plan.provider("github").url.clone();
        let acme = plan.tenant("acme");
        let other_port = format!("http://{}", other.address());
        let other_scheme = mock.replace("http:", "https:");
        for (name, binding) in [
            ("get_only", r#"methods = ["GET"]"#.to_owned()),
            ("one_repo", r#"paths = ["/repos/acme/**"]"#.to_owned()),
            ("other_port", format!("url = \"{other_port}\"")),
            ("other_scheme", format!("url = \"{other_scheme}\"")),
            (
                "other_host",
                r#"url = "https://api.github.example""#.to_owned(),
            ),
        ] {
            acme.credential(name, &format!("{{ provider = \"github\", {binding} }}"));
            acme.secret(name, &format!("sk-canary-acme-{name}"));
        }
    })
    .await;
    let token = world.token("acme").await;
    let ask = |method: &str, path: &str, name: &str| {
        Ask::new(method, &format!("/github{path}"))
            .token(&token)
            .header("authorization", &format!("Bearer $CRED{{{name}}}"))
    };
    for ask in [
        ask("POST", "/repos/acme/x", "get_only").body("x"),
        ask("GET", "/repos/globex/x", "one_repo"),
        ask("GET", "/user", "one_repo"),
        ask("GET", "/user", "other_port"),
        ask("GET", "/user", "other_scheme"),
        ask("GET", "/user", "other_host"),
    ] {
        assert_denied(&world, &ask, Dialect::Problem).await;
    }
    world.assert_no_contact();
    assert_eq!(other.connections(), 0, "nor is the bound place contacted");

    for ask in [
        ask("GET", "/repos/x/y", "get_only"),
        ask("GET", "/repos/acme/x", "one_repo"),
    ] {
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn case_06_a_secret_does_not_go_over_plain_http_unless_that_is_declared() {
    let mock = World::new().await.mock;
    let site = crate::harness::Site::new();
    let mut plan = Plan::at(mock.addr());
    let openai = plan.provider("openai");
    openai.more = openai.more.replace("insecure = true\n", "");
    plan.write(&site);
    let output = site.cli(&["check"], "");
    assert_eq!(output.status.code(), Some(1), "such a policy is a mistake");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("plain http"), "{said}");
    assert!(said.contains("tenants/acme.toml"), "{said}");
    assert!(Arc::strong_count(&site) == 1 && mock.connections() == 0);
}

#[tokio::test]
async fn case_07_a_handle_in_a_header_of_no_credential_is_denied() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for name in [
        "user-agent",
        "referer",
        "cookie",
        "x-forwarded-for",
        "x-custom",
        "openai-organization",
        "accept",
        "content-language",
        "if-match",
    ] {
        for value in [
            "$CRED{openai_key}",
            "x $CRED<openai_key> y",
            "Bearer $CRED{openai_key}",
        ] {
            let ask = Ask::new("POST", CHAT)
                .bearer(&token)
                .header(name, value)
                .json(&chat());
            assert_denied(&world, &ask, Dialect::OpenAi).await;
        }
    }
    let host = format!(
        "GET /openai/v1/models HTTP/1.1\r\nhost: $CRED{{openai_key}}\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let answer = world.send_raw(&host).await.expect("an answer");
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
    world.assert_no_contact();
}

#[tokio::test]
async fn case_08_a_handle_in_a_model_call_s_body_is_text() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for content in [
        r#""Use $CRED{openai_key} as the key.""#,
        r#""\u0024CRED{openai_key} and \u0024CRED\u007bopenai_key\u007d""#,
        r#"[{"type": "text", "text": "nested $CRED<openai_key>"}]"#,
    ] {
        // Spacing, escapes and field order are kept as well: nothing is printed anew.
        let body = format!(
            "{{ \"model\":\"gpt-4o-mini\",\"max_tokens\" : 64,\n \"messages\": [{{\"role\":\"tool\",\"tool_call_id\":\"x\",\"content\": {content}}}]}}"
        );
        let before = world.calls().len();
        let ask = Ask::new("POST", CHAT)
            .bearer(&token)
            .header("content-type", "application/json")
            .body(body.clone());
        let answer = world.send(&ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = world.calls().remove(before);
        assert_eq!(body_text(&seen), body, "forwarded byte for byte");
        assert!(!body_text(&seen).contains("sk-canary"));
        let id = answer.header("x-tollgate-request-id").unwrap();
        let record = world.gateway.site.record("acme", id).await;
        assert_eq!(
            record["tollgate.notes"],
            json!(["handle_inert"]),
            "{record:#}"
        );
        assert!(!answer.text().contains("sk-canary"), "{}", answer.text());
    }
}

#[tokio::test]
async fn case_09_a_handle_in_path_or_query_is_denied_where_only_a_header_is_declared() {
    let world = World::new().await;
    let token = world.token("acme").await;
    for target in [
        "/openai/v1/models?key=$CRED{openai_key}",
        "/openai/v1/models?x=$CRED%7Bopenai_key%7D",
        "/openai/v1/models?x=%24CRED%7Bopenai_key%7D&y=1",
        "/openai/v1/models?x=CRED~openai_key~",
        "/openai/v1/models?CRED~openai_key~=x",
        "/openai/v1/models/CRED~openai_key~",
        "/openai/v1/models/$CRED%7Bopenai_key%7D",
    ] {
        let answer = world.send(&Ask::new("GET", target).bearer(&token)).await;
        assert!(
            matches!(answer.status, 400 | 403),
            "{target}: {answer:?} {}",
            answer.text()
        );
        let code = answer.header("x-tollgate-error").unwrap();
        assert!(
            ["credential_denied", "ambiguous_path", "malformed_request"].contains(&code),
            "{target}: {code}"
        );
    }
    world.assert_no_contact();
}

/// A tool that takes its key in the query.
fn with_search(plan: &mut Plan) {
    let url = plan.provider("github").url.clone();
    let mut search = crate::harness::ProviderPlan::github(&url);
    search.more.push_str("place = { query = \"key\" }\n");
    plan.providers.insert("search".to_owned(), search);
    let acme = plan.tenant("acme");
    acme.allow("search", "");
    acme.credential("search_key", r#"{ provider = "search", default = true }"#);
    acme.secret("search_key", "sk-canary/+ &=%?#\"\u{7e}end");
}

/// That secret, percent-encoded once.
const ENCODED: &str = "sk-canary%2F%2B%20%26%3D%25%3F%23%22~end";

#[tokio::test]
async fn case_09_and_10_a_query_handle_is_encoded_once_and_leaves_its_neighbours_alone() {
    let world = World::planned(with_search).await;
    let token = world.token("acme").await;
    for form in [
        "$CRED{search_key}",
        "%24CRED%7Bsearch_key%7D",
        "%24CRED%7bsearch_key%7d",
        "$CRED%3Csearch_key%3E",
        "CRED~search_key~",
        "%43RED~search_key~",
    ] {
        let before = world.calls().len();
        let target = format!("/search/user?b=2&a=%2f%41+x&key={form}&a=3&&z");
        let raw = format!("GET {target} HTTP/1.1\r\nhost: t\r\nx-tollgate-token: {token}\r\n\r\n");
        let answer = world.send_raw(&raw).await.expect("an answer");
        // Braces are not allowed in a URI; a parser that says so is right, too.
        if answer.status == 400 && form.contains('{') {
            continue;
        }
        assert_eq!(answer.status, 200, "{form}: {}", answer.text());
        let seen = world.calls().remove(before);
        let path = seen.path_and_query.as_str();
        assert_eq!(
            path,
            format!("/user?b=2&a=%2f%41+x&key={ENCODED}&a=3&&z"),
            "{form}"
        );
        assert!(
            seen.header_values("authorization").is_empty(),
            "the only credential is in the query"
        );
    }
    assert!(!world.calls().is_empty());
}

#[tokio::test]
async fn case_10_a_handle_encoded_twice_is_never_resolved() {
    let world = World::planned(with_search).await;
    let token = world.token("acme").await;
    for form in [
        "%2524CRED%257Bsearch_key%257D",
        "%2524CRED{search_key}",
        "CRED%257Esearch_key~",
    ] {
        let elsewhere = format!("/search/user?q={form}");
        let raw =
            format!("GET {elsewhere} HTTP/1.1\r\nhost: t\r\nx-tollgate-token: {token}\r\n\r\n");
        let answer = world.send_raw(&raw).await.expect("an answer");
        if answer.status != 200 {
            assert!(matches!(answer.status, 400 | 403), "{form}: {answer:?}");
            continue;
        }
        let seen = world.calls().pop().unwrap();
        let target = seen.path_and_query.as_str();
        assert!(
            target.contains(&format!("q={form}")),
            "{form} is plain text: {target}"
        );
        assert_eq!(
            target.matches("sk-canary").count(),
            1,
            "the default key only: {target}"
        );
    }
}

#[tokio::test]
async fn case_14_basic_authentication_takes_a_handle_only_where_it_is_declared() {
    let world = World::planned(|plan| {
        let url = plan.provider("github").url.clone();
        let mut jira = crate::harness::ProviderPlan::github(&url);
        jira.more.push_str("place = { basic = true }\n");
        plan.providers.insert("jira".to_owned(), jira);
        let acme = plan.tenant("acme");
        acme.allow("jira", "");
        acme.credential("jira_key", r#"{ provider = "jira" }"#);
        acme.secret("jira_key", "sk-canary-jira:with:colons");
    })
    .await;
    let token = world.token("acme").await;
    let ask = |path: &str, value: &str| {
        Ask::new("GET", path)
            .token(&token)
            .header("authorization", value)
    };
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));

    let answer = world
        .send(&ask(
            "/jira/user",
            &basic("bot@acme.example:$CRED{jira_key}"),
        ))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    assert_eq!(
        seen.header_values("authorization"),
        [basic("bot@acme.example:sk-canary-jira:with:colons")]
    );

    for wrong in [
        "Basic $CRED{jira_key}".to_owned(),
        "Basic bot:$CRED{jira_key}".to_owned(),
        basic("$CRED{jira_key}"),
        format!("Basic  {}", STANDARD.encode("x:$CRED{jira_key}")),
        format!("Basic\t{}", STANDARD.encode("x:$CRED{jira_key}")),
        basic("x:$CRED{jira_key}").trim_end_matches('=').to_owned() + "!",
        basic("x: $CRED{jira_key}"),
        basic("x:$cred{jira_key}"),
    ] {
        let answer = world.send(&ask("/jira/user", &wrong)).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
        let refused = Refused::malformed("bad_handle");
        refused
            .check_recorded(&world.gateway, &answer, Dialect::Problem, "acme")
            .await;
    }
    // In the user's place, or where Basic is not declared, it is denied.
    for denied in [
        ask("/jira/user", &basic("$CRED{jira_key}:x")),
        ask("/github/user", &basic("x:$CRED{github_token}")),
    ] {
        assert_denied(&world, &denied, Dialect::Problem).await;
    }
    assert_eq!(world.calls().len(), 1, "none of these reached the provider");
    assert!(!world.calls()[0].mentions(&key("acme", "github")));
}
