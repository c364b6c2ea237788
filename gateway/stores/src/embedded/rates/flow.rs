//! A bucket into which calls or tokens flow at a steady rate.
//!
//! It is GCRA told the other way round: in place of the time at which the bucket is full again it
//! keeps how much is missing, in whole numbers. So nothing is ever rounded, what a call did not
//! use goes back, what it used beyond its estimate becomes a debt, and a rate may change at any
//! time. It knows no clock: times are nanoseconds since some start, and one that lies before the
//! last counts as the last.

use std::time::Duration;

use tollgate_core::rate::RateLimit;

/// Parts of one call or token: as many as a minute has nanoseconds. A rate per minute is then
/// just as many parts per nanosecond.
const PARTS: u128 = 60_000_000_000;

/// The same, for what may be below zero.
const WHOLE: i128 = 60_000_000_000;

#[derive(Debug)]
pub(super) struct Flow {
    rate: RateLimit,
    /// Parts that are missing for the bucket to be full; more than it can hold is a debt.
    missing: u128,
    at: u128,
}

impl Flow {
    pub(super) const fn full(rate: RateLimit, now: u128) -> Self {
        Self {
            rate,
            missing: 0,
            at: now,
        }
    }

    /// One in which so many parts are missing now.
    pub(super) const fn with(rate: RateLimit, missing: u128, now: u128) -> Self {
        Self {
            rate,
            missing,
            at: now,
        }
    }

    /// Its rate, and the parts that are missing now.
    pub(super) fn taken(&self, now: u128) -> (RateLimit, u128) {
        (self.rate, self.missing_at(now))
    }

    /// Lets in what has come since the last time, and from now on as much as `rate` says.
    pub(super) fn advance(&mut self, rate: RateLimit, now: u128) {
        self.missing = self.missing_at(now);
        self.at = self.at.max(now);
        self.rate = rate;
    }

    /// How long `count` must wait from the last advance on; zero if there is room for it.
    pub(super) fn wait(&self, count: u64) -> Duration {
        if count == 0 {
            return Duration::ZERO;
        }
        let burst = self.rate.burst.get();
        // What no bucket of this size can hold is let go by a full one.
        let needed = parts(count.min(burst));
        let lacking = (self.missing.saturating_add(needed)).saturating_sub(parts(burst));
        let nanos = lacking.div_ceil(u128::from(self.rate.per_minute.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many whole calls or tokens there is room for, if `rate` holds from now on; a debt is
    /// below zero, and every part of one counts whole.
    pub(super) fn left(&self, rate: RateLimit, now: u128) -> i64 {
        let full = i128::try_from(parts(rate.burst.get())).unwrap_or(i128::MAX);
        let missing = i128::try_from(self.missing_at(now)).unwrap_or(i128::MAX);
        let whole = full.saturating_sub(missing).div_euclid(WHOLE);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    /// Takes `count`, whether or not there is room, and returns how much of it was taken.
    pub(super) fn take(&mut self, count: u64) -> u64 {
        let count = count.min(self.rate.most_taken());
        self.missing = self.missing.saturating_add(parts(count));
        count
    }

    /// Replaces `taken` by what was really `used`.
    pub(super) fn correct(&mut self, taken: u64, used: u64, now: u128) {
        self.advance(self.rate, now);
        let used = used.min(self.rate.most_taken().max(taken));
        self.missing = self
            .missing
            .saturating_add(parts(used.saturating_sub(taken)))
            .saturating_sub(parts(taken.saturating_sub(used)));
    }

    pub(super) fn is_full(&self, now: u128) -> bool {
        self.missing_at(now) == 0
    }

    fn missing_at(&self, now: u128) -> u128 {
        let elapsed = now.saturating_sub(self.at);
        let came = elapsed.saturating_mul(u128::from(self.rate.per_minute.get()));
        self.missing.saturating_sub(came)
    }
}

fn parts(count: u64) -> u128 {
    u128::from(count).saturating_mul(PARTS)
}
