//! What replicas tell one another: a log in Redis that everybody reads ten times a second.
//!
//! A log, not a broadcast: whoever was away reads on where it stopped, so nothing needs a second
//! way to be found out. Entries are read in their order and may be heard twice. Worst case: of
//! more than [`KEPT`] entries since it was last there, a replica misses the oldest. Of revocations
//! it misses none all the same, since tokens that are new to it are looked up in Redis.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tollgate_core::budget::BudgetKey;
use tollgate_core::deferred::{Known, RemoteId};
use tollgate_core::ids::RecordId;
use tollgate_core::registry::Revocation;
use tollgate_core::time::Timestamp;

use super::link::{Link, LinkError, Script};
use crate::embedded;

static TELL: Script = Script::new(
    "redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'e', ARGV[2]) return { 'done' }",
);

/// Entries in the log.
const KEPT: u32 = 100_000;
/// What may wait to be told while Redis is away; beyond that it is not told.
const WAITING: usize = 10_000;
/// How long to wait before telling again.
const RETRY: Duration = Duration::from_millis(200);

/// One entry of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "told")]
pub(super) enum Told {
    /// Tokens have been taken off the table; `number` tells those registered before from those
    /// after.
    Revoked {
        what: Revocation,
        number: u64,
        at: Timestamp,
    },
    /// Somebody is short of what others may hold and not use.
    Recall { key: BudgetKey },
    /// Something is known of deferred work.
    Remembered {
        id: RemoteId,
        known: Box<Known>,
        at: Timestamp,
    },
    /// A replica is gone for good, and nobody waits for it.
    Gone { member: String },
    /// The charge that the call `record` made is corrected.
    Forgotten { id: RemoteId, record: RecordId },
}

/// Writes the log, and knows who hears of deferred work.
pub(super) struct News {
    link: Arc<Link>,
    deferred: Arc<embedded::Deferred>,
    later: mpsc::Sender<Told>,
}

impl News {
    pub(super) fn new(
        link: Arc<Link>,
        deferred: Arc<embedded::Deferred>,
        runtime: &Handle,
    ) -> Arc<Self> {
        let (later, mut waiting) = mpsc::channel(WAITING);
        let news = Arc::new(Self {
            link,
            deferred,
            later,
        });
        let teller = Arc::downgrade(&news);
        runtime.spawn(async move {
            while let Some(told) = waiting.recv().await {
                loop {
                    let Some(news) = teller.upgrade() else { return };
                    if news.tell(&told).await.is_ok() {
                        break;
                    }
                    drop(news);
                    tokio::time::sleep(RETRY).await;
                }
            }
        });
        news
    }

    /// Tells everybody; when this returns, they will hear it.
    pub(super) async fn tell(&self, told: &Told) -> Result<(), LinkError> {
        tell(&self.link, told).await
    }

    /// Tells everybody as soon as that is possible. Does not wait.
    pub(super) fn tell_later(&self, told: Told) {
        if self.later.try_send(told).is_err() {
            tracing::error!("too much waits to be told to the other replicas; something is not");
        }
    }

    /// Hears of deferred work.
    pub(super) fn hear(&self, told: Told) {
        use tollgate_core::deferred::DeferredCharges as _;
        match told {
            Told::Remembered { id, known, at } => {
                if let Err(error) = self.deferred.remember(&id, &known, at) {
                    tracing::warn!(
                        error = super::causes(&error),
                        "deferred work is not remembered"
                    );
                }
            }
            Told::Forgotten { id, record } => self.deferred.forget(&id, record),
            Told::Revoked { .. } | Told::Recall { .. } | Told::Gone { .. } => {}
        }
    }
}

/// Puts an entry into the log.
pub(super) async fn tell(link: &Link, told: &Told) -> Result<(), LinkError> {
    let entry = serde_json::to_string(told).map_err(|_unwritable| LinkError::Foreign)?;
    let keys = [link.key("fleet", "log")];
    link.run(&TELL, &keys, &[KEPT.to_string(), entry], true)
        .await?;
    Ok(())
}
