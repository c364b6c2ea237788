//! Looks after the fleet as a whole: who belongs to it, whether Redis still knows what it knew,
//! and what the others have to say.
//!
//! Ten times a second a replica says that it lives and hears what has happened since (revocations,
//! deferred work, caps that others are short of). An *epoch* lasts for as long as Redis forgets
//! nothing. When its key is gone, or a counter lacks what had been confirmed, a new one begins:
//! everybody who may have taken something says again what, and nobody takes anything before all
//! have. Worst case: a replica that is waited for and does not come back keeps the fleet closed
//! until an operator says that it is gone for good.

mod heard;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tollgate_core::time::Timestamp;

use super::heirs::Heirs;
use super::link::{Link, LinkError, Script};
use super::news::{self, News, Told};
use super::registry::SharedRegistry;
use super::visits::{Concern, Visits, texts};
use heard::Heard;

static BEAT: Script = Script::new(include_str!("beat.lua"));
static EVICTS: Script = Script::new(include_str!("evicts.lua"));
static FOUND: Script = Script::new(include_str!("found.lua"));
static PRESENT: Script = Script::new(
    "if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return { 'other' } end
     for n = 2, #ARGV do redis.call('HSET', KEYS[1], 'm:' .. ARGV[n], '1') end
     return { 'done' }",
);

static FORGET: Script = Script::new(
    "redis.call('HDEL', KEYS[1], ARGV[1]) redis.call('HDEL', KEYS[2], ARGV[1])
     redis.call('HDEL', KEYS[3], 'm:' .. ARGV[1])
     redis.call('HDEL', KEYS[4], ARGV[1]) return { 'done' }",
);

/// Entries of the log that are read at once.
const ENTRIES: usize = 1_000;
/// How often it is said that this replica lives.
const BEAT_EVERY: Duration = Duration::from_millis(100);
/// How long one beat may take. Longer, and a revocation would not be heard within a second.
const BEAT_BOUND: Duration = Duration::from_millis(800);
/// What is known of revocations counts for this long after it was asked for.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// How long an epoch gathers at least, so that replicas that start at the same time find it.
const GATHER_FOR: Duration = Duration::from_secs(1);
/// Restoring may take longer than a call waits.
const RESTORE_RETRY: Duration = Duration::from_millis(200);

/// How the fleet stands, as heard last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetState {
    /// Whether money and pace may be taken.
    pub open: bool,
    /// The epoch, which is another one whenever Redis has forgotten something.
    pub epoch: String,
    /// The replicas that are waited for, while it may not.
    pub lacking: Vec<String>,
    /// Every replica heard of, and for how many seconds it has been silent.
    pub members: Vec<(String, u64)>,
    /// Why the last beat failed, if it did.
    pub fault: Option<String>,
}

/// When Redis last answered what was asked, for those who must not act on old news.
pub(super) struct Freshness {
    started: Instant,
    /// Microseconds after the start at which the last answered beat was sent; 0 for never.
    asked: AtomicU64,
}

impl Freshness {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            asked: AtomicU64::new(0),
        }
    }

    fn answered(&self, asked: Instant) {
        let micros = asked.saturating_duration_since(self.started).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX).max(1);
        self.asked.store(micros, Ordering::Relaxed);
    }

    /// Whether everything that others said until a second ago is known here.
    pub(super) fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age <= FRESH_FOR)
    }

    /// How long ago the last answered beat was sent, if there was one.
    pub(super) fn age(&self) -> Option<Duration> {
        match self.asked.load(Ordering::Relaxed) {
            0 => None,
            asked => Some(
                self.started
                    .elapsed()
                    .saturating_sub(Duration::from_micros(asked)),
            ),
        }
    }
}

/// What looks after the fleet.
pub(super) struct Keeper {
    link: Arc<Link>,
    member: String,
    visits: Arc<Visits>,
    registry: Arc<SharedRegistry>,
    news: Arc<News>,
    freshness: Arc<Freshness>,
    state: Arc<Mutex<FleetState>>,
    policy: Arc<Mutex<String>>,
    /// The file in which everybody who was ever heard of is kept: Redis may forget them.
    known_file: PathBuf,
    known: BTreeSet<String>,
    concerns: mpsc::UnboundedReceiver<Concern>,
    heirs: Arc<tokio::sync::Mutex<Heirs>>,
    lease: Duration,
    clock: fn() -> Timestamp,
    epoch: Option<Arc<str>>,
    restored: bool,
    last_read: String,
}

