//! Deferred work, known to every replica: each keeps a copy of its own, and a charge is corrected
//! by whoever takes it first in Redis.
//!
//! Worst case: while Redis is away nothing is corrected, and the work stays charged at its bound
//! until its results are fetched again.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::Handle;
use tollgate_core::budget::StoreError;
use tollgate_core::deferred::{DeferredCharges, KEPT_FOR, Known, RemoteId};
use tollgate_core::ids::RecordId;
use tollgate_core::record::Ending;
use tollgate_core::time::Timestamp;

use super::link::{Link, LinkError, Script};
use super::news::{News, Told};
use super::visits::texts;
use crate::embedded;

/// The same replica may take it again: it may have been killed before it wrote that down.
static TAKE: Script = Script::new(
    "local owner = redis.call('GET', KEYS[1])
     if owner and owner ~= ARGV[1] then return { owner } end
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
     return { ARGV[1] }",
);

/// What is known of deferred work.
pub struct SharedDeferred {
    pub(super) link: Arc<Link>,
    pub(super) member: String,
    pub(super) news: Arc<News>,
    pub(super) local: Arc<embedded::Deferred>,
    pub(super) runtime: Handle,
}

impl SharedDeferred {
    /// Whether this replica is the one that corrects the charge of `record`.
    fn takes(&self, id: &RemoteId, record: RecordId) -> bool {
        let link = self.link.clone();
        let keys = [link.key(id.tenant.as_str(), &format!("corrected:{record}"))];
        let args = [self.member.clone(), KEPT_FOR.as_millis().to_string()];
        let (reply, answer) = mpsc::channel();
        self.runtime.spawn(async move {
            let said = link.run(&TAKE, &keys, &args, true).await.and_then(texts);
            // Whoever asked may have given up; then nobody corrects until it is asked again.
            drop(reply.send(said));
        });
        // It is asked when an answer has passed whole, so this holds up nobody's call but that of
        // whoever fetches the results.
        let bound = self
            .link
            .config()
            .max_wait
            .saturating_add(Duration::from_millis(50));
        let said = answer.recv_timeout(bound);
        match said.unwrap_or(Err(LinkError::Slow(bound))) {
            Ok(words) => words.first().is_some_and(|owner| *owner == self.member),
            Err(error) => {
                tracing::warn!(
                    error = super::causes(&error),
                    "a charge is not corrected yet"
                );
                false
            }
        }
    }
}

impl DeferredCharges for SharedDeferred {
    fn remember(&self, id: &RemoteId, known: &Known, now: Timestamp) -> Result<(), StoreError> {
        let before = self.local.recall(id, now);
        self.local.remember(id, known, now)?;
        if before.as_ref() != Some(known) {
            self.news.tell_later(Told::Remembered {
                id: id.clone(),
                known: Box::new(known.clone()),
                at: now,
            });
        }
        Ok(())
    }

    fn recall(&self, id: &RemoteId, now: Timestamp) -> Option<Known> {
        self.local.recall(id, now)
    }

    fn correct(&self, id: &RemoteId, record: RecordId, ending: &Ending) -> bool {
        let corrected = ending.adjusts.unwrap_or(record);
        if !self.takes(id, corrected) || !self.local.correct(id, record, ending) {
            return false;
        }
        self.news.tell_later(Told::Forgotten {
            id: id.clone(),
            record: corrected,
        });
        true
    }
}
