//! A gateway from the moment its stores are open: what runs beside its calls, and how it ends.
//!
//! A process has one of these. It has another when a successor has got the stores and does not come
//! to serve: then the stores are opened again, everything is made anew, and the calls of the first
//! life go on to their ends as those of a predecessor would. Decides when what is begun and ended.
//! Worst case: somebody who uploads slowly at the barrier; that call is refused after
//! [`ADMISSION`], and newcomers have waited so long.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tollgate_proxy::farewell::Farewell;
use tollgate_proxy::gateway::Gateway;
use tollgate_proxy::listener::Listening;
use tollgate_proxy::pressure::lag::{self, Probe};
use tollgate_stores::embedded::Embedded;
use tollgate_stores::redis::Fleet;
use tracing::{error, info, warn};

use super::handover::{Attended, Handing, Predecessor, Sockets, Successor};
use super::readiness::Ready;
use super::retention::Retention;
use super::wiring::{self, Wired};
use super::workers::Workers;
use super::{admin, figures, onward, traces};
use crate::clock;
use crate::config::Settings;
use crate::logging::Levels;
use crate::reload::{self, Watcher};

/// How long clients are sent to other connections before the old ones are closed: whoever calls
/// once a second or more has left by then, in between two calls.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long calls that have begun to arrive get until they are admitted.
const ADMISSION: Duration = Duration::from_secs(1);

/// How often it is looked whether a change of the log level is over.
const LEVELS: Duration = Duration::from_secs(1);

/// How long what is asked of the admin API may take to its end.
const ADMIN: Duration = Duration::from_secs(2);

/// How often it is looked whether something has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Everything that runs.
pub(super) struct Life {
    pub(super) wired: Wired,
    /// Where agents connect, and operators.
    pub(super) addresses: (SocketAddr, SocketAddr),
    accepting: Accepting,
    ready: Arc<Ready>,
    retention: Arc<Retention>,
    purger: Option<Watcher>,
    watchers: Vec<Watcher>,
    admin: Option<admin::Running>,
    stop_admin: watch::Sender<bool>,
    onward: Vec<onward::Running>,
    /// Not told to stop with the others: calls that go on have spans.
    spans: Option<onward::Running>,
    notices: JoinHandle<()>,
    predecessor: Option<Attended>,
}

struct Accepting {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    farewell: Farewell,
}

impl Accepting {
    /// Accepts on every one of the calls' runtimes.
    fn begin(listener: Listening<Gateway>, on: &[Handle]) -> anyhow::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let farewell = listener.farewell.clone();
        let others = on.iter().skip(1).map(|_| listener.another());
        let mut listeners = others.collect::<Result<Vec<_>, _>>()?;
        listeners.push(listener);
        let mut accepting = JoinSet::new();
        for (listener, runtime) in listeners.into_iter().zip(on) {
            accepting.spawn_on(listener.serve(stopped.clone()), runtime);
        }
        let task = tokio::spawn(async move {
            while let Some(ended) = accepting.join_next().await {
                // What is left would serve, and nobody would hear that a thread is missing.
                if ended.is_err() {
                    accepting.abort_all();
                }
            }
        });
        Ok(Self {
            stop,
            task,
            farewell,
        })
    }
}

/// What came of a hand-over.
pub(super) enum Handed {
    /// The successor is gone, and nothing has changed.
    NotTaken,
    /// The successor serves.
    Over(Handing),
    /// The successor got the stores and is gone: this process opens them again.
    Back(Predecessor),
}