pub(super) struct KeeperParts {
    pub(super) link: Arc<Link>,
    pub(super) member: String,
    pub(super) visits: Arc<Visits>,
    pub(super) registry: Arc<SharedRegistry>,
    pub(super) news: Arc<News>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) state: Arc<Mutex<FleetState>>,
    /// Which policy is in force here.
    pub(super) policy: Arc<Mutex<String>>,
    /// Where it keeps what it must not forget.
    pub(super) dir: PathBuf,
    pub(super) heirs: Heirs,
    /// After how long a replica that is not heard of counts as gone.
    pub(super) lease: Duration,
    pub(super) clock: fn() -> Timestamp,
    pub(super) concerns: mpsc::UnboundedReceiver<Concern>,
}

impl Keeper {
    pub(super) fn new(parts: KeeperParts) -> Self {
        let known_file = parts.dir.join("known.json");
        Self {
            known: read_known(&known_file),
            known_file,
            link: parts.link,
            member: parts.member,
            visits: parts.visits,
            registry: parts.registry,
            news: parts.news,
            freshness: parts.freshness,
            state: parts.state,
            policy: parts.policy,
            concerns: parts.concerns,
            heirs: Arc::new(tokio::sync::Mutex::new(parts.heirs)),
            lease: parts.lease,
            clock: parts.clock,
            epoch: None,
            restored: false,
            last_read: "0-0".to_owned(),
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn keep(mut self) {
        let mut beat = tokio::time::interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => self.beat().await,
                concern = self.concerns.recv() => match concern {
                    Some(concern) => self.look_into(concern).await,
                    None => return,
                },
            }
        }
    }

    async fn beat(&mut self) {
        let asked = Instant::now();
        match self.hear().await {
            Ok(heard) => {
                // Of another epoch, or with more to come, not everything is known yet.
                let same = self.epoch.as_deref() == Some(heard.epoch.as_str());
                if same && heard.entries.len() < ENTRIES {
                    self.freshness.answered(asked);
                }
                if let Err(error) = self.act_on(heard).await {
                    self.note(|state| {
                        state.open = false;
                        state.fault = Some(super::causes(&error));
                    });
                }
            }
            Err(error) => {
                // A connection that is there and answers nothing is as good as none.
                if matches!(error, LinkError::Slow(_)) {
                    self.link.give_up();
                }
                let fault = super::causes(&error);
                self.note(|state| {
                    if state.fault.as_ref() != Some(&fault) {
                        tracing::warn!(error = fault, "the shared store does not answer");
                    }
                    state.fault = Some(fault.clone());
                });
            }
        }
    }

    async fn hear(&self) -> Result<Heard, LinkError> {
        if self.link.mend(BEAT_BOUND).await? {
            self.check_eviction().await?;
        }
        let keys = ["epoch", "members", "log", "heirs", "policies"]
            .map(|rest| self.link.key("fleet", rest));
        let gather = GATHER_FOR.as_millis().to_string();
        let policy = self
            .policy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let args = [
            self.member.clone(),
            self.last_read.clone(),
            gather,
            policy,
            ENTRIES.to_string(),
        ];
        let values = self
            .link
            .run_within(BEAT_BOUND, &BEAT, &keys, &args, false)
            .await?;
        Heard::read(values).ok_or(LinkError::Foreign)
    }

    /// A server that throws away what it has no room for would throw away what was spent.
    async fn check_eviction(&self) -> Result<(), LinkError> {
        let keys = [self.link.key("fleet", "epoch")];
        let said = self
            .link
            .run_within(BEAT_BOUND, &EVICTS, &keys, &[], false)
            .await;
        let policy = said.and_then(texts).and_then(|said| match said.first() {
            Some(policy) if policy == "noeviction" => Ok(()),
            Some(policy) => Err(LinkError::Evicts(policy.clone())),
            None => Err(LinkError::Foreign),
        });
        // To be asked again, once it has been changed.
        policy.inspect_err(|_unfit| self.link.give_up())
    }

