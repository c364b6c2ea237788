//! Makes the calls: on some threads, each with its own connections, in an open or a closed loop.
//!
//! In an open loop calls come at their own pace. One that finds no free connection waits, and its wait is
//! part of its latency, which counts from when it was due; one that still waits at the end counts too,
//! with what it had waited. Connections are opened when there is need for them, up to their bound.
//!
//! Worst case: calls that wait are kept in memory, some 32 bytes each.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;

use super::line::{self, Line};
use super::mix::Mix;
use super::outcome::{Failure, Seen};
use super::pace::Pace;
use super::tally::{Stamp, Tally};
use super::target::Target;
use super::timer::Timer;

/// How long calls may go on when the run is interrupted.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// A closed loop tries no faster than this to reach a target that is not there.
const RECONNECT: Duration = Duration::from_millis(50);
/// After so many calls that were due at once, answers are looked at.
const BURST: u64 = 64;

/// What all threads do together.
pub(super) struct Job {
    pub(super) target: Arc<Target>,
    pub(super) mix: Arc<Mix>,
    /// Calls a second; none in a closed loop.
    pub(super) rate: Option<f64>,
    /// The seed of calls that come at random.
    pub(super) poisson: Option<u64>,
    pub(super) threads: usize,
    pub(super) connections: usize,
    /// When what is measured starts and ends.
    pub(super) from: Instant,
    pub(super) until: Instant,
    /// When the warm-up starts.
    pub(super) start: Instant,
    pub(super) most_calls: u64,
    pub(super) timeout: Duration,
    /// Length of the stretches over time.
    pub(super) bin: Duration,
    /// The number of the first call.
    pub(super) first: u64,
    /// Calls of a closed loop so far.
    pub(super) made: AtomicU64,
}

/// When the run was interrupted, if it was.
pub(super) type Stop = watch::Receiver<Option<Instant>>;

/// A call that is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    number: u64,
    at: Instant,
}

/// What the calls of one thread share.
struct Floor {
    job: Arc<Job>,
    most_lines: usize,
    idle: RefCell<Vec<Line>>,
    /// Connections that are idle, in use or being opened.
    lines: Cell<usize>,
    waiting: RefCell<VecDeque<Due>>,
    busy: Cell<usize>,
    quiet: Notify,
    has_ended: Cell<bool>,
    tally: RefCell<Tally>,
}

/// The calls of one thread, from beginning to end.
///
/// # Errors
/// If the thread has no runtime or timer.
pub(super) fn thread(job: &Arc<Job>, number: usize, stop: Stop) -> io::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let share = |of: usize| of / job.threads + usize::from(number < of % job.threads);
    let floor = Rc::new(Floor {
        job: Arc::clone(job),
        most_lines: share(job.connections),
        idle: RefCell::default(),
        lines: Cell::new(0),
        waiting: RefCell::default(),
        busy: Cell::new(0),
        quiet: Notify::new(),
        has_ended: Cell::new(false),
        tally: RefCell::new(Tally::new(job.bin)),
    });
    let local = LocalSet::new();
    local.block_on(&runtime, floor.run(number as u64, stop))?;
    // Calls that were given up end here, before their sums are taken.
    drop(local);
    Ok(floor.tally.replace(Tally::new(job.bin)))
}

