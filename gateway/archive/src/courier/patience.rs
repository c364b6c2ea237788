//! How long to wait after failures: for the store as a whole, and for a parcel of its own.
//!
//! Failures without a success in between are the store's: one parcel at a time then, with pauses
//! that double up to [`LONGEST_PAUSE`]. A parcel that failed waits for itself as well, so that the
//! next attempt is another's and one that can never be put holds up nobody. Worst case: beyond
//! [`ASIDE`] such parcels the oldest of them are tried before others.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;
use tollgate_core::audit::{Name, Parcel};

/// How many go at once while all is well.
const AT_ONCE: usize = 16;
/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: an object store is back for that long before anybody notices.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a parcel waits at most that the store refused again and again.
const LONGEST_ASIDE: Duration = Duration::from_secs(300);
/// How many parcels can be set aside.
const ASIDE: usize = 4096;
/// So many refusals without a success in between are not the parcels' own any more.
const REFUSALS: u32 = 4;

#[derive(Default)]
pub(super) struct Patience {
    /// Failures since the last success.
    in_a_row: u32,
    resume: Option<Instant>,
    aside: HashMap<Name, Aside>,
    luck: RandomState,
    drawn: u64,
}

struct Aside {
    failures: u32,
    until: Instant,
}

impl Patience {
    /// How many may be under way at `now`.
    pub(super) fn at_once(&self, now: Instant) -> usize {
        match (self.resume, self.in_a_row) {
            (Some(resume), _) if resume > now => 0,
            (_, 0..REFUSALS) if self.resume.is_none() => AT_ONCE,
            _ => 1,
        }
    }

    /// When anything may go again.
    pub(super) fn resume_at(&self) -> Instant {
        self.resume.unwrap_or_else(Instant::now)
    }

    /// Whether the store is being waited for.
    pub(super) const fn waits(&self) -> bool {
        self.resume.is_some()
    }

    pub(super) fn is_aside(&self, name: &Name, now: Instant) -> bool {
        self.aside.get(name).is_some_and(|aside| aside.until > now)
    }

    /// How many are set aside.
    pub(super) fn aside(&self) -> usize {
        self.aside.len()
    }

    pub(super) fn arrived(&mut self, name: &Name) {
        self.in_a_row = 0;
        self.resume = None;
        self.aside.remove(name);
    }

    /// Something failed; `is_its_own` if it seems to be that parcel alone. What was under way at
    /// once and failed together counts once.
    pub(super) fn failed(&mut self, name: Option<Name>, is_its_own: bool, now: Instant) {
        let counted_already = self.resume.is_some_and(|resume| resume > now);
        if !counted_already {
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        let pause = self.pause(self.in_a_row, LONGEST_PAUSE);
        if !counted_already && (!is_its_own || self.in_a_row >= REFUSALS) {
            self.resume = Some(now + pause);
        }
        let Some(name) = name else {
            return;
        };
        let failures = self.aside.get(&name).map_or(0, |aside| aside.failures) + 1;
        let wait = match is_its_own {
            true => self.pause(failures, LONGEST_ASIDE),
            // Twice the pause, so that the next attempt is another's.
            false => pause * 2,
        };
        if self.aside.len() < ASIDE || self.aside.contains_key(&name) {
            let until = now + wait;
            self.aside.insert(name, Aside { failures, until });
        }
    }

    /// Forgets what does not wait any more, if `waiting` is all there is up to `limit`.
    pub(super) fn forget(&mut self, waiting: &[Parcel], limit: usize) {
        if self.aside.is_empty() || waiting.len() >= limit {
            return;
        }
        let waiting: std::collections::HashSet<&Name> =
            waiting.iter().map(|parcel| &parcel.name).collect();
        self.aside.retain(|name, _| waiting.contains(name));
    }

    /// Doubles with each failure, and is shortened by up to a half, so that replicas that failed
    /// together do not come back together.
    fn pause(&mut self, failures: u32, longest: Duration) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(20));
        let whole = FIRST_PAUSE.saturating_mul(doubled).min(longest);
        self.drawn += 1;
        let share = u32::try_from(self.luck.hash_one(self.drawn) % 1000).unwrap_or(0);
        whole - whole / 2 * share / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u64) -> Name {
        let path = format!("audit/acme/date=2026-11-18/r1-{n:012}.jsonl");
        path.parse().expect("a name")
    }

    #[test]
    fn a_store_that_is_down_is_asked_ever_more_seldom_and_never_less_than_twice_a_minute() {
        let mut patience = Patience::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for n in 0..20 {
            assert!(patience.at_once(now) > 0);
            patience.failed(Some(name(n)), false, now);
            patience.failed(Some(name(n + 100)), false, now);
            assert_eq!(patience.at_once(now), 0);
            let resume = patience.resume_at();
            pauses.push(resume - now);
            now = resume;
            assert_eq!(patience.at_once(now), 1, "a probe");
            assert!(patience.is_aside(&name(n), now), "the probe is another's");
        }
        assert!(pauses[0] <= FIRST_PAUSE && pauses[0] >= FIRST_PAUSE / 2);
        assert!(pauses[19] <= LONGEST_PAUSE && pauses[19] >= LONGEST_PAUSE / 2);
        patience.arrived(&name(999));
        assert_eq!(patience.at_once(now), AT_ONCE);
        now += LONGEST_PAUSE * 2;
        assert!((0..20).all(|n| !patience.is_aside(&name(n), now)));
    }

    #[test]
    fn a_parcel_that_is_refused_holds_up_nobody_but_itself() {
        let mut patience = Patience::default();
        let mut now = Instant::now();
        for failures in 1..30_u32 {
            patience.failed(Some(name(1)), true, now);
            assert_eq!(patience.at_once(now), AT_ONCE);
            assert!(patience.is_aside(&name(1), now));
            assert!(!patience.is_aside(&name(2), now));
            patience.arrived(&name(2));
            now += LONGEST_ASIDE;
            assert!(!patience.is_aside(&name(1), now), "after {failures}");
        }
        for n in 10..14 {
            patience.failed(Some(name(n)), true, now);
        }
        assert_eq!(patience.at_once(now), 0, "so many are the store's own");
    }

    #[test]
    fn what_is_set_aside_is_bounded_and_forgotten_once_it_is_gone() {
        let mut patience = Patience::default();
        let now = Instant::now();
        for n in 0..ASIDE as u64 + 10 {
            patience.failed(Some(name(n)), true, now);
        }
        assert_eq!(patience.aside(), ASIDE);
        patience.forget(&[], 1);
        assert_eq!(patience.aside(), 0);
    }
}
