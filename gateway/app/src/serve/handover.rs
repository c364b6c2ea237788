//! A new binary takes over from the one that runs: listeners, then stores, and no call fails.
//!
//! ```text
//! new  load all but the stores   hello ─► take ─►           open stores ─► serving    revocations ─►
//! old  serve                     ─► offer (sockets) … farewell, barrier ─► released    ◄─ endings … bye
//! ```
//! They talk over a Unix socket in the data directory, which only its owner can reach, in frames of
//! JSON; each message has its moment, and anything else ends the talk. Until `take` nothing has
//! changed. Until `released` the old one goes on as if nothing had been asked. From `released` on
//! the new one has the stores; should it go before it is `serving`, the old one opens them again.
//! Worst case: either is killed later; then its calls end as `interrupted`, as after any crash.

mod frame;
mod give;
mod predecessor;
mod take;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tollgate_admin::server::AdminListener;
use tollgate_core::registry::Revocation;
use tollgate_proxy::listener::bind;
use tollgate_stores::embedded::{RatesTaken, Told};

use crate::config::Settings;

pub(super) use give::{Handing, Successor, Successors};
pub(super) use predecessor::{Attended, Predecessor};
pub(super) use take::take;

/// What both have to speak. A change to any message, or to what a journal or database of the old
/// one means to the new one, is another version.
const VERSION: u32 = 1;

/// Where a running gateway can be asked.
fn path(data: &Path) -> PathBuf {
    data.join("handover.sock")
}

/// The first message of all, which every version can read.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    handover: u32,
}

/// What the old one says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromOld {
    /// It goes on by itself, for this reason.
    Refused(String),
    /// These sockets come with the message, in this order: those of calls, that of the admin API.
    Offer {
        calls: Vec<SocketAddr>,
        admin: SocketAddr,
    },
    /// The directory is free.
    Released(Box<RatesTaken>),
    /// Something has come of a call that it is making.
    Told(Box<Told>),
    /// It makes none any more.
    Bye,
}

/// What the new one says, after its hello.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromNew {
    /// It has all that it needs but the stores.
    Take,
    /// It has opened the stores and takes calls.
    Serving,
    /// Open streams of this have to end.
    Revoked(Revocation),
}

/// The listening sockets of a gateway. Clients wait in them while nobody accepts.
#[derive(Debug)]
pub(super) struct Sockets {
    calls: Vec<TcpListener>,
    admin: TcpListener,
}

impl Sockets {
    /// Binds whatever `inherited` does not hold; what of it is not wanted any more is closed.
    ///
    /// # Errors
    /// If an address cannot be used.
    pub(super) fn bind(settings: &Settings, inherited: Option<Self>) -> anyhow::Result<Self> {
        let (mut calls, admin) = match inherited {
            Some(Self { calls, admin }) => (calls, Some(admin)),
            None => (Vec::new(), None),
        };
        let mut wanted = Vec::new();
        for &address in &settings.listen {
            let held = calls.iter().position(|held| serves(held, address));
            wanted.push(match held {
                Some(place) => calls.remove(place),
                None => bind(address)?,
            });
        }
        let address = settings.admin_listen;
        let admin = match admin.filter(|held| serves(held, address)) {
            Some(held) => held,
            None => TcpListener::bind(address)
                .with_context(|| format!("{address} cannot be listened on (admin)"))?,
        };
        Ok(Self {
            calls: wanted,
            admin,
        })
    }

    /// Handles of those that calls come in by.
    ///
    /// # Errors
    /// If there are no file descriptors for them.
    pub(super) fn calls(&self) -> std::io::Result<Vec<TcpListener>> {
        self.calls.iter().map(TcpListener::try_clone).collect()
    }

    /// The admin listener.
    ///
    /// # Errors
    /// As [`calls`](Self::calls).
    pub(super) fn admin(&self) -> std::io::Result<AdminListener> {
        AdminListener::on(self.admin.try_clone()?)
    }
}

/// Whether a socket is what an address asks for. Port 0 asks for any.
fn serves(held: &TcpListener, wanted: SocketAddr) -> bool {
    held.local_addr().is_ok_and(|address| {
        address.ip() == wanted.ip() && (wanted.port() == 0 || address.port() == wanted.port())
    })
}
