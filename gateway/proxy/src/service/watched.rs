//! Runs the tasks of HTTP/2 streams, and ends one whose client has stopped reading.
//!
//! HTTP/2 lets a client stall one stream while the connection is fine, so no write ever fails.
//! A task that has something to give, but neither gives more nor waits for the upstream, is
//! stalled. Worst case: the stall is noticed one write deadline after the last byte went out.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep};

use crate::body::{Progress, take_progress};

/// Spawns tasks that end when their client stalls them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    write_deadline: Duration,
}

impl Watched {
    pub(super) const fn new(write_deadline: Duration) -> Self {
        Self { write_deadline }
    }
}

impl<F> Executor<F> for Watched
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        tokio::spawn(StreamTask {
            task: Box::pin(task),
            write_deadline: self.write_deadline,
            giving: false,
            timer: None,
        });
    }
}

struct StreamTask<F> {
    task: Pin<Box<F>>,
    write_deadline: Duration,
    giving: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        take_progress();
        if me.task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match take_progress() {
            Progress::Waited => {
                me.giving = false;
                return Poll::Pending;
            }
            Progress::Gave => {
                me.giving = true;
                if let Some(timer) = &mut me.timer {
                    timer.as_mut().reset(Instant::now() + me.write_deadline);
                }
            }
            Progress::None => {}
        }
        if !me.giving {
            return Poll::Pending;
        }
        let deadline = me.write_deadline;
        let timer = me.timer.get_or_insert_with(|| Box::pin(sleep(deadline)));
        timer.as_mut().poll(cx)
    }
}
