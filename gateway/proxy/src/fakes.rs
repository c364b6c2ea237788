//! Hand-written stores that remember what they were asked, and a gateway made of them.
//!
//! Nothing here reads a clock or a disk; it is always noon of 2026-11-23. Worst case: a stage
//! passes with these and fails with a real store, which is what `tollgate-testkit`'s contract and
//! the whole-gateway tests are for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Request};
use tollgate_core::admission::Together;
use tollgate_core::budget::{
    Account, Balance, Budget, BudgetKey, BudgetStore, Hold, Reserved, Scope, StoreError,
};
use tollgate_core::deferred::{DeferredCharges, Known, RemoteId};
use tollgate_core::identity::{Caller, KeySet, Mint, new_private_key};
use tollgate_core::ids::{RecordId, TokenId};
use tollgate_core::issue::TokenDesk;
use tollgate_core::money::PicoUsd;
use tollgate_core::policy::{PolicyFile, parse};
use tollgate_core::price::PriceBook;
use tollgate_core::rate::{Limit, Paced, Pass, RateKey, RateStore};
use tollgate_core::record::{Ending, Intent, Record, RecordLog, Stranger, Subject};
use tollgate_core::registry::{Liveness, Registered, Revocation, TokenRegistry};
use tollgate_core::secret::Secret;
use tollgate_core::time::Timestamp;
use tollgate_core::vault::{SecretName, SecretVersion, Vault, VaultError};

use crate::authenticate::{Keys, Standings};
use crate::collect::MemoryBudget;
use crate::engine::EngineConfig;
use crate::gateway::{CallLimits, Gateway, Stores};
use crate::live::{Live, Snapshot};
use crate::metrics::Metrics;
use crate::notices::CapMarks;
use crate::oauth::TokenExchanges;
use crate::obtain::Obtainer;
use crate::pool::Upstreams;
use crate::pressure::{Pressure, PressureLimits};
use crate::record::Draft;
use crate::reserve::Accounts;
use crate::sealed::SealedTokens;
use crate::statement::{Question, Statements, UsageReports};
use crate::tracker::Tracker;

const OPENAI: &str = r#"
[provider]
name = "openai"
upstream = "https://api.openai.example"
dialect = "openai"
prices = "openai"
place = { header = "authorization", prefix = "Bearer " }

[aliases]
our-deployment = "gpt-5-mini"

[[endpoint]]
method = "POST"
path = "/v1/chat/completions"
operation = "chat_completions"

[[endpoint]]
method = "GET"
path = "/v1/models"
operation = "free"

[[endpoint]]
method = "POST"
path = "/v1/files"
operation = "tool"
price_per_call_usd = "0.01"

[[endpoint]]
method = "DELETE"
path = "/v1/files"
operation = "tool"
"#;

/// An intent that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intended {
    pub(crate) subject: Subject,
    pub(crate) hold: Hold,
}

/// What the stores have been asked, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Reserve(Vec<Budget>, PicoUsd),
    Settle(RecordId, PicoUsd),
    Correct(Vec<BudgetKey>, PicoUsd),
    Take(RateKey),
    Release(RecordId, Option<u64>),
    Intend(Box<Intended>),
    Conclude(RecordId, Box<Ending>),
    Refuse(Box<Record>),
    TurnAway(Box<Stranger>),
    Fetch(SecretName),
    Register(TokenId, Option<Timestamp>),
}

/// What the stores will answer.
pub(crate) struct Answers {
    /// What the next reservations find, the last one first: the counter without room, its limit and
    /// what it holds. None: there is room.
    pub(crate) exhausted: Vec<(usize, PicoUsd, Balance)>,
    pub(crate) ledger_is_down: bool,
    /// The buckets that are empty: of the agent, of the tenant.
    pub(crate) empty: (bool, bool),
    pub(crate) liveness: Option<Liveness>,
    pub(crate) registered: Option<Registered>,
    pub(crate) intent_fails: bool,
}

/// All stores in one.
pub(crate) struct Fakes {
    asked: Mutex<Vec<Asked>>,
    answers: Mutex<Answers>,
    known: Mutex<HashMap<RemoteId, Known>>,
}

impl Fakes {
    pub(crate) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap()
    }

    /// What has been asked since the last look.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }
}

fn down(operation: &'static str) -> StoreError {
    StoreError {
        operation,
        store: "fake",
        cause: "it is down".into(),
    }
}

#[async_trait]
impl BudgetStore for Fakes {
    async fn reserve(
        &self,
        id: RecordId,
        account: &Account,
        amount: PicoUsd,
        _now: Timestamp,
    ) -> Result<Reserved, StoreError> {
        self.note(Asked::Reserve(account.to_vec(), amount));
        let mut answers = self.answers();
        if answers.ledger_is_down {
            return Err(down("reserve"));
        }
        Ok(match answers.exhausted.pop() {
            Some((place, limit, balance)) => Reserved::Exhausted {
                key: account[place].key.clone(),
                limit,
                balance,
            },
            None => Reserved::Held(Hold {
                id,
                keys: account.counters().clone(),
                amount,
            }),
        })
    }

