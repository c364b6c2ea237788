//! The table of live task tokens, shared: in Redis for good, in memory for every call.
//!
//! A token that is new here is looked up once; from then on memory answers. Revocations come with
//! the news, a tenth of a second after they are said. Whether all news are known is known, too:
//! when Redis has not answered for a second, nobody is let in. A revocation carries a number that
//! tells the tokens registered before it from those after, since its news may be late.
//!
//! Each replica also writes revocations down on its own disk, so that they can be said again when
//! Redis has forgotten them. Worst case: after that, tokens that no running replica has seen used
//! are unknown, and their agents must get new ones.

mod said;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use foldhash::HashMap;
use tokio::runtime::Handle;
use tollgate_core::budget::StoreError;
use tollgate_core::identity::Caller;
use tollgate_core::ids::{AgentId, TaskId, TenantId, TokenId};
use tollgate_core::registry::{Liveness, Registered, Revocation, TokenRegistry};
use tollgate_core::time::Timestamp;

use super::keeper::Freshness;
use super::link::{Link, LinkError, Script};
use super::news::News;
use super::visits::texts;
use crate::embedded;

static REGISTER: Script = Script::new(include_str!("register.lua"));
/// KEYS: token, cut-offs, the end of its task.
static LOOK_UP: Script = Script::new(
    "local token = redis.call('HMGET', KEYS[1], 'agent', 'task', 'number', 'ends', 'revoked')
     if not token[1] then return {} end
     local revoked = token[5] or tostring(redis.call('EXISTS', KEYS[3]))
     local cuts = redis.call('HMGET', KEYS[2], 'tenant', 'agent:' .. token[1])
     for n = 1, 2 do
       local cut = cuts[n] and string.match(cuts[n], ':(%d+)$')
       if cut and tonumber(cut) > tonumber(token[3]) then revoked = '1' end
     end
     return { token[1], token[2], token[3], token[4], revoked }",
);

/// Expired tokens are kept this long, so that introspection can still tell what they were.
const KEPT_AFTER_END: Duration = Duration::from_secs(3600);
/// The most live tokens of one tenant.
const MOST_OF_A_TENANT: u32 = 1_000_000;
/// How long what was heard is held against tokens that were looked up meanwhile.
const HEARD_FOR: Duration = Duration::from_secs(5);
/// How often expired tokens are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

struct Token {
    agent: AgentId,
    task: TaskId,
    number: u64,
    expires_at: Timestamp,
    revoked: AtomicBool,
    /// Whether it was asked for since the last look for expired ones.
    asked: AtomicBool,
}

type Tokens = HashMap<TokenId, Token>;

/// A revocation made here.
struct Said {
    what: Revocation,
    at: Timestamp,
    when: Instant,
    /// Whether Redis and everybody else has been told.
    told: bool,
}

/// The registry of a fleet.
pub struct SharedRegistry {
    link: Arc<Link>,
    news: Arc<News>,
    freshness: Arc<Freshness>,
    local: Arc<embedded::Registry>,
    runtime: Handle,
    clock: fn() -> Timestamp,
    tenants: RwLock<HashMap<TenantId, Arc<RwLock<Tokens>>>>,
    said: Mutex<Vec<Said>>,
    /// What was heard of lately: a token that was looked up before it and comes in after it.
    heard: Mutex<VecDeque<(Instant, Revocation, u64)>>,
    forgotten_at: Mutex<Instant>,
    listener: OnceLock<Listener>,
}

/// Is told of each revocation that is heard of, and when it was made.
pub type Listener = Box<dyn Fn(&Revocation, Timestamp) + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("Redis has not answered for a second: revocations may be unknown here")]
struct Stale;

#[derive(Debug, thiserror::Error)]
#[error("the tenant has {MOST_OF_A_TENANT} tokens on the table")]
struct Full;

fn failed(
    operation: &'static str,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError {
        operation,
        store: "shared",
        cause: Box::new(cause),
    }
}

const fn tenant_of(what: &Revocation) -> &TenantId {
    let (Revocation::Token { tenant, .. }
    | Revocation::Task { tenant, .. }
    | Revocation::Agent { tenant, .. }
    | Revocation::Tenant { tenant }) = what;
    tenant
}

