//! `tollgate serve`: wires the crates together, serves, and comes to rest in order.
//!
//! ```text
//! settings → files → (predecessor →) stores → gateway → admin → "ready" → … → drain → flush → end
//! ```
//! Decides no call. Calls have threads of their own ([`workers`]), what goes on beside them has a
//! runtime, and the admin side another, so that slow operators never stall a call and `/readyz`
//! answers while the calls drain.
//!
//! Told to stop (SIGTERM, SIGINT), the gateway says that it is not ready and stops accepting; at
//! SIGTERM it goes on for `unready_seconds` first, so that whoever sends it calls can notice. It lets
//! calls in flight finish for at most `drain_seconds`, flushes its stores and ends with 0. Told a
//! second time it stops waiting. Calls that are cut by that are settled as such; nothing is lost.
//!
//! Taken over by a successor ([`handover`]), it is left with the calls in flight, lets them finish
//! in the same way, and ends with 0.

mod admin;
mod collector;
mod courier;
mod figures;
mod fleet;
mod handover;
mod leave;
mod life;
mod notify;
mod onward;
mod readiness;
mod retention;
mod traces;
mod usage;
mod wiring;
mod workers;

use std::time::Duration;

use anyhow::bail;
use serde_json::json;
use tokio::runtime::Runtime;
use tollgate_proxy::gateway::Gateway;
use tracing::{info, warn};

use crate::config::{ProcessVars, Settings};
use crate::logging::Log;
use crate::output;
use handover::{Handing, Predecessor, Sockets, Successors};
use leave::Leave;
use life::{Handed, Life};
use notify::Notify;
use workers::Workers;

/// How long connections may take to send what is left, once the last call has ended.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// How long calls that were cut get to settle.
const CUT: Duration = Duration::from_secs(1);