    fn settle(&self, hold: &Hold, actual: PicoUsd) {
        self.note(Asked::Settle(hold.id, actual));
    }

    fn correct(&self, keys: &[BudgetKey], by: PicoUsd, _now: Timestamp) {
        self.note(Asked::Correct(keys.to_vec(), by));
    }

    async fn balance(&self, _key: &BudgetKey) -> Result<Balance, StoreError> {
        Ok(Balance::default())
    }
}

impl UsageReports for Fakes {
    fn usage(&self, _question: &Question) -> Result<serde_json::Value, StoreError> {
        Err(down("read records"))
    }
}

#[async_trait]
impl RateStore for Fakes {
    async fn admit(
        &self,
        id: RecordId,
        limits: &[Limit],
        tokens: u64,
    ) -> Result<Paced, StoreError> {
        let (agent, tenant) = self.answers().empty;
        for Limit { key, .. } in limits {
            self.note(Asked::Take(key.clone()));
            let empty = if key.scope == Scope::Tenant {
                tenant
            } else {
                agent
            };
            if empty {
                return Ok(Paced::Wait {
                    key: key.clone(),
                    retry_after: Duration::from_millis(1_500),
                });
            }
        }
        Ok(limits.first().map_or(Paced::Free, |first| {
            Paced::Go(Pass {
                id,
                tenant: first.key.tenant.clone(),
                tokens,
            })
        }))
    }

    fn release(&self, pass: &Pass, tokens: Option<u64>) {
        self.note(Asked::Release(pass.id, tokens));
    }

    async fn left(&self, limits: &[Limit]) -> Result<Vec<i64>, StoreError> {
        Ok(vec![0; limits.len()])
    }
}

#[async_trait]
impl TokenRegistry for Fakes {
    fn liveness(&self, _caller: &Caller) -> Result<Liveness, StoreError> {
        self.answers().liveness.ok_or_else(|| down("look up"))
    }

    async fn register(
        &self,
        caller: &Caller,
        rests_on: Option<Timestamp>,
    ) -> Result<Registered, StoreError> {
        self.note(Asked::Register(caller.token.clone(), rests_on));
        self.answers().registered.ok_or_else(|| down("register"))
    }

    async fn revoke(&self, _what: &Revocation, _now: Timestamp) -> Result<usize, StoreError> {
        Ok(0)
    }
}

#[async_trait]
impl RecordLog for Fakes {
    async fn intend(&self, intent: Intent<'_>) -> Result<(), StoreError> {
        let Intent { subject, hold } = intent;
        self.note(Asked::Intend(Box::new(Intended {
            subject: subject.clone(),
            hold: hold.clone(),
        })));
        if self.answers().intent_fails {
            return Err(down("keep an intent"));
        }
        Ok(())
    }

    fn conclude(&self, id: RecordId, ending: &Ending) {
        self.note(Asked::Conclude(id, Box::new(ending.clone())));
    }

    fn refuse(&self, record: &Record) {
        self.note(Asked::Refuse(Box::new(record.clone())));
    }

    fn turn_away(&self, stranger: &Stranger) {
        self.note(Asked::TurnAway(Box::new(stranger.clone())));
    }
}

impl DeferredCharges for Fakes {
    fn remember(&self, id: &RemoteId, known: &Known, _now: Timestamp) -> Result<(), StoreError> {
        let mut kept = self.known.lock().unwrap();
        kept.insert(id.clone(), known.clone());
        Ok(())
    }

    fn recall(&self, id: &RemoteId, _now: Timestamp) -> Option<Known> {
        self.known.lock().unwrap().get(id).cloned()
    }

    fn correct(&self, id: &RemoteId, record: RecordId, ending: &Ending) -> bool {
        let corrected = ending.adjusts.unwrap_or(record);
        let mut kept = self.known.lock().unwrap();
        let is_charge =
            matches!(kept.get(id), Some(Known::Charge(charge)) if charge.record == corrected);
        if is_charge {
            kept.remove(id);
            self.note(Asked::Conclude(record, Box::new(ending.clone())));
        }
        is_charge
    }
}

#[async_trait]
impl Vault for Fakes {
    async fn fetch(&self, secret: &SecretName) -> Result<SecretVersion, VaultError> {
        self.note(Asked::Fetch(secret.clone()));
        let secret = Secret::new(b"sk-canary-fake".to_vec());
        Ok(SecretVersion::new(secret, 7))
    }
}

pub(crate) fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

