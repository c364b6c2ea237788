//! Counts what is under way, so that a shutdown can wait for it, and runs what outlives its client.
//!
//! Does not know what it runs. Worst case: more than `max_detached` clients hang up at once; what
//! is beyond that number is dropped, and whatever it guards settles in its `Drop`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

/// A shared count of exchanges and drains; clones count together.
#[derive(Debug, Clone)]
pub struct Tracker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    in_flight: AtomicUsize,
    connections: Arc<AtomicUsize>,
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

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.shared.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.idle.notify_waiters();
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
        self.0.fetch_sub(1, Ordering::Relaxed);
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
