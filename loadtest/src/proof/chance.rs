//! Chance that can be repeated: xorshift64*, enough to mix calls, not for secrets.

/// A sequence of numbers that follows from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The sequence of one caller.
    pub(crate) fn of(seed: u64, caller: u64) -> Self {
        let mixed = seed ^ caller.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut chance = Self(mixed.max(1));
        // Seeds that are close begin alike; this parts them.
        for _ in 0..8 {
            chance.next();
        }
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from `low` up to and including `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// A number from 0 up to 1, but not 1.
    pub(crate) fn share(&mut self) -> f64 {
        // So many that each is a number of its own.
        let steps = 1 << 53;
        #[expect(clippy::cast_precision_loss, reason = "below 2^53 nothing is lost")]
        let share = self.between(0, steps - 1) as f64 / steps as f64;
        share
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, share: u64) -> bool {
        self.between(0, 99) < share
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let last = u64::try_from(all.len().checked_sub(1)?).ok()?;
        all.get(usize::try_from(self.between(0, last)).ok()?)
    }
}