impl SharedRegistry {
    pub(super) fn new(
        (link, news, freshness): (Arc<Link>, Arc<News>, Arc<Freshness>),
        local: Arc<embedded::Registry>,
        runtime: Handle,
        clock: fn() -> Timestamp,
    ) -> Arc<Self> {
        Arc::new(Self {
            link,
            news,
            freshness,
            local,
            runtime,
            clock,
            tenants: RwLock::default(),
            said: Mutex::default(),
            heard: Mutex::default(),
            forgotten_at: Mutex::new(Instant::now()),
            listener: OnceLock::new(),
        })
    }

    /// Another replica has revoked something, or this one; heard of as often as may be.
    pub(super) fn hear_of(&self, what: &Revocation, number: u64, at: Timestamp) {
        {
            let mut heard = lock(&self.heard);
            while heard
                .front()
                .is_some_and(|(when, ..)| when.elapsed() > HEARD_FOR)
            {
                heard.pop_front();
            }
            heard.push_back((Instant::now(), what.clone(), number));
        }
        self.mark(what, Some(number));
        self.write_down(what, at);
        if let Some(listener) = self.listener.get() {
            listener(what, at);
        }
    }

    /// Tells `listener` of revocations from now on. There is one; another is not told.
    pub fn listen(&self, listener: Listener) {
        drop(self.listener.set(listener));
    }

    /// Keeps it on this replica's own disk.
    fn write_down(&self, what: &Revocation, at: Timestamp) {
        // A single token is nothing that has to be known once Redis has forgotten it.
        if matches!(what, Revocation::Token { .. }) {
            return;
        }
        let (local, what) = (self.local.clone(), what.clone());
        self.runtime.spawn(async move {
            if let Err(error) = local.revoke(&what, at).await {
                tracing::error!(
                    error = super::causes(&error),
                    "a revocation is not written down"
                );
            }
        });
    }

    async fn put(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        task: &TaskId,
        id: &TokenId,
        expires_at: Timestamp,
        rests_on: Option<Timestamp>,
    ) -> Result<Vec<String>, LinkError> {
        let tag = tenant.as_str();
        let keys = [
            self.link.key(tag, &format!("token:{id}")),
            self.link.key(tag, "cut_offs"),
            self.link.key(tag, "tokens"),
            self.link.key(tag, &format!("task:{task}")),
        ];
        let rests_on = rests_on.map(|at| at.as_micros().to_string());
        let args = [
            agent.to_string(),
            task.to_string(),
            id.to_string(),
            (expires_at.as_micros() / 1000).to_string(),
            rests_on.unwrap_or_default(),
            KEPT_AFTER_END.as_millis().to_string(),
            MOST_OF_A_TENANT.to_string(),
            self.millis(),
        ];
        texts(self.link.run(&REGISTER, &keys, &args, true).await?)
    }

    fn millis(&self) -> String {
        ((self.clock)().as_micros() / 1000).to_string()
    }

