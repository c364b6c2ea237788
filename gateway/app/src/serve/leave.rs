//! When to stop: signals, a listener that ended, or the end of a leash.
//!
//! A leash is standard input held open by the process that started this one: when that process is
//! gone, however it went, the input ends, and nothing is left behind.

use std::io::Read;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The reason when nobody asked the gateway to stop.
pub(super) const LISTENER_ENDED: &str = "listener ended";

/// The reason when whoever runs the gateway ends it in order.
pub(super) const SIGTERM: &str = "SIGTERM";

/// The wishes to stop that may come.
pub(super) struct Leave {
    terminate: Signal,
    interrupt: Signal,
    leash: mpsc::Receiver<()>,
    /// Kept so that the channel stays open where there is no leash.
    _held: mpsc::Sender<()>,
}

impl Leave {
    /// Listens for SIGTERM and SIGINT from now on, and for the end of standard input if leashed.
    ///
    /// # Errors
    /// If a signal cannot be listened for.
    pub(super) fn on_signals(leashed: bool) -> std::io::Result<Self> {
        let (held, leash) = mpsc::channel(1);
        if leashed {
            let cut = held.clone();
            std::thread::Builder::new()
                .name("leash".to_owned())
                .spawn(move || {
                    let mut ignored = [0; 64];
                    while matches!(std::io::stdin().read(&mut ignored), Ok(1..)) {}
                    // Nobody listens any more once the gateway is ending anyway.
                    let _unheard = cut.blocking_send(());
                })?;
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            leash,
            _held: held,
        })
    }

    /// Returns with the reason once the gateway is to stop.
    pub(super) async fn wanted(&mut self, accepting: &JoinHandle<()>) -> &'static str {
        let ended = async {
            while !accepting.is_finished() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            _received = self.terminate.recv() => SIGTERM,
            _received = self.interrupt.recv() => "SIGINT",
            _cut = self.leash.recv() => "the process that started it is gone",
            () = ended => LISTENER_ENDED,
        }
    }

    /// Returns after that time, or once somebody asks again.
    pub(super) async fn unready(&mut self, bound: Duration) {
        let _either = tokio::time::timeout(bound, self.hurried()).await;
    }

    /// Returns once somebody asks a second time.
    pub(super) async fn hurried(&mut self) {
        tokio::select! {
            _received = self.terminate.recv() => {}
            _received = self.interrupt.recv() => {}
        }
    }
}

/// Most calls in flight at one time if no setting says otherwise: at some 50 KiB each, 0.8 GB.
const MOST_CALLS: u64 = 16_384;

/// How many calls there are files for: each takes a connection to its upstream and may come over
/// one of its own, and a quarter is left for everything else.
pub(super) fn room_for_calls() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let calls = (files / 8 * 3).clamp(1, MOST_CALLS);
    usize::try_from(calls).unwrap_or(usize::MAX)
}

/// Lets the process have as many files open as the system allows it: every connection is two.
pub(super) fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Where it is not allowed, the limit stays and connections beyond it wait.
    let _unchanged = setrlimit(Resource::Nofile, raised);
}
