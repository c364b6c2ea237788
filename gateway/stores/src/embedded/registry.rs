//! The table of live task tokens: in memory for every call, in the database for good.
//!
//! Changes go through one thread in their order, many to a commit; a registration shows in memory
//! once it is durable, a revocation at once. So a crash forgets no revocation that was confirmed,
//! and a database that takes nothing mints nothing but still revokes until the restart. Worst
//! case: changes wait for one commit of the database, some ten milliseconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{error, io};

use async_trait::async_trait;
use foldhash::HashMap;
use tokio::sync::oneshot;
use tollgate_core::budget::StoreError;
use tollgate_core::identity::Caller;
use tollgate_core::ids::{AgentId, TaskId, TenantId, TokenId};
use tollgate_core::registry::{Liveness, Registered, Revocation, TokenRegistry};
use tollgate_core::time::Timestamp;

use super::db::{Db, DbError, TokenChange, TokenChanged};

/// Expired tokens are kept this long, so that introspection can still tell what they were.
const KEPT_AFTER_END: Duration = Duration::from_secs(3600);
/// The most tokens of one tenant on the table, dead ones included: about 250 MB, or 250 tokens a
/// second without end. Whoever makes more, for one tenant, leaves the others their room.
const MOST_OF_A_TENANT: usize = 1_000_000;
/// How often expired tokens are looked for, in the time that changes carry.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Most changes that wait for the disk: sixteen commits of them.
const MOST_WAITING: usize = 4_096;
/// Changes in one commit.
const BATCH: usize = 256;

struct Token {
    agent: AgentId,
    task: TaskId,
    expires_at: Timestamp,
    revoked: bool,
    /// Whether it was asked for since the last look for expired ones. Of those that have ended,
    /// this only happens to the tokens of streams that are still open.
    asked: AtomicBool,
}

type Tokens = HashMap<TokenId, Token>;

/// What the callers and the writing thread share.
#[derive(Default)]
struct Table {
    tenants: RwLock<HashMap<TenantId, Arc<RwLock<Tokens>>>>,
}

struct Request {
    change: TokenChange,
    reply: oneshot::Sender<Result<TokenChanged, Arc<DbError>>>,
}

