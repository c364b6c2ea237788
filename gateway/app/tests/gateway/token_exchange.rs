//! Foreign tokens exchanged for task tokens at `/oauth2/token`, and what the new tokens open.

mod case_refusals;
mod issuer_keys;
mod renewal;
mod requests;
mod revocation;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tollgate_testkit::forge::open;
use tollgate_testkit::issuer::{IssuerKey, KeyServer, key_set};
use tollgate_testkit::raw::Answer;

use crate::harness::{Ask, Plan, World, chat, text};

const ISS: &str = "https://kubernetes.default.svc.cluster.local";

/// Whose tokens are whose: namespaces `acme` and `globex` by pod, `batch` by request, `both` twice.
const MAPS: &str = r#"
[[map]]
when = { "/kubernetes.io/namespace" = "acme" }
tenant = "acme"
agent = { claim = "/sub", strip_prefix = "system:serviceaccount:acme:" }
task = { claim = "/kubernetes.io/pod/name" }
[[map]]
when = { "/kubernetes.io/namespace" = "globex" }
tenant = "globex"
agent = { claim = "/sub", strip_prefix = "system:serviceaccount:globex:" }
task = { claim = "/kubernetes.io/pod/name" }
[[map]]
when = { "/kubernetes.io/namespace" = "batch" }
tenant = "acme"
agent = "batch"
task_may_be_requested = true
[[map]]
when = { "/kubernetes.io/namespace" = "both" }
tenant = "acme"
agent = "a"
task = "t"
[[map]]
when = { "/sub" = "system:serviceaccount:both:*" }
tenant = "globex"
agent = "a"
task = "t"
[[map]]
when = { "/kubernetes.io/namespace" = "closed" }
tenant = "closed"
agent = "a"
task = "t"
"#;

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The claims of a projected service-account token, as Kubernetes 1.34 writes them.
pub(crate) fn claims(namespace: &str, account: &str) -> Value {
    let issued = now() - 60;
    json!({
        "aud": ["tollgate"],
        "exp": issued + 3_607,
        "iat": issued,
        "iss": ISS,
        "jti": "9e1f7f58-4a53-4c62-a1fd-2d8b3f8a8f55",
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": "node-1", "uid": "1f6d0d8b-31cf-4ad4-b4d3-4a8d0a3f4a11"},
            "pod": {"name": "bot-7d9f", "uid": "c9d20b6c-0d43-4a53-b9a0-50f2ad5bb1c9"},
            "serviceaccount": {"name": account, "uid": "5e1b1b0e-98ce-4aaf-b8d5-0a2a1d4f6a0c"},
        },
        "nbf": issued,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
    })
}

fn issuer_file(source: &str) -> String {
    format!(
        "[issuer]\nname = \"kubernetes\"\niss = \"{ISS}\"\naudience = \"tollgate\"\n\
         algorithms = [\"RS256\", \"ES256\"]\n{source}\n{MAPS}"
    )
}

fn add_issuer(plan: &mut Plan, source: &str) {
    let file = "issuers/kubernetes.toml".to_owned();
    plan.files.insert(file, issuer_file(source));
    let closed = "[tenant]\nid = \"closed\"\nenabled = false\n";
    let file = "tenants/closed.toml".to_owned();
    plan.files.insert(file, closed.to_owned());
    plan.tenant("acme").more = "[agents.locked-out]\nenabled = false\n".to_owned();
}

/// A gateway that believes an issuer.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) key: IssuerKey,
    server: KeyServer,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        Self::with_key(IssuerKey::es256("k1")).await
    }

    async fn with_key(key: IssuerKey) -> Self {
        let server = KeyServer::start(&key_set(&[&key])).await;
        let source = format!("jwks_url = \"{}\"", server.url());
        let world = World::planned(|plan| add_issuer(plan, &source)).await;
        Self { world, key, server }
    }

    /// A token of a service account.
    pub(crate) fn token(&self, namespace: &str, account: &str) -> String {
        self.key.sign(&claims(namespace, account))
    }

    async fn exchange(&self, token: &str) -> Answer {
        self.world.send(&form(token, "")).await
    }

    /// Exchanges, and expects a task token.
    async fn exchanged(&self, token: &str) -> String {
        granted(&self.exchange(token).await)
    }

    /// Checks an answer that refuses a subject token, and what the record says of it.
    async fn is_refused(&self, answer: &Answer, reason: &str) {
        self.is_refused_in("_gateway", answer, reason).await;
    }

    async fn is_refused_in(&self, tenant: &str, answer: &Answer, reason: &str) {
        let said = "the subject token is not accepted";
        check_error(
            answer,
            400,
            "invalid_request",
            "invalid_subject_token",
            said,
        );
        let record = self.world.record_of(tenant, answer).await;
        assert_eq!(
            text(&record, "tollgate.refusal.reason"),
            reason,
            "{record:#}"
        );
        assert_eq!(text(&record, "error.type"), "invalid_subject_token");
    }
}

/// The request for a task token.
fn form(token: &str, more: &str) -> Ask {
    let body = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={token}\
         &subject_token_type=urn:ietf:params:oauth:token-type:jwt{more}"
    );
    Ask::new("POST", "/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
}

