//! The admin API through its router, over stores that live in memory.

mod access;
mod answers;
mod events;
mod forms;
mod openapi;
mod requests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollgate_core::admin_log::{AdminAction, AdminLog, Ended};
use tollgate_core::audit::AuditKey;
use tollgate_core::budget::StoreError;
use tollgate_core::identity::{Caller, Mint, new_private_key, verify};
use tollgate_core::ids::{RecordId, TenantId, TokenId};
use tollgate_core::issue::TokenDesk;
use tollgate_core::policy::Policy;
use tollgate_core::policy::parse::{PolicyFile, parse};
use tollgate_core::registry::{Liveness, Registered, Revocation, TokenRegistry};
use tollgate_core::time::Timestamp;
use tower::ServiceExt;

use crate::audit_key::Signer;
use crate::credentials::{Credential, CredentialDigest, CredentialSource, Credentials, Role};
use crate::exposition::{AdminFigures, Exposition, Open};
use crate::log::{LogLevel, LogLevels, NotALevel};
use crate::probes::Readiness;
use crate::purge::{OfTenant, Purge};
use crate::server::router;
use crate::{Admin, CurrentPolicy};
use answers::{Busy, Echo, Ledger, Reports};

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

struct Lacking(Vec<&'static str>);

impl Readiness for Lacking {
    fn missing(&self) -> Vec<&'static str> {
        self.0.clone()
    }
}

/// An operator, and an auditor and a minter of `acme`; or a file that nobody can read.
#[derive(Default)]
struct Known {
    is_locked: bool,
    forgotten: Mutex<Vec<String>>,
}

impl Known {
    /// Nobody can read the file.
    fn locked() -> Self {
        Self {
            is_locked: true,
            ..Self::default()
        }
    }

    /// Takes somebody out of the file.
    fn forget(&self, name: &str) {
        self.forgotten.lock().expect("lock").push(name.to_owned());
    }
}

const AUDITOR: &str = "auditor-of-acme";
const MINTER: &str = "minter-of-acme";
const METRICS: &str = "reader-of-metrics";

impl CredentialSource for Known {
    fn current(&self) -> Result<Credentials, StoreError> {
        if self.is_locked {
            return Err(broken("read"));
        }
        let acme = || ["acme".parse().expect("a tenant")].into();
        let forgotten = self.forgotten.lock().expect("lock");
        let mut all = Credentials::default();
        for (name, role, text) in [
            ("olga", Role::Operator, OPERATOR),
            ("alice", Role::Auditor(acme()), AUDITOR),
            ("mia", Role::Minter(acme()), MINTER),
            ("prometheus", Role::Metrics, METRICS),
        ] {
            if forgotten.iter().any(|gone| gone == name) {
                continue;
            }
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
    let caps = "[caps]\ndaily_usd = \"5\"\ntask_usd = \"2\"\n[limits]\nconcurrent_requests = 9\n[agents.bot]\ndaily_usd = \"1\"\n\
                [models.\"gpt-5*\"]\nmonthly_usd = \"3\"\n";
    let files = [
        tenant("acme", caps),
        tenant("globex", ""),
        tenant("closed", "enabled = false\n"),
    ];
    Arc::new(parse(&files).expect("a policy"))
}

fn admin(lacking: Vec<&'static str>) -> Arc<Admin> {
    admin_with(lacking, Known::default(), Arc::new(Book::default()))
}

/// Of each tenant some records are due.
struct Purged;

impl Purge for Purged {
    fn purge(&self, only: Option<&TenantId>, dry_run: bool) -> Result<Vec<OfTenant>, StoreError> {
        let tenants = only
            .cloned()
            .into_iter()
            .chain(["globex".parse().expect("a tenant")]);
        let due = |tenant| OfTenant {
            tenant,
            before: Some(now().date()),
            records: 3,
            files: 2,
            bytes: 1,
            waiting_files: 0,
            error: (!dry_run).then(|| "a reason".to_owned()),
        };
        Ok(tenants.map(due).collect())
    }
}

/// Takes `debug` and nothing else.
struct Said;

impl LogLevels for Said {
    fn standing(&self) -> LogLevel {
        LogLevel {
            level: "info".to_owned(),
            started_with: "info".to_owned(),
            until: None,
        }
    }

    fn set(&self, level: &str, lasts: Option<Duration>) -> Result<LogLevel, NotALevel> {
        if level != "debug" {
            return Err(NotALevel("part 1 is no level".to_owned()));
        }
        Ok(LogLevel {
            level: level.to_owned(),
            until: lasts.map(|lasts| now().plus(lasts)),
            ..self.standing()
        })
    }
}

fn signer() -> Signer {
    let key = AuditKey::from_pem(&new_private_key(&[9; 32])).expect("a key");
    Signer {
        replica: "r1".parse().expect("a replica"),
        key: key.public().clone(),
    }
}

fn admin_with(lacking: Vec<&'static str>, known: Known, log: Arc<Book>) -> Arc<Admin> {
    Arc::new(assembled(lacking, Arc::new(known), log))
}

/// With what is to be told in the hands of the test.
fn admin_watching(known: Arc<dyn CredentialSource>, stage: Arc<events::Stage>) -> Arc<Admin> {
    let admin = assembled(vec![], known, Arc::new(Book::default()));
    Arc::new(Admin {
        happenings: stage,
        ..admin
    })
}

fn assembled(
    lacking: Vec<&'static str>,
    known: Arc<dyn CredentialSource>,
    log: Arc<Book>,
) -> Admin {
    let mint = Mint::from_pem(&new_private_key(&[7; 32]), "tollgate", "tollgate").expect("a key");
    let policy = policy();
    let policy: CurrentPolicy = Arc::new(move || Arc::clone(&policy));
    let metrics = prometheus::Registry::new();
    let counter = prometheus::IntCounter::new("tollgate_test_total", "A counter.").expect("metric");
    metrics
        .register(Box::new(counter.clone()))
        .expect("registered");
    Admin {
        credentials: known,
        log,
        keys: mint.keys(),
        desk: Arc::new(TokenDesk {
            mint,
            registry: Arc::new(Table::default()),
        }),
        budgets: Arc::new(Ledger),
        live: Arc::new(Busy),
        happenings: Arc::new(events::Stage::default()),
        names: std::collections::BTreeSet::new(),
        log_levels: Arc::new(Said),
        explainer: Arc::new(Echo),
        reports: Arc::new(Reports),
        purge: Arc::new(Purged),
        signer: signer(),
        readiness: Arc::new(Lacking(lacking)),
        figures: Arc::new(AdminFigures::register(&metrics).expect("metrics")),
        exposition: exposition(metrics, counter),
        policy,
        clock: now,
    }
}

/// One counter that counts readings, and one of a tenant.
fn exposition(totals: prometheus::Registry, counter: prometheus::IntCounter) -> Exposition {
    let of_tenants = prometheus::Registry::new();
    let of_acme = prometheus::IntCounter::new("tollgate_test_of_acme_total", "A counter.");
    let registered = of_tenants.register(Box::new(of_acme.expect("metric")));
    registered.expect("registered");
    Exposition {
        totals,
        of_tenants,
        open: Open::Totals,
        refresh: Arc::new(move || {
            counter.inc();
            Box::pin(async {})
        }),
        reading: tokio::sync::Mutex::default(),
    }
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
