//! Measures how long what is ready waits for a thread: bytes go the way that calls' bytes go.
//!
//! The probe writes a byte to one end of a pair of sockets and a task of the calls' runtime reads
//! it at the other: through the same poll, into the same queues. A timer would not do, since what
//! a timer wakes goes ahead of the queue. There are several pairs, so that a new figure comes every
//! few milliseconds also while each byte takes a hundred, and every thread has its turn. Knows
//! nothing of calls. Worst case: a figure is as old as the lag it tells of.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::net::UnixStream as Blocking;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use crate::pressure::Pressure;

/// Time between two looks.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// Pairs of sockets: a new figure for each look while the lag is not above so many of them.
const PAIRS: usize = 8;

/// Looks between two times that what came fades.
const FADE: u32 = 10;

/// Looks between two measurements while hardly anything is under way.
const SELDOM: u32 = 100;

/// Calls in flight from which each look measures.
const BUSY: usize = 64;

/// No byte is on its way.
const ARRIVED: u64 = u64::MAX;

/// Where the ways of the bytes begin.
#[derive(Debug)]
pub struct Probe {
    pressure: Pressure,
    start: Instant,
    /// The one to be tried first is at the front.
    ways: VecDeque<(Blocking, Arc<Way>)>,
    looks: u32,
}

#[derive(Debug)]
struct Way {
    /// When the byte left, in microseconds since the start, or [`ARRIVED`].
    sent_at: AtomicU64,
    /// When the last one arrived, and how long it took.
    arrived_at: AtomicU64,
    took: AtomicU64,
}

impl Probe {
    /// Lays the ways through these runtimes, one or more through each.
    ///
    /// # Errors
    /// If there are no sockets for them.
    pub fn start(pressure: Pressure, through: &[Handle]) -> std::io::Result<Self> {
        let start = Instant::now();
        let ways = through.iter().cycle().take(PAIRS.max(through.len()));
        let ways = ways.map(|runtime| lay(start, runtime));
        let ways = ways.collect::<Result<_, _>>()?;
        Ok(Self {
            pressure,
            start,
            ways,
            looks: 0,
        })
    }

    /// Tells how long the last byte took, or an older one has taken so far, and sends the next. To
    /// be called at every [`INTERVAL`], from a thread that the calls do not share.
    pub fn look(&mut self) {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(FADE) {
            self.pressure.fade();
        }
        let now = micros(self.start.elapsed());
        let (mut latest, mut lag, mut waits) = (0, 0, 0);
        for (_, way) in &self.ways {
            let sent_at = way.sent_at.load(Ordering::Acquire);
            if sent_at != ARRIVED {
                waits = waits.max(now.saturating_sub(sent_at));
            }
            let arrived_at = way.arrived_at.load(Ordering::Relaxed);
            if arrived_at > latest {
                latest = arrived_at;
                lag = way.took.load(Ordering::Relaxed);
            }
        }
        self.pressure.lags(Duration::from_micros(lag.max(waits)));
        if self.pressure.in_flight() >= BUSY || self.looks.is_multiple_of(SELDOM) {
            self.send(now);
        }
    }

    /// Sends a byte on a way that is free, if one is.
    fn send(&mut self, now: u64) {
        let free = |(_, way): &(_, Arc<Way>)| way.sent_at.load(Ordering::Acquire) == ARRIVED;
        let Some(place) = self.ways.iter().position(free) else {
            return;
        };
        self.ways.rotate_left(place + 1);
        if let Some((here, way)) = self.ways.back_mut() {
            way.sent_at.store(now, Ordering::Release);
            // One byte at a time always has room; were it lost, the lag would be seen to grow.
            let _sent = here.write(&[0]);
        }
    }
}

fn lay(start: Instant, runtime: &Handle) -> std::io::Result<(Blocking, Arc<Way>)> {
    let (here, there) = Blocking::pair()?;
    there.set_nonblocking(true)?;
    here.set_nonblocking(true)?;
    let _registers_there = runtime.enter();
    let mut there = UnixStream::from_std(there)?;
    let way = Arc::new(Way {
        sent_at: AtomicU64::new(ARRIVED),
        arrived_at: AtomicU64::new(0),
        took: AtomicU64::new(0),
    });
    runtime.spawn({
        let way = Arc::clone(&way);
        async move {
            let mut byte = [0];
            while matches!(there.read(&mut byte).await, Ok(1)) {
                let now = micros(start.elapsed());
                let took = now.saturating_sub(way.sent_at.load(Ordering::Acquire));
                way.took.store(took, Ordering::Relaxed);
                way.arrived_at.store(now, Ordering::Relaxed);
                way.sent_at.store(ARRIVED, Ordering::Release);
            }
        }
    });
    Ok((here, way))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX - 1)
}