pub(crate) fn prices() -> Arc<PriceBook> {
    static BOOK: OnceLock<Arc<PriceBook>> = OnceLock::new();
    Arc::clone(BOOK.get_or_init(|| Arc::new(PriceBook::embedded().unwrap())))
}

/// A view of one provider and tenant `acme`, whose file is `tenant`.
pub(crate) fn snapshot(tenant: &str, keys: KeySet) -> Snapshot {
    snapshot_of(OPENAI, tenant, keys)
}

/// A view in which the provider listens on this machine, in clear, with more `settings` of it.
pub(crate) fn snapshot_with(
    settings: &str,
    upstream: SocketAddr,
    tenant: &str,
    keys: KeySet,
) -> Snapshot {
    let here = format!("http://{upstream}\"\ninsecure = true\n{settings}\n#\"");
    let provider = OPENAI.replace("https://api.openai.example", &here);
    snapshot_of(&provider, tenant, keys)
}

fn snapshot_of(provider: &str, tenant: &str, keys: KeySet) -> Snapshot {
    let files = [
        ("policies/providers/openai.toml", provider),
        ("policies/tenants/acme.toml", tenant),
    ];
    let policy = parse(&files.map(|(path, text)| PolicyFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }));
    Snapshot {
        policy: Arc::new(policy.unwrap()),
        prices: prices(),
        keys: Arc::new(Keys::new(keys)),
    }
}

/// A gateway in which everything is well, and its stores.
pub(crate) fn gateway(first: Snapshot) -> (Arc<Gateway>, Arc<Fakes>) {
    let fakes = Arc::new(Fakes {
        asked: Mutex::default(),
        known: Mutex::default(),
        answers: Mutex::new(Answers {
            exhausted: Vec::new(),
            ledger_is_down: false,
            empty: (false, false),
            liveness: Some(Liveness::Live),
            registered: Some(Registered::Live),
            intent_fails: false,
        }),
    });
    let engine = Arc::new(EngineConfig::default());
    let gateway = Gateway {
        live: Live::new(first),
        stores: Stores {
            admission: Arc::new(Together {
                budgets: fakes.clone(),
                rates: fakes.clone(),
            }),
            budgets: fakes.clone(),
            rates: fakes.clone(),
            registry: fakes.clone(),
            records: fakes.clone(),
            deferred: fakes.clone(),
            vault: fakes.clone(),
        },
        standings: Standings::default(),
        upstreams: Upstreams::new(Arc::clone(&engine)),
        obtainer: Obtainer::default(),
        sealed: SealedTokens::default(),
        limits: CallLimits {
            inspected_body_bytes: 1 << 20,
            streamed_body_bytes: 1 << 20,
            body_deadline: Duration::from_secs(5),
            upload_idle: Duration::from_secs(5),
        },
        engine,
        memory: MemoryBudget::new(1 << 24),
        pressure: Pressure::new(PressureLimits {
            calls: 1_000,
            lag: Duration::ZERO,
        }),
        traces: None,
        call_log: Arc::new(crate::call_log::CallEvents),
        accounts: Accounts::default(),
        caps: CapMarks::default(),
        token_exchanges: TokenExchanges::default(),
        statements: Statements::of(fakes.clone()),
        metrics: metrics(),
        scene: Arc::default(),
        tracker: Tracker::new(8),
        desk: desk(Arc::clone(&fakes) as Arc<dyn TokenRegistry>),
        clock: noon,
    };
    (Arc::new(gateway), fakes)
}

fn metrics() -> Metrics {
    let [all, of_tenants] = [(); 2].map(|()| prometheus::Registry::new());
    Metrics::new(&all, &of_tenants, 50).unwrap()
}

/// A desk that signs with a key of its own.
pub(crate) fn desk(registry: Arc<dyn TokenRegistry>) -> Arc<TokenDesk> {
    let mint = Mint::from_pem(&new_private_key(&[9; 32]), "issuer", "tollgate");
    Arc::new(TokenDesk {
        mint: mint.unwrap(),
        registry,
    })
}

pub(crate) fn caller() -> Arc<Caller> {
    Arc::new(Caller {
        tenant: "acme".parse().unwrap(),
        agent: "bot".parse().unwrap(),
        task: "t-1".parse().unwrap(),
        token: "jti-1".parse().unwrap(),
        issued_at: noon(),
        expires_at: noon().plus(Duration::from_secs(300)),
        certificate: None,
    })
}

/// A request's head, from lines such as `x-api-key: k`.
pub(crate) fn head(method: Method, target: &str, lines: &[&str]) -> http::request::Parts {
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

/// A draft for `head`, and its id.
pub(crate) fn draft(head: &http::request::Parts) -> Draft {
    let id = RecordId::new(uuid::Uuid::from_u128(1));
    Draft::open(id, noon(), head, ([127, 0, 0, 1], 9).into())
}
