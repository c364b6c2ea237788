//! Which call is turned away. Arithmetic alone; it counts nothing.
//!
//! Worst case: all tenants are at their share, and then it is chance whose call is turned away.

use std::time::Duration;

/// Calls in flight up to which no call is turned away for lag: all together they keep one core
/// busy for some 25 ms, so that a longer lag comes from elsewhere and would stay without them.
const UNBLAMED: usize = 256;

/// Lag turns nobody away.
pub(super) const NONE: u32 = 0;

/// Severity at which every call of tenants above their share is turned away; at twice that, every
/// call is.
pub(super) const FIRST: u32 = 256;

/// By which bound a call is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressed {
    /// Request bodies take all the memory they may.
    Memory,
    /// As many calls are in flight as may be.
    Calls,
    /// Nearly so, and the tenant has more than its share of them.
    Share,
    /// What is ready to go on waits too long for a thread.
    Lag,
}

impl Pressed {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Calls, Self::Share, Self::Lag];

    /// For records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "body_memory",
            Self::Calls => "calls_in_flight",
            Self::Share => "tenant_share",
            Self::Lag => "lag",
        }
    }
}

/// What a call finds when it comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Calls in flight, this one not counted.
    pub(super) in_flight: usize,
    /// Those of its tenant among them.
    pub(super) own: usize,
    /// Tenants with a call in flight, this one counted.
    pub(super) holders: usize,
    /// Whether its tenant has sent more calls lately than half of what tenants have on average.
    pub(super) many: bool,
    /// What [`Controller`] gives.
    pub(super) severity: u32,
    /// Goes up by one from each call of the tenant to its next.
    pub(super) number: u32,
}

/// Why there is no place for a call, if there is none.
pub(super) fn judge(load: &Load, calls: usize) -> Option<Pressed> {
    if load.in_flight >= calls {
        return Some(Pressed::Calls);
    }
    // An eighth is kept free for tenants that have little: whoever comes new finds room.
    let shared = calls - calls / 8;
    let share = shared.checked_div(load.holders).unwrap_or(shared).max(1);
    if load.in_flight >= calls - calls / 4 && load.own >= share {
        return Some(Pressed::Share);
    }
    let over = if load.many { 0 } else { FIRST };
    let chance = load.severity.saturating_sub(over).min(FIRST);
    if load.in_flight >= UNBLAMED && spread(load.number) < chance {
        return Some(Pressed::Lag);
    }
    None
}

/// How much of the calls the lag turns away, from [`NONE`] over [`FIRST`] to twice that.
///
/// A controller with a part in proportion to the lag and one that adds it up, as RFC 8033 has it
/// for packets: what is measured is the queue, whose change is what is to be governed. The lag
/// settles at half of the bound. The part in proportion goes as far as [`FIRST`]: tenants below
/// their share pay for a lag that lasts, not for one that has just come.
#[derive(Debug, Default)]
pub(super) struct Controller {
    /// In 1/65,536 of [`FIRST`].
    sum: i64,
}

impl Controller {
    /// [`FIRST`] in the controller's fractions.
    const ONE: i64 = 1 << 16;
    /// What one half of the bound adds at once: 15 in 100.
    const IN_PROPORTION: i64 = Self::ONE * 15 / 100;
    /// And for each hundredth of a second that it lasts: 3 in 1,000.
    const BY_TIME: i64 = Self::ONE * 3 / 1_000;
    /// A longer lag adds up like one that is above half of the bound by so many thousandths of it.
    const MOST: i64 = 2_000;

    /// Takes the next lag, a hundredth of a second after the last.
    pub(super) fn next(&mut self, lag: Duration, bound: Duration) -> u32 {
        let target = i64::try_from(bound.as_micros() / 2).unwrap_or(i64::MAX);
        let lag = i64::try_from(lag.as_micros()).unwrap_or(i64::MAX);
        let thousandths = lag.saturating_sub(target).saturating_mul(1_000);
        let Some(error) = thousandths.checked_div(target) else {
            return NONE;
        };
        let lasting = Self::BY_TIME * error.min(Self::MOST) / 1_000;
        self.sum = (self.sum + lasting).clamp(0, 2 * Self::ONE);
        let at_once = Self::IN_PROPORTION.saturating_mul(error) / 1_000;
        let most = self.sum.max(Self::ONE);
        let severity = self.sum.saturating_add(at_once).clamp(0, most);
        u32::try_from(severity * i64::from(FIRST) / Self::ONE).unwrap_or(NONE)
    }
}

/// Numbers that follow one another, spread evenly over 0 to 255: any share of them is taken out
/// at even distances (Weyl's sequence by the golden ratio, Knuth vol. 3, section 6.4).
const fn spread(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_769) >> 24
}
