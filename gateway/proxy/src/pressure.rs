//! How many calls may be under way, and who is turned away when there is no room for all.
//!
//! Two bounds: the calls in flight, which take memory and files, and the lag, which is how long
//! what is ready to go on waits for a thread. Both are shared alike: once it gets narrow, the
//! tenants that have more than their share are turned away first. Does not know what a call asks
//! for, nor who is allowed what. Worst case: two tenants that fall on one slot are counted as one
//! and share a share; and a tenant whose calls are dearer than others' is not told from them.

mod judge;
pub mod lag;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tollgate_core::ids::TenantId;

pub use judge::Pressed;
use judge::{Controller, Load, NONE, judge};

/// Slots that tenants are counted in: 64 KiB. Which one is a tenant's is drawn anew by each
/// process, and that two given tenants share one happens to one process in so many.
const SLOTS: usize = 8 * 1024;

/// One call in flight, in a slot.
const HELD: u64 = 1;

/// One call that has come lately, in a slot.
const CAME: u64 = 1 << 32;

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PressureLimits {
    /// Calls in flight at one time.
    pub calls: usize,
    /// Lag that is never to last: it is brought down to half of it. Zero: lag turns nobody away.
    pub lag: Duration,
}

/// The calls in flight, by tenant; clones count together.
#[derive(Debug, Clone)]
pub struct Pressure(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: PressureLimits,
    in_flight: AtomicUsize,
    /// Slots with a call in flight.
    holders: AtomicUsize,
    /// Of each slot, calls in flight in the lower half, calls that came lately in the upper.
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    /// What a slot's late calls are compared with: the mean of those slots that had any.
    mean_came: AtomicU32,
    severity: AtomicU32,
    controller: Mutex<Controller>,
    lag_micros: AtomicU64,
}

/// The place of one call in flight, given back when dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    slot: usize,
}

impl Pressure {
    /// Nothing in flight yet.
    #[must_use]
    pub fn new(limits: PressureLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            in_flight: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::default(),
            mean_came: AtomicU32::new(u32::MAX),
            severity: AtomicU32::new(NONE),
            controller: Mutex::default(),
            lag_micros: AtomicU64::new(0),
        }))
    }

    /// A place for one more call of `tenant`.
    ///
    /// # Errors
    /// [`Pressed`]: by which bound there is none.
    pub fn enter(&self, tenant: &TenantId) -> Result<Place, Pressed> {
        let shared = &self.0;
        let slot = shared.slot(tenant);
        let before = shared.add(slot);
        let place = Place {
            shared: Arc::clone(shared),
            slot,
        };
        let load = Load {
            in_flight: shared.in_flight.fetch_add(1, Ordering::Relaxed),
            own: held(before),
            holders: shared.holders.load(Ordering::Relaxed),
            many: u64::from(came(before)) * 2 > u64::from(shared.mean_came.load(Ordering::Relaxed)),
            severity: shared.severity.load(Ordering::Relaxed),
            number: came(before),
        };
        match judge(&load, shared.limits.calls) {
            None => Ok(place),
            Some(pressed) => Err(pressed),
        }
    }

    /// Calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// The lag, as it was measured last.
    #[must_use]
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.0.lag_micros.load(Ordering::Relaxed))
    }

    /// Takes note of the lag. To be called at every [`lag::INTERVAL`].
    pub fn lags(&self, lag: Duration) {
        let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.0.lag_micros.store(micros, Ordering::Relaxed);
        let mut controller = self
            .0
            .controller
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let severity = controller.next(lag, self.0.limits.lag);
        self.0.severity.store(severity, Ordering::Relaxed);
    }

    /// Lets what came half fade, and takes the mean that slots are compared with. To be called at
    /// even intervals.
    pub fn fade(&self) {
        let (mut slots, mut sum) = (0_u64, 0_u64);
        for slot in &self.0.slots {
            let came = u64::from(came(slot.load(Ordering::Relaxed)));
            if came > 0 {
                slots += 1;
                sum += came;
                // Only this takes away from it, so that there is at least so much.
                slot.fetch_sub(came.div_ceil(2) * CAME, Ordering::Relaxed);
            }
        }
        let mean = sum.checked_div(slots).unwrap_or(u64::MAX);
        let mean = u32::try_from(mean).unwrap_or(u32::MAX);
        self.0.mean_came.store(mean, Ordering::Relaxed);
    }
}

impl Shared {
    fn slot(&self, tenant: &TenantId) -> usize {
        let hash = self.hasher.hash_one(tenant);
        usize::try_from(hash % SLOTS as u64).unwrap_or(0)
    }

    /// Counts a call; what the slot held before.
    fn add(&self, slot: usize) -> u64 {
        let Some(slot) = self.slots.get(slot) else {
            return 0;
        };
        let before = slot.fetch_add(CAME + HELD, Ordering::Relaxed);
        if held(before) == 0 {
            self.holders.fetch_add(1, Ordering::Relaxed);
        }
        before
    }

    fn leave(&self, slot: usize) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let Some(slot) = self.slots.get(slot) else {
            return;
        };
        if held(slot.fetch_sub(HELD, Ordering::Relaxed)) == 1 {
            self.holders.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.leave(self.slot);
    }
}

const fn held(slot: u64) -> usize {
    (slot & (CAME - 1)) as usize
}

const fn came(slot: u64) -> u32 {
    (slot >> 32) as u32
}
