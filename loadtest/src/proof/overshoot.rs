//! A cap under a thousand callers: never passed, and never locked before it is used up.
//!
//! All callers of one tenant start at once with calls of random cost, plain and streaming, against
//! a cap with room for a fraction of them, while the counters are read over and over. When all
//! have ended, single calls go on until one is refused for good: what is left then must be less
//! than that call could cost. Another tenant calls all the while and must not notice. Repeated
//! with hang-ups, with broken upstreams and with upstream refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::caller::{Answer, Call, Caller};
use super::chance::Chance;
use super::money::{pico, usd};
use super::rig::{Counter, Rig, Tenant};
use super::{Common, Findings};

const MODEL: &str = "gpt-4o-mini";
const AGENT: &str = "agent";
const BUSY: &str = "acme";
const QUIET: &str = "globex";
/// Callers of the tenant that must not notice anything.
const QUIET_CALLERS: u64 = 20;
/// Calls made one after the other in the end, at most.
const LAST_CALLS: usize = 10_000;

/// How much of what.
#[derive(Debug, Clone)]
pub struct OvershootConfig {
    /// Program and chance.
    pub common: Common,
    /// Callers at once.
    pub callers: u64,
    /// Calls of each.
    pub calls: u64,
    /// The cap in US dollars.
    pub cap_usd: String,
}

/// What goes wrong, in percent of calls.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    hang_ups: u64,
    resets: u64,
    refusals: u64,
    /// Whether calls without a bill are charged all that was reserved.
    strict: bool,
}

#[derive(Debug, Default)]
struct Seen {
    admitted: AtomicU64,
    refused: AtomicU64,
    others: AtomicU64,
    over: AtomicBool,
}

/// Runs the scenario with every kind of fault.
///
/// # Errors
/// If it could not be carried out; a promise that does not hold is in the findings.
pub async fn overshoot(config: &OvershootConfig) -> anyhow::Result<Vec<(&'static str, Findings)>> {
    let mut all = Vec::new();
    for (name, faults) in [
        ("no faults", Faults::default()),
        (
            "5 % hang-ups",
            Faults {
                hang_ups: 5,
                ..Faults::default()
            },
        ),
        (
            "5 % upstream resets",
            Faults {
                resets: 5,
                ..Faults::default()
            },
        ),
        (
            "5 % upstream resets, charged at the reservation",
            Faults {
                resets: 5,
                strict: true,
                ..Faults::default()
            },
        ),
        (
            "5 % upstream 429",
            Faults {
                refusals: 5,
                ..Faults::default()
            },
        ),
    ] {
        let found = one(config, faults).await;
        all.push((name, found.with_context(|| name.to_owned())?));
    }
    Ok(all)
}

