//! Keys that sign for AWS and are never sent.

use hyper::http::{HeaderMap, HeaderName};
use serde_json::json;
use tollgate_core::secret::Secret;
use tollgate_core::sigv4::{AccessKey, Scope, Signed, sign};
use tollgate_loadtest::mock::SeenRequest;
use tollgate_testkit::canary::sightings;
use tollgate_testkit::wait::eventually;

use crate::harness::{Ask, Plan, ProviderPlan, Site, TenantPlan, World, text};

const SECRET_KEY: &str = "sk-canary-aws-wJalrXUtnFEMI/K7MDENG";
const SESSION: &str = "sk-canary-session-IQoJb3JpZ2luX2Vj";
const MODEL: &str = "/bedrock/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse";
const CONVERSE: &str = r#"{"messages":[{"role":"user","content":[{"text":"Hi"}]}],"inferenceConfig":{"maxTokens":64}}"#;

fn bedrock(plan: &mut Plan, session: Option<&str>) {
    let url = plan.provider("openai").url.clone();
    let mut provider = ProviderPlan::bedrock(&url);
    provider
        .more
        .push_str("place = { aws_sigv4 = \"bedrock\", region = \"us-east-1\" }\n");
    provider.endpoint("GET", "/things", "tool", "price_per_call_usd = \"0.001\"\n");
    provider.endpoint(
        "POST",
        "/things",
        "tool",
        "price_per_call_usd = \"0.001\"\n",
    );
    plan.providers.clear();
    plan.providers.insert("bedrock".to_owned(), provider);
    plan.tenants.clear();
    for tenant in ["acme", "globex"] {
        let mut made = TenantPlan::with_keys(tenant, &[("bedrock", "aws")]);
        let key = json!({
            "access_key_id": format!("AKIA{}", tenant.to_uppercase()),
            "secret_access_key": format!("{SECRET_KEY}-{tenant}"),
            "session_token": session,
        });
        // As consoles and files have it: on several lines.
        made.secret("aws", &serde_json::to_string_pretty(&key).unwrap());
        plan.tenants.insert(tenant.to_owned(), made);
    }
}

fn header<'a>(seen: &'a SeenRequest, name: &str) -> Option<&'a str> {
    let mut lines = seen.headers.iter().filter(|(field, _)| field == name);
    let value = lines.next().map(|(_, value)| value.to_str().unwrap());
    assert!(lines.next().is_none(), "two lines of {name}: {seen:?}");
    value
}

/// Verifies a signature as AWS does: from the request as it arrived and the tenant's own secret.
#[track_caller]
fn assert_signed(seen: &SeenRequest, tenant: &str, session: Option<&str>) {
    let date = header(seen, "x-amz-date").expect("a date");
    let at: moment::Moment = date.parse().expect("a moment");
    let mut headers = HeaderMap::new();
    for (name, value) in &seen.headers {
        if name == "content-type" || name.starts_with("x-amz") {
            headers.append(name.parse::<HeaderName>().unwrap(), value.clone());
        }
    }
    let (path, query) = match seen.path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*seen.path_and_query, None),
    };
    let key = AccessKey {
        id: format!("AKIA{}", tenant.to_uppercase()),
        secret: Secret::new(format!("{SECRET_KEY}-{tenant}").into_bytes()),
        session_token: session.map(|token| Secret::new(token.as_bytes().to_vec())),
    };
    let request = Signed {
        method: &seen.method,
        authority: header(seen, "host").expect("a host"),
        path,
        query,
        body: &seen.body,
    };
    let scope = Scope {
        service: "bedrock",
        region: "us-east-1",
    };
    sign(&mut headers, &request, &key, scope, at.0).expect("signed");
    let expected = headers["authorization"].to_str().unwrap();
    assert_eq!(header(seen, "authorization"), Some(expected));
    assert_eq!(header(seen, "x-amz-security-token"), session);
    let all = format!("{seen:?}");
    assert!(
        sightings(&all, &format!("{SECRET_KEY}-{tenant}")).is_empty(),
        "{all}"
    );
}

/// Reads the moments of signatures.
mod moment {
    use tollgate_core::time::Timestamp;

    pub(super) struct Moment(pub(super) Timestamp);

    impl std::str::FromStr for Moment {
        type Err = std::num::ParseIntError;

        /// `20261124T023005Z`, by the civil calendar (Hinnant, "days from civil").
        fn from_str(text: &str) -> Result<Self, Self::Err> {
            let at = |from: usize, to: usize| text[from..to].parse::<i64>();
            let (year, month, day) = (at(0, 4)?, at(4, 6)?, at(6, 8)?);
            let year = if month <= 2 { year - 1 } else { year };
            let era = year.div_euclid(400);
            let of_era = year.rem_euclid(400);
            let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
            let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
            let seconds = at(9, 11)? * 3600 + at(11, 13)? * 60 + at(13, 15)?;
            Ok(Self(Timestamp::from_seconds(days * 86_400 + seconds)))
        }
    }
}

