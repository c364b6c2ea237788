//! The admin side on a thread of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tollgate_admin::exposition::{AdminFigures, Exposition};
use tollgate_admin::live::LiveFigures;
use tollgate_admin::reports::{CostAnswer, CostQuestion, CostReports, NoReport};
use tollgate_admin::server::{AdminListener, serve};
use tollgate_admin::{Admin, CurrentPolicy};
use tollgate_archive::shelf::LocalShelf;
use tollgate_core::budget::{Scope, StoreError};
use tollgate_core::burn::Pace;
use tollgate_core::ids::TenantId;
use tollgate_core::policy::Policy;
use tollgate_core::rate::RateStore;
use tollgate_proxy::gateway::Gateway;
use tracing::error;

use super::figures;
use super::readiness::Ready;
use super::retention::Retention;
use super::wiring::{Wired, keys};
use crate::admins;
use crate::clock;
use crate::config::Settings;
use crate::explain;
use crate::logging::Levels;
use crate::report::{self, Unanswered};

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(1);

/// The admin side, running.
pub(super) struct Running {
    /// Where it listens.
    pub(super) address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Running {
    /// Waits until it has ended, and not longer than `bound`; whether it has.
    pub(super) fn ends_within(&self, bound: Duration) -> bool {
        let until = Instant::now() + bound;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        self.thread.is_finished()
    }

    /// Waits for its end, which comes soon after it is told to stop.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            error!("the admin side ended in a panic");
        }
    }
}

/// Starts it.
///
/// # Errors
/// If a file cannot be used, or there is no thread to be had.
pub(super) fn start(
    settings: &Settings,
    wired: &Wired,
    ready: &Arc<Ready>,
    retention: Arc<Retention>,
    levels: Arc<Levels>,
    listener: AdminListener,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<Running> {
    let address = listener.address();
    let admin = Arc::new(assemble(
        settings,
        wired,
        Arc::clone(ready),
        retention,
        levels,
    )?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serving = move || {
        if let Err(error) = runtime.block_on(serve(listener, admin, stop)) {
            error!(%error, "the admin side ended");
        }
    };
    let thread = std::thread::Builder::new().name("admin".to_owned());
    let thread = thread.spawn(serving)?;
    Ok(Running { address, thread })
}

fn assemble(
    settings: &Settings,
    wired: &Wired,
    ready: Arc<Ready>,
    retention: Arc<Retention>,
    levels: Arc<Levels>,
) -> anyhow::Result<Admin> {
    let Wired {
        gateway,
        embedded,
        registry,
        of_tenants,
        shared,
        signer,
        ..
    } = wired;
    let policy = current(gateway);
    let exposition = Exposition {
        totals: registry.clone(),
        of_tenants: of_tenants.clone(),
        open: settings.metrics.open,
        refresh: figures::carry(wired, &ready)?,
        reading: tokio::sync::Mutex::default(),
    };
    Ok(Admin {
        credentials: Arc::new(admins::file::at_start(shared, clock::now())?),
        log: embedded.admin_actions.clone(),
        keys: keys(settings, &gateway.desk),
        desk: Arc::clone(&gateway.desk),
        budgets: Arc::clone(&gateway.stores.budgets),
        reports: Arc::new(Reports(settings.data_dir.clone())),
        live: Arc::new(Live(Arc::downgrade(gateway), gateway.stores.rates.clone())),
        happenings: gateway.scene.clone(),
        log_levels: levels,
        explainer: Arc::new(explain::Running::new(gateway)),
        purge: retention,
        signer: signer.clone(),
        readiness: ready,
        names: settings.admin_names.clone(),
        figures: Arc::new(AdminFigures::register(registry)?),
        exposition,
        policy,
        clock: clock::now,
    })
}

/// The policy in force, without keeping the gateway alive for it.
pub(super) fn current(gateway: &Arc<Gateway>) -> CurrentPolicy {
    let gateway: Weak<Gateway> = Arc::downgrade(gateway);
    Arc::new(move || match gateway.upgrade() {
        Some(gateway) => Arc::clone(&gateway.live.snapshot().policy),
        // The gateway is gone and takes no calls: nobody is known any more.
        None => Arc::new(Policy::default()),
    })
}

/// What the call path knows of the moment, without keeping the gateway alive for it.
struct Live(Weak<Gateway>, Arc<dyn RateStore>);

impl LiveFigures for Live {
    fn paces(&self, tenant: &TenantId) -> BTreeMap<Scope, Pace> {
        let gateway = self.0.upgrade();
        gateway.map_or_else(BTreeMap::new, |gateway| gateway.caps.paces(tenant))
    }

    fn watched_for(&self) -> Duration {
        let gateway = self.0.upgrade();
        gateway.map_or(Duration::ZERO, |gateway| gateway.caps.watched_for())
    }

    fn in_flight(&self) -> usize {
        let gateway = self.0.upgrade();
        gateway.map_or(0, |gateway| gateway.tracker.in_flight())
    }

    fn rates(&self) -> Arc<dyn RateStore> {
        Arc::clone(&self.1)
    }
}

/// Reports from the records of a data directory.
struct Reports(PathBuf);

impl CostReports for Reports {
    fn cost(&self, question: &CostQuestion) -> Result<CostAnswer, NoReport> {
        let shelf = LocalShelf::new(&self.0);
        report::answer(question, &shelf).map_err(|why| match why {
            Unanswered::Question(why) => NoReport::Question(why),
            Unanswered::Records(cause) => NoReport::Store(StoreError {
                operation: "read records",
                store: "audit",
                cause: Box::new(cause),
            }),
        })
    }
}
