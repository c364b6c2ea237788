//! `kill -9` every few seconds and an object store that is away for a while: nothing of the records
//! is lost, doubled, out of order or in a foreign place, and what they cost is what was billed.
//!
//! Judged is what lies in the object store, as an auditor would find it: by this tool's own reading
//! of lines and hashes, and by `tollgate audit verify`. Every call bears a label that reaches both
//! the provider and its record; of refused calls, the id that the answer names must be there.

mod judge;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use serde_json::json;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use super::caller::{Call, Caller};
use super::chance::Chance;
use super::rig::{Rig, Tenant};
use super::{Common, Findings};
use crate::store::{BUCKET, ObjectStore};

/// What the gateway calls what still has to be copied.
const WAITING: &str = "tollgate_outbox_parcels{destination=\"object_store\"}";
/// The store is away from the third tenth of the calls to the sixth.
const AWAY: std::ops::Range<u64> = 3..6;
/// No run takes so long unless something is broken.
const AT_MOST: Duration = Duration::from_secs(30 * 60);
const AGENTS: u64 = 4;

/// How many calls, of how many, how often cut.
#[derive(Debug, Clone)]
pub struct RecordsConfig {
    /// Program and chance.
    pub common: Common,
    /// Calls altogether, refused ones among them.
    pub calls: u64,
    /// Tenants.
    pub tenants: u64,
    /// Callers at once.
    pub callers: u64,
    /// The time between two kills, on average.
    pub kill_every: Duration,
}

/// What the callers know in the end.
#[derive(Default)]
struct Told {
    calls: AtomicU64,
    /// Record ids of calls that the gateway refused.
    refused: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// Runs the scenario.
///
/// # Errors
/// If it could not be carried out; a promise that does not hold is in the findings.
pub async fn records(config: &RecordsConfig) -> anyhow::Result<Findings> {
    let directory = tempfile::Builder::new()
        .prefix("tollgate-store-")
        .tempdir()?;
    let store = ObjectStore::start(directory.path()).await?;
    let tenants: Vec<String> = (1..=config.tenants).map(|n| format!("t{n:02}")).collect();
    let roomy: Vec<Tenant> = tenants.iter().map(|id| Tenant::roomy(id)).collect();
    let settings = settings(&store);
    let rig = Rig::start_with(&config.common, &roomy, &settings, &CREDENTIALS).await?;
    let rig = Arc::new(RwLock::new(rig));
    let told = Arc::new(Told::default());
    let started = Instant::now();
    let mut chance = Chance::of(config.common.seed, u64::MAX);
    let mut kills = 0;
    while told.calls.load(Ordering::Relaxed) < config.calls {
        ensure!(
            started.elapsed() < AT_MOST,
            "the calls do not come to an end"
        );
        let tenth = told.calls.load(Ordering::Relaxed) * 10 / config.calls;
        store.set_down(AWAY.contains(&tenth));
        let callers = callers(config, kills, &tenants, &rig, &told).await?;
        until_the_kill(config, &told, &mut chance).await?;
        {
            let mut rig = rig.write().await;
            rig.kill()?;
            told.over.store(true, Ordering::Relaxed);
            rig.restart()?;
        }
        end(callers).await?;
        told.over.store(false, Ordering::Relaxed);
        kills += 1;
    }
    let called = started.elapsed();
    store.set_down(false);
    let mut rig = Arc::into_inner(rig)
        .context("a caller is left")?
        .into_inner();
    let caught_up = catch_up(&mut rig, &tenants).await?;
    let mut found = Findings::default();
    found.note("kills", "times the gateway was killed with SIGKILL", kills);
    found.note(
        "seconds",
        "from the first call to the last",
        called.as_secs(),
    );
    found.note(
        "catch_up_ms",
        "from the last kill until all was in the object store",
        u64::try_from(caught_up.as_millis())?,
    );
    judge::judge(&mut found, &rig, &store, &tenants, &told)?;
    Ok(found)
}

const CREDENTIALS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "loadtest"),
    ("AWS_SECRET_ACCESS_KEY", "sk-canary-loadtest-object-store"),
];

