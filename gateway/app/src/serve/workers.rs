//! The threads that make calls. Each has a runtime of its own, and a connection stays on the thread
//! that accepted it, with the connections to upstreams that its calls use: no piece of an answer
//! wakes another thread.
//!
//! Decides how many there are and how they end; what they run is not known here. Worst case: many
//! busy connections come to one thread while others have little to do. Whoever is free first accepts,
//! so that this takes connections that become busy long after they were opened.

use std::io;
use std::num::NonZero;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The threads, until they are told to end.
pub(super) struct Workers {
    handles: Vec<Handle>,
    /// Dropping one ends its thread.
    going: Vec<oneshot::Sender<()>>,
    /// Says nothing; is closed once the last thread has ended.
    ended: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts so `many`, or one for each processor that this process may use.
    ///
    /// # Errors
    /// If there is no thread to be had, or nothing to wait for sockets with.
    pub(super) fn start(many: Option<usize>) -> io::Result<Self> {
        let processors = || thread::available_parallelism().map_or(1, NonZero::get);
        let (alive, ended) = mpsc::channel();
        let mut workers = Self {
            handles: Vec::new(),
            going: Vec::new(),
            ended,
        };
        for number in 0..many.unwrap_or_else(processors) {
            workers.add(number, alive.clone())?;
        }
        Ok(workers)
    }

    fn add(&mut self, number: usize, alive: mpsc::Sender<()>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (going, gone) = oneshot::channel();
        self.handles.push(runtime.handle().clone());
        self.going.push(going);
        let run = move || {
            // Nothing is ever sent: the end of the channel is what is waited for.
            let _ended = runtime.block_on(gone);
            // Look-ups of names may hang, and nobody waits for them.
            runtime.shutdown_background();
            drop(alive);
        };
        thread::Builder::new()
            .name(format!("tollgate-call-{number}"))
            .spawn(run)?;
        Ok(())
    }

    /// What runs on each of them.
    pub(super) fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Drops everything that runs, and returns once that is done, or the time is over.
    pub(super) fn end(self, within: Duration) {
        drop(self.going);
        // Nobody sends: it is either closed or out of time, and then what hangs is left behind.
        let _either = self.ended.recv_timeout(within);
    }
}
