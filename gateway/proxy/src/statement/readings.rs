//! Reading records for statements, so that no call is slowed by it.
//!
//! Each reading has a thread of its own, off the runtime of calls; of one tenant there is one at a
//! time, of all tenants a few. The same question within [`FRESH`] is answered from memory. A
//! reading that a client no longer waits for goes on to its end and keeps its place until then, so
//! that asking again does not start another. Worst case: every place is taken by tenants with very
//! many records, and others are told to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tollgate_core::budget::StoreError;
use tollgate_core::ids::{AgentId, TenantId};
use tollgate_core::report::Dimension;
use tollgate_core::time::Timestamp;

use super::refusal::Unstated;
use crate::respond::Failure;

/// Readings at one time.
const PLACES: usize = 3;

/// How long to wait for the tenant's reading under way, and then for a place.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a reading may take before its client is told to ask for less.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);

/// Answers kept, and tenants remembered, before those that are over are looked for.
const REMEMBERED: usize = 256;

/// Which records a statement sums up, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whose. Records of no other tenant are looked at.
    pub tenant: TenantId,
    /// Only this agent's; `None` are those of all agents.
    pub agent: Option<AgentId>,
    /// What to group by.
    pub by: Vec<Dimension>,
    /// The first moment that counts.
    pub from: Timestamp,
    /// The first moment that no longer counts.
    pub to: Option<Timestamp>,
}

/// Sums up records.
pub trait UsageReports: Send + Sync {
    /// The sums, as a JSON object. Blocks on the disk.
    ///
    /// # Errors
    /// If the records cannot be read.
    fn usage(&self, question: &Question) -> Result<Value, StoreError>;
}

type Kept = Vec<(Question, Instant, Arc<Value>)>;

pub(super) struct Readings {
    reports: Arc<dyn UsageReports>,
    places: Arc<Semaphore>,
    tenants: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
    kept: Arc<Mutex<Kept>>,
}

/// What a reading holds until it ends.
type Place = (OwnedMutexGuard<()>, OwnedSemaphorePermit);

impl Readings {
    pub(super) fn of(reports: Arc<dyn UsageReports>) -> Self {
        Self {
            reports,
            places: Arc::new(Semaphore::new(PLACES)),
            tenants: Mutex::default(),
            kept: Arc::default(),
        }
    }

    /// The sums, read now or a moment ago.
    pub(super) async fn read(&self, question: Question) -> Result<Arc<Value>, Unstated> {
        if let Some(fresh) = fresh(&self.kept, &question) {
            return Ok(fresh);
        }
        let place = self.place(&question.tenant).await?;
        // Whoever had the place before may have asked the same.
        if let Some(fresh) = fresh(&self.kept, &question) {
            return Ok(fresh);
        }
        let answer = self.begin(question, place)?;
        match timeout(DEADLINE, answer).await {
            Ok(Ok(Ok(usage))) => Ok(usage),
            Ok(Ok(Err(error))) => Err(Unstated::Failed(Failure::Ledger(error))),
            // It takes too long, or the thread is gone.
            Ok(Err(_)) | Err(_) => Err(Unstated::TooMuch),
        }
    }

    async fn place(&self, tenant: &TenantId) -> Result<Place, Unstated> {
        let gate = {
            let mut tenants = lock(&self.tenants);
            if tenants.len() >= REMEMBERED {
                tenants.retain(|_, gate| Arc::strong_count(gate) > 1);
            }
            Arc::clone(tenants.entry(tenant.clone()).or_default())
        };
        let own = timeout(PATIENCE, gate.lock_owned());
        let own = own.await.map_err(|_elapsed| Unstated::Busy)?;
        let place = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned());
        match place.await {
            Ok(Ok(place)) => Ok((own, place)),
            _ => Err(Unstated::Busy),
        }
    }

    fn begin(
        &self,
        question: Question,
        place: Place,
    ) -> Result<oneshot::Receiver<Result<Arc<Value>, StoreError>>, Unstated> {
        let (tell, answer) = oneshot::channel();
        let (reports, kept) = (Arc::clone(&self.reports), Arc::clone(&self.kept));
        let read = move || {
            let usage = reports.usage(&question).map(Arc::new);
            if let Ok(usage) = &usage {
                keep(&kept, question, usage);
            }
            drop(place);
            // The client may have left.
            let _nobody_waits = tell.send(usage);
        };
        let thread = std::thread::Builder::new().name("usage".to_owned());
        thread.spawn(read).map_err(|error| {
            Unstated::Failed(Failure::Ledger(StoreError {
                operation: "start reading",
                store: "audit",
                cause: Box::new(error),
            }))
        })?;
        Ok(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fresh(kept: &Mutex<Kept>, question: &Question) -> Option<Arc<Value>> {
    let kept = lock(kept);
    let (.., usage) = kept
        .iter()
        .find(|(known, at, _)| known == question && at.elapsed() < FRESH)?;
    Some(Arc::clone(usage))
}

fn keep(kept: &Mutex<Kept>, question: Question, usage: &Arc<Value>) {
    let mut kept = lock(kept);
    kept.retain(|(known, at, _)| *known != question && at.elapsed() < FRESH);
    if kept.len() < REMEMBERED {
        kept.push((question, Instant::now(), Arc::clone(usage)));
    }
}
