//! Passes an upstream's answer on to the client, past a tap, and sees it through to its end.
//!
//! When the client goes away, the rest of the answer is still read within bounds, so that the tap
//! sees the usage that the provider reports last. The tap is told exactly once how it ended, also
//! when the task is dropped. Trailers of the upstream are dropped: no tap sees them. Worst case:
//! the bounds of the drain are reached before the usage comes, and the tap settles an estimate.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::body::AnswerCut;
use crate::engine::EngineConfig;
use crate::pool::UpstreamBody;
use crate::tracker::Tracker;

/// Time between two ticks of a tap.
const TICK: Duration = Duration::from_secs(1);

/// What a tap makes of one piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tapped {
    /// These bytes go to the client; none, if it is to see nothing of the piece yet.
    Pass(Bytes),
    /// The answer ends here, with an error the client can see.
    Cut,
}

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayEnd {
    /// The last byte has been handed on.
    Complete,
    /// The client went away first. The tap has seen what came within the drain's bounds.
    ClientGone,
    /// The upstream broke off.
    UpstreamFailed,
    /// The upstream sent nothing for too long.
    Idle,
    /// The tap cut it.
    Cut,
}

/// Watches and edits an answer on its way.
pub trait Tap: Send + 'static {
    /// One piece of the answer.
    fn frame(&mut self, bytes: Bytes) -> Tapped;
    /// The upstream is done: what has been held back, if anything.
    fn flush(&mut self) -> Option<Bytes>;
    /// Once a second while the answer streams; false cuts it.
    fn tick(&mut self) -> bool;
    /// The end, exactly once.
    fn end(self: Box<Self>, how: RelayEnd);
}

/// An answer under way.
pub struct Relay {
    flow: Option<Flow>,
    last: Option<Bytes>,
    /// Why it ends early, once that is settled and the client is about to see it.
    cut: Option<AnswerCut>,
    tracker: Tracker,
}

struct Flow {
    answer: UpstreamBody,
    tap: TapGuard,
    limits: Limits,
    timer: Option<Pin<Box<Sleep>>>,
    ticked: Instant,
    heard: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    idle: Duration,
    drain_deadline: Duration,
    drain_bytes: u64,
}

/// Owes its tap an end.
struct TapGuard(Option<Box<dyn Tap>>);

impl TapGuard {
    fn end(mut self, how: RelayEnd) {
        if let Some(tap) = self.0.take() {
            tap.end(how);
        }
    }

    fn frame(&mut self, bytes: Bytes) -> Tapped {
        self.0.as_mut().map_or(Tapped::Cut, |tap| tap.frame(bytes))
    }

    fn flush(&mut self) -> Option<Bytes> {
        let held_back = self.0.as_mut().and_then(|tap| tap.flush());
        held_back.filter(|bytes| !bytes.is_empty())
    }

    fn tick(&mut self) -> bool {
        self.0.as_mut().is_some_and(|tap| tap.tick())
    }
}

impl Drop for TapGuard {
    fn drop(&mut self) {
        if let Some(tap) = self.0.take() {
            tap.end(RelayEnd::ClientGone);
        }
    }
}

/// What the upstream has for us.
enum Heard {
    Bytes(Bytes),
    Done,
    Broken,
}

impl Relay {
    /// Relays `answer`, whose head is handed on `now`, past `tap`.
    #[must_use]
    pub fn new(
        answer: UpstreamBody,
        tap: Box<dyn Tap>,
        tracker: Tracker,
        config: &EngineConfig,
        now: Instant,
    ) -> Self {
        Self {
            flow: Some(Flow {
                answer,
                tap: TapGuard(Some(tap)),
                limits: Limits {
                    idle: config.answer_idle,
                    drain_deadline: config.drain_deadline,
                    drain_bytes: config.drain_bytes,
                },
                timer: None,
                ticked: now,
                heard: now,
            }),
            last: None,
            cut: None,
            tracker,
        }
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.flow.is_none() && self.last.is_none() && self.cut.is_none()
    }

    /// The upstream is done: only what the tap has held back is left.
    fn complete(&mut self) {
        if let Some(mut flow) = self.flow.take() {
            self.last = flow.tap.flush();
            flow.release(RelayEnd::Complete);
        }
    }

