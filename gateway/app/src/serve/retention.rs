//! Purging by retention: once an hour, and when an operator asks.
//!
//! ```text
//! due of every tenant → tombstones into the journal → all sealed and signed → files deleted
//! ```
//! One round at a time, on the caller's thread; that of the hourly rounds yields to calls. Decides
//! nothing but what policy says: how many days a tenant's records are kept. Partitions of no tenant
//! that policy knows, the gateway's own and the operators' are never purged. Worst case: a round is
//! cut after the tombstones, and the next one deletes the files under a second.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::runtime::Runtime;
use tollgate_admin::CurrentPolicy;
use tollgate_admin::purge::{OfTenant, Purge};
use tollgate_archive::purge::{Asked, Due, PurgeError, plan};
use tollgate_archive::shelf::LocalShelf;
use tollgate_archive::tombstone::Tombstone;
use tollgate_archive::verify::{Head, Trust};
use tollgate_core::audit::{AuditPublicKey, Day, EventLog as _, Name, Outbox};
use tollgate_core::budget::StoreError;
use tollgate_core::ids::{RecordId, TenantId};
use tollgate_core::policy::Tenant;
use tollgate_core::time::Timestamp;
use tollgate_stores::embedded::Embedded;
use tracing::{error, info, warn};

use super::admin::current;
use super::usage::step_back;
use super::wiring::Wired;
use crate::config::Settings;
use crate::reload::Watcher;
use crate::{audit, clock};

/// How often it is looked for what is due: days end once, but a store may take what waits later.
const EVERY: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(86_400);

/// Files that are announced before the first of them are deleted.
const AT_ONCE: usize = 100_000;

/// Purges the records of one data directory.
pub(super) struct Retention {
    stores: Weak<Embedded>,
    data_dir: PathBuf,
    key: AuditPublicKey,
    policy: CurrentPolicy,
    purged: IntCounter,
    failures: IntCounter,
    stopping: AtomicBool,
    /// Waits for the journal. Whoever holds it has the turn.
    turn: Mutex<Runtime>,
}

impl Retention {
    /// Of what runs, without keeping the stores open.
    ///
    /// # Errors
    /// If there is no runtime, or metrics of these names exist.
    pub(super) fn of(settings: &Settings, wired: &Wired) -> anyhow::Result<Self> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            wired.registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        Ok(Self {
            stores: Arc::downgrade(&wired.embedded),
            data_dir: settings.data_dir.clone(),
            key: wired.signer.key.clone(),
            policy: current(&wired.gateway),
            purged: counter(
                "tollgate_records_purged_total",
                "Records whose time was over and that are gone.",
            )?,
            failures: counter(
                "tollgate_purge_failures_total",
                "Tenants whose records could not be purged, by round.",
            )?,
            stopping: AtomicBool::new(false),
            turn: Mutex::new(
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?,
            ),
        })
    }

    /// Lets a round under way end soon, whoever asked for it; begins none from now on.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn failed(&self, told: &mut OfTenant, error: String) {
        self.failures.inc();
        warn!(tenant = %told.tenant, error, "records are not purged");
        told.error = Some(error);
    }

    /// Purges what is due, once an hour.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub(super) fn watch(self: &Arc<Self>) -> std::io::Result<Watcher> {
        let retention = Arc::clone(self);
        Watcher::every(EVERY, "retention", move || {
            step_back();
            if let Err(error) = retention.purge(None, false) {
                error!(error = shown(error), "what is due is not purged");
            }
        })
    }
}

impl Purge for Retention {
    fn purge(&self, only: Option<&TenantId>, dry_run: bool) -> Result<Vec<OfTenant>, StoreError> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || failed("purge", "the gateway stops");
        let stores = self.stores.upgrade().ok_or_else(gone)?;
        let policy = (self.policy)();
        let mut tenants: Vec<&Arc<Tenant>> = policy
            .tenants
            .values()
            .filter(|tenant| only.is_none_or(|only| *only == tenant.id))
            .collect();
        tenants.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let heads = audit::heads(&self.data_dir);
        let heads = heads.map_err(|error| failed("read the heads of chains", error))?;
        let mut round = Round {
            retention: self,
            stores: &stores,
            outbox: stores.outbox(),
            shelf: LocalShelf::new(&self.data_dir),
            heads: heads.unwrap_or_default(),
            waiting: &turn,
            now: clock::now(),
            told: Vec::new(),
            announced: Vec::new(),
        };
        for tenant in tenants {
            if self.is_stopping() {
                break;
            }
            round.look(tenant, dry_run);
            let files: usize = round.announced.iter().map(|(_, due)| due.files()).sum();
            if files >= AT_ONCE {
                round.delete();
            }
        }
        round.delete();
        Ok(round.told)
    }
}

