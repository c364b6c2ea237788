//! `tollgate serve`: wires the crates together, serves, and comes to rest in order.
//!
//! ```text
//! settings → stores → policy → gateway → admin → "ready" → … → drain → flush → end
//! ```
//! Decides no call. Calls have a runtime of their own; the admin side has another, so that slow
//! operators never stall a call and `/readyz` answers while the calls drain.
//!
//! Told to stop (SIGTERM, SIGINT), the gateway says that it is not ready and stops accepting; at
//! SIGTERM it goes on for `unready_seconds` first, so that whoever sends it calls can notice. It lets
//! calls in flight finish for at most `drain_seconds`, flushes its stores and ends with 0. Told a
//! second time it stops waiting. Calls that are cut by that are settled as such; nothing is lost.

mod admin;
mod collector;
mod courier;
mod figures;
mod leave;
mod onward;
mod readiness;
mod retention;
mod usage;
mod wiring;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollgate_proxy::gateway::Gateway;
use tollgate_proxy::pressure::lag::{self, Probe};
use tollgate_stores::embedded::Embedded;
use tracing::{error, info, warn};

use crate::config::Settings;
use crate::output;
use crate::reload::{self, Watcher};
use leave::Leave;
use readiness::Ready;
use retention::Retention;
use wiring::Wired;

/// How long the listeners may take until they can be connected to.
const LISTEN_DEADLINE: Duration = Duration::from_secs(10);

/// How long connections may take to send what is left, once the last call has ended.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// How long calls that were cut get to settle.
const CUT: Duration = Duration::from_secs(1);

/// Serves until told to stop. `leashed` also takes the end of standard input as such.
///
/// # Errors
/// If the gateway cannot start, or cannot bring its stores to rest.
pub(crate) fn run(settings: &Settings, leashed: bool) -> anyhow::Result<()> {
    leave::raise_file_limit();
    // The only provider in the build; a second installation would find it there already.
    let _present = rustls::crypto::ring::default_provider().install_default();
    let wired = wiring::wire(settings)?;
    let Wired {
        gateway,
        embedded,
        data,
        ..
    } = &wired;
    let ready = Arc::new(Ready::of(embedded));
    let retention = Arc::new(Retention::of(settings, &wired)?);
    let purger = retention.watch()?;
    let (stop_admin, admin_stopped) = watch::channel(false);
    let admin = admin::start(
        settings,
        &wired,
        &ready,
        Arc::clone(&retention),
        admin_stopped,
    )?;
    let watchers = watch_files(&wired)?;
    let webhook = wiring::webhook(settings)?;
    let onward = onward::start(settings, &wired)?;
    let calls = tokio::runtime::Builder::new_multi_thread()
        .thread_name("tollgate-calls")
        .enable_all()
        .build()?;
    let served = calls.block_on(async {
        let mut leave = Leave::on_signals(leashed)?;
        let (stop, listening, accepting) = listen(settings, gateway).await?;
        data.announce(admin.address)?;
        let mut probe = Probe::start(gateway.pressure.clone())?;
        let lag = Watcher::every(lag::INTERVAL, "lag", move || probe.look())?;
        let notices = Arc::clone(&embedded.notices);
        tokio::spawn(tollgate_proxy::notices::watch(
            Arc::clone(gateway),
            notices,
            webhook,
        ));
        ready.serving();
        let line = json!({ "listening": listening, "admin": admin.address });
        output::data(&format!("{line}\n"))?;
        info!(%listening, admin = %admin.address, "serving");
        let reason = leave.wanted(&accepting).await;
        info!(reason, drain_seconds = settings.drain.as_secs(), "stopping");
        ready.draining();
        if reason == leave::SIGTERM {
            leave.unready(settings.unready).await;
        }
        stop.send_replace(true);
        drain(gateway, settings.drain, &mut leave).await;
        drop(lag);
        accepting.abort();
        anyhow::Ok(reason)
    });
    retention.stop();
    drop((watchers, purger));
    data.withdraw(admin.address);
    // Dropping a call settles it, so the stores are brought to rest after the calls.
    calls.shutdown_timeout(CUT);
    stop_admin.send_replace(true);
    admin.join();
    let rested = rest(wired);
    // It takes along what the stores have sealed just now.
    onward::finish(onward);
    if served? == leave::LISTENER_ENDED {
        bail!("the listener ended by itself");
    }
    rested
}

/// Takes what changes in the files of policies and prices, from now on.
fn watch_files(wired: &Wired) -> anyhow::Result<[Watcher; 2]> {
    let reloads = figures::Reloads::of_policies(&wired.registry)?;
    let mut permissions = wired.permissions.take()?;
    let policies = reload::spawn(wired.watched.take()?, reload::INTERVAL, {
        let gateway = Arc::clone(&wired.gateway);
        move |reloaded| reloads.apply(&gateway, &mut permissions, reloaded)
    })?;
    let mut priced = wired.priced.take()?;
    let price_reloads = figures::Reloads::of_prices(&wired.registry)?;
    let prices = reload::Watcher::every(reload::INTERVAL, "price-watch", {
        let gateway = Arc::clone(&wired.gateway);
        move || {
            if let Some(read) = priced.look() {
                price_reloads.apply_prices(&gateway, read);
            }
        }
    })?;
    Ok([policies, prices])
}

/// Starts accepting calls and makes sure that they can come in.
async fn listen(
    settings: &Settings,
    gateway: &Arc<Gateway>,
) -> anyhow::Result<(watch::Sender<bool>, SocketAddr, JoinHandle<()>)> {
    let mut listener = wiring::listener(settings, gateway)?;
    let addresses = listener.addresses.clone();
    let reserved = std::mem::take(&mut listener.reserved);
    let (stop, stopped) = watch::channel(false);
    let accepting = tokio::spawn(listener.serve(stopped));
    let reached = async {
        for address in &addresses {
            while tokio::net::TcpStream::connect(reachable(*address))
                .await
                .is_err()
            {
                if accepting.is_finished() {
                    bail!("{address} cannot be listened on");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    };
    let reached = tokio::time::timeout(LISTEN_DEADLINE, reached).await;
    reached.context("the listeners did not come up in time")??;
    drop(reserved);
    let first = addresses.first().copied();
    Ok((
        stop,
        first.context("there is no address to listen on")?,
        accepting,
    ))
}

/// Where this machine reaches a listener: "all addresses" is not an address to connect to.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let host = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(host, listening.port())
}

/// Waits until every call has ended and every client has its last byte, within bounds.
async fn drain(gateway: &Gateway, bound: Duration, leave: &mut Leave) {
    let tracker = &gateway.tracker;
    let finished = async {
        tracker.wait_idle().await;
        let sent = async {
            while tracker.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tracker.wait_idle().await;
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
        () = leave.hurried() => {}
    }
    warn!(
        calls = tracker.in_flight(),
        connections = tracker.connections(),
        "calls are cut: the time to drain is over"
    );
}

/// Brings the stores to rest: everything kept so far is on the disk when this returns.
fn rest(wired: Wired) -> anyhow::Result<()> {
    let Wired { embedded, .. } = wired;
    let closed = match Arc::into_inner(embedded) {
        Some(embedded) => Embedded::close(embedded),
        None => bail!("the stores are still in use"),
    };
    closed
        .inspect_err(|error| error!(%error, "records are left to the next start"))
        .context("the journal could not be shipped; nothing is lost, the next start takes it over")
}