    /// Ends early. The client sees it at the next look: a codec throws away what it has not written
    /// when an answer fails, and writes it when there is nothing more for now.
    fn cut(
        &mut self,
        how: RelayEnd,
        cut: AnswerCut,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Bytes, AnswerCut>>> {
        if let Some(flow) = self.flow.take() {
            flow.abandon(how);
        }
        self.cut = Some(cut);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, AnswerCut>>> {
        loop {
            let Some(flow) = &mut self.flow else {
                let last = self.last.take().map(Ok);
                return Poll::Ready(last.or_else(|| self.cut.take().map(Err)));
            };
            match flow.poll_hear(cx) {
                Poll::Pending => match flow.poll_timer(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(RelayEnd::Idle) => {
                        return self.cut(RelayEnd::Idle, AnswerCut::Idle, cx);
                    }
                    Poll::Ready(_) => return self.cut(RelayEnd::Cut, AnswerCut::Cut, cx),
                },
                Poll::Ready(Heard::Broken) => {
                    return self.cut(RelayEnd::UpstreamFailed, AnswerCut::UpstreamFailed, cx);
                }
                Poll::Ready(Heard::Done) => self.complete(),
                Poll::Ready(Heard::Bytes(bytes)) => {
                    let Tapped::Pass(bytes) = flow.pass(bytes) else {
                        return self.cut(RelayEnd::Cut, AnswerCut::Cut, cx);
                    };
                    // A codec that knows the length does not ask again after the last byte.
                    if flow.answer.is_end_stream() {
                        self.complete();
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }
}

impl Flow {
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        loop {
            return match Pin::new(&mut self.answer).poll_frame(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(None) => Poll::Ready(Heard::Done),
                Poll::Ready(Some(Err(_))) => Poll::Ready(Heard::Broken),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => Poll::Ready(Heard::Bytes(bytes)),
                    Err(_trailers) => continue,
                },
            };
        }
    }

    /// Hands a piece to the tap; ticks it too, because a busy stream never waits for its timer.
    fn pass(&mut self, bytes: Bytes) -> Tapped {
        let now = Instant::now();
        self.heard = now;
        if now.duration_since(self.ticked) >= TICK {
            self.ticked = now;
            if !self.tap.tick() {
                return Tapped::Cut;
            }
        }
        self.tap.frame(bytes)
    }

    /// Ready with the reason to end the answer while nothing comes.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(TICK)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            timer.as_mut().reset(now + TICK);
            if now.duration_since(self.heard) >= self.limits.idle {
                return Poll::Ready(RelayEnd::Idle);
            }
            self.ticked = now;
            if !self.tap.tick() {
                return Poll::Ready(RelayEnd::Cut);
            }
        }
    }

    /// Reads on without a client, within bounds.
    async fn drain(mut self) {
        let deadline = Instant::now() + self.limits.drain_deadline;
        let mut left_bytes = self.limits.drain_bytes;
        loop {
            let heard = std::future::poll_fn(|cx| self.poll_hear(cx));
            match timeout_at(deadline, heard).await {
                Ok(Heard::Done) => {
                    let _unseen = self.tap.flush();
                    return self.release(RelayEnd::ClientGone);
                }
                Ok(Heard::Broken) | Err(_) => return self.abandon(RelayEnd::ClientGone),
                Ok(Heard::Bytes(bytes)) => {
                    let Some(left) = left_bytes.checked_sub(bytes.len() as u64) else {
                        return self.abandon(RelayEnd::ClientGone);
                    };
                    left_bytes = left;
                    if self.pass(bytes) == Tapped::Cut {
                        return self.abandon(RelayEnd::Cut);
                    }
                }
            }
        }
    }

    /// The answer has been read whole: its connection is free again.
    fn release(self, how: RelayEnd) {
        self.answer.finish();
        self.tap.end(how);
    }

    /// The rest of the answer is of no use: its connection or stream is closed.
    fn abandon(self, how: RelayEnd) {
        drop(self.answer);
        self.tap.end(how);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // An answer without a body is never asked for a piece of it.
        if self
            .flow
            .as_ref()
            .is_some_and(|flow| flow.answer.is_end_stream())
        {
            self.complete();
        }
        if let Some(flow) = self.flow.take() {
            let counted = self.tracker.enter();
            self.tracker.detach(async move {
                flow.drain().await;
                drop(counted);
            });
        }
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}