/// One look at all tenants.
struct Round<'a> {
    retention: &'a Retention,
    stores: &'a Embedded,
    outbox: Arc<dyn Outbox>,
    shelf: LocalShelf,
    /// Read first: what is written after is not judged.
    heads: Vec<Head>,
    waiting: &'a Runtime,
    now: Timestamp,
    told: Vec<OfTenant>,
    /// What has a tombstone, with its place among what is told.
    announced: Vec<(usize, Due)>,
}

impl Round<'_> {
    /// Finds out what of a tenant's is due, and lets its chain say so.
    fn look(&mut self, tenant: &Tenant, dry_run: bool) {
        let before = tenant.records.days.map(|days| before(self.now, days));
        let mut told = OfTenant {
            tenant: tenant.id.clone(),
            before,
            records: 0,
            files: 0,
            bytes: 0,
            waiting_files: 0,
            error: None,
        };
        let planned = before.map(|before| self.plan(&tenant.id, before));
        let due = match planned {
            None => None,
            Some(Ok(plan)) => {
                told.waiting_files = plan.kept;
                plan.due
            }
            Some(Err(error)) => {
                self.retention.failed(&mut told, shown(error));
                None
            }
        };
        if let Some(due) = due {
            told.records = due.tombstone.records;
            told.files = due.tombstone.files;
            told.bytes = due.bytes;
            if !dry_run {
                match self.announce(&due.tombstone) {
                    Ok(()) => self.announced.push((self.told.len(), due)),
                    Err(error) => self.retention.failed(&mut told, shown(error)),
                }
            }
        }
        self.told.push(told);
    }

    fn plan(
        &self,
        tenant: &TenantId,
        before: Day,
    ) -> Result<tollgate_archive::purge::Plan, PurgeError> {
        let keys = std::slice::from_ref(&self.retention.key);
        let asked = Asked {
            tenant,
            before,
            trust: &Trust {
                keys,
                heads: Some(&self.heads),
                threads: 1,
                ..Trust::default()
            },
            waits: &|name: &Name| self.outbox.waits(name),
            stopped: &|| self.retention.is_stopping(),
        };
        plan(&self.shelf, &asked)
    }

    fn announce(&self, tombstone: &Tombstone) -> Result<(), StoreError> {
        let event = tombstone.event(RecordId::new(uuid::Uuid::now_v7()), self.now);
        let event = event.map_err(|error| failed("announce a purge", error))?;
        self.waiting.block_on(self.stores.events.keep(&event))
    }

    /// Deletes what has been announced, once that is signed.
    fn delete(&mut self) {
        if self.announced.is_empty() {
            return;
        }
        let sealed = self.stores.seal().map_err(shown);
        for (at, due) in std::mem::take(&mut self.announced) {
            let waits = |name: &Name| {
                if self.retention.is_stopping() {
                    return Err(failed("purge", "the gateway stops"));
                }
                self.outbox.waits(name)
            };
            let deleted = match &sealed {
                Ok(()) => due.delete(&self.shelf, &waits).map_err(shown),
                Err(error) => Err(error.clone()),
            };
            let Some(told) = self.told.get_mut(at) else {
                continue;
            };
            match deleted {
                Ok(gone) => {
                    self.retention.purged.inc_by(told.records);
                    info!(
                        tenant = %told.tenant,
                        records = told.records,
                        files = gone.files,
                        checkpoints = gone.checkpoints,
                        "records of days before {} are purged", due.tombstone.before
                    );
                }
                Err(error) => self.retention.failed(told, error),
            }
        }
    }
}

/// The first day whose records stay.
fn before(now: Timestamp, days: u32) -> Day {
    now.minus(DAY.saturating_mul(days)).date()
}

fn failed(
    operation: &'static str,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError {
        operation,
        store: "record",
        cause: cause.into(),
    }
}

/// An error with what is behind it.
fn shown(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_due_once_its_days_after_it_are_over() {
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().expect("a time");
        for (days, expected) in [(0, "2026-11-29"), (1, "2026-11-28"), (400, "2025-10-25")] {
            assert_eq!(before(now, days).to_string(), expected);
        }
    }
}
