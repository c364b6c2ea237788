//! Calls that become due at a fixed rate, whatever becomes of the answers.
//!
//! Latency counts from when a call was due, not from when a connection was free for it, so a target
//! that falls behind is not spared. The kernel's timer wakes the load at every due time; the runtime's
//! own timers are a millisecond coarse.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::Semaphore;

use super::client::{self, Aim, Line, Tally};
use crate::stamp;

/// Rates beyond this are not kept by one load.
const MOST_PER_SECOND: f64 = 200_000.0;

/// Calls that are due and not yet taken by a caller.
#[derive(Debug)]
struct Due {
    since: RefCell<VecDeque<u64>>,
    ready: Semaphore,
}

/// Makes calls at `per_second` on `connections` connections for `time`, and waits for their answers.
pub(super) async fn load(
    aim: &Aim,
    connections: usize,
    per_second: f64,
    time: Duration,
    tally: &Rc<Tally>,
) -> anyhow::Result<()> {
    let ticks = Ticks::new(per_second)?;
    let due = Due {
        since: RefCell::default(),
        ready: Semaphore::new(0),
    };
    let callers = client::all((0..connections).map(|_| caller(aim, &due, tally)));
    future::try_join(ticks.announce(time, &due), callers).await?;
    Ok(())
}

async fn caller(aim: &Aim, due: &Due, tally: &Tally) -> anyhow::Result<()> {
    let mut line = Line::connect(aim.addr).await?;
    loop {
        // Closed means that no more calls become due; those that wait are still made.
        if let Ok(permit) = due.ready.acquire().await {
            permit.forget();
        }
        let Some(start) = due.since.borrow_mut().pop_front() else {
            return Ok(());
        };
        let seen = line.call(aim).await?;
        tally.count(start, &seen);
    }
}

/// The kernel's timer, and how often it strikes.
struct Ticks {
    /// Read like a pipe: eight bytes whenever it has struck.
    timer: pipe::Receiver,
    interval: Duration,
}

impl Ticks {
    fn new(per_second: f64) -> anyhow::Result<Self> {
        ensure!(
            per_second > 0.0 && per_second <= MOST_PER_SECOND,
            "{per_second} calls a second are not to be had"
        );
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            timer: pipe::Receiver::from_owned_fd_unchecked(timer)?,
            interval: Duration::from_secs_f64(per_second.recip()),
        })
    }

    /// Says of each call that it is due when it is.
    async fn announce(mut self, time: Duration, due: &Due) -> anyhow::Result<()> {
        let every = Timespec {
            tv_sec: i64::try_from(self.interval.as_secs())?,
            tv_nsec: self.interval.subsec_nanos().into(),
        };
        let spec = Itimerspec {
            it_interval: every,
            it_value: every,
        };
        let start = stamp::micros();
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        let mut struck: u32 = 0;
        let mut of_time = Duration::ZERO;
        while of_time < time {
            for _ in 0..self.strikes().await? {
                struck += 1;
                of_time = self.interval * struck;
                let at = start + u64::try_from(of_time.as_micros())?;
                due.since.borrow_mut().push_back(at);
                due.ready.add_permits(1);
            }
        }
        due.ready.close();
        Ok(())
    }

    /// How often it has struck since it was last asked; waits for the first.
    async fn strikes(&mut self) -> anyhow::Result<u64> {
        let mut count = [0; 8];
        let read = self.timer.read_exact(&mut count).await;
        read.context("reading the timer")?;
        Ok(u64::from_ne_bytes(count))
    }
}