fn settings(store: &ObjectStore) -> String {
    let url = store.url();
    format!(
        "
[records]
segment_seconds = 2

[records.store]
url = \"s3://{BUCKET}\"
endpoint = \"{url}\"
region = \"us-east-1\"

[insecure]
plain_http_record_store = true
"
    )
}

/// Waits for the moment of the next kill: some time, or as soon as all calls are made.
async fn until_the_kill(
    config: &RecordsConfig,
    told: &Told,
    chance: &mut Chance,
) -> anyhow::Result<()> {
    let mean = u64::try_from(config.kill_every.as_millis())?;
    let at = Instant::now() + Duration::from_millis(chance.between(mean / 2, mean + mean / 2));
    while Instant::now() < at && told.calls.load(Ordering::Relaxed) < config.calls {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

type Callers = JoinSet<anyhow::Result<()>>;

async fn callers(
    config: &RecordsConfig,
    round: u64,
    tenants: &[String],
    rig: &Arc<RwLock<Rig>>,
    told: &Arc<Told>,
) -> anyhow::Result<Callers> {
    let rig = rig.read().await;
    let addr = rig.addr;
    let mut tokens = Vec::new();
    for (number, tenant) in (0..).zip(tenants) {
        let agent = format!("agent-{}", (number + round) % AGENTS);
        tokens.push(rig.mint(tenant, &agent).await?);
    }
    drop(rig);
    let tokens = Arc::new(tokens);
    let mut callers = JoinSet::new();
    for number in 0..config.callers {
        let (tokens, told) = (Arc::clone(&tokens), Arc::clone(told));
        let mut chance = Chance::of(config.common.seed, round << 32 | number);
        let calls = config.calls;
        callers.spawn(async move {
            let mut caller = Caller::default();
            let mut serial = 0;
            while !told.over.load(Ordering::Relaxed) && told.claim(calls) {
                let label = format!("call-{round}-{number}-{serial}");
                serial += 1;
                let token = chance.pick(&tokens).context("no token")?.clone();
                // The kill cuts calls off; what became of them is what the records must tell.
                if let Ok(answer) = caller.call(addr, &call(token, label, &mut chance)).await
                    && answer.status == StatusCode::FORBIDDEN
                {
                    let id = answer.headers.get("x-tollgate-request-id");
                    let id = id.context("a refusal without id")?.to_str()?;
                    told.refused().push(id.to_owned());
                }
            }
            Ok(())
        });
    }
    Ok(callers)
}

impl Told {
    /// Takes one of the calls that are left to make.
    fn claim(&self, calls: u64) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) < calls
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn end(mut callers: Callers) -> anyhow::Result<()> {
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

fn call(token: String, label: String, chance: &mut Chance) -> Call {
    let most = chance.between(10, 500);
    let words = format!(
        "mock-usage-{}-{}",
        chance.between(1, 40),
        chance.between(1, most)
    );
    let stream = chance.percent(20);
    let (path, body) = match chance.between(0, 99) {
        // No endpoint of this name is declared.
        0..2 => ("/openai/v1/files", json!({})),
        2..70 => (
            "/openai/v1/chat/completions",
            json!({"model": "gpt-4o-mini", "max_completion_tokens": most, "user": words,
                "stream": stream, "messages": [{"role": "user", "content": "hello there"}]}),
        ),
        _ => (
            "/anthropic/v1/messages",
            json!({"model": "claude-haiku-4-5", "max_tokens": most, "metadata": {"user_id": words},
                "stream": stream, "messages": [{"role": "user", "content": "hello there"}]}),
        ),
    };
    Call {
        method: "POST",
        path: path.to_owned(),
        token,
        label,
        body: body.to_string(),
        hangs_up: chance.percent(2),
    }
}

/// Lets every call be settled, every segment sealed and all of it copied.
async fn catch_up(rig: &mut Rig, tenants: &[String]) -> anyhow::Result<Duration> {
    let started = Instant::now();
    for tenant in tenants {
        rig.settled(tenant).await?;
    }
    // What is still open is sealed when the gateway stops; the rest is copied after its next start.
    rig.stop()?;
    rig.restart()?;
    while rig.metric(WAITING).await? > 0 {
        ensure!(
            started.elapsed() < AT_MOST,
            "the object store is never caught up with"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(started.elapsed())
}
