//! Whoever had the stores before and is still making calls: another process, or an earlier life of
//! this one whose successor did not come to serve.
//!
//! Hears how its calls end, and tells it of revocations. Worst case: it ends without a word; what
//! it has left open is settled as `interrupted`.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use tollgate_core::registry::Revocation;
use tollgate_proxy::gateway::Gateway;
use tollgate_stores::embedded::{Embedded, Inherited, RatesTaken, Switch, Told};
use tracing::{info, warn};

use super::frame::{receive, send};
use super::{FromNew, FromOld};
use crate::clock;

/// A predecessor that has let go.
pub(in crate::serve) struct Predecessor {
    rates: RatesTaken,
    from: From,
}

enum From {
    Process(UnixStream),
    EarlierLife {
        told: Receiver<Told>,
        switch: Arc<Switch>,
    },
}

/// A predecessor that is listened to.
pub(in crate::serve) struct Attended {
    from: Option<UnixStream>,
    hearing: JoinHandle<()>,
}

impl Predecessor {
    /// Another process, at the other end of `stream`.
    pub(super) const fn behind(stream: UnixStream, rates: RatesTaken) -> Self {
        Self {
            rates,
            from: From::Process(stream),
        }
    }

    /// This process, which tells what becomes of its calls here.
    pub(in crate::serve) const fn earlier_life(
        told: Receiver<Told>,
        switch: Arc<Switch>,
        rates: RatesTaken,
    ) -> Self {
        Self {
            rates,
            from: From::EarlierLife { told, switch },
        }
    }

    /// Goes on with its rates, and listens to it from now on.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(in crate::serve) fn attend(
        self,
        stores: &Embedded,
        switch: &Switch,
        gateway: &Arc<Gateway>,
    ) -> anyhow::Result<Attended> {
        stores.rates.put(self.rates);
        let inherited = Inherited::new(stores.ledgers(), stores.inherited());
        info!(calls = inherited.len(), "calls of the predecessor are open");
        let (revoke, revoked) = channel();
        switch.tell_revocations(revoke);
        let (mut next, from): (Box<dyn FnMut() -> Option<Told> + Send>, _) = match self.from {
            From::Process(stream) => {
                let reading = stream.try_clone()?;
                spawn("revocations", {
                    let writing = stream.try_clone()?;
                    move || tell(&writing, &revoked)
                })?;
                (Box::new(move || hear(&reading)), Some(stream))
            }
            From::EarlierLife { told, switch } => {
                spawn("revocations", move || {
                    revoked.iter().for_each(|what| switch.show_revoked(&what));
                })?;
                (Box::new(move || told.recv().ok()), None)
            }
        };
        let gateway: Weak<Gateway> = Arc::downgrade(gateway);
        let hearing = spawn("predecessor", move || {
            while let Some(told) = next() {
                if let Some((counters, cost)) = inherited.hear(told)
                    && let Some(gateway) = gateway.upgrade()
                {
                    gateway.caps.settled(counters, cost);
                }
            }
            let calls = inherited.interrupt(clock::now());
            if calls > 0 {
                warn!(
                    calls,
                    "the predecessor has left calls open; settled at what was reserved"
                );
            }
            info!("the predecessor has ended");
        })?;
        Ok(Attended { from, hearing })
    }
}

impl Attended {
    /// Tells it that calls are taken here. One that is gone is not waited for: whoever has the
    /// directory's lock serves, and what the other had open is settled.
    pub(in crate::serve) fn serving(&self) {
        if let Some(stream) = &self.from
            && let Err(error) = send(stream, &FromNew::Serving)
        {
            warn!(%error, "the predecessor is gone");
        }
    }

    /// Whether it has calls under way.
    pub(in crate::serve) fn is_under_way(&self) -> bool {
        !self.hearing.is_finished()
    }

    /// Listens no longer: what is still open is settled at what was reserved.
    pub(in crate::serve) fn finish(self) {
        if let Some(stream) = &self.from {
            // One that is gone is not listened to anyway.
            let _gone = stream.shutdown(std::net::Shutdown::Both);
        }
        if self.hearing.join().is_err() {
            warn!("what listens to the predecessor ended in a panic");
        }
    }
}

fn hear(stream: &UnixStream) -> Option<Told> {
    match receive(stream) {
        Ok(FromOld::Told(told)) => Some(*told),
        Ok(FromOld::Bye) => None,
        Ok(other) => {
            warn!(
                ?other,
                "the predecessor says what is not to be said any more"
            );
            None
        }
        Err(error) => {
            warn!(%error, "the predecessor is gone without a farewell");
            None
        }
    }
}

fn tell(stream: &UnixStream, revoked: &Receiver<Revocation>) {
    for what in revoked {
        if send(stream, &FromNew::Revoked(what)).is_err() {
            // It is gone, and its streams are.
            return;
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
}
