//! The admin API through its router, over stores that live in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate_core::admin_log::{AdminAction, AdminLog, Ended};
use tollgate_core::budget::{Balance, Budget, BudgetKey, BudgetStore, Hold, Reserved, StoreError};
use tollgate_core::identity::{Caller, Mint, new_private_key, verify};
use tollgate_core::ids::{RecordId, TokenId};
use tollgate_core::issue::TokenDesk;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::Policy;
use tollgate_core::policy::parse::{PolicyFile, parse};
use tollgate_core::registry::{Liveness, Registered, Revocation, TokenRegistry};
use tollgate_core::time::Timestamp;
use tower::ServiceExt;

use crate::credentials::{Credential, CredentialDigest, CredentialSource, Credentials, Role};
use crate::explain::{Explainer, NotACall, Question, Who};
use crate::probes::Readiness;
use crate::reports::{CostQuestion, CostReports, NoReport};
use crate::server::{AdminListener, router, serve};
use crate::{Admin, CurrentPolicy};

const OPERATOR: &str = "operator-token-for-tests";

fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().expect("a time")
}

#[derive(Default)]
struct Table(Mutex<BTreeMap<TokenId, Caller>>);

#[async_trait]
impl TokenRegistry for Table {
    fn liveness(&self, caller: &Caller) -> Result<Liveness, StoreError> {
        let known = self.0.lock().expect("lock").contains_key(&caller.token);
        Ok(if known {
            Liveness::Live
        } else {
            Liveness::Revoked
        })
    }

    async fn register(
        &self,
        caller: &Caller,
        _rests_on: Option<Timestamp>,
    ) -> Result<Registered, StoreError> {
        if caller.task.as_str() == "finished" {
            return Ok(Registered::TaskComplete);
        }
        let mut table = self.0.lock().expect("lock");
        table.insert(caller.token.clone(), caller.clone());
        Ok(Registered::Live)
    }

    async fn revoke(&self, what: &Revocation, _now: Timestamp) -> Result<usize, StoreError> {
        let mut table = self.0.lock().expect("lock");
        let before = table.len();
        table.retain(|id, caller| match what {
            Revocation::Token { token, .. } => id != token,
            Revocation::Task { tenant, task } => (&caller.tenant, &caller.task) != (tenant, task),
            Revocation::Agent { tenant, agent } => {
                (&caller.tenant, &caller.agent) != (tenant, agent)
            }
            Revocation::Tenant { tenant } => caller.tenant != *tenant,
        });
        Ok(before - table.len())
    }
}

/// Every counter holds a dollar settled and a quarter reserved.
struct Ledger;

#[async_trait]
impl BudgetStore for Ledger {
    async fn reserve(
        &self,
        _id: RecordId,
        _budgets: &[Budget],
        _amount: PicoUsd,
        _now: Timestamp,
    ) -> Result<Reserved, StoreError> {
        unreachable!("the admin side never reserves")
    }

    fn settle(&self, _hold: &Hold, _actual: PicoUsd) {
        unreachable!("the admin side never settles")
    }

    fn correct(&self, _keys: &[BudgetKey], _by: PicoUsd, _now: Timestamp) {}

    async fn balance(&self, _key: &BudgetKey) -> Result<Balance, StoreError> {
        Ok(Balance {
            settled: "1".parse().expect("money"),
            reserved: "0.25".parse().expect("money"),
        })
    }
}

struct Reports;

impl CostReports for Reports {
    fn cost(&self, question: &CostQuestion) -> Result<Value, NoReport> {
        match question.by.as_deref() {
            Some("colour") => Err(NoReport::Question("cannot group by colour".to_owned())),
            by => Ok(json!({ "by": by, "tenant": question.tenant })),
        }
    }
}

/// Explains nothing but who asks about whom.
struct Echo;

#[async_trait]
impl Explainer for Echo {
    async fn explain(&self, question: Question, hints: bool) -> Result<Value, NotACall> {
        let who = match question.identity {
            None => "shown".to_owned(),
            Some(Who::Holder { .. }) => "holder".to_owned(),
            Some(Who::Claimed { tenant, .. }) => tenant,
        };
        if question.method.contains(' ') {
            return Err(NotACall("the method is not one of HTTP".to_owned()));
        }
        Ok(json!({ "who": who, "hints": hints }))
    }
}

