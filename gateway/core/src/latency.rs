//! How long things took, counted in steps: what stores keep of their own waits.
//!
//! Counting is one addition per figure, without a lock. Who reads while others count sees a wait
//! in one figure a moment before it is in the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The steps in microseconds, each the most that counts in it: a local file to a store that hangs.
pub const STEPS_MICROS: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Waits, counted by step.
#[derive(Debug, Default)]
pub struct Latencies {
    steps: [AtomicU64; STEPS_MICROS.len()],
    all: AtomicU64,
    micros: AtomicU64,
}

/// What was counted so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waits {
    /// How many took as long as the step or less, and longer than the step before it.
    pub steps: [u64; STEPS_MICROS.len()],
    /// How many there were, those beyond the last step among them.
    pub all: u64,
    /// How long they took together.
    pub micros: u64,
}

impl Latencies {
    /// Counts one.
    pub fn took(&self, wait: Duration) {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let step = STEPS_MICROS.partition_point(|most| *most < micros);
        if let Some(step) = self.steps.get(step) {
            step.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.all.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn so_far(&self) -> Waits {
        let mut waits = Waits {
            all: self.all.load(Ordering::Relaxed),
            micros: self.micros.load(Ordering::Relaxed),
            ..Waits::default()
        };
        for (to, from) in waits.steps.iter_mut().zip(&self.steps) {
            *to = from.load(Ordering::Relaxed);
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_in_the_first_step_that_holds_it() {
        let latencies = Latencies::default();
        for micros in [0, 50, 51, 10_000_000, 10_000_001] {
            latencies.took(Duration::from_micros(micros));
        }
        let waits = latencies.so_far();
        assert_eq!(waits.steps[..3], [2, 1, 0]);
        assert_eq!(waits.steps[15], 1);
        assert_eq!((waits.all, waits.micros), (5, 20_000_102));
    }
}
