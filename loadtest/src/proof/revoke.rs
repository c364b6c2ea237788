//! Hundreds of open streams, and a revocation: who it is about is refused within a second and cut
//! within five, and nobody else notices.
//!
//! Streams of four tenants, each with two agents, two tasks and four tokens, are open at once;
//! half of them give an event every fifth of a second, half have fallen silent, because a stream
//! may be looked at when something passes or when nothing does. Callers with each token go on
//! calling all the while. Then one tenant, agent, task or token is revoked. In the end all streams
//! that were left alone come to their regular end, and each stream must have one record that
//! says how it ended.

mod judge;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::caller::{Call, Caller, connect, request};
use super::rig::{Rig, Tenant};
use super::{Common, Findings};
use judge::Case;

const TENANTS: [&str; 4] = ["acme", "globex", "initech", "umbrella"];
const AGENTS: [&str; 2] = ["reader", "writer"];
const TASKS: [&str; 2] = ["first", "second"];
const MODEL: &str = "gpt-4o-mini";

/// How long a call may still be accepted after the revocation was sent.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
/// How long a stream may still be open.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
/// How long is waited for what has to happen before it counts as never.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two calls of one caller.
const CALL_PAUSE: Duration = Duration::from_millis(5);

/// What the contract bounds, the worst of which is told first.
pub const REVOKE_BOUNDS: [&str; 5] = [
    "first_refusal_ms",
    "last_stream_closed_ms",
    "calls_accepted_after_1s",
    "other_tenants_streams_cut",
    "unrecorded_streams",
];

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A tenant with all its agents.
    Tenant,
    /// One agent of a tenant.
    Agent,
    /// One task of a tenant.
    Task,
    /// One token.
    Token,
}

/// How much of what.
#[derive(Debug, Clone)]
pub struct RevokeConfig {
    /// Program and chance.
    pub common: Common,
    /// Streams that are open at once.
    pub streams: usize,
    /// What is revoked, one after the other, each on a gateway of its own.
    pub what: Vec<What>,
}

impl What {
    /// Everything that can be revoked.
    pub const ALL: [Self; 4] = [Self::Tenant, Self::Agent, Self::Task, Self::Token];

    const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Agent => "agent",
            Self::Task => "task",
            Self::Token => "token",
        }
    }

    /// Whether a holder is concerned, if the first holder gives the tenant, agent, task or token.
    fn concerns(self, holder: &Holder, first: &Holder) -> bool {
        holder.tenant == first.tenant
            && match self {
                Self::Tenant => true,
                Self::Agent => holder.agent == first.agent,
                Self::Task => holder.task == first.task,
                Self::Token => holder.id == first.id,
            }
    }

    /// For the admin API.
    fn of(self, first: &Holder) -> Value {
        let Holder {
            tenant,
            agent,
            task,
            id,
            ..
        } = first;
        match self {
            Self::Tenant => json!({"kind": "tenant", "tenant": tenant}),
            Self::Agent => json!({"kind": "agent", "tenant": tenant, "agent": agent}),
            Self::Task => json!({"kind": "task", "tenant": tenant, "task": task}),
            Self::Token => json!({"kind": "token", "tenant": tenant, "token": id}),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|what| what.name() == text);
        found.ok_or_else(|| format!("{text:?} is none of tenant, agent, task, token"))
    }
}

/// Who holds a token.
#[derive(Debug)]
struct Holder {
    tenant: &'static str,
    agent: &'static str,
    task: &'static str,
    /// The token's id.
    id: String,
    token: String,
}

/// A stream, from the inside.
struct Stream {
    holder: usize,
    /// The id of its record.
    record: String,
    /// Whether it came to its regular end.
    whole: bool,
    ended: Instant,
}

/// What calls with one token met.
#[derive(Default)]
struct Calls {
    first_refusal: Option<Instant>,
    refused: u64,
    /// When each call was begun that was not refused.
    accepted: Vec<Instant>,
}

/// Runs the scenario for each kind.
///
/// # Errors
/// If it could not be carried out; a promise that does not hold is in the findings.
pub async fn revoke(config: &RevokeConfig) -> anyhow::Result<Vec<(What, Findings)>> {
    let mut all = Vec::new();
    for &what in &config.what {
        let found = Box::pin(one(config, what)).await;
        all.push((what, found.with_context(|| what.to_string())?));
    }
    Ok(all)
}

