//! How soon a target answers after its start, and the memory it takes idle and with many open streams.
//!
//! Each is started anew, in front of a mock of its own whose streams last long.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::{Notify, Semaphore};

use super::Config;
use super::answer::Expected;
use super::client::{self, Aim, Line};
use super::figures::{Footprint, Spread};
use super::target::{Entry, Lengths, Prepared, mock, until_answered, until_listening};
use crate::children::Running;

/// Starts that are timed, unless they take too long.
const STARTS: usize = 5;
/// After this no further start is timed.
const STARTS_TIME: Duration = Duration::from_secs(10);
/// How long a program is left alone before its memory is looked at.
const REST: Duration = Duration::from_secs(1);
/// The mock's pause between events of streams that are held open.
const PAUSE: Duration = Duration::from_millis(500);
/// Streams that are being opened at one time.
const OPENING: usize = 16;
/// How often each is tried, should it be refused.
const TRIES: usize = 50;

/// Measures one target.
pub(super) fn measure(
    entry: &Entry,
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    dir: &Path,
    lengths: Lengths,
) -> anyhow::Result<Footprint> {
    let (_mock, mock_addr) = mock(config, PAUSE)?;
    let prepared = entry.prepare(config, dir, mock_addr)?;
    let token = token(&prepared)?;
    let mut starts = Vec::new();
    let begun = Instant::now();
    while starts.len() < STARTS && (starts.is_empty() || begun.elapsed() < STARTS_TIME) {
        starts.push(start(&prepared, config, runtime, &token)?);
    }
    let (running, addr) = prepared.launch()?;
    let mut running = running.context("nothing to start")?;
    until_listening(&mut running, addr)?;
    std::thread::sleep(REST);
    let mut found = Footprint {
        start_ms: Spread::of(starts),
        idle_kib: memory(&running),
        streams: None,
        streams_kib: None,
        streams_reason: None,
    };
    if config.open_streams > 0 && holds_streams(entry) {
        let expected = lengths.stream(config);
        let aim = prepared.aim(addr, &token, true, config, expected);
        let look = || memory(&running);
        match runtime.block_on(hold(&aim, config, look)) {
            Ok(kib) => (found.streams, found.streams_kib) = (Some(config.open_streams), kib),
            Err(wrong) => found.streams_reason = Some(format!("{wrong:#}")),
        }
    }
    // What it was relaying has been hung up: it need not be polite about its end.
    running.end("KILL")?;
    Ok(found)
}

fn holds_streams(entry: &Entry) -> bool {
    entry.peer().is_none_or(|peer| peer.holds_streams)
}

/// A token that outlives the gateway that gave it, since the next one has the same data.
fn token(prepared: &Prepared) -> anyhow::Result<String> {
    if prepared.tollgate.is_none() {
        return prepared.token("footprint");
    }
    let (_running, _) = prepared.launch()?;
    prepared.token("footprint")
}

/// Milliseconds from a start to the first right answer.
fn start(
    prepared: &Prepared,
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    token: &str,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let (running, addr) = prepared.launch()?;
    let mut running = running.context("nothing to start")?;
    let aim = prepared.aim(addr, token, false, config, Expected::Anything);
    until_answered(runtime, &mut running, &aim)?;
    Ok(begun.elapsed().as_secs_f64() * 1_000.0)
}

fn memory(running: &Running) -> Option<u64> {
    running.memory_kib().map(|(now, _)| now)
}

/// Opens many streams, looks while all of them are open, and hangs up.
async fn hold<T>(aim: &Aim, config: &Config, look: impl FnOnce() -> T) -> anyhow::Result<T> {
    let count = config.open_streams;
    let (open, all_open, opening) = (Cell::new(0), Notify::new(), Semaphore::new(OPENING));
    let begun = Instant::now();
    let stream = async || {
        let mut permit = Some(opening.acquire().await?);
        for _ in 0..TRIES {
            let mut line = Line::connect(aim.addr).await?;
            let begun = || {
                permit = None;
                open.set(open.get() + 1);
                if open.get() == count {
                    all_open.notify_one();
                }
            };
            let seen = line.call_telling(aim, begun).await;
            if seen.is_ok() || permit.is_none() {
                return seen.map(|_whole| ());
            }
            // Refused, since so much else is being opened or the machine is busy.
            tokio::time::sleep(REST / 10).await;
        }
        bail!("not every stream was let in");
    };
    let looking = async {
        all_open.notified().await;
        tokio::time::sleep(REST).await;
        look()
    };
    let found = tokio::select! {
        biased;
        found = looking => found,
        ended = client::all((0..count).map(|_| stream())) => {
            ended?;
            bail!("streams ended before all of them were open");
        }
    };
    let pauses = u32::try_from(config.events.saturating_sub(1))?;
    ensure!(
        begun.elapsed() < PAUSE * pauses,
        "the first streams ended before the last were open"
    );
    Ok(found)
}