/// The token in an answer of RFC 8693 section 2.2.1.
#[track_caller]
fn granted(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("x-tollgate-request-id").is_some());
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer", "{body}");
    let kind = "urn:ietf:params:oauth:token-type:jwt";
    assert_eq!(body["issued_token_type"], kind, "{body}");
    let seconds = body["expires_in"].as_u64().expect("a lifetime");
    assert!((1..=300).contains(&seconds), "{body}");
    body["access_token"].as_str().expect("a token").to_owned()
}

/// An error as RFC 6749 section 5.2 has it.
#[track_caller]
fn check_error(answer: &Answer, status: u16, error: &str, code: &str, said: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["error"], error, "{body}");
    let description = body["error_description"].as_str().expect("a description");
    assert!(description.contains(said), "{body}");
    assert_eq!(answer.header("x-tollgate-error"), Some(code), "{body}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

/// A model call with a task token.
async fn call(world: &World, token: &str) -> Answer {
    let ask = Ask::new("POST", "/openai/v1/chat/completions");
    world.send(&ask.bearer(token).json(&chat())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_accounts_token_becomes_a_task_token_that_calls() {
    for key in [IssuerKey::es256("k1"), IssuerKey::rs256("k1")] {
        let cluster = Cluster::with_key(key).await;
        let token = cluster.exchanged(&cluster.token("acme", "bot")).await;
        let (_, told) = open(&token);
        assert_eq!(told["tenant"], "acme");
        assert_eq!(told["sub"], "bot");
        assert_eq!(told["task"], "bot-7d9f");
        assert_eq!(told["cnf"], Value::Null);
        let lifetime = told["exp"].as_i64().unwrap() - told["iat"].as_i64().unwrap();
        assert_eq!(lifetime, 300);
        cluster.world.assert_no_contact();
        let answer = call(&cluster.world, &token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let record = cluster.world.record_of("acme", &answer).await;
        assert_eq!(text(&record, "tenant.id"), "acme", "{record:#}");
        assert_eq!(record["tollgate.task.id"], "bot-7d9f", "{record:#}");
        // The keys have been asked for once, and the foreign token itself opens nothing.
        cluster.exchanged(&cluster.token("globex", "bot")).await;
        assert_eq!(cluster.server.asked().len(), 1);
        let foreign = call(&cluster.world, &cluster.token("acme", "bot")).await;
        assert_eq!(foreign.status, 401, "{}", foreign.text());
        let log = cluster.world.gateway.log();
        assert!(log.contains("task token given out"), "{log}");
        assert!(log.contains("\"issuer\":\"kubernetes\""), "{log}");
        assert!(!log.contains(&token), "a token is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_token_does_not_outlive_the_token_it_was_exchanged_for() {
    let cluster = Cluster::new().await;
    let mut soon = claims("acme", "bot");
    soon["exp"] = json!(now() + 40);
    let answer = cluster.exchange(&cluster.key.sign(&soon)).await;
    let (_, told) = open(&granted(&answer));
    assert!(told["exp"].as_i64() <= soon["exp"].as_i64(), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_the_task_where_the_policy_lets_it() {
    let cluster = Cluster::new().await;
    let worker = cluster.token("batch", "worker");
    let answer = cluster.world.send(&form(&worker, "&task=job-7")).await;
    let (_, told) = open(&granted(&answer));
    let named = (&told["tenant"], &told["sub"], &told["task"]);
    assert_eq!(named, (&json!("acme"), &json!("batch"), &json!("job-7")));

    // Never a tenant or an agent, whatever the parameters are called.
    let more = "&task=job-8&tenant=globex&agent=admin&sub=admin";
    let answer = cluster.world.send(&form(&worker, more)).await;
    let (_, told) = open(&granted(&answer));
    assert_eq!(
        (&told["tenant"], &told["sub"]),
        (&json!("acme"), &json!("batch"))
    );

    for (token, more, reason) in [
        (worker, "", "task_missing"),
        (
            cluster.token("acme", "bot"),
            "&task=job-7",
            "task_not_requestable",
        ),
    ] {
        let answer = cluster.world.send(&form(&token, more)).await;
        check_error(
            &answer,
            400,
            "invalid_request",
            "task_not_allowed",
            "the task",
        );
        let record = cluster.world.record_of("_gateway", &answer).await;
        assert_eq!(text(&record, "tollgate.refusal.reason"), reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_exchanges_and_renews() {
    let cluster = Cluster::new().await;
    let site = &cluster.world.gateway.site;
    let gateway = format!("http://{}", cluster.world.gateway.address);
    let file = site.root().join("projected-token");
    std::fs::write(&file, format!("{}\n", cluster.token("batch", "worker"))).unwrap();
    let file = file.to_str().unwrap();
    let exchange = [
        "token",
        "exchange",
        "--gateway",
        &gateway,
        "--subject-token-file",
    ];
    let with = |more: &[&'static str]| [&exchange[..], more].concat();

    let first = site.cli_ok(&[&exchange[..], &[file, "--task", "job-7"]].concat(), "");
    let first = first.trim();
    assert_eq!(call(&cluster.world, first).await.status, 200);
    let second = site.cli_ok(&with(&["-"]), first);
    assert_ne!(first, second.trim());
    assert_eq!(open(second.trim()).1["task"], "job-7");
    let told = site.cli_ok(&with(&["-", "--json"]), first);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["token_type"], "Bearer", "{told}");

    let output = site.cli(&with(&["-"]), "a.b.c");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the subject token is not accepted"), "{said}");
}