async fn one(config: &RevokeConfig, what: What) -> anyhow::Result<Findings> {
    let rig = Arc::new(Rig::start(&config.common, &TENANTS.map(Tenant::roomy)).await?);
    let holders = Arc::new(holders(&rig).await?);
    let first = holders.first().context("nobody holds a token")?;
    let concerned: Vec<bool> = holders.iter().map(|h| what.concerns(h, first)).collect();

    let mut streams = open(&rig, &holders, config.streams).await?;
    let over = Arc::new(AtomicBool::new(false));
    let callers = call_on(&rig, &holders, &over).await?;
    let sent = Instant::now();
    let revoked = rig.revoke(&what.of(first)).await?;
    let mut ended = Vec::new();
    let awaited = streams_of(config.streams, &concerned);
    // Those that are still open then end with the others, and are found to be late.
    let cut = gather(&mut streams, &concerned, awaited, &mut ended);
    if let Ok(failed) = timeout(PATIENCE, cut).await {
        failed?;
    }
    // Streams that were left alone are watched for as long as a revocation may take to reach them.
    tokio::time::sleep((CLOSED_WITHIN + REFUSED_WITHIN).saturating_sub(sent.elapsed())).await;
    over.store(true, Ordering::Relaxed);
    let calls: Vec<_> = callers
        .join_all()
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()?;
    rig.mock.release();
    let rest = timeout(PATIENCE, async {
        while let Some(stream) = streams.join_next().await {
            ended.push(stream??);
        }
        anyhow::Ok(())
    });
    rest.await.context("streams that never end")??;

    let mut found = Findings::default();
    found.note("streams", "open when it was revoked", config.streams);
    found.note("revoked_tokens", "live until then", revoked);
    found.note("revoked_streams", "of those concerned", awaited);
    let mut reserved = 0;
    for tenant in TENANTS {
        let counters = rig.settled(tenant).await?;
        reserved += counters
            .iter()
            .filter(|counter| counter.reserved != 0)
            .count();
    }
    let mut rig = Arc::into_inner(rig).context("a caller is left")?;
    rig.stop()?;
    let case = Case {
        holders: &holders,
        concerned: &concerned,
        sent,
    };
    case.calls(&calls, &mut found);
    case.streams(&ended, &mut found);
    case.records(&rig, &ended, &mut found)?;
    found.must_be_zero(
        "unsettled",
        "counters that still hold reserved money",
        i128::try_from(reserved)?,
    );
    Ok(found)
}

async fn holders(rig: &Rig) -> anyhow::Result<Vec<Holder>> {
    let mut holders = Vec::new();
    for agent in AGENTS {
        for task in TASKS {
            for tenant in TENANTS {
                let (token, id) = rig.mint_for(tenant, agent, task).await?;
                holders.push(Holder {
                    tenant,
                    agent,
                    task,
                    id,
                    token,
                });
            }
        }
    }
    Ok(holders)
}

/// How many of the streams belong to those concerned.
fn streams_of(streams: usize, concerned: &[bool]) -> usize {
    let whose = concerned.iter().cycle().take(streams);
    whose.filter(|concerned| **concerned).count()
}

/// Opens streams, one holder after the other, and returns when each has begun.
async fn open(
    rig: &Arc<Rig>,
    holders: &Arc<Vec<Holder>>,
    count: usize,
) -> anyhow::Result<JoinSet<anyhow::Result<Stream>>> {
    let mut streams = JoinSet::new();
    let (begun, mut beginning) = mpsc::channel(count.max(1));
    for number in 0..count {
        let (rig, holders, begun) = (Arc::clone(rig), Arc::clone(holders), begun.clone());
        streams.spawn(async move { stream(&rig, &holders, number, begun).await });
    }
    drop(begun);
    for _ in 0..count {
        let one = timeout(PATIENCE, beginning.recv()).await;
        let one = one.context("the streams do not all begin")?;
        if one.is_none() {
            // One ended before it began: its own error says why.
            while let Some(stream) = streams.join_next().await {
                stream??;
            }
            anyhow::bail!("a stream did not begin");
        }
    }
    Ok(streams)
}

