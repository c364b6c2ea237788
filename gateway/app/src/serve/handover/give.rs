//! The old one's side: who may ask, what is offered, and what becomes of its calls afterwards.
//!
//! Only processes of the same user are listened to. Worst case: a successor that is gone once the
//! calls are its own; nobody could end a revoked stream then, so the rest is cut, and a restart
//! records it as `interrupted`.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tollgate_stores::embedded::{RatesTaken, Switch, Told};
use tracing::{error, info, warn};

use super::frame::{MOST_SOCKETS, is_open, receive, send, send_with};
use super::{FromNew, FromOld, Hello, Sockets, VERSION, path};

/// How long a successor may take for each of its first messages: it has loaded everything before.
const TALK: Duration = Duration::from_secs(5);

/// How long it may take to open the stores and serve.
const OPEN: Duration = Duration::from_secs(60);

/// The place where successors ask.
pub(in crate::serve) struct Successors(UnixListener);

/// One that has everything it needs but the stores.
pub(in crate::serve) struct Successor(UnixStream);

/// A successor that serves, and is told what becomes of the calls that are left.
pub(in crate::serve) struct Handing {
    stream: UnixStream,
    telling: JoinHandle<()>,
    lost: watch::Receiver<bool>,
}

impl Successors {
    /// Opens the place. Whoever had it before is not asked any more.
    ///
    /// # Errors
    /// If there can be no socket, for instance because its path is longer than 107 bytes.
    pub(in crate::serve) fn listen(data: &Path) -> io::Result<Self> {
        let path = path(data);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self(listener))
    }

    /// The next successor that is ready to take over. Whoever is not is sent away, with a reason;
    /// all of them are while there is a `reason_not_to`.
    pub(in crate::serve) async fn next(
        &self,
        sockets: &Sockets,
        reason_not_to: impl Fn() -> Option<&'static str>,
    ) -> Successor {
        loop {
            let asked = self.asked(sockets, &reason_not_to).await;
            match asked {
                Ok(Some(successor)) => return successor,
                Ok(None) => {}
                Err(error) => warn!(%error, "a hand-over that was asked for did not begin"),
            }
        }
    }

    async fn asked(
        &self,
        sockets: &Sockets,
        reason_not_to: impl Fn() -> Option<&'static str>,
    ) -> io::Result<Option<Successor>> {
        let (stream, _) = self.0.accept().await?;
        let reason_not_to = reason_not_to();
        let theirs = stream.peer_cred()?.uid();
        if theirs != rustix::process::geteuid().as_raw() {
            warn!(uid = theirs, "somebody else has asked for a hand-over");
            return Ok(None);
        }
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(TALK))?;
        stream.set_write_timeout(Some(TALK))?;
        let offered = Sockets {
            calls: sockets.calls()?,
            admin: sockets.admin.try_clone()?,
        };
        let talk = move || talk(stream, &offered, reason_not_to);
        tokio::task::spawn_blocking(talk)
            .await
            .map_err(io::Error::other)?
    }
}

fn talk(
    stream: UnixStream,
    sockets: &Sockets,
    reason_not_to: Option<&'static str>,
) -> io::Result<Option<Successor>> {
    let refuse = |reason: String| -> io::Result<Option<Successor>> {
        warn!(reason, "a hand-over is refused");
        send(&stream, &FromOld::Refused(reason))?;
        Ok(None)
    };
    let Hello { handover } = receive(&stream)?;
    if handover != VERSION {
        return refuse(format!(
            "it speaks version {VERSION} of the hand-over and not {handover}; restart it instead"
        ));
    }
    if let Some(reason) = reason_not_to {
        return refuse(reason.to_owned());
    }
    if sockets.calls.len() >= MOST_SOCKETS {
        return refuse("it listens on too many addresses".to_owned());
    }
    let calls = sockets.calls.iter().map(std::net::TcpListener::local_addr);
    let offer = FromOld::Offer {
        calls: calls.collect::<io::Result<_>>()?,
        admin: sockets.admin.local_addr()?,
    };
    let all = sockets.calls.iter().chain([&sockets.admin]);
    let all: Vec<BorrowedFd<'_>> = all.map(AsFd::as_fd).collect();
    send_with(&stream, &offer, &all)?;
    match receive(&stream)? {
        FromNew::Take => Ok(Some(Successor(stream))),
        other => Err(io::Error::other(format!("{other:?} before it has taken"))),
    }
}

impl Successor {
    /// Whether it is still there.
    pub(in crate::serve) fn is_there(&self) -> bool {
        is_open(&self.0)
    }

    /// Tells it that the stores are its own, waits until it serves, and tells it from then on what
    /// becomes of the calls that are left. Blocks.
    ///
    /// # Errors
    /// If it does not come to serve. It has no part in anything then, and what was told is handed
    /// back.
    pub(in crate::serve) fn release(
        self,
        rates: &RatesTaken,
        told: Receiver<Told>,
        switch: &Arc<Switch>,
    ) -> Result<Handing, (io::Error, Receiver<Told>)> {
        let stream = self.0;
        let serves = send(&stream, &FromOld::Released(Box::new(rates.clone())))
            .and_then(|()| stream.set_read_timeout(Some(OPEN)))
            .and_then(|()| until_it_serves(&stream, switch))
            .and_then(|()| stream.set_read_timeout(None))
            .and_then(|()| stream.set_write_timeout(Some(OPEN)));
        let streams = serves.and_then(|()| Ok((stream.try_clone()?, stream.try_clone()?)));
        let (reading, writing) = match streams {
            Ok(streams) => streams,
            Err(error) => {
                // Should it be alive after all, it must not take itself for the successor.
                let _gone = stream.shutdown(Shutdown::Both);
                return Err((error, told));
            }
        };
        let (lose, lost) = watch::channel(false);
        let switch = Arc::clone(switch);
        // Ends with the stream.
        std::thread::spawn(move || {
            while let Ok(FromNew::Revoked(what)) = receive(&reading) {
                switch.show_revoked(&what);
            }
            lose.send_replace(true);
        });
        let telling = std::thread::spawn(move || tell_all(&writing, &told));
        info!("the successor serves");
        Ok(Handing {
            stream,
            telling,
            lost,
        })
    }
}

/// It may serve before it says so, and end a stream meanwhile.
fn until_it_serves(stream: &UnixStream, switch: &Switch) -> io::Result<()> {
    loop {
        match receive(stream)? {
            FromNew::Serving => return Ok(()),
            FromNew::Revoked(what) => switch.show_revoked(&what),
            FromNew::Take => return Err(io::Error::other("it takes what it has taken")),
        }
    }
}

impl Handing {
    /// Returns once the successor is gone.
    pub(in crate::serve) async fn lost(&self) {
        let mut lost = self.lost.clone();
        drop(lost.wait_for(|lost| *lost).await);
    }

    /// Tells the rest. Whoever tells must have ended before.
    pub(in crate::serve) fn finish(self) {
        if self.telling.join().is_err() {
            error!("what tells the successor ended in a panic");
        }
        // A successor that is gone hears no more.
        let _gone = self.stream.shutdown(Shutdown::Both);
    }
}

fn tell_all(stream: &UnixStream, told: &Receiver<Told>) {
    let mut untold = 0_u64;
    for told in told {
        if untold > 0 || send(stream, &FromOld::Told(Box::new(told))).is_err() {
            untold += 1;
        }
    }
    if untold > 0 {
        error!(
            untold,
            "the successor was not told; these calls end as interrupted"
        );
    } else if let Err(error) = send(stream, &FromOld::Bye) {
        warn!(%error, "the successor is gone");
    }
}
