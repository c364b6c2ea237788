//! Who goes to Redis for which tenant, and when: core's stores of money and pace, shared.
//!
//! Per tenant one visit is under way at a time, and everybody who comes meanwhile travels on the
//! next one. So a tenant's calls share round trips, visits cannot overtake one another, and what
//! waits is bounded by the calls in flight. What nobody waits for is told on a round twice a
//! second. Worst case: a call waits for [`RedisConfig::max_wait`](super::RedisConfig), then it is
//! refused.

mod rounds;
mod stores;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tollgate_core::budget::{BudgetKey, StoreError};
use tollgate_core::ids::TenantId;
use tollgate_core::latency::Latencies;
use tollgate_core::money::PicoUsd;
use tollgate_core::time::Timestamp;

use super::FleetConfig;
use super::claims::Claims;
use super::link::{Link, LinkError, Script};
use super::purse::{Plan, Purse, Reply, Terms};

pub(super) static TRIP: Script =
    Script::new(concat!(include_str!("money.lua"), include_str!("trip.lua")));
/// Keeps the numbers of visits: what was said before and comes late is known by them.
pub(super) static MARK: Script =
    Script::new("redis.call('HSET', KEYS[1], 'epoch', ARGV[1]) return { 'done' }");
/// Opens a tenant in an epoch. KEYS: epoch, tenants. ARGV: the epoch, the tenant.
static ENTER: Script = Script::new(
    "local epoch = redis.call('HMGET', KEYS[1], 'id', 'state')
     if epoch[1] ~= ARGV[1] or epoch[2] ~= 'open' then return { 'closed' } end
     if redis.call('SADD', KEYS[2], ARGV[2]) == 1 then return { 'new' } end
     return { 'known' }",
);

/// How long to wait before its marker is looked for once more.
const PAUSE: Duration = Duration::from_millis(5);
/// How often a tenant's marker is looked for that another replica is about to set.
const LOOKS: u32 = 40;

/// What the visits ask of those who look after the fleet as a whole.
#[derive(Debug)]
pub(super) enum Concern {
    /// Redis has lost something that it had confirmed.
    Lost {
        /// In which epoch.
        epoch: String,
        /// What.
        what: &'static str,
    },
    /// Others may hold of this what they do not use.
    Recall(Vec<BudgetKey>),
}

struct Till {
    tenant: TenantId,
    purse: Mutex<Purse>,
    /// Whether a visit is under way or about to be.
    running: AtomicBool,
    /// Whether it is on the list of the next round.
    listed: AtomicBool,
}

/// Figures since start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) taken_here: AtomicU64,
    pub(super) taken_there: AtomicU64,
    pub(super) visits: Latencies,
    pub(super) failures: AtomicU64,
}

/// The money and the pace of every tenant, as this replica shares them.
pub(super) struct Visits {
    this: Weak<Self>,
    link: Arc<Link>,
    member: String,
    leases: AtomicBool,
    lease: Duration,
    clock: fn() -> Timestamp,
    runtime: Handle,
    first_visit: u64,
    /// The epoch that counters may be taken from; `None` while there is none.
    epoch: RwLock<Option<Arc<str>>>,
    members: AtomicU32,
    tills: RwLock<HashMap<TenantId, Arc<Till>>>,
    touched: Mutex<Vec<Arc<Till>>>,
    concerns: mpsc::UnboundedSender<Concern>,
    claims: Claims,
    pub(super) counts: Counts,
}

/// How a fleet's member goes about it.
pub(super) struct Manner {
    pub(super) member: String,
    pub(super) leases: bool,
    pub(super) lease: Duration,
    pub(super) clock: fn() -> Timestamp,
}

