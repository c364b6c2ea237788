//! One HTTP/1 connection between requests and inside them, as its guard sees it.
//!
//! Decides what the codec gets to read: released bytes, the request for a refusal, or nothing. A
//! head has its deadline from its first byte, a connection without a request its own. Knows nothing
//! of sockets. Worst case: a client idles for twice the time it may.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep};

use crate::engine::EngineConfig;
use crate::guard::{BodyFault, Fault, Guard, HeadFault, REFUSE_REQUEST};
use crate::tracker::{Requests, UnderWay};

/// What the guard of a connection tells the service on it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    refused: Mutex<Option<HeadFault>>,
    mid_message: AtomicBool,
    requests: Requests,
}

impl Verdict {
    /// Why the connection takes no more requests, if the guard refused a head.
    pub(crate) fn refused(&self) -> Option<HeadFault> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the body of the request under way has not arrived whole.
    pub(crate) fn mid_message(&self) -> bool {
        self.mid_message.load(Ordering::Acquire)
    }

    /// Counts a request until its answer has been sent: a connection does not idle meanwhile.
    pub(crate) fn enter(&self) -> UnderWay {
        self.requests.enter()
    }

    fn refuse(&self, fault: HeadFault) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

#[derive(Debug)]
pub(super) struct Guarded {
    guard: Guard,
    verdict: Arc<Verdict>,
    pub(super) stopped: Option<Stopped>,
    head_deadline: Duration,
    head_timer: Option<Pin<Box<Sleep>>>,
    client_idle: Duration,
    idle_timer: Option<Pin<Box<Sleep>>>,
    /// Nothing was under way when that timer was set, and nothing has come since.
    quiet: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Stopped {
    /// The codec is given the request that asks the service for the refusal.
    Refusing,
    Refused,
    Broken(BodyFault),
}

impl Guarded {
    pub(super) fn new(verdict: Arc<Verdict>, config: &EngineConfig) -> Self {
        Self {
            guard: Guard::new(config.max_head_bytes, config.max_target_bytes),
            verdict,
            stopped: None,
            head_deadline: config.head_deadline,
            head_timer: None,
            client_idle: config.client_idle,
            idle_timer: None,
            quiet: false,
        }
    }

    /// Whether the client may still be sending what nobody will read.
    pub(super) fn is_unread(&self) -> bool {
        self.stopped.is_some() || self.guard.mid_message()
    }

    /// The client has sent something.
    pub(super) const fn hears(&mut self) {
        self.quiet = false;
    }

    fn stop(&mut self, fault: Fault) {
        self.head_timer = None;
        self.stopped = Some(match fault {
            Fault::Head(fault) => {
                self.verdict.refuse(fault);
                Stopped::Refusing
            }
            Fault::Body(fault) => Stopped::Broken(fault),
        });
    }

    pub(super) fn release(&mut self, bytes: &[u8], room: usize) -> usize {
        match self.guard.release(bytes, room) {
            Ok(0) => 0,
            Ok(released) => {
                self.head_timer = None;
                self.verdict
                    .mid_message
                    .store(self.guard.mid_message(), Ordering::Release);
                released
            }
            Err(fault) => {
                self.stop(fault);
                0
            }
        }
    }

    /// What the codec reads once the guard has stopped.
    pub(super) fn after_stop(
        &mut self,
        stopped: Stopped,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match stopped {
            Stopped::Refusing => {
                self.stopped = Some(Stopped::Refused);
                // A codec without room for it reads the end of the stream instead.
                if buf.remaining() >= REFUSE_REQUEST.len() {
                    buf.put_slice(REFUSE_REQUEST);
                }
                Poll::Ready(Ok(()))
            }
            // The answer to that request closes the connection; until then there is nothing to
            // read, and saying so would pass for a hang-up.
            Stopped::Refused => Poll::Pending,
            Stopped::Broken(fault) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)))
            }
        }
    }

    /// The rest of a head is awaited: refuses it once that has lasted for the head deadline.
    pub(super) fn await_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.guard.mid_message() {
            return Poll::Pending;
        }
        let deadline = self.head_deadline;
        let timer = self
            .head_timer
            .get_or_insert_with(|| Box::pin(sleep(deadline)));
        ready!(timer.as_mut().poll(cx));
        self.stop(Fault::Head(HeadFault::TooSlow));
        Poll::Ready(())
    }

    /// The next request is awaited: returns once there has been none for as long as a client may
    /// be idle, and less than twice that. A head that has begun has a deadline of its own, and an
    /// answer no other than its upstream's.
    pub(super) fn await_request(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.client_idle;
        let is_busy = || self.guard.mid_message() || self.verdict.requests.under_way();
        let timer = self.idle_timer.get_or_insert_with(|| {
            self.quiet = !is_busy();
            Box::pin(sleep(idle))
        });
        loop {
            ready!(timer.as_mut().poll(cx));
            let quiet = !is_busy();
            if self.quiet && quiet {
                return Poll::Ready(());
            }
            // To set the timer for every request would cost each of them something. Nobody tells
            // when an answer has been sent either, so that one wait is followed by another.
            timer.as_mut().reset(Instant::now() + idle);
            self.quiet = quiet;
        }
    }
}
