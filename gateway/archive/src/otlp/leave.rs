//! When an exporter is to end: at once if the collector takes nothing, and else within a bound.
//!
//! Worst case: a collector that hangs for the first time while the gateway stops takes the bound.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Whether the gateway stops, and how long what waits may still take.
pub(super) struct Leave {
    stop: watch::Receiver<bool>,
    drain: Duration,
    until: Option<Instant>,
}

impl Leave {
    pub(super) const fn new(stop: watch::Receiver<bool>, drain: Duration) -> Self {
        Self {
            stop,
            drain,
            until: None,
        }
    }

    /// Whether the gateway stops.
    pub(super) fn is_asked(&self) -> bool {
        *self.stop.borrow() || self.is_deserted()
    }

    /// Whether nobody is there any more who could say so.
    fn is_deserted(&self) -> bool {
        self.stop.has_changed().is_err()
    }

    /// Comes back once the gateway stops.
    pub(super) async fn asked(&mut self) {
        let _told_or_deserted = self.stop.wait_for(|stop| *stop).await;
    }

    /// Comes back once the gateway stops and the time is over, which it is at once if what is under
    /// way has failed before.
    pub(super) async fn over(&mut self, failing: bool) {
        self.asked().await;
        if !failing && !self.is_deserted() {
            let end = Instant::now() + self.drain;
            tokio::time::sleep_until(*self.until.get_or_insert(end)).await;
        }
    }

    /// Waits for so long, or until the gateway stops.
    pub(super) async fn rest(&mut self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.asked() => {}
        }
    }
}
