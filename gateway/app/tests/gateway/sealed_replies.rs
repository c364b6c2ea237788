//! Case 71: tokens that an OAuth endpoint gives out reach the agent as handles, and nobody else's
//! handles do anything.

use serde_json::{Value, json};
use tollgate_testkit::canary::sightings;
use tollgate_testkit::raw::Answer;

use crate::harness::{Ask, Heard, ProviderPlan, Scripted, World, answer, body_text, json_answer};

const ACCESS: &str = "sk-canary-oauth-access-91ab";
const REFRESH: &str = "sk-canary-oauth-refresh-82cd";
const ID: &str = "sk-canary-oauth-id-73ef";
const FORM: &str = "application/x-www-form-urlencoded";

/// The usual set-up, and an identity provider without a key whose tokens are sealed for GitHub.
async fn world(id: &Scripted) -> World {
    let url = id.url();
    World::planned(|plan| {
        let mut provider = ProviderPlan::github(&url);
        provider.more = "keyless = true\ninsecure = true\n".to_owned();
        provider.endpoints.clear();
        let seals = "seals_for = [\"github\"]\n";
        provider.endpoint("POST", "/token", "oauth_token", seals);
        plan.providers.insert("idp".to_owned(), provider);
        for tenant in ["acme", "globex"] {
            plan.tenant(tenant).allow("idp", "");
        }
    })
    .await
}

fn tokens(expires_in: u64) -> String {
    json_answer(
        "200 OK\r\nset-cookie: s=1\r\nx-token: sk-canary-oauth-access-91ab",
        &json!({
            "access_token": ACCESS, "token_type": "bearer", "expires_in": expires_in,
            "refresh_token": REFRESH, "id_token": ID, "scope": "repo",
        }),
    )
}

async fn log_in(world: &World, token: &str) -> Answer {
    let ask = Ask::new("POST", "/idp/token").bearer(token);
    let ask = ask
        .header("content-type", FORM)
        .body("grant_type=device_code&code=x");
    world.send(&ask).await
}

#[track_caller]
fn assert_sealed(answer: &Answer) -> Value {
    let all = format!("{:?} {}", answer.headers, answer.text());
    assert_eq!(answer.status, 200, "{all}");
    for secret in [ACCESS, REFRESH, ID] {
        assert!(sightings(&all, secret).is_empty(), "{all}");
    }
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("x-token"), None);
    let length = answer.body.len().to_string();
    assert_eq!(answer.header("content-length"), Some(&*length));
    answer.json()
}

fn user(token: &str, handle: &str) -> Ask {
    Ask::new("GET", "/github/user")
        .token(token)
        .header("authorization", &format!("Bearer {handle}"))
}