async fn one(config: &OvershootConfig, faults: Faults) -> anyhow::Result<Findings> {
    let cap = pico(&config.cap_usd)?;
    let tenants = [
        Tenant {
            id: BUSY.to_owned(),
            daily_usd: config.cap_usd.clone(),
            unreported: if faults.strict {
                "reservation"
            } else {
                "estimate"
            },
        },
        Tenant::roomy(QUIET),
    ];
    let rig = Arc::new(Rig::start(&config.common, &tenants).await?);
    let seen = Arc::new(Seen::default());
    let quiet = tokio::spawn(others(Arc::clone(&rig), Arc::clone(&seen)));
    let watched = tokio::spawn(watch(Arc::clone(&rig), Arc::clone(&seen)));

    let token = rig.mint(BUSY, AGENT).await?;
    let mut callers = JoinSet::new();
    for number in 0..config.callers {
        let (rig, seen, token) = (Arc::clone(&rig), Arc::clone(&seen), token.clone());
        let (chance, calls) = (Chance::of(config.common.seed, number), config.calls);
        callers.spawn(caller(rig, seen, token, chance, calls, faults));
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let (last_worst_case, last_calls) = use_up(&rig, config.common.seed).await?;
    seen.over.store(true, Ordering::Relaxed);
    let highest = watched.await??;
    let quiet_refusals = quiet.await??;

    let counters = rig.settled(BUSY).await?;
    let day = counters.first().context("no daily counter")?.clone();
    let mut found = Findings::default();
    found.note("cap_usd", "the cap of the day", config.cap_usd.clone());
    seen.note(&mut found);
    let end = End {
        cap,
        highest: highest.max(day.settled + day.reserved),
        day,
        billed: billed(&rig),
        last_worst_case,
        last_calls,
    };
    end.judge(faults, &mut found);
    found.must_be_zero(
        "other_tenant_refusals",
        "refusals of the other tenant",
        quiet_refusals.into(),
    );
    Ok(found)
}

impl Seen {
    fn note(&self, found: &mut Findings) {
        for (name, meaning, count) in [
            ("admitted", "calls that went out", &self.admitted),
            ("refused", "calls refused by the cap", &self.refused),
            (
                "other_tenant_calls",
                "calls of the other tenant",
                &self.others,
            ),
        ] {
            found.note(name, meaning, count.load(Ordering::Relaxed));
        }
    }
}

/// How things stand when all calls have ended.
struct End {
    cap: i128,
    day: Counter,
    /// The highest that settled + reserved has been seen.
    highest: i128,
    /// What the provider billed.
    billed: i128,
    last_worst_case: i128,
    last_calls: usize,
}

impl End {
    fn judge(&self, faults: Faults, found: &mut Findings) {
        let left = self.cap - self.day.settled - self.day.reserved;
        found.note(
            "settled_usd",
            "spent when all had ended",
            usd(self.day.settled),
        );
        found.note(
            "billed_by_provider_usd",
            "what the provider billed",
            usd(self.billed),
        );
        found.must_be_zero(
            "overshoot_pico_usd",
            "settled + reserved beyond the cap, at the worst of all moments",
            (self.highest - self.cap).max(0),
        );
        let beyond = (self.billed - self.cap).max(0);
        let meaning = "billed by the provider beyond the cap";
        if faults.resets == 0 || faults.strict {
            found.must_be_zero("provider_overshoot_pico_usd", meaning, beyond);
        } else {
            // What a provider bills for an answer that it broke off is known to nobody else, and
            // this mock bills it whole.
            found.note(
                "provider_overshoot_pico_usd",
                meaning,
                super::number(beyond),
            );
        }
        found.must_be_zero(
            "leaked_reservation_pico_usd",
            "still reserved",
            self.day.reserved,
        );
        found.note("left_usd", "left under the cap in the end", usd(left));
        found.note(
            "next_call_usd",
            "the worst case of the call that no longer fitted",
            usd(self.last_worst_case),
        );
        found.note(
            "last_calls",
            "calls it took to use up the rest",
            self.last_calls,
        );
        found.must(left < self.last_worst_case, || {
            "the tenant is locked out although a call would fit".to_owned()
        });
    }
}

async fn caller(
    rig: Arc<Rig>,
    seen: Arc<Seen>,
    token: String,
    mut chance: Chance,
    calls: u64,
    faults: Faults,
) -> anyhow::Result<()> {
    let mut caller = Caller::default();
    for _ in 0..calls {
        let call = call(&token, &mut chance, faults);
        let answer = caller.call(rig.addr, &call).await?;
        match answer.code() {
            None => seen.admitted.fetch_add(1, Ordering::Relaxed),
            Some("spend_limit_exceeded" | "request_exceeds_headroom") => {
                seen.refused.fetch_add(1, Ordering::Relaxed)
            }
            Some("upstream_failed") => seen.admitted.fetch_add(1, Ordering::Relaxed),
            Some(other) => anyhow::bail!("the gateway answered {other}"),
        };
    }
    Ok(())
}

/// A call of random cost.
fn call(token: &str, chance: &mut Chance, faults: Faults) -> Call {
    let most = chance.between(50, 2_000);
    let (input, output) = (chance.between(1, 60), chance.between(1, most));
    let streams = chance.percent(50);
    let mut words = format!(
        "mock-usage-{input}-{output} mock-delay-{}",
        chance.between(0, 30)
    );
    if chance.percent(faults.refusals) {
        words.push_str(" mock-status-429");
    } else if chance.percent(faults.resets) {
        words.push_str(" mock-hangup-after-2");
    }
    let hangs_up = chance.percent(faults.hang_ups);
    chat(token, most, streams, &words, hangs_up)
}

fn chat(token: &str, most: u64, streams: bool, words: &str, hangs_up: bool) -> Call {
    let body = json!({
        "model": MODEL,
        "max_completion_tokens": most,
        "stream": streams,
        "user": words,
        "messages": [{"role": "user", "content": "How far is it from here to there, and back again?"}],
    });
    Call {
        method: "POST",
        path: "/openai/v1/chat/completions".to_owned(),
        token: token.to_owned(),
        label: "proof".to_owned(),
        body: body.to_string(),
        hangs_up,
    }
}

/// Calls one after the other until one no longer fits; what that one could have cost.
async fn use_up(rig: &Rig, seed: u64) -> anyhow::Result<(i128, usize)> {
    let token = rig.mint(BUSY, AGENT).await?;
    rig.settled(BUSY).await?;
    let mut caller = Caller::default();
    let mut chance = Chance::of(seed, u64::MAX);
    for made in 0..LAST_CALLS {
        let output = chance.between(1, 200);
        let words = format!("mock-usage-20-{output}");
        let answer = caller
            .call(rig.addr, &chat(&token, 200, made % 2 == 0, &words, false))
            .await?;
        if answer.code().is_some() {
            return Ok((asked(&answer)?, made));
        }
    }
    anyhow::bail!("the cap was not used up by {LAST_CALLS} more calls")
}

/// The worst case that a refusal names.
fn asked(answer: &Answer) -> anyhow::Result<i128> {
    let body: Value = serde_json::from_slice(&answer.error)?;
    let asked = body
        .pointer("/error/tollgate/asked_usd")
        .and_then(Value::as_str);
    pico(asked.with_context(|| format!("the refusal names no asked_usd: {body}"))?)
}

/// The highest that settled + reserved has been seen.
async fn watch(rig: Arc<Rig>, seen: Arc<Seen>) -> anyhow::Result<i128> {
    let mut highest = 0;
    while !seen.over.load(Ordering::Relaxed) {
        if let Some(day) = rig.counters(BUSY).await?.first() {
            highest = highest.max(day.settled + day.reserved);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(highest)
}

/// The other tenant's calls; how many were not answered with 200.
async fn others(rig: Arc<Rig>, seen: Arc<Seen>) -> anyhow::Result<u32> {
    let token = rig.mint(QUIET, AGENT).await?;
    let mut callers = JoinSet::new();
    for _ in 0..QUIET_CALLERS {
        let (rig, seen, token) = (Arc::clone(&rig), Arc::clone(&seen), token.clone());
        callers.spawn(async move {
            let (mut caller, mut refusals) = (Caller::default(), 0);
            while !seen.over.load(Ordering::Relaxed) {
                let call = chat(&token, 100, true, "mock-usage-20-30", false);
                let answer = caller.call(rig.addr, &call).await?;
                refusals += u32::from(answer.status != 200 || answer.broken);
                seen.others.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(refusals)
        });
    }
    let mut refusals = 0;
    while let Some(ended) = callers.join_next().await {
        refusals += ended??;
    }
    Ok(refusals)
}

/// What the provider billed the busy tenant, at the list price of the model.
fn billed(rig: &Rig) -> i128 {
    const INPUT: i128 = 150_000;
    const OUTPUT: i128 = 600_000;
    let seen = rig.mock.seen();
    let of_busy = seen.iter().filter(|seen| {
        seen.header("authorization")
            .is_some_and(|key| key.contains(BUSY))
    });
    of_busy
        .filter_map(|seen| seen.billed)
        .map(|billed| i128::from(billed.input) * INPUT + i128::from(billed.output) * OUTPUT)
        .sum()
}
