//! What hands records on, each kind of destination on a thread of its own.
//!
//! Calls never wait for any of it, and it goes on after the last of them until the stores have
//! sealed what they hold. Does not know how anything is handed over. Worst case: the process ends
//! within the longest drain with things left that wait for the next start.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry};
use tokio::sync::watch;
use tollgate_core::audit::Destination;
use tracing::error;

use super::figures::advance;
use super::wiring::Wired;
use super::{collector, courier};
use crate::config::Settings;

/// How long what is under way on a thread may take when it has been told to end and has ended.
const CUT: Duration = Duration::from_secs(1);

/// Somebody who hands records on.
pub(super) struct Running {
    name: &'static str,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Tells it to end once it has taken along what is sealed by now.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Who the stores keep parcels for, each with what tells it from another of its kind: another place
/// has had none of them.
pub(super) fn destinations(settings: &Settings) -> Vec<(Destination, String)> {
    let store = courier::destination(settings);
    store
        .into_iter()
        .chain(collector::destination(settings))
        .collect()
}

/// Starts whatever the settings name.
///
/// # Errors
/// If something of it cannot be set up.
pub(super) fn start(settings: &Settings, wired: &Wired) -> anyhow::Result<Vec<Running>> {
    let courier = courier::start(settings, wired)?;
    let exporter = collector::start(settings, wired)?;
    Ok(courier.into_iter().chain(exporter).collect())
}

/// Lets all of them take along what the stores have sealed at their end, and waits for the last.
pub(super) fn finish(running: Vec<Running>) {
    for Running { stop, .. } in &running {
        stop.send_replace(true);
    }
    for Running { name, thread, .. } in running {
        if thread.join().is_err() {
            error!(name, "what hands records on ended in a panic");
        }
    }
}

/// Runs something on a thread of its own until it ends; it is told when it is to.
///
/// # Errors
/// If there is no thread to be had.
pub(super) fn spawn<F: Future<Output = ()>>(
    name: &'static str,
    run: impl FnOnce(watch::Receiver<bool>) -> F + Send + 'static,
) -> anyhow::Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = watch::channel(false);
    let thread = std::thread::Builder::new().name(name.to_owned());
    let thread = thread.spawn(move || {
        runtime.block_on(run(stopped));
        runtime.shutdown_timeout(CUT);
    })?;
    Ok(Running { name, stop, thread })
}

/// Registers a counter that follows a figure which is counted elsewhere: it is read when the
/// metrics are.
///
/// # Errors
/// If there is one of that name.
pub(super) fn follow<T: Send + Sync + 'static>(
    registry: &Registry,
    figures: &Arc<T>,
    (name, help): (&str, &str),
    read: fn(&T) -> u64,
) -> prometheus::Result<()> {
    let counted = Counted {
        counter: IntCounter::new(name, help)?,
        figures: Arc::clone(figures),
        read,
    };
    registry.register(Box::new(counted))
}

struct Counted<T> {
    counter: IntCounter,
    figures: Arc<T>,
    read: fn(&T) -> u64,
}

impl<T: Send + Sync> Collector for Counted<T> {
    fn desc(&self) -> Vec<&Desc> {
        self.counter.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        advance(&self.counter, (self.read)(&self.figures));
        self.counter.collect()
    }
}
