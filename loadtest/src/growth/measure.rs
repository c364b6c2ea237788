//! One point: a gateway of one size, measured as it is and once more with its instructions counted.
//!
//! Memory is what the kernel calls resident. Time is the kernel's accounting of the gateway's
//! process and wobbles with the machine; instructions do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::Config;
use super::calls::{self, Aim, Open, Until};
use super::dimension::{Dimension, Scene};
use crate::callgrind::Counter;
use crate::proof::caller::Caller;
use crate::proof::estate::{Estate, Provider, Serving};

/// Connections of calls, and callers that mint.
const CONNECTIONS: usize = 8;
/// A gateway is started so often, and the middle of their times counts.
const STARTS: usize = 3;
/// Tokens that calls are counted with.
const COUNTED_TOKENS: usize = 100;
/// Plain calls before anything is measured.
const WARM: u64 = 2_000;

/// What a gateway of one size takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Point {
    pub(super) size: u64,
    /// From its start to its ready line, and to the end of the first answer.
    pub(super) ready_ms: f64,
    pub(super) first_answer_ms: f64,
    /// Memory after that, after the calls (or with the streams open), and at its greatest.
    pub(super) start_kib: u64,
    pub(super) after_kib: u64,
    pub(super) peak_kib: u64,
    /// CPU of one call, or of one event of many streams, user and system.
    pub(super) cpu_us: f64,
    /// Its instructions in user mode.
    pub(super) instructions: Option<f64>,
    /// Instructions of the first call with a token.
    pub(super) cold_instructions: Option<f64>,
}

/// Measures `dimension` at `size`.
pub(super) async fn point(
    config: &Config,
    dimension: Dimension,
    size: u64,
) -> anyhow::Result<Point> {
    let stage = Stage::set(config, dimension, size, false)?;
    let mut point = stage.plain(config).await?;
    // What lies on the disk by now would be worked off while instructions are counted.
    drop(stage);
    if config.calls > 0 {
        let stage = Stage::set(config, dimension, size, true)?;
        if let Some(counter) = Counter::new(stage.estate.path("callgrind")) {
            let counted = stage.counted(config, counter).await?;
            (point.instructions, point.cold_instructions) = (Some(counted.0), counted.1);
        }
    }
    Ok(point)
}

struct Stage {
    dimension: Dimension,
    size: u64,
    scene: Scene,
    estate: Estate,
    _provider: Provider,
}

impl Stage {
    fn set(config: &Config, dimension: Dimension, size: u64, traced: bool) -> anyhow::Result<Self> {
        let scene = dimension.scene(size, traced);
        let events = scene.events.unwrap_or(5).to_string();
        let (bytes, pause) = (
            scene.answer_bytes.to_string(),
            scene.pause.as_millis().to_string(),
        );
        let provider = Provider::start_with(&[
            "--plain-bytes",
            &bytes,
            "--events",
            &events,
            "--event-pause-ms",
            &pause,
        ])?;
        let estate = Estate::write(&config.common, &provider, scene.tenants, "")?;
        dimension.furnish(&estate, size, provider.addr)?;
        Ok(Self {
            dimension,
            size,
            scene,
            estate,
            _provider: provider,
        })
    }

