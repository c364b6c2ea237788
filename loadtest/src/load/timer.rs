//! Waits until a moment, to some microseconds.
//!
//! The runtime's own timer counts in milliseconds, which is more than a fast target takes for an
//! answer; the kernel's (`timerfd_create(2)`) is as fine as its clock.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// A timer of the kernel.
#[derive(Debug)]
pub(super) struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// Makes one, inside a runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe to call, for descriptors that change; an owned one does not"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        AsyncFd::new(timer).map(Self)
    }

    /// Returns at that moment, or at once if it has passed.
    pub(super) async fn until(&self, moment: Instant) -> io::Result<()> {
        let rest = moment.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: rest.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?));
            if let Ok(read) = read {
                return read.map(|_bytes| ());
            }
        }
    }
}
