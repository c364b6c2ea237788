//! Keeps what a codec and its user tell each other from waking the task that polls both.
//!
//! The codec and the reader of its answer wake each other whenever one has something for the other.
//! Both are polled in one go here, so that such a wake is answered by polling on; to pass it to the
//! task would give that another turn, in which there is nothing to do. What comes from outside
//! wakes the task.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Rounds in one go, after which other tasks have their turn.
const MOST_ROUNDS: usize = 16;

/// The task behind a connection, and whether it is being polled.
#[derive(Debug)]
pub(super) struct Gate {
    inner: Arc<Inner>,
    /// Of `inner`, made once.
    waker: Waker,
}

#[derive(Debug)]
struct Inner {
    task: Mutex<Waker>,
    polling: AtomicBool,
    woken: AtomicBool,
}

impl Default for Gate {
    fn default() -> Self {
        let inner = Arc::new(Inner {
            task: Mutex::new(Waker::noop().clone()),
            polling: AtomicBool::new(false),
            woken: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&inner));
        Self { inner, waker }
    }
}

impl Gate {
    /// Polls until there is something, or nothing happens any more.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut polls: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let inner = &*self.inner;
        inner.task().clone_from(cx.waker());
        let mut inside = Context::from_waker(&self.waker);
        for _ in 0..MOST_ROUNDS {
            inner.woken.store(false, Ordering::Relaxed);
            inner.polling.store(true, Ordering::SeqCst);
            let polled = polls(&mut inside);
            // In this order, so that a wake in between either finds nobody polling or is found.
            inner.polling.store(false, Ordering::SeqCst);
            if polled.is_ready() || !inner.woken.load(Ordering::SeqCst) {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Inner {
    fn task(&self) -> MutexGuard<'_, Waker> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.task().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_from_inside_polls_on_and_one_from_outside_wakes_the_task() {
        let (gate, task) = (Gate::default(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        let (mut polls, mut kept) = (0, None);
        let polled = gate.poll(&mut cx, |cx| {
            polls += 1;
            if polls < 3 {
                cx.waker().wake_by_ref();
            }
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((polls, task.0.load(Ordering::Relaxed)), (3, 0));
        kept.expect("polled").wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert_eq!(gate.poll(&mut cx, |_| Poll::Ready(7)), Poll::Ready(7));
    }
}