    async fn plain(&self, config: &Config) -> anyhow::Result<Point> {
        let serving = self.estate.serve()?;
        let tokens = mint(&serving, &self.scene, self.scene.tokens, "task").await?;
        let aim = self.aim(serving.addr, tokens);
        let ((cpu_us, open), after_kib) = if self.dimension == Dimension::Streams {
            self.streams(config, &serving, &aim).await?
        } else {
            let warm = self.lighter(WARM).max(aim.tokens.len() as u64);
            calls::make(&aim, CONNECTIONS, Until::Calls(warm)).await?;
            let cpu = serving.running.cpu()?;
            let made = calls::make(&aim, CONNECTIONS, Until::Time(config.time)).await?;
            let spent = serving.running.cpu()?.since(cpu).total();
            ((ratio(spent, made), None), memory(&serving)?.0)
        };
        let peak_kib = memory(&serving)?.1;
        drop((open, serving));
        let starts = self.starts(&aim).await?;
        let middle = |of: fn(&(f64, f64, u64)) -> f64| {
            let mut all: Vec<f64> = starts.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        Ok(Point {
            size: self.size,
            ready_ms: middle(|start| start.0),
            first_answer_ms: middle(|start| start.1),
            start_kib: starts.iter().map(|start| start.2).min().unwrap_or(0),
            after_kib,
            peak_kib,
            cpu_us,
            instructions: None,
            cold_instructions: None,
        })
    }

    /// Starts on what an earlier gateway has left, with a token that it has minted.
    async fn starts(&self, aim: &Aim) -> anyhow::Result<Vec<(f64, f64, u64)>> {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            let begun = Instant::now();
            let serving = self.estate.serve()?;
            let ready = begun.elapsed();
            if self.dimension != Dimension::Streams {
                let aim = Aim {
                    addr: serving.addr,
                    ..aim.clone()
                };
                calls::make(&aim, 1, Until::Calls(1)).await?;
            }
            let answered = begun.elapsed();
            starts.push((millis(ready), millis(answered), memory(&serving)?.0));
        }
        Ok(starts)
    }

    /// CPU of an event with all streams open, and memory then.
    async fn streams(
        &self,
        config: &Config,
        serving: &Serving,
        aim: &Aim,
    ) -> anyhow::Result<((f64, Option<Open>), u64)> {
        let open = Open::streams(aim, usize::try_from(self.size)?).await?;
        let (cpu, events) = (serving.running.cpu()?, open.events());
        tokio::time::sleep(config.time).await;
        let spent = serving.running.cpu()?.since(cpu).total();
        let came = open.events().saturating_sub(events);
        let held = memory(serving)?.0;
        Ok(((ratio(spent, came), Some(open)), held))
    }

    /// Instructions of a call, and of the first one with a token.
    async fn counted(
        &self,
        config: &Config,
        mut counter: Counter,
    ) -> anyhow::Result<(f64, Option<f64>)> {
        if self.dimension == Dimension::Tokens {
            // Minting so many takes a tracer too long; they stand on the table for the next one.
            let serving = self.estate.serve()?;
            mint(&serving, &self.scene, self.scene.tokens, "task").await?;
        }
        let serving = self.estate.serve_under(&counter.tracer())?;
        let pid = serving.running.pid();
        let few = self.scene.tokens.min(COUNTED_TOKENS);
        let tokens = mint(&serving, &self.scene, few, "counted").await?;
        let aim = self.aim(serving.addr, tokens);
        if self.dimension == Dimension::Streams {
            return Ok((
                self.counted_events(config, &mut counter, pid, &aim).await?,
                None,
            ));
        }
        let warm = self.lighter(2 * COUNTED_TOKENS as u64);
        calls::make(&aim, CONNECTIONS, Until::Calls(warm)).await?;
        let wanted = Until::Calls(self.lighter(config.calls));
        let (all, took, made) = counter
            .count(pid, calls::make(&aim, CONNECTIONS, wanted))
            .await?;
        let idle = counter.idle(pid, took).await?;
        let each = ratio(all.instructions_beyond(&idle), made);
        if self.dimension != Dimension::Tokens {
            return Ok((each, None));
        }
        let fresh = mint(&serving, &self.scene, COUNTED_TOKENS, "fresh").await?;
        let aim = self.aim(serving.addr, fresh);
        let once = Until::Calls(COUNTED_TOKENS as u64);
        let (all, took, made) = counter
            .count(pid, calls::make(&aim, CONNECTIONS, once))
            .await?;
        let idle = counter.idle(pid, took).await?;
        Ok((each, Some(ratio(all.instructions_beyond(&idle), made))))
    }

