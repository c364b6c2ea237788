//! Sends clients to other connections without failing a call: what comes over a connection that is
//! about to go is answered, and the answer says that there will be no other.
//!
//! HTTP/1 answers carry `connection: close`, HTTP/2 connections get a GOAWAY; either way it is the
//! client that leaves, in between two calls. Decides not when. Worst case: a connection that idles
//! all the time hears of it when it is closed.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether connections are to go; clones tell the same.
#[derive(Debug, Clone)]
pub struct Farewell(Arc<watch::Sender<bool>>);

impl Default for Farewell {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Farewell {
    /// From now on clients are sent to other connections.
    pub fn say(&self) {
        self.0.send_replace(true);
    }

    /// From now on they may stay again.
    pub fn unsay(&self) {
        self.0.send_replace(false);
    }

    pub(crate) fn is_said(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it is said.
    pub(crate) async fn said(&self) {
        let mut said = self.0.subscribe();
        // The sender lives as long as this, so there is no other end to the waiting.
        drop(said.wait_for(|said| *said).await);
    }
}