impl Life {
    /// Begins to serve, with calls on `workers`. Only where the runtime has been entered of what goes
    /// on beside them.
    ///
    /// # Errors
    /// If something cannot be started.
    pub(super) fn begin(
        settings: &Settings,
        wired: Wired,
        sockets: &Sockets,
        predecessor: Option<Predecessor>,
        levels: &Arc<Levels>,
        workers: &Workers,
    ) -> anyhow::Result<Self> {
        let predecessor = predecessor
            .map(|from| from.attend(&wired.embedded, &wired.switch, &wired.gateway))
            .transpose()?;
        let ready = Arc::new(Ready::of(&wired.embedded, wired.fleet.as_ref()));
        let retention = Arc::new(Retention::of(settings, &wired)?);
        let purger = retention.watch()?;
        let watchers = watch_files(&wired)?;
        let webhook = wiring::webhook(settings)?;
        let onward = onward::start(settings, &wired)?;
        let spans = traces::start(wired.spans.take()?)?;
        let listener = wiring::listener(&wired, sockets)?;
        let addresses = listener.addresses.clone();
        let (stop_admin, admin_stopped) = watch::channel(false);
        let asked = Arc::clone(&retention);
        let listens = sockets.admin()?;
        let said = Arc::clone(levels);
        let admin = admin::start(
            settings,
            &wired,
            &ready,
            asked,
            said,
            listens,
            admin_stopped,
        )?;
        let calls = addresses.first().copied();
        let calls = calls.context("there is no address to listen on")?;
        wired.data.announce(admin.address)?;
        if let Some(predecessor) = &predecessor {
            predecessor.serving();
        }
        let accepting = Accepting::begin(listener, workers.handles())?;
        let mut probe = Probe::start(wired.gateway.pressure.clone(), workers.handles())?;
        let lag = Watcher::every(lag::INTERVAL, "lag", move || probe.look())?;
        let levels = Arc::clone(levels);
        let levels = Watcher::every(LEVELS, "log-level", move || levels.look(clock::now()))?;
        let notices = tokio::spawn(tollgate_proxy::notices::watch(
            Arc::clone(&wired.gateway),
            Arc::clone(&wired.notices),
            webhook,
        ));
        ready.serving();
        Ok(Self {
            addresses: (calls, admin.address),
            accepting,
            ready,
            retention,
            purger: Some(purger),
            watchers: watchers.into_iter().chain([lag, levels]).collect(),
            admin: Some(admin),
            stop_admin,
            onward,
            spans,
            notices,
            predecessor,
            wired,
        })
    }

    /// What accepts its connections.
    pub(super) const fn accepting(&self) -> &JoinHandle<()> {
        &self.accepting.task
    }

    /// Why it cannot be taken over now, if it cannot.
    pub(super) fn reason_not_to(&self) -> Option<&'static str> {
        if self.wired.fleet.is_some() {
            return Some("it belongs to a fleet, whose replicas are restarted one after the other");
        }
        if self.predecessor_is_under_way() {
            return Some("its own predecessor has calls under way");
        }
        (!self.wired.embedded.healthy()).then_some("its ledger cannot be written")
    }

    /// Whether a predecessor is still making calls.
    pub(super) fn predecessor_is_under_way(&self) -> bool {
        let predecessor = self.predecessor.as_ref();
        predecessor.is_some_and(Attended::is_under_way)
    }

    /// Says that it is not ready any more, to whoever asks and to whoever calls.
    pub(super) fn unready(&self) {
        self.ready.draining();
        self.accepting.farewell.say();
    }

    /// Accepts no connection any more.
    pub(super) fn stop_accepting(&self) {
        self.accepting.stop.send_replace(true);
    }

    /// Lets a successor have everything but the calls under way.
    pub(super) async fn hand_over(&mut self, successor: Successor) -> Handed {
        info!("a successor takes over");
        self.accepting.farewell.say();
        tokio::time::sleep(FAREWELL).await;
        if !successor.is_there() {
            warn!("the successor is gone; this gateway goes on");
            self.accepting.farewell.unsay();
            return Handed::NotTaken;
        }
        self.stop_accepting();
        self.stop_admin.send_replace(true);
        self.retention.stop();
        for running in &self.onward {
            running.stop();
        }
        self.decided().await;
        self.notices.abort();
        tokio::task::block_in_place(|| self.let_go(successor))
    }

    /// Returns once every call that has begun to arrive is admitted or refused, within bounds.
    async fn decided(&self) {
        let tracker = &self.wired.gateway.tracker;
        let decided = async {
            // What is accepted before the last of them ends is counted from then on.
            while !self.accepting.task.is_finished() || tracker.arriving() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(ADMISSION, decided).await.is_err() {
            let calls = tracker.arriving();
            warn!(calls, "calls that are still arriving are refused");
        }
    }

    fn let_go(&mut self, successor: Successor) -> Handed {
        if let Some(admin) = &self.admin
            && !admin.ends_within(ADMIN)
        {
            warn!("what is being asked of the admin API will not be recorded to its end");
        }
        self.purger = None;
        let Wired {
            switch, embedded, ..
        } = &self.wired;
        let told = switch.turn_away();
        let rates = embedded.rates.taken();
        if let Err(error) = embedded.hand_over() {
            error!(%error, "what is not flushed is left to the successor");
        }
        match successor.release(&rates, told, switch) {
            Ok(handing) => Handed::Over(handing),
            Err((error, told)) => {
                warn!(%error, "the successor did not come to serve; this gateway goes on");
                self.watchers.clear();
                let switch = Arc::clone(switch);
                Handed::Back(Predecessor::earlier_life(told, switch, rates))
            }
        }
    }

    /// Returns once nothing comes of its calls any more; whoever listens hears no more then.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let (tracker, switch) = (self.gateway().tracker.clone(), self.wired.switch.clone());
        async move {
            tracker.wait_idle().await;
            while tracker.connections() > 0 {
                tokio::time::sleep(LOOK).await;
            }
            tracker.wait_idle().await;
            switch.end();
        }
    }

    /// Ends what goes on beside calls, before the last of them are cut.
    pub(super) fn wind_down(&mut self) {
        self.retention.stop();
        self.notices.abort();
        self.watchers.clear();
        self.purger = None;
    }

    /// Ends a gateway that has handed over: its successor hears of the rest. All calls have ended.
    pub(super) fn end_handed(self, handing: Option<Handing>) {
        self.wired.switch.end();
        if let Some(handing) = handing {
            handing.finish();
        }
        onward::finish(self.onward.into_iter().chain(self.spans).collect());
    }

    /// Brings a gateway to rest that has not: everything kept so far is on the disk when this
    /// returns. All calls have ended.
    ///
    /// # Errors
    /// If the journal could not be shipped.
    pub(super) fn rest(self) -> anyhow::Result<()> {
        if let Some(predecessor) = self.predecessor {
            predecessor.finish();
        }
        self.wired.data.withdraw(self.addresses.1);
        self.stop_admin.send_replace(true);
        if let Some(admin) = self.admin {
            admin.join();
        }
        let rested = rest(self.wired);
        // It takes along what the stores have sealed just now.
        onward::finish(self.onward.into_iter().chain(self.spans).collect());
        rested
    }

    /// The calls.
    pub(super) const fn gateway(&self) -> &Arc<Gateway> {
        &self.wired.gateway
    }
}