#[tokio::test]
async fn case_71_tokens_come_as_handles_that_work_for_their_task_alone() {
    let id = Scripted::start(|_, _| tokens(3600)).await;
    let world = world(&id).await;
    let token = world.token("acme").await;
    let sealed = assert_sealed(&log_in(&world, &token).await);
    assert_eq!(sealed["scope"], "repo");
    let handle = sealed["access_token"].as_str().unwrap();
    assert!(
        handle.starts_with("$CRED{sealed-") && handle.len() == 46,
        "{handle}"
    );
    world.assert_no_contact();

    let answer = world.send(&user(&token, handle)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    let sent = seen
        .headers
        .iter()
        .find(|(name, _)| name == "authorization");
    assert_eq!(sent.unwrap().1, format!("Bearer {ACCESS}"));

    let other_task = world.gateway.mint("acme", "a1", "t2").await;
    let other_agent = world.gateway.mint("acme", "a2", "t1").await;
    let other_tenant = world.token("globex").await;
    let guessed = format!("$CRED{{sealed-{}}}", "0".repeat(32));
    for (token, handle, what) in [
        (&other_task, handle, "another task"),
        (&other_agent, handle, "another agent"),
        (&other_tenant, handle, "another tenant"),
        (&token, &*guessed, "a guess"),
        (&token, sealed["id_token"].as_str().unwrap(), "nobody's"),
        (
            &token,
            sealed["refresh_token"].as_str().unwrap(),
            "another place's",
        ),
    ] {
        let refused = world.send(&user(token, handle)).await;
        assert_eq!(refused.status, 403, "{what}");
        assert_eq!(
            refused.header("x-tollgate-error"),
            Some("credential_denied"),
            "{what}"
        );
    }
    // Nor anywhere but where GitHub's key goes.
    let elsewhere = Ask::new("GET", "/github/user")
        .bearer(&token)
        .header("x-other", handle);
    assert_eq!(world.send(&elsewhere).await.status, 403);
    let openai = Ask::new("GET", "/openai/v1/models")
        .token(&token)
        .header("authorization", &format!("Bearer {handle}"));
    assert_eq!(world.send(&openai).await.status, 403);
    assert_eq!(world.calls().len(), 1);
    let log = world.gateway.log();
    assert!(sightings(&log, ACCESS).is_empty(), "{log}");
}

#[tokio::test]
async fn case_71_what_the_upstream_echoes_of_a_sealed_token_is_scrubbed() {
    let id = Scripted::start(|_, _| tokens(3600)).await;
    let world = world(&id).await;
    let token = world.token("acme").await;
    let sealed = assert_sealed(&log_in(&world, &token).await);
    let ask = Ask::new("POST", "/github/repos/a/b/issues?mock=echo-headers")
        .token(&token)
        .header(
            "authorization",
            &format!("Bearer {}", sealed["access_token"].as_str().unwrap()),
        )
        .body("{}");
    let answer = world.send(&ask).await;
    let all = format!("{:?} {}", answer.headers, answer.text());
    assert!(sightings(&all, ACCESS).is_empty(), "{all}");
    assert!(all.contains("[redacted]"), "{all}");
    assert!(body_text(&world.only_call()).contains("{}"));
}

#[tokio::test]
async fn case_71_a_sealed_refresh_token_goes_back_to_its_endpoint_in_its_field() {
    let id = Scripted::start(|_, _| tokens(3600)).await;
    let world = world(&id).await;
    let token = world.token("acme").await;
    let sealed = assert_sealed(&log_in(&world, &token).await);
    let handle = sealed["refresh_token"].as_str().unwrap();
    let encoded = handle
        .replace('$', "%24")
        .replace('{', "%7B")
        .replace('}', "%7D");
    let body = format!("grant_type=refresh_token&refresh_token={encoded}&client_id=me");
    let ask = Ask::new("POST", "/idp/token").bearer(&token);
    let again = world
        .send(&ask.header("content-type", FORM).body(body))
        .await;
    assert_sealed(&again);
    let heard: Vec<Heard> = id.heard();
    assert_eq!(
        heard[1].body,
        format!("grant_type=refresh_token&refresh_token={REFRESH}&client_id=me")
    );
    let stranger = world.token("globex").await;
    let body = format!("grant_type=refresh_token&refresh_token={encoded}");
    let ask = Ask::new("POST", "/idp/token").bearer(&stranger);
    let foreign = world
        .send(&ask.header("content-type", FORM).body(body))
        .await;
    let sent: String = id.heard().iter().map(|heard| heard.body.clone()).collect();
    assert_eq!(
        sent.matches(REFRESH).count(),
        1,
        "{} {sent}",
        foreign.status
    );
}

#[tokio::test]
async fn case_71_an_expired_handle_is_no_handle() {
    let id = Scripted::start(|_, _| tokens(0)).await;
    let world = world(&id).await;
    let token = world.token("acme").await;
    let sealed = assert_sealed(&log_in(&world, &token).await);
    let refused = world
        .send(&user(&token, sealed["access_token"].as_str().unwrap()))
        .await;
    assert_eq!(
        refused.header("x-tollgate-error"),
        Some("credential_denied")
    );
    world.assert_no_contact();
}

#[tokio::test]
async fn case_71_a_form_is_sealed_too_and_errors_pass() {
    let id = Scripted::start(|number, _| match number {
        0 => answer(
            "200 OK",
            FORM,
            &format!("access_token={ACCESS}&scope=a%2Cb&token_type=bearer"),
        ),
        1 => json_answer(
            "400 Bad Request",
            &json!({ "error": "authorization_pending" }),
        ),
        _ => json_answer(
            "200 OK",
            &json!({ "device_code": "d", "user_code": "AB-CD" }),
        ),
    })
    .await;
    let world = world(&id).await;
    let token = world.token("acme").await;
    let form = log_in(&world, &token).await;
    let text = form.text();
    let name = text
        .strip_prefix("access_token=%24CRED%7B")
        .expect("a handle");
    let (name, rest) = name.split_once("%7D").expect("a handle");
    assert_eq!(rest, "&scope=a%2Cb&token_type=bearer");
    let answer = world.send(&user(&token, &format!("$CRED{{{name}}}"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let pending = log_in(&world, &token).await;
    assert_eq!(
        (pending.status, pending.text()),
        (400, "{\"error\":\"authorization_pending\"}".to_owned())
    );
    assert_eq!(log_in(&world, &token).await.json()["user_code"], "AB-CD");
}

#[tokio::test]
async fn case_71_an_answer_that_is_not_understood_is_withheld() {
    let long = format!("{{\"a\":\"{}\"}}", "a".repeat(70_000));
    let scripts = [
        answer("200 OK", "text/plain", &format!("access_token={ACCESS}")),
        answer("200 OK", "text/html", &format!("<html>{ACCESS}</html>")),
        answer("200 OK", "application/json", &format!("\"{ACCESS}\"")),
        answer("500 Oops", "text/html", &format!("<html>{ACCESS}</html>")),
        json_answer("400 Bad", &json!({ "error": "x", "access_token": ACCESS })),
        json_answer(
            "200 OK\r\ncontent-encoding: gzip",
            &json!({ "access_token": ACCESS }),
        ),
        answer("200 OK", "application/json", &long),
        json_answer("200 OK", &json!({ "access_token": [ACCESS] })),
    ];
    let count = scripts.len();
    let id = Scripted::start(move |number, _| scripts[number].clone()).await;
    let world = world(&id).await;
    let token = world.token("acme").await;
    for number in 0..count {
        let refused = log_in(&world, &token).await;
        let all = format!("{:?} {}", refused.headers, refused.text());
        assert_eq!(refused.status, 502, "{number}: {all}");
        assert_eq!(refused.header("x-tollgate-error"), Some("answer_withheld"));
        assert!(sightings(&all, ACCESS).is_empty(), "{all}");
    }
    world.assert_no_contact();
}
