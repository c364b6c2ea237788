//! What the replicas of a fleet share, in Redis or Valkey: money, pace, tokens, deferred work.
//!
//! Records, journals and settled sums stay with each replica; Redis holds what must be one truth
//! for all, and nothing that could not be put together again from the replicas
//! (`purse` → `visits` → `trip.lua`; `keeper` looks after the whole). Worst case: Redis is away,
//! and calls are refused once what replicas hold of it is used up or a second has passed.

mod amount;
mod claims;
mod deferred;
mod health;
mod heirs;
mod keeper;
mod link;
mod news;
mod notices;
mod purse;
mod registry;
mod roster;
mod visits;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tollgate_core::admission::Admission;
use tollgate_core::budget::BudgetStore;
use tollgate_core::ids::ReplicaId;
use tollgate_core::latency::Waits;
use tollgate_core::rate::RateStore;
use tollgate_core::time::Timestamp;

pub use deferred::SharedDeferred;
pub use health::{Health, health};
use keeper::FleetState;
pub use link::{LinkError, RedisConfig, Topology};
pub use notices::SharedNotices;
pub use registry::{Listener, SharedRegistry};
pub use roster::{Member, list, remove};

use crate::embedded::{DbError, Embedded};
use claims::Claims;
use heirs::Heirs;
use keeper::{Freshness, Keeper, KeeperParts};
use link::Link;
use news::News;
use visits::{Manner, Visits};

/// How long the last word to Redis may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How a gateway belongs to a fleet.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// What the replicas share.
    pub redis: RedisConfig,
    /// Which of them this is.
    pub replica: ReplicaId,
    /// Whether it takes slices of caps and rates beforehand.
    pub leases: bool,
    /// How long places of calls under way are kept for a replica that is not heard of.
    pub lease: Duration,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// What time it is.
    pub clock: fn() -> Timestamp,
}

