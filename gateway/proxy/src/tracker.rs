//! Counts what is under way, so that a shutdown can wait for it, and runs what outlives its client.
//!
//! Does not know what it runs. Worst case: more than `max_detached` clients hang up at once; what
//! is beyond that number is dropped, and whatever it guards settles in its `Drop`.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// How long a connection that was accepted is waited for, its TLS handshake included. One that
/// never comes to speak says so to nobody.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// So many that were accepted and have not come are looked through for those that never will.
const MANY_ACCEPTED: usize = 1_024;

/// A shared count of exchanges and drains; clones count together.
#[derive(Debug, Clone)]
pub struct Tracker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    in_flight: AtomicUsize,
    connections: Arc<AtomicUsize>,
    arriving: Arc<AtomicUsize>,
    /// Connections that were accepted and have not come to speak, by their peers.
    accepted: Mutex<HashMap<SocketAddr, Instant>>,
    idle: Notify,
    detached: Arc<Semaphore>,
}

/// One thing under way; dropping it ends it.
#[derive(Debug)]
pub struct InFlight {
    shared: Arc<Shared>,
}

impl Tracker {
    /// A tracker that lets `max_detached` tasks run without a client.
    #[must_use]
    pub fn new(max_detached: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                in_flight: AtomicUsize::new(0),
                connections: Arc::default(),
                arriving: Arc::default(),
                accepted: Mutex::default(),
                idle: Notify::new(),
                detached: Arc::new(Semaphore::new(max_detached)),
            }),
        }
    }

    /// Counts one thing until the answer is dropped.
    #[must_use]
    pub fn enter(&self) -> InFlight {
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Runs and counts `task` without a bound: for what must not be lost.
    ///
    /// Outside a runtime, which is to say during its shutdown, the task is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let token = self.enter();
        runtime.spawn(async move {
            task.await;
            drop(token);
        });
    }

    /// Runs `task` if there is room among the detached; otherwise drops it. Does not count it:
    /// an exchange brings its own count with it.
    pub fn detach(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if let Ok(place) = Arc::clone(&self.shared.detached).try_acquire_owned() {
            runtime.spawn(async move {
                task.await;
                drop(place);
            });
        }
    }

    /// How many things are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    /// Counts a client's connection until the answer is dropped. A connection may still be
    /// sending when its last exchange has ended.
    pub(crate) fn connect(&self) -> UnderWay {
        let connections = &self.shared.connections;
        connections.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(connections))
    }

    /// Counts something that is about to be decided on, until the answer is dropped: a request
    /// that is not yet admitted or refused, or a connection that is about to bring one.
    pub(crate) fn arrive(&self) -> UnderWay {
        let arriving = &self.shared.arriving;
        arriving.fetch_add(1, Ordering::AcqRel);
        UnderWay(Arc::clone(arriving))
    }

    /// How many requests are not yet decided on, or about to come.
    #[must_use]
    pub fn arriving(&self) -> usize {
        let now = Instant::now();
        let accepted = self.accepted();
        let coming = accepted.values().filter(|since| is_awaited(**since, now));
        coming.count() + self.shared.arriving.load(Ordering::Acquire)
    }

    /// A connection has been accepted, and will come to speak.
    pub(crate) fn expect(&self, peer: SocketAddr) {
        let now = Instant::now();
        let mut accepted = self.accepted();
        if accepted.len() >= MANY_ACCEPTED {
            accepted.retain(|_, since| is_awaited(*since, now));
        }
        accepted.insert(peer, now);
    }

    /// It has come, and counts as arriving by itself from now on.
    pub(crate) fn come(&self, peer: &SocketAddr) -> UnderWay {
        let arriving = self.arrive();
        self.accepted().remove(peer);
        arriving
    }

    fn accepted(&self) -> MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        let accepted = self.shared.accepted.lock();
        accepted.unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections clients have open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Returns once nothing is under way.
    pub async fn wait_idle(&self) {
        loop {
            let idle = self.shared.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }
}

fn is_awaited(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < HANDSHAKE
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.shared.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.idle.notify_waiters();
        }
    }
}

/// A request on its way to being admitted or refused. Travels with it; whoever has decided drops it.
#[derive(Debug)]
pub struct Arrival {
    _counted: UnderWay,
}

impl Arrival {
    pub(crate) fn of(tracker: &Tracker) -> Self {
        Self {
            _counted: tracker.arrive(),
        }
    }
}

/// The requests of one connection, to know when it has idled.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    under_way: Arc<AtomicUsize>,
    total: AtomicUsize,
}

/// One request of a connection, or one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl Requests {
    pub(crate) fn enter(&self) -> UnderWay {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(&self.under_way))
    }

    pub(crate) fn under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Returns once there has been no request for `idle`, and less than twice that.
    pub(crate) async fn idle(&self, idle: Duration) {
        let mut before = None;
        loop {
            let total = Some(self.total.load(Ordering::Relaxed));
            if self.under_way.load(Ordering::Relaxed) == 0 && total == before {
                return;
            }
            before = total;
            tokio::time::sleep(idle).await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wait_idle_returns_once_the_last_task_is_done() {
        let tracker = Tracker::new(4);
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let counted = tracker.enter();
        tracker.detach(async move {
            let _ = gone.await;
            drop(counted);
        });
        assert_eq!(tracker.in_flight(), 1);
        let waiting = tokio::spawn({
            let tracker = tracker.clone();
            async move { tracker.wait_idle().await }
        });
        go.send(()).unwrap();
        waiting.await.unwrap();
        assert_eq!(tracker.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_detached_task_beyond_the_bound_is_dropped() {
        let tracker = Tracker::new(0);
        let (alive, mut dropped) = tokio::sync::oneshot::channel::<()>();
        tracker.detach(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert!(dropped.try_recv().is_err(), "the sender is gone");
        assert_eq!(tracker.in_flight(), 0);
    }
}
