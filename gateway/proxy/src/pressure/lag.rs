//! Measures how long what is ready waits for a thread: a byte goes the way that calls' bytes go.
//!
//! The probe writes a byte to one end of a pair of sockets and a task of the calls' runtime reads
//! it at the other: through the same poll, into the same queues. A timer would not do, since what
//! a timer wakes goes ahead of the queue. Knows nothing of calls. Worst case: a measurement stands
//! in for all that is ready within one interval.

use std::io::Write as _;
use std::os::unix::net::UnixStream as Blocking;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::pressure::Pressure;

/// Time between two looks.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// Looks between two times that what came fades.
const FADE: u32 = 10;

/// Looks between two measurements while hardly anything is under way.
const SELDOM: u32 = 100;

/// Calls in flight from which each look measures.
const BUSY: usize = 64;

/// Nothing is on its way.
const ARRIVED: u64 = u64::MAX;

/// Where the way of the byte begins.
#[derive(Debug)]
pub struct Probe {
    pressure: Pressure,
    start: Instant,
    here: Blocking,
    way: Arc<Way>,
    looks: u32,
}

#[derive(Debug)]
struct Way {
    /// When the byte left, in microseconds since the start, or [`ARRIVED`].
    sent_at: AtomicU64,
    /// How long the last one took.
    took: AtomicU64,
}

impl Probe {
    /// Lays the way through the runtime that this is called in.
    ///
    /// # Errors
    /// If there are no sockets for it.
    pub fn start(pressure: Pressure) -> std::io::Result<Self> {
        let (here, there) = Blocking::pair()?;
        there.set_nonblocking(true)?;
        here.set_nonblocking(true)?;
        let mut there = UnixStream::from_std(there)?;
        let way = Arc::new(Way {
            sent_at: AtomicU64::new(ARRIVED),
            took: AtomicU64::new(0),
        });
        let start = Instant::now();
        tokio::spawn({
            let way = Arc::clone(&way);
            async move {
                let mut byte = [0];
                while matches!(there.read(&mut byte).await, Ok(1)) {
                    let sent_at = way.sent_at.load(Ordering::Acquire);
                    let took = micros(start.elapsed()).saturating_sub(sent_at);
                    way.took.store(took, Ordering::Relaxed);
                    way.sent_at.store(ARRIVED, Ordering::Release);
                }
            }
        });
        Ok(Self {
            pressure,
            start,
            here,
            way,
            looks: 0,
        })
    }

    /// Tells how long the last byte took, or has taken so far, and sends the next. To be called
    /// at every [`INTERVAL`], from a thread that the calls do not share.
    pub fn look(&mut self) {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(FADE) {
            self.pressure.fade();
        }
        let now = micros(self.start.elapsed());
        let sent_at = self.way.sent_at.load(Ordering::Acquire);
        if sent_at != ARRIVED {
            let so_far = Duration::from_micros(now.saturating_sub(sent_at));
            self.pressure.lags(so_far.max(self.pressure.lag()));
            return;
        }
        let took = self.way.took.load(Ordering::Relaxed);
        self.pressure.lags(Duration::from_micros(took));
        if self.pressure.in_flight() >= BUSY || self.looks.is_multiple_of(SELDOM) {
            self.way.sent_at.store(now, Ordering::Release);
            // One byte at a time always has room; were it lost, the lag would be seen to grow.
            let _sent = self.here.write(&[0]);
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX - 1)
}