    async fn counted_events(
        &self,
        config: &Config,
        counter: &mut Counter,
        pid: u32,
        aim: &Aim,
    ) -> anyhow::Result<f64> {
        // With the streams open it is never idle, so that is measured before.
        let span = Duration::from_secs(2);
        let idle = counter.idle(pid, span).await?;
        let open = Open::streams(aim, usize::try_from(self.size)?).await?;
        let events = open.events();
        let work = open.until(events + config.calls);
        let (all, took, ()) = counter.count(pid, work).await?;
        let came = open.events().saturating_sub(events);
        let idle = ratio(idle.instructions(), 1) * took.as_secs_f64() / span.as_secs_f64();
        Ok((ratio(all.instructions(), 1) - idle).max(0.0) / ratio(came, 1))
    }

    fn aim(&self, addr: SocketAddr, tokens: Vec<String>) -> Aim {
        Aim {
            addr,
            path: self.dimension.path().to_owned(),
            tokens: Arc::new(tokens),
            body: body(self.scene.request_bytes, self.scene.events.is_some()),
        }
    }

    /// Fewer of larger calls, so that all sizes take about as long.
    fn lighter(&self, calls: u64) -> u64 {
        let bytes = (self.scene.request_bytes + self.scene.answer_bytes) as u64 / (8 << 10);
        let events = self.scene.events.unwrap_or(0) / 20;
        (calls / bytes.max(events).max(1)).max(3)
    }
}

/// A chat with messages of about 1 KB each, `bytes` long altogether.
fn body(bytes: usize, streamed: bool) -> Bytes {
    const PIECE: usize = 1_000;
    let mut text = format!(
        "{{\"stream\":{streamed},\"model\":\"gpt-4o-mini\",\"max_tokens\":100,\"messages\":["
    );
    let frame = r#"{"role":"user","content":""},"#.len();
    let mut filled = "All is well. ".chars().cycle();
    loop {
        let left = bytes.saturating_sub(text.len() + frame + 1);
        text += r#"{"role":"user","content":""#;
        text.extend(filled.by_ref().take(left.min(PIECE)));
        text += "\"}";
        if left <= PIECE {
            return Bytes::from(text + "]}");
        }
        text.push(',');
    }
}

/// Tokens for all tenants in turn.
async fn mint(
    serving: &Serving,
    scene: &Scene,
    tokens: usize,
    task: &str,
) -> anyhow::Result<Vec<String>> {
    let mut minters = JoinSet::new();
    let admin = serving.admin;
    for minter in 0..CONNECTIONS {
        let asked: Vec<_> = (minter..tokens)
            .step_by(CONNECTIONS)
            .map(|number| {
                let task = format!("{task}-{}", number / scene.tenants);
                serving.mint_request(number % scene.tenants, &task)
            })
            .collect();
        minters.spawn(async move {
            let mut caller = Caller::default();
            let mut minted = Vec::with_capacity(asked.len());
            for call in asked {
                let (status, text) = caller.kept_text(admin, &call).await?;
                ensure!(status.is_success(), "mint: {status} {text}");
                let answer: Value = serde_json::from_str(&text)?;
                let token = answer.get("token").and_then(Value::as_str);
                minted.push(token.context("no token was minted")?.to_owned());
            }
            anyhow::Ok(minted)
        });
    }
    let mut minted = Vec::with_capacity(tokens);
    while let Some(some) = minters.join_next().await {
        minted.append(&mut some??);
    }
    Ok(minted)
}

fn memory(serving: &Serving) -> anyhow::Result<(u64, u64)> {
    serving.running.memory_kib().context("no memory figure")
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn ratio(sum: u64, count: u64) -> f64 {
    sum as f64 / count.max(1) as f64
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_of_the_size_asked_for() {
        for bytes in [1 << 10, 2 << 10, 16 << 10, 1 << 20] {
            let body = body(bytes, bytes % 3 == 0);
            let read: Value = serde_json::from_slice(&body).unwrap();
            assert!(
                read["messages"]
                    .as_array()
                    .is_some_and(|all| !all.is_empty())
            );
            assert!(
                body.len().abs_diff(bytes) < 64,
                "{} for {bytes}",
                body.len()
            );
        }
    }
}