    async fn act_on(&mut self, heard: Heard) -> Result<(), LinkError> {
        self.learn(heard.members.iter().map(|(name, _)| name.as_str()));
        if heard.epoch.is_empty() {
            return self.found("its epoch").await;
        }
        if self.epoch.as_deref() != Some(heard.epoch.as_str()) {
            self.enter(&heard.epoch);
            return Ok(());
        }
        for (id, entry) in &heard.entries {
            self.hear_of(entry);
            self.last_read.clone_from(id);
        }
        if !self.restored {
            self.restore().await?;
        }
        self.registry.say_again().await?;
        let open = heard.state == "open" && self.restored;
        let alive = heard.alive();
        self.visits
            .set_members(u32::try_from(alive).unwrap_or(u32::MAX));
        let epoch = self.epoch.clone().filter(|_| open);
        self.visits.set_epoch(epoch);
        if open {
            self.look_after_the_gone(&heard);
        }
        let members = heard.silences();
        self.note(|state| {
            if open && !state.open {
                tracing::info!(replicas = members.len(), "the fleet's counters are open");
            } else if !open && state.lacking != heard.lacking {
                tracing::warn!(waiting_for = ?heard.lacking, "the fleet's counters are being put together");
            }
            *state = FleetState {
                open,
                epoch: heard.epoch.clone(),
                lacking: heard.lacking.clone(),
                members: members.clone(),
                fault: None,
            };
        });
        Ok(())
    }

    /// Another epoch than before, or the first: nothing is taken until everything has been said.
    fn enter(&mut self, epoch: &str) {
        self.visits.set_epoch(None);
        self.epoch = Some(epoch.into());
        self.restored = false;
        self.last_read = "0-0".to_owned();
    }

    async fn restore(&mut self) -> Result<(), LinkError> {
        let Some(epoch) = self.epoch.clone() else {
            return Ok(());
        };
        self.visits.restore(&epoch).await?;
        self.registry.restore().await?;
        let keys = [self.link.key("fleet", "epoch")];
        let mut args = vec![epoch.to_string(), self.member.clone()];
        {
            let heirs = self.heirs.lock().await;
            heirs.speak(&self.link, (self.clock)()).await?;
            args.extend(heirs.members().cloned());
        }
        let said = texts(self.link.run(&PRESENT, &keys, &args, true).await?)?;
        self.restored = said.first().is_some_and(|word| word == "done");
        Ok(())
    }

    /// Redis has lost something: a new epoch begins, and everybody who was ever heard of is waited
    /// for.
    async fn found(&mut self, what: &str) -> Result<(), LinkError> {
        self.visits.set_epoch(None);
        tracing::warn!(
            lost = what,
            "the shared store has forgotten; counters are put together anew"
        );
        self.known.insert(self.member.clone());
        let keys = ["epoch", "tenants"].map(|rest| self.link.key("fleet", rest));
        let before = self.epoch.as_deref().unwrap_or_default().to_owned();
        let mut args = vec![before, uuid::Uuid::now_v7().simple().to_string()];
        args.extend(self.known.iter().cloned());
        let said = texts(self.link.run(&FOUND, &keys, &args, true).await?)?;
        if let Some(epoch) = said.first() {
            self.enter(epoch);
        }
        Ok(())
    }

