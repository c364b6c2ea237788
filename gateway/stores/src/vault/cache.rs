//! Secrets in memory, bounded in number and in idleness; wiped when they leave.
//!
//! It does not decide how long a value is trusted; its users do, and note with each value when it
//! was last found to be good. A secret in use is looked at again all the time, so one that has not
//! been for [`KEPT`] is in use no more.
//!
//! Worst case: in a gateway that fetches nothing at all, values stay until the next fetch.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tollgate_core::vault::SecretName;

/// The most secrets kept at one time; beyond it the longest unused goes.
pub(super) const MAX_KEPT: usize = 10_000;

/// How long a secret that nobody asks for is kept.
pub(super) const KEPT: Duration = Duration::from_secs(600);

/// How often idle secrets are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// A value that was good at some time.
pub(super) trait Aged {
    /// When it was last found to be good.
    fn good_at(&self) -> Instant;
}

/// Values by the name of their secret.
pub(super) struct Cache<E> {
    entries: RwLock<HashMap<SecretName, E>>,
    swept: Mutex<Instant>,
}

impl<E> Default for Cache<E> {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
            swept: Mutex::new(Instant::now()),
        }
    }
}

impl<E: Aged> Cache<E> {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, HashMap<SecretName, E>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, HashMap<SecretName, E>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a value in the place of an earlier one.
    pub(super) fn keep(&self, secret: &SecretName, value: E) {
        let mut entries = self.write();
        self.make_room(&mut entries, Instant::now());
        entries.insert(secret.clone(), value);
    }

    /// Wipes a value.
    pub(super) fn forget(&self, secret: &SecretName) {
        self.write().remove(secret);
    }

    fn make_room(&self, entries: &mut HashMap<SecretName, E>, now: Instant) {
        let is_full = entries.len() >= MAX_KEPT;
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_full && now.saturating_duration_since(*swept) < SWEEP {
            return;
        }
        *swept = now;
        entries.retain(|_, entry| now.saturating_duration_since(entry.good_at()) < KEPT);
        if entries.len() >= MAX_KEPT {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.good_at());
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::vault::VaultScope;

    use super::*;

    struct At(Instant);

    impl Aged for At {
        fn good_at(&self) -> Instant {
            self.0
        }
    }

    fn name(number: usize) -> SecretName {
        SecretName {
            scope: VaultScope::Platform,
            name: format!("k{number}").parse().expect("a name"),
        }
    }

    #[test]
    fn the_longest_unused_makes_room_for_the_next() {
        let cache = Cache::default();
        let start = Instant::now();
        for number in 0..MAX_KEPT {
            let later = Duration::from_millis(u64::try_from(number).expect("small"));
            cache.keep(&name(number), At(start + later));
        }
        cache.keep(&name(MAX_KEPT), At(start));
        let kept = cache.read();
        assert_eq!(kept.len(), MAX_KEPT);
        assert!(!kept.contains_key(&name(0)));
        assert!(kept.contains_key(&name(MAX_KEPT)));
    }

    #[test]
    fn what_nobody_asks_for_is_wiped_when_the_next_is_kept() {
        let cache = Cache::default();
        let start = Instant::now();
        cache.keep(&name(1), At(start));
        cache.keep(&name(2), At(start + KEPT));
        cache.make_room(&mut cache.write(), start + KEPT);
        let kept = cache.read();
        assert!(!kept.contains_key(&name(1)));
        assert!(kept.contains_key(&name(2)));
    }
}