/// Takes what changes in the files of policies and prices, from now on.
fn watch_files(wired: &Wired) -> anyhow::Result<[Watcher; 2]> {
    let reloads = figures::Reloads::of_policies(&wired.registry)?;
    let mut permissions = wired.permissions.take()?;
    let fleet = wired.fleet.as_ref().map(Arc::downgrade);
    show_policy(fleet.as_ref(), &wired.gateway);
    let policies = reload::spawn(wired.watched.take()?, reload::INTERVAL, {
        let gateway = Arc::clone(&wired.gateway);
        move |reloaded| {
            let applied = reloads.apply(&gateway, &mut permissions, reloaded);
            show_policy(fleet.as_ref(), &gateway);
            applied
        }
    })?;
    let mut priced = wired.priced.take()?;
    let price_reloads = figures::Reloads::of_prices(&wired.registry)?;
    let prices = reload::Watcher::every(reload::INTERVAL, "price-watch", {
        let gateway = Arc::clone(&wired.gateway);
        move || {
            if let Some(read) = priced.look() {
                price_reloads.apply_prices(&gateway, read);
            }
        }
    })?;
    Ok([policies, prices])
}

/// Lets the fleet know which policy is in force here.
fn show_policy(fleet: Option<&Weak<Fleet>>, gateway: &Gateway) {
    if let Some(fleet) = fleet.and_then(Weak::upgrade) {
        fleet.show_policy(&gateway.live.snapshot().policy.version);
    }
}

/// Brings the stores to rest: everything kept so far is on the disk when this returns.
fn rest(wired: Wired) -> anyhow::Result<()> {
    let Wired {
        embedded, fleet, ..
    } = wired;
    // What is held of caps and not used goes back to the others at once.
    if let Some(fleet) = fleet {
        match Arc::into_inner(fleet) {
            Some(fleet) => fleet.leave(),
            None => warn!("the fleet is still in use; what is held counts as spent"),
        }
    }
    let closed = match Arc::into_inner(embedded) {
        Some(embedded) => Embedded::close(embedded),
        None => bail!("the stores are still in use"),
    };
    closed
        .inspect_err(|error| error!(%error, "records are left to the next start"))
        .context("the journal could not be shipped; nothing is lost, the next start takes it over")
}