struct Lacking(Vec<&'static str>);

impl Readiness for Lacking {
    fn missing(&self) -> Vec<&'static str> {
        self.0.clone()
    }
}

/// An operator, and an auditor and a minter of `acme`; or a file that nobody can read.
struct Known(bool);

const AUDITOR: &str = "auditor-of-acme";
const MINTER: &str = "minter-of-acme";

impl CredentialSource for Known {
    fn current(&self) -> Result<Credentials, StoreError> {
        if !self.0 {
            return Err(broken("read"));
        }
        let acme = || ["acme".parse().expect("a tenant")].into();
        let mut all = Credentials::default();
        for (name, role, text) in [
            ("olga", Role::Operator, OPERATOR),
            ("alice", Role::Auditor(acme()), AUDITOR),
            ("mia", Role::Minter(acme()), MINTER),
        ] {
            let one = Credential {
                name: name.parse().expect("a name"),
                role,
                digest: CredentialDigest::of(text),
                created_at: now(),
                expires_at: None,
            };
            all.add(one).expect("added");
        }
        Ok(all)
    }
}

fn broken(operation: &'static str) -> StoreError {
    StoreError {
        operation,
        store: "test",
        cause: "broken".into(),
    }
}

/// Keeps every line as it would stand in a partition, or nothing at all.
#[derive(Default)]
struct Book {
    lines: Mutex<BTreeMap<RecordId, (String, Value)>>,
    is_full: std::sync::atomic::AtomicBool,
}

impl Book {
    /// The lines in their order, with the partition of each.
    fn lines(&self) -> Vec<(String, Value)> {
        self.lines.lock().expect("lock").values().cloned().collect()
    }
}

#[async_trait]
impl AdminLog for Book {
    async fn begin(&self, action: &AdminAction) -> Result<(), StoreError> {
        if self.is_full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(broken("keep an action"));
        }
        let line = serde_json::to_value(action).expect("JSON");
        let partition = action.partition.as_str().to_owned();
        let mut lines = self.lines.lock().expect("lock");
        lines.insert(action.id, (partition, line));
        Ok(())
    }

    fn end(&self, id: RecordId, ended: &Ended) {
        let mut lines = self.lines.lock().expect("lock");
        let (_, line) = lines.get_mut(&id).expect("it has begun");
        let ended = serde_json::to_value(ended).expect("JSON");
        let more = ended.as_object().expect("an object").clone();
        line.as_object_mut().expect("an object").extend(more);
    }
}

fn policy() -> Arc<Policy> {
    let tenant = |id: &str, rest: &str| PolicyFile {
        path: format!("tenants/{id}.toml"),
        text: format!("[tenant]\nid = \"{id}\"\n{rest}"),
    };
    let caps = "[caps]\ndaily_usd = \"5\"\ntask_usd = \"2\"\n[agents.bot]\ndaily_usd = \"1\"\n\
                [models.\"gpt-5*\"]\nmonthly_usd = \"3\"\n";
    let files = [tenant("acme", caps), tenant("closed", "enabled = false\n")];
    Arc::new(parse(&files).expect("a policy"))
}

fn admin(lacking: Vec<&'static str>) -> Arc<Admin> {
    admin_with(lacking, Known(true), Arc::new(Book::default()))
}

fn admin_with(lacking: Vec<&'static str>, known: Known, log: Arc<Book>) -> Arc<Admin> {
    let mint = Mint::from_pem(&new_private_key(&[7; 32]), "tollgate", "tollgate").expect("a key");
    let policy = policy();
    let policy: CurrentPolicy = Arc::new(move || Arc::clone(&policy));
    let metrics = prometheus::Registry::new();
    let counter = prometheus::IntCounter::new("tollgate_test_total", "A counter.").expect("metric");
    metrics
        .register(Box::new(counter.clone()))
        .expect("registered");
    Arc::new(Admin {
        credentials: Arc::new(known),
        log,
        keys: mint.keys(),
        desk: Arc::new(TokenDesk {
            mint,
            registry: Arc::new(Table::default()),
        }),
        budgets: Arc::new(Ledger),
        explainer: Arc::new(Echo),
        reports: Arc::new(Reports),
        readiness: Arc::new(Lacking(lacking)),
        metrics,
        refresh_metrics: Arc::new(move || counter.inc()),
        policy,
        clock: now,
    })
}