    fn insert(&self, tenant: &TenantId, id: TokenId, token: Token) {
        self.forget();
        let tokens = self.of(tenant).unwrap_or_else(|| {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            tenants.entry(tenant.clone()).or_default().clone()
        });
        tokens
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, token);
        let heard = lock(&self.heard).clone();
        for (_, what, number) in heard
            .iter()
            .filter(|(_, what, _)| tenant_of(what) == tenant)
        {
            self.mark(what, Some(*number));
        }
    }

    fn of(&self, tenant: &TenantId) -> Option<Arc<RwLock<Tokens>>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned()
    }

    /// What this replica's memory knows.
    fn remembered(&self, caller: &Caller) -> Liveness {
        let Some(tokens) = self.of(&caller.tenant) else {
            return Liveness::Unknown;
        };
        let tokens = read(&tokens);
        match tokens.get(&caller.token) {
            // An id under which another token is registered says nothing about this one.
            Some(token) if token.agent != caller.agent || token.task != caller.task => {
                Liveness::Unknown
            }
            Some(token) => {
                token.asked.store(true, Ordering::Relaxed);
                if token.revoked.load(Ordering::Relaxed) {
                    Liveness::Revoked
                } else {
                    Liveness::Live
                }
            }
            None => Liveness::Unknown,
        }
    }

    /// Marks what is known here; of tokens registered after the revocation with that number, none.
    fn mark(&self, what: &Revocation, number: Option<u64>) {
        let Some(tokens) = self.of(tenant_of(what)) else {
            return;
        };
        for (id, token) in read(&tokens).iter() {
            let before = number.is_none_or(|number| token.number < number);
            let meant = match what {
                Revocation::Token { token: revoked, .. } => id == revoked,
                Revocation::Task { task, .. } => token.task == *task,
                Revocation::Agent { agent, .. } => before && token.agent == *agent,
                Revocation::Tenant { .. } => before,
            };
            if meant {
                token.revoked.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Forgets, now and then, the tokens that ended long ago, but none that an open stream still
    /// lives by.
    fn forget(&self) {
        {
            let mut forgotten_at = lock(&self.forgotten_at);
            if forgotten_at.elapsed() < FORGET_EVERY {
                return;
            }
            *forgotten_at = Instant::now();
        }
        let now = (self.clock)();
        let tenants: Vec<_> = {
            let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
            tenants.values().cloned().collect()
        };
        for tokens in tenants {
            let mut tokens = tokens.write().unwrap_or_else(PoisonError::into_inner);
            tokens.retain(|_, token| {
                let asked = token.asked.swap(false, Ordering::Relaxed);
                asked || token.expires_at.plus(KEPT_AFTER_END) >= now
            });
        }
    }
}

impl Token {
    const fn new(
        agent: AgentId,
        task: TaskId,
        number: u64,
        expires_at: Timestamp,
        revoked: bool,
    ) -> Self {
        Self {
            agent,
            task,
            number,
            expires_at,
            revoked: AtomicBool::new(revoked),
            asked: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl TokenRegistry for SharedRegistry {
    fn liveness(&self, caller: &Caller) -> Result<Liveness, StoreError> {
        match self.remembered(caller) {
            // What was revoked stays revoked, whatever else is not known.
            Liveness::Revoked => Ok(Liveness::Revoked),
            known if self.freshness.is_fresh() => Ok(known),
            _ => Err(failed("look up", Stale)),
        }
    }

    async fn look_up(&self, caller: &Caller) -> Result<Liveness, StoreError> {
        match self.liveness(caller)? {
            Liveness::Unknown => {}
            known => return Ok(known),
        }
        let tag = caller.tenant.as_str();
        let keys = [
            self.link.key(tag, &format!("token:{}", caller.token)),
            self.link.key(tag, "cut_offs"),
            self.link.key(tag, &format!("task:{}", caller.task)),
        ];
        let said = self
            .link
            .run(&LOOK_UP, &keys, &[], false)
            .await
            .and_then(texts);
        let said = said.map_err(|error| failed("look up", error))?;
        let [agent, task, number, _ends, revoked] = said.as_slice() else {
            return Ok(Liveness::Unknown);
        };
        if agent != caller.agent.as_str() || task != caller.task.as_str() {
            return Ok(Liveness::Unknown);
        }
        let number = number
            .parse()
            .map_err(|_e| failed("look up", LinkError::Foreign))?;
        let token = Token::new(
            caller.agent.clone(),
            caller.task.clone(),
            number,
            caller.expires_at,
            revoked == "1",
        );
        self.insert(&caller.tenant, caller.token.clone(), token);
        Ok(self.remembered(caller))
    }

    async fn register(
        &self,
        caller: &Caller,
        rests_on: Option<Timestamp>,
    ) -> Result<Registered, StoreError> {
        let Caller {
            tenant,
            agent,
            task,
            token,
            expires_at,
            ..
        } = caller;
        let said = self
            .put(tenant, agent, task, token, *expires_at, rests_on)
            .await;
        let said = said.map_err(|error| failed("register", error))?;
        match said.first().map(String::as_str) {
            Some("live") => {
                let number = said.get(1).and_then(|text| text.parse().ok()).unwrap_or(0);
                let new = Token::new(agent.clone(), task.clone(), number, *expires_at, false);
                self.insert(tenant, token.clone(), new);
                Ok(Registered::Live)
            }
            Some("task_complete") => Ok(Registered::TaskComplete),
            Some("revoked") => Ok(Registered::Revoked),
            Some("taken") => Ok(Registered::IdTaken),
            Some("full") => Err(failed("register", Full)),
            _ => Err(failed("register", LinkError::Foreign)),
        }
    }

    async fn revoke(&self, what: &Revocation, now: Timestamp) -> Result<usize, StoreError> {
        // Here at once and on this disk, whatever Redis will say.
        self.mark(what, None);
        lock(&self.said).push(Said {
            what: what.clone(),
            at: now,
            when: Instant::now(),
            told: false,
        });
        self.write_down(what, now);
        let said = self.say(what, now).await;
        said.map_err(|error| failed("revoke", error))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