impl Floor {
    async fn run(self: &Rc<Self>, thread: u64, mut stop: Stop) -> io::Result<()> {
        tokio::select! {
            offered = self.offer(thread) => offered?,
            () = stopped(&mut stop) => {}
        }
        self.has_ended.set(true);
        self.give_up_waiting();
        let impatient = async {
            stopped(&mut stop).await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        // Each call has its own deadline, so that this ends.
        tokio::select! {
            () = self.all_left() => {}
            () = impatient => {}
        }
        self.tally.borrow_mut().cut = self.busy.get() as u64;
        Ok(())
    }

    async fn offer(self: &Rc<Self>, thread: u64) -> io::Result<()> {
        match self.job.rate {
            Some(rate) => self.open_loop(rate, thread).await,
            None => {
                self.closed_loop().await;
                Ok(())
            }
        }
    }

    async fn open_loop(self: &Rc<Self>, rate: f64, thread: u64) -> io::Result<()> {
        let job = &self.job;
        let timer = Timer::new()?;
        let threads = job.threads as u64;
        let pace = match job.poisson {
            Some(seed) => Pace::poisson(rate, thread, threads, seed),
            None => Pace::even(rate, thread, threads),
        };
        let mut at_once = 0;
        for (number, offset) in pace {
            let Some(at) = job.start.checked_add(offset).filter(|at| *at < job.until) else {
                break;
            };
            if number >= job.most_calls {
                break;
            }
            if at > Instant::now() {
                timer.until(at).await?;
                at_once = 0;
            } else if at_once == BURST {
                tokio::task::yield_now().await;
                at_once = 0;
            }
            at_once += 1;
            if at >= job.from {
                self.tally.borrow_mut().own_delay.record(at.elapsed());
            }
            self.launch(Due {
                number: job.first + number,
                at,
            });
        }
        let is_bounded = job.most_calls < u64::MAX;
        tokio::select! {
            // Calls may still wait for a connection, and have until the end to get one.
            () = self.all_left(), if is_bounded => Ok(()),
            ended = timer.until(job.until) => ended,
        }
    }

    /// Sends the call on a connection that is free, or on a new one; otherwise it waits.
    fn launch(self: &Rc<Self>, due: Due) {
        let idle = self.idle.borrow_mut().pop();
        if idle.is_none() {
            if self.lines.get() >= self.most_lines {
                self.tally.borrow_mut().waited += u64::from(due.at >= self.job.from);
                self.waiting.borrow_mut().push_back(due);
                return;
            }
            self.lines.set(self.lines.get() + 1);
        }
        self.busy.set(self.busy.get() + 1);
        tokio::task::spawn_local(Rc::clone(self).serve(due, idle));
    }

    /// Makes the call and, on the same connection, those that wait.
    async fn serve(self: Rc<Self>, mut due: Due, mut line: Option<Line>) {
        loop {
            (line, _) = self.call(due, line).await;
            let next = self.waiting.borrow_mut().pop_front();
            match next {
                Some(next) => due = next,
                None => break,
            }
        }
        match line {
            Some(line) => self.idle.borrow_mut().push(line),
            None => self.lines.set(self.lines.get() - 1),
        }
        self.left();
    }

    async fn closed_loop(self: &Rc<Self>) {
        // Threads begin together, and not before what is measured may begin.
        tokio::time::sleep_until(self.job.start.into()).await;
        self.busy.set(self.most_lines);
        for _ in 0..self.most_lines {
            tokio::task::spawn_local(Rc::clone(self).caller());
        }
        tokio::select! {
            () = self.all_left() => {}
            () = tokio::time::sleep_until(self.job.until.into()) => {}
        }
    }

    async fn caller(self: Rc<Self>) {
        let mut line = None;
        while !self.has_ended.get() && Instant::now() < self.job.until {
            let number = self.job.made.fetch_add(1, Ordering::Relaxed);
            if number >= self.job.most_calls {
                break;
            }
            let due = Due {
                number: self.job.first + number,
                at: Instant::now(),
            };
            let failure;
            (line, failure) = self.call(due, line).await;
            if failure == Some(Failure::Connect) {
                tokio::time::sleep(RECONNECT).await;
            }
        }
        self.left();
    }

    /// Returns once no call is under way.
    async fn all_left(&self) {
        while self.busy.get() > 0 {
            self.quiet.notified().await;
        }
    }

    fn left(&self) {
        self.busy.set(self.busy.get() - 1);
        if self.busy.get() == 0 {
            self.quiet.notify_one();
        }
    }

    /// Makes one call. Returns the connection if it is still good, and why the call failed if it did.
    async fn call(&self, due: Due, line: Option<Line>) -> (Option<Line>, Option<Failure>) {
        let job = &self.job;
        let call = job.mix.pick(due.number);
        let calling = line::call(&job.target, &job.mix, &call, due.at, line);
        let ended = tokio::time::timeout(job.timeout, calling).await;
        let (mut seen, line, opened) = ended.unwrap_or_else(|_elapsed| {
            let (failure, whole) = (Some(Failure::Timeout), due.at.elapsed());
            (
                Seen {
                    failure,
                    whole,
                    ..Seen::default()
                },
                None,
                0,
            )
        });
        seen.streamed = call.streamed;
        let mut tally = self.tally.borrow_mut();
        tally.opened += opened;
        tally.record(&seen, call.key, self.stamp(due));
        (line, seen.failure)
    }

    fn stamp(&self, due: Due) -> Stamp {
        let job = &self.job;
        let now = Instant::now();
        Stamp {
            due: due.at.checked_duration_since(job.from),
            ended: now.checked_duration_since(job.from),
            in_time: now <= job.until,
        }
    }

    /// What waits is never sent, and counts with what it has waited.
    fn give_up_waiting(&self) {
        let waiting = self.waiting.take();
        for due in waiting {
            let call = self.job.mix.pick(due.number);
            let seen = Seen {
                streamed: call.streamed,
                failure: Some(Failure::Unsent),
                whole: due.at.elapsed(),
                ..Seen::default()
            };
            let stamp = self.stamp(due);
            // Over time it is a failure of the second in which nobody took it up.
            let stamp = Stamp {
                ended: stamp.due,
                ..stamp
            };
            self.tally.borrow_mut().record(&seen, call.key, stamp);
        }
    }
}

async fn stopped(stop: &mut Stop) {
    if stop.wait_for(Option::is_some).await.is_err() {
        // Nobody can interrupt any more.
        std::future::pending::<()>().await;
    }
}