async fn send(admin: &Arc<Admin>, request: Request<Body>) -> (StatusCode, Value) {
    let answer = router(Arc::clone(admin))
        .oneshot(request)
        .await
        .expect("an answer");
    let status = answer.status();
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

fn request(
    method: Method,
    path: &str,
    bearer: Option<&str>,
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(bearer) = bearer {
        request = request.header("authorization", bearer);
    }
    request.body(body.into()).expect("a request")
}

async fn post(admin: &Arc<Admin>, path: &str, body: &Value) -> (StatusCode, Value) {
    let bearer = format!("Bearer {OPERATOR}");
    send(
        admin,
        request(Method::POST, path, Some(&bearer), body.to_string()),
    )
    .await
}

async fn get(admin: &Arc<Admin>, path: &str) -> (StatusCode, Value) {
    let bearer = format!("Bearer {OPERATOR}");
    send(
        admin,
        request(Method::GET, path, Some(&bearer), Body::empty()),
    )
    .await
}

#[tokio::test]
async fn a_minted_token_is_live_until_it_is_revoked() {
    let admin = admin(vec![]);
    let asked = json!({"tenant": "acme", "agent": "bot", "task": "t-1", "ttl_seconds": 60});
    let (status, minted) = post(&admin, "/v1/tokens", &asked).await;
    assert_eq!(status, StatusCode::CREATED, "{minted}");
    let token = minted["token"].as_str().expect("a token");
    let caller = verify(token, &admin.keys, now()).expect("a good token");
    assert_eq!(minted["jti"], caller.token.as_str());
    assert_eq!(minted["expires_at"], "2026-11-23T10:01:00.000000Z");
    assert_eq!(caller.expires_at, now().plus(Duration::from_secs(60)));

    let shown = json!({ "token": token });
    let (_, told) = post(&admin, "/v1/tokens/introspect", &shown).await;
    let expected = json!({
        "active": true, "token_type": "Bearer", "sub": "bot", "tenant": "acme", "task": "t-1",
        "jti": minted["jti"], "iat": now().as_seconds(), "exp": now().as_seconds() + 60,
    });
    assert_eq!(told, expected);

    let what = json!({"kind": "token", "tenant": "acme", "token": minted["jti"]});
    let (status, revoked) = post(&admin, "/v1/tokens/revoke", &what).await;
    assert_eq!((status, revoked), (StatusCode::OK, json!({"revoked": 1})));
    let (_, told) = post(&admin, "/v1/tokens/introspect", &shown).await;
    assert_eq!(told, json!({"active": false, "reason": "token_revoked"}));
}

#[tokio::test]
async fn a_token_can_be_bound_to_a_certificate() {
    let admin = admin(Vec::new());
    let digest = "A".repeat(43);
    let mut asked = json!({"tenant": "acme", "agent": "bot", "task": "t-1"});
    asked["certificate_sha256"] = json!(digest);
    let (status, minted) = post(&admin, "/v1/tokens", &asked).await;
    assert_eq!(status, 201, "{minted}");
    let shown = json!({"token": minted["token"]});
    let (_, told) = post(&admin, "/v1/tokens/introspect", &shown).await;
    assert_eq!(told["cnf"], json!({"x5t#S256": digest}), "{told}");
    for wrong in ["", "AAAA", &"=".repeat(43), &"0".repeat(64)] {
        asked["certificate_sha256"] = json!(wrong);
        let (status, problem) = post(&admin, "/v1/tokens", &asked).await;
        assert_eq!(status, 422, "{problem}");
    }
}

#[tokio::test]
async fn tokens_that_cannot_be_minted_are_told_apart() {
    let admin = admin(vec![]);
    for (tenant, agent, task, ttl, status, code) in [
        ("acme", "bot", "t", 0, 422, "invalid_value"),
        ("acme", "bot", "t", 301, 422, "invalid_value"),
        ("acme", "b/t", "t", 300, 422, "invalid_value"),
        ("Acme", "bot", "t", 300, 422, "invalid_value"),
        ("nobody", "bot", "t", 300, 404, "tenant_unknown"),
        ("closed", "bot", "t", 300, 403, "tenant_disabled"),
        ("acme", "bot", "finished", 300, 409, "task_complete"),
    ] {
        let body = json!({"tenant": tenant, "agent": agent, "task": task, "ttl_seconds": ttl});
        let (answered, problem) = post(&admin, "/v1/tokens", &body).await;
        assert_eq!(answered.as_u16(), status, "{body}: {problem}");
        assert_eq!(problem["code"], code, "{body}");
        assert_eq!(problem["status"], status, "{body}");
    }
}

#[tokio::test]
async fn requests_of_another_form_are_refused() {
    let admin = admin(vec![]);
    let more = json!({"tenant": "acme", "agent": "bot", "task": "t", "admin": true});
    let both = json!({"kind": "tenant", "tenant": "acme", "task": "t"});
    for (path, body, status, code) in [
        (
            "/v1/tokens",
            json!({"tenant": "acme"}),
            400,
            "malformed_request",
        ),
        ("/v1/tokens", json!("text"), 400, "malformed_request"),
        ("/v1/tokens", more, 400, "malformed_request"),
        ("/v1/tokens/revoke", both, 400, "malformed_request"),
        (
            "/v1/tokens/revoke",
            json!({"kind": "everything"}),
            400,
            "malformed_request",
        ),
        ("/v1/nothing", json!({}), 404, "not_found"),
        ("/v1/reports/cost", json!({}), 405, "method_not_allowed"),
    ] {
        let (answered, problem) = post(&admin, path, &body).await;
        assert_eq!(answered.as_u16(), status, "{path} {body}: {problem}");
        assert_eq!(problem["code"], code, "{path} {body}");
    }
}

#[tokio::test]
async fn only_the_operator_token_opens_v1() {
    let admin = admin(vec![]);
    for bearer in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer operator-token-for-test"),
        Some("Bearer operator-token-for-tests2"),
        Some("Basic operator-token-for-tests"),
        Some("operator-token-for-tests"),
    ] {
        for path in [
            "/v1/tokens",
            "/v1/tokens/revoke",
            "/v1/budgets/acme",
            "/nothing",
        ] {
            let (status, problem) = send(&admin, request(Method::POST, path, bearer, "{}")).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{bearer:?} {path}");
            assert_eq!(problem["code"], "admin_credential_required");
        }
    }
    let mut twice = request(
        Method::GET,
        "/v1/budgets/acme",
        Some(&format!("Bearer {OPERATOR}")),
        "",
    );
    twice
        .headers_mut()
        .append("authorization", "Bearer other".parse().expect("a value"));
    assert_eq!(
        send(&admin, twice).await.0,
        StatusCode::UNAUTHORIZED,
        "two are ambiguous"
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let admin = admin(vec![]);
    let (status, problem) = post(&admin, "/v1/tokens/introspect", &json!("x".repeat(70_000))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{problem}");
    assert_eq!(problem["code"], "body_too_large");
}

#[tokio::test]
async fn an_answer_never_repeats_what_was_sent() {
    let admin = admin(vec![]);
    let (_, problem) = post(&admin, "/v1/tokens", &json!({"sk-canary-field": 1})).await;
    assert!(!problem.to_string().contains("canary"), "{problem}");
}

#[tokio::test]
async fn balances_stand_beside_their_caps() {
    let admin = admin(vec![]);
    let (status, told) = get(&admin, "/v1/budgets/acme?task=t-1").await;
    assert_eq!(status, StatusCode::OK);
    let lines = told["budgets"].as_array().expect("lines");
    let seen: Vec<(&str, Option<&str>, Option<&str>)> = lines
        .iter()
        .map(|line| {
            let text = |field: &str| line[field].as_str();
            (
                text("key").unwrap_or(""),
                text("limit_usd"),
                text("left_usd"),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("acme/tenant/day:2026-11-23", Some("5"), Some("3.75")),
            ("acme/tenant/month:2026-11", None, None),
            ("acme/agent=bot/day:2026-11-23", Some("1"), Some("0")),
            ("acme/model=gpt-5*/month:2026-11", Some("3"), Some("1.75")),
            ("acme/task=t-1/total", Some("2"), Some("0.75")),
        ]
    );
    assert_eq!(lines[0]["resets_at"], "2026-11-24T00:00:00.000000Z");
    assert_eq!(
        get(&admin, "/v1/budgets/nobody").await.0,
        StatusCode::NOT_FOUND
    );
    let (status, _) = get(&admin, "/v1/budgets/acme?tsk=1").await;
    assert_eq!(
        status,
        StatusCode::BAD_REQUEST,
        "unknown parameters are refused"
    );
}

#[tokio::test]
async fn reports_are_asked_for_by_query() {
    let admin = admin(vec![]);
    let (status, report) = get(&admin, "/v1/reports/cost?tenant=acme&by=model").await;
    assert_eq!(
        (status, report),
        (StatusCode::OK, json!({"by": "model", "tenant": "acme"}))
    );
    let (status, problem) = get(&admin, "/v1/reports/cost?by=colour").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["detail"], "cannot group by colour");
    assert_eq!(
        get(&admin, "/v1/reports/cost?top=x").await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn probes_and_metrics_need_no_token() {
    let anybody = |path: &str| request(Method::GET, path, None, "");
    let lacking = admin(vec!["policy", "ledger"]);
    assert_eq!(send(&lacking, anybody("/livez")).await.0, StatusCode::OK);
    let (status, told) = send(&lacking, anybody("/readyz")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told["missing"], json!(["policy", "ledger"]));
    let ready = admin(vec![]);
    assert_eq!(send(&ready, anybody("/readyz")).await.0, StatusCode::OK);
    let (_, text) = send(&ready, anybody("/metrics")).await;
    assert!(text.to_string().contains("tollgate_test_total 1"), "{text}");
}

#[tokio::test]
async fn the_listener_answers_and_ends_when_told() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = AdminListener::bind("127.0.0.1:0".parse().expect("address")).expect("bound");
    let address = listener.address();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let serving = tokio::spawn(serve(listener, admin(vec![]), stopped));
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = vec![0; 15];
    stream.read_exact(&mut answer).await.expect("answered");
    assert_eq!(answer, b"HTTP/1.1 200 OK");
    stop.send(true).expect("still serving");
    stream.read_to_end(&mut answer).await.expect("closed");
    serving.await.expect("no panic").expect("ended");
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "the port is free"
    );
}

#[tokio::test]
async fn explanations_are_asked_for_with_an_identity_or_without() {
    let admin = admin(vec![]);
    let call = |identity: Value| json!({"method": "GET", "path": "/x/y", "identity": identity});
    for (identity, who) in [
        (
            json!({"tenant": "acme", "agent": "bot", "task": "t"}),
            "acme",
        ),
        (json!({"token": "eyJ"}), "holder"),
        (Value::Null, "shown"),
    ] {
        let (status, told) = post(&admin, "/v1/explain", &call(identity)).await;
        assert_eq!(
            (status, &told),
            (StatusCode::OK, &json!({"who": who, "hints": true}))
        );
    }
    for wrong in [
        call(json!({"tenant": "acme"})),
        call(json!({"token": "sk-canary-t", "tenant": "acme"})),
        json!({"method": "sk-canary m", "path": "/x"}),
        json!({"method": "GET"}),
    ] {
        let (status, told) = post(&admin, "/v1/explain", &wrong).await;
        assert!(status.is_client_error(), "{status}: {told}");
        assert!(!told.to_string().contains("sk-canary"), "{told}");
    }
    let long = "x".repeat(1 << 20);
    let long = json!({"method": "GET", "path": "/x/y", "body": long});
    let (status, _) = post(&admin, "/v1/explain", &long).await;
    assert_eq!(
        status,
        StatusCode::OK,
        "calls may have bodies of their size"
    );
}