#[tokio::test]
async fn requests_to_aws_are_signed_with_the_tenants_key_which_never_leaves() {
    let world = World::planned(|plan| bedrock(plan, None)).await;
    for tenant in ["acme", "globex"] {
        let token = world.token(tenant).await;
        let before = world.calls().len();
        for ask in [
            Ask::new("POST", MODEL)
                .bearer(&token)
                .header("content-type", "application/json")
                .body(CONVERSE),
            Ask::new("GET", "/bedrock/things?b=%2F&a=2&a=1").bearer(&token),
            Ask::new("POST", "/bedrock/things")
                .bearer(&token)
                .body("{\"a\": 1}"),
            Ask::new("POST", "/bedrock/things")
                .token(&token)
                .header("authorization", "Bearer $CRED{aws}"),
        ] {
            let answer = world.send(&ask).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let record = world.record_of(tenant, &answer).await;
            assert_eq!(
                text(&record, "tollgate.credential.name"),
                "aws",
                "{record:#}"
            );
        }
        for seen in &world.calls()[before..] {
            assert_signed(seen, tenant, None);
        }
    }
    let log = world.gateway.log();
    assert!(sightings(&log, SECRET_KEY).is_empty(), "{log}");
}

#[tokio::test]
async fn a_key_that_changes_while_its_version_does_not_signs_no_more() {
    let world = World::planned(|plan| {
        bedrock(plan, None);
        plan.gateway
            .push_str("[vault]\nbackend = \"mounted\"\ndirectory = \"../secrets\"\n");
        for tenant in plan.tenants.values_mut() {
            tenant.secrets.clear();
        }
    })
    .await;
    let mount = world.gateway.site.root().join("secrets/acme");
    std::fs::create_dir_all(&mount).unwrap();
    std::fs::write(mount.join("aws.version"), "7").unwrap();
    let token = world.token("acme").await;
    let date = "x-amz-date";
    for (id, secret) in [
        ("AKIAOLD", format!("{SECRET_KEY}-old")),
        ("AKIAACME", format!("{SECRET_KEY}-acme")),
    ] {
        let key = json!({ "access_key_id": id, "secret_access_key": secret });
        std::fs::write(mount.join("next"), key.to_string()).unwrap();
        std::fs::rename(mount.join("next"), mount.join("aws")).unwrap();
        eventually("the key is in use", async || {
            let answer = world
                .send(&Ask::new("GET", "/bedrock/things").bearer(&token))
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let calls = world.calls();
            let seen = calls.last().unwrap();
            assert!(header(seen, date).is_some());
            header(seen, "authorization").unwrap().contains(id)
        })
        .await;
    }
    assert_signed(world.calls().last().unwrap(), "acme", None);
}

#[tokio::test]
async fn a_clients_own_signature_is_stripped() {
    let world = World::planned(|plan| bedrock(plan, None)).await;
    let token = world.token("acme").await;
    let own = "AWS4-HMAC-SHA256 Credential=AKIAOWN/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=00";
    let ask = Ask::new(
        "POST",
        &format!("{MODEL}?X-Amz-Signature=f00&x-amz-credential=AKIAOWN"),
    )
    .token(&token)
    .header("authorization", own)
    .header("x-amz-date", "20000101T000000Z")
    .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    .header("x-amz-security-token", "own")
    .header("content-type", "application/json")
    .body(CONVERSE);
    let answer = world.send(&ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = world.only_call();
    assert_signed(&seen, "acme", None);
    assert!(!format!("{seen:?}").contains("AKIAOWN"), "{seen:?}");
    assert!(!seen.path_and_query.contains('?'), "{seen:?}");
}

#[tokio::test]
async fn a_session_token_is_sent_and_scrubbed_from_what_comes_back() {
    let world = World::planned(|plan| bedrock(plan, Some(SESSION))).await;
    let token = world.token("acme").await;
    let ask = Ask::new("POST", &format!("{MODEL}?mock=echo-headers"))
        .bearer(&token)
        .header("content-type", "application/json")
        .body(CONVERSE);
    let answer = world.send(&ask).await;
    assert_signed(&world.only_call(), "acme", Some(SESSION));
    let all = format!("{:?} {}", answer.headers, answer.text());
    assert!(sightings(&all, SESSION).is_empty(), "{all}");
    assert!(all.contains("[redacted]"), "{all}");
}

#[tokio::test]
async fn secrets_of_a_kind_are_checked_when_they_are_set() {
    let site = Site::new();
    let mut plan = Plan::at(([127, 0, 0, 1], 9).into());
    bedrock(&mut plan, None);
    plan.write(&site);
    let arguments = ["secret", "set", "--tenant", "acme", "--name", "aws"];
    for (value, told) in [
        ("sk-canary-not-json", "one JSON object"),
        ("{\"access_key_id\":\"sk-canary-id\"}", "secret_access_key"),
    ] {
        let output = site.cli(&arguments, value);
        assert!(!output.status.success());
        let all = format!("{output:?}");
        assert!(all.contains(told), "{all}");
        assert!(!all.contains("sk-canary"), "{all}");
    }
}
