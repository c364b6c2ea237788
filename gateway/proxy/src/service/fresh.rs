//! A connection that has not had a request yet: whoever opened it is about to send one, and must not
//! find it closed.
//!
//! Worst case: somebody who opens connections and says nothing delays a stop by [`FIRST_REQUEST`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::tracker::{Arrival, Tracker, UnderWay};

/// How long a new connection may take to its first request once the server stops. A request that
/// was sent with the connection is there within a round trip.
pub(super) const FIRST_REQUEST: Duration = Duration::from_millis(250);

/// Whether the first request has come.
pub(super) struct Fresh {
    /// Counts as arriving until then.
    waiting: Mutex<Option<UnderWay>>,
    come: Notify,
}

impl Fresh {
    pub(super) fn new(arriving: UnderWay) -> Self {
        Self {
            waiting: Mutex::new(Some(arriving)),
            come: Notify::new(),
        }
    }

    /// A request has come, which is what counts as arriving from now on.
    pub(super) fn used_by(&self, tracker: &Tracker) -> Arrival {
        let arrival = Arrival::of(tracker);
        let waiting = self.waiting.lock();
        if waiting
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .is_some()
        {
            self.come.notify_one();
        }
        arrival
    }

    /// Returns once `wish` has and the first request has come, or is not to be expected any more.
    pub(super) async fn then(&self, wish: impl Future<Output = ()>) {
        wish.await;
        let used = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none();
        if !used {
            // Either way the connection may go.
            let _come = tokio::time::timeout(FIRST_REQUEST, self.come.notified()).await;
        }
    }
}