/// Why a gateway cannot join its fleet.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The settings cannot be used.
    #[error(transparent)]
    Redis(#[from] LinkError),
    /// What it settled before cannot be read.
    #[error("what was settled before cannot be read")]
    Database(#[from] DbError),
    /// What it must not forget cannot be kept.
    #[error("{} cannot be used", .0.display())]
    Directory(PathBuf, #[source] std::io::Error),
    /// There is no thread to work on.
    #[error("the fleet's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Figures for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FleetStats {
    /// Calls that took what they needed without asking Redis.
    pub taken_here: u64,
    /// Calls that waited for an answer.
    pub taken_there: u64,
    /// Visits to Redis, for any number of calls each, and how long they took.
    pub visits: Waits,
    /// Visits that failed.
    pub failures: u64,
}

/// A gateway's part in a fleet.
pub struct Fleet {
    /// Tokens.
    pub registry: Arc<SharedRegistry>,
    /// Deferred work.
    pub deferred: Arc<SharedDeferred>,
    /// Shares of caps that have been noticed.
    pub notices: Arc<SharedNotices>,
    visits: Arc<Visits>,
    freshness: Arc<Freshness>,
    state: Arc<Mutex<FleetState>>,
    policy: Arc<Mutex<String>>,
    member: String,
    runtime: tokio::runtime::Runtime,
}

impl Fleet {
    /// Joins, beside the stores of this replica. Waits for nothing: calls are refused until
    /// [`state`](Self::state) says that it is open.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub fn join(config: &FleetConfig, embedded: &Embedded) -> Result<Self, JoinError> {
        let dir = config.data_dir.join("fleet");
        let unusable = |error| JoinError::Directory(dir.clone(), error);
        std::fs::create_dir_all(&dir).map_err(unusable)?;
        let member = format!("{}.{}", config.replica, id(&dir).map_err(unusable)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tollgate-fleet")
            .enable_all()
            .build()
            .map_err(JoinError::Thread)?;
        let handle = runtime.handle().clone();
        let link = Link::new(config.redis.clone())?;
        let news = News::new(link.clone(), embedded.deferred.clone(), &handle);
        let freshness = Arc::new(Freshness::new());
        let (local, clock) = (embedded.registry.clone(), config.clock);
        let known = (link.clone(), news.clone(), freshness.clone());
        let registry = SharedRegistry::new(known, local, handle.clone(), clock);
        let (concern, concerns) = tokio::sync::mpsc::unbounded_channel();
        let claims = Claims::open(&dir.join("claims"), (config.clock)()).map_err(unusable)?;
        let manner = Manner::of(config, &member);
        let settled = embedded.settled()?;
        let visits = Visits::new(
            link.clone(),
            manner,
            handle.clone(),
            settled,
            claims,
            concern,
        );
        let state = Arc::new(Mutex::new(FleetState::default()));
        let policy = Arc::new(Mutex::new(String::new()));
        let keeper = Keeper::new(KeeperParts {
            link: link.clone(),
            member: member.clone(),
            visits: visits.clone(),
            registry: registry.clone(),
            news: news.clone(),
            freshness: freshness.clone(),
            state: state.clone(),
            policy: policy.clone(),
            heirs: Heirs::open(&dir).map_err(unusable)?,
            lease: config.lease,
            clock: config.clock,
            dir: dir.clone(),
            concerns,
        });
        handle.spawn(keeper.keep());
        handle.spawn(visits.clone().rounds());
        Ok(Self {
            registry,
            deferred: Arc::new(SharedDeferred {
                link: link.clone(),
                member: member.clone(),
                news,
                local: embedded.deferred.clone(),
                runtime: handle,
            }),
            notices: Arc::new(SharedNotices {
                link,
                member: member.clone(),
                local: embedded.notices.clone(),
            }),
            visits,
            freshness,
            state,
            policy,
            member,
            runtime,
        })
    }

    /// Money and pace, taken together.
    #[must_use]
    pub fn admission(&self) -> Arc<dyn Admission> {
        self.visits.clone()
    }

    /// Money.
    #[must_use]
    pub fn budgets(&self) -> Arc<dyn BudgetStore> {
        self.visits.clone()
    }

    /// Pace.
    #[must_use]
    pub fn rates(&self) -> Arc<dyn RateStore> {
        self.visits.clone()
    }

    /// What this replica is called in Redis.
    #[must_use]
    pub fn member(&self) -> &str {
        &self.member
    }

    /// How the fleet stands.
    #[must_use]
    pub fn state(&self) -> FleetState {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    /// Which policy is in force here: the others, and whoever lists them, get to know it.
    pub fn show_policy(&self, version: &str) {
        let mut shown = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        version.clone_into(&mut shown);
    }

    /// Whether calls can be admitted: Redis answers, and the counters are open.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.freshness.is_fresh() && self.visits.has_epoch()
    }

    /// How old the last word of Redis is; `None` if there was none yet.
    #[must_use]
    pub fn news_age(&self) -> Option<Duration> {
        self.freshness.age()
    }

    /// Figures for metrics.
    #[must_use]
    pub fn stats(&self) -> FleetStats {
        let counts = &self.visits.counts;
        FleetStats {
            taken_here: counts.taken_here.load(Ordering::Relaxed),
            taken_there: counts.taken_there.load(Ordering::Relaxed),
            visits: counts.visits.so_far(),
            failures: counts.failures.load(Ordering::Relaxed),
        }
    }

    /// Returns once Redis knows everything that was settled so far, or three seconds have passed.
    pub async fn flush(&self) {
        self.visits.flush(LAST_WORDS).await;
    }

    /// Tells Redis what was settled, gives back what is held and not used, and leaves. Blocks.
    pub fn leave(self) {
        self.visits.end_leases();
        self.runtime.block_on(self.flush());
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// The id of a data directory: a new one under an old name has not settled what the old one had.
fn id(dir: &Path) -> std::io::Result<String> {
    let file = dir.join("id");
    match std::fs::read_to_string(&file) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Ok(_) => write_id(&file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_id(&file),
        Err(error) => Err(error),
    }
}

fn write_id(file: &Path) -> std::io::Result<String> {
    let random = uuid::Uuid::now_v7().simple().to_string();
    // The random end of it.
    let id: String = random.chars().skip(20).collect();
    let beside = file.with_extension("new");
    std::fs::write(&beside, &id)?;
    std::fs::rename(beside, file)?;
    Ok(id)
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