impl Manner {
    pub(super) fn of(config: &FleetConfig, member: &str) -> Self {
        Self {
            member: member.to_owned(),
            leases: config.leases,
            lease: config.lease,
            clock: config.clock,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the counters of the fleet are being put together")]
struct Gathering;

impl Visits {
    /// What was `settled` by this replica before is told Redis as soon as there is an epoch.
    pub(super) fn new(
        link: Arc<Link>,
        manner: Manner,
        runtime: Handle,
        settled: impl IntoIterator<Item = (BudgetKey, PicoUsd)>,
        claims: (Claims, Vec<BudgetKey>),
        concerns: mpsc::UnboundedSender<Concern>,
    ) -> Arc<Self> {
        let (claims, claimed) = claims;
        let now = (manner.clock)();
        // Larger than any that an earlier process used: it made fewer than one a microsecond.
        let first_visit = u64::try_from(now.as_micros()).unwrap_or(0);
        let visits = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            link,
            member: manner.member,
            leases: AtomicBool::new(manner.leases),
            lease: manner.lease,
            clock: manner.clock,
            runtime,
            first_visit,
            epoch: RwLock::new(None),
            members: AtomicU32::new(1),
            tills: RwLock::default(),
            touched: Mutex::default(),
            concerns,
            claims,
            counts: Counts::default(),
        });
        // What was claimed and never settled comes first, so that what was settled is not undone.
        let nothing = claimed.into_iter().map(|key| (key, PicoUsd::ZERO));
        for (key, amount) in nothing.chain(settled) {
            let till = visits.till(&key.tenant);
            lock(&till.purse).load(&key, amount, now);
            visits.touch(&till);
        }
        visits
    }

    /// From now on counters are taken from in this epoch, or not at all.
    pub(super) fn set_epoch(&self, epoch: Option<Arc<str>>) {
        *self.epoch.write().unwrap_or_else(PoisonError::into_inner) = epoch;
    }

    fn epoch(&self) -> Option<Arc<str>> {
        self.epoch
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_members(&self, members: u32) {
        self.members.store(members.max(1), Ordering::Relaxed);
    }

    pub(super) fn has_epoch(&self) -> bool {
        self.epoch().is_some()
    }

    /// From now on nothing is held that calls do not need.
    pub(super) fn end_leases(&self) {
        self.leases.store(false, Ordering::Relaxed);
    }

    /// Others are short of these.
    pub(super) fn recall(&self, key: &BudgetKey) {
        if let Some(till) = self.known(&key.tenant) {
            lock(&till.purse).recall(key, Instant::now());
            self.run(&till);
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            members: self.members.load(Ordering::Relaxed),
            leases: self.leases.load(Ordering::Relaxed),
            lease: self.lease,
            now: Instant::now(),
        }
    }

    fn all(&self) -> Vec<Arc<Till>> {
        let tills = self.tills.read().unwrap_or_else(PoisonError::into_inner);
        tills.values().cloned().collect()
    }

    fn known(&self, tenant: &TenantId) -> Option<Arc<Till>> {
        let tills = self.tills.read().unwrap_or_else(PoisonError::into_inner);
        tills.get(tenant).cloned()
    }

    fn till(&self, tenant: &TenantId) -> Arc<Till> {
        self.known(tenant).unwrap_or_else(|| {
            let mut tills = self.tills.write().unwrap_or_else(PoisonError::into_inner);
            let new = || {
                Arc::new(Till {
                    tenant: tenant.clone(),
                    purse: Mutex::new(Purse::new(tenant.clone(), self.first_visit)),
                    running: AtomicBool::new(false),
                    listed: AtomicBool::new(false),
                })
            };
            tills.entry(tenant.clone()).or_insert_with(new).clone()
        })
    }

    fn touch(&self, till: &Arc<Till>) {
        if !till.listed.swap(true, Ordering::Relaxed) {
            lock(&self.touched).push(till.clone());
        }
    }

    fn run(&self, till: &Arc<Till>) {
        if let Some(this) = self.this.upgrade()
            && !till.running.swap(true, Ordering::SeqCst)
        {
            self.runtime.spawn(this.visit(till.clone()));
        }
    }

    /// Goes to Redis as long as somebody waits.
    async fn visit(self: Arc<Self>, till: Arc<Till>) {
        let mut first = true;
        let mut looks = 0;
        loop {
            let next = {
                let mut purse = lock(&till.purse);
                let waits = first || purse.is_awaited(Instant::now());
                let plan = if waits {
                    purse.plan(&self.terms(), (self.clock)())
                } else {
                    None
                };
                match (plan, purse.next_try()) {
                    (Some(plan), _) => Ok(plan),
                    (None, Some(at)) => Err(at),
                    (None, None) => {
                        // Under the lock: whoever comes next finds that nobody runs.
                        till.running.store(false, Ordering::SeqCst);
                        return;
                    }
                }
            };
            first = false;
            match next {
                Err(at) => tokio::time::sleep_until(at.into()).await,
                Ok(plan) => self.go(&till, plan, &mut looks).await,
            }
        }
    }

    async fn go(&self, till: &Till, plan: Plan, looks: &mut u32) {
        let Some(epoch) = self.epoch() else {
            let error = Arc::new(failed(Gathering));
            return lock(&till.purse).failed(plan, false, &error);
        };
        if !plan.unlisted.is_empty()
            && let Err(error) = self.claims.add(&plan.unlisted)
        {
            let error = Arc::new(failed(error));
            return lock(&till.purse).failed(plan, false, &error);
        }
        let start = Instant::now();
        let said = self.say(&till.tenant, &epoch, &plan, "visit").await;
        self.counts.visits.took(start.elapsed());
        let values = match said {
            Ok(values) => values,
            Err(error) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                let sent = !matches!(error, LinkError::Away);
                let error = Arc::new(failed(error));
                return lock(&till.purse).failed(plan, sent, &error);
            }
        };
        match values.first().map(String::as_str) {
            Some("done") => {
                let rest = values.get(1..).unwrap_or_default();
                let mut purse = lock(&till.purse);
                match Reply::parse(rest, plan.counters) {
                    Some(reply) => purse.arrived(plan, &reply, &self.terms()),
                    None => purse.failed(plan, true, &Arc::new(failed(LinkError::Foreign))),
                }
                let recalls = purse.recalls();
                if !recalls.is_empty() {
                    drop(self.concerns.send(Concern::Recall(recalls)));
                }
            }
            Some("late") => {
                let last = values.get(1).and_then(|text| text.parse().ok());
                let mut purse = lock(&till.purse);
                purse.go_on_after(last.unwrap_or(0));
                purse.put_off(plan);
            }
            Some("closed") => self.open(till, plan, &epoch, looks).await,
            _ => {
                self.lost(&epoch, "a change that it had confirmed");
                let error = Arc::new(failed(Gathering));
                lock(&till.purse).failed(plan, false, &error);
            }
        }
    }

    fn lost(&self, epoch: &str, what: &'static str) {
        let epoch = epoch.to_owned();
        drop(self.concerns.send(Concern::Lost { epoch, what }));
    }

    /// The tenant has no marker of this epoch. If it is new to the fleet, it gets one.
    async fn open(&self, till: &Till, plan: Plan, epoch: &str, looks: &mut u32) {
        let keys = ["epoch", "tenants"].map(|rest| self.link.key("fleet", rest));
        let args = [epoch.to_owned(), till.tenant.to_string()];
        let said = self
            .link
            .run(&ENTER, &keys, &args, true)
            .await
            .and_then(texts);
        let word = said.ok().and_then(|words| words.into_iter().next());
        match word.as_deref() {
            Some("new") => {
                let keys = [self.link.key(till.tenant.as_str(), "marker")];
                let set = self.link.run(&MARK, &keys, &[epoch.to_owned()], true).await;
                let mut purse = lock(&till.purse);
                match set {
                    Ok(_) => purse.put_off(plan),
                    Err(error) => purse.failed(plan, false, &Arc::new(failed(error))),
                }
            }
            // Another replica has opened it, and its marker is about to be set.
            Some("known") if *looks < LOOKS => {
                *looks = looks.saturating_add(1);
                tokio::time::sleep(PAUSE.saturating_mul(*looks)).await;
                lock(&till.purse).put_off(plan);
            }
            Some("known") => {
                self.lost(epoch, "a tenant's counters");
                let error = Arc::new(failed(Gathering));
                lock(&till.purse).failed(plan, false, &error);
            }
            _ => {
                let error = Arc::new(failed(Gathering));
                lock(&till.purse).failed(plan, false, &error);
            }
        }
    }

    async fn say(
        &self,
        tenant: &TenantId,
        epoch: &str,
        plan: &Plan,
        mode: &str,
    ) -> Result<Vec<String>, LinkError> {
        let tag = tenant.as_str();
        let mut keys = Vec::with_capacity(plan.keys.len().saturating_add(2));
        keys.push(self.link.key(tag, "marker"));
        keys.push(self.link.key(tag, "counters"));
        keys.extend(plan.keys.iter().map(|rest| self.link.key(tag, rest)));
        let mut args = Vec::with_capacity(plan.args.len().saturating_add(6));
        args.extend([
            epoch.to_owned(),
            self.member.clone(),
            plan.visit.to_string(),
            plan.answered.to_string(),
            mode.to_owned(),
            plan.counters.to_string(),
        ]);
        args.extend(plan.args.iter().cloned());
        let values = self.link.run(&TRIP, &keys, &args, true).await?;
        texts(values)
    }

    async fn wait<T>(
        &self,
        answer: oneshot::Receiver<Result<T, Arc<StoreError>>>,
    ) -> Result<T, StoreError> {
        let bound = self.link.config().max_wait;
        match tokio::time::timeout(bound, answer).await {
            Ok(Ok(answer)) => answer.map_err(|error| failed(Shared(error))),
            Ok(Err(gone)) => Err(failed(gone)),
            Err(_elapsed) => Err(failed(LinkError::Slow(bound))),
        }
    }
}

/// An error that several calls share.
#[derive(Debug, thiserror::Error)]
#[error("{}", super::causes(&*.0))]
struct Shared(Arc<StoreError>);

fn failed(cause: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError {
        operation: "reserve",
        store: "shared",
        cause: Box::new(cause),
    }
}

/// The values of an answer as text; numbers as they are written.
pub(super) fn texts(values: Vec<Value>) -> Result<Vec<String>, LinkError> {
    let text = |value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_e| LinkError::Foreign),
        Value::SimpleString(text) => Ok(text),
        Value::Int(number) => Ok(number.to_string()),
        _ => Err(LinkError::Foreign),
    };
    values.into_iter().map(text).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