/// How often it is looked whether something has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How a life ended.
enum Ended {
    /// Somebody wanted it to.
    Told(&'static str),
    /// A successor serves.
    Over(Handing),
    /// A successor got the stores and is gone.
    Back(Predecessor),
}

/// Serves until told to stop, or until a successor has taken over and the last call has ended.
/// `leashed` also takes the end of standard input as such. With `upgrade`, takes over from the
/// gateway that runs.
///
/// # Errors
/// If the gateway cannot start, or cannot bring its stores to rest.
pub(crate) fn run(
    settings: &Settings,
    log: &Log,
    upgrade: bool,
    leashed: bool,
) -> anyhow::Result<()> {
    leave::raise_file_limit();
    // The only provider in the build; a second installation would find it there already.
    let _present = rustls::crypto::ring::default_provider().install_default();
    let mut prepared = wiring::prepare(settings)?;
    let taken = if upgrade {
        handover::take(settings)?
    } else {
        None
    };
    let (mut sockets, mut predecessor) = taken.unzip();
    let beside = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("tollgate-beside")
        .enable_all()
        .build()?;
    let workers = Workers::start(settings.threads)?;
    let mut leave = beside.block_on(async { Leave::on_signals(leashed) })?;
    let mut earlier: Vec<Life> = Vec::new();
    let notify = Notify::of(&ProcessVars);
    loop {
        let wired = wiring::wire(settings, prepared, log, predecessor.is_some())?;
        let bound = match sockets.take() {
            Some(bound) => bound,
            None => Sockets::bind(settings, None)?,
        };
        let mut life = {
            // Not in a future: what fails to start ends runtimes of its own.
            let _beside = beside.enter();
            let from = predecessor.take();
            Life::begin(settings, wired, &bound, from, &log.levels, &workers)?
        };
        tell_ready(&life, earlier.is_empty())?;
        notify.say(notify::READY);
        let ended = beside.block_on(serve(settings, &mut life, &bound, &mut leave))?;
        let (reason, handing) = match ended {
            Ended::Back(itself) => {
                beside.spawn(life.ended());
                earlier.push(life);
                (sockets, predecessor) = (Some(bound), Some(itself));
                prepared = wiring::prepare(settings)?;
                continue;
            }
            Ended::Told(reason) => (Some(reason), None),
            Ended::Over(handing) => (None, Some(handing)),
        };
        drop(bound);
        notify.say(notify::STOPPING);
        beside.block_on(leave_calls(
            settings, &life, &earlier, reason, &handing, &mut leave,
        ));
        return finish((workers, beside), life, earlier, reason, handing);
    }
}

/// Says where the gateway is, to whoever started it and to whoever reads its log.
fn tell_ready(life: &Life, first: bool) -> anyhow::Result<()> {
    let (listening, admin) = life.addresses;
    if first {
        let line = json!({ "listening": listening, "admin": admin });
        output::data(&format!("{line}\n"))?;
    }
    info!(%listening, %admin, "serving");
    Ok(())
}

/// Serves until told to stop or until a successor takes over.
async fn serve(
    settings: &Settings,
    life: &mut Life,
    sockets: &Sockets,
    leave: &mut Leave,
) -> anyhow::Result<Ended> {
    let successors = Successors::listen(&settings.data_dir)
        .inspect_err(|error| warn!(%error, "this gateway cannot be taken over by another"))
        .ok();
    loop {
        let asked = async {
            match &successors {
                Some(successors) => successors.next(sockets, || life.reason_not_to()).await,
                None => std::future::pending().await,
            }
        };
        let successor = tokio::select! {
            reason = leave.wanted(life.accepting()) => return Ok(Ended::Told(reason)),
            successor = asked => successor,
        };
        match life.hand_over(successor).await {
            Handed::NotTaken => {}
            Handed::Over(handing) => return Ok(Ended::Over(handing)),
            Handed::Back(itself) => return Ok(Ended::Back(itself)),
        }
    }
}

/// Lets calls in flight finish, within bounds.
async fn leave_calls(
    settings: &Settings,
    life: &Life,
    earlier: &[Life],
    reason: Option<&str>,
    handing: &Option<Handing>,
    leave: &mut Leave,
) {
    let drain_seconds = settings.drain.as_secs();
    if let Some(reason) = reason {
        info!(reason, drain_seconds, "stopping");
        life.unready();
        if reason == leave::SIGTERM {
            leave.unready(settings.unready).await;
        }
        life.stop_accepting();
    } else {
        info!(drain_seconds, "calls under way finish here");
    }
    let lives = earlier.iter().chain([life]);
    let gateways: Vec<&Gateway> = lives.map(|life| &**life.gateway()).collect();
    let lost = async {
        match handing {
            Some(handing) => handing.lost().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = drain(&gateways, life, settings.drain, hurried(leave, handing.is_some())) => {}
        () = lost => warn!("the successor is gone: nobody could end a call here that is revoked; calls are cut"),
    }
    life.accepting().abort();
}

/// Ends everything, in order. Dropping a call settles it, so the stores go after the calls.
fn finish(
    (workers, beside): (Workers, Runtime),
    mut life: Life,
    earlier: Vec<Life>,
    reason: Option<&str>,
    handing: Option<Handing>,
) -> anyhow::Result<()> {
    life.wind_down();
    workers.end(CUT);
    beside.shutdown_timeout(CUT);
    for life in earlier {
        life.end_handed(None);
    }
    if handing.is_some() {
        life.end_handed(handing);
        return Ok(());
    }
    let rested = life.rest();
    if reason == Some(leave::LISTENER_ENDED) {
        bail!("the listener ended by itself");
    }
    rested
}

/// Returns once somebody asks not to wait. Whoever stops a service tells all of its processes to
/// stop, which is the first that one hears of it that has handed over.
async fn hurried(leave: &mut Leave, handed: bool) {
    if handed {
        leave.hurried().await;
    }
    leave.hurried().await;
}

/// Waits until every call has ended and every client has its last byte, within bounds.
async fn drain(
    gateways: &[&Gateway],
    life: &Life,
    bound: Duration,
    hurried: impl Future<Output = ()>,
) {
    let idle = async {
        for gateway in gateways {
            gateway.tracker.wait_idle().await;
        }
    };
    let finished = async {
        idle.await;
        while life.predecessor_is_under_way() {
            tokio::time::sleep(LOOK).await;
        }
        let sent = async {
            for gateway in gateways {
                while gateway.tracker.connections() > 0 {
                    tokio::time::sleep(LOOK).await;
                }
                gateway.tracker.wait_idle().await;
            }
        };
        tokio::time::timeout(LAST_BYTES, sent).await.is_ok()
    };
    tokio::select! {
        drained = tokio::time::timeout(bound, finished) => {
            if drained == Ok(true) {
                info!("every call has ended");
                return;
            }
        }
        () = hurried => {}
    }
    let sum = |count: fn(&Gateway) -> usize| gateways.iter().map(|gateway| count(gateway)).sum();
    let calls: usize = sum(|gateway| gateway.tracker.in_flight());
    let connections: usize = sum(|gateway| gateway.tracker.connections());
    warn!(
        calls,
        connections, "calls are cut: the time to drain is over"
    );
}
