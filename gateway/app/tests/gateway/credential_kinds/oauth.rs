//! Values for which a token endpoint gives out access tokens.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tollgate_testkit::canary::sightings;
use tollgate_testkit::raw::Answer;
use tollgate_testkit::wait::{eventually, until_true};

use crate::harness::{Ask, Gateway, Heard, Scripted, World, answer, json_answer, outcome, text};

/// A gateway with one OAuth credential at `tokens`, for a tool that is the mock.
struct Oauth {
    world: World,
    tokens: Scripted,
    token: String,
}

const CLIENT: &str = "sk-canary-client-secret-77aa";

async fn oauth(kind: &str, more: &str, value: Value, tokens: Scripted) -> Oauth {
    let url = tokens.url();
    let world = World::planned(|plan| {
        let tenant = plan.tenant("acme");
        tenant.credentials = String::new();
        tenant.credential(
            "api",
            &format!(
                "{{ provider = \"github\", default = true, kind = \"{kind}\", token_url = \"{url}/token\"{more} }}"
            ),
        );
        tenant.secrets.clear();
        tenant.secret("api", &value.to_string());
    })
    .await;
    let token = world.token("acme").await;
    Oauth {
        world,
        tokens,
        token,
    }
}

async fn client_credentials(tokens: Scripted) -> Oauth {
    let value = json!({ "client_id": "me", "client_secret": CLIENT });
    oauth(
        "oauth2_client_credentials",
        ", scope = \"read\"",
        value,
        tokens,
    )
    .await
}

impl Oauth {
    async fn call(&self) -> Answer {
        let ask = Ask::new("GET", "/github/user").bearer(&self.token);
        self.world.send(&ask).await
    }

    /// So many calls at one time.
    fn calls(&self, count: usize) -> JoinSet<Answer> {
        let (token, address) = (self.token.clone(), self.world.gateway.address);
        let ask = Ask::new("GET", "/github/user").bearer(&token);
        let asks = std::iter::repeat_n(ask, count);
        asks.map(|ask| async move { ask.send(address).await })
            .collect()
    }

    /// What the upstream has been sent as `authorization`, call by call.
    fn sent(&self) -> Vec<String> {
        let calls = self.world.calls();
        calls
            .iter()
            .map(|seen| seen.header_values("authorization").concat())
            .collect()
    }
}

fn given(token: &str, expires_in: u64) -> String {
    json_answer(
        "200 OK",
        &json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in }),
    )
}

fn nth(number: usize) -> String {
    format!("sk-canary-access-{number}-1d2c3b4a")
}

#[tokio::test]
async fn many_calls_at_once_ask_for_one_token_and_later_ones_for_none() {
    let tokens = Scripted::held(|number, _| given(&nth(number), 3600)).await;
    let oauth = client_credentials(tokens).await;
    let calls = oauth.calls(20);
    until_true("the endpoint is asked", || !oauth.tokens.heard().is_empty()).await;
    oauth.world.assert_no_contact();
    oauth.tokens.release();
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(oauth.call().await.status, 200);
    let heard = oauth.tokens.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0].body, "grant_type=client_credentials&scope=read");
    assert!(heard[0].head.starts_with("POST /token HTTP/1.1\r\n"));
    assert!(heard[0].head.contains("\r\nauthorization: Basic "));
    assert_eq!(oauth.sent(), vec![format!("Bearer {}", nth(0)); 21]);
}

#[tokio::test]
async fn an_access_token_is_scrubbed_from_answers_like_any_secret() {
    let tokens = Scripted::start(|number, _| given(&nth(number), 3600)).await;
    let oauth = client_credentials(tokens).await;
    let ask = Ask::new(
        "POST",
        "/github/repos/a/b/issues?mock=echo-headers,echo-base64",
    )
    .bearer(&oauth.token);
    let answer = oauth.world.send(&ask.body("{}")).await;
    let all = format!("{:?} {}", answer.headers, answer.text());
    assert!(sightings(&all, &nth(0)).is_empty(), "{all}");
    assert!(all.contains("[redacted]"), "{all}");
    let log = oauth.world.gateway.log();
    for secret in [&*nth(0), CLIENT] {
        assert!(sightings(&log, secret).is_empty(), "{log}");
    }
}

#[tokio::test]
async fn a_token_goes_with_its_stored_value() {
    let tokens = Scripted::start(|number, _| given(&nth(number), 3600)).await;
    let oauth = client_credentials(tokens).await;
    assert_eq!(oauth.call().await.status, 200);
    let site = &oauth.world.gateway.site;
    let rotated =
        json!({ "client_id": "me", "client_secret": "sk-canary-second-aa77" }).to_string();
    site.secret("rotate", "acme", "api", &rotated);
    eventually("the new value is used", async || {
        assert_eq!(oauth.call().await.status, 200);
        oauth.sent().last() == Some(&format!("Bearer {}", nth(1)))
    })
    .await;
    assert_eq!(oauth.tokens.heard().len(), 2);
    site.cli_ok(
        &["secret", "revoke", "--tenant", "acme", "--name", "api"],
        "",
    );
    eventually("the revocation is seen", async || {
        oauth.call().await.status == 503
    })
    .await;
    let before = oauth.world.calls().len();
    let refused = oauth.call().await;
    assert_eq!(
        refused.header("x-tollgate-error"),
        Some("credential_unavailable")
    );
    assert_eq!(oauth.world.calls().len(), before);
    assert_eq!(oauth.tokens.heard().len(), 2);
}