async fn stream(
    rig: &Rig,
    holders: &[Holder],
    number: usize,
    begun: mpsc::Sender<()>,
) -> anyhow::Result<Stream> {
    let who = number % holders.len();
    // By rounds, so that each holder has streams of both kinds.
    let words = if (number / holders.len()).is_multiple_of(2) {
        "mock-chunks-60 mock-chunk-delay-200 mock-hold-after-40"
    } else {
        "mock-chunks-6 mock-hold-after-3"
    };
    let holder = holders.get(who).context("nobody's stream")?;
    let call = chat(&holder.token, words);
    let mut sender = connect(rig.addr).await?;
    let answer = sender.send_request(request(rig.addr, &call)?).await?;
    let (head, mut body) = answer.into_parts();
    anyhow::ensure!(head.status == 200, "a stream was answered {}", head.status);
    let record = head.headers.get("x-tollgate-request-id");
    let record = record
        .context("an answer without an id")?
        .to_str()?
        .to_owned();
    let (mut begun, mut whole) = (Some(begun), false);
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(begun) = begun.take() {
            begun.send(()).await?;
        }
        let end = b"data: [DONE]";
        whole |= frame
            .data_ref()
            .is_some_and(|bytes| bytes.windows(end.len()).any(|window| window == end));
    }
    Ok(Stream {
        holder: who,
        record,
        whole,
        ended: Instant::now(),
    })
}

fn chat(token: &str, words: &str) -> Call {
    let body = json!({
        "model": MODEL,
        "max_completion_tokens": 500,
        "stream": true,
        "user": words,
        "messages": [{"role": "user", "content": "Count until you are told to stop."}],
    });
    Call {
        method: "POST",
        path: "/openai/v1/chat/completions".to_owned(),
        token: token.to_owned(),
        label: "proof".to_owned(),
        body: body.to_string(),
        hangs_up: false,
    }
}

/// Calls with each token, over and over, until it is over. Returns once each has been answered.
async fn call_on(
    rig: &Arc<Rig>,
    holders: &Arc<Vec<Holder>>,
    over: &Arc<AtomicBool>,
) -> anyhow::Result<JoinSet<anyhow::Result<(usize, Calls)>>> {
    let mut callers = JoinSet::new();
    let (answered, mut answers) = mpsc::channel(holders.len().max(1));
    for who in 0..holders.len() {
        let (rig, holders, over) = (Arc::clone(rig), Arc::clone(holders), Arc::clone(over));
        let mut answered = Some(answered.clone());
        callers.spawn(async move {
            let holder = holders.get(who).context("nobody's call")?;
            let call = Call {
                path: "/tool/tool".to_owned(),
                ..chat(&holder.token, "")
            };
            let (mut caller, mut calls) = (Caller::default(), Calls::default());
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let answer = caller.call(rig.addr, &call).await?;
                if answer.status == 401 {
                    calls.refused += 1;
                    calls.first_refusal.get_or_insert_with(Instant::now);
                } else {
                    calls.accepted.push(begun);
                }
                if let Some(answered) = answered.take() {
                    answered.send(()).await?;
                }
                tokio::time::sleep(CALL_PAUSE).await;
            }
            Ok((who, calls))
        });
    }
    drop(answered);
    for _ in 0..holders.len() {
        let one = timeout(PATIENCE, answers.recv()).await;
        one.context("the callers are not answered")?
            .context("a caller did not begin")?;
    }
    Ok(callers)
}

/// Takes in streams as they end, until as many have ended of those concerned.
async fn gather(
    streams: &mut JoinSet<anyhow::Result<Stream>>,
    concerned: &[bool],
    awaited: usize,
    ended: &mut Vec<Stream>,
) -> anyhow::Result<()> {
    let is_concerned = |stream: &Stream| concerned.get(stream.holder) == Some(&true);
    while ended.iter().filter(|stream| is_concerned(stream)).count() < awaited {
        match streams.join_next().await {
            Some(stream) => ended.push(stream??),
            None => break,
        }
    }
    Ok(())
}

fn ms(since: Instant, until: Instant) -> u64 {
    u64::try_from(until.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
}
