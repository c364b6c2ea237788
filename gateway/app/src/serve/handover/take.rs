//! The new one's side, up to the moment at which the directory is its own.
//!
//! Whatever can be wrong with its files and settings has been found before it says a word. Worst
//! case: an old one that takes `take` and never lets go; then this one gives up, and the old one
//! finds it gone and goes on.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tracing::info;

use super::frame::{receive, receive_with, send};
use super::{FromNew, FromOld, Hello, Predecessor, Sockets, VERSION, path};
use crate::config::Settings;

/// How long the old one may take for its first answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long it may take to let go: its farewell, its barrier, a flush to a slow disk.
const RELEASE: Duration = Duration::from_secs(60);

/// Takes over from the gateway that runs on the data directory; `None` if none does. Blocks until
/// the directory is free.
///
/// # Errors
/// If that gateway refuses, or goes in the middle; or if an address cannot be used that it has not
/// got.
pub(in crate::serve) fn take(
    settings: &Settings,
) -> anyhow::Result<Option<(Sockets, Predecessor)>> {
    let path = path(&settings.data_dir);
    let stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            info!("no gateway runs on the data directory that could hand it over");
            return Ok(None);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be reached", path.display()));
        }
    };
    stream.set_read_timeout(Some(ANSWER))?;
    let hello = Hello { handover: VERSION };
    let asked = send(&stream, &hello).and_then(|()| receive_with(&stream));
    let (offer, handed) = asked.context("the running gateway does not answer")?;
    let (calls, admin) = match offer {
        FromOld::Offer { calls, admin } => (calls, admin),
        FromOld::Refused(reason) => bail!("the running gateway goes on: {reason}"),
        other => bail!("the running gateway says {other:?} where it should offer its sockets"),
    };
    let mut handed: Vec<TcpListener> = handed.into_iter().map(TcpListener::from).collect();
    if handed.len() != calls.len() + 1 {
        bail!("the running gateway has not sent its sockets");
    }
    let last = handed.pop().context("the admin socket is missing")?;
    info!(?calls, %admin, "the running gateway hands over");
    let inherited = Sockets {
        calls: handed,
        admin: last,
    };
    let sockets = Sockets::bind(settings, Some(inherited))?;
    stream.set_read_timeout(Some(RELEASE))?;
    let taken = send(&stream, &FromNew::Take).and_then(|()| receive(&stream));
    let rates = match taken.context("the running gateway did not let go")? {
        FromOld::Released(rates) => *rates,
        FromOld::Refused(reason) => bail!("the running gateway goes on: {reason}"),
        other => bail!("the running gateway says {other:?} where it should let go"),
    };
    stream.set_read_timeout(None)?;
    Ok(Some((sockets, Predecessor::behind(stream, rates))))
}
