//! `tollgate quickstart`: the whole product in a directory that is gone afterwards.
//!
//! Two tenants, their vaults, a mock provider in this process and a real gateway as a child of
//! it. Everything it prints comes from calls that were made; the keys are made up. Touches no
//! file of the operator's and listens on loopback only. However this process ends, the gateway
//! ends too: it is leashed to this one's life. Killed outright, it leaves its directory behind.

mod client;
mod scene;
mod stage;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_loadtest::mock::Mock;

use crate::output;
use stage::Stage;

/// Plays the demonstration; then stays until Ctrl-C, unless it is to end `once` that is done.
///
/// # Errors
/// If something cannot be started, or a call ends otherwise than it should.
pub(crate) fn run(once: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let interrupt = Interrupt::watch(&runtime)?;
    let mock = runtime.block_on(Mock::start(([127, 0, 0, 1], 0).into()));
    let mock = mock.context("the mock provider cannot listen")?;
    let stage = Stage::set(mock.addr())?;
    let played = scene::play(&stage, &mock, &runtime, &interrupt);
    if interrupt.came() {
        return leave(stage);
    }
    played?;
    if !once {
        output::data("\nStays up for you to try. Ctrl-C ends it and leaves nothing behind.\n")?;
        interrupt.wait();
    }
    leave(stage)
}

fn leave(stage: Stage) -> anyhow::Result<()> {
    output::say("\nEnding.");
    stage.strike()
}

/// Whether somebody wants this to end: SIGINT (Ctrl-C), SIGTERM or SIGHUP.
struct Interrupt {
    came: Arc<AtomicBool>,
    comes: Mutex<mpsc::Receiver<()>>,
}

impl Interrupt {
    fn watch(runtime: &tokio::runtime::Runtime) -> anyhow::Result<Self> {
        let _context = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let came = Arc::new(AtomicBool::new(false));
        let (tell, comes) = mpsc::channel();
        let noted = Arc::clone(&came);
        runtime.spawn(async move {
            tokio::select! {
                _received = interrupt.recv() => {}
                _received = terminate.recv() => {}
                _received = hang_up.recv() => {}
            }
            noted.store(true, Ordering::Release);
            // Nobody waits while the demonstration still plays; it looks at the flag.
            let _unheard = tell.send(());
        });
        Ok(Self {
            came,
            comes: Mutex::new(comes),
        })
    }

    fn came(&self) -> bool {
        self.came.load(Ordering::Acquire)
    }

    fn wait(&self) {
        let comes = self.comes.lock().unwrap_or_else(PoisonError::into_inner);
        // A sender that is gone will never tell: then there is nothing to wait for.
        let _told_or_gone = comes.recv();
    }
}