/// The registry of one data directory.
pub struct Registry {
    table: Arc<Table>,
    db: Arc<Mutex<Db>>,
    requests: Mutex<Option<SyncSender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the registry has been closed, or more changes wait than it takes")]
struct TakesNothing;

#[derive(Debug, thiserror::Error)]
#[error("the tenant has {MOST_OF_A_TENANT} tokens on the table")]
struct Full;

impl Registry {
    pub(crate) fn open(db: Arc<Mutex<Db>>) -> Result<Self, RegistryError> {
        let table = Arc::new(Table::default());
        let rows = db.lock().unwrap_or_else(PoisonError::into_inner).tokens()?;
        for row in rows {
            table.insert(&row.caller, row.revoked);
        }
        let (requests, incoming) = mpsc::sync_channel(MOST_WAITING);
        let shared = table.clone();
        let kept = db.clone();
        let writer = thread::Builder::new()
            .name("registry".into())
            .spawn(move || write_changes(&incoming, &shared, &db))
            .map_err(RegistryError::Thread)?;
        Ok(Self {
            table,
            db: kept,
            requests: Mutex::new(Some(requests)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Finishes the changes under way and takes no more.
    pub(crate) fn close(&self) {
        drop(lock(&self.requests).take());
        if let Some(writer) = lock(&self.writer).take()
            && writer.join().is_err()
        {
            tracing::error!("the registry's thread has panicked");
        }
    }

    /// Brings a revocation into memory that somebody else has made durable.
    pub(crate) fn show_revoked(&self, what: &Revocation) {
        self.table.revoke(what);
    }

    /// How many tokens are on the table, dead ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        let tenants = read(&self.table.tenants);
        tenants.values().map(|tokens| read(tokens).len()).sum()
    }

    /// Whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every task that is over, and when agents and tenants were last revoked.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(crate) fn ends(&self) -> Result<Vec<(Revocation, Timestamp)>, StoreError> {
        lock(&self.db).ends().map_err(|cause| StoreError {
            operation: "list revocations",
            store: "registry",
            cause: Box::new(cause),
        })
    }

    async fn change(
        &self,
        operation: &'static str,
        change: TokenChange,
    ) -> Result<TokenChanged, StoreError> {
        let failed = |cause: Box<dyn error::Error + Send + Sync>| StoreError {
            operation,
            store: "registry",
            cause,
        };
        let (reply, answer) = oneshot::channel();
        let sent = match &*lock(&self.requests) {
            Some(requests) => requests.try_send(Request { change, reply }).is_ok(),
            None => false,
        };
        if !sent {
            return Err(failed(Box::new(TakesNothing)));
        }
        match answer.await {
            Ok(Ok(changed)) => Ok(changed),
            Ok(Err(error)) => Err(failed(Box::new(error))),
            Err(gone) => Err(failed(Box::new(gone))),
        }
    }
}

/// The registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The table could not be read.
    #[error("the table of tokens could not be read")]
    Read(#[from] DbError),
    /// No thread to write with.
    #[error("the registry's thread could not be started")]
    Thread(#[source] io::Error),
}

#[async_trait]
impl TokenRegistry for Registry {
    fn liveness(&self, caller: &Caller) -> Result<Liveness, StoreError> {
        Ok(self.table.liveness(caller))
    }

    async fn register(
        &self,
        caller: &Caller,
        rests_on: Option<Timestamp>,
    ) -> Result<Registered, StoreError> {
        if self.table.len_of(&caller.tenant) >= MOST_OF_A_TENANT {
            return Err(StoreError {
                operation: "register",
                store: "registry",
                cause: Box::new(Full),
            });
        }
        let change = TokenChange::Register(caller.clone(), rests_on);
        match self.change("register", change).await? {
            TokenChanged::Registered(registered) => Ok(registered),
            TokenChanged::Revoked(_) => Ok(Registered::Revoked),
        }
    }

    async fn revoke(&self, what: &Revocation, now: Timestamp) -> Result<usize, StoreError> {
        // At once, whatever the database will say.
        self.table.revoke(what);
        let change = TokenChange::Revoke(what.clone(), now);
        match self.change("revoke", change).await? {
            TokenChanged::Revoked(count) => Ok(count),
            TokenChanged::Registered(_) => Ok(0),
        }
    }
}

impl Table {
    fn of(&self, tenant: &TenantId) -> Option<Arc<RwLock<Tokens>>> {
        read(&self.tenants).get(tenant).cloned()
    }

    fn len_of(&self, tenant: &TenantId) -> usize {
        self.of(tenant).map_or(0, |tokens| read(&tokens).len())
    }

    fn liveness(&self, caller: &Caller) -> Liveness {
        let tenants = read(&self.tenants);
        let Some(tokens) = tenants.get(&caller.tenant) else {
            return Liveness::Unknown;
        };
        let tokens = read(tokens);
        let token = tokens.get(&caller.token);
        if let Some(token) = token
            && !token.asked.load(Ordering::Relaxed)
        {
            token.asked.store(true, Ordering::Relaxed);
        }
        match token {
            // An id under which another token is registered says nothing about this one.
            Some(token) if token.agent != caller.agent || token.task != caller.task => {
                Liveness::Unknown
            }
            Some(token) if token.revoked => Liveness::Revoked,
            Some(_) => Liveness::Live,
            None => Liveness::Unknown,
        }
    }

    fn insert(&self, caller: &Caller, revoked: bool) {
        let tokens = self.of(&caller.tenant).unwrap_or_else(|| {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            tenants.entry(caller.tenant.clone()).or_default().clone()
        });
        let token = Token {
            agent: caller.agent.clone(),
            task: caller.task.clone(),
            expires_at: caller.expires_at,
            revoked,
            asked: AtomicBool::new(false),
        };
        let mut tokens = tokens.write().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(caller.token.clone(), token);
    }

    fn revoke(&self, what: &Revocation) {
        let (Revocation::Token { tenant, .. }
        | Revocation::Task { tenant, .. }
        | Revocation::Agent { tenant, .. }
        | Revocation::Tenant { tenant }) = what;
        let Some(tokens) = self.of(tenant) else {
            return;
        };
        let mut tokens = tokens.write().unwrap_or_else(PoisonError::into_inner);
        for (id, token) in tokens.iter_mut() {
            token.revoked |= match what {
                Revocation::Token { token, .. } => id == token,
                Revocation::Task { task, .. } => token.task == *task,
                Revocation::Agent { agent, .. } => token.agent == *agent,
                Revocation::Tenant { .. } => true,
            };
        }
    }

    /// Forgets the tokens that ended before `end`, but none that an open stream still lives by: a
    /// revocation must find it, however long ago it ended.
    fn forget(&self, end: Timestamp) {
        // Not all at once: a new tenant would have to wait, and with it everybody's calls.
        let tenants: Vec<_> = read(&self.tenants).values().cloned().collect();
        for tokens in tenants {
            let mut tokens = tokens.write().unwrap_or_else(PoisonError::into_inner);
            tokens.retain(|_, token| {
                let asked = token.asked.swap(false, Ordering::Relaxed);
                asked || token.expires_at >= end
            });
        }
    }
}

fn write_changes(incoming: &Receiver<Request>, table: &Table, db: &Mutex<Db>) {
    let mut latest = Timestamp::from_micros(0);
    let mut forgotten_at = latest;
    while let Ok(first) = incoming.recv() {
        let (changes, replies): (Vec<_>, Vec<_>) = std::iter::once(first)
            .chain(incoming.try_iter().take(BATCH - 1))
            .map(|request| (request.change, request.reply))
            .unzip();
        let result = lock(db).change_tokens(&changes).map_err(Arc::new);
        for (place, (change, reply)) in changes.iter().zip(replies).enumerate() {
            let changed = match &result {
                Ok(done) => Ok(done[place]),
                Err(error) => Err(error.clone()),
            };
            latest = latest.max(show(table, change, changed.as_ref().ok()));
            // Whoever asked may have left; the change stands.
            drop(reply.send(changed));
        }
        if latest.since(forgotten_at) > FORGET_EVERY {
            forgotten_at = latest;
            let end = earlier(latest, KEPT_AFTER_END);
            table.forget(end);
            if let Err(error) = lock(db).forget_tokens(end) {
                tracing::error!(%error, "expired tokens could not be deleted");
            }
        }
    }
}

/// Brings a durable change into memory; returns the time it carries.
fn show(table: &Table, change: &TokenChange, changed: Option<&TokenChanged>) -> Timestamp {
    match (change, changed) {
        (TokenChange::Register(caller, _), Some(TokenChanged::Registered(Registered::Live))) => {
            table.insert(caller, false);
            caller.issued_at
        }
        (TokenChange::Register(caller, _), _) => caller.issued_at,
        // Once more, for the tokens registered between the call and the commit.
        (TokenChange::Revoke(what, now), _) => {
            table.revoke(what);
            *now
        }
    }
}

fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.as_micros().saturating_sub(micros))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tollgate_testkit::contract::now;

    use super::*;
    use crate::embedded::Embedded;
    use crate::embedded::tests::config;

    fn caller(tenant: &str, token: &str) -> Caller {
        Caller {
            tenant: tenant.parse().expect("a tenant"),
            agent: "bot".parse().expect("an agent"),
            task: "t".parse().expect("a task"),
            token: token.parse().expect("an id"),
            issued_at: now(),
            expires_at: now().plus(Duration::from_secs(300)),
            certificate: None,
        }
    }

    #[tokio::test]
    async fn a_tenant_with_too_many_tokens_gets_no_more_and_others_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = Embedded::open(&config(dir.path()), now()).expect("open");
        let registry = &stores.registry;
        let mut one = caller("acme", "first");
        for n in 0..MOST_OF_A_TENANT {
            one.token = format!("t{n}").parse().expect("an id");
            registry.table.insert(&one, true);
        }
        let more = registry.register(&caller("acme", "more"), None).await;
        assert!(more.is_err(), "{more:?}");
        let others = registry.register(&caller("globex", "more"), None).await;
        assert_eq!(others.expect("up"), Registered::Live);
    }
}