#[tokio::test]
async fn an_expired_token_is_not_used() {
    // Ten seconds less a tenth, counted from before the endpoint was asked: nothing is left of one.
    let tokens = Scripted::start(|number, _| given(&nth(number), 0)).await;
    let oauth = client_credentials(tokens).await;
    for number in 0..3 {
        assert_eq!(oauth.call().await.status, 200);
        assert_eq!(oauth.sent()[number], format!("Bearer {}", nth(number)));
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_contacted_and_nothing_held_or_told() {
    let long = format!("{{\"access_token\":\"{}\"}}", "a".repeat(70_000));
    let answers = [
        json_answer("400 Bad Request", &json!({ "error": "invalid_client", "error_description": "sk-canary-told" })),
        json_answer("500 Oops", &json!({ "access_token": nth(0) })),
        json_answer("200 OK", &json!({ "token": "sk-canary-told" })),
        json_answer("200 OK", &json!({ "access_token": nth(0), "token_type": "mac" })),
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/sk-canary-told\r\ncontent-length: 0\r\n\r\n".to_owned(),
        answer("200 OK", "application/json", &long),
        "sk-canary-told\r\n\r\n".to_owned(),
    ];
    for script in answers {
        let said = script.clone();
        let tokens = Scripted::start(move |_, _| said.clone()).await;
        let oauth = client_credentials(tokens).await;
        let answer = oauth.call().await;
        assert_eq!(answer.status, 503, "{script:.200}: {}", answer.text());
        assert_eq!(
            answer.header("x-tollgate-error"),
            Some("credential_unavailable")
        );
        oauth.world.assert_no_contact();
        let record = oauth.world.record_of("acme", &answer).await;
        assert_eq!(
            text(&record, "error.type"),
            "credential_unavailable",
            "{record:#}"
        );
        assert_ne!(outcome(&record), "completed");
        let all = format!(
            "{:?}{}{}",
            answer.headers,
            answer.text(),
            oauth.world.gateway.log()
        );
        assert!(!all.contains("sk-canary"), "{all}");
        for budget in oauth.world.gateway.budgets("acme").await {
            assert_eq!(budget["reserved_usd"], "0", "{budget}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_not_stormed() {
    let tokens = Scripted::start(|_, _| json_answer("503 Down", &json!({}))).await;
    let oauth = client_credentials(tokens).await;
    let answers = oauth.calls(30).join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 503));
    let heard = oauth.tokens.heard().len();
    assert!(heard <= 3, "{heard}");
    oauth.world.assert_no_contact();
}

/// Gives out one refresh token after the other, each good once.
fn rotating(number: usize, heard: &Heard) -> String {
    let expected = format!("refresh_token=sk-canary-refresh-{number}&");
    if !heard.body.contains(&expected) {
        return json_answer("400 Bad", &json!({ "error": "invalid_grant" }));
    }
    let next = format!("sk-canary-refresh-{}", number + 1);
    json_answer(
        "200 OK",
        &json!({ "access_token": nth(number), "expires_in": 0, "refresh_token": next }),
    )
}

#[tokio::test]
async fn a_refresh_token_that_is_good_once_is_replaced_in_the_vault() {
    let tokens = Scripted::start(rotating).await;
    let value = json!({ "client_id": "me", "client_secret": CLIENT, "refresh_token": "sk-canary-refresh-0" });
    let oauth = oauth(
        "oauth2_refresh_token",
        ", client_auth = \"body\"",
        value,
        tokens,
    )
    .await;
    for number in 0..4 {
        let answer = oauth.call().await;
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        assert_eq!(oauth.sent()[number], format!("Bearer {}", nth(number)));
    }
    let Oauth { world, tokens, .. } = oauth;
    let World { gateway, mock } = world;
    let site = std::sync::Arc::clone(&gateway.site);
    drop(gateway);
    // Another process knows no more than the vault does.
    let gateway: Gateway = site.serve().await;
    let token = gateway.mint("acme", "a1", "t2").await;
    let answer = Ask::new("GET", "/github/user")
        .bearer(&token)
        .send(gateway.address)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(tokens.heard().len(), 5);
    assert_eq!(mock.seen().len(), 5);
}

#[tokio::test]
async fn a_service_account_asks_where_the_policy_says_and_nowhere_else() {
    let account = |uri: Option<&str>| {
        json!({
            "type": "service_account", "client_email": "a@p.iam.example", "private_key_id": "k1",
            "private_key": include_str!("../../../../core/testdata/credential/rsa.pem"), "token_uri": uri,
        })
    };
    let tokens = Scripted::start(|number, _| given(&nth(number), 3600)).await;
    let oauth = oauth("google_service_account", "", account(None), tokens).await;
    assert_eq!(oauth.call().await.status, 200);
    let heard = oauth.tokens.heard();
    let start = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = heard[0].body.strip_prefix(start).expect("an assertion");
    let (header, claims) = tollgate_testkit::forge::open(assertion);
    assert_eq!(header, json!({ "typ": "JWT", "alg": "RS256", "kid": "k1" }));
    assert_eq!(
        claims["scope"],
        "https://www.googleapis.com/auth/cloud-platform"
    );
    assert_eq!(claims["aud"], format!("{}/token", oauth.tokens.url()));
    assert_eq!(oauth.sent(), [format!("Bearer {}", nth(0))]);
    let elsewhere = account(Some("http://127.0.0.1:9/token")).to_string();
    let output = oauth.world.gateway.site.cli(
        &["secret", "set", "--tenant", "acme", "--name", "api"],
        &elsewhere,
    );
    assert!(!output.status.success());
    assert!(format!("{output:?}").contains("token_uri"), "{output:?}");
}