    /// Those that are gone are settled by the first of those that live, beside the beats.
    fn look_after_the_gone(&self, heard: &Heard) {
        let Some(epoch) = self.epoch.clone() else {
            return;
        };
        // Whatever is under way there goes first.
        let Ok(mut heirs) = self.heirs.clone().try_lock_owned() else {
            return;
        };
        let silences = heard.silences();
        let lease = self.lease.as_secs().max(1);
        let (alive, silent): (Vec<_>, Vec<_>) = silences
            .into_iter()
            .partition(|(_, silence)| *silence < lease);
        let lives = |name: &String| alive.iter().any(|(member, _)| member == name);
        for (member, _) in &alive {
            if let Err(error) = heirs.give_back(member) {
                tracing::error!(%error, "what was inherited cannot be given back");
            }
        }
        if alive.iter().map(|(member, _)| member).min() != Some(&self.member) {
            return;
        }
        let has_heir = |gone: &String| {
            let found = heard.heirs.iter().find(|(member, _)| member == gone);
            found
                .is_some_and(|(_, heir)| lives(heir) && (*heir != self.member || heirs.keeps(gone)))
        };
        let orphan = silent.into_iter().find(|(member, _)| !has_heir(member));
        let forgettable = heirs.forgettable((self.clock)());
        let (link, member) = (self.link.clone(), self.member.clone());
        tokio::spawn(async move {
            if let Some((gone, silent_seconds)) = orphan {
                match heirs.inherit(&link, &epoch, &gone, &member).await {
                    Ok(counters) => tracing::warn!(
                        replica = gone,
                        silent_seconds,
                        counters,
                        "a replica is gone; what it had claimed counts as spent until it comes back"
                    ),
                    Err(error) => {
                        let error = super::causes(&error);
                        tracing::warn!(
                            replica = gone,
                            error,
                            "what it had claimed is not settled yet"
                        );
                    }
                }
            }
            for gone in forgettable {
                if forget(&link, &gone).await.is_ok()
                    && let Err(error) = heirs.give_back(&gone)
                {
                    tracing::error!(%error, "what was inherited cannot be deleted");
                }
            }
        });
    }

    async fn look_into(&mut self, concern: Concern) {
        match concern {
            Concern::Lost { epoch, what } => {
                // Said by every call that noticed; after the first, the epoch is another one.
                if self.epoch.as_deref() == Some(&epoch)
                    && self.restored
                    && let Err(error) = self.found(what).await
                {
                    tracing::error!(error = super::causes(&error), "no new epoch could be begun");
                    tokio::time::sleep(RESTORE_RETRY).await;
                }
            }
            Concern::Recall(keys) => {
                for key in keys {
                    let told = Told::Recall { key };
                    if let Err(error) = self.news.tell(&told).await {
                        tracing::debug!(error = super::causes(&error), "nobody was asked");
                    }
                }
            }
        }
    }

    fn hear_of(&mut self, entry: &str) {
        match serde_json::from_str(entry) {
            Ok(Told::Recall { key }) => self.visits.recall(&key),
            Ok(Told::Gone { member }) => self.unlearn(&member),
            Ok(Told::Revoked { what, number, at }) => self.registry.hear_of(&what, number, at),
            Ok(told @ (Told::Remembered { .. } | Told::Forgotten { .. })) => self.news.hear(told),
            // Of a newer version: whoever said it knows that not everybody understands.
            Err(error) => tracing::warn!(%error, "news that is not understood is passed over"),
        }
    }

    fn unlearn(&mut self, gone: &str) {
        if self.known.remove(gone)
            && let Err(error) = write_known(&self.known_file, &self.known)
        {
            tracing::error!(%error, "the replicas of the fleet cannot be written down");
        }
    }

    fn learn<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        let before = self.known.len();
        self.known.extend(names.map(str::to_owned));
        if self.known.len() != before
            && let Err(error) = write_known(&self.known_file, &self.known)
        {
            tracing::error!(%error, "the replicas of the fleet cannot be written down");
        }
    }

    fn note(&self, change: impl FnOnce(&mut FleetState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Takes a replica off every list, for good, and tells everybody.
pub(super) async fn forget(link: &Link, gone: &str) -> Result<(), LinkError> {
    let keys = ["members", "heirs", "epoch", "policies"].map(|rest| link.key("fleet", rest));
    link.run(&FORGET, &keys, &[gone.to_owned()], true).await?;
    let told = Told::Gone {
        member: gone.to_owned(),
    };
    news::tell(link, &told).await
}

fn read_known(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write_known(file: &Path, known: &BTreeSet<String>) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(known)?)?;
    std::fs::rename(&beside, file)
}
