//! Watches the policies directory and brings a changed policy into force.
//!
//! A change counts once two looks in a row see the same state, so a file that is still being
//! written is not mistaken for a whole one; a new policy is in force within two intervals. Files
//! with mistakes change nothing: the last good policy stays, loudly. Polls instead of asking the
//! kernel for events, because these do not arrive on every volume that containers mount.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use tollgate_core::policy::{self, Mistake, Policy};
use tracing::{error, info};

use crate::config::files::{self, Fingerprint};

/// How often the directory is looked at.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// What came of a change.
#[derive(Debug)]
pub(crate) enum Reloaded {
    /// A new policy, to be put in force.
    Adopted(Arc<Policy>),
    /// The files hold mistakes; the policy in force stays.
    Kept(Vec<Mistake>),
}

/// A policies directory, and the last state of it that was read.
#[derive(Debug)]
pub(crate) struct Watched {
    dir: PathBuf,
    seen: State,
    candidate: Option<State>,
    /// Version of the policy in force, and whether the files still say so.
    version: String,
    in_step: bool,
}

type State = Result<Fingerprint, Mistake>;

impl Watched {
    /// Reads the first policy.
    ///
    /// # Errors
    /// Every mistake in the files.
    pub(crate) fn open(dir: &Path) -> Result<(Arc<Policy>, Self), Vec<Mistake>> {
        let files = files::read(dir)?;
        let policy = policy::parse(&files.policy)?;
        let watched = Self {
            dir: dir.to_owned(),
            seen: Ok(files.fingerprint),
            candidate: None,
            version: policy.version.clone(),
            in_step: true,
        };
        Ok((Arc::new(policy), watched))
    }

    /// Looks at the directory once. `Some` if there was a change and it has settled.
    pub(crate) fn look(&mut self) -> Option<Reloaded> {
        let state = files::fingerprint(&self.dir);
        if state == self.seen {
            self.candidate = None;
            return None;
        }
        if self.candidate.as_ref() != Some(&state) {
            self.candidate = Some(state);
            return None;
        }
        let files = files::read(&self.dir);
        if let (Ok(settled), Ok(files)) = (&state, &files)
            && *settled != files.fingerprint
        {
            self.candidate = Some(Ok(files.fingerprint.clone()));
            return None;
        }
        self.candidate = None;
        self.seen = state;
        let read = files.and_then(|files| policy::parse(&files.policy));
        match read {
            Ok(policy) if self.in_step && policy.version == self.version => None,
            Ok(policy) => {
                self.in_step = true;
                self.version.clone_from(&policy.version);
                Some(Reloaded::Adopted(Arc::new(policy)))
            }
            Err(mistakes) => {
                self.in_step = false;
                Some(Reloaded::Kept(mistakes))
            }
        }
    }
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watcher {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Looks at the directory at every `interval` on a thread of its own, logs each change and hands
/// it to `changed`, which puts it in force and counts it. What cannot be put in force is handed
/// back, and tried again at the next look unless there is something newer.
///
/// # Errors
/// If the thread cannot be started.
pub(crate) fn spawn(
    mut watched: Watched,
    interval: Duration,
    mut changed: impl FnMut(Reloaded) -> Result<(), Reloaded> + Send + 'static,
) -> io::Result<Watcher> {
    let mut waiting = None;
    Watcher::every(interval, "policy-watch", move || {
        let next = watched.look();
        if let Some(reloaded) = &next {
            log(reloaded);
        }
        if let Some(reloaded) = next.or_else(|| waiting.take()) {
            waiting = changed(reloaded).err();
        }
    })
}

impl Watcher {
    /// Looks at every `interval`, on a thread of that name.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn every(
        interval: Duration,
        name: &str,
        mut look: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    look();
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

fn log(reloaded: &Reloaded) {
    match reloaded {
        Reloaded::Adopted(policy) => info!(
            version = %policy.version,
            providers = policy.providers.len(),
            tenants = policy.tenants.len(),
            "policy read anew"
        ),
        Reloaded::Kept(mistakes) => {
            let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
            error!(
                count = mistakes.len(),
                mistakes = %lines.join("\n"),
                "policy files hold mistakes; the last good policy stays in force"
            );
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already; there is nothing left to stop.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
